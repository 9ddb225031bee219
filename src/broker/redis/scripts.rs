//! The Lua scripts: every change of more than one key, made atomic.
//!
//! Texts are constant and values travel as arguments: Redis then caches one script each, not one per
//! client as the original does, and no name can break the script. Sent as `EVAL`, which survives a
//! restart and `SCRIPT FLUSH` without a second round trip. Some keys are built from prefixes among
//! the arguments, which rules out Redis Cluster; so do the original's own.

/// KEYS: channel, client, list. ARGV: id, channel. The original's join.
pub(super) const JOIN: &str = "\
if redis.call('HSETNX', KEYS[1], ARGV[1], '0') == 1 then
  redis.call('HSET', KEYS[2], ARGV[2], '0')
  redis.call('HINCRBY', KEYS[3], ARGV[2], 1)
end
return 1";

/// KEYS: channel, client, list. ARGV: id, channel. The original's leave.
pub(super) const LEAVE: &str = "\
if redis.call('HDEL', KEYS[1], ARGV[1]) == 1 then
  redis.call('HDEL', KEYS[2], ARGV[2])
  if redis.call('HINCRBY', KEYS[3], ARGV[2], -1) <= 0 then
    redis.call('HDEL', KEYS[3], ARGV[2])
  end
end
return 1";

/// KEYS: channel, online, list. ARGV: client key prefix, channel, then members to look at.
///
/// Leaves for each member that is not online; the check and the leave are one step, so a client that
/// comes online meanwhile is never thrown out.
pub(super) const CLEAR: &str = "\
for i = 3, #ARGV do
  local online = tonumber(redis.call('HGET', KEYS[2], ARGV[i]) or 0)
  if (online or 0) <= 0 and redis.call('HDEL', KEYS[1], ARGV[i]) == 1 then
    redis.call('HDEL', ARGV[1] .. ARGV[i], ARGV[2])
    if redis.call('HINCRBY', KEYS[3], ARGV[2], -1) <= 0 then
      redis.call('HDEL', KEYS[3], ARGV[2])
    end
  end
end
return 1";

/// KEYS: request. ARGV: claim, life in ms. Returns what is there already. (`SET` with both NX and GET
/// needs Redis 7.)
pub(super) const CLAIM: &str = "\
local there = redis.call('GET', KEYS[1])
if not there then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
return there";

/// KEYS: request. ARGV: claim, outcome, life in ms. Returns 1 if the claim was there.
pub(super) const SETTLE: &str = "\
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
if ARGV[3] == '0' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
return 1";

/// KEYS: sessions, lease. ARGV: node, session, lease in ms, life of an end in s, lease key prefix, ended
/// key prefix, 1 to supersede.
pub(super) const BEGIN: &str = "\
if ARGV[7] == '1' then
  local sessions = redis.call('HGETALL', KEYS[1])
  for i = 1, #sessions, 2 do
    local value = sessions[i + 1]
    if string.sub(value, (string.find(value, ' ', 1, true) or 0) + 1) == ARGV[1] then
      redis.call('SET', ARGV[6] .. sessions[i], 'loud', 'EX', ARGV[4], 'NX')
      redis.call('DEL', ARGV[5] .. sessions[i])
    end
  end
end
redis.call('SET', KEYS[2], '1', 'PX', ARGV[3])
redis.call('HSET', KEYS[1], ARGV[2], '0 ' .. ARGV[1])
return 1";

/// KEYS: sessions, lease, ended. ARGV: session, lease in ms, number of the last report that was
/// acknowledged, what the node says of itself. Returns -1 when the session was ended, -2 when it or that
/// report is not known.
///
/// A lease that has run out unnoticed is good again: a node that could not reach Redis is not dead. A
/// session that misses reports keeps its lease, so that its node can put things right before others do.
pub(super) const RENEW: &str = "\
if redis.call('EXISTS', KEYS[3]) == 1 then return -1 end
local value = redis.call('HGET', KEYS[1], ARGV[1])
if not value then return -2 end
redis.call('SET', KEYS[2], ARGV[4], 'PX', ARGV[2])
if tonumber(string.match(value, '^%d+')) < tonumber(ARGV[3]) then return -2 end
return 1";

