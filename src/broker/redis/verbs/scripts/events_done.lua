-- KEYS: none. ARGV: prefix, group, how many missed ones were told, then ids. What is named here is done. Returns 0 if there is
-- no such group.
--
-- The entry of an event is the first that is pending from its number on. It is acknowledged with the last of its events.
local key, group, missed = P .. 'Events', ARGV[2], tonumber(ARGV[3])
local given_key = P .. 'EventsGiven' .. group
local entry, first, marks
if redis.pcall('XPENDING', key, group).err then return 0 end

local function put_away()
  if not entry then return end
  if string.find(marks, '.', 1, true) then
    redis.call('HSET', given_key, entry, marks)
  else
    redis.call('XACK', key, group, entry)
    redis.call('HDEL', given_key, entry)
  end
  entry = nil
end

for i = 4, #ARGV do
  local serial = tonumber(string.match(ARGV[i], '^%d+%-(%d+)$') or 0)
  if not entry or serial < first or serial >= first + #marks then
    put_away()
    local pending = redis.pcall('XPENDING', key, group, ARGV[i], '+', 1)[1]
    if pending then
      entry = pending[1]
      marks = redis.call('HGET', given_key, entry) or '.'
      first = tonumber(string.match(entry, '%d+$')) - #marks + 1
    end
  end
  local place = entry and serial - first + 1 or 0
  if place >= 1 and place <= #marks then
    marks = string.sub(marks, 1, place - 1) .. 'x' .. string.sub(marks, place + 1)
  end
end
put_away()
if missed > 0 then
  if redis.call('HINCRBY', P .. 'EventsMissed', group, -missed) <= 0 then redis.call('HDEL', P .. 'EventsMissed', group) end
  redis.call('DEL', P .. 'EventsTeller' .. group)
end
return 1
