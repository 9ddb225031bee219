//! Everything a `MemoryBroker` knows: tickets, requests, presence, channels and the queues of subscribers.
//!
//! Used under the broker's mutex only. Takes the time as an argument and never waits.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use ahash::{AHashMap, AHashSet};

use super::{
    expiring::Expiring,
    queues::{Feed, Listener, Wake},
};
use crate::{
    broker::contract::{PresenceChange, PresenceEvent, Session},
    error::{Error, ErrorKind, Result},
    id::ClientId,
    wire::{Envelope, NodeStatus, Ticket},
};

/// How long a connection that opened and closed within one report is remembered, so that repeating
/// the report has no effect. Longer than any sensible retry.
const REMEMBER_CLOSED: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(super) struct State {
    /// Token -> ticket text.
    pub(super) tickets: Expiring,
    /// Key of a request -> who carries it out, or what came of it.
    requests: Expiring,
    /// Client -> number of its open connections; never zero.
    pub(super) online: BTreeMap<ClientId, u64>,
    sessions: AHashMap<String, SessionState>,
    /// Channel -> members; never empty.
    pub(super) members: BTreeMap<String, BTreeSet<ClientId>>,
    /// Client -> channels; never empty.
    joined: AHashMap<ClientId, AHashSet<String>>,
    /// Subscribers of nodes; a node name listed twice is two processes under one name.
    pub(super) feeds: Vec<Feed>,
    /// Subscribers of presence events.
    pub(super) listeners: Vec<Listener>,
    pub(super) next_subscriber: u64,
}

pub(super) struct SessionState {
    node: String,
    /// When the lease ends; `None` once the session was ended.
    until: Option<Instant>,
    /// What its node last said of itself.
    status: Option<NodeStatus>,
    /// Whether its end is told.
    loud: bool,
    connections: AHashMap<u64, Ticket>,
    /// Connections that opened and closed within one report.
    closed: AHashMap<u64, Instant>,
}

// --- Requests ------------------------------------------------------------------------------------

impl State {
    pub(super) fn claim(
        &mut self,
        key: &str,
        claim: &str,
        now: Instant,
        life: Duration,
    ) -> Option<String> {
        if let Some(there) = self.requests.get(key, now) {
            return Some(there.to_owned());
        }
        self.requests.put(key, claim, now + life);
        None
    }

    pub(super) fn settle(
        &mut self,
        key: &str,
        claim: &str,
        outcome: &str,
        now: Instant,
        life: Duration,
    ) -> bool {
        if self.requests.get(key, now) != Some(claim) {
            return false;
        }
        match life.is_zero() {
            true => drop(self.requests.take(key, now)),
            false => self.requests.put(key, outcome, now + life),
        }
        true
    }
}

// --- Presence ------------------------------------------------------------------------------------

impl State {
    pub(super) fn begin_session(
        &mut self,
        session: &Session,
        node: &str,
        supersede: bool,
        now: Instant,
    ) {
        if supersede {
            for former in self.sessions.values_mut().filter(|former| former.node == node) {
                former.until = None;
            }
        }
        let state = SessionState {
            node: node.into(),
            until: Some(now + session.lease),
            status: None,
            loud: true,
            connections: AHashMap::new(),
            closed: AHashMap::new(),
        };
        self.sessions.insert(session.id.clone(), state);
    }

    /// The session, unless it was ended. One whose lease has run out unnoticed is still good.
    fn own_session(&mut self, session: &Session) -> Result<&mut SessionState> {
        self.sessions.get_mut(&session.id).filter(|state| state.until.is_some()).ok_or_else(|| {
            Error::new(ErrorKind::SessionLost, format!("session {} has ended", session.id))
        })
    }

    pub(super) fn renew(
        &mut self,
        session: &Session,
        status: &NodeStatus,
        now: Instant,
    ) -> Result<()> {
        let state = self.own_session(session)?;
        (state.until, state.status) = (Some(now + session.lease), Some(status.clone()));
        Ok(())
    }

    pub(super) fn report(
        &mut self,
        session: &Session,
        changes: &[PresenceChange],
        now: Instant,
    ) -> Result<()> {
        self.own_session(session)?;
        let mut opened_here = AHashSet::new();
        for change in changes {
            match change {
                PresenceChange::Opened { connection, ticket } => {
                    opened_here.insert(*connection);
                    self.open(session, *connection, ticket, true);
                }
                PresenceChange::Restored { connection, ticket } => {
                    opened_here.insert(*connection);
                    self.open(session, *connection, ticket, false);
                }
                PresenceChange::Closed { connection } => {
                    if opened_here.contains(connection) {
                        self.remember_closed(session, *connection, now);
                    }
                    self.close(&session.id, *connection);
                }
            }
        }
        Ok(())
    }

    fn open(&mut self, session: &Session, connection: u64, ticket: &Ticket, loud: bool) {
        let Some(state) = self.sessions.get_mut(&session.id) else { return };
        if state.closed.contains_key(&connection) || state.connections.contains_key(&connection) {
            return;
        }
        state.connections.insert(connection, ticket.clone());
        *self.online.entry(ticket.client()).or_default() += 1;
        if loud {
            self.announce(|| PresenceEvent::Online(ticket.clone()));
        }
    }

    fn remember_closed(&mut self, session: &Session, connection: u64, now: Instant) {
        let Some(state) = self.sessions.get_mut(&session.id) else { return };
        state.closed.retain(|_, since| now.duration_since(*since) < REMEMBER_CLOSED);
        state.closed.insert(connection, now);
    }

