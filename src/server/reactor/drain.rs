//! The end of a reactor: it closes its connections at a pace, then gives them a grace.
//!
//! Part of `Reactor`, called from its turn and its sweep alone.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use super::{Reactor, hub::Key};
use crate::{
    broker::PresenceChange,
    server::{
        config::Limits,
        connection::{Standing, continuity::Keep},
        reasons::CloseReason,
        transport::Socket,
    },
};

/// Time between two sweeps while draining.
pub(super) const SWEEP: Duration = Duration::from_millis(100);

/// How far a drain is.
#[derive(Debug)]
pub(crate) struct Drain {
    pub(super) began: Instant,
    pub(super) until: Instant,
    reason: CloseReason,
    /// Slab places before this one have been told to close.
    told: usize,
}

impl<S: Socket> Reactor<S> {
    pub(super) fn begin_drain(&mut self) {
        let began = self.at;
        let Limits { drain_over, drain_grace, .. } = self.parts.limits;
        let reason = match drain_over.is_zero() {
            true => CloseReason::Stopping,
            false => CloseReason::Restarting,
        };
        self.drain =
            Some(Drain { began, until: began + drain_over + drain_grace, reason, told: 0 });
        self.sweep_at = began;
        self.end_arriving();
    }

    /// Closes as many connections as are due by now.
    pub(super) fn drain_share(&mut self) {
        let size = self.connections.capacity();
        let Some(drain) = &mut self.drain else { return };
        let over = self.parts.limits.drain_over.as_secs_f64();
        let share = (self.at.saturating_duration_since(drain.began).as_secs_f64() / over).min(1.0);
        let due = if over == 0.0 { size } else { (size as f64 * share).ceil() as usize };
        let (from, reason) = (drain.told, drain.reason);
        drain.told = due;
        for key in from..due {
            self.close(key as Key, reason);
        }
    }

    /// The time to drain is over: every connection that is left ends now.
    pub(crate) fn finish(&mut self) {
        let reason = self.drain.as_ref().map_or(CloseReason::Stopping, |drain| drain.reason);
        // Clients who can resume are left to the process that comes after this one.
        for key in self.parking.keys() {
            self.leave_parked(key, reason);
        }
        let keys: Vec<_> = self.connections.iter().map(|(key, _)| key).collect();
        for key in keys {
            let connection = self.connections.remove(key);
            let is_left = connection.keep() != Keep::NONE;
            if connection.standing == Standing::Reported && !is_left {
                self.report(PresenceChange::Closed {
                    connection: connection.number,
                    reason: reason.label(),
                });
            }
            self.parts.live.fetch_sub(1, Ordering::Relaxed);
            self.parts.counters.closed(reason);
            match is_left {
                true => self.settle_left(reason, connection.into_unwritten()),
                false => self.settle_dropped(reason, connection.into_unwritten()),
            }
        }
    }
}
