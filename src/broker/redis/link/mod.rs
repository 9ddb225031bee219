//! Connections to Redis: how they are opened, shared and read, and what their failures mean.
//!
//! Knows commands only as bytes, and neither keys nor what they are for.

pub(super) mod cluster;
pub(super) mod connection;
pub(super) mod connector;
mod dial;
mod dialect;
pub(super) mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
pub(super) mod gather;
pub(super) mod listener;
pub(super) mod mark;
mod moving;
mod options;
pub(super) mod pool;
mod pushes;
pub(super) mod reply;
mod sentinel;
pub(super) mod tags;
mod term;
pub(super) mod url;

pub(in crate::broker) use cluster::Cluster;
pub use options::{ChangesBy, RedisOptions};
pub(in crate::broker) use url::{read_cluster, split};

/// Commands in one round trip; keeps what Redis must buffer for one call within a few megabytes.
pub(super) const PIPELINE: usize = 1024;
