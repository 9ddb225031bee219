-- KEYS: sessions. ARGV: lease key prefix, ended key prefix. Returns the sessions that nobody has ended and
-- whose lease is not there.
local lapsed = {}
for _, session in ipairs(redis.call('HKEYS', KEYS[1])) do
  if redis.call('EXISTS', ARGV[1] .. session, ARGV[2] .. session) == 0 then
    lapsed[#lapsed + 1] = session
  end
end
return lapsed
