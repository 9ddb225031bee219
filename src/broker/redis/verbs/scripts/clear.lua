-- KEYS: channel, online, list. ARGV: prefix, channel, then members to look at.
--
-- Leaves for each member that is not online; the check and the leave are one step, so a client that
-- comes online meanwhile is never thrown out. Returns 2 as `join`.
for i = 3, #ARGV do
  local online = tonumber(redis.call('HGET', KEYS[2], ARGV[i]) or 0)
  if (online or 0) <= 0 and redis.call('HDEL', KEYS[1], ARGV[i]) == 1 then
    redis.call('HDEL', P .. 'Client' .. ARGV[i], ARGV[2])
    if redis.call('HINCRBY', KEYS[3], ARGV[2], -1) <= 0 then
      redis.call('HDEL', KEYS[3], ARGV[2])
    end
    went(ARGV[i], ARGV[2])
    changed(ARGV[i])
  end
end
append_events()
return untold and 2 or 1
