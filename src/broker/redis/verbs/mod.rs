//! The verbs of the contract on Redis, by subject. Each is a method of `Backend` under its name in the contract.
//!
//! Called by `RedisBroker`, on any thread. A verb builds its commands, has them run and reads the replies; it
//! keeps nothing between two calls and opens no connection.

mod channels;
pub(super) mod gather;
mod lists;
mod messages;
mod overview;
mod presence;
mod requests;
mod scripts;
mod tickets;

use std::time::Duration;

/// A time as Redis takes it, at least 1 ms.
fn millis(duration: Duration) -> u64 {
    duration.as_millis().clamp(1, i64::MAX as u128) as u64
}
