//! The Lua scripts: every change of more than one key, made atomic.
//!
//! Used by the verbs beside this folder. Texts are constant and values travel as arguments: Redis then caches
//! one script each, not one per client as the original does, and no name can break the script. Sent as `EVAL`,
//! which survives a restart and `SCRIPT FLUSH` without a second round trip. Some keys are built from prefixes
//! among the arguments; in a Redis Cluster all of them lie in one slot, which `link/dialect.rs` names.

use std::sync::LazyLock;

/// A script from files; with `P = n`, the prefix of all keys is `ARGV[n]` and called `P` in them.
macro_rules! script {
    ($name:ident, $(P = $prefix:literal,)? $($file:literal),+) => {
        pub(super) static $name: LazyLock<String> = LazyLock::new(|| {
            compact(&[$(concat!("local P = ARGV[", $prefix, "]"),)? $(include_str!(concat!($file, ".lua"))),+])
        });
    };
}

/// A script about presence, which has something to tell: without and with events that are kept.
pub(super) type Eventful = [Texts; 2];

/// Its text, as the server takes it.
pub(super) struct Texts {
    /// Publishes it.
    pub(super) publishes: String,
    /// Puts it aside, for servers on which no script may publish.
    pub(super) sets_aside: String,
}

/// What tells events.
const EVENT: [&str; 3] =
    [include_str!("trim.lua"), include_str!("event.lua"), include_str!("occupied.lua")];

macro_rules! eventful {
    ($name:ident, $file:literal) => {
        pub(super) static $name: LazyLock<Eventful> = LazyLock::new(|| {
            let own = include_str!(concat!($file, ".lua"));
            let run = ["local function run()", own, "end", include_str!("run_event.lua")];
            let kinds: [(&[&str], &[&str]); 2] =
                [(&[include_str!("no_event.lua")], &[own]), (&EVENT, &run)];
            kinds.map(|(event, run)| {
                let common = [include_str!("clock.lua"), include_str!("stir.lua")];
                let of = |tell: &[&str]| {
                    let leaving = [include_str!("leaving.lua")];
                    compact(&[&["local P = ARGV[1]"], tell, &common, event, &leaving, run].concat())
                };
                Texts {
                    publishes: of(&[include_str!("changed.lua"), include_str!("tell.lua")]),
                    sets_aside: of(&[include_str!("aside.lua")]),
                }
            })
        });
    };
}

/// A script that tells nodes something, without events.
macro_rules! telling {
    ($name:ident, $file:literal) => {
        pub(super) static $name: LazyLock<Texts> = LazyLock::new(|| {
            let of =
                |tell| compact(&["local P = ARGV[1]", tell, include_str!(concat!($file, ".lua"))]);
            Texts {
                publishes: of(include_str!("tell.lua")),
                sets_aside: of(include_str!("aside.lua")),
            }
        });
    };
}

/// A script of helpers that changes memberships; it asks itself whether events are kept.
macro_rules! membership {
    ($name:ident, P = $prefix:literal, $file:literal) => {
        pub(super) static $name: LazyLock<String> = LazyLock::new(|| {
            let prefix = [concat!("local P = ARGV[", $prefix, "]"), include_str!("changed.lua")];
            let stir = [include_str!("stir.lua")];
            let own = [include_str!(concat!($file, ".lua"))];
            compact(&[&prefix[..], &stir, &EVENT, &own].concat())
        });
    };
}

script!(ABANDONED, P = 1, "clock", "abandoned");
script!(ADOPT, P = 1, "adopt");
script!(APPEND, P = 1, "trim", "settle", "append");
script!(BEGIN, "begin");
script!(CLAIM, "claim");
script!(COMPLETE, "complete");
script!(END, "end");
script!(END_LAPSED, P = 4, "trim", "event", "end_lapsed");
script!(ENDED, "ended");
script!(EVENTS_DONE, P = 1, "events_done");
script!(EVENTS_FORGET, P = 1, "events_forget");
script!(EVENTS_GROUPS, P = 1, "events_groups");
script!(EVENTS_LEAVE, P = 1, "events_leave");
script!(EVENTS_READ, P = 1, "events_read");
script!(FIND, "find");
script!(HAND_OVER, P = 1, "moving", "hand_over");
script!(LAPSED, "lapsed");
script!(RENEW, "renew");
script!(ROSTER, P = 1, "roster");
script!(ROSTERS, P = 1, "rosters");
script!(TAKE_ABANDONED, P = 1, "moving", "take_abandoned");
script!(TAKING, P = 1, "clock", "taking");
script!(UNDELIVERED, P = 1, "trim", "event", "undelivered");
script!(VOID, P = 1, "clock", "void");
script!(WEBHOOK, P = 1, "webhook");
script!(WEBHOOK_HOLD, P = 1, "webhook_hold");

eventful!(OVERDUE, "overdue");
eventful!(REAP, "reap");
eventful!(REJOIN, "rejoin");
eventful!(REPORT, "report");

membership!(CLEAR, P = 1, "clear");
membership!(JOIN, P = 3, "join");
membership!(LEAVE, P = 3, "leave");

telling!(SLOTS, "slots");

/// The texts behind each other, without comments and indentation: a script travels with each call.
fn compact(texts: &[&str]) -> String {
    let lines = texts.iter().flat_map(|text| text.lines()).map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with("--"));
    lines.collect::<Vec<_>>().join("\n")
}
