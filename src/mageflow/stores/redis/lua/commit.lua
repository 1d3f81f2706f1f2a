-- Commits one decision: all of it if every record is as it was loaded, else nothing. Gives 1, or 0.
-- ARGV: the plan (msgpack), then the value of each written record.
local checks, writes, deletes, touches, settled, rows, notices, sender, now = unpack(cmsgpack.unpack(ARGV[1]))

local heads, expiries = {}, {}
for _, check in ipairs(checks) do
    local record, version = check[1], check[2]
    local head, expires = head_of(record)
    if (head and head[1] or '') ~= version then return 0 end
    heads[record], expiries[record] = head, expires
end

local refused = refusal('INCR', space .. 'commits')
if refused then return refused end

gather()
for n, write in ipairs(writes) do
    local record, seen, value = write[1], write[2], ARGV[n + 1]
    local expires = string.sub(value, 1, 24)
    local there = expiries[record]
    -- Its expiry was made later since it was loaded, which changes no version: that holds here too.
    local until_there, until_then = tonumber(there or NEVER), tonumber(expires)
    if until_there and until_then and until_there ~= tonumber(seen) and until_there > until_then then
        expires = there
        value = expires .. string.sub(value, 25)
    end
    redis.call('SET', key_of(record), value)
    file(record, heads[record], head_in(value), expires)
end
for _, record in ipairs(deletes) do remove(record, heads[record]) end
change_all()
for _, each in ipairs(touches) do touch(each[1], each[2]) end
for _, key in ipairs(settled) do settle(key, now) end
for _, each in ipairs(rows) do put(each[1], each[2], each[3]) end
for _, notice in ipairs(notices) do redis.call('PUBLISH', space .. 'c:' .. notice, sender) end
return 1
