-- Remembers which messages are settled, as long as the log has them: `last` is the highest number of these messages, `all`
-- says all of them. `by` is who tells of them, and `number` that of its telling, which only rises.
--
-- Returns whether that was done before, or something later by the same, and else why it is not remembered (or nil).
-- Now and then forgets the oldest entries, if their messages are gone: what `prev` of the log's first entry says. A
-- log that is gone takes all with it, but never the newest: it says what was told last.
local function settle(node, all, last, by, number)
  local key = P .. 'Settled' .. node
  local newest = redis.pcall('XREVRANGE', key, '+', '-', 'COUNT', 1)
  local teller, told = string.match(newest[1] and newest[1][2][6] or '', '^(%S+) (%d+)$')
  if teller == by and tonumber(told) >= tonumber(number) then return true end
  local added = redis.pcall('XADD', key, '*', 'last', last, 'all', all, 'by', by .. ' ' .. number)
  if type(added) == 'table' and added.err then return false, added end
  local count = redis.pcall('XLEN', key)
  if type(count) == 'number' and count % 64 == 1 then
    redis.pcall('EXPIRE', key, 604800)
    local first = redis.pcall('XRANGE', P .. 'LogOf' .. node, '-', '+', 'COUNT', 1)
    local floor = first[1] and first[1][2][1] == 'prev' and tonumber(first[1][2][2]) or math.huge
    local oldest = redis.pcall('XRANGE', key, '-', '+', 'COUNT', 256)
    local gone = {'XDEL', key}
    for _, entry in ipairs(oldest) do
      if entry[1] == added or tonumber(entry[2][2]) > floor then break end
      gone[#gone + 1] = entry[1]
    end
    if gone[3] then redis.pcall(unpack(gone)) end
  end
  return false
end
