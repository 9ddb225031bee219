-- Tells nodes that hear of it in no other way that the channels of a client have changed, in the same step: whatever is
-- published later comes behind. P is the prefix of all keys. Where that is refused nothing fails, and it is `untold`.
local untold
local function changed(client)
  if type(redis.pcall('PUBLISH', P .. 'Server?', client)) == 'table' then untold = true end
end
