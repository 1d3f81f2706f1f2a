-- Adds one to the beat of a record that beats.
local worker = ARGV[1]
if redis.call('HEXISTS', space .. 'beats', worker) == 1 then
    local refused = refusal('HINCRBY', space .. 'beats', worker, 1)
    if refused then return refused end
end
return redis.status_reply('OK')
