-- Events for the business: told in the step that counts what they tell. P is the prefix of all keys. `trim` stands before.
--
-- One entry of the stream holds what one run has told, as one step costs Redis less than many: node, time, how many events
-- there are, then for each change its words, connection and reason, and `client ticket`. Numbers are microseconds of Redis's
-- clock, or the one after the last if that is more: they grow also over a loss of all data. Serials count the events of
-- this stream: by them readers see what was trimmed, or refused. The id of an entry is `number-serial` of its last event.
--
-- How many are kept nodes know. They say so in `EventsKept`, as long as they are there, for helpers, who do not.

-- Microseconds for which an event is kept.
local EVENT_LIFE = 86400000000
local event_key, event_head = P .. 'Events', P .. 'EventsHead'
-- Whole numbers are written faster, where they are wide enough.
local event_form = string.format('%d', 2 ^ 52) == '4503599627370496' and '%d' or '%.0f'
local event_id_form = event_form .. '-' .. event_form
local events_kept, entry, entry_size, entry_events = nil, nil, 0, 0

local function append_events()
  if entry_events == 0 then return end
  local known = redis.pcall('HMGET', event_head, 'last', 'due')
  local last, due = known[1], known[2]
  if not last then
    -- Lost, or there is none yet: the stream itself tells.
    local newest = redis.pcall('XREVRANGE', event_key, '+', '-', 'COUNT', 1)
    last = newest[1] and newest[1][1] or '0-0'
  end
  local number, serial = string.match(last, '^(%d+)%-(%d+)$')
  local time = redis.call('TIME')
  time = tonumber(time[1]) * 1000000 + tonumber(time[2])
  number, serial = math.max(tonumber(number or 0), time - 1) + entry_events, tonumber(serial or 0) + entry_events
  last = string.format(event_id_form, number, serial)
  entry[3], entry[7], entry[9] = last, string.format(event_form, math.floor(time / 1000)), entry_events
  -- Foreign, or without the right to it: whatever is told, these events are not to be had.
  redis.pcall(unpack(entry))
  redis.pcall('HSET', event_head, 'last', last)
  local due_number, due_serial = string.match(due or '', '^(%d+)%-(%d+)$')
  if number >= tonumber(due_number or 0) or serial >= tonumber(due_serial or 0) then
    due = string.format(event_id_form, number + EVENT_LIFE / 64, serial + math.ceil(events_kept / 64))
    redis.pcall('HSET', event_head, 'due', due)
    trim(event_head, '', event_key, number, serial, EVENT_LIFE, events_kept)
  end
  entry_events = 0
end

-- From here on at most so many are kept, none if 0, and they are of this session's node, or of none.
local function keep_events(limit, session)
  append_events()
  events_kept = limit
  entry = {'XADD', event_key, '', 'node', string.match(session, '^(.*)#') or session, 'ms', '', 'count', ''}
  entry_size = #entry
end

local function are_kept()
  if not events_kept then
    local kept = redis.pcall('GET', P .. 'EventsKept')
    keep_events(type(kept) == 'string' and tonumber(kept) or 0, '')
  end
  return events_kept > 0
end

-- One change, which may be `also` a second event; `about` is `client ticket`.
local function event(what, also, connection, reason, about)
  if not are_kept() then return end
  if also then
    entry_events = entry_events + 2
    entry[entry_size + 1] = what .. '+' .. also .. ' ' .. connection .. ' ' .. reason
  else
    entry_events = entry_events + 1
    entry[entry_size + 1] = what .. ' ' .. connection .. ' ' .. reason
  end
  entry[entry_size + 2] = about
  entry_size = entry_size + 2
end
