-- Publishes, and logs what is to be logged, in one step. KEYS: none. ARGV: prefix, what the topics of nodes begin
-- with, epoch to begin with if there is none, microseconds and bytes that a stream keeps where no node has said that,
-- 1 if something was published unlogged of which the log does not know, or the number of what the sender logged last with
-- a former primary, else 0; then per message: what it is, payload, number of nodes, the nodes.
-- What: `n` for one node and `a` for all, logged; `v` volatile; `p` plain, as without a log, counted. `f`, without nodes:
-- what follows it is sent only if the table of slots has the version that is its payload. In front of all may
-- stand `t`: messages that are settled, 4, and of `settle` node, last, by and number. What follows are receipts that
-- tell of these, and if they were told before, nothing is done.
-- Returns: number of the last that is logged, why nothing was logged (or nil), why something was not published (or
-- nil), the places of those copies that nobody heard, 1 if the log knows of what it did not take, why what is settled
-- is not remembered (or nil), and the places of those copies that were not sent because of `f`.
--
-- Numbers are microseconds of Redis's clock, or the one after the last if that is more: they tell the age. One entry
-- of a stream holds what one run has logged in it; its id is its last number. `prev` is the id of the entry before,
-- so that a reader sees what was trimmed; `bytes` is the sum of all that ever was in the stream.
local T, age, limit = ARGV[2], tonumber(ARGV[4]), tonumber(ARGV[5])
local head = P .. 'LogHead'
-- Whole numbers are written faster, where they are wide enough.
local form = string.format('%d', 2 ^ 52) == '4503599627370496' and '%d' or '%.0f'
-- One string less for each message. What is numbered is JSON, which holds no zero byte, where `%s` may end.
local numbered_form = form .. '|%s'
local function text(number) return string.format(form, number) end

local start, unsettled = 7, nil
if ARGV[7] == 't' then
  local told
  told, unsettled = settle(ARGV[10], ARGV[8], ARGV[11], ARGV[12], ARGV[13])
  if told then return {'0', false, false, {}, false, false, {}} end
  start = 14
end

