-- Giving rows to an engine. Part of every script that does so.

-- Gives due rows for submission to an engine, each as key and row, and notes when each may be given again.
-- Of the rows of a route every n-th is the longest due.
local function give(routes, limit, every, redeliver_after, longest, now)
    if now == 0 then now = time_now() end
    local MOST = 5000

    local due = {}

    local function add(key)
        local row = row_of(key)
        if row[DUE] <= now and row[AGAIN] <= now then
            due[#due + 1] = {priority = row[PRIORITY], due = row[DUE], serial = row[SERIAL], key = key}
        end
    end

    -- Rows that the engine was given and has probably lost: one given later was removed, or none was for the whole wait.
    local function add_lost(route)
        local state = redis.call('HMGET', in_route('s', route), 'removed_given', 'removed_at')
        local removed_given = tonumber(state[1] or '0')
        local silence = state[2] and now - tonumber(state[2]) or math.huge
        local seen = {}
        local numbers = in_route('g', route)
        local overtaken = redis.call('ZRANGEBYSCORE', numbers, '-inf', '(' .. said(removed_given), 'LIMIT', 0, MOST)
        for _, key in ipairs(overtaken) do
            seen[key] = true
            add(key)
        end
        for _, wait in ipairs(redis.call('SMEMBERS', in_route('A', route))) do
            if tonumber(wait) <= silence then
                local waits = in_route('a', route) .. ':' .. wait
                for _, key in ipairs(redis.call('ZRANGEBYSCORE', waits, '-inf', said(now), 'LIMIT', 0, MOST)) do
                    if not seen[key] then add(key) end
                end
            end
        end
    end

    each_lane(routes, function(lane, priority, _, handed)
        if not handed then first_due(due, lane, priority, said(now), limit) end
    end)
    local visited, taken = {}, 0
    for _, route in ipairs(routes) do
        if not visited[route] then
            visited[route] = true
            taken = taken + tonumber(redis.call('HGET', in_route('s', route), 'given') or '0')
            add_lost(route)
        end
    end
    table.sort(due, comes_before)

    local oldest = {}
    for n = 1, math.min(limit, #due) do oldest[n] = (taken + n - 1) % every == every - 1 end

    local rows = {}
    for _, chosen in ipairs(choose(due, oldest)) do
        local key = chosen.key
        local row = row_of(key)
        leave(key, row)
        row[GIVEN] = redis.call('HINCRBY', in_route('s', row[ROUTE]), 'given', 1)
        row[WAIT] = math.min(redeliver_after * 2 ^ math.min(row[DELIVERIES], 30), longest)
        row[AGAIN] = now + row[WAIT]
        row[DELIVERIES] = row[DELIVERIES] + 1
        enter(key, row)
        rows[#rows + 1] = key
        rows[#rows + 1] = cmsgpack.pack(row)
    end
    return rows
end
