-- ARGV: prefix, node, new session, lease in ms, life of an end in s, session or nothing. Takes the node's former session
-- over, with its connections, if some of them can be resumed, that one alone if it is named: it goes on under the new
-- name. Returns what `Resume` said of it, or nothing if there is none to take over.
--
-- A former process that wakes up finds its session ended.
local sessions, former, others = P .. 'Sessions', nil, {}
if ARGV[6] ~= '' and redis.call('HGET', sessions, ARGV[3]) == '0 ' .. ARGV[2] then
  -- It is done; the answer was lost.
  return redis.call('GET', P .. 'Resume' .. ARGV[3])
end
local all = redis.call('HGETALL', sessions)
for i = 1, #all, 2 do
  local session, value = all[i], all[i + 1]
  if string.sub(value, (string.find(value, ' ', 1, true) or 0) + 1) == ARGV[2] then
    local how = redis.call('GET', P .. 'Ended' .. session)
    if how ~= 'quiet' then others[session] = how or 'open' end
    if how ~= 'quiet' and how ~= 'back' and (ARGV[6] == '' or ARGV[6] == session)
        and redis.call('EXISTS', P .. 'Resumable' .. session, P .. 'Connections' .. session, P .. 'Resume' .. session) == 3
        -- One that nobody has ended comes before one of which others have begun to tell.
        and not (former and how) then
      former = session
    end
  end
end
if not former then return false end
for _, kind in ipairs({'Connections', 'Resumable', 'Resume', 'Closed', 'Moved'}) do
  if redis.call('EXISTS', P .. kind .. former) == 1 then redis.call('RENAME', P .. kind .. former, P .. kind .. ARGV[3]) end
end
-- As in `begin`.
for session, how in pairs(others) do
  if session == former or how ~= 'open' or ARGV[6] == '' then
    redis.call('SET', P .. 'Ended' .. session, 'back', 'EX', ARGV[5])
    redis.call('DEL', P .. 'Lease' .. session)
  end
end
redis.call('HDEL', sessions, former)
redis.call('DEL', P .. 'Away' .. former)
redis.call('SET', P .. 'Lease' .. ARGV[3], '1', 'PX', ARGV[4])
redis.call('HSET', sessions, ARGV[3], '0 ' .. ARGV[2])
return redis.call('GET', P .. 'Resume' .. ARGV[3])
