//! The helper: what a business service links to push to its clients.
//!
//! Synchronous and thread-safe. Depends on the broker alone; a build without the `server` feature holds
//! neither event loop nor WebSocket code.

mod channels;
mod client;
mod event_bus;
mod facade;
mod messages;
mod options;
mod overview;
mod presence;
mod public_url;

pub use client::{ImClient, SendEvent};
pub use event_bus::EventBus;
pub use facade::ImHelper;
pub use messages::Batch;
pub use options::ImClientBuilder;
pub use overview::{Connection, Node};
