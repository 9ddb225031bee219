-- ARGV: prefix, token, tag. Its ticket is about to be taken: the client is known to be coming until its
-- connection is reported, 10 s at most. Also for a ticket that a .NET helper has issued, which tells nobody.
local text = redis.pcall('GET', P .. 'Token' .. ARGV[2])
local client = type(text) == 'string' and string.match(text, '^{"Item1":"?([-%w]+)"?[,}]')
if not client then return 0 end
local key = P .. 'Coming' .. client
redis.call('ZREM', key, ARGV[2])
redis.call('ZADD', key, clock() + GRACE, ARGV[3])
redis.call('PEXPIRE', key, math.max(redis.call('PTTL', key), GRACE))
return 1
