//! What clients missed while others had taken their node for dead: noted by presence once they are back in their channels, told to
//! them by the feed. Knows neither.

use std::sync::atomic::{AtomicU8, Ordering};

use super::connection::place::Hole;

/// At most one that is not told yet.
#[derive(Debug, Default)]
pub(crate) struct Absence(AtomicU8);

impl Absence {
    /// It is over, and left this hole.
    pub(crate) fn is_over(&self, hole: Hole) {
        let hole = match hole {
            Hole::Messages => 1,
            Hole::Channels => 2,
        };
        self.0.fetch_max(hole, Ordering::Release);
    }

    /// What is to be told, once.
    pub(crate) fn take(&self) -> Option<Hole> {
        // Asked with every message: no write as long as there is nothing.
        match self.0.load(Ordering::Acquire) {
            0 => None,
            _ if self.0.swap(0, Ordering::AcqRel) == 1 => Some(Hole::Messages),
            _ => Some(Hole::Channels),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_larger_hole_is_told_once() {
        let absence = Absence::default();
        assert_eq!(absence.take(), None);
        for hole in [Hole::Channels, Hole::Messages] {
            absence.is_over(hole);
        }
        assert_eq!((absence.take(), absence.take()), (Some(Hole::Channels), None));
        absence.is_over(Hole::Messages);
        assert_eq!(absence.take(), Some(Hole::Messages));
    }
}
