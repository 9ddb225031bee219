//! What happens when Redis, the network or a node fails: nothing is lost silently, nobody is a ghost.
//!
//! `docs/reliability.md` is the table of these faults. Tests wait for conditions with a deadline; what
//! must not happen any more is known from a witness that is reaped last.

mod kill;
mod loss;
mod outages;
mod presence;
#[path = "../support/process.rs"]
mod process;
#[path = "../support/proxy.rs"]
mod proxy;
mod receipts;
#[path = "../support/redis.rs"]
mod redis_server;
mod rooms;
mod slow;
mod spin;
mod world;
#[path = "../support/ws.rs"]
mod ws;
