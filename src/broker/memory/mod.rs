//! `MemoryBroker`: the broker of a single process, for tests, demos and one-node deployments.
//!
//! Called by helpers and by the server's worker and feed threads, all in this process. One mutex
//! guards everything, so each verb is atomic; it is never held while waiting. Nothing here survives
//! the process, and nothing runs in the background: what has expired is dropped when it is met.

mod events;
mod expiring;
mod feed;
mod leaving;
mod log;
mod pages;
mod presence;
mod queues;
mod rosters;
mod slots;
mod state;
mod webhooks;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use feed::{MemoryEvents, MemoryFeed, MemoryPast};
use state::State;

use super::contract::{
    Abandoned, Broker, Bus, DeadLetter, Directory, EventBatch, EventGroup, EventReader,
    EventSubscription, Events, FeedStart, Former, FormerConnection, GRACE, HandOver, JoinLimits,
    Moves, NodeBroker, Page, Past, PresenceChange, Requests, RosterMark, RosterNews, Rosters,
    Session, Slots, Subscription, TakenTicket, Telling, Undelivered, Watchlist, WebhookState,
    WebhookTurn, Webhooks, sealed::Sealed,
};
use crate::{
    error::{Error, ErrorKind, Result},
    id::ClientId,
    slots::{SlotChange, SlotOrder, SlotTable},
    wire::{Envelope, NodeStatus, Ticket, tag},
};

/// Messages that wait for one node before no more are taken; the same order as what Redis buffers for a
/// slow subscriber. One call that comes before may exceed it by what it sends.
const FEED_CAPACITY: usize = 4096;

/// How long [`Bus::publish`] waits for a full node before it gives up.
const PUBLISH_WAIT: Duration = Duration::from_secs(2);

/// Steps in which memberships end after one report, if they are too many for one.
const OVERDUE_STEPS: usize = 16;

/// A broker within one process, shared through an [`Arc`] by several nodes and helpers.
///
/// Leases, tickets and the ordered feed behave as on Redis. While 4096 messages or more wait for a node,
/// [`publish`](Bus::publish) to it waits up to 2 s and then fails with
/// [`Overloaded`](ErrorKind::Overloaded), having sent nothing to any node. An event subscriber that lags 4096 events behind loses
/// them all and is told so by [`Listening`](super::PresenceEvent::Listening). What is published is kept for two
/// minutes (at most 256 MiB for each node and for all nodes) for a node that starts again in this process. Of
/// [events](crate::Event) the last 32,768 are kept, for a day.
///
/// ```
/// use imcore::broker::{Directory, MemoryBroker};
///
/// let broker = MemoryBroker::new();
/// broker.join(&[(7.into(), "news")])?;
/// assert_eq!(broker.channel_members("news")?, [7.into()]);
/// # Ok::<(), imcore::Error>(())
/// ```
#[derive(Default)]
pub struct MemoryBroker {
    backend: Arc<Backend>,
}

#[derive(Default)]
struct Backend {
    state: Mutex<State>,
    /// Nodes of which was said that nobody serves them.
    unserved: Mutex<HashSet<String>>,
}

impl Backend {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves the maps usable; one broken message must not end the service.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemoryBroker {
    /// An empty broker.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says once of each node that nobody serves it while others are served: the lists differ.
    fn warn_of_unserved(&self, unheard: &[&str], nodes: &[String]) {
        // Before the first node is there, its name says nothing.
        if nodes.is_empty() {
            return;
        }
        let mut told = self.backend.unserved.lock().unwrap_or_else(PoisonError::into_inner);
        for node in unheard {
            if told.insert((*node).to_owned()) {
                ::log::warn!(
                    "nobody serves node {node:?}, so what is sent to its clients reaches nobody; nodes \
                     within this process: {nodes:?}. The list of servers must be the same everywhere"
                );
            }
        }
    }
}

impl Sealed for MemoryBroker {}

impl Broker for MemoryBroker {
    fn describe(&self) -> String {
        "in-process".into()
    }
}

impl NodeBroker for MemoryBroker {
    fn take_tickets(&self, _node: &str, tokens: &[String]) -> Result<Vec<Option<TakenTicket>>> {
        let mut state = self.backend.lock();
        let now = Instant::now();
        let mut take = |token: &String| {
            let (text, left) = state.tickets.take(token, now)?;
            if let Some(ticket) = Ticket::parse(&text) {
                // Until its connection is reported.
                state.leaving.comes(ticket.client(), tag(token), GRACE, now);
            }
            Some(TakenTicket { text, left })
        };
        Ok(tokens.iter().map(&mut take).collect())
    }

