-- ARGV: prefix, events to keep. Ends memberships whose time has come. Returns 1 if there are more.
--
-- `Leaving` holds until when a client may come: by the clock above, or 0 for what was too much for one
-- run, -1 for the same of a client whose node was taken for dead.
-- `Absent` holds the life of memberships of clients that were not online when they were joined; it begins
-- here, unless an earlier end is known.
keep_events(tonumber(ARGV[2]), '')
look_at_channels(250)
local absent = redis.call('HRANDFIELD', P .. 'Absent', 100, 'WITHVALUES')
for i = 1, #absent, 2 do
  if not is_online(absent[i]) then
    redis.call('ZADD', P .. 'Leaving', 'NX', clock() + tonumber(absent[i + 1]), absent[i])
  end
  redis.call('HDEL', P .. 'Absent', absent[i])
end
local due = redis.call('ZRANGEBYSCORE', P .. 'Leaving', '-inf', clock(), 'WITHSCORES', 'LIMIT', 0, 100)
for i = 1, #due, 2 do
  local client, lapsed = due[i], tonumber(due[i + 1]) < 0
  local own, kept, left = P .. 'Client' .. client, P .. 'Kept' .. client, P .. 'Left' .. client
  if budget <= 0 then
    return 1
  elseif is_online(client) then
    stays(client)
  elseif is_coming(client) then
    redis.call('ZADD', P .. 'Leaving', clock() + GRACE, client)
  else
    local spared = redis.call('SCARD', kept)
    local asked = budget + spared
    local channels = redis.call('HRANDFIELD', own, asked)
    for _, channel in ipairs(channels) do
      if spared == 0 or redis.call('SISMEMBER', kept, channel) == 0 then
        leave(client, channel)
        redis.call('HDEL', own, channel)
        if lapsed then redis.call('HSET', left, channel, '0') end
      end
    end
    changed(client)
    if lapsed then redis.call('EXPIRE', left, LEFT_LIFE) end
    if #channels < asked then
      -- What the business has joined it to meanwhile begins a life of its own.
      local life = redis.call('PTTL', kept)
      stays(client)
      if life > 0 and redis.call('EXISTS', own) == 1 then
        redis.call('ZADD', P .. 'Leaving', clock() + life, client)
      end
    end
  end
  budget = budget - 1
end
return (budget <= 0 or #due == 200 or #absent == 200) and 1 or 0
