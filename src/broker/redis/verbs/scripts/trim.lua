-- Trims a stream, whose last entry `id` is and which holds `sum`, counted from its beginning: bytes of the log, or events.
--
-- By age to the entry, by the sum in steps of a 64th: the places where it was trimmed before, with the sum there, are
-- noted in the head. The first of them is that up to which everything is gone. Never the last entry.
local function trim(head, stream, key, id, sum, age, limit)
  local steps, from = {}, 1
  for at, bytes in string.gmatch(redis.call('HGET', head, 'Steps' .. stream) or '0:0', '(%d+):(%d+)') do
    steps[#steps + 1] = {tonumber(at), tonumber(bytes)}
  end
  local oldest = id - age
  while steps[from + 1] and (steps[from + 1][1] < oldest or sum - steps[from][2] > limit * 62 / 64) do
    from = from + 1
  end
  local floor = math.min(math.max(oldest, steps[from][1] + 1), id)
  redis.pcall('XTRIM', key, 'MINID', string.format('%.0f', floor))
  local left = {}
  for i = from, #steps do left[#left + 1] = string.format('%.0f:%.0f', steps[i][1], steps[i][2]) end
  left[#left + 1] = string.format('%.0f:%.0f', id, sum)
  redis.pcall('HSET', head, 'Steps' .. stream, table.concat(left, ' '))
end
