-- KEYS: none. ARGV: prefix, group, consumer. The consumer reads no more. What it has not acknowledged stays, for others.
--
-- Those that have died go as well, an hour after, once nothing of theirs is left.
local key, group = P .. 'Events', ARGV[2]
for _, info in ipairs(redis.call('XINFO', 'CONSUMERS', key, group)) do
  local known = {}
  for i = 1, #info, 2 do known[info[i]] = info[i + 1] end
  if known.pending == 0 and (known.name == ARGV[3] or known.idle > 3600000) then
    redis.call('XGROUP', 'DELCONSUMER', key, group, known.name)
  end
end
return 1
