//! What is measured and compared: a room on the server or on the floor, direct messages from Redis to either.
//!
//! Each setup keeps its clients connected over all runs, so that runs can be interleaved; each counts what
//! it offers, so that the account covers every message. Used by the rows.

mod direct;
mod names;
mod room;
mod slice;

pub use direct::Direct;
pub use names::{choose_names, first_client, room_name};
pub use room::{Room, join};
pub use slice::{Slice, TURNS, slice};

use std::time::Duration;

use crate::orders::{Dial, Reconnect};

/// Longest wait for a delivery.
const PATIENCE: Duration = Duration::from_secs(60);
/// Connects under way while a setup is made.
const WINDOW: usize = 256;

/// An order to connect everybody quickly.
pub fn everybody(first: i64, count: usize) -> Dial {
    Dial {
        first,
        count,
        rate: None,
        window: WINDOW,
        prepared: false,
        floor: None,
        reconnect: Reconnect::Never,
        again: false,
    }
}
