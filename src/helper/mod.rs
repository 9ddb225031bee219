//! The helper: what a business service links to push to its clients.
//!
//! Synchronous and thread-safe. Depends on the broker alone; a build without the `server` feature holds
//! neither event loop nor WebSocket code.

mod batch;
mod channels;
mod client;
mod dispatch;
mod events;
mod facade;
mod message;
mod options;
mod overview;
mod presence;
mod public_url;
mod routes;
mod watch;

pub use batch::{Accepted, Batch};
pub use client::{ImClient, SendEvent};
pub use events::EventStream;
pub use facade::ImHelper;
pub use message::{Message, Receipt};
pub use options::ImClientBuilder;
pub use overview::{ConnectionInfo, NodeInfo};
pub use watch::PresenceWatch;
