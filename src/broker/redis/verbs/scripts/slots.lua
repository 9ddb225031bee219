-- KEYS: none. ARGV: prefix, session that makes the change (or ''), its node, version that the table must have, a node that must
-- be alive (or ''), one that must not (or ''), what nodes are told, number of their topics, the topics; then fields of the
-- table and what becomes of them, '' to take one out. Returns 1 if it was changed.
local key, sessions = P .. 'Slots', P .. 'Sessions'
if (redis.call('HGET', key, 'version') or '0') ~= ARGV[4] then return 0 end

local session, node, alive, dead = ARGV[2], ARGV[3], ARGV[5], ARGV[6]
if session ~= '' then
  local value = redis.call('HGET', sessions, session)
  if not value or string.match(value, ' (.*)$') ~= node then return 0 end
  if redis.call('EXISTS', P .. 'Lease' .. session) == 0 or redis.call('EXISTS', P .. 'Ended' .. session) == 1 then return 0 end
end
if alive ~= '' or dead ~= '' then
  local lives, all = {}, redis.call('HGETALL', sessions)
  for i = 1, #all, 2 do
    local name = string.match(all[i + 1], ' (.*)$')
    if (name == alive or name == dead) and redis.call('EXISTS', P .. 'Ended' .. all[i]) == 0 then lives[name] = true end
  end
  if alive ~= '' and not lives[alive] or dead ~= '' and lives[dead] then return 0 end
end

local topics = tonumber(ARGV[8])
for i = 9 + topics, #ARGV, 2 do
  if ARGV[i + 1] == '' then redis.call('HDEL', key, ARGV[i]) else redis.call('HSET', key, ARGV[i], ARGV[i + 1]) end
end
-- What is logged before it has a lower number, what is logged behind it a higher one, on all nodes.
local notice, log = ARGV[7], redis.call('HMGET', P .. 'LogHead', 'epoch', 'last', 'whole')
if log[1] and log[3] then
  local time = redis.call('TIME')
  local number = string.format('%.0f',
    math.max(tonumber(log[2] or 0), tonumber(time[1]) * 1000000 + tonumber(time[2]) - 1) + 1)
  local said = redis.pcall('HSET', P .. 'LogHead', 'last', number)
  if type(said) == 'number' then notice = number .. '|' .. notice end
end
for i = 9, 8 + topics do tell(ARGV[i], notice) end
return 1
