-- KEYS: none. ARGV: prefix, online topic, offline topic, session, number of the last report that was
-- acknowledged, number of this one, events to keep,
-- then per change five: what, connection, client, ticket text (of one that closed why), tag.
-- Returns as `renew`, having done nothing if below 1; 2 when memberships are left to be ended by `overdue`.
--
-- What: a letter, see `What` in `report.rs`, and behind a capital of an opened one for how many seconds it is held, if its
-- ticket says so. A report that arrives after a later one was given up by its sender long ago and is not carried out.
local session, connections = ARGV[4], P .. 'Connections' .. ARGV[4]
local closed = P .. 'Closed' .. session
if redis.call('EXISTS', P .. 'Ended' .. session) == 1 then return -1 end
local value = redis.call('HGET', P .. 'Sessions', session)
if not value then return -2 end
local cut = string.find(value, ' ', 1, true)
local last = tonumber(string.sub(value, 1, cut - 1))
if last < tonumber(ARGV[5]) then return -2 end
if last >= tonumber(ARGV[6]) then return 1 end
local remembers = redis.call('EXISTS', closed) == 1
-- Whether any node was taken for dead within the last hour, so that memberships may lie aside.
local some_aside = redis.call('EXISTS', P .. 'Aside') == 1
local more_resumable = false
-- For how many seconds the session holds a connection whose ticket says nothing of it, asked once a run.
local usual
local function usual_keep()
  if not usual then usual = string.match(redis.call('GET', P .. 'Resume' .. session) or '', '^%x+ (%d+)') or '0' end
  return usual
end
keep_events(tonumber(ARGV[7]), session)
for i = 8, #ARGV, 5 do
  local what, connection, client, text, tag = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
  local keep = string.sub(what, 2)
  what = string.sub(what, 1, 1)
  if string.find('oarOAR', what, 1, true) then
    local resumable = string.find('OAR', what, 1, true)
    what = string.lower(what)
    local record = client .. ' ' .. text
    if not (remembers and redis.call('ZSCORE', closed, connection))
        and redis.call('HSETNX', connections, connection, record) == 1 then
      local is_first = redis.call('HINCRBY', P .. 'Online', client, 1) == 1
      if what ~= 'r' then event('opened', is_first and 'online', connection, '', record) end
      if is_first then
        stir_all(client)
        stays(client)
        if what == 'o' and some_aside then redis.call('UNLINK', P .. 'Left' .. client) end
      end
      if resumable then
        redis.call('ZADD', P .. 'Resumable' .. session, keep ~= '' and keep or usual_keep(), connection)
        some_resumable, more_resumable = true, true
      end
      if what ~= 'r' then tell(ARGV[2], text) end
    end
    if tag ~= '' then redis.call('ZREM', P .. 'Coming' .. client, tag) end
  else
    if what == 'x' or what == 'X' then
      local time = tonumber(redis.call('TIME')[1])
      redis.call('ZADD', closed, time, connection)
      redis.call('ZREMRANGEBYSCORE', closed, '-inf', time - 60)
      redis.call('EXPIRE', closed, 60)
      remembers = true
    end
    close(session, connection, ARGV[3], (what == 'C' or what == 'X') and 'late' or '', text)
  end
end
if more_resumable then redis.call('EXPIRE', P .. 'Resumable' .. session, 172800) end
redis.call('HSET', P .. 'Sessions', session, ARGV[6] .. string.sub(value, cut))
return 1 + rest
