//! What a reactor does besides delivering: it looks after the silent and the stuck, lets go of what is gone, and checks
//! itself.
//!
//! Part of `Reactor`, called from its turn alone.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Reactor, drain, hub::Key};
use crate::{
    broker::PresenceChange,
    server::{connection::Standing, message::Report, reasons::CloseReason, transport::Socket},
};

/// Parts of a sweep: each looks at that share of the connections.
const SWEEP_PARTS: u32 = 4;
/// Connections up to which a turn is checked.
const CHECKED: usize = 128;

impl<S: Socket> Reactor<S> {
    /// One part of a pass over all connections; all of it, and often, while draining.
    pub(crate) fn sweep(&mut self) {
        self.drain_share();
        let (parts, pause) = match self.drain {
            None => (SWEEP_PARTS, self.parts.limits.sweep / SWEEP_PARTS),
            Some(_) => (1, drain::SWEEP),
        };
        self.sweep_at = self.at + pause;
        let size = self.connections.capacity();
        let to = (self.sweep_from + size.div_ceil(parts as usize)).min(size);
        self.expire_parked(parts);
        for key in self.sweep_from..to {
            let (connections, mut cx) = self.split();
            let Some(connection) = connections.get_mut(key) else { continue };
            let reason = connection.tick(&mut cx);
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
            let (client, number) = (connection.client().clone(), connection.number);
            let (gone, ending) = (connection.gone(), connection.ending());
            if connection.standing == Standing::Reported {
                connection.standing = Standing::HandedOver;
                let reason = ending.map_or("", CloseReason::label);
                self.report(match ending {
                    // Its client comes back on another node, perhaps before it has asked for an address.
                    Some(CloseReason::Moved) => {
                        PresenceChange::ClosedLate { connection: number, reason }
                    }
                    _ => PresenceChange::Closed { connection: number, reason },
                });
            }
            if self.hub.remove(&client, key) {
                self.parts.watchlist.unwatch(client.clone());
            }
            if let Some(reason) = gone {
                self.see_dropped((&client, number), self.unwritten_of(key), None, reason);
                self.see_closed(&client, number, reason);
                let connection = self.connections.remove(key as usize);
                self.settle_dropped(reason, connection.into_unwritten());
                self.parts.live.fetch_sub(1, Ordering::Relaxed);
                self.parts.counters.closed(reason);
                let reason = reason.label();
                log::debug!(
                    connection = number, client:% = client, reason;
                    "connection={number} client={client} reason={reason}"
                );
            }
        }
    }

    /// Has everybody joined again to the channels that they are in, as far as is known here.
    pub(crate) fn rejoin(&self) {
        self.tell(Report::Members(self.hub.memberships()));
    }

    /// What holds between two turns; looked at in builds with debug assertions, unless that costs more than the turn.
    pub(super) fn check(&self) {
        if !cfg!(debug_assertions) || self.connections.len() > CHECKED {
            return;
        }
        let open =
            self.connections.iter().filter(|(_, connection)| connection.takes_messages()).count();
        let here = open + self.parking.len();
        assert_eq!(
            self.hub.len(),
            here,
            "the hub knows who is open or waited for, and nobody else"
        );
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.parts.counters;
        let dropped: u64 = counters.drops.iter().map(get).sum();
        let queued: usize =
            self.connections.iter().map(|(_, connection)| connection.unwritten().1).sum();
        let queued = queued + self.parking.unwritten();
        assert_eq!(
            get(&counters.offered) + self.offered,
            get(&counters.delivered) + self.written.messages + dropped + queued as u64,
            "every message that was offered is delivered, dropped or waits"
        );
    }
}
