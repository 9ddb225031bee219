//! How a reactor takes a socket over from the acceptor.
//!
//! Part of `Reactor`, called from its turn alone; the only place that puts a connection into slab and hub. `upkeep` is the
//! only one that takes it out.

use std::sync::atomic::Ordering;

use mio::{Interest, Token};

use super::{Reactor, hub::Key, parked::is_parked};
use crate::{
    id::ClientId,
    server::{
        connection::{Connection, hello::Resumption, kept::Kept},
        message::{Adoption, Claim},
        reasons::{CloseReason, NotResumed},
        stats::counters::add,
        transport::Socket,
    },
    wire::Ticket,
};

/// What taking over a socket counts for in the work of a turn: it costs system calls.
pub(super) const WORK: usize = 16;

/// A connection that is about to be put into slab and hub.
struct Newcomer<S> {
    connection: Connection<S>,
    /// The key in the hub that it takes over.
    place: Option<Key>,
    /// What its client is told, if it can resume, and whether its channels are as they were.
    greeting: Option<(Resumption, bool)>,
    /// What it is given.
    missed: Option<Kept>,
}

impl<S: Socket> Reactor<S> {
    /// Takes a socket over. It is in the hub before its peer sees the 101, and reported after; one that goes on from a
    /// former connection takes its place in the hub, and nobody hears of it.
    pub(super) fn adopt(&mut self, adoption: Adoption<S>) {
        self.consider(adoption, None);
    }

    /// The same of a socket that is served here.
    pub(super) fn admit(&mut self, adoption: Adoption<S>) {
        let Adoption { stream, ticket, connection: number, response, claim, mut leftover } =
            adoption;
        if self.drain.is_some() {
            self.parts.live.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let client = ticket.client().clone();
        let Newcomer { mut connection, place, greeting, missed } =
            self.newcomer(stream, ticket, number, claim);
        let key = self.connections.vacant_key();
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registry = self.parts.poll.registry();
        if let Err(error) = registry.register(connection.stream_mut(), Token(key), interest) {
            log::warn!("connection={number} client={client} cannot be watched: {error}");
            self.turn_back(connection, place, missed);
            return;
        }
        connection.enqueue_control(response);
        self.connections.insert(connection);
        let key = key as Key;
        add(&self.parts.counters.opened, 1);
        match place {
            Some(former) => self.hub.replace(&client, former, key),
            None if self.hub.insert(client.clone(), key) => {
                self.parts.watchlist.watch(client.clone())
            }
            None => {}
        }
        let resumption = greeting.as_ref().map(|(resumption, _)| *resumption);
        if let Some((resumption, channels)) = greeting {
            self.say_hello(key, resumption, channels);
        }
        let (connections, mut cx) = self.split();
        if let Some(connection) = connections.get_mut(key as usize) {
            let again = missed.map_or(0, |missed| connection.replay(missed));
            if !leftover.is_empty() {
                connection.receive(&mut leftover, &mut cx);
            }
            let unread = connection.has_unread();
            self.offered += again as u64;
            if unread {
                self.unread.push(key);
            }
        }
        self.see_opened(key, place.is_some(), resumption);
        self.mark_urgent(key);
        self.note_phase(key);
        self.close_beyond_limit(&client);
        self.look_whose(key);
    }

    /// The connection of a socket, and what it goes on from.
    fn newcomer(
        &mut self,
        stream: S,
        ticket: Ticket,
        number: u64,
        claim: Option<Box<Claim>>,
    ) -> Newcomer<S> {
        let Some(claim) = claim else {
            let (connection, place) = match self.take_place(ticket.client()) {
                Some((place, estate)) => {
                    (Connection::succeed(stream, &estate, self.now), Some(place))
                }
                None => (Connection::new(stream, ticket, number, self.now), None),
            };
            return Newcomer { connection, place, greeting: None, missed: None };
        };
        match self.take_over(ticket.client(), &claim) {
            Some((place, mut estate)) => {
                let resumption = self.judge(&claim, &mut estate);
                let channels = self.place.knows_channels(claim.since.as_deref());
                // Whatever its former connection said at its end.
                estate.keep = self.keep_of(&ticket);
                let connection = Connection::succeed(stream, &estate, self.now);
                let greeting = Some((resumption, channels));
                Newcomer { connection, place: Some(place), greeting, missed: Some(estate.kept) }
            }
            None => {
                let is_new = claim.since.is_none() && claim.c.is_none();
                let resumption =
                    if is_new { Resumption::New } else { self.refused(NotResumed::Expired) };
                let connection = self.opened(stream, ticket, number);
                let greeting = Some((resumption, false));
                Newcomer { connection, place: None, greeting, missed: None }
            }
        }
    }

    /// A socket that cannot be served: its client is waited for if it had a former one.
    fn turn_back(
        &mut self,
        mut connection: Connection<S>,
        place: Option<Key>,
        missed: Option<Kept>,
    ) {
        self.parts.live.fetch_sub(1, Ordering::Relaxed);
        let bequest = connection.bequeath();
        let bequest = bequest.or_else(|| connection.bequeath_place(self.limits.grace));
        if let (Some(former), Some(mut estate)) = (place, bequest) {
            estate.kept = missed.unwrap_or_default();
            let client = estate.client.clone();
            let parked = self.keep_estate(estate);
            self.hub.replace(&client, former, parked);
        }
    }

    /// A client with too many connections loses its oldest: a page that lost its network comes back before
    /// its former socket is known to be dead.
    fn close_beyond_limit(&mut self, client: &ClientId) {
        let keys = self.hub.connections(client);
        if keys.len() <= self.parts.limits.connections_per_client {
            return;
        }
        let is_open =
            |key: &&Key| self.connections.get(**key as usize).is_some_and(|c| c.is_open());
        let open: Vec<_> = keys.iter().filter(is_open).copied().collect();
        let away: Vec<_> = keys.iter().filter(|key| is_parked(**key)).copied().collect();
        let beyond = |all: usize| all.saturating_sub(self.parts.limits.connections_per_client);
        // Those who are away go first.
        let (away_beyond, open_beyond) = (beyond(open.len() + away.len()), beyond(open.len()));
        for key in away.iter().take(away_beyond) {
            self.end_parked(*key, CloseReason::TooMany);
        }
        for key in &open[..open_beyond] {
            self.close(*key, CloseReason::TooMany);
        }
    }
}
