//! Whether a client takes what it is sent: what its socket refused, what it took since, and how far it may be behind.
//!
//! A part of `connection`. Judges by bytes and ticks alone: it knows neither socket nor outbox. A client is judged only
//! once its socket has refused bytes, since only then anything waits for the client rather than for us.

use super::{limits::ConnectionLimits, ticks::Ticks};

/// Bytes that a client whose socket refuses some must take within `outbox_age`, if so many wait.
const LEAST_PACE: usize = 16 << 10;
/// Times `outbox_age` within which a client must be able to catch up at its pace, whatever waits.
const CATCH_UP: usize = 30;
/// Times `outbox_bytes` that wait at most, even for a client that reads.
const FAR_BEHIND: usize = 64;
/// Bytes that wait at most however large that is: an outbox counts in 32 bits.
const MOST: usize = 2 << 30;

#[derive(Debug)]
pub(super) struct Pace {
    /// Bytes that the socket has still to take by `due`; set anew whenever they are taken and more waits.
    owed: u32,
    /// `Ticks::MAX` while the socket has refused nothing.
    due: Ticks,
    /// When the socket last took bytes, or first refused some.
    took: Ticks,
    /// When it was last offered some.
    asked: Ticks,
    /// The socket has refused bytes and nobody has said since that it takes more.
    refuses: bool,
}

impl Pace {
    pub(super) fn new(now: Ticks) -> Self {
        Pace { owed: 0, due: Ticks::MAX, took: now, asked: now, refuses: false }
    }

    /// Whether the socket is known to take nothing.
    pub(super) fn refuses(&self) -> bool {
        self.refuses
    }

    /// The socket may take bytes again; whether it took none before.
    pub(super) fn takes_more(&mut self) -> bool {
        std::mem::take(&mut self.refuses)
    }

    /// Whether a look at the socket says something new: one that refuses is asked once a tick.
    pub(super) fn is_worth_asking(&self, now: Ticks) -> bool {
        !self.refuses || self.asked != now
    }

    /// The socket was offered bytes and took `bytes` of them; `moved` if it took any at all, in whatever form.
    pub(super) fn offered(&mut self, bytes: usize, moved: bool, now: Ticks) {
        self.asked = now;
        self.owed = self.owed.saturating_sub(bytes as u32);
        if moved {
            self.took = now;
        }
    }

    /// Nothing is left to take.
    pub(super) fn caught_up(&mut self) {
        self.due = Ticks::MAX;
    }

    /// The socket refuses the `waiting` bytes that are left.
    pub(super) fn refused(&mut self, waiting: usize, now: Ticks, limits: &ConnectionLimits) {
        self.refuses = true;
        let is_first = self.due == Ticks::MAX;
        if is_first {
            self.took = now;
        }
        if is_first || self.owed == 0 {
            self.owed = waiting.min(LEAST_PACE.max(waiting / CATCH_UP)) as u32;
            self.due = now + limits.outbox_age;
        }
    }

    /// When the socket last took bytes, if it has refused some since it was last done.
    pub(super) fn last_taken(&self) -> Option<Ticks> {
        (self.due != Ticks::MAX).then_some(self.took)
    }

    /// Whether the socket has not taken in time what was asked of it.
    pub(super) fn is_late(&self, now: Ticks) -> bool {
        now >= self.due && self.owed > 0
    }

    /// Whether more than its share waits, `weight`, and the socket has taken nothing of it for too long.
    pub(super) fn is_stalled(&self, weight: usize, now: Ticks, limits: &ConnectionLimits) -> bool {
        self.last_taken()
            .is_some_and(|took| weight > limits.outbox_bytes && now - took >= limits.outbox_stall)
    }

    /// What may wait at most, even for a client that reads.
    pub(super) fn most(limits: &ConnectionLimits) -> usize {
        limits.outbox_bytes.saturating_mul(FAR_BEHIND).min(MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::connection::tests::LIMITS;

    #[test]
    fn nobody_is_judged_before_a_socket_refuses() {
        let pace = Pace::new(0);
        let long = 1_000_000;
        assert!(!pace.is_late(long) && !pace.is_stalled(usize::MAX, long, &LIMITS));
    }

    #[test]
    fn who_takes_its_share_in_time_is_never_late() {
        let mut pace = Pace::new(0);
        let mut waiting = 100 * LEAST_PACE;
        pace.refused(waiting, 0, &LIMITS);
        for now in (LIMITS.outbox_age - 1..).step_by(LIMITS.outbox_age as usize - 1).take(60) {
            assert!(!pace.is_late(now));
            let share = waiting.min(LEAST_PACE.max(waiting / CATCH_UP));
            waiting -= share;
            pace.offered(share, true, now);
            pace.refused(waiting, now, &LIMITS);
        }
    }

    #[test]
    fn who_takes_less_than_its_share_is_late() {
        let mut pace = Pace::new(0);
        pace.refused(100 * LEAST_PACE, 0, &LIMITS);
        pace.offered(LEAST_PACE - 1, true, 5);
        assert!(!pace.is_late(LIMITS.outbox_age - 1));
        assert!(pace.is_late(LIMITS.outbox_age));
    }

    #[test]
    fn stalled_counts_from_the_last_byte() {
        let mut pace = Pace::new(0);
        let weight = LIMITS.outbox_bytes + 1;
        pace.refused(weight, 0, &LIMITS);
        pace.offered(1, true, 20);
        pace.offered(0, false, 40);
        assert!(!pace.is_stalled(weight, 20 + LIMITS.outbox_stall - 1, &LIMITS));
        assert!(pace.is_stalled(weight, 20 + LIMITS.outbox_stall, &LIMITS));
        assert!(!pace.is_stalled(LIMITS.outbox_bytes, 20 + LIMITS.outbox_stall, &LIMITS));
    }
}
