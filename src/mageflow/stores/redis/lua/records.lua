-- Records: how one is kept, and how it is found. Part of every script that touches records.
--
-- A record's value is its expiry (24 characters, blank: none), the size of its head (8 hex digits), the head (msgpack)
-- and its JSON. The head says, in words that only the client gives a meaning to, under which terms the record is found:
--   version, created, terms, ranges, names, holds, mortal, beats, companions, parent

local NEVER = string.rep(' ', 24)
local FIRST = 1023

local function key_of(record) return space .. 'r:' .. record end

-- What something else than mageflow wrote has a head that fits no version, so nothing is ever decided on it.
local DAMAGED = {'damaged', 0, {}, {}, {}, {}, false, false, {}, ''}

local function size_in(value) return tonumber(string.sub(value, 25, 32), 16) or 0 end

local function head_in(value)
    local is_whole, head = pcall(cmsgpack.unpack, string.sub(value, 33, 32 + size_in(value)))
    if is_whole and type(head) == 'table' and #head == 10 then return head end
    return DAMAGED
end

-- The head of a record of whose value this is the beginning; of a large one the value itself is not read.
local function head_within(record, value)
    local size = 32 + size_in(value)
    if size > #value then value = redis.call('GETRANGE', key_of(record), 0, size) end
    return head_in(value)
end

-- The head of a record, or nil.
local function head_of(record)
    local value = redis.call('GETRANGE', key_of(record), 0, FIRST)
    if value == '' then return nil end
    return head_within(record, value)
end

-- Whether the value that begins so has this version. It is the first text of the head, where a look finds it without
-- reading the rest.
local function has_version(value, version)
    local size = #version
    if size > 255 then return head_in(value)[1] == version end
    local from = 35 + (size > 31 and 1 or 0)
    if string.sub(value, from, from + size - 1) ~= version then return false end
    local kind, length = string.byte(value, 34, 35)
    return kind == 160 + size or (kind == 217 and length == size)
end

-- Adds to `found` what was not asked for yet of these records, each followed by its value or false, and their companions.
local function load(found, seen, records, deep)
    for _, record in ipairs(records) do
        if not seen[record] then
            seen[record] = true
            local value = redis.call('GET', key_of(record))
            found[#found + 1] = record
            found[#found + 1] = value
            if deep and value then load(found, seen, head_in(value)[9], false) end
        end
    end
end

-- Changes of indexes, by command and key: many of one index are one command. nil: each is made at once.
local gathered = nil
local MOST_WORDS = 2000

local function gather() gathered = {ZADD = {}, ZREM = {}, SADD = {}, SREM = {}} end

local function words_for(command, key)
    local words = gathered[command][key]
    if not words then
        words = {}
        gathered[command][key] = words
    end
    return words
end

local function change(command, key, member)
    if not gathered then return redis.call(command, key, member) end
    local words = words_for(command, key)
    words[#words + 1] = member
end

local function add(key, score, member)
    if not gathered then return redis.call('ZADD', key, score, member) end
    local words = words_for('ZADD', key)
    words[#words + 1] = score
    words[#words + 1] = member
end

-- Makes the changes that were gathered. Lua cannot pass more than some 8,000 arguments.
local function change_all()
    for command, keys in pairs(gathered) do
        for key, words in pairs(keys) do
            for from = 1, #words, MOST_WORDS do
                redis.call(command, key, unpack(words, from, math.min(from + MOST_WORDS - 1, #words)))
            end
        end
    end
    gathered = nil
end

local function all_of(list)
    local found = {}
    for _, each in ipairs(list) do found[each] = true end
    return found
end

local function file_terms(record, kind, old, new, moved, score)
    local gone = all_of(old)
    for _, term in ipairs(new) do
        if moved or not gone[term] then add(space .. kind .. term, score, record) end
        gone[term] = nil
    end
    for term in pairs(gone) do change('ZREM', space .. kind .. term, record) end
end

local function file_ranges(record, old, new)
    local gone = {}
    for _, range in ipairs(old) do gone[range[1]] = range[2] end
    for _, range in ipairs(new) do
        if gone[range[1]] ~= range[2] then add(space .. 'n:' .. range[1], range[2], record) end
        gone[range[1]] = nil
    end
    for name in pairs(gone) do change('ZREM', space .. 'n:' .. name, record) end
end

local function file_holds(record, old, new)
    local gone = all_of(old)
    for _, held in ipairs(new) do
        if not gone[held] then change('SADD', space .. 'h:' .. held, record) end
        gone[held] = nil
    end
    for held in pairs(gone) do change('SREM', space .. 'h:' .. held, record) end
end

local NOTHING = {'', 0, {}, {}, {}, {}, false, false, {}}

-- Makes a record findable by what its new head says, and by nothing else; nil: there is none.
local function file(record, old, new, expires)
    old = old or NOTHING
    new = new or NOTHING
    local moved = old[2] ~= new[2]
    file_terms(record, 't:', old[3], new[3], moved, new[2])
    file_terms(record, 'w:', old[5], new[5], moved, new[2])
    file_ranges(record, old[4], new[4])
    file_holds(record, old[6], new[6])
    if new[7] and expires ~= NEVER then
        add(space .. 'x', tonumber(expires), record)
    elseif old[7] then
        change('ZREM', space .. 'x', record)
    end
    if new[8] then
        redis.call('HSETNX', space .. 'beats', record, 0)
    elseif old[8] then
        redis.call('HDEL', space .. 'beats', record)
    end
end

-- Makes an expiry later, never earlier; where there is none it stays so.
local function touch(record, expires)
    local key = key_of(record)
    local now = redis.call('GETRANGE', key, 0, 23)
    if (tonumber(now) or math.huge) >= tonumber(expires) then return end
    redis.call('SETRANGE', key, 0, expires)
    redis.call('ZADD', space .. 'x', 'XX', tonumber(expires), record)
end

local function remove(record, head)
    redis.call('DEL', key_of(record))
    file(record, head, nil)
end
