//! The program as an operator sees it: flags, exit codes, signals, and nodes that die.

mod cluster;
mod deaths;
mod flags;
mod health;
mod ids;
mod logs;
mod misfits;
mod pressure;
mod process;
#[path = "../support/redis.rs"]
mod redis_server;
mod rights;
mod signals;
mod stopped;
mod stops;
mod tls;
#[path = "../support/ws.rs"]
mod ws;
