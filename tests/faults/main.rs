//! What happens when Redis, the network or a node fails: nothing is lost silently, nobody is a ghost.
//!
//! `docs/reliability.md` is the table of these faults. Tests wait for conditions with a deadline; what
//! must not happen any more is known from a witness that is reaped last.

mod failover;
mod former;
mod heirs;
mod kill;
mod loss;
mod outages;
mod presence;
mod receipts;
mod rooms;
mod rosters;
mod slow;
mod spin;
mod steps;
mod world;
