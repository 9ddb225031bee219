-- A node's feed looks at the log, before it reads there. KEYS: none. ARGV: prefix, node, which Redis this is, epoch to
-- begin with if that is needed, epoch that is known to be wrong.
-- Returns: epoch (nil: there is none and none can be begun), last number, number above which everything is logged
-- (nil: not even that which comes), what the head says of the node's stream and of that for all; the node's witness.
--
-- Redis may have lost what it wrote last whenever it is not the same process any more: nobody can tell, so another
-- epoch begins. What is in the streams stays: it was sent.
local head = P .. 'LogHead'
local known = redis.call('HMGET', head, 'epoch', 'last', 'whole', 'run', 'Of' .. ARGV[2], 'All', 'Seen' .. ARGV[2])
local epoch, whole = known[1], known[3]
if not epoch or known[4] ~= ARGV[3] or epoch == ARGV[5] then
  local says = {'HSET', head, 'run', ARGV[3]}
  if not epoch or known[4] or epoch == ARGV[5] then
    epoch, whole = ARGV[4], known[2] or '0'
    says[5], says[6], says[7], says[8] = 'epoch', epoch, 'whole', whole
  end
  local said = redis.pcall(unpack(says))
  if type(said) == 'table' and said.err then epoch, whole = known[1], false end
end
return {epoch, known[2], whole, known[5], known[6], known[7]}
