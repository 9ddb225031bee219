-- ARGV: prefix, epoch and version that the caller knows, from how many on nobody is named, how many to return. Looks at rosters that
-- may have changed, and returns epoch, version, 1 if there is more at once, then channels and states of those that have changed since;
-- an empty state of those that have no roster any more. Nothing behind the epoch if there never was one.
--
-- `RosterStates`, hash: channel that has a roster -> how many members are online, and who, blanks between; empty before the first look.
-- `Rosters`, sorted set: channel -> version of that. Versions grow, over a loss of all data too: microseconds of Redis's clock, or the
-- one after the last. One that was switched off stays for a minute.
-- `RostersDue`, sorted set: channel that may have changed -> from when on to look, in ms; 0 at once; 1 while it is looked at.
-- `RosterLooks`, hash: channel -> when it was looked at, in ms, and since when it has no members, in s, or 0.
-- `RosterSteps`, hash: large channel that is being looked at -> cursor, how many were online so far, and who, if these are few.
-- `RostersHead`, hash: `epoch`, `version`, `walk`: how far the look at all of them is.
local listed, states, due, looks = P .. 'Rosters', P .. 'RosterStates', P .. 'RostersDue', P .. 'RosterLooks'
local steps, head, online = P .. 'RosterSteps', P .. 'RostersHead', P .. 'Online'
local known = redis.call('HMGET', head, 'epoch', 'version', 'walk')
if not known[1] then return {''} end
local names, limit = tonumber(ARGV[4]), tonumber(ARGV[5])
local time = redis.call('TIME')
local seconds, micros = tonumber(time[1]), tonumber(time[2])
local now, version = seconds * 1000 + math.floor(micros / 1000), tonumber(known[2] or '') or 0
-- Members that one run may look at: some milliseconds. And those of one channel.
local budget, STEP = 4000, 1000
local more = false

local function changed(channel)
  version = math.max(version + 1, seconds * 1000000 + micros)
  redis.call('ZADD', listed, string.format('%.0f', version), channel)
end

-- Adds those of `members` who are online to `here`.
local function pick(members, here)
  budget = budget - #members - 10
  if #members == 0 then return end
  for i, count in ipairs(redis.call('HMGET', online, unpack(members))) do
    if (tonumber(count or '') or 0) > 0 then here[#here + 1] = members[i] end
  end
end

-- The members that are online, as a state; nothing if there are more to look at. Of many, some may come and go between two steps:
-- that is marked, and looked at again.
local function present(channel, key, size)
  local here = {}
  if size <= STEP then
    pick(redis.call('HKEYS', key), here)
  else
    local cursor, count, before = string.match(redis.call('HGET', steps, channel) or '0 0', '^(%d+) (%d+)(.*)$')
    if before then for name in string.gmatch(before, '%S+') do here[#here + 1] = name end end
    local unnamed = tonumber(count) - #here
    local part, members = redis.call('HSCAN', key, cursor, 'COUNT', STEP), {}
    for i = 1, #part[2], 2 do
      members[#members + 1] = part[2][i]
      if #members == STEP then
        pick(members, here)
        members = {}
      end
    end
    pick(members, here)
    local total = unnamed + #here
    if total >= names then here = {} end
    if part[1] ~= '0' then
      redis.call('HSET', steps, channel, part[1] .. ' ' .. string.format('%.0f', total) .. ' ' .. table.concat(here, ' '))
      return
    end
    redis.call('HDEL', steps, channel)
    if total >= names then return string.format('%.0f', total) end
  end
  if #here >= names then return tostring(#here) end
  table.sort(here)
  local each = {''}
  for i, name in ipairs(here) do
    -- A walk may show one twice.
    if name ~= here[i - 1] then each[#each + 1] = name end
  end
  each[1] = tostring(#each - 1)
  return table.concat(each, ' ')
end

-- Looks at a channel, or goes on with that; not if it was done a moment ago: so many ms, and one more for each `share` members.
local function look(channel, pause, share)
  local state = redis.call('HGET', states, channel)
  if not state then
    redis.call('HDEL', steps, channel)
    return redis.call('ZREM', due, channel)
  end
  local key = P .. 'Chan' .. channel
  local size = redis.pcall('HLEN', key)
  if type(size) ~= 'number' then size = 0 end
  local at, empty = string.match(redis.call('HGET', looks, channel) or '', '^(%d+) (%d+)$')
  at, empty = tonumber(at or 0), tonumber(empty or 0)
  local is_begun = redis.call('HEXISTS', steps, channel) == 1
  local from = at + pause + math.floor(size / share)
  -- A clock that went back makes nobody wait.
  if not is_begun and at <= now and now < from then return redis.call('ZADD', due, 'XX', from, channel) end
  if not is_begun then redis.call('ZADD', due, 1, channel) end
  local seen = size > 0 and present(channel, key, size) or size == 0 and '0'
  if not seen then
    more = true
    return
  end
  if seen ~= state then
    redis.call('HSET', states, channel, seen)
    changed(channel)
  end
  if size > 0 then empty = 0 elseif empty == 0 then empty = seconds end
  -- It was marked once more meanwhile.
  if redis.call('ZSCORE', due, channel) == '0' then
    redis.call('ZADD', due, now, channel)
  else
    redis.call('ZREM', due, channel)
  end
  if empty > 0 and seconds - empty > 86400 then
    redis.call('HDEL', states, channel)
    redis.call('HDEL', looks, channel)
    return changed(channel)
  end
  redis.call('HSET', looks, channel, string.format('%.0f %.0f', now, empty))
end

local found = redis.call('ZRANGEBYSCORE', due, '-inf', now, 'LIMIT', 0, 200)
if #found == 200 then more = true end
for _, channel in ipairs(found) do
  if budget <= 0 then
    more = true
    break
  end
  look(channel, 900, 5)
end

-- What nobody has marked is found by walking through all of them, a few at a time.
budget = math.min(budget, 2000)
local place = tonumber(known[3] or '') or 0
if place >= redis.call('ZCARD', listed) then place = 0 end
local walked = redis.call('ZRANGE', listed, place, place + 19, 'WITHSCORES')
for i = 1, #walked, 2 do
  if budget <= 0 then break end
  place = place + 1
  local channel, since = walked[i], tonumber(walked[i + 1])
  if redis.call('HEXISTS', states, channel) == 1 then
    look(channel, 2000, 1)
  elseif seconds - since / 1000000 > 60 then
    redis.call('ZREM', listed, channel)
  end
end

if tostring(place) ~= known[3] or version ~= tonumber(known[2] or '') then
  redis.call('HSET', head, 'walk', place, 'version', string.format('%.0f', version))
end
local after = known[1] == ARGV[2] and ARGV[3] or '0'
local news = redis.call('ZRANGEBYSCORE', listed, '(' .. after, '+inf', 'WITHSCORES', 'LIMIT', 0, limit)
local is_part = #news == 2 * limit
local answer = {known[1], is_part and news[#news] or string.format('%.0f', version), (is_part or more) and 1 or 0}
for i = 1, #news, 2 do
  local state = redis.call('HGET', states, news[i])
  -- One that nobody has looked at is told when somebody has.
  if state ~= '' then
    answer[#answer + 1] = news[i]
    answer[#answer + 1] = state or ''
  end
end
return answer
