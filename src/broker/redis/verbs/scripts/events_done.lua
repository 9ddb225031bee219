-- KEYS: none. ARGV: prefix, group, how many missed ones were told, then ids. What is named here is done.
local key, group, missed = P .. 'Events', ARGV[2], tonumber(ARGV[3])
if ARGV[4] then redis.call('XACK', key, group, unpack(ARGV, 4)) end
if missed > 0 then
  if redis.call('HINCRBY', P .. 'EventsMissed', group, -missed) <= 0 then redis.call('HDEL', P .. 'EventsMissed', group) end
  redis.call('DEL', P .. 'EventsTeller' .. group)
end
return 1
