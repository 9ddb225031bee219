-- ARGV: prefix, node, new session, lease in ms, life of an end in s. Takes the node's former session over, with its
-- connections, if some of them can be resumed: it goes on under the new name. Returns what `Resume` said of it, or
-- nothing if there is none to take over.
--
-- A former process that wakes up finds its session ended.
local sessions, former = P .. 'Sessions', nil
local all = redis.call('HGETALL', sessions)
for i = 1, #all, 2 do
  local session, value = all[i], all[i + 1]
  if string.sub(value, (string.find(value, ' ', 1, true) or 0) + 1) == ARGV[2]
      and redis.call('EXISTS', P .. 'Resumable' .. session, P .. 'Connections' .. session, P .. 'Resume' .. session) == 3 then
    local how = redis.call('GET', P .. 'Ended' .. session)
    -- One that nobody has ended comes before one of which others have begun to tell.
    if not how then
      former = session
      break
    elseif how ~= 'quiet' and how ~= 'back' then
      former = session
    end
  end
end
if not former then return false end
for _, kind in ipairs({'Connections', 'Resumable', 'Resume', 'Closed'}) do
  if redis.call('EXISTS', P .. kind .. former) == 1 then redis.call('RENAME', P .. kind .. former, P .. kind .. ARGV[3]) end
end
redis.call('HDEL', sessions, former)
redis.call('DEL', P .. 'Lease' .. former, P .. 'Away' .. former)
redis.call('SET', P .. 'Ended' .. former, 'back', 'EX', ARGV[5])
redis.call('SET', P .. 'Lease' .. ARGV[3], '1', 'PX', ARGV[4])
redis.call('HSET', sessions, ARGV[3], '0 ' .. ARGV[2])
return redis.call('GET', P .. 'Resume' .. ARGV[3])
