-- ARGV: prefix. Returns four texts for each session that has ended with connections left, while its node has not come back:
-- its id, its node, for how many milliseconds its clients are away, counted from the first look on, and what `Resume` says.
local found = {}
local all = redis.call('HGETALL', P .. 'Sessions')
for i = 1, #all, 2 do
  local session, how = all[i], redis.call('GET', P .. 'Ended' .. all[i])
  local resume = (how == 'lapsed' or how == 'loud') and redis.call('GET', P .. 'Resume' .. session)
  if resume and redis.call('EXISTS', P .. 'Connections' .. session) == 1 then
    local node = string.sub(all[i + 1], (string.find(all[i + 1], ' ', 1, true) or 0) + 1)
    for _, text in ipairs({session, node, string.format('%.0f', away(session)), resume}) do
      found[#found + 1] = text
    end
  end
end
return found
