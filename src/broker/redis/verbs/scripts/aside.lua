-- As `tell` and `changed`, where no script may publish: what is to be told waits in a list until a node has published it.
local function tell(topic, text) redis.call('RPUSH', P .. 'Untold', topic, text) end
local function changed(client) tell(P .. 'Server?', client) end
