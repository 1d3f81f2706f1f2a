-- Commits groups of decisions, in their order: each group wholly, if every record is as it was loaded, or not at all.
-- ARGV: the groups, whether one that cannot be committed stops all, the sender, now, what to give to engines (or false),
-- all in msgpack; then the values that are written, in the order of the groups. No record is written by two groups.
-- Gives the server's time, what became of each group (1: committed, 0: stopped by another, the record that was not as it
-- was loaded, or an error), and what was given, as `give` does.
local groups, is_whole, sender, now, wish = unpack(cmsgpack.unpack(ARGV[1]))
local CHECKS, WRITES, DELETES, TOUCHES, SETTLED, ROWS, NOTICES = 1, 2, 3, 4, 5, 6, 7

local raws = {}

-- Gives nil where all is as it was loaded, or the record that is not.
local function changed_of(checks)
    for _, check in ipairs(checks) do
        local record, version, expires = check[1], check[2], check[3]
        local raw = redis.pcall('GETRANGE', key_of(record), 0, FIRST)
        if type(raw) == 'table' then return raw end
        if raw == '' then
            if version ~= '' then return record end
        elseif version == '' or not has_version(raw, version) then
            return record
        elseif expires ~= '' and string.sub(raw, 1, 24) ~= expires then
            return record
        else
            raws[record] = raw
        end
    end
    return nil
end

local outcomes, is_stopped = {}, false
for n, group in ipairs(groups) do
    outcomes[n] = changed_of(group[CHECKS]) or 1
    is_stopped = is_stopped or (is_whole and outcomes[n] ~= 1)
end

local function write(record, seen, value)
    local expires = string.sub(value, 1, 24)
    local raw = raws[record]
    if raw then
        -- Its expiry was made later since it was loaded, which changes no version: that holds here too.
        local there = string.sub(raw, 1, 24)
        local until_there, until_then = tonumber(there), tonumber(expires)
        if until_there and until_then and until_there ~= tonumber(seen) and until_there > until_then then
            expires = there
            value = expires .. string.sub(value, 25)
        end
    end
    redis.call('SET', key_of(record), value)
    file(record, raw and head_within(record, raw), head_in(value), expires)
end

local done, next_value = {}, 2
for n, group in ipairs(groups) do
    if is_stopped and outcomes[n] == 1 then outcomes[n] = 0 end
    if outcomes[n] == 1 then
        if #done == 0 then
            local refused = refusal('INCR', space .. 'commits')
            if refused then return refused end
            gather()
        end
        done[#done + 1] = group
        for place, each in ipairs(group[WRITES]) do write(each[1], each[2], ARGV[next_value + place - 1]) end
        for _, record in ipairs(group[DELETES]) do
            local raw = raws[record]
            if raw then remove(record, head_within(record, raw)) end
        end
    end
    next_value = next_value + #group[WRITES]
end

local given = {}
if #done > 0 then
    change_all()
    local told, rows = {}, {}
    for _, group in ipairs(done) do
        for _, each in ipairs(group[TOUCHES]) do touch(each[1], each[2]) end
        for _, key in ipairs(group[SETTLED]) do settle(key, now) end
        for _, each in ipairs(group[ROWS]) do rows[#rows + 1] = each end
    end
    table.sort(rows, function(one, other) return one[4] < other[4] end)
    for _, each in ipairs(rows) do put(each[1], each[2], each[3]) end
    if wish then given = give(wish[1], wish[2], wish[3], wish[4], wish[5], wish[6]) end
    for _, group in ipairs(done) do
        for _, notice in ipairs(group[NOTICES]) do
            if not told[notice] then
                told[notice] = true
                redis.call('PUBLISH', space .. 'c:' .. notice, sender)
            end
        end
    end
end
return {said(time_now()), outcomes, given}
