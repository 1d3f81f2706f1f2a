-- What every script begins with: the namespace, numbers and time, errors.

local space = KEYS[1]

-- A number as text that loses nothing of it.
local function said(number) return string.format('%.17g', number) end

local function time_now()
    local time = redis.call('TIME')
    return tonumber(time[1]) + tonumber(time[2]) / 1000000
end

local function code_of(text)
    return string.match(text, '%f[%u](%u%u%u+) ') or 'ERR'
end

-- The first write of a script: a server that refuses to write says so here, and nothing was written.
-- Releases before 7 put the code of an error of a script's command behind other words; callers want it in front.
local function refusal(...)
    local answer = redis.pcall(...)
    if type(answer) == 'table' and answer.err then
        return redis.error_reply(code_of(answer.err) .. ' ' .. answer.err)
    end
    return nil
end