/// KEYS: connections. ARGV: cursor, how many to look at, client and a blank. Returns the next cursor, then
/// number and record of each connection of that client.
///
/// One step of a walk: what does not match stays in Redis, and Redis serves others between two steps.
pub(super) const FIND: &str = "\
local step = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
local found, fields = {step[1]}, step[2]
for i = 1, #fields, 2 do
  if string.sub(fields[i + 1], 1, #ARGV[3]) == ARGV[3] then
    found[#found + 1] = fields[i]
    found[#found + 1] = fields[i + 1]
  end
end
return found";

/// KEYS: sessions, lease, ended, connections. ARGV: session, life of an end in s, `loud` or `quiet`.
///
/// The end stays known for long after the session is gone: its node, when it comes back, must tell
/// "ended, so everybody was told" from "Redis lost it, so nobody was".
pub(super) const END: &str = "\
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then
  redis.call('DEL', KEYS[2])
  if redis.call('EXISTS', KEYS[4]) == 0 then
    redis.call('HDEL', KEYS[1], ARGV[1])
  else
    redis.call('SET', KEYS[3], ARGV[3], 'EX', ARGV[2])
  end
end
return 1";

/// KEYS: sessions. ARGV: lease key prefix, ended key prefix, life of an end in s, 1 to end the sessions
/// whose lease has run out. Returns the sessions that were ended.
pub(super) const ENDED: &str = "\
local ended = {}
for _, session in ipairs(redis.call('HKEYS', KEYS[1])) do
  if redis.call('EXISTS', ARGV[2] .. session) == 1 then
    ended[#ended + 1] = session
  elseif ARGV[4] == '1' and redis.call('EXISTS', ARGV[1] .. session) == 0 then
    redis.call('SET', ARGV[2] .. session, 'loud', 'EX', ARGV[3])
    ended[#ended + 1] = session
  end
end
return ended";

/// Ends one connection: `HDEL` is the gate that lets exactly one caller through.
///
/// For scripts whose KEYS are: ended, connections, online, list, closed, sessions, and whose ARGV begins
/// with the channel key prefix, the client key prefix, the online topic, the offline topic, the session.
macro_rules! with_close {
    ($body:literal) => {
        concat!(
            "\
local function close(connection, quiet)
  local record = redis.call('HGET', KEYS[2], connection)
  if not record then return 0 end
  redis.call('HDEL', KEYS[2], connection)
  local cut = string.find(record, ' ', 1, true)
  local client = string.sub(record, 1, cut - 1)
  if redis.call('HINCRBY', KEYS[3], client, -1) <= 0 then
    redis.call('HDEL', KEYS[3], client)
    local own = ARGV[2] .. client
    for _, chan in ipairs(redis.call('HKEYS', own)) do
      if redis.call('HDEL', ARGV[1] .. chan, client) == 1
          and redis.call('HINCRBY', KEYS[4], chan, -1) <= 0 then
        redis.call('HDEL', KEYS[4], chan)
      end
    end
    redis.call('DEL', own)
  end
  if not quiet then
    redis.call('PUBLISH', ARGV[4], string.sub(record, cut + 1))
  end
  return 1
end
",
            $body
        )
    };
}

/// ARGV: 6 number of the last report that was acknowledged, 7 number of this one, then per change four:
/// what, connection, client, ticket text. Returns as [`RENEW`], having done nothing if not 1.
///
/// `o` opened; `r` restored, which is not told; `c` closed; `x` closed, and opened by the same report:
/// such a connection is remembered for a minute, or repeating the report would open it again. A report
/// that arrives after a later one was given up by its sender long ago and is not carried out.
pub(super) const REPORT: &str = with_close!(
    "\
if redis.call('EXISTS', KEYS[1]) == 1 then return -1 end
local value = redis.call('HGET', KEYS[6], ARGV[5])
if not value then return -2 end
local cut = string.find(value, ' ', 1, true)
local last = tonumber(string.sub(value, 1, cut - 1))
if last < tonumber(ARGV[6]) then return -2 end
if last >= tonumber(ARGV[7]) then return 1 end
local remembers = redis.call('EXISTS', KEYS[5]) == 1
for i = 8, #ARGV, 4 do
  local what, connection = ARGV[i], ARGV[i + 1]
  if what == 'o' or what == 'r' then
    if not (remembers and redis.call('ZSCORE', KEYS[5], connection))
        and redis.call('HSETNX', KEYS[2], connection, ARGV[i + 2] .. ' ' .. ARGV[i + 3]) == 1 then
      redis.call('HINCRBY', KEYS[3], ARGV[i + 2], 1)
      if what == 'o' then redis.call('PUBLISH', ARGV[3], ARGV[i + 3]) end
    end
  else
    if what == 'x' then
      local now = tonumber(redis.call('TIME')[1])
      redis.call('ZADD', KEYS[5], now, connection)
      redis.call('ZREMRANGEBYSCORE', KEYS[5], '-inf', now - 60)
      redis.call('EXPIRE', KEYS[5], 60)
      remembers = true
    end
    close(connection)
  end
end
redis.call('HSET', KEYS[6], ARGV[5], ARGV[7] .. string.sub(value, cut))
return 1"
);

/// ARGV: 6 limit. Returns how many connections were closed; fewer than the limit when the session is
/// finished, or was not ended.
pub(super) const REAP: &str = with_close!(
    "\
local how = redis.call('GET', KEYS[1])
if not how then return 0 end
local closed = 0
for _, connection in ipairs(redis.call('HRANDFIELD', KEYS[2], ARGV[6])) do
  closed = closed + close(connection, how == 'quiet')
end
if redis.call('EXISTS', KEYS[2]) == 0 then
  redis.call('HDEL', KEYS[6], ARGV[5])
  redis.call('DEL', KEYS[5])
end
return closed"
);
