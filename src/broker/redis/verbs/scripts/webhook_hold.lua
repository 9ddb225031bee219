-- KEYS: none. ARGV: prefix, who wants the turn, for how many ms. Returns: 1 if it has it, 1 if delivery is off, 1 if a letter is to
-- be delivered once more, ms since 1970.
local turn_key, state_key = P .. 'WebhookTurn', P .. 'Webhook'
local holder = redis.call('GET', turn_key)
local held = (not holder or holder == ARGV[2]) and 1 or 0
if held == 1 then
  redis.call('SET', turn_key, ARGV[2], 'PX', ARGV[3])
  -- That there is one at all.
  redis.call('HSETNX', state_key, 'failures', 0)
end
local time = redis.call('TIME')
local ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
return {held, redis.call('HEXISTS', state_key, 'off'), redis.call('ZCARD', P .. 'WebhookReplay') > 0 and 1 or 0, ms}
