-- ARGV: prefix, offline topic, session, limit. Returns how many connections were closed, and 1 if there
-- is more to close. A session that was not ended has nothing to close.
local session, connections = ARGV[3], P .. 'Connections' .. ARGV[3]
local ended = redis.call('GET', P .. 'Ended' .. session)
if not ended then return {0, 0} end
-- Its node is back, or has said all that is to be told: the clients may be back as well.
local how = (ended == 'back' or ended == 'quiet') and 'late' or ended
local topic = ended ~= 'quiet' and ARGV[2]
local count = 0
for _, connection in ipairs(redis.call('HRANDFIELD', connections, ARGV[4])) do
  -- Half of it is left for the next client: only one in more channels than that has to leave later.
  if budget < 500 then break end
  count = count + close(connections, connection, topic, how)
end
if redis.call('EXISTS', connections) == 1 then return {count, 1} end
redis.call('HDEL', P .. 'Sessions', session)
redis.call('DEL', P .. 'Closed' .. session)
return {count, 0}
