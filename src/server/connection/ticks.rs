//! Moments as connections keep them: short, since there are millions.

/// Moments in the reactor's own time: tenths of a second since it started.
pub(crate) type Ticks = u32;
