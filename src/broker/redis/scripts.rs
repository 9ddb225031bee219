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

/// KEYS: sessions, lease. ARGV: node, session, lease in ms, lease key prefix, 1 to supersede.
pub(super) const BEGIN: &str = "\
if ARGV[5] == '1' then
  local sessions = redis.call('HGETALL', KEYS[1])
  for i = 1, #sessions, 2 do
    if sessions[i + 1] == ARGV[1] then
      redis.call('DEL', ARGV[4] .. sessions[i])
    end
  end
end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[3])
redis.call('HSET', KEYS[1], ARGV[2], ARGV[1])
return 1";

/// KEYS: sessions, lease, connections. ARGV: session.
pub(super) const END: &str = "\
redis.call('DEL', KEYS[2])
if redis.call('EXISTS', KEYS[3]) == 0 then
  redis.call('HDEL', KEYS[1], ARGV[1])
end
return 1";

/// KEYS: sessions. ARGV: lease key prefix. Returns the sessions whose lease is gone.
pub(super) const ENDED: &str = "\
local ended = {}
for _, session in ipairs(redis.call('HKEYS', KEYS[1])) do
  if redis.call('EXISTS', ARGV[1] .. session) == 0 then
    ended[#ended + 1] = session
  end
end
return ended";

/// Ends one connection: `HDEL` is the gate that lets exactly one caller through.
///
/// For scripts whose KEYS are: lease, connections, online, list, closed, and whose ARGV begins with
/// the channel key prefix, the client key prefix, the online topic, the offline topic.
macro_rules! with_close {
    ($body:literal) => {
        concat!(
            "\
local function close(connection)
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
  redis.call('PUBLISH', ARGV[4], string.sub(record, cut + 1))
  return 1
end
",
            $body
        )
    };
}

/// ARGV from 5 on: per change four: what, connection, client, ticket text. Returns -1, having done
/// nothing, when the lease is gone.
///
/// `o` opened; `c` closed; `x` closed, and opened by the same report: such a connection is remembered
/// for a minute, or repeating the report would open it again.
pub(super) const REPORT: &str = with_close!(
    "\
if redis.call('EXISTS', KEYS[1]) == 0 then return -1 end
local remembers = redis.call('EXISTS', KEYS[5]) == 1
for i = 5, #ARGV, 4 do
  local what, connection = ARGV[i], ARGV[i + 1]
  if what == 'o' then
    if not (remembers and redis.call('ZSCORE', KEYS[5], connection))
        and redis.call('HSETNX', KEYS[2], connection, ARGV[i + 2] .. ' ' .. ARGV[i + 3]) == 1 then
      redis.call('HINCRBY', KEYS[3], ARGV[i + 2], 1)
      redis.call('PUBLISH', ARGV[3], ARGV[i + 3])
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
return 1"
);

/// KEYS[6]: sessions. ARGV: 5 session, 6 limit. Returns how many connections were closed; fewer than
/// the limit when the session is finished, or lives after all.
pub(super) const REAP: &str = with_close!(
    "\
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
local closed = 0
for _, connection in ipairs(redis.call('HRANDFIELD', KEYS[2], ARGV[6])) do
  closed = closed + close(connection)
end
if redis.call('EXISTS', KEYS[2]) == 0 then
  redis.call('HDEL', KEYS[6], ARGV[5])
  redis.call('DEL', KEYS[5])
end
return closed"
);
