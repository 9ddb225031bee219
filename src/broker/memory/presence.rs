//! Sessions of nodes, who is online, and what becomes of the channels of those that go.
//!
//! The part of `State` that nodes' presence threads call; under the broker's mutex, with the time as an
//! argument.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use ahash::{AHashMap, AHashSet};

use super::{leaving::Due, state::State};
use crate::{
    broker::contract::{
        Abandoned, Former, FormerConnection, HandOver, PresenceChange, PresenceEvent, Session,
    },
    error::{Error, ErrorKind, Result},
    id::ClientId,
    wire::{EventKind, NodeStatus, Ticket},
};

/// How long a connection that opened and closed within one report is remembered, so that repeating
/// the report has no effect. Longer than any sensible retry.
const REMEMBER_CLOSED: Duration = Duration::from_secs(60);

/// Memberships that one call may end, as it holds the mutex: some milliseconds.
const LEAVE_STEP: usize = 10_000;

pub(super) struct SessionState {
    node: String,
    /// When the lease ends; `None` once the session was ended.
    until: Option<Instant>,
    /// What its node last said of itself.
    status: Option<NodeStatus>,
    end: End,
    connections: AHashMap<u64, Ticket>,
    /// Those of them that can be resumed, and for how long they are held once the session has ended.
    resumable: AHashMap<u64, Duration>,
    /// Those that came from other nodes, and the number in the log behind which that of this node has all for their clients.
    moved: AHashMap<u64, u64>,
    /// What other nodes have left for it.
    parcels: Vec<String>,
    /// How they can, and for how long those are held whose tickets say nothing of it.
    resume: Option<([u8; 16], Duration)>,
    /// For how long all others are held.
    grace: Duration,
    /// Since when they are held.
    away: Option<Instant>,
    closed: Closed,
}

impl SessionState {
    fn new(node: &str, until: Instant) -> Self {
        SessionState {
            node: node.into(),
            until: Some(until),
            status: None,
            end: End::Loud,
            connections: AHashMap::new(),
            resumable: AHashMap::new(),
            moved: AHashMap::new(),
            parcels: Vec::new(),
            resume: None,
            grace: Duration::ZERO,
            away: None,
            closed: Closed::default(),
        }
    }

    fn former_connections(&self) -> Vec<FormerConnection> {
        let connections = self.connections.iter().map(|(number, ticket)| FormerConnection {
            number: *number,
            ticket: ticket.clone(),
            resumable: self.resumable.contains_key(number),
            from: self.moved.get(number).copied().unwrap_or_default(),
        });
        connections.collect()
    }

    /// How long connections that can be resumed have been left to the node, should it come back; `None` if they are not.
    fn away(&mut self, now: Instant) -> Option<Duration> {
        let is_left = self.resume.is_some() && matches!(self.end, End::Loud | End::Lapsed);
        is_left.then(|| now.duration_since(*self.away.get_or_insert(now)))
    }
}

/// How a session was ended, and with it how its connections are closed by others.
#[derive(Clone, Copy, PartialEq)]
enum End {
    /// By its node, which had not reported all of them.
    Loud,
    /// By its node, which has told all that is to be told.
    Quiet,
    /// Its node was taken for dead.
    Lapsed,
    /// Its node, or the successor, is back: clients may be connecting again.
    Back,
}

/// When the last connection of a client ends: what is known of it.
#[derive(Clone, Copy, PartialEq)]
enum Depart {
    Now,
    Late,
    Lapsed,
}

impl From<End> for Depart {
    fn from(end: End) -> Self {
        match end {
            End::Loud => Depart::Now,
            End::Lapsed => Depart::Lapsed,
            End::Quiet | End::Back => Depart::Late,
        }
    }
}

/// Connections that opened and closed within one report, oldest first.
#[derive(Default)]
struct Closed {
    by_time: VecDeque<(Instant, u64)>,
    numbers: AHashSet<u64>,
}

