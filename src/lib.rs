//! Instant-messaging push: server and blocking helper library.

pub mod broker;
mod error;
mod id;
mod token;
// Only the Redis broker turns envelopes into bytes and names keys.
#[cfg_attr(not(feature = "redis"), allow(dead_code))]
mod wire;

pub use error::{Error, ErrorKind, Result};
pub use id::{ClientId, IdKind};
pub use wire::{Envelope, ReceiptStatus, Ticket};
