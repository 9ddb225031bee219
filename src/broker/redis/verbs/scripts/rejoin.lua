-- ARGV: prefix, events to keep, then clients that are online. Joins each to the channels that were left when its node was
-- taken for dead. Returns for how many of them that is done.
keep_events(tonumber(ARGV[2]), '')
for i = 3, #ARGV do
  local client = ARGV[i]
  local own, left = P .. 'Client' .. client, P .. 'Left' .. client
  if not is_online(client) then
    redis.call('UNLINK', left)
  else
    local channels = redis.call('HRANDFIELD', left, budget)
    for _, channel in ipairs(channels) do
      budget = budget - 1
      if redis.call('HSETNX', P .. 'Chan' .. channel, client, '0') == 1 then
        redis.call('HSET', own, channel, '0')
        redis.call('HINCRBY', P .. 'ListChan', channel, 1)
        came(client, channel)
        stir(channel)
      end
      redis.call('HDEL', left, channel)
    end
    changed(client)
    if redis.call('EXISTS', left) == 1 then return i - 3 end
  end
  budget = budget - 1
  if budget <= 0 then return i - 2 end
end
return #ARGV - 2
