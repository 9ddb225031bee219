//! The Lua scripts: every change of more than one key, made atomic.
//!
//! Short ones stand here, long ones in files of their own. Texts are constant and values travel as
//! arguments: Redis then caches one script each, not one per client as the original does, and no name can
//! break the script. Sent as `EVAL`, which survives a restart and `SCRIPT FLUSH` without a second round
//! trip. Some keys are built from prefixes among the arguments, which rules out Redis Cluster; so do the
//! original's own.

use std::sync::LazyLock;

/// A script from files, with the place in ARGV of the prefix of all keys.
macro_rules! script {
    ($name:ident, $prefix:literal, $($file:literal),+) => {
        pub(super) static $name: LazyLock<String> = LazyLock::new(|| {
            let texts = [$(include_str!(concat!("scripts/", $file, ".lua"))),+];
            compact(concat!("local P = ARGV[", $prefix, "]"), &texts)
        });
    };
}

script!(JOIN, 3, "join");
script!(LEAVE, 3, "leave");
script!(TAKING, 1, "clock", "taking");
script!(VOID, 1, "clock", "void");
script!(REJOIN, 1, "clock", "leaving", "rejoin");
script!(REPORT, 1, "clock", "leaving", "report");
script!(REAP, 1, "clock", "leaving", "reap");
script!(OVERDUE, 1, "clock", "leaving", "overdue");

/// The texts behind each other, without comments and indentation: a script travels with each call.
fn compact(first: &str, texts: &[&str]) -> String {
    let mut script = first.to_owned();
    for line in texts.iter().flat_map(|text| text.lines()).map(str::trim) {
        if !line.is_empty() && !line.starts_with("--") {
            script.push('\n');
            script.push_str(line);
        }
    }
    script
}

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
///
/// The node's former sessions, those it supersedes and those that others have ended, are from now on
/// `back`: their clients may be connecting again while what is left of them is cleared away.
pub(super) const BEGIN: &str = "\
local sessions = redis.call('HGETALL', KEYS[1])
for i = 1, #sessions, 2 do
  local value, ended = sessions[i + 1], ARGV[6] .. sessions[i]
  if string.sub(value, (string.find(value, ' ', 1, true) or 0) + 1) == ARGV[1] then
    local how = redis.call('GET', ended)
    if how ~= 'quiet' and (how or ARGV[7] == '1') then
      redis.call('SET', ended, 'back', 'EX', ARGV[4])
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

/// KEYS: sessions, lease, ended, connections. ARGV: session, life of an end in s, `loud` or `quiet`: whether
/// what is closed by it is told.
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

/// KEYS: sessions. ARGV: ended key prefix. Returns the sessions that were ended.
pub(super) const ENDED: &str = "\
local ended = {}
for _, session in ipairs(redis.call('HKEYS', KEYS[1])) do
  if redis.call('EXISTS', ARGV[1] .. session) == 1 then ended[#ended + 1] = session end
end
return ended";

/// KEYS: sessions. ARGV: lease key prefix, ended key prefix. Returns the sessions that nobody has ended and
/// whose lease is not there.
pub(super) const LAPSED: &str = "\
local lapsed = {}
for _, session in ipairs(redis.call('HKEYS', KEYS[1])) do
  if redis.call('EXISTS', ARGV[1] .. session, ARGV[2] .. session) == 0 then
    lapsed[#lapsed + 1] = session
  end
end
return lapsed";

/// KEYS: sessions. ARGV: lease key prefix, ended key prefix, life of an end in s, then sessions. Ends those
/// that are still as [`LAPSED`] has found them, and returns them.
pub(super) const END_LAPSED: &str = "\
local ended = {}
for i = 4, #ARGV do
  local session = ARGV[i]
  if redis.call('HEXISTS', KEYS[1], session) == 1
      and redis.call('EXISTS', ARGV[1] .. session, ARGV[2] .. session) == 0 then
    redis.call('SET', ARGV[2] .. session, 'lapsed', 'EX', ARGV[3])
    ended[#ended + 1] = session
  end
end
return ended";
