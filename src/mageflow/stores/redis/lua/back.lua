-- Takes back what was given to an engine and could not be passed on: it is due again at once, in its old place.
-- ARGV: the keys of rows, the sender.
local keys, sender = unpack(cmsgpack.unpack(ARGV[1]))
local refused = refusal('INCR', space .. 'commits')
if refused then return refused end
local told = {}
for _, key in ipairs(keys) do
    local row = row_of(key)
    if row and row[GIVEN] > 0 then
        leave(key, row)
        row[GIVEN], row[WAIT], row[AGAIN] = 0, 0, 0
        row[DELIVERIES] = math.max(0, row[DELIVERIES] - 1)
        enter(key, row)
        if not told[row[ROUTE]] then
            told[row[ROUTE]] = true
            redis.call('PUBLISH', space .. 'c:r' .. row[ROUTE], sender)
        end
    end
end
return redis.status_reply('OK')
