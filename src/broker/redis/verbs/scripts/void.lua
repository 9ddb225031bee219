-- ARGV: prefix, client. Its tickets that are out are good no more.
local key = P .. 'Coming' .. ARGV[2]
for _, member in ipairs(redis.call('ZRANGE', key, 0, -1)) do
  if string.sub(member, 1, 1) ~= '~' then
    redis.call('DEL', P .. 'Token' .. member)
    redis.call('ZREM', key, member)
  end
end
return 1
