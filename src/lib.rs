//! Instant-messaging push: server and blocking helper library.

mod backoff;
pub mod broker;
mod error;
mod helper;
mod id;
mod nodes;
#[cfg(feature = "server")]
pub mod server;
mod token;
mod wire;

pub use error::{Error, ErrorKind, Result};
pub use helper::{EventBus, ImClient, ImClientBuilder, ImHelper, SendEvent};
pub use id::{ClientId, IdKind};
pub use wire::{Envelope, ReceiptStatus, Ticket};
