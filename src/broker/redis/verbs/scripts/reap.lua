-- ARGV: prefix, offline topic, session, limit. Returns how many connections were closed, and 1 if there
-- is more to close now. A session that was not ended has nothing to close.
--
-- Connections that can be resumed are held, as long as the session's `Resume` says from the first look on: their node
-- may come back and take them over.
local session, connections = ARGV[3], P .. 'Connections' .. ARGV[3]
local ended = redis.call('GET', P .. 'Ended' .. session)
if not ended then return {0, 0} end
-- Its node is back, or has said all that is to be told: the clients may be back as well.
local how = (ended == 'back' or ended == 'quiet') and 'late' or ended
local topic = ended ~= 'quiet' and ARGV[2]
local held = 0
if how ~= 'late' and has_resumable(session) then
  local keep = tonumber(string.match(redis.call('GET', P .. 'Resume' .. session) or '', ' (%d+)$') or '') or 0
  local since = redis.call('GET', P .. 'Away' .. session)
  if not since then
    since = string.format('%.0f', clock())
    redis.call('SET', P .. 'Away' .. session, since)
  end
  if clock() - tonumber(since) < keep * 1000 then held = redis.call('SCARD', P .. 'Resumable' .. session) end
end
local count, looked = 0, ARGV[4]
if held > 0 then
  if redis.call('HLEN', connections) <= held then return {0, 0} end
  -- The others are to be found among those that are held.
  looked = ARGV[4] * 5
end
for _, connection in ipairs(redis.call('HRANDFIELD', connections, looked)) do
  -- Half of it is left for the next client: only one in more channels than that has to leave later.
  if budget < 500 then break end
  if held == 0 or redis.call('SISMEMBER', P .. 'Resumable' .. session, connection) == 0 then
    count = count + close(session, connection, topic, how)
  end
end
local left = redis.call('HLEN', connections)
if left > 0 then return {count, left > held and 1 or 0} end
redis.call('HDEL', P .. 'Sessions', session)
redis.call('DEL', P .. 'Closed' .. session, P .. 'Resumable' .. session, P .. 'Resume' .. session, P .. 'Away' .. session)
return {count, 0}
