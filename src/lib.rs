//! imcore pushes messages to very many WebSocket clients, and lets ordinary blocking code say what.
//!
//! It is the system known as ImCore or FreeIM (C#), built anew: the same Redis keys, topics and payloads,
//! so either side can be exchanged without the other. Two parts:
//!
//! - **The helper** ([`ImClient`], or [`ImHelper`] for one per process) is for the business's own web
//!   API. A call blocks for one round trip to the broker, a few at most. Business code in other languages
//!   uses the program's API over HTTP, which does the same.
//! - **The server** ([`server::Server`], or the program `imserver`) holds the clients' sockets, in the
//!   clear or with TLS ([`server::TlsConfig`]). It only pushes: what clients *do* goes to the business's
//!   API, so the server outlives every release of the business code.
//!
//! Between them stands a [`broker::Broker`]: [`broker::MemoryBroker`] in one process,
//! [`broker::RedisBroker`] for several.
//!
//! # A first program
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//! use imcore::{ImClient, Message, broker::MemoryBroker};
//! # #[cfg(feature = "server")] {
//! use imcore::server::{Server, ServerConfig};
//!
//! // One node and a helper in this process. With Redis only the broker changes:
//! // RedisBroker::open("redis://127.0.0.1:6379", RedisOptions::default())?
//! let broker = Arc::new(MemoryBroker::new());
//! let config = ServerConfig { listen: ([127, 0, 0, 1], 0).into(), ..ServerConfig::default() };
//! let node = Server::start(config, broker.clone())?;
//! node.wait_ready(Duration::from_secs(5));
//! let im = ImClient::builder().servers([node.server()]).broker(broker).build()?;
//!
//! // In the web API, after the user has logged in: hand this address to the browser.
//! let url = im.connect_url(42, Some("browser"))?;
//! assert!(url.contains("/ws?token="));
//!
//! // Anywhere, on any thread: push to users, channels, everybody.
//! im.send(Message::to([42]), &serde_json::json!({ "text": "hello" }))?;
//! im.join([42], ["lobby"])?;
//! im.send(Message::to_channel("lobby"), "welcome to the lobby")?;
//! im.send(Message::to_everyone(), "to everybody")?;
//! node.shutdown();
//! # }
//! # Ok::<(), imcore::Error>(())
//! ```
//!
//! # Words
//!
//! Each has one meaning: a **client** is a user id; a **connection** one socket of it; a **node** one
//! server process; a **channel** a chat channel; a **topic** a Redis publish/subscribe channel; a
//! **ticket** what a connect token stands for; an **envelope** what travels between processes; a
//! **frame** encoded bytes for a socket; an **outbox** the frames that a connection still has to write.
//!
//! # Where to read on
//!
//! `id` and `wire` (pure) → [`broker`] (the contract, then its two backends) → `helper` → [`server`],
//! whose module documentation names its own reading order → the program, `src/bin/imserver/main.rs`, which
//! sees no more than this page shows. Dependencies point in this direction only.
//!
//! # What always holds
//!
//! - All connections of a client are on one node, and there on one reactor thread.
//! - A reactor never blocks: it makes no call to the broker, and no queue makes it wait.
//! - Nobody is online before its 101 response is written; whoever reacts to the online event can
//!   already reach the client.
//! - Every message that is offered to a connection is delivered or counted as dropped, with a reason.
//! - Every connection gets one online and one offline event, also when its node is killed.
//! - No panic and no `unsafe` stands between what a peer sends and the other peers.
//!
//! # Features
//!
//! | feature | what it adds |
//! | --- | --- |
//! | `cli` (default) | the program `imserver` with its admin page and its API over HTTP; implies `server` |
//! | `redis` (default) | [`broker::RedisBroker`] |
//! | `tls` (default) | TLS for what else is built: `rediss://` URLs with `redis`, `wss://` with `server` |
//! | `server` | [`server`]: the WebSocket nodes |
//!
//! A business service takes `default-features = false, features = ["redis"]` and compiles neither event
//! loop nor WebSocket code. No feature brings in an async runtime.

mod backoff;
pub mod broker;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod helper;
mod id;
#[cfg(test)]
mod mutations;
mod placement;
#[cfg(test)]
mod seeded;
#[cfg(feature = "server")]
pub mod server;
#[doc(hidden)]
pub mod throttle;
mod token;
// Only the Redis broker turns envelopes into bytes.
#[cfg_attr(not(feature = "redis"), allow(dead_code))]
mod wire;

pub use broker::{Page, PresenceEvent};
pub use error::{Error, ErrorKind, Result};
pub use helper::{
    Accepted, Batch, ConnectionInfo, ImClient, ImClientBuilder, ImHelper, Message, NodeInfo,
    PresenceWatch, Receipt, SendEvent,
};
pub use id::{ClientId, IdKind};
pub use wire::{Envelope, NodeStatus, Ticket};

/// What the examples of these pages call: a client of a deployment with one node, in this process.
#[doc(hidden)]
pub fn example_client() -> Result<ImClient> {
    let broker = std::sync::Arc::new(broker::MemoryBroker::new());
    ImClient::builder().servers(["127.0.0.1:6001"]).broker(broker).build()
}

/// Compiles the program in the README.
#[cfg(all(doctest, feature = "redis"))]
#[doc = include_str!("../README.md")]
struct Readme;