impl Closed {
    fn remember(&mut self, connection: u64, now: Instant) {
        while let Some((since, former)) = self.by_time.front()
            && now.duration_since(*since) >= REMEMBER_CLOSED
        {
            self.numbers.remove(former);
            self.by_time.pop_front();
        }
        if self.numbers.insert(connection) {
            self.by_time.push_back((now, connection));
        }
    }
}

impl State {
    pub(super) fn begin_session(
        &mut self,
        session: &Session,
        node: &str,
        supersede: bool,
        now: Instant,
    ) {
        self.leave_behind(node, supersede);
        self.sessions.insert(session.id.clone(), SessionState::new(node, now + session.lease));
    }

    /// The node goes on elsewhere: its sessions that have ended, or all of them, are cleared away.
    fn leave_behind(&mut self, node: &str, all: bool) {
        for former in self.sessions.values_mut().filter(|former| former.node == node) {
            let ended = former.until.is_none();
            if (all || ended) && former.end != End::Quiet {
                (former.until, former.end) = (None, End::Back);
            }
        }
    }

    pub(super) fn take_over_session(
        &mut self,
        session: Session,
        node: &str,
        own: Option<&Session>,
        now: Instant,
    ) -> Option<Former> {
        let can = |(id, state): &(&String, &SessionState)| {
            state.node == node
                && own.is_none_or(|own| own.id == **id)
                && matches!(state.end, End::Loud | End::Lapsed)
                && state.resume.is_some()
                && !state.resumable.is_empty()
        };
        let former = self.sessions.iter().filter(can);
        // One that nobody has ended comes before one of which others have begun to tell.
        let (id, _) = former.max_by_key(|(_, state)| state.until)?;
        let (id, mut state) = (id.clone(), SessionState::new(node, now + session.lease));
        let former = self.sessions.remove(&id)?;
        (state.connections, state.resumable) = (former.connections, former.resumable);
        (state.resume, state.closed, state.moved) = (former.resume, former.closed, former.moved);
        state.grace = former.grace;
        let (key, _) = state.resume?;
        let connections = state.former_connections();
        self.leave_behind(node, own.is_none());
        self.sessions.insert(session.id.clone(), state);
        Some(Former { session, key, connections })
    }

    pub(super) fn keep_session(
        &mut self,
        session: &Session,
        key: &[u8; 16],
        keep: Duration,
        grace: Duration,
    ) {
        if let Some(state) = self.sessions.get_mut(&session.id) {
            (state.resume, state.grace) = (Some((*key, keep)), grace);
        }
    }

    pub(super) fn abandoned(&mut self, now: Instant) -> Vec<Abandoned> {
        let ended = self.sessions.iter_mut().filter(|(_, state)| state.until.is_none());
        let left = ended.filter(|(_, state)| !state.connections.is_empty());
        let abandoned = left.filter_map(|(session, state)| {
            let away = state.away(now)?;
            let (_, keep) = state.resume?;
            let (session, node) = (session.clone(), state.node.clone());
            Some(Abandoned { session, node, away, keep, grace: state.grace })
        });
        abandoned.collect()
    }

    pub(super) fn abandoned_connections(&self, abandoned: &str) -> Vec<FormerConnection> {
        self.sessions.get(abandoned).map(SessionState::former_connections).unwrap_or_default()
    }

