-- KEYS: sessions, lease, ended, connections, resume. ARGV: session, life of an end in s, `loud` or `quiet`: whether
-- what is closed by it is told.
--
-- The end stays known for long after the session is gone: its node, when it comes back, must tell
-- "ended, so everybody was told" from "Redis lost it, so nobody was".
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then
  redis.call('DEL', KEYS[2])
  if redis.call('EXISTS', KEYS[4]) == 0 then
    redis.call('HDEL', KEYS[1], ARGV[1])
    redis.call('DEL', KEYS[5])
  else
    redis.call('SET', KEYS[3], ARGV[3], 'EX', ARGV[2])
  end
end
return 1
