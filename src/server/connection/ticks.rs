//! Moments as connections keep them: short, since there are millions of connections.

use std::time::Duration;

/// Moments in the reactor's own time: tenths of a second since it started.
pub(crate) type Ticks = u32;

/// Ticks in a second.
pub(crate) const TICKS_PER_SECOND: u32 = 10;

/// The moment that is `since_start` after the reactor's start.
pub(crate) fn at(since_start: Duration) -> Ticks {
    (since_start.as_millis() / u128::from(1000 / TICKS_PER_SECOND)) as Ticks
}

/// A span of time; never none at all.
pub(crate) fn span(time: Duration) -> Ticks {
    at(time).max(1)
}
