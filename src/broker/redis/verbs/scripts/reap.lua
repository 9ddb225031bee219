-- ARGV: prefix, offline topic, session, limit, events to keep. Returns how many connections were closed, and 1 if there
-- is more to close now. A session that was not ended has nothing to close.
--
-- Connections that can be resumed are held, each for its own time from the first look on: their node may come back and
-- take them over. Where other nodes may, all others are held too, for a time that `Resume` says.
local session, connections, resumable = ARGV[3], P .. 'Connections' .. ARGV[3], P .. 'Resumable' .. ARGV[3]
local ended = redis.call('GET', P .. 'Ended' .. session)
keep_events(tonumber(ARGV[5]), session)
if not ended then return {0, 0} end
-- Its node is back, or has said all that is to be told: the clients may be back as well.
local how = (ended == 'back' or ended == 'quiet') and 'late' or ended
local topic = ended ~= 'quiet' and ARGV[2]
local limit, held, more, count = tonumber(ARGV[4]), 0, 0, 0
local grace = how ~= 'late'
  and tonumber(string.match(redis.call('GET', P .. 'Resume' .. session) or '', '^%x+ %d+ (%d+)$') or '') or 0
local waits = false
if how ~= 'late' and (grace > 0 or has_resumable(session)) then
  local passed = string.format('%.3f', away(session) / 1000)
  waits = tonumber(passed) < grace
  held = redis.call('ZCOUNT', resumable, '(' .. passed, '+inf')
  local due = (held > 0 or waits) and redis.call('ZRANGEBYSCORE', resumable, '-inf', passed, 'LIMIT', 0, limit) or {}
  if #due == limit then more = 1 end
  for _, connection in ipairs(due) do
    if budget < 500 then break end
    count = count + close(session, connection, topic, how, 'node_gone')
    -- Also if a version that knows nothing of them has closed it.
    redis.call('ZREM', resumable, connection)
  end
end
local looked = limit
if held > 0 then
  -- The others are to be found among those that can be resumed, if there are any.
  looked = redis.call('HLEN', connections) ~= redis.call('ZCARD', resumable) and limit * 5 or 0
end
if waits then looked = 0 end
if looked > 0 then
  for _, connection in ipairs(redis.call('HRANDFIELD', connections, looked)) do
    -- Half of it is left for the next client: only one in more channels than that has to leave later.
    if budget < 500 or count >= limit then break end
    if held == 0 or not redis.call('ZSCORE', resumable, connection) then
      count = count + close(session, connection, topic, how, 'node_gone')
    end
  end
end
local left = redis.call('HLEN', connections)
if left > 0 then
  if not waits and (held == 0 or left ~= redis.call('ZCARD', resumable)) then more = 1 end
  return {count, more}
end
redis.call('HDEL', P .. 'Sessions', session)
redis.call('DEL', P .. 'Closed' .. session, resumable, P .. 'Resume' .. session, P .. 'Away' .. session,
  P .. 'Moved' .. session, P .. 'Parcels' .. session)
return {count, 0}
