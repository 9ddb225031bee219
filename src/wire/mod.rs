//! The wire between processes: envelopes, tickets, receipts, statuses.
//!
//! Byte-compatible with FreeIM and ImCore for .NET in both directions. Pure: no I/O, no clock. Used
//! by the Redis broker, the helper and the server; knows none of them.

mod convert;
mod decode;
mod envelope;
mod event;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod known;
mod lenient;
#[cfg(feature = "server")]
mod position;
#[cfg(feature = "server")]
mod receipt;
#[cfg(test)]
mod recorded_tests;
mod status;
mod ticket;
mod trace;

#[cfg(feature = "redis")]
pub(crate) use decode::{Malformed, Mark};
pub use envelope::Envelope;
pub(crate) use envelope::MESSAGE_ID_BYTES;
pub use event::{Event, EventKind};
#[cfg(feature = "server")]
pub(crate) use position::{POSITION_BYTES, Position};
#[cfg(feature = "server")]
pub use receipt::ReceiptStatus;
#[cfg(feature = "server")]
pub(crate) use receipt::ReceiptText;
pub use status::NodeStatus;
pub use ticket::Ticket;
pub(crate) use ticket::tag;
pub(crate) use trace::traceparent;
