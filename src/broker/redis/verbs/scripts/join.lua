-- KEYS: channel, client, list. ARGV: id, channel, prefix, channels that one client may be in (0 is no
-- limit), life in ms of a membership of a client that is not online (0 is no end). Returns 0, having
-- done nothing, if the client is in as many channels as it may be; 2 if the change is to be told by the caller.
--
-- The original's join. Of a client that is not online it is then written down that it may never come. If it
-- is leaving already, this channel is kept: it was joined after the close.
local id, chan, limit = ARGV[1], ARGV[2], tonumber(ARGV[4])
if limit > 0 and redis.call('HLEN', KEYS[2]) >= limit
    and redis.call('HEXISTS', KEYS[1], id) == 0 then
  return 0
end
if redis.call('HSETNX', KEYS[1], id, '0') == 1 then
  redis.call('HSET', KEYS[2], chan, '0')
  redis.call('HINCRBY', KEYS[3], chan, 1)
  came(id, chan)
  stir(chan)
  append_events()
  changed(id)
end
if (tonumber(redis.call('HGET', P .. 'Online', id) or '') or 0) <= 0 then
  if redis.call('ZSCORE', P .. 'Leaving', id) then
    local kept = P .. 'Kept' .. id
    redis.call('SADD', kept, chan)
    if ARGV[5] == '0' then redis.call('PERSIST', kept) else redis.call('PEXPIRE', kept, ARGV[5]) end
  elseif ARGV[5] ~= '0' then
    redis.call('HSET', P .. 'Absent', id, ARGV[5])
    -- Nodes empty it every second; without any it must not grow for ever.
    redis.call('EXPIRE', P .. 'Absent', 3600)
  end
end
return untold and 2 or 1
