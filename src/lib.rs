//! Instant-messaging push: server and blocking helper library.

pub mod broker;
mod error;
mod id;
mod token;
mod wire;

pub use error::{Error, ErrorKind, Result};
pub use id::{ClientId, IdKind};
pub use wire::{Envelope, ReceiptStatus, Ticket};