    /// Ends one connection: count, channels if it was the last, event. Of no effect the second time.
    fn close(&mut self, session: &str, connection: u64) {
        let Some(state) = self.sessions.get_mut(session) else { return };
        let Some(ticket) = state.connections.remove(&connection) else { return };
        let loud = state.loud;
        let client = ticket.client();
        let left = self.online.get(&client).map_or(0, |count| count - 1);
        if left > 0 {
            self.online.insert(client, left);
        } else {
            self.online.remove(&client);
            for channel in self.channels_of(client) {
                self.leave(client, &channel);
            }
        }
        if loud {
            self.announce(|| PresenceEvent::Offline(ticket.clone()));
        }
    }

    pub(super) fn end_session(&mut self, session: &Session, loud: bool) {
        if let Some(state) = self.sessions.get_mut(&session.id) {
            (state.until, state.loud) = (None, loud);
            if state.connections.is_empty() {
                self.sessions.remove(&session.id);
            }
        }
    }

    pub(super) fn end_lapsed(&mut self, now: Instant) {
        for state in self.sessions.values_mut() {
            state.until = state.until.filter(|until| now < *until);
        }
    }

    pub(super) fn reap(&mut self, limit: usize) -> usize {
        let ended: Vec<String> = self
            .sessions
            .iter()
            .filter(|(_, state)| state.until.is_none())
            .map(|(id, _)| id.clone())
            .collect();
        let mut closed = 0;
        for id in ended {
            let Some(state) = self.sessions.get(&id) else { continue };
            let left: Vec<u64> = state.connections.keys().copied().take(limit - closed).collect();
            closed += left.len();
            for connection in left {
                self.close(&id, connection);
            }
            if self.sessions.get(&id).is_some_and(|state| state.connections.is_empty()) {
                self.sessions.remove(&id);
            }
        }
        closed
    }

    pub(super) fn online_clients(&self) -> Vec<ClientId> {
        self.online.keys().copied().filter(|client| !client.is_system()).collect()
    }

    pub(super) fn is_online(&self, client: ClientId) -> bool {
        self.online.contains_key(&client)
    }

    pub(super) fn statuses(&self, now: Instant) -> Vec<(String, Option<NodeStatus>)> {
        let standing =
            self.sessions.values().filter(|state| state.until.is_some_and(|at| now < at));
        standing.map(|state| (state.node.clone(), state.status.clone())).collect()
    }

    pub(super) fn connections_of(&self, client: ClientId, node: &str) -> Vec<(u64, Ticket)> {
        let of_node = self.sessions.values().filter(|state| state.node == node);
        let connections = of_node.flat_map(|state| &state.connections);
        let own = connections.filter(|(_, ticket)| ticket.client() == client);
        own.map(|(number, ticket)| (*number, ticket.clone())).collect()
    }

    fn announce(&mut self, event: impl Fn() -> PresenceEvent) {
        for listener in &mut self.listeners {
            listener.push(event());
        }
    }
}

// --- Channels ------------------------------------------------------------------------------------

impl State {
    pub(super) fn join(&mut self, client: ClientId, channel: &str) {
        if !self.members.entry(channel.into()).or_default().insert(client) {
            return;
        }
        self.joined.entry(client).or_default().insert(channel.into());
        self.mark(client);
    }

    pub(super) fn leave(&mut self, client: ClientId, channel: &str) {
        let Some(members) = self.members.get_mut(channel) else { return };
        if !members.remove(&client) {
            return;
        }
        if members.is_empty() {
            self.members.remove(channel);
        }
        if let Some(channels) = self.joined.get_mut(&client) {
            channels.remove(channel);
            if channels.is_empty() {
                self.joined.remove(&client);
            }
        }
        self.mark(client);
    }

    fn mark(&mut self, client: ClientId) {
        for feed in &mut self.feeds {
            feed.watched.mark(client);
            feed.wake.arrived.notify_one();
        }
    }

    pub(super) fn members(&self, channel: &str) -> Vec<ClientId> {
        self.members.get(channel).map_or_else(Vec::new, |members| members.iter().copied().collect())
    }

    pub(super) fn channels(&self) -> Vec<(String, i64)> {
        self.members.iter().map(|(name, members)| (name.clone(), members.len() as i64)).collect()
    }

    pub(super) fn channels_of(&self, client: ClientId) -> Vec<String> {
        self.joined.get(&client).map_or_else(Vec::new, |names| names.iter().cloned().collect())
    }

    pub(super) fn channel_size(&self, channel: &str) -> i64 {
        self.members.get(channel).map_or(0, |members| members.len() as i64)
    }
}

// --- Messages ------------------------------------------------------------------------------------

impl State {
    /// The first node that has no room, and what to wait on for some; `None` if all can be delivered.
    pub(super) fn first_full<'a>(
        &self,
        outgoing: &[(&'a str, Envelope)],
        capacity: usize,
    ) -> Option<(&'a str, Arc<Wake>)> {
        let full = self.feeds.iter().filter(|feed| feed.queue.len() >= capacity);
        full.into_iter().find_map(|feed| {
            let (node, _) = outgoing.iter().find(|(node, _)| *node == feed.node)?;
            Some((*node, Arc::clone(&feed.wake)))
        })
    }

    pub(super) fn deliver(&mut self, node: &str, envelope: &Envelope) {
        for feed in self.feeds.iter_mut().filter(|feed| feed.node == node) {
            feed.queue.push_back(envelope.clone());
            feed.wake.arrived.notify_one();
        }
    }
}
