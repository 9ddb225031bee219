//! How a reactor takes a socket over from the acceptor.
//!
//! Part of `Reactor`, called from its turn alone; the only place that puts a connection into slab and hub. `upkeep` is the
//! only one that takes it out.

use std::sync::atomic::Ordering;

use mio::{Interest, Token};

use super::{Reactor, hub::Key};
use crate::{
    id::ClientId,
    server::{
        connection::Connection, message::Adoption, reasons::CloseReason, stats::counters::add,
        transport::Socket,
    },
};

/// What taking over a socket counts for in the work of a turn: it costs system calls.
pub(super) const WORK: usize = 16;

impl<S: Socket> Reactor<S> {
    /// Takes a socket over. It is in the hub before its peer sees the 101, and reported after.
    pub(super) fn adopt(&mut self, adoption: Adoption<S>) {
        let Adoption { stream, ticket, connection: number, response, mut leftover } = adoption;
        if self.drain.is_some() {
            self.parts.live.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let client = ticket.client();
        let entry = self.connections.vacant_entry();
        let key = entry.key();
        let mut connection = Connection::new(stream, ticket, number, self.now);
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registry = self.parts.poll.registry();
        if let Err(error) = registry.register(connection.stream_mut(), Token(key), interest) {
            log::warn!("connection={number} client={client} cannot be watched: {error}");
            self.parts.live.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        connection.enqueue_control(response);
        if !leftover.is_empty() {
            connection.receive(&mut leftover, self.now, &self.limits);
        }
        if connection.has_unread() {
            self.unread.push(key as Key);
        }
        entry.insert(connection);
        add(&self.parts.counters.opened, 1);
        if self.hub.insert(client, key as Key) {
            self.parts.watchlist.watch(client);
        }
        self.mark_urgent(key as Key);
        self.note_phase(key as Key);
        self.close_beyond_limit(client);
    }

    /// A client with too many connections loses its oldest: a page that lost its network comes back before
    /// its former socket is known to be dead.
    fn close_beyond_limit(&mut self, client: ClientId) {
        let keys = self.hub.connections(client);
        if keys.len() <= self.parts.limits.connections_per_client {
            return;
        }
        let is_open =
            |key: &&Key| self.connections.get(**key as usize).is_some_and(|c| c.is_open());
        let open: Vec<_> = keys.iter().filter(is_open).copied().collect();
        let beyond = open.len().saturating_sub(self.parts.limits.connections_per_client);
        for key in &open[..beyond] {
            self.close(*key, CloseReason::TooMany);
        }
    }
}