    fn return_tickets(&self, _node: &str, tickets: &[(&str, &TakenTicket)]) -> Result<()> {
        let mut state = self.backend.lock();
        let now = Instant::now();
        for (token, TakenTicket { text, left }) in tickets {
            if state.tickets.get(token, now).is_none() {
                state.tickets.put(token, text, now, *left);
            }
        }
        Ok(())
    }

    fn begin_session(&self, node: &str, lease: Duration, supersede: bool) -> Result<Session> {
        let session = Session::new(node, lease)?;
        self.backend.lock().begin_session(&session, node, supersede, Instant::now());
        Ok(session)
    }

    fn take_over_session(
        &self,
        node: &str,
        lease: Duration,
        own: Option<&Session>,
    ) -> Result<Option<Former>> {
        let session = Session::new(node, lease)?;
        Ok(self.backend.lock().take_over_session(session, node, own, Instant::now()))
    }

    fn keep_session(
        &self,
        session: &Session,
        key: &[u8; 16],
        keep: Duration,
        grace: Duration,
    ) -> Result<()> {
        self.backend.lock().keep_session(session, key, keep, grace);
        Ok(())
    }

    fn renew(&self, session: &Session, status: &NodeStatus) -> Result<()> {
        self.backend.lock().renew(session, status, Instant::now())
    }

    fn report(&self, session: &mut Session, changes: &[PresenceChange]) -> Result<()> {
        let left = self.backend.lock().report(session, changes, Instant::now())?;
        // Others come to their turn between two steps; the rest waits for the next look.
        let mut steps = OVERDUE_STEPS;
        while left && steps > 0 && self.leave_overdue()? {
            steps -= 1;
        }
        Ok(())
    }

    fn end_session(&self, session: &Session) -> Result<()> {
        self.backend.lock().end_session(session, true);
        Ok(())
    }

    fn discard_session(&self, session: &Session) -> Result<()> {
        self.backend.lock().end_session(session, false);
        Ok(())
    }

    fn lapsed(&self) -> Result<Vec<String>> {
        Ok(self.backend.lock().lapsed(Instant::now()))
    }

    fn end_lapsed(&self, sessions: &[String]) -> Result<Vec<String>> {
        Ok(self.backend.lock().end_lapsed(sessions, Instant::now()))
    }

    fn reap(&self, limit: usize) -> Result<usize> {
        Ok(self.backend.lock().reap(limit, Instant::now()))
    }

    fn leave_overdue(&self) -> Result<bool> {
        Ok(self.backend.lock().leave_overdue(Instant::now()))
    }

    fn rejoin(&self, clients: &[ClientId]) -> Result<usize> {
        self.backend.lock().rejoin(clients);
        Ok(clients.len())
    }

    fn tell(&self, node: &str, telling: &Telling<'_>) -> Result<()> {
        // All or nothing, so that there is never something to be repeated that was done.
        self.publish(telling.receipts)?;
        self.backend.lock().log.settle(node, telling.settled);
        Ok(())
    }

    fn tell_undelivered(&self, node: &str, undelivered: &[Undelivered<'_>]) -> Result<()> {
        let mut state = self.backend.lock();
        undelivered.iter().for_each(|missed| state.events.push_undelivered(node, missed));
        Ok(())
    }

    fn settled(&self, node: &str) -> Result<HashSet<(u64, ClientId)>> {
        Ok(self.backend.lock().log.settled(node))
    }

    fn subscribe(
        &self,
        node: &str,
        watchlist: Arc<Watchlist>,
        start: FeedStart,
    ) -> Box<dyn Subscription> {
        Box::new(MemoryFeed::new(Arc::clone(&self.backend), node, watchlist, start))
    }
}

impl Directory for MemoryBroker {
    fn put_ticket(&self, token: &str, ticket: &Ticket, life: Duration) -> Result<()> {
        let mut state = self.backend.lock();
        let now = Instant::now();
        state.leaving.comes(ticket.client(), tag(token), life, now);
        state.tickets.put(token, ticket.text(), now, life);
        Ok(())
    }

