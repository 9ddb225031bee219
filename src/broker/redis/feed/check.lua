-- A node's feed probes itself, and looks at the log as it stood then. KEYS: none. ARGV: prefix, node, topic, probe,
-- microseconds that a stream keeps; how many messages the node has heard of those that are counted because no log has
-- them (empty: it does not know yet), 1 if it hears some that nobody counts.
-- Returns: how many heard the probe, messages that were published uncounted by the log, then as `enter`.
--
-- The witness only grows: whoever finds a lower one knows that Redis has gone back. An idle stream is trimmed here.
-- `Plain` is for a process that goes on from this one: that count, and when it last was another; when such were last heard
-- that nobody counts.
local head = P .. 'LogHead'
local known = redis.call('HMGET', head, 'epoch', 'last', 'whole', 'Of' .. ARGV[2], 'All', 'noted',
  'Plain' .. ARGV[2])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local oldest = now - tonumber(ARGV[5])
for stream, state in pairs({['Of' .. ARGV[2]] = known[4], All = known[5]}) do
  local last = state and tonumber(string.match(state, '^%d+'))
  if last then
    local key = P .. 'Log' .. stream
    redis.pcall('XTRIM', key, 'MINID', string.format('%.0f', math.min(oldest, last)))
    redis.pcall('EXPIRE', key, 604800)
  end
end
if ARGV[6] ~= '' then
  local text = string.format('%.0f', now)
  local before, upto, strange = string.match(known[7] or '0 0 0', '(%d+) (%d+) (%d+)')
  if before ~= ARGV[6] then upto = text end
  if ARGV[7] == '1' then strange = text end
  if upto == text or strange == text then
    redis.pcall('HSET', head, 'Plain' .. ARGV[2], ARGV[6] .. ' ' .. upto .. ' ' .. strange)
  end
end
local witness = redis.pcall('HINCRBY', head, 'Seen' .. ARGV[2], 1)
if type(witness) == 'table' then witness = false end
local count = redis.call('HGET', P .. 'Published', ARGV[2])
local heard = redis.call('PUBLISH', ARGV[3], ARGV[4])
return {heard, count, known[1], known[2], known[3], known[4], known[5], witness, known[6]}