    pub(super) fn take_abandoned(
        &mut self,
        session: &Session,
        abandoned: &str,
        from: u64,
        connections: &[u64],
        now: Instant,
    ) -> Result<Vec<u64>> {
        self.own_session(session)?;
        let left = self.sessions.get_mut(abandoned);
        let can = left.is_some_and(|left| left.until.is_none() && left.away(now).is_some());
        if !can {
            return Ok(Vec::new());
        }
        let (Some(mut left), Some(mut state)) =
            (self.sessions.remove(abandoned), self.sessions.remove(&session.id))
        else {
            return Ok(Vec::new());
        };
        let mut taken = Vec::new();
        for number in connections {
            if state.connections.contains_key(number) {
                continue;
            }
            let Some(ticket) = left.connections.remove(number) else { continue };
            state.connections.insert(*number, ticket);
            state.resumable.extend(left.resumable.remove_entry(number));
            left.moved.remove(number);
            state.moved.insert(*number, from);
            taken.push(*number);
        }
        self.sessions.insert(abandoned.to_owned(), left);
        self.sessions.insert(session.id.clone(), state);
        Ok(taken)
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

    pub(super) fn hand_over(
        &mut self,
        session: &Session,
        to: &str,
        from: u64,
        connections: &[u64],
        parcel: &str,
        now: Instant,
    ) -> Result<HandOver> {
        self.own_session(session)?;
        let lives = |(id, state): &(&String, &SessionState)| {
            state.node == to && **id != session.id && state.until.is_some_and(|until| now < until)
        };
        let Some(to) = self.sessions.iter().find(lives).map(|(id, _)| id.clone()) else {
            return Ok(HandOver::Nobody);
        };
        let (Some(mut state), Some(mut other)) =
            (self.sessions.remove(&session.id), self.sessions.remove(&to))
        else {
            return Ok(HandOver::Nobody);
        };
        let here = connections.iter().copied().filter(|n| state.connections.contains_key(n));
        let here: Vec<u64> = here.collect();
        let taken = here.iter().copied().filter(|n| other.connections.contains_key(n));
        let taken: Vec<u64> = taken.collect();
        if taken.is_empty() {
            for number in &here {
                other.connections.extend(state.connections.remove_entry(number));
                other.resumable.extend(state.resumable.remove_entry(number));
                state.moved.remove(number);
                other.moved.insert(*number, from);
            }
            if !here.is_empty() || connections.is_empty() {
                other.parcels.push(parcel.to_owned());
            }
        }
        self.sessions.insert(session.id.clone(), state);
        self.sessions.insert(to, other);
        Ok(if taken.is_empty() { HandOver::Done } else { HandOver::Taken(taken) })
    }

    pub(super) fn parcels(&self, session: &Session) -> Vec<String> {
        self.sessions.get(&session.id).map(|state| state.parcels.clone()).unwrap_or_default()
    }

    pub(super) fn took(&mut self, session: &Session, count: usize) {
        if let Some(state) = self.sessions.get_mut(&session.id) {
            state.parcels.drain(..count.min(state.parcels.len()));
        }
    }

    /// Whether more memberships are to be ended by [`leave_overdue`](Self::leave_overdue) at once.
    pub(super) fn report(
        &mut self,
        session: &Session,
        changes: &[PresenceChange],
        now: Instant,
    ) -> Result<bool> {
        self.own_session(session)?;
        let (mut opened_here, mut budget) = (AHashSet::new(), LEAVE_STEP);
        for change in changes {
            match change {
                PresenceChange::Opened { connection, ticket, resumable }
                | PresenceChange::Reopened { connection, ticket, resumable }
                | PresenceChange::Restored { connection, ticket, resumable } => {
                    opened_here.insert(*connection);
                    self.open(session, *connection, ticket, change);
                    if let Some(state) = self.sessions.get_mut(&session.id)
                        && *resumable
                        && state.connections.contains_key(connection)
                    {
                        let usual = state.resume.map_or(Duration::ZERO, |(_, keep)| keep);
                        state.resumable.insert(*connection, ticket.keep().unwrap_or(usual));
                    }
                }
                PresenceChange::Closed { connection, reason }
                | PresenceChange::ClosedLate { connection, reason } => {
                    if opened_here.contains(connection)
                        && let Some(state) = self.sessions.get_mut(&session.id)
                    {
                        state.closed.remember(*connection, now);
                    }
                    let how = match change {
                        PresenceChange::ClosedLate { .. } => Depart::Late,
                        _ => Depart::Now,
                    };
                    self.close(&session.id, *connection, Some(reason), how, &mut budget, now);
                }
            }
        }
        Ok(self.leaving.has_more())
    }

    fn open(
        &mut self,
        session: &Session,
        connection: u64,
        ticket: &Ticket,
        change: &PresenceChange,
    ) {
        let client = ticket.client();
        self.leaving.came(client, ticket.tag());
        let Some(state) = self.sessions.get_mut(&session.id) else { return };
        if state.closed.numbers.contains(&connection) || state.connections.contains_key(&connection)
        {
            return;
        }
        state.connections.insert(connection, ticket.clone());
        let count = self.online.entry(client.clone()).or_default();
        *count += 1;
        let is_first = *count == 1;
        if is_first {
            self.stir_all(client);
            self.leaving.stays(client);
            if matches!(change, PresenceChange::Opened { .. }) {
                self.leaving.take_left(client);
            }
        }
        if !matches!(change, PresenceChange::Restored { .. }) {
            let of = Some((connection, ticket));
            self.events.push(EventKind::Opened, &session.id, of, "");
            if is_first {
                self.events.push(EventKind::Online, &session.id, of, "");
            }
            self.announce(|| PresenceEvent::Online(ticket.clone()));
        }
    }

    /// Ends one connection: count, channels if it was the last, events if they are told why. Of no effect the second time.
    fn close(
        &mut self,
        session: &str,
        connection: u64,
        told: Option<&str>,
        how: Depart,
        budget: &mut usize,
        now: Instant,
    ) {
        let Some(state) = self.sessions.get_mut(session) else { return };
        let Some(ticket) = state.connections.remove(&connection) else { return };
        state.resumable.remove(&connection);
        state.moved.remove(&connection);
        let client = ticket.client();
        let left = self.online.get(client).map_or(0, |count| count - 1);
        if let Some(reason) = told {
            let of = Some((connection, &ticket));
            self.events.push(EventKind::Ended, session, of, reason);
            if left == 0 {
                self.events.push(EventKind::Offline, session, of, reason);
            }
        }
        if left > 0 {
            self.online.insert(client.clone(), left);
        } else {
            self.online.remove(client);
            self.stir_all(client);
            self.depart(client, how, budget, now);
        }
        if told.is_some() {
            self.announce(|| PresenceEvent::Offline(ticket.clone()));
        }
    }

    /// The last connection of `client` has ended.
    fn depart(&mut self, client: &ClientId, how: Depart, budget: &mut usize, now: Instant) {
        let count = self.joined.get(client).map_or(0, |channels| channels.len());
        if count == 0 {
            return;
        }
        if how == Depart::Late || self.leaving.is_coming(client, now) {
            self.leaving.wait(client, now);
        } else if count > *budget {
            self.leaving.at_once(client, how == Depart::Lapsed);
        } else {
            *budget -= count;
            for channel in self.channels_of(client) {
                self.leave(client, &channel);
                if how == Depart::Lapsed {
                    self.leaving.set_aside(client, channel, now);
                }
            }
        }
    }

    pub(super) fn leave_overdue(&mut self, now: Instant) -> bool {
        let mut budget = LEAVE_STEP;
        while let Some((client, due)) = self.leaving.next_due(now) {
            if budget == 0 {
                return true;
            }
            budget -= 1;
            if self.is_online(&client) {
                self.leaving.stays(&client);
                continue;
            }
            if self.leaving.is_coming(&client, now) {
                self.leaving.wait(&client, now);
                continue;
            }
            let mut channels = self.channels_of(&client);
            channels.retain(|channel| !self.leaving.is_kept(&client, channel));
            let all = channels.len() <= budget;
            channels.truncate(budget);
            budget -= channels.len();
            for channel in channels {
                self.leave(&client, &channel);
                if due == Due::Lapsed {
                    self.leaving.set_aside(&client, channel, now);
                }
            }
            if all {
                self.leaving.done(&client, now);
            }
        }
        false
    }

    pub(super) fn rejoin(&mut self, clients: &[ClientId]) {
        for client in clients {
            for channel in self.leaving.take_left(client) {
                if self.is_online(client) {
                    self.join(client, &channel);
                }
            }
        }
    }

    pub(super) fn end_session(&mut self, session: &Session, loud: bool) {
        if let Some(state) = self.sessions.get_mut(&session.id) {
            (state.until, state.end) = (None, if loud { End::Loud } else { End::Quiet });
            if state.connections.is_empty() {
                self.sessions.remove(&session.id);
            }
        }
    }

    pub(super) fn lapsed(&self, now: Instant) -> Vec<String> {
        let lapsed = |state: &SessionState| state.until.is_some_and(|until| until <= now);
        let sessions = self.sessions.iter().filter(|(_, state)| lapsed(state));
        sessions.map(|(id, _)| id.clone()).collect()
    }

    pub(super) fn end_lapsed(&mut self, sessions: &[String], now: Instant) -> Vec<String> {
        let mut ended = Vec::new();
        for id in sessions {
            let Some(state) = self.sessions.get_mut(id) else { continue };
            if state.until.is_some_and(|until| until <= now) {
                (state.until, state.end) = (None, End::Lapsed);
                self.events.push(EventKind::NodeDied, id, None, "");
                ended.push(id.clone());
            }
        }
        ended
    }

    pub(super) fn reap(&mut self, limit: usize, now: Instant) -> usize {
        let ended = self.sessions.iter().filter(|(_, state)| state.until.is_none());
        let ended: Vec<_> = ended.map(|(id, state)| (id.clone(), state.end)).collect();
        let (mut closed, mut budget) = (0, LEAVE_STEP);
        for (id, end) in ended {
            let Some(state) = self.sessions.get_mut(&id) else { continue };
            let away = state.away(now);
            let is_held = |number: &u64| {
                let keep = state.resumable.get(number).copied().unwrap_or(state.grace);
                away.is_some_and(|away| away < keep)
            };
            let due = state.connections.keys().copied().filter(|number| !is_held(number));
            let left: Vec<u64> = due.take(limit - closed).collect();
            closed += left.len();
            for connection in left {
                let told = (end != End::Quiet).then_some("node_gone");
                self.close(&id, connection, told, end.into(), &mut budget, now);
            }
            if self.sessions.get(&id).is_some_and(|state| state.connections.is_empty()) {
                self.sessions.remove(&id);
            }
        }
        closed
    }

    pub(super) fn online_clients(&self) -> Vec<ClientId> {
        self.online.keys().filter(|client| !client.is_system()).cloned().collect()
    }

    pub(super) fn is_online(&self, client: &ClientId) -> bool {
        self.online.contains_key(client)
    }

    pub(super) fn statuses(&self, now: Instant) -> Vec<(String, Option<NodeStatus>)> {
        let standing =
            self.sessions.values().filter(|state| state.until.is_some_and(|at| now < at));
        standing.map(|state| (state.node.clone(), state.status.clone())).collect()
    }

    /// Whether `session` is one of `node`, and its lease stands.
    pub(super) fn has_lease(&self, session: &str, node: &str, now: Instant) -> bool {
        let state = self.sessions.get(session).filter(|state| state.node == node);
        state.is_some_and(|state| state.until.is_some_and(|until| now < until))
    }

    /// Nodes with a session that nobody has ended.
    pub(super) fn living(&self) -> Vec<String> {
        let alive = self.sessions.values().filter(|state| state.until.is_some());
        let mut names: Vec<_> = alive.map(|state| state.node.clone()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    pub(super) fn connections_of(&self, client: &ClientId, node: &str) -> Vec<(u64, Ticket)> {
        let of_node = self.sessions.values().filter(|state| state.node == node);
        let connections = of_node.flat_map(|state| &state.connections);
        let own = connections.filter(|(_, ticket)| ticket.client() == client);
        own.map(|(number, ticket)| (*number, ticket.clone())).collect()
    }

    fn announce(&mut self, event: impl Fn() -> PresenceEvent) {
        for queue in &mut self.event_queues {
            queue.push(event());
        }
    }
}
