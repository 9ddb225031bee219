-- KEYS: none. ARGV: prefix, group. Ends it. Returns 1 if there was one.
local gone = redis.pcall('XGROUP', 'DESTROY', P .. 'Events', ARGV[2])
redis.call('HDEL', P .. 'EventsMissed', ARGV[2])
redis.call('DEL', P .. 'EventsTeller' .. ARGV[2], P .. 'EventsGiven' .. ARGV[2])
return gone == 1 and 1 or 0
