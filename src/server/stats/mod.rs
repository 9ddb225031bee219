//! What a node counts and tells of itself.
//!
//! What is counted stands in `table`. Loops write `counters`, threads that call the broker write `calls`; `pulse` holds both and what else threads say of
//! themselves, `snapshot` is all of it at one moment, `vitals` what any thread may ask, `prometheus` its text.

pub(crate) mod away;
pub(super) mod calls;
pub(super) mod counters;
pub(super) mod histogram;
pub(super) mod prometheus;
pub(super) mod pulse;
pub(super) mod refusals;
pub(super) mod snapshot;
mod table;
pub(super) mod vitals;
