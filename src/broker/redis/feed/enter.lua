-- A node's feed looks at the log, before it reads there. KEYS: none. ARGV: prefix, node, which Redis this is, epoch to
-- begin with if that is needed, epoch that is known to be wrong, microseconds and bytes that a stream is to keep, 1 if it
-- goes on from a former process.
-- Returns: epoch (nil: there is none and none can be begun), last number, number above which everything is logged
-- (nil: not even that which comes), what the head says of the node's stream and of that for all, the node's witness,
-- number up to which something was published that no log has, which its sender told later.
--
-- Redis may have lost what it wrote last whenever it is not the same process any more: nobody can tell, so another
-- epoch begins. What is in the streams stays: it was sent.
local head = P .. 'LogHead'
local known = redis.call('HMGET', head, 'epoch', 'last', 'whole', 'run', 'Of' .. ARGV[2], 'All', 'Seen' .. ARGV[2],
  'noted', 'age', 'bytes', 'Plain' .. ARGV[2])
local epoch, last, whole = known[1], known[2], known[3]
if not epoch or known[4] ~= ARGV[3] or epoch == ARGV[5] then
  epoch, whole = ARGV[4], last or '0'
  local said = redis.pcall('HSET', head, 'run', ARGV[3], 'epoch', epoch, 'whole', whole, 'begun', whole)
  if type(said) == 'table' and said.err then epoch, whole = known[1], false end
end
if known[9] ~= ARGV[6] or known[10] ~= ARGV[7] then redis.pcall('HSET', head, 'age', ARGV[6], 'bytes', ARGV[7]) end
if ARGV[8] == '1' then
  -- What the former process heard that no log has, nobody can read now: as far as that may go, the log is not whole.
  local time = redis.call('TIME')
  local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
  local count, upto, strange = string.match(known[11] or '0 0 0', '(%d+) (%d+) (%d+)')
  local published = redis.call('HGET', P .. 'Published', ARGV[2])
  local floor = tonumber(upto or 0)
  if tonumber(published or 0) ~= tonumber(count or 0) or now - tonumber(strange or 0) < 86400000000 then floor = now end
  if floor > tonumber(whole or floor) then
    whole = string.format('%.0f', floor)
    if floor > tonumber(last or 0) then
      last = whole
      -- Else somebody who has come further than this log could not be told.
      local said = redis.pcall('HSET', head, 'last', last)
      if type(said) == 'table' and said.err then whole = false end
    end
  end
end
-- Where nothing can be written, what was published lately may be in no log.
local witness = redis.pcall('HINCRBY', head, 'Seen' .. ARGV[2], 0)
if type(witness) == 'table' then whole = false end
return {epoch, last, whole, known[5], known[6], known[7], known[8]}