-- Which streams, and what is said of them in the head.
local asked, places, messages = {'HMGET', head, 'epoch', 'last', 'whole', 'age', 'bytes'}, {}, {}
local counts, logged = {}, 0
do
  local i, version, is_stale = start, nil, false
  while i < #ARGV do
    local what, count = ARGV[i], tonumber(ARGV[i + 2])
    if what == 'f' then
      version = version or redis.call('HGET', P .. 'Slots', 'version') or '0'
      is_stale = ARGV[i + 1] ~= version
    elseif is_stale then
      what = 's'
    end
    local stream = what == 'n' and 'Of' .. ARGV[i + 3] or what == 'a' and 'All'
    if stream then
      logged = logged + 1
      if not places[stream] then
        asked[#asked + 1] = stream
        places[stream] = #asked - 2
      end
    end
    if count > 0 then messages[#messages + 1] = {what, ARGV[i + 1], i + 3, i + 2 + count, stream} end
    i = i + 3 + count
  end
end

local refused, noted, number = false, false, 0
if logged > 0 then
  local known = redis.call(unpack(asked))
  -- What the nodes say counts.
  age, limit = tonumber(known[4] or age), tonumber(known[5] or limit)
  local time = redis.call('TIME')
  number = math.max(tonumber(known[2] or 0), tonumber(time[1]) * 1000000 + tonumber(time[2]) - 1)
  -- What was refused is behind the last number: whoever has heard that may have missed it, so one number is left out.
  local untold = ARGV[6] == '1'
  if not untold and ARGV[6] ~= '0' then
    -- What was before the epoch, or before others said that something is missing, the nodes have been told of.
    local told = redis.call('HMGET', head, 'begun', 'noted')
    untold = tonumber(ARGV[6]) > math.max(tonumber(told[1] or 0), tonumber(told[2] or 0))
  end
  local torn = not known[3] or untold
  if torn then number = number + 1 end
  local first = number
  local entries, says = {}, {'HSET', head, 'last', text(number + logged)}
  if not known[1] then
    says[#says + 1], says[#says + 2] = 'epoch', ARGV[3]
  end
  if torn then
    says[#says + 1], says[#says + 2] = 'whole', text(first)
  end
  if untold then
    says[#says + 1], says[#says + 2] = 'noted', text(first)
  end
  for _, message in ipairs(messages) do
    local stream = message[5]
    if stream then
      number = number + 1
      local entry = entries[stream]
      if not entry then
        local last, sum, due_sum, due = string.match(known[places[stream]] or '', '(%d+) (%d+) (%d+) (%d+)')
        entry = {sum = tonumber(sum or 0) + 100, due_sum = tonumber(due_sum or 0), due = tonumber(due or 0),
          command = {'XADD', P .. 'Log' .. stream, '', 'prev', last or '0', 'bytes', ''}}
        entries[stream] = entry
        entries[#entries + 1] = stream
      end
      local command, numbered = entry.command, string.format(numbered_form, number, message[2])
      message[2] = numbered
      entry.last, entry.sum = number, entry.sum + #numbered + 16
      command[#command + 1] = 'm'
      command[#command + 1] = numbered
    end
  end
  for _, stream in ipairs(entries) do
    local entry = entries[stream]
    local id, sum = text(entry.last), text(entry.sum)
    entry.command[3], entry.command[7] = id .. '-0', sum
    entry.trims = entry.last >= entry.due or entry.sum >= entry.due_sum
    if entry.trims then
      entry.due, entry.due_sum = entry.last + math.floor(age / 64), entry.sum + math.floor(limit / 64)
    end
    says[#says + 1] = stream
    says[#says + 1] = id .. ' ' .. sum .. ' ' .. text(entry.due_sum) .. ' ' .. text(entry.due)
  end
  -- The first to write: it is refused, or nothing is.
  local said = redis.pcall(unpack(says))
  if type(said) == 'table' and said.err then
    refused = said
    -- Deleting is allowed where memory is full.
    local deleted = redis.pcall('HDEL', head, 'whole')
    noted = type(deleted) == 'number'
    for _, message in ipairs(messages) do
      if message[5] then message[2] = '-1|' .. string.match(message[2], '^%d+|(.*)$') end
    end
  else
    for _, stream in ipairs(entries) do
      local entry = entries[stream]
      local key = entry.command[2]
      local added = redis.pcall(unpack(entry.command))
      if type(added) == 'table' and added.err then
        -- Foreign, or of a clock that was ahead: what it held is no continuation of what comes.
        redis.pcall('DEL', key)
        added = redis.pcall(unpack(entry.command))
        if type(added) == 'table' and added.err then redis.pcall('HDEL', head, 'whole') end
      end
      if entry.trims then
        trim(head, stream, key, entry.last, entry.sum, age, limit)
        -- A node that is never heard of again leaves nothing for ever.
        redis.pcall('EXPIRE', key, 604800)
      end
    end
  end
end

for _, message in ipairs(messages) do
  if message[1] == 'p' then
    for i = message[3], message[4] do counts[ARGV[i]] = (counts[ARGV[i]] or 0) + 1 end
  elseif message[1] == 'v' then
    message[2] = '0|' .. message[2]
  end
end
-- Before the messages: a node that compares must not have heard more than was counted.
for node, count in pairs(counts) do redis.pcall('HINCRBY', P .. 'Published', node, count) end
local failed, unheard, stale, place = false, {}, {}, 0
for _, message in ipairs(messages) do
  for i = message[3], message[4] do
    if message[1] == 's' then
      stale[#stale + 1] = place
    else
      local heard = redis.pcall('PUBLISH', T .. ARGV[i], message[2])
      if type(heard) == 'table' then failed = heard end
      if heard == 0 then unheard[#unheard + 1] = place end
    end
    place = place + 1
  end
end
return {text(number), refused, failed, unheard, noted, unsettled or false, stale}
