-- Removes expired records that nothing needs. Gives how many it left in their place, whether it saw them all, and the
-- keys of those that it removed.
-- ARGV: limit, how many to skip, how many to look at, sender, now (0: the server's).
local limit, skip, budget, sender, now = unpack(cmsgpack.unpack(ARGV[1]))
if now == 0 then now = time_now() end

-- A DEL is not refused where memory is short, and a purge is what helps then.
local refused = refusal('DEL', space .. 'nothing')
if refused then return refused end

local function is_expired(record)
    local expires = redis.call('ZSCORE', space .. 'x', record)
    return expires and tonumber(expires) <= now
end

local function is_held(record) return redis.call('EXISTS', space .. 'h:' .. record) == 1 end

-- Whether it is kept as long as another record, which is still there.
local function has_parent(head) return head and head[10] ~= '' and redis.call('EXISTS', key_of(head[10])) == 1 end

-- Whether something that names this record, at any distance, is kept; and until when at least.
local function keepers(record)
    local seen, waiting, kept, latest = {[record] = true}, {record}, false, -math.huge
    while #waiting > 0 do
        local named = table.remove(waiting)
        for _, namer in ipairs(redis.call('ZRANGE', space .. 'w:' .. named, 0, -1)) do
            if not seen[namer] then
                seen[namer] = true
                waiting[#waiting + 1] = namer
                if not is_expired(namer) then
                    kept = true
                    local until_then = tonumber(redis.call('GETRANGE', key_of(namer), 0, 23))
                    latest = math.max(latest, until_then or -math.huge)
                elseif is_held(namer) then
                    kept = true
                end
            end
        end
    end
    return kept, latest
end

local removed, moves = {}, {}
local seen_all = false
while #removed < limit and budget > 0 do
    local page = redis.call('ZRANGEBYSCORE', space .. 'x', '-inf', said(now), 'LIMIT', skip, math.min(budget, 100))
    if #page == 0 then
        seen_all = true
        break
    end
    for _, record in ipairs(page) do
        if #removed >= limit then break end
        budget = budget - 1
        local head = head_of(record)
        local kept, latest = is_held(record) or has_parent(head), nil
        if not kept then kept, latest = keepers(record) end
        if not kept then
            remove(record, head)
            redis.call('PUBLISH', space .. 'c:k' .. record, sender)
            removed[#removed + 1] = record
        elseif latest and latest > now then
            touch(record, string.format('%-24s', said(latest)))
        else
            skip = skip + 1
        end
    end
end
return {skip, seen_all and 1 or 0, removed}
