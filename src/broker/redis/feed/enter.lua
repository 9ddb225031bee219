-- A node's feed looks at the log, before it reads there. KEYS: none. ARGV: prefix, node, which Redis this is, epoch to
-- begin with if that is needed, epoch that is known to be wrong, microseconds and bytes that a stream is to keep.
-- Returns: epoch (nil: there is none and none can be begun), last number, number above which everything is logged
-- (nil: not even that which comes), what the head says of the node's stream and of that for all, the node's witness,
-- number up to which something was published that no log has, which its sender told later.
--
-- Redis may have lost what it wrote last whenever it is not the same process any more: nobody can tell, so another
-- epoch begins. What is in the streams stays: it was sent.
local head = P .. 'LogHead'
local known = redis.call('HMGET', head, 'epoch', 'last', 'whole', 'run', 'Of' .. ARGV[2], 'All', 'Seen' .. ARGV[2], 'noted')
local epoch, whole = known[1], known[3]
if not epoch or known[4] ~= ARGV[3] or epoch == ARGV[5] then
  epoch, whole = ARGV[4], known[2] or '0'
  local said = redis.pcall('HSET', head, 'run', ARGV[3], 'epoch', epoch, 'whole', whole)
  if type(said) == 'table' and said.err then epoch, whole = known[1], false end
end
local keeps = redis.call('HMGET', head, 'age', 'bytes')
if keeps[1] ~= ARGV[6] or keeps[2] ~= ARGV[7] then redis.pcall('HSET', head, 'age', ARGV[6], 'bytes', ARGV[7]) end
-- Where nothing can be written, what was published lately may be in no log.
local witness = redis.pcall('HINCRBY', head, 'Seen' .. ARGV[2], 0)
if type(witness) == 'table' then whole = false end
return {epoch, known[2], whole, known[5], known[6], known[7], known[8]}
