-- Events for the business: appended in the step that counts what they tell. P is the prefix of all keys.
--
-- An id is `number-serial`. Numbers are microseconds of Redis's clock, or the one after the last if that is more: they grow
-- also over a loss of all data. Serials count the events of this stream: by them readers see what was trimmed, or refused.

-- Microseconds for which an event is kept.
local EVENT_LIFE = 86400000000
local event_key = P .. 'Events'
-- Whole numbers are written faster, where they are wide enough.
local event_form = string.format('%d', 2 ^ 52) == '4503599627370496' and '%d' or '%.0f'
local event_id_form = event_form .. '-' .. event_form
local events_kept, event_node, event_time, event_ms, event_number, event_serial = 0, ''

-- From here on at most so many are kept, none if 0, and they are of this session's node.
local function keep_events(limit, session)
  events_kept, event_node = limit, string.match(session, '^(.*)#') or session
end

local function event(what, client, connection, text, reason)
  if events_kept == 0 then return end
  if not event_time then
    local last = redis.pcall('XREVRANGE', event_key, '+', '-', 'COUNT', 1)
    -- Foreign, or without the right to it: whatever is told, these events are not to be had.
    if last.err then
      events_kept = 0
      return
    end
    local number, serial = string.match(last[1] and last[1][1] or '', '^(%d+)%-(%d+)$')
    event_number, event_serial = tonumber(number or 0), tonumber(serial or 0)
    local time = redis.call('TIME')
    event_time = tonumber(time[1]) * 1000000 + tonumber(time[2])
    event_ms = string.format(event_form, math.floor(event_time / 1000))
  end
  event_number, event_serial = math.max(event_number + 1, event_time), event_serial + 1
  redis.pcall('XADD', event_key, string.format(event_id_form, event_number, event_serial), 'type', what, 'client', client,
    'connection', connection, 'ticket', text, 'node', event_node, 'reason', reason, 'ms', event_ms,
    'n', string.format(event_form, event_number))
  if event_serial % 64 == 0 then
    redis.pcall('XTRIM', event_key, 'MAXLEN', '~', events_kept)
    -- Never the last, whose id the next one needs.
    redis.pcall('XTRIM', event_key, 'MINID', string.format('%.0f', math.min(event_time - EVENT_LIFE, event_number)))
  end
end
