-- A node's feed probes itself, and looks at the log as it stood then. KEYS: none. ARGV: prefix, node, topic, probe,
-- microseconds that a stream keeps.
-- Returns: how many heard the probe, messages that were published uncounted by the log, then as `enter`.
--
-- The witness only grows: whoever finds a lower one knows that Redis has gone back. An idle stream is trimmed here.
local head = P .. 'LogHead'
local known = redis.call('HMGET', head, 'epoch', 'last', 'whole', 'Of' .. ARGV[2], 'All', 'noted')
local time = redis.call('TIME')
local oldest = tonumber(time[1]) * 1000000 + tonumber(time[2]) - tonumber(ARGV[5])
for stream, state in pairs({['Of' .. ARGV[2]] = known[4], All = known[5]}) do
  local last = state and tonumber(string.match(state, '^%d+'))
  if last then
    local key = P .. 'Log' .. stream
    redis.pcall('XTRIM', key, 'MINID', string.format('%.0f', math.min(oldest, last)))
    redis.pcall('EXPIRE', key, 604800)
  end
end
local witness = redis.pcall('HINCRBY', head, 'Seen' .. ARGV[2], 1)
if type(witness) == 'table' then witness = false end
local count = redis.call('HGET', P .. 'Published', ARGV[2])
local heard = redis.call('PUBLISH', ARGV[3], ARGV[4])
return {heard, count, known[1], known[2], known[3], known[4], known[5], witness, known[6]}
