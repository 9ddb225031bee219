-- KEYS: channel, client, list. ARGV: id, channel, prefix. The original's leave; a node that was taken for
-- dead does not bring this membership back. Returns 2 as `join`.
if redis.call('HDEL', KEYS[1], ARGV[1]) == 1 then
  redis.call('HDEL', KEYS[2], ARGV[2])
  if redis.call('HINCRBY', KEYS[3], ARGV[2], -1) <= 0 then
    redis.call('HDEL', KEYS[3], ARGV[2])
  end
  went(ARGV[1], ARGV[2])
  stir(ARGV[2])
  append_events()
  changed(ARGV[1])
end
redis.call('HDEL', P .. 'Left' .. ARGV[1], ARGV[2])
return untold and 2 or 1
