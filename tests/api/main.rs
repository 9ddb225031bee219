//! The API over HTTP: real `imserver` processes on a real Redis, WebSocket clients, and business code in
//! other languages. `check.sh` beside this tries it against its own document.

mod access;
mod cluster;
mod document;
mod events;
mod examples;
mod failover;
mod follow;
mod foreign;
mod groups;
mod http;
mod idempotency;
mod ids;
mod mistakes;
mod operations;
mod readers;
mod receivers;
mod slots;
mod stopping;
mod transport;
mod webhooks;