    fn void_tickets(&self, client: &ClientId) -> Result<()> {
        let mut state = self.backend.lock();
        let state = &mut *state;
        let tags = state.leaving.tags(client);
        if !tags.is_empty() {
            let void = state.tickets.remove_all(|token| tags.contains(&tag(token)));
            void.iter().for_each(|token| state.leaving.came(client, tag(token)));
        }
        Ok(())
    }

    fn online_clients(&self) -> Result<Vec<ClientId>> {
        Ok(self.backend.lock().online_clients())
    }

    fn online_page(&self, after: Option<&str>, limit: usize) -> Result<Page<ClientId>> {
        self.backend.lock().online_page(after, limit)
    }

    fn are_online(&self, clients: &[ClientId]) -> Result<Vec<bool>> {
        let state = self.backend.lock();
        Ok(clients.iter().map(|client| state.is_online(client)).collect())
    }

    fn statuses(&self) -> Result<Vec<(String, Option<NodeStatus>)>> {
        Ok(self.backend.lock().statuses(Instant::now()))
    }

    fn connections_of(&self, client: &ClientId, node: &str) -> Result<Vec<(u64, Ticket)>> {
        Ok(self.backend.lock().connections_of(client, node))
    }

    fn connections_page(
        &self,
        client: &ClientId,
        node: &str,
        _: Option<&str>,
    ) -> Result<Page<(u64, Ticket)>> {
        let state = self.backend.lock();
        let total = state.online.get(client).copied().unwrap_or_default();
        Ok(Page { items: state.connections_of(client, node), next: None, total })
    }

    fn subscribe_events(&self) -> Box<dyn EventSubscription> {
        Box::new(MemoryEvents::new(Arc::clone(&self.backend)))
    }

    fn join_within(&self, memberships: &[(ClientId, &str)], limits: &JoinLimits) -> Result<()> {
        let mut state = self.backend.lock();
        let now = Instant::now();
        let mut refused = Vec::new();
        for (client, channel) in memberships.iter().filter(|(_, channel)| !channel.is_empty()) {
            if !state.join_within(client, channel, limits, now) {
                refused.push(client.clone());
            }
        }
        limits.check(&refused, memberships.len())
    }

    fn leave(&self, memberships: &[(ClientId, &str)]) -> Result<()> {
        let mut state = self.backend.lock();
        for (client, channel) in memberships {
            state.leave(client, channel);
            state.leaving.forget_left(client, channel);
        }
        Ok(())
    }

    fn channel_members(&self, channel: &str) -> Result<Vec<ClientId>> {
        let mut members = self.backend.lock().members(channel);
        members.retain(|client| !client.is_system());
        Ok(members)
    }

    fn members_page(
        &self,
        channel: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<ClientId>> {
        self.backend.lock().members_page(channel, after, limit)
    }

    fn clear_channel(&self, channel: &str) -> Result<()> {
        let mut state = self.backend.lock();
        for client in state.members(channel) {
            if !state.is_online(&client) {
                state.leave(&client, channel);
            }
        }
        Ok(())
    }

    fn channels(&self) -> Result<Vec<(String, i64)>> {
        Ok(self.backend.lock().channels())
    }

    fn channels_page(&self, after: Option<&str>, limit: usize) -> Result<Page<(String, i64)>> {
        Ok(self.backend.lock().channels_page(after, limit))
    }

    fn channels_of(&self, clients: &[ClientId]) -> Result<Vec<Vec<String>>> {
        let state = self.backend.lock();
        Ok(clients.iter().map(|client| state.channels_of(client)).collect())
    }

    fn channel_sizes(&self, channels: &[&str]) -> Result<Vec<i64>> {
        let state = self.backend.lock();
        Ok(channels.iter().map(|channel| state.channel_size(channel)).collect())
    }
}

impl Bus for MemoryBroker {
    fn publish(&self, outgoing: &[(&str, Envelope)]) -> Result<()> {
        self.send(None, outgoing).map(drop)
    }

