-- KEYS: none. ARGV: prefix, session, number of the last report that was acknowledged, node to hand over to, number in the log
-- behind which that node's has all that is for them, parcel, then connections. Moves those of them that the session has to
-- that of the node, as they are, and leaves the parcel for it, unless it has none of those that are named: then it is done.
-- Returns 1, below 1 as `renew`, 0 if nobody lives as that node, or a list of numbers that it has of others.
local session, sessions = ARGV[2], P .. 'Sessions'
if redis.call('EXISTS', P .. 'Ended' .. session) == 1 then return -1 end
local value = redis.call('HGET', sessions, session)
if not value or tonumber(string.match(value, '^%d+')) < tonumber(ARGV[3]) then return -2 end
local to
local all = redis.call('HGETALL', sessions)
for i = 1, #all, 2 do
  local other = all[i]
  if string.sub(all[i + 1], (string.find(all[i + 1], ' ', 1, true) or 0) + 1) == ARGV[4]
      and redis.call('EXISTS', P .. 'Ended' .. other) == 0 and redis.call('EXISTS', P .. 'Lease' .. other) == 1 then
    to = other
  end
end
if not to or to == session then return 0 end

local from_key, to_key = P .. 'Connections' .. session, P .. 'Connections' .. to
local here, taken = {}, {}
for i = 7, #ARGV do
  local record = redis.call('HGET', from_key, ARGV[i])
  if record then
    here[#here + 1] = {ARGV[i], record}
    if redis.call('HEXISTS', to_key, ARGV[i]) == 1 then taken[#taken + 1] = ARGV[i] end
  end
end
if #taken > 0 then return taken end
if #here == 0 and #ARGV > 6 then return 1 end
for _, connection in ipairs(here) do move(connection[1], connection[2], session, to, ARGV[5]) end
if #here > 0 then all_moved(to) end
redis.call('RPUSH', P .. 'Parcels' .. to, ARGV[6])
redis.call('EXPIRE', P .. 'Parcels' .. to, 3600)
return 1
