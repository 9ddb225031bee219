-- KEYS: none. ARGV: prefix. Returns for each group: name, how many events it was not given yet, how many it was and has not
-- acknowledged, how many were trimmed unread, when the oldest of these happened in ms or nothing, then its consumers, each
-- with how many it has not acknowledged and for how many ms it has not asked.
local key, groups = P .. 'Events', {}
if redis.call('EXISTS', key) == 0 then return groups end
local function pairs_of(list)
  local known = {}
  for i = 1, #list, 2 do known[list[i]] = list[i + 1] end
  return known
end
local function serial(id) return tonumber(string.match(id, '%d+$')) end
local newest = redis.call('HGET', P .. 'EventsHead', 'last') or '0-0'
for _, info in ipairs(redis.call('XINFO', 'GROUPS', key)) do
  local group = pairs_of(info)
  local given_key = P .. 'EventsGiven' .. group.name
  local last, sum, of, readers = group['last-delivered-id'], 0, {}, {}
  local pending = redis.call('XPENDING', key, group.name, '-', '+', 10000)
  for _, row in ipairs(pending) do
    local marks = redis.call('HGET', given_key, row[1]) or '.'
    local _, waiting = string.gsub(marks, '%.', '')
    sum, of[row[2]] = sum + waiting, (of[row[2]] or 0) + waiting
  end
  for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', key, group.name)) do
    local known = pairs_of(consumer)
    readers[#readers + 1] = {known.name, of[known.name] or 0, known.idle}
  end
  local waiting, missed = math.max(serial(newest) - serial(last), 0), tonumber(redis.call('HGET', P .. 'EventsMissed', group.name) or 0)
  local first = redis.call('XRANGE', key, '(' .. last, '+', 'COUNT', 1)[1]
  if first then
    local trimmed = math.max(serial(first[1]) - (tonumber(first[2][6]) or 1) - serial(last), 0)
    waiting, missed = waiting - trimmed, missed + trimmed
  end
  local oldest = pending[1] and redis.call('XRANGE', key, pending[1][1], '+', 'COUNT', 1)[1] or first
  groups[#groups + 1] = {group.name, string.format('%.0f', waiting), sum, string.format('%.0f', missed),
    oldest and oldest[2][4] or '', readers}
end
return groups
