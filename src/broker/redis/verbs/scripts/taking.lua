-- ARGV: prefix, then per ticket two: token, tag. These tickets are about to be taken: their clients are known
-- to be coming until their connections are reported, 10 s at most. Also for a ticket that a .NET helper has
-- issued, which tells nobody.
for i = 2, #ARGV, 2 do
  local text = redis.pcall('GET', P .. 'Token' .. ARGV[i])
  local client = type(text) == 'string' and string.match(text, '^{"Item1":"?([-%w]+)"?[,}]')
  if not client and type(text) == 'string' and string.sub(text, 1, 10) == '{"Item1":"' then
    -- An id that is another text, which may have escapes. A number would be rounded by this.
    local read, ticket = pcall(cjson.decode, text)
    client = read and type(ticket) == 'table' and type(ticket.Item1) == 'string' and ticket.Item1
  end
  if client then
    local key = P .. 'Coming' .. client
    redis.call('ZREM', key, ARGV[i])
    redis.call('ZADD', key, clock() + GRACE, ARGV[i + 1])
    redis.call('PEXPIRE', key, GRACE)
  end
end
return 1
