//! What a node has to do with its broker: the threads that wait for it, so that no loop ever does.
//!
//! `feed` takes what the broker says to the reactors; `tickets`, `receipts` and `presence` bring the broker what
//! acceptor and reactors ask and report, in batches; `slots` keeps the node in the table of slots. Each is one thread, started by the node; none names another.
//! `beginning`, `handover` and `failover` are parts of `presence`; `estates`, `ledger`, `grace` and `allowance` only compute.

mod allowance;
mod batch;
mod beginning;
mod estates;
mod failover;
pub(super) mod feed;
mod grace;
mod handover;
pub(super) mod ledger;
pub(super) mod presence;
pub(super) mod receipts;
pub(super) mod rosters;
pub(super) mod slots;
pub(super) mod tickets;
