//! The cap on connections: whether one more may come in.
//!
//! Used by the acceptor alone. Reactors count down what has ended.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Full at the cap, and from then on until a twentieth of the places is free: a node at its limit must not flap.
#[derive(Debug)]
pub(super) struct Gate {
    cap: u64,
    /// Connections that reactors hold or are about to.
    live: Arc<AtomicU64>,
    full: bool,
}

impl Gate {
    pub(super) fn new(cap: usize, live: &Arc<AtomicU64>) -> Self {
        Gate { cap: cap as u64, live: Arc::clone(live), full: false }
    }

    /// Whether there is no place now. Says so in the log when that changes.
    pub(super) fn is_full(&mut self) -> bool {
        let resume = self.cap - self.cap.div_ceil(20);
        let live = self.live.load(Ordering::Relaxed);
        let full = live >= self.cap || (self.full && live > resume);
        if std::mem::replace(&mut self.full, full) != full {
            match full {
                true => log::warn!("full: {live} connections; more are refused"),
                false => log::warn!("{live} connections; more are accepted again"),
            }
        }
        full
    }

    /// Takes a place, which the reactor gives back when the connection has ended.
    pub(super) fn enter(&self) {
        self.live.fetch_add(1, Ordering::Relaxed);
    }

    /// Gives a place back that no reactor has taken over.
    pub(super) fn leave(&self) {
        self.live.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_full_it_opens_again_only_when_a_twentieth_is_free() {
        let live = Arc::new(AtomicU64::new(0));
        let mut gate = Gate::new(40, &live);
        for _ in 0..39 {
            gate.enter();
            assert!(!gate.is_full());
        }
        gate.enter();
        assert!(gate.is_full());
        gate.leave();
        assert!(gate.is_full(), "one place is not enough");
        gate.leave();
        assert!(!gate.is_full());
        gate.enter();
        assert!(!gate.is_full(), "open until the cap is reached again");
    }

    #[test]
    fn a_single_place_is_a_twentieth() {
        let live = Arc::new(AtomicU64::new(1));
        let mut gate = Gate::new(1, &live);
        assert!(gate.is_full());
        gate.leave();
        assert!(!gate.is_full());
    }
}
