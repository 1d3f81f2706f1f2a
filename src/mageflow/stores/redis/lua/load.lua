-- Gives the server's time, then records, and their companions if they are wanted, each as key and value.
local records, companions = unpack(cmsgpack.unpack(ARGV[1]))
local found = {said(time_now())}
load(found, {}, records, companions)
return found
