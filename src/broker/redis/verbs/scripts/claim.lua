-- KEYS: request. ARGV: claim, life in ms. Returns what is there already. (`SET` with both NX and GET
-- needs Redis 7.)
local there = redis.call('GET', KEYS[1])
if not there then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
return there
