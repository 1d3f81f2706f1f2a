-- Lists or counts records that are in at least one set of each group, and within each range; the newest come first.
-- ARGV: groups of terms, ranges, the set of all, the place to go on after (or false), limit (-1: count), budget.
-- Gives whether that is all, the place to go on after, how many were found, and the first of them as key, time, value.
local groups, ranges, everything, after, limit, budget = unpack(cmsgpack.unpack(ARGV[1]))
local NARROW = 1000

-- Lua's own comparison of strings goes by the server's locale.
local function is_below(one, other)
    for n = 1, math.min(#one, #other) do
        local a, b = string.byte(one, n), string.byte(other, n)
        if a ~= b then return a < b end
    end
    return #one < #other
end

local function is_older(one, other)
    if one[2] ~= other[2] then return one[2] < other[2] end
    return is_below(one[1], other[1])
end

local function is_newer(one, other) return is_older(other, one) end

local function total(group)
    local sum = 0
    for _, set in ipairs(group) do sum = sum + redis.call('ZCARD', space .. set) end
    return sum
end

local function matches(record, driver)
    for _, group in ipairs(groups) do
        if group ~= driver then
            local found = false
            for _, set in ipairs(group) do
                if redis.call('ZSCORE', space .. set, record) then
                    found = true
                    break
                end
            end
            if not found then return false end
        end
    end
    for _, range in ipairs(ranges) do
        local value = tonumber(redis.call('ZSCORE', space .. range[1], record) or nil)
        if not value then return false end
        if range[2] and value <= range[2] then return false end
        if range[3] and value > range[3] then return false end
    end
    return true
end

-- How many of a set are not older than a place.
local function rank_after(set, place)
    local score = said(place[2])
    local low = redis.call('ZCOUNT', set, '(' .. score, '+inf')
    local high = low + redis.call('ZCOUNT', set, score, score)
    while low < high do
        local middle = math.floor((low + high) / 2)
        if is_below(redis.call('ZREVRANGE', set, middle, middle)[1], place[1]) then
            high = middle
        else
            low = middle + 1
        end
    end
    return low
end

-- Walks a set from the newest to the oldest, until enough was found or looked at; gives where it stopped, or nil.
local function walk(set, driver, found)
    local begin = after and rank_after(set, after) or 0
    local enough, looked, mine = limit + 1, 0, 0
    while true do
        local page = redis.call('ZREVRANGE', set, begin, begin + 99, 'WITHSCORES')
        if #page == 0 then return nil end
        for n = 1, #page, 2 do
            local place = {page[n], tonumber(page[n + 1])}
            looked = looked + 1
            if matches(place[1], driver) then
                found[#found + 1] = place
                mine = mine + 1
            end
            if looked >= budget or (limit >= 0 and mine >= enough) then return place end
        end
        begin = begin + 100
    end
end

local function limits(range)
    return range[2] and '(' .. said(range[2]) or '-inf', range[3] and said(range[3]) or '+inf'
end

local driver, smallest = nil, math.huge
for _, group in ipairs(groups) do
    local size = total(group)
    if size < smallest then driver, smallest = group, size end
end
local narrow
for _, range in ipairs(ranges) do
    local size = redis.call('ZCOUNT', space .. range[1], limits(range))
    if size <= NARROW and size < smallest then narrow, smallest = range, size end
end

budget = math.ceil(budget / #driver)

if limit < 0 and #groups == 1 and #ranges == 0 then return {1, false, smallest} end

local found, frontier = {}, nil
if narrow then
    for _, record in ipairs(redis.call('ZRANGEBYSCORE', space .. narrow[1], limits(narrow))) do
        if matches(record, nil) then
            local place = {record, tonumber(redis.call('ZSCORE', space .. everything, record))}
            if not after or is_older(place, after) then found[#found + 1] = place end
        end
    end
else
    for _, set in ipairs(driver) do
        local stopped = walk(space .. set, driver, found)
        if stopped and (not frontier or is_newer(stopped, frontier)) then frontier = stopped end
    end
end

-- What is older than the frontier comes again with the next call: another set may have something between.
local sure = {}
for _, place in ipairs(found) do
    if not frontier or not is_older(place, frontier) then sure[#sure + 1] = place end
end
local answer = {frontier and 0 or 1, frontier and {frontier[1], said(frontier[2])} or false, #sure}
if limit >= 0 then
    table.sort(sure, is_newer)
    for n = 1, math.min(limit, #sure) do
        answer[#answer + 1] = sure[n][1]
        answer[#answer + 1] = said(sure[n][2])
        answer[#answer + 1] = redis.call('GET', key_of(sure[n][1]))
    end
end
return answer
