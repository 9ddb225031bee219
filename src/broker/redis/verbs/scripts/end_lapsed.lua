-- KEYS: sessions. ARGV: lease key prefix, ended key prefix, life of an end in s, prefix, events to keep, then
-- sessions. Ends those
-- that are still as `lapsed` has found them, and returns them.
local ended = {}
for i = 6, #ARGV do
  local session = ARGV[i]
  if redis.call('HEXISTS', KEYS[1], session) == 1
      and redis.call('EXISTS', ARGV[1] .. session, ARGV[2] .. session) == 0 then
    redis.call('SET', ARGV[2] .. session, 'lapsed', 'EX', ARGV[3])
    keep_events(tonumber(ARGV[5]), session)
    event('node_died', nil, '', '', '')
    ended[#ended + 1] = session
  end
end
append_events()
return ended
