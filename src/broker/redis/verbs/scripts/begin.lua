-- KEYS: sessions, lease. ARGV: node, session, lease in ms, life of an end in s, lease key prefix, ended
-- key prefix, 1 to supersede.
--
-- The node's former sessions, those it supersedes and those that others have ended, are from now on
-- `back`: their clients may be connecting again while what is left of them is cleared away.
local sessions = redis.call('HGETALL', KEYS[1])
for i = 1, #sessions, 2 do
  local value, ended = sessions[i + 1], ARGV[6] .. sessions[i]
  if string.sub(value, (string.find(value, ' ', 1, true) or 0) + 1) == ARGV[1] then
    local how = redis.call('GET', ended)
    if how ~= 'quiet' and (how or ARGV[7] == '1') then
      redis.call('SET', ended, 'back', 'EX', ARGV[4])
      redis.call('DEL', ARGV[5] .. sessions[i])
    end
  end
end
redis.call('SET', KEYS[2], '1', 'PX', ARGV[3])
redis.call('HSET', KEYS[1], ARGV[2], '0 ' .. ARGV[1])
return 1
