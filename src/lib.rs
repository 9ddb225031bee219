//! imcore pushes messages to very many WebSocket clients, and lets ordinary blocking code say what.
//!
//! It is the system known as ImCore or FreeIM (C#), built anew: the same Redis keys, topics and payloads,
//! so either side can be exchanged without the other.
//!
//! ```text
//!  your service, any thread                                          browser, app
//!  ImClient ---- send, join, ask ---> broker ---- feed ---> node ---- WebSocket ---> client
//!      ^                          Redis, or memory            |
//!      '------------ presence events ----------'<-- online, offline, receipts
//! ```
//!
//! - **The helper**, [`ImClient`], is what a business service links. A call blocks for one round trip to the
//!   broker, a few at most. ([`ImHelper`] is the same under the original's names, once per process.)
//! - **The nodes** hold the clients' sockets: the program `imserver`, or [`Server`][node] in a process of yours.
//!   They only push. What clients *do* goes to your service, so nodes outlive every release of the business code.
//! - **The broker** is between them: [`MemoryBroker`](broker::MemoryBroker) in one process,
//!   [`RedisBroker`][redis] for several.
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
//! // ImClient::builder().servers(["10.0.0.5:6001", "10.0.0.6:6001"]).redis("redis://10.0.0.9:6379")
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
//! # Clients and addresses
//!
//! A client is a user of yours, a [`ClientId`]: an integer, a GUID or another text. It may have many connections (phone, tabs); all
//! are on one node, which follows from the id. Either the nodes are a fixed list, [`servers`](ImClientBuilder::servers), which is
//! the same, in the same order, in every process; or they come and go: then clients belong to [`slots`](ImClientBuilder::slots), a
//! [`SlotTable`] in the broker says which node owns which, and everybody follows it. Clients of a slot that moves are sent on to its new
//! owner; [`ImClient::plan_slots`] says beforehand what would move.
//!
//! [`ImClient::connect_url`] gives the address for one connection. It is good once, for 10 s, so a page asks your API for a
//! fresh one before each attempt. Whoever holds it connects as that client. [`ImClient::kick`] closes all
//! connections of a client and voids its addresses.
//!
//! # Channels
//!
//! [`ImClient::join`] and [`leave`](ImClient::leave) say who is in a channel; who may is your decision, as only your
//! code calls them. A message to a channel reaches everybody who joined before it was sent, also right before.
//! Memberships end with a client's last connection.
//!
//! # Delivery and receipts
//!
//! [`ImClient::send`] returns when the broker has the message. Delivery is **at most once**: a client that is not
//! connected misses it, and so does one whose node is away from the broker at that moment, or which reads so
//! slowly that its connection is given up. Within one thread and for one receiver, messages keep their order.
//!
//! What must not be lost you keep in your database; the push says that there is something new, and the page asks
//! for what it missed whenever it connects. A sender that wants to know asks for [`Receipt::Sent`]: its own
//! connections are then told, per receiver, `sent` or `offline`.
//!
//! # Presence
//!
//! [`ImClient::is_online`] and [`online_clients`](ImClient::online_clients) ask, [`on_presence`](ImClient::on_presence)
//! and [`watch_presence`](ImClient::watch_presence) are told: one online and exactly one offline event for each
//! connection, also when its node is killed (within some 10 s). Whoever keeps what events say takes
//! `watch_presence`, which also tells where a gap may have been.
//!
//! # Errors
//!
//! Every call that can fail gives an [`Error`], whose [`kind`](Error::kind) is what to act on:
//!
//! | kind | what happened | what to do |
//! | --- | --- | --- |
//! | [`Unavailable`](ErrorKind::Unavailable), [`Overloaded`](ErrorKind::Overloaded) | nothing was done | try again, later |
//! | [`Timeout`](ErrorKind::Timeout), [`Interrupted`](ErrorKind::Interrupted) | perhaps done, perhaps in part | try again if twice does no harm: joins, leaves and kicks never do, a message may come twice |
//! | [`Argument`](ErrorKind::Argument), [`Encode`](ErrorKind::Encode) | the call cannot be made so | correct the call |
//! | [`Config`](ErrorKind::Config) | a setting is wrong; [`Error::setting`] names it | correct the deployment |
//! | [`Rejected`](ErrorKind::Rejected) | Redis refused a command | look at its rights and keys |
//!
//! [`Error::is_retryable`] is true for the first two rows. Calls never hang: while Redis is away each fails within
//! its deadline, 5 s at most by default.
//!
//! # Threads and async
//!
//! [`ImClient`] is a cheap handle: clone it, call it from any thread. Every call but those that only collect blocks for a round
//! trip, so async code makes it where waiting is allowed, as with `tokio::task::spawn_blocking`; see
//! [there](ImClient#async-callers). Callbacks run on a thread of imcore, one at a time. No feature brings in an
//! async runtime.
//!
//! # Features
//!
//! | feature | what it adds |
//! | --- | --- |
//! | `redis` (default) | [`RedisBroker`][redis] |
//! | `tls` (default) | TLS for what else is built: `rediss://` URLs with `redis`, `wss://` with `server` |
//! | `server` | the module [`server`][server]: the WebSocket nodes |
//! | `uuid` | [`ClientId`] from and to `uuid::Uuid` |
//!
//! What is there by default is what a business service needs; it compiles neither event loop nor WebSocket code. The
//! program `imserver` is a package of its own.
//!
//! # Words
//!
//! Each has one meaning: a **client** is a user id; a **connection** one socket of it; a **node** one
//! server process; a **channel** a chat channel; a **topic** a Redis publish/subscribe channel; a
//! **ticket** what a connect token stands for; an **envelope** what travels between processes; a
//! **frame** encoded bytes for a socket; an **outbox** the frames that a connection still has to write.
//!
//! # Why it is so
//!
//! - *Why blocking calls?* Business code is blocking code in most languages and much of Rust; one that waits for
//!   a round trip is easy to read, and async code can call it. The nodes are event loops of their own and need
//!   no runtime either, so imcore binds nobody to one.
//! - *Why does a client belong to one node?* Then all its connections meet on one thread: several devices,
//!   receipts and kicks need no lock and no directory, and a sender knows where to send without asking.
//! - *Why does a client send nothing over its socket?* What clients do needs checking against business rules;
//!   those change weekly, and nodes with a hundred thousand sockets should not restart for it. A request to your
//!   API has a response, an error code and a log line.
//! - *Why at most once?* A push that is kept until it is read is a database. You have one.
//! - *Why the original's keys and payloads?* So that a deployment in C# moves one node and one service at a
//!   time, and back.
//! - *Why is there an error where the original kept silent?* An empty channel's name is a broadcast on the wire, a
//!   wrong list of servers sends messages astray: what would harm others is refused at the call.
//!
// Where this page's links to items of a feature lead, with and without it.
#![cfg_attr(feature = "server", doc = "[node]: server::Server\n[server]: server")]
#![cfg_attr(not(feature = "server"), doc = "[node]: #features\n[server]: #features")]
#![cfg_attr(feature = "redis", doc = "[redis]: broker::RedisBroker")]
#![cfg_attr(not(feature = "redis"), doc = "[redis]: #features")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod backoff;
pub mod broker;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod helper;
#[cfg(feature = "server")]
#[doc(hidden)]
pub mod http;
mod id;
mod placement;
#[cfg(feature = "server")]
pub mod server;
// As text it lies in Redis alone.
#[cfg_attr(not(feature = "redis"), allow(dead_code))]
mod slots;
#[doc(hidden)]
pub mod throttle;
mod token;
// Only the Redis broker turns envelopes into bytes.
#[cfg_attr(not(feature = "redis"), allow(dead_code))]
mod wire;

pub use broker::{EventStart, Page, PresenceEvent};
pub use error::{Error, ErrorKind, Result};
pub use helper::{
    Accepted, Batch, ConnectionInfo, EventStream, ImClient, ImClientBuilder, ImHelper, Message,
    NodeInfo, PresenceWatch, Receipt, SendEvent,
};
pub use id::{ClientId, IdKind, TextId};
pub use slots::{MOST_WEIGHT, SlotMove, SlotNode, SlotPlan, SlotTable, WhatIf};
pub use wire::{Event, EventKind, NodeStatus, Ticket};

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

/// Compiles the program in the guide for those who come from the original.
#[cfg(all(doctest, feature = "redis"))]
#[doc = include_str!("../docs/moving.md")]
struct Moving;
