-- The clock of all scripts that give a client time. P is the prefix of all keys.

-- Milliseconds that a client has to come, if it is known to be coming.
local GRACE = 10000

-- Milliseconds that pass only while somebody asks, 5 s at once at most: neither a step of Redis's clock
-- nor an outage of all nodes makes anybody late.
local now
local function clock()
  if now then return now end
  local time = redis.call('TIME')
  local real = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  local known = redis.call('HMGET', P .. 'Grace', 'at', 'now')
  local passed = real - (tonumber(known[1] or '') or 0)
  now = (tonumber(known[2] or '') or 0) + math.min(math.max(passed, 0), 5000)
  if passed < 0 or passed >= 250 then
    redis.call('HSET', P .. 'Grace', 'at', string.format('%.0f', real), 'now', string.format('%.0f', now))
  end
  return now
end

-- Milliseconds for which the clients of a session that has ended are away, counted from the first look on.
local function away(session)
  local since = redis.call('GET', P .. 'Away' .. session)
  if not since then
    since = string.format('%.0f', clock())
    redis.call('SET', P .. 'Away' .. session, since, 'EX', 172800)
  end
  return clock() - tonumber(since)
end
