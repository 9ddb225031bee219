-- ARGV: prefix, channel, 1 for on and 0 for off, name of an epoch that begins if there is none. Switches a roster on or off; its keys
-- are described in `rosters.lua`.
local channel, states, head = ARGV[2], P .. 'RosterStates', P .. 'RostersHead'
local is_on = redis.call('HEXISTS', states, channel) == 1
if is_on == (ARGV[3] == '1') then return 1 end
redis.call('HSETNX', head, 'epoch', ARGV[4])
if ARGV[3] == '1' then
  redis.call('HSET', states, channel, '')
  redis.call('ZADD', P .. 'RostersDue', 0, channel)
else
  redis.call('HDEL', states, channel)
  redis.call('HDEL', P .. 'RosterLooks', channel)
  redis.call('HDEL', P .. 'RosterSteps', channel)
  redis.call('ZREM', P .. 'RostersDue', channel)
end
local time = redis.call('TIME')
local last = tonumber(redis.call('HGET', head, 'version') or '') or 0
local version = string.format('%.0f', math.max(last + 1, tonumber(time[1]) * 1000000 + tonumber(time[2])))
redis.call('HSET', head, 'version', version)
redis.call('ZADD', P .. 'Rosters', version, channel)
return 1
