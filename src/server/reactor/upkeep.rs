//! What a reactor does besides delivering: sweep, reap, drain.
//!
//! The second half of `Reactor`, called from its turn alone.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use super::{Reactor, hub::Key};
use crate::{
    broker::PresenceChange,
    server::{config::Limits, message::Report, reasons::CloseReason, transport::Socket},
};

/// Parts of a sweep: each looks at that share of the connections.
const SWEEP_PARTS: u32 = 4;
/// Connections up to which a turn is checked.
const CHECKED: usize = 128;
/// Time between two sweeps while draining.
const DRAIN_SWEEP: Duration = Duration::from_millis(100);

/// The end of a reactor: closes are spread over the time set for it, then there is a grace.
pub(crate) struct Drain {
    began: Instant,
    pub(super) until: Instant,
    reason: CloseReason,
    /// Slab places before this one have been told to close.
    told: usize,
}

impl<S: Socket> Reactor<S> {
    /// One part of a pass over all connections; all of it, and often, while draining.
    pub(crate) fn sweep(&mut self) {
        self.drain_share();
        let (parts, pause) = match self.drain {
            None => (SWEEP_PARTS, self.parts.limits.sweep / SWEEP_PARTS),
            Some(_) => (1, DRAIN_SWEEP),
        };
        self.sweep_at = self.at + pause;
        let size = self.connections.capacity();
        let to = (self.sweep_from + size.div_ceil(parts as usize)).min(size);
        for key in self.sweep_from..to {
            let Some(connection) = self.connections.get_mut(key) else { continue };
            let reason = connection.tick(self.now, &self.limits, &mut self.written);
            if let Some(reason) = reason {
                self.close(key as Key, reason);
            } else if connection.has_output() {
                self.mark_urgent(key as Key);
            }
            self.note_phase(key as Key);
        }
        self.sweep_from = if to == size { 0 } else { to };
    }

    /// The only place that takes a connection out of hub and slab, and reports it closed. Its socket
    /// leaves the poll by being closed: nothing else holds a copy of it.
    pub(super) fn reap(&mut self) {
        for key in std::mem::take(&mut self.ending) {
            let Some(connection) = self.connections.get_mut(key as usize) else { continue };
            if connection.is_open() {
                continue;
            }
            let (client, number) = (connection.client(), connection.number);
            let gone = connection.gone();
            let was_reported = std::mem::replace(&mut connection.reported, false);
            if was_reported {
                self.report(PresenceChange::Closed { connection: number });
            }
            if self.hub.remove(client, key) {
                self.parts.watchlist.unwatch(client);
            }
            if let Some(reason) = gone {
                let connection = self.connections.remove(key as usize);
                self.settle_dropped(reason, connection.into_unwritten());
                self.parts.live.fetch_sub(1, Ordering::Relaxed);
                self.parts.counters.closed(reason);
                let reason = reason.text();
                log::debug!(
                    connection = number, client:% = client, reason;
                    "conn={number} client={client} reason={reason}"
                );
            }
        }
    }

    /// Has everybody joined again to the channels that they are in, as far as is known here.
    pub(crate) fn rejoin(&self) {
        self.tell(Report::Members(self.hub.memberships()));
    }

    pub(super) fn begin_drain(&mut self) {
        let began = self.at;
        let Limits { drain, drain_over, .. } = self.parts.limits;
        let reason = match drain_over.is_zero() {
            true => CloseReason::Stopping,
            false => CloseReason::Restarting,
        };
        self.drain = Some(Drain { began, until: began + drain_over + drain, reason, told: 0 });
        self.sweep_at = began;
    }

    /// Closes as many connections as are due by now.
    fn drain_share(&mut self) {
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

    /// What holds between two turns; looked at in builds with debug assertions, unless that costs more than the turn.
    pub(super) fn check(&self) {
        if !cfg!(debug_assertions) || self.connections.len() > CHECKED {
            return;
        }
        let open = self.connections.iter().filter(|(_, connection)| connection.is_open()).count();
        assert_eq!(self.hub.len(), open, "the hub knows who is open, and nobody else");
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.parts.counters;
        let dropped: u64 = counters.dropped.iter().map(get).sum();
        let queued: usize =
            self.connections.iter().map(|(_, connection)| connection.unwritten().1).sum();
        assert_eq!(
            get(&counters.offered) + self.offered,
            get(&counters.delivered) + self.written.messages + dropped + queued as u64,
            "every message that was offered is delivered, dropped or waits"
        );
    }

    /// The time to drain is over: every connection that is left ends now.
    pub(crate) fn finish(&mut self) {
        let reason = self.drain.as_ref().map_or(CloseReason::Stopping, |drain| drain.reason);
        let keys: Vec<_> = self.connections.iter().map(|(key, _)| key).collect();
        for key in keys {
            let connection = self.connections.remove(key);
            if connection.reported {
                self.report(PresenceChange::Closed { connection: connection.number });
            }
            self.parts.live.fetch_sub(1, Ordering::Relaxed);
            self.parts.counters.closed(reason);
            self.settle_dropped(reason, connection.into_unwritten());
        }
    }
}
