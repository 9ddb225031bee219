-- KEYS: none. ARGV: prefix, group, consumer, where a new group begins (`$`, or a number), how many events, ms after which what
-- another consumer has not acknowledged is taken over.
-- Returns: 1 if the group was made, id of the last event that the group was given, how many were trimmed before it was, then
-- entries with about so many events, each with a mark for each of them, `x` if it is done with.
--
-- What this consumer was given and has not acknowledged comes again, before anything else. An entry is acknowledged
-- with the last of its events; until then `EventsGiven` has the marks of those that hold more than one.
local key, group, me, limit, idle = P .. 'Events', ARGV[2], ARGV[3], tonumber(ARGV[5]), ARGV[6]
local missed_key, teller_key, given_key = P .. 'EventsMissed', P .. 'EventsTeller' .. group, P .. 'EventsGiven' .. group

local function last_given()
  if redis.call('EXISTS', key) == 0 then return nil end
  for _, info in ipairs(redis.call('XINFO', 'GROUPS', key)) do
    local known = {}
    for i = 1, #info, 2 do known[info[i]] = info[i + 1] end
    if known.name == group then return known['last-delivered-id'] end
  end
end

local function serial(id) return tonumber(string.match(id, '%d+$')) end

-- How many events there are in an entry; 1 in one that is foreign.
local function size(fields) return fields[5] == 'count' and math.min(tonumber(fields[6]) or 1, #fields) or 1 end

local function miss(count)
  if count > 0 then redis.call('HINCRBY', missed_key, group, string.format('%.0f', count)) end
end

local made, last = 0, last_given()
if not last then
  local from = '$'
  local first = ARGV[4] ~= '$' and redis.call('XRANGE', key, ARGV[4], '+', 'COUNT', 1)[1]
  if first then
    -- What was trimmed before there was a group, it has not missed.
    local number, count = string.match(first[1], '^(%d+)%-(%d+)$')
    local events = size(first[2])
    from = string.format('%.0f-%.0f', math.max(tonumber(number) - events, 0), math.max(tonumber(count) - events, 0))
  elseif redis.call('EXISTS', key) == 0 then
    -- The stream alone is lost: what comes goes on behind what is told of it.
    from = redis.call('HGET', P .. 'EventsHead', 'last') or '$'
  end
  redis.call('XGROUP', 'CREATE', key, group, from, 'MKSTREAM')
  redis.call('HDEL', missed_key, group)
  redis.call('DEL', given_key)
  made, last = 1, last_given()
end

for _, pending in ipairs(redis.call('XPENDING', key, group, 'IDLE', idle, '-', '+', limit)) do
  if pending[2] ~= me then redis.call('XCLAIM', key, group, me, idle, pending[1], 'JUSTID') end
end

local entries, gone, found = {}, {}, 0
local own = redis.call('XREADGROUP', 'GROUP', group, me, 'COUNT', limit, 'STREAMS', key, '0')
for _, entry in ipairs(own and own[1] and own[1][2] or {}) do
  local id, fields = entry[1], entry[2]
  local marks = redis.call('HGET', given_key, id) or '.'
  local _, waiting = string.gsub(marks, '%.', '')
  if not fields then
    gone[#gone + 1] = id
    miss(waiting)
  elseif found < limit then
    entries[#entries + 1] = {id, fields, marks}
    found = found + waiting
  end
end
if gone[1] then
  redis.call('XACK', key, group, unpack(gone))
  redis.call('HDEL', given_key, unpack(gone))
end
if #entries == 0 then
  local count = 1
  while found < limit do
    local new = redis.call('XREADGROUP', 'GROUP', group, me, 'COUNT', count, 'STREAMS', key, '>')
    new = new and new[1] and new[1][2] or {}
    for _, entry in ipairs(new) do
      local events = size(entry[2])
      local marks = string.rep('.', events)
      if events > 1 then redis.call('HSET', given_key, entry[1], marks) end
      miss(serial(entry[1]) - serial(last) - events)
      last = entry[1]
      entries[#entries + 1] = {entry[1], entry[2], marks}
      found = found + events
    end
    if #new < count then break end
    -- As many as there will be, if they are like those before.
    count = math.ceil((limit - found) * #entries / found)
  end
end

-- One tells of what was missed, or another when that one says nothing more.
local missed = redis.call('HGET', missed_key, group)
if missed then
  redis.call('SET', teller_key, me, 'PX', idle, 'NX')
  if redis.call('GET', teller_key) ~= me then missed = false end
end
return {made, last, missed or '0', entries}
