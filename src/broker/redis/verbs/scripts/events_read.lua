-- KEYS: none. ARGV: prefix, group, consumer, where a new group begins (`$`, or a number), how many events, ms after which what
-- another consumer has not acknowledged is taken over.
-- Returns: 1 if the group was made, id of the last event that the group was given, how many were trimmed before it was, then
-- the events.
--
-- What this consumer was given and has not acknowledged comes again, before anything else.
local key, group, me, limit, idle = P .. 'Events', ARGV[2], ARGV[3], ARGV[5], ARGV[6]
local missed_key, teller_key = P .. 'EventsMissed', P .. 'EventsTeller' .. group

local function last_given()
  if redis.call('EXISTS', key) == 0 then return nil end
  for _, info in ipairs(redis.call('XINFO', 'GROUPS', key)) do
    local known = {}
    for i = 1, #info, 2 do known[info[i]] = info[i + 1] end
    if known.name == group then return known['last-delivered-id'] end
  end
end

local function serial(id) return tonumber(string.match(id, '%d+$')) end

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
    from = string.format('%.0f-%.0f', tonumber(number) - 1, tonumber(count) - 1)
  end
  redis.call('XGROUP', 'CREATE', key, group, from, 'MKSTREAM')
  redis.call('HDEL', missed_key, group)
  made, last = 1, last_given()
end

for _, pending in ipairs(redis.call('XPENDING', key, group, 'IDLE', idle, '-', '+', limit)) do
  if pending[2] ~= me then redis.call('XCLAIM', key, group, me, idle, pending[1], 'JUSTID') end
end

local events, gone = {}, {'XACK', key, group}
local own = redis.call('XREADGROUP', 'GROUP', group, me, 'COUNT', limit, 'STREAMS', key, '0')
for _, entry in ipairs(own and own[1] and own[1][2] or {}) do
  if entry[2] then events[#events + 1] = entry else gone[#gone + 1] = entry[1] end
end
if gone[4] then
  redis.call(unpack(gone))
  miss(#gone - 3)
end
if #events == 0 then
  local new = redis.call('XREADGROUP', 'GROUP', group, me, 'COUNT', limit, 'STREAMS', key, '>')
  events = new and new[1] and new[1][2] or {}
  if #events > 0 then
    local newest = events[#events][1]
    miss(serial(newest) - serial(last) - #events)
    last = newest
  end
end

-- One tells of what was missed, or another when that one says nothing more.
local missed = redis.call('HGET', missed_key, group)
if missed then
  redis.call('SET', teller_key, me, 'PX', idle, 'NX')
  if redis.call('GET', teller_key) ~= me then missed = false end
end
return {made, last, missed or '0', events}
