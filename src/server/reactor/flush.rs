//! Which connections of a reactor have something to write, and the step of its turn in which they write it.
//!
//! `Pending` says who, in which order; how is the connection's own business (`Connection::flush`). Part of `Reactor`,
//! called from its turn alone.

use std::{collections::VecDeque, hint::black_box};

use super::{Reactor, deliver::Delivery, hub::Key};
use crate::{
    broker::PresenceChange,
    server::{
        connection::{Connection, Standing, continuity::Keep},
        transport::Socket,
    },
};

/// Connections of bulk traffic (channels, broadcast) that are flushed per turn: what a message to one
/// client waits for at most.
const BULK_PER_TURN: usize = 64;

/// Connections with something to write, each listed once a list.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Messages to single clients, and whatever else is not to wait.
    urgent: Vec<Key>,
    /// Messages to many; taken in slices.
    bulk: VecDeque<Key>,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.urgent.is_empty() && self.bulk.is_empty()
    }

    fn add_urgent<S>(&mut self, key: Key, connection: &mut Connection<S>) {
        if !std::mem::replace(&mut connection.in_urgent, true) {
            self.urgent.push(key);
        }
    }

    fn add_bulk<S>(&mut self, key: Key, connection: &mut Connection<S>) {
        if !std::mem::replace(&mut connection.in_bulk, true) {
            self.bulk.push_back(key);
        }
    }
}

impl<S: Socket> Reactor<S> {
    pub(super) fn mark_urgent(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key as usize) {
            self.pending.add_urgent(key, connection);
        }
    }

    pub(super) fn mark_bulk(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key as usize) {
            self.pending.add_bulk(key, connection);
        }
    }

    /// Has the urgent write, then a slice of the others.
    pub(super) fn flush_pending(&mut self) {
        let mut urgent = std::mem::take(&mut self.pending.urgent);
        urgent.drain(..).for_each(|key| self.flush(key));
        self.pending.urgent = urgent;
        if self.delivery.as_ref().is_some_and(Delivery::is_to_many) {
            // Not amid a message to many: those who get several in a row then get them in one write.
            return;
        }
        self.look_ahead();
        for _ in 0..BULK_PER_TURN {
            let Some(key) = self.pending.bulk.pop_front() else { return };
            self.flush(key);
        }
    }

    /// Looks at the connections that are flushed next. One after the other, each waits for its memory several times, as system
    /// calls lie between them; like this the processor waits for that of many at once.
    fn look_ahead(&self) {
        let next = self.pending.bulk.iter().take(BULK_PER_TURN);
        let connections = next.filter_map(|key| self.connections.get(*key as usize));
        // Or the compiler would leave it out.
        black_box(connections.fold(0, |seen, connection| seen ^ connection.look_at_output()));
    }

    fn flush(&mut self, key: Key) {
        let (connections, mut cx) = self.split();
        let Some(connection) = connections.get_mut(key as usize) else { return };
        connection.in_urgent = false;
        connection.in_bulk = false;
        if connection.has_output() {
            connection.flush(&mut cx);
        }
        if connection.standing == Standing::New && connection.is_open() && !connection.has_output()
        {
            // The 101 is on its way: from here on the client may count as online.
            connection.standing = Standing::Reported;
            self.report_opened(key);
        }
        self.note_phase(key);
    }

    fn report_opened(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key as usize) else { return };
        let (number, resumable) = (connection.number, connection.keep() != Keep::NONE);
        if let Some(ticket) = connection.take_ticket() {
            self.report(PresenceChange::Opened { connection: number, ticket, resumable });
        }
    }
}
