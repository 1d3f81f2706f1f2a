-- Gives the first due rows, in the order of claims, and what their claims will ask for.
-- ARGV: routes, tasks, whether rows of other tasks are wanted instead, for each wanted row whether it is to be the longest
-- due, now (0: the server's).
local routes, tasks, others, oldest, now = unpack(cmsgpack.unpack(ARGV[1]))
local limit = #oldest
if now == 0 then now = time_now() end

local wanted = {}
for _, task in ipairs(tasks) do wanted[task] = true end

local due, next_due = {}, nil
each_lane(routes, function(lane, priority, task)
    if (wanted[task] or false) ~= others then first_due(due, lane, priority, said(now), limit) end
    local later = redis.call('ZRANGEBYSCORE', lane, '(' .. said(now), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
    if later[2] then next_due = math.min(next_due or math.huge, tonumber(later[2])) end
end)
table.sort(due, comes_before)

local rows, runs = {}, {}
for n, chosen in ipairs(choose(due, oldest)) do
    local raw = redis.call('HGET', space .. 'rows', chosen.key)
    rows[#rows + 1] = chosen.key
    rows[#rows + 1] = raw
    runs[n] = cmsgpack.unpack(raw)[RUN]
end
local found = {}
if not others then load(found, {}, runs, true) end
return {said(now), next_due and said(next_due) or false, rows, found}
