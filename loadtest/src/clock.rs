//! Time that all processes on this machine agree on, in nanoseconds.
//!
//! Latency is the difference between two readings in two processes, so it must be the monotonic clock
//! of the kernel and not the start-relative `Instant` of one process.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of the system's monotonic clock.
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
