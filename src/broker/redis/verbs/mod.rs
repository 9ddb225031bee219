//! The verbs of the contract on Redis, by subject. Each is a method of `Backend` under its name in the contract.
//!
//! Called by `RedisBroker`, on any thread. A verb builds its commands, has them run and reads the replies; it
//! keeps nothing between two calls and opens no connection.

mod append;
mod channels;
mod events;
mod lists;
mod messages;
mod moves;
mod overview;
mod posts;
mod presence;
mod report;
mod requests;
mod rosters;
mod scripts;
mod settled;
mod slots;
mod tickets;
mod untold;
mod webhooks;

use std::time::Duration;

/// A time as Redis takes it, at least 1 ms.
fn millis(duration: Duration) -> u64 {
    duration.as_millis().clamp(1, i64::MAX as u128) as u64
}

/// What stands for a taken ticket in its client's `Coming`; nothing for a tag of 0.
fn coming_mark(tag: u64) -> String {
    if tag == 0 { String::new() } else { format!("~{tag:016x}") }
}
