-- KEYS: none. ARGV: prefix, group, consumer, where a new group begins (`$`, or a number), how many events, ms after which what
-- another consumer has not acknowledged is taken over, id of an event or nothing.
-- Returns: 1 if the group was made, id of the last event that the group was given, how many were trimmed before it was;
-- entries with about so many events, each with a mark for each of them, `x` if it is done with; entries that come again
-- whatever was given before; 1 if nothing new is given before something is acknowledged.
--
-- What this consumer was given and has not acknowledged comes again, before anything else: all of it, or what is behind
-- the id and what nobody has acknowledged for that time. An entry is acknowledged with the last of its events; until
-- then `EventsGiven` has the marks of those that hold more than one.
local key, group, me, limit, idle, after = P .. 'Events', ARGV[2], ARGV[3], tonumber(ARGV[5]), ARGV[6], ARGV[7]
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

-- The marks of an entry that was given, and how many of its events wait.
local function open_events(id)
  local marks = redis.call('HGET', given_key, id) or '.'
  local _, waiting = string.gsub(marks, '%.', '')
  return marks, waiting
end

local entries, again, is_again, found = {}, {}, {}, 0

local function give(list, id, fields)
  local marks, waiting = open_events(id)
  if fields then
    list[#list + 1] = {id, fields, marks}
    found = found + waiting
  else
    -- Trimmed meanwhile.
    miss(waiting)
    redis.call('XACK', key, group, id)
    redis.call('HDEL', given_key, id)
  end
end

for _, pending in ipairs(redis.call('XPENDING', key, group, 'IDLE', idle, '-', '+', limit)) do
  local id = pending[1]
  if found >= limit then break end
  if after ~= '' then
    redis.call('XCLAIM', key, group, me, idle, id, 'JUSTID')
    local entry = redis.call('XRANGE', key, id, id)[1]
    give(again, id, entry and entry[2])
    is_again[id] = true
  elseif pending[2] ~= me and #redis.call('XCLAIM', key, group, me, idle, id, 'JUSTID') == 0 then
    give(again, id)
  end
end

local own = redis.call('XREADGROUP', 'GROUP', group, me, 'COUNT', limit, 'STREAMS', key, after ~= '' and after or '0')
for _, entry in ipairs(own and own[1] and own[1][2] or {}) do
  if found < limit and not is_again[entry[1]] then give(entries, entry[1], entry[2]) end
end

local open = 0
if after ~= '' then
  for _, pending in ipairs(redis.call('XPENDING', key, group, '-', '+', limit, me)) do
    local _, waiting = open_events(pending[1])
    open = open + waiting
  end
end
local is_full = open >= limit
if found == 0 and not is_full then
  limit = limit - open
  local count = 1
  while found < limit do
    local new = redis.call('XREADGROUP', 'GROUP', group, me, 'COUNT', count, 'STREAMS', key, '>')
    new = new and new[1] and new[1][2] or {}
    for _, entry in ipairs(new) do
      local events = size(entry[2])
      if events > 1 then redis.call('HSET', given_key, entry[1], string.rep('.', events)) end
      miss(serial(entry[1]) - serial(last) - events)
      last = entry[1]
      give(entries, entry[1], entry[2])
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
return {made, last, missed or '0', entries, again, is_full and 1 or 0}
