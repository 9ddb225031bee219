-- KEYS: sessions. ARGV: ended key prefix. Returns the sessions that were ended.
local ended = {}
for _, session in ipairs(redis.call('HKEYS', KEYS[1])) do
  if redis.call('EXISTS', ARGV[1] .. session) == 1 then ended[#ended + 1] = session end
end
return ended
