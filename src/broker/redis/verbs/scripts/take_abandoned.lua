-- ARGV: prefix, session, number of the last report that was acknowledged, a session that was abandoned, number in the log
-- behind which that of this node has all that is for its clients, connections. Moves those of them that the other session has
-- to this one, as they are. Returns those that are with this one, or below 1 as `renew`.
--
-- One that is here already was moved by a call whose answer was lost, if it is marked as moved; else it is another.
local session, abandoned, taken = ARGV[2], ARGV[4], {}
if redis.call('EXISTS', P .. 'Ended' .. session) == 1 then return -1 end
local value = redis.call('HGET', P .. 'Sessions', session)
if not value or tonumber(string.match(value, '^%d+')) < tonumber(ARGV[3]) then return -2 end
local how = redis.call('GET', P .. 'Ended' .. abandoned)
local can = how == 'lapsed' or how == 'loud'
local from_key, to_key = P .. 'Connections' .. abandoned, P .. 'Connections' .. session
for i = 6, #ARGV do
  local number = ARGV[i]
  local record = can and redis.call('HGET', from_key, number)
  local is_here = redis.call('HEXISTS', to_key, number) == 1
  if record and not is_here then
    move(number, record, abandoned, session, ARGV[5])
    taken[#taken + 1] = number
  elseif not record and is_here and redis.call('HEXISTS', P .. 'Moved' .. session, number) == 1 then
    taken[#taken + 1] = number
  end
end
if #taken > 0 then all_moved(session) end
return taken
