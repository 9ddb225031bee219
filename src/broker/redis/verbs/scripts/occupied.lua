-- Whether a channel has members, told as events, in the step that changes that. Behind `event`.
--
-- `Occupied` holds the channels of which that was told last, so that each is told in turn, whoever comes and goes without
-- a word: .NET helpers, whom a node's look finds out. A right that is missing costs the event, nothing else.
local occupied = P .. 'Occupied'

local function is_occupied(channel) return redis.pcall('EXISTS', P .. 'Chan' .. channel) == 1 end

local function told(what, client, channel) event(what, nil, '', '', client .. ' ' .. channel) end

-- The client became a member.
local function came(client, channel)
  if redis.pcall('HLEN', P .. 'Chan' .. channel) == 1 and are_kept() and redis.pcall('SADD', occupied, channel) == 1 then
    told('occupied', client, channel)
  end
end

-- The client is a member no more.
local function went(client, channel)
  if not is_occupied(channel) and are_kept() and redis.pcall('SREM', occupied, channel) == 1 then
    told('vacated', client, channel)
  end
end

-- Looks at so many of all channels, from where the last look has ended.
local function look_at_channels(count)
  if not are_kept() then return end
  redis.pcall('SET', P .. 'EventsKept', events_kept, 'EX', 60)
  -- Where no events are kept any more, it goes by itself.
  redis.pcall('EXPIRE', occupied, 604800)
  local from = redis.call('HMGET', event_head, 'listed', 'told')
  local function walk(command, key, cursor, field)
    local found = redis.pcall(command, key, cursor or '0', 'COUNT', count)
    if found.err then return {} end
    if found[1] ~= (cursor or '0') then redis.pcall('HSET', event_head, field, found[1]) end
    return found[2]
  end
  local listed = walk('HSCAN', P .. 'ListChan', from[1], 'listed')
  for i = 1, #listed, 2 do
    local channel = listed[i]
    if channel ~= '' and is_occupied(channel) and redis.pcall('SADD', occupied, channel) == 1 then
      told('occupied', '', channel)
    end
  end
  for _, channel in ipairs(walk('SSCAN', occupied, from[2], 'told')) do
    if not is_occupied(channel) and redis.pcall('SREM', occupied, channel) == 1 then told('vacated', '', channel) end
  end
end
