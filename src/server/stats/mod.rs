//! What a node counts and tells of itself.
//!
//! Loops write `counters`, threads that call the broker write `calls`; `snapshot` adds both up, `vitals` is what any
//! thread may ask, `prometheus` its text. Reading takes no lock that a loop takes.

pub(super) mod calls;
pub(super) mod counters;
pub(super) mod prometheus;
pub(super) mod refusals;
pub(super) mod snapshot;
pub(super) mod vitals;
