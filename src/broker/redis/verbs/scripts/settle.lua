-- Remembers which messages are settled, as long as the log has them. KEYS: none. ARGV: prefix, node, highest number of
-- these messages, all of them.
--
-- Now and then forgets the oldest entries, if their messages are gone: what `prev` of the log's first entry says. A
-- log that is gone takes all with it.
local key = P .. 'Settled' .. ARGV[2]
redis.call('XADD', key, '*', 'last', ARGV[3], 'all', ARGV[4])
local count = redis.call('XLEN', key)
if count % 64 == 1 then
  redis.call('EXPIRE', key, 604800)
  local first = redis.pcall('XRANGE', P .. 'LogOf' .. ARGV[2], '-', '+', 'COUNT', 1)
  local floor = first[1] and first[1][2][1] == 'prev' and tonumber(first[1][2][2]) or math.huge
  local oldest = redis.call('XRANGE', key, '-', '+', 'COUNT', 256)
  local gone = {'XDEL', key}
  for _, entry in ipairs(oldest) do
    if tonumber(entry[2][2]) > floor then break end
    gone[#gone + 1] = entry[1]
  end
  if gone[3] then redis.call(unpack(gone)) end
end
return 1
