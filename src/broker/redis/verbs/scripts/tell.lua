-- Tells an event, in the same step in which it happens.
local function tell(topic, text) redis.call('PUBLISH', topic, text) end
