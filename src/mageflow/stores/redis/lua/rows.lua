-- The outbox: its rows, their order, and what each engine was given. Part of every script that touches rows.
--
-- A row is kept as run, action, route, task, priority, due, deliveries, serial, given, wait, again. It stands in a lane:
-- one for each route, priority and task, and whether an engine was given it.

local RUN, ACTION, ROUTE, TASK, PRIORITY, DUE, DELIVERIES, SERIAL, GIVEN, WAIT, AGAIN = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11

local function in_route(kind, route) return space .. kind .. ':' .. #route .. ':' .. route end

local function lane_name(row)
    return (row[GIVEN] > 0 and '1' or '0') .. ':' .. row[PRIORITY] .. ':' .. row[TASK]
end

-- Among rows of one due time the order of members is the order in which they were put.
local function member_of(key, row) return string.format('%016x', row[SERIAL]) .. key end

-- The lanes that this script has seen to be listed.
local listed = {}

local function enter(key, row)
    local name = lane_name(row)
    local lane = in_route('l', row[ROUTE]) .. ':' .. name
    redis.call('ZADD', lane, row[DUE], member_of(key, row))
    if not listed[lane] then
        redis.call('SADD', in_route('L', row[ROUTE]), name)
        listed[lane] = true
    end
    if row[GIVEN] > 0 then
        redis.call('ZADD', in_route('g', row[ROUTE]), row[GIVEN], key)
        redis.call('ZADD', in_route('a', row[ROUTE]) .. ':' .. said(row[WAIT]), row[AGAIN], key)
        redis.call('SADD', in_route('A', row[ROUTE]), said(row[WAIT]))
    end
    redis.call('HSET', space .. 'rows', key, cmsgpack.pack(row))
end

local function leave(key, row)
    local name = lane_name(row)
    local lane = in_route('l', row[ROUTE]) .. ':' .. name
    redis.call('ZREM', lane, member_of(key, row))
    if redis.call('EXISTS', lane) == 0 then
        redis.call('SREM', in_route('L', row[ROUTE]), name)
        listed[lane] = nil
    end
    if row[GIVEN] > 0 then
        redis.call('ZREM', in_route('g', row[ROUTE]), key)
        local waits = in_route('a', row[ROUTE]) .. ':' .. said(row[WAIT])
        redis.call('ZREM', waits, key)
        if redis.call('EXISTS', waits) == 0 then redis.call('SREM', in_route('A', row[ROUTE]), said(row[WAIT])) end
    end
end

local function row_of(key)
    local raw = redis.call('HGET', space .. 'rows', key)
    return raw and cmsgpack.unpack(raw) or nil
end

local function settle(key, now)
    local row = row_of(key)
    if not row then return end
    leave(key, row)
    redis.call('HDEL', space .. 'rows', key)
    if row[GIVEN] > 0 then
        local state = in_route('s', row[ROUTE])
        local highest = tonumber(redis.call('HGET', state, 'removed_given') or '0')
        redis.call('HSET', state, 'removed_given', math.max(highest, row[GIVEN]), 'removed_at', now)
    end
end

-- Puts a row anew, last among its equals. Where `serial` is given, only in the place of the row that has it.
local function put(key, row, serial)
    local there = row_of(key)
    if serial and not (there and there[SERIAL] == serial) then return end
    if there then leave(key, there) end
    row[SERIAL] = redis.call('INCR', space .. 'serial')
    row[GIVEN], row[WAIT], row[AGAIN] = 0, 0, 0
    enter(key, row)
end

local function each_lane(routes, visit)
    local seen = {}
    for _, route in ipairs(routes) do
        if not seen[route] then
            seen[route] = true
            for _, name in ipairs(redis.call('SMEMBERS', in_route('L', route))) do
                local handed, priority, task = string.match(name, '^(%d):(%-?%d+):(.*)$')
                visit(in_route('l', route) .. ':' .. name, tonumber(priority), task, handed == '1')
            end
        end
    end
end

-- Adds the first due rows of a lane to `found`.
local function first_due(found, lane, priority, now, limit)
    local members = redis.call('ZRANGEBYSCORE', lane, '-inf', now, 'WITHSCORES', 'LIMIT', 0, limit)
    for n = 1, #members, 2 do
        found[#found + 1] = {
            priority = priority,
            due = tonumber(members[n + 1]),
            serial = tonumber(string.sub(members[n], 1, 16), 16),
            key = string.sub(members[n], 17),
        }
    end
end

-- Takes as many of the rows, which stand in the order of claims, as `oldest` is long: for each the first, or the longest
-- due of any priority.
local function choose(due, oldest)
    local lanes, priorities, chosen = {}, {}, {}
    for _, found in ipairs(due) do
        local lane = lanes[found.priority]
        if not lane then
            lane = {head = 1}
            lanes[found.priority] = lane
            priorities[#priorities + 1] = found.priority
        end
        lane[#lane + 1] = found
    end
    for n = 1, #oldest do
        local best
        for _, priority in ipairs(priorities) do
            local lane = lanes[priority]
            local found = lane[lane.head]
            if found and not best then
                best = found
                if not oldest[n] then break end
            elseif found and (found.due < best.due or (found.due == best.due and found.serial < best.serial)) then
                best = found
            end
        end
        if not best then break end
        lanes[best.priority].head = lanes[best.priority].head + 1
        chosen[n] = best
    end
    return chosen
end

-- The order of claims.
local function comes_before(one, other)
    if one.priority ~= other.priority then return one.priority > other.priority end
    if one.due ~= other.due then return one.due < other.due end
    return one.serial < other.serial
end
