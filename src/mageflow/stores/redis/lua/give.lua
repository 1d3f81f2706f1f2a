-- Gives due rows for submission to an engine, and notes when each may be given again.
-- ARGV: routes, limit, which of the rows of a route is the longest due (every n-th), redeliver_after, the longest wait, now
-- (0: the server's).
local refused = refusal('INCR', space .. 'commits')
if refused then return refused end
return give(unpack(cmsgpack.unpack(ARGV[1])))
