//! Connections to Redis: how they are opened, shared and read, and what their failures mean.
//!
//! Knows commands only as bytes, and neither keys nor what they are for.

pub(super) mod connection;
pub(super) mod connector;
mod dial;
pub(super) mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
pub(super) mod gather;
pub(super) mod listener;
pub(super) mod mark;
mod options;
pub(super) mod pool;
mod pushes;
pub(super) mod reply;
mod sentinel;
mod url;

pub use options::{ChangesBy, RedisOptions};
pub(in crate::broker) use url::split;

/// Commands in one round trip; keeps what Redis must buffer for one call within a few megabytes.
pub(super) const PIPELINE: usize = 1024;
