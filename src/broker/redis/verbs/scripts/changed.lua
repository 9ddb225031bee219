-- Tells nodes that hear of it in no other way that the channels of a client have changed, in the same step: whatever is
-- published later comes behind. P is the prefix of all keys. Without the right to it nothing is told, and nothing fails.
local function changed(client) redis.pcall('PUBLISH', P .. 'Server?', client) end
