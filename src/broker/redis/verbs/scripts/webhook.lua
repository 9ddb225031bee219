-- KEYS: none. ARGV: prefix, what to do, then what that needs. Everything about webhooks but the turn.
local state_key, turn_key = P .. 'Webhook', P .. 'WebhookTurn'
local dead_key, bodies_key, replay_key = P .. 'WebhookDead', P .. 'WebhookBodies', P .. 'WebhookReplay'
local verb, who, what = ARGV[2], ARGV[3], ARGV[4]

local function has_turn() return redis.call('GET', turn_key) == who end

local function now()
  local time = redis.call('TIME')
  return string.format('%.0f', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
end

local function forget(id)
  redis.call('HDEL', bodies_key, id)
  redis.call('ZREM', replay_key, id)
  return redis.call('HDEL', dead_key, id)
end

-- The letters that are named; all, if none is.
local function named()
  if #ARGV == 2 then return redis.call('HKEYS', dead_key) end
  local ids = {}
  for i = 3, #ARGV do
    if redis.call('HEXISTS', dead_key, ARGV[i]) == 1 then ids[#ids + 1] = ARGV[i] end
  end
  return ids
end

if verb == 'release' then
  if has_turn() then redis.call('DEL', turn_key) end
elseif verb == 'failed' then
  if has_turn() then
    redis.call('HINCRBY', state_key, 'failures', 1)
    redis.call('HSETNX', state_key, 'failing_ms', now())
    redis.call('HSET', state_key, 'failure', what, 'failure_ms', now())
  end
elseif verb == 'succeeded' then
  if has_turn() then
    redis.call('HSET', state_key, 'failures', 0, 'success_ms', now())
    redis.call('HDEL', state_key, 'failing_ms')
  end
elseif verb == 'off' then
  redis.call('HSET', state_key, 'off', what, 'off_ms', now())
elseif verb == 'on' then
  redis.call('HDEL', state_key, 'off', 'off_ms')
elseif verb == 'bury' then
  -- Most letters, id, what is known of it, body.
  redis.call('HSET', dead_key, ARGV[4], now() .. ' ' .. ARGV[5])
  redis.call('HSET', bodies_key, ARGV[4], ARGV[6])
  if redis.call('HLEN', dead_key) > tonumber(ARGV[3]) then
    local ids = redis.call('HKEYS', dead_key)
    table.sort(ids)
    for i = 1, #ids - tonumber(ARGV[3]) do
      redis.call('HINCRBY', state_key, 'dropped', forget(ids[i]))
    end
  end
elseif verb == 'replay' then
  local ids = named()
  for _, id in ipairs(ids) do redis.call('ZADD', replay_key, 0, id) end
  return #ids
elseif verb == 'spare' then
  redis.call('ZREM', replay_key, who)
elseif verb == 'discard' then
  local ids = named()
  for _, id in ipairs(ids) do forget(id) end
  return #ids
end
return 0
