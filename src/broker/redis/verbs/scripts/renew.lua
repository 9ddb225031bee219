-- KEYS: sessions, lease, ended, resumable, resume. ARGV: session, lease in ms, number of the last report that was
-- acknowledged, what the node says of itself. Returns -1 when the session was ended, -2 when it or that
-- report is not known.
--
-- A lease that has run out unnoticed is good again: a node that could not reach Redis is not dead. A
-- session that misses reports keeps its lease, so that its node can put things right before others do.
if redis.call('EXISTS', KEYS[3]) == 1 then return -1 end
local value = redis.call('HGET', KEYS[1], ARGV[1])
if not value then return -2 end
redis.call('SET', KEYS[2], ARGV[4], 'PX', ARGV[2])
-- Where a version that knows nothing of them clears the session away, these go by themselves.
redis.call('EXPIRE', KEYS[4], 172800)
redis.call('EXPIRE', KEYS[5], 172800)
if tonumber(string.match(value, '^%d+')) < tonumber(ARGV[3]) then return -2 end
return 1
