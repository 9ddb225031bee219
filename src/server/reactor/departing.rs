//! Clients of slots that another node owns: they are told to go there, at a pace.
//!
//! Part of `Reactor`, called from its turn and where it takes a socket over. Who is to go follows from what the reactor is
//! told last of the table of slots, not from what it was told before: a node that was paused sends on whoever is not its own.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Reactor, hub::Key};
use crate::server::{
    message::{Onward, SlotNews},
    ownership::Ownership,
    reasons::CloseReason,
    transport::Socket,
};
use crate::{id::ClientId, wire::Envelope};

/// Between two of them while somebody is to go.
const STEP: Duration = Duration::from_millis(50);

/// Who is to go, and when.
#[derive(Debug, Default)]
pub(super) struct Departing {
    ownership: Option<Arc<Ownership>>,
    /// Connections by key and number: a key may be another's by the time it comes to its turn.
    queue: VecDeque<(Key, u64)>,
    /// When the next are due, and since when they are counted.
    pub(super) at: Option<Instant>,
    since: Option<Instant>,
    /// The part of a connection that is due and was not closed yet.
    rest: f64,
}

impl<S: Socket> Reactor<S> {
    /// Goes by a newer table of slots.
    pub(super) fn own(&mut self, ownership: Arc<Ownership>) {
        let elsewhere = |client| ownership.is_elsewhere(client);
        let open = self.connections.iter().filter(|(_, connection)| connection.is_open());
        let open = open.filter(|(_, connection)| elsewhere(connection.client()));
        let queue = open.map(|(key, connection)| (key as Key, connection.number)).collect();
        self.departing.queue = queue;
        self.departing.ownership = Some(ownership);
        self.depart_soon();
        self.tell_departures();
    }

    /// A connection that was taken over just now may be another node's already.
    pub(super) fn look_whose(&mut self, key: Key) {
        let Some(ownership) = &self.departing.ownership else { return };
        let Some(connection) = self.connections.get(key as usize) else { return };
        if ownership.is_elsewhere(connection.client()) {
            self.departing.queue.push_back((key, connection.number));
            self.depart_soon();
            self.tell_departures();
        }
    }

    /// Sends as many on as are due.
    pub(super) fn depart(&mut self) {
        let rate = self.parts.limits.moves_per_second as f64 / self.parts.reactors as f64;
        let waited = self.departing.since.map(|since| self.at.saturating_duration_since(since));
        self.departing.since = Some(self.at);
        // Never more than a second's share: a node that was stopped does not make up for it.
        let waited = waited.unwrap_or_default().min(Duration::from_secs(1)).as_secs_f64();
        let mut due = self.departing.rest + waited * rate;
        while due >= 1.0 {
            let Some((key, number)) = self.departing.queue.pop_front() else { break };
            let connection = self.connections.get(key as usize);
            if connection.is_some_and(|c| c.number == number && c.is_open()) {
                self.close(key, CloseReason::Moved);
                due -= 1.0;
            }
        }
        self.departing.rest = due.min(1.0);
        self.departing.at = None;
        self.depart_soon();
        self.tell_departures();
    }

    fn depart_soon(&mut self) {
        if self.departing.queue.is_empty() {
            (self.departing.at, self.departing.since) = (None, None);
            return;
        }
        self.departing.since.get_or_insert(self.at);
        self.departing.at.get_or_insert(self.at + STEP);
    }

    /// Says how many are still to go.
    fn tell_departures(&self) {
        let Some(ownership) = &self.departing.ownership else { return };
        let mut left = HashMap::new();
        for (key, number) in &self.departing.queue {
            let connection = self.connections.get(*key as usize);
            if let Some(connection) = connection.filter(|c| c.number == *number && c.is_open()) {
                *left.entry(ownership.slot(connection.client())).or_default() += 1;
            }
        }
        self.parts.departures.set(self.parts.index, ownership.version(), left);
    }

    /// Hands a message on to the other node that may have connections of a client; whether there is one. `receipt`: it says what
    /// becomes of the message, as nobody is here.
    pub(super) fn hand_on(
        &self,
        receiver: ClientId,
        origin: Option<&Arc<Envelope>>,
        receipt: bool,
    ) -> bool {
        let (Some(ownership), Some(origin)) = (&self.departing.ownership, origin) else {
            return false;
        };
        let Some(node) = ownership.other(receiver) else { return false };
        let onward =
            Onward { node: node.to_owned(), message: Arc::clone(origin), receiver, receipt };
        self.parts
            .onward
            .as_ref()
            .is_some_and(|onwards| onwards.try_send(SlotNews::Onward(onward)).is_ok())
    }
}
