-- KEYS: connections. ARGV: cursor, how many to look at, client and a blank. Returns the next cursor, then
-- number and record of each connection of that client.
--
-- One step of a walk: what does not match stays in Redis, and Redis serves others between two steps.
local step = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
local found, fields = {step[1]}, step[2]
for i = 1, #fields, 2 do
  if string.sub(fields[i + 1], 1, #ARGV[3]) == ARGV[3] then
    found[#found + 1] = fields[i]
    found[#found + 1] = fields[i + 1]
  end
end
return found
