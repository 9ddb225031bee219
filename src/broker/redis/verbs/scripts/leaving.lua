-- Who leaves which channels when; what the scripts about presence have in common, behind the clock.

-- Seconds for which a node that was taken for dead may bring memberships back.
local LEFT_LIFE = 3600
-- Memberships that one run may still end: a few milliseconds of Redis's time.
local budget = 1000
-- 1 when there was more to end.
local rest = 0

local function is_online(client)
  return (tonumber(redis.call('HGET', P .. 'Online', client) or '') or 0) > 0
end

-- A ticket of it is out, or was taken and its connection is not reported yet.
local function is_coming(client)
  local key = P .. 'Coming' .. client
  return redis.call('EXISTS', key) == 1 and redis.call('ZCOUNT', key, clock(), '+inf') > 0
end

-- Whether anybody is to leave later, asked once a run.
local some_leave

local function leaves_at(time, client)
  redis.call('ZADD', P .. 'Leaving', time, client)
  some_leave = true
end

-- It is here: nothing is to be left.
local function stays(client)
  if some_leave == nil then some_leave = redis.call('EXISTS', P .. 'Leaving') == 1 end
  if some_leave and redis.call('ZREM', P .. 'Leaving', client) == 1 then
    redis.call('DEL', P .. 'Kept' .. client)
  end
end

-- The original's leave, but for the client's own hash.
local function leave(client, channel)
  budget = budget - 1
  if redis.call('HDEL', P .. 'Chan' .. channel, client) == 1 then
    if redis.call('HINCRBY', P .. 'ListChan', channel, -1) <= 0 then redis.call('HDEL', P .. 'ListChan', channel) end
    went(client, channel)
  end
end

-- Keeps the client's hash for the node that may bring it back, instead of deleting it.
local function set_aside(client, own)
  local left = P .. 'Left' .. client
  if redis.call('EXISTS', left) == 0 then
    redis.call('RENAME', own, left)
  else
    for _, channel in ipairs(redis.call('HKEYS', own)) do redis.call('HSET', left, channel, '0') end
    redis.call('DEL', own)
  end
  redis.call('EXPIRE', left, LEFT_LIFE)
  redis.call('SET', P .. 'Aside', '1', 'EX', LEFT_LIFE)
end

-- The last connection has ended: 'lapsed' when its node was taken for dead, 'late' when that is told so
-- late that the client may be back already, else ''.
local function depart(client, how)
  local own = P .. 'Client' .. client
  local count = redis.call('HLEN', own)
  if count == 0 then return end
  if how == 'late' or is_coming(client) then
    leaves_at(clock() + GRACE, client)
  elseif count > budget then
    leaves_at(how == 'lapsed' and -1 or 0, client)
    rest = 1
  else
    for _, channel in ipairs(redis.call('HKEYS', own)) do leave(client, channel) end
    if how == 'lapsed' then set_aside(client, own) else redis.call('DEL', own) end
    changed(client)
  end
end

-- Whether a session has connections that can be resumed, asked once a run.
local some_resumable

local function has_resumable(session)
  if some_resumable == nil then some_resumable = redis.call('EXISTS', P .. 'Resumable' .. session) == 1 end
  return some_resumable
end

-- The same of connections that came from other nodes.
local some_moved

local function has_moved(session)
  if some_moved == nil then some_moved = redis.call('EXISTS', P .. 'Moved' .. session) == 1 end
  return some_moved
end

-- Ends one connection, for a reason: `HDEL` is the gate that lets exactly one caller through.
local function close(session, connection, topic, how, reason)
  local connections = P .. 'Connections' .. session
  local record = redis.call('HGET', connections, connection)
  if not record then return 0 end
  redis.call('HDEL', connections, connection)
  if has_resumable(session) then redis.call('ZREM', P .. 'Resumable' .. session, connection) end
  if has_moved(session) then redis.call('HDEL', P .. 'Moved' .. session, connection) end
  local cut = string.find(record, ' ', 1, true)
  local client, text = string.sub(record, 1, cut - 1), string.sub(record, cut + 1)
  local is_last = redis.call('HINCRBY', P .. 'Online', client, -1) <= 0
  if topic then event('ended', is_last and 'offline', connection, reason, record) end
  if is_last then
    redis.call('HDEL', P .. 'Online', client)
    stir_all(client)
    depart(client, how)
  end
  if topic then tell(topic, text) end
  return 1
end
