-- Marks channels whose rosters may have changed, in the step that changes that: `rosters.lua` looks at them. P is the prefix of all
-- keys. A right that is missing costs the mark, nothing else.

-- A member came or went.
local function stir(channel)
  if redis.pcall('HEXISTS', P .. 'RosterStates', channel) == 1 then
    redis.pcall('ZADD', P .. 'RostersDue', 0, channel)
  end
end

-- Whether any channel has a roster, asked once a run.
local some_rosters

-- The client came online, or went.
local function stir_all(client)
  if some_rosters == nil then some_rosters = redis.pcall('EXISTS', P .. 'RosterStates') == 1 end
  if not some_rosters then return end
  for _, channel in ipairs(redis.call('HKEYS', P .. 'Client' .. client)) do stir(channel) end
end