    fn publish_by(&self, version: u64, outgoing: &[(&str, Envelope)]) -> Result<usize> {
        self.send(Some(version), outgoing)
    }
}

impl MemoryBroker {
    /// All or nothing; nothing if the table of slots has another version than it is sent `by`. How many were sent.
    fn send(&self, by: Option<u64>, outgoing: &[(&str, Envelope)]) -> Result<usize> {
        let deadline = Instant::now() + PUBLISH_WAIT;
        let mut state = self.backend.lock();
        // All or nothing: whoever is told that a node is full has sent nothing.
        while let Some((node, full)) = state.first_full(outgoing, FEED_CAPACITY) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::new(
                    ErrorKind::Overloaded,
                    format!(
                        "node {node:?} has {FEED_CAPACITY} messages waiting; nothing was sent, send \
                         slower"
                    ),
                ));
            }
            state = full.space.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        if by.is_some_and(|by| state.slots.as_ref().is_none_or(|table| table.version != by)) {
            return Ok(0);
        }
        let unheard = state.publish(outgoing, Instant::now());
        if !unheard.is_empty() {
            let nodes: Vec<_> = state.node_queues.iter().map(|queue| queue.node.clone()).collect();
            drop(state);
            self.warn_of_unserved(&unheard, &nodes);
        }
        Ok(outgoing.len())
    }
}

impl Events for MemoryBroker {
    fn read_events(
        &self,
        reader: &EventReader,
        limit: usize,
        wait: Duration,
    ) -> Result<EventBatch> {
        let deadline = Instant::now() + wait;
        let mut state = self.backend.lock();
        loop {
            let now = Instant::now();
            let batch = state.events.read(reader, limit, now);
            let left = deadline.saturating_duration_since(now);
            if !batch.events.is_empty() || batch.missed > 0 || batch.created || left.is_zero() {
                return Ok(batch);
            }
            let wake = Arc::clone(&state.events.wake);
            let left = state.events.due(reader, now).map_or(left, |due| left.min(due));
            let waited = wake.arrived.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn acknowledge_events(
        &self,
        reader: &EventReader,
        missed: u64,
        ids: &[String],
    ) -> Result<bool> {
        Ok(self.backend.lock().events.acknowledge(reader, missed, ids))
    }

    fn leave_events(&self, reader: &EventReader) -> Result<()> {
        self.backend.lock().events.leave(reader);
        Ok(())
    }

    fn event_groups(&self) -> Result<Vec<EventGroup>> {
        Ok(self.backend.lock().events.groups(Instant::now()))
    }

    fn forget_event_group(&self, group: &str) -> Result<bool> {
        Ok(self.backend.lock().events.forget(group))
    }
}

impl Requests for MemoryBroker {
    fn claim(&self, key: &str, claim: &str, life: Duration) -> Result<Option<String>> {
        let mut state = self.backend.lock();
        let now = Instant::now();
        Ok(state.claim(key, claim, now, life))
    }

    fn complete(&self, key: &str, claim: &str, outcome: &str, life: Duration) -> Result<bool> {
        let mut state = self.backend.lock();
        let now = Instant::now();
        Ok(state.complete(key, claim, outcome, now, life))
    }
}

impl Rosters for MemoryBroker {
    fn set_roster(&self, channel: &str, on: bool) -> Result<()> {
        self.backend.lock().rosters.set(channel, on);
        Ok(())
    }

    fn rosters(&self, mark: &RosterMark) -> Result<RosterNews> {
        Ok(self.backend.lock().roster_news(mark, Instant::now()))
    }
}

impl Moves for MemoryBroker {
    fn common_key(&self, proposed: &[u8; 16]) -> Result<[u8; 16]> {
        Ok(*self.backend.lock().common_key.get_or_insert(*proposed))
    }

    fn hand_over(
        &self,
        session: &Session,
        to: &str,
        from: u64,
        connections: &[u64],
        parcel: &str,
    ) -> Result<HandOver> {
        self.backend.lock().hand_over(session, to, from, connections, parcel, Instant::now())
    }

    fn parcels(&self, session: &Session) -> Result<Vec<String>> {
        Ok(self.backend.lock().parcels(session))
    }

    fn took(&self, session: &Session, count: usize) -> Result<()> {
        self.backend.lock().took(session, count);
        Ok(())
    }

    fn abandoned(&self) -> Result<Vec<Abandoned>> {
        Ok(self.backend.lock().abandoned(Instant::now()))
    }

    fn abandoned_connections(&self, abandoned: &str) -> Result<Vec<FormerConnection>> {
        Ok(self.backend.lock().abandoned_connections(abandoned))
    }

    fn take_abandoned(
        &self,
        session: &Session,
        abandoned: &str,
        from: u64,
        connections: &[u64],
    ) -> Result<Vec<u64>> {
        let now = Instant::now();
        self.backend.lock().take_abandoned(session, abandoned, from, connections, now)
    }

    fn past(&self, node: &str) -> Result<Option<Box<dyn Past>>> {
        Ok(Some(Box::new(MemoryPast::new(Arc::clone(&self.backend), node))))
    }
}

impl Slots for MemoryBroker {
    fn slot_table(&self) -> Result<Option<SlotTable>> {
        Ok(self.backend.lock().slots.clone())
    }

    fn slot_version(&self) -> Result<u64> {
        Ok(self.backend.lock().slots.as_ref().map_or(0, |table| table.version))
    }

    fn change_slots(
        &self,
        session: &str,
        node: &str,
        version: u64,
        change: &SlotChange<'_>,
    ) -> Result<bool> {
        self.backend.lock().change_slots(session, node, version, change, Instant::now())
    }

    fn living(&self) -> Result<Vec<String>> {
        Ok(self.backend.lock().living())
    }

    fn begin_slots(&self, table: &SlotTable) -> Result<bool> {
        Ok(self.backend.lock().begin_slots(table))
    }

    fn order(&self, node: &str, order: SlotOrder) -> Result<bool> {
        Ok(self.backend.lock().order(node, order))
    }
}

impl Webhooks for MemoryBroker {
    fn hold_webhook(&self, holder: &str, life: Duration) -> Result<WebhookTurn> {
        Ok(self.backend.lock().webhooks.hold(holder, life, Instant::now()))
    }

    fn release_webhook(&self, holder: &str) -> Result<()> {
        self.backend.lock().webhooks.release(holder, Instant::now());
        Ok(())
    }

    fn note_webhook(&self, holder: &str, failure: Option<&str>) -> Result<()> {
        self.backend.lock().webhooks.note(holder, failure, Instant::now());
        Ok(())
    }

    fn switch_webhook(&self, off: Option<&str>) -> Result<()> {
        self.backend.lock().webhooks.switch(off);
        Ok(())
    }

    fn webhook_state(&self) -> Result<Option<WebhookState>> {
        Ok(self.backend.lock().webhooks.state(Instant::now()))
    }

    fn bury(&self, letter: &DeadLetter) -> Result<()> {
        self.backend.lock().webhooks.bury(letter);
        Ok(())
    }

    fn dead_letters(&self, after: Option<&str>, limit: usize) -> Result<Page<DeadLetter>> {
        Ok(self.backend.lock().webhooks.letters(after, limit))
    }

    fn dead_letter(&self, id: &str) -> Result<Option<DeadLetter>> {
        Ok(self.backend.lock().webhooks.letter(id))
    }

    fn replay_dead_letters(&self, ids: &[String]) -> Result<usize> {
        Ok(self.backend.lock().webhooks.replay(ids))
    }

    fn next_replay(&self) -> Result<Option<DeadLetter>> {
        Ok(self.backend.lock().webhooks.next_replay())
    }

    fn settle_replay(&self, id: &str, delivered: bool) -> Result<()> {
        self.backend.lock().webhooks.settle_replay(id, delivered);
        Ok(())
    }

    fn discard_dead_letters(&self, ids: &[String]) -> Result<usize> {
        Ok(self.backend.lock().webhooks.discard(ids))
    }
}
