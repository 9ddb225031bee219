-- How a connection changes sessions; what the scripts that have some do so have in common. P is the prefix of all keys.

local moved_keep = false

-- As it is, with the time for which its client is waited for; marked with the number in the log behind which that of its new
-- node has all that is for it.
local function move(number, record, from, to, position)
  redis.call('HDEL', P .. 'Connections' .. from, number)
  redis.call('HSET', P .. 'Connections' .. to, number, record)
  local keep = redis.call('ZSCORE', P .. 'Resumable' .. from, number)
  if keep then
    redis.call('ZREM', P .. 'Resumable' .. from, number)
    redis.call('ZADD', P .. 'Resumable' .. to, keep, number)
    moved_keep = true
  end
  redis.call('HDEL', P .. 'Moved' .. from, number)
  redis.call('HSET', P .. 'Moved' .. to, number, position)
end

-- Behind the last that went to this session.
local function all_moved(to)
  if moved_keep then redis.call('EXPIRE', P .. 'Resumable' .. to, 172800) end
  redis.call('EXPIRE', P .. 'Moved' .. to, 172800)
end

