-- ARGV: prefix, client, token, life of its ticket in ms. The client is known to be coming for so long.
local key = P .. 'Coming' .. ARGV[2]
redis.call('ZREMRANGEBYSCORE', key, '-inf', clock())
redis.call('ZADD', key, clock() + tonumber(ARGV[4]), ARGV[3])
redis.call('PEXPIRE', key, math.max(redis.call('PTTL', key), tonumber(ARGV[4])))
return 1
