//! `RedisBroker`: the broker that .NET helpers and nodes of FreeIM and ImCore share.
//!
//! Called by helpers and by a server's worker and feed threads. Each verb is one blocking round trip
//! on a pooled connection (a long batch: one per thousand commands); none is repeated here. Commands,
//! keys and payloads are those of the .NET original wherever it has any.

mod appending;
mod backend;
mod cached;
mod events;
mod feed;
mod layout;
mod link;
mod verbs;

use std::{collections::HashSet, sync::Arc, time::Duration};

pub(in crate::broker) use self::{
    backend::At,
    layout::Share,
    link::{Cluster, read_cluster, split},
};
use self::{backend::Backend, events::RedisEvents, feed::RedisFeed};
use super::contract::{
    Abandoned, Broker, Bus, DeadLetter, Directory, EventBatch, EventGroup, EventReader,
    EventSubscription, Events, FeedStart, Former, FormerConnection, HandOver, JoinLimits, Moves,
    NodeBroker, Page, Past, PresenceChange, Requests, RosterMark, RosterNews, Rosters, Session,
    Slots, Subscription, TakenTicket, Telling, Undelivered, Watchlist, WebhookState, WebhookTurn,
    Webhooks, sealed::Sealed,
};
use crate::{
    error::Result,
    id::{ClientId, IdKind},
    slots::{SlotChange, SlotOrder, SlotTable},
    wire::{Envelope, NodeStatus, Ticket},
};

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::link::fuzzing;
pub use self::link::{ChangesBy, RedisOptions};

/// A broker on one Redis 6.2 or newer, alone or with Sentinels. Several, and a Redis Cluster, are opened by
/// [`open`](super::open).
///
/// Opening it connects to nothing: a server can start while Redis is away. Calls fail with
/// [`Unavailable`](crate::ErrorKind::Unavailable) at once while nobody listens, with
/// [`Timeout`](crate::ErrorKind::Timeout) after the call timeout, with
/// [`Interrupted`](crate::ErrorKind::Interrupted) when the connection breaks meanwhile, and with
/// [`Overloaded`](crate::ErrorKind::Overloaded) when all connections of the pool stay busy. A call is never
/// repeated here.
///
/// ```no_run
/// use imcore::broker::{Broker, Directory, RedisBroker, RedisOptions};
///
/// let options = RedisOptions { pool_size: 4, ..RedisOptions::default() };
/// let broker = RedisBroker::open("redis://:secret@10.0.0.5:6379/1", options)?;
/// assert_eq!(broker.describe(), "redis://10.0.0.5:6379/1");
/// println!("{} clients online", broker.online_clients()?.len());
/// # Ok::<(), imcore::Error>(())
/// ```
pub struct RedisBroker {
    backend: Arc<Backend>,
}

impl RedisBroker {
    /// A broker on the Redis at `url`: `redis://`, `rediss://` (feature `tls`), or `redis+unix://` and
    /// `unix://` for a socket path; user, password and database as usual for Redis URLs. `valkey://` and the like are
    /// the same.
    ///
    /// With Sentinels `redis+sentinel://user:password@host:26379,host,host/name/0` (`rediss+sentinel://`), where `name` is
    /// what they call the primary, and `?sentinel_username=..&sentinel_password=..` if they ask for a password themselves.
    /// They are asked for each connection, the server that they name must be a primary (`ROLE`), and a thread of its
    /// own hears of a failover, whereupon connections to the former primary are given up.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config) for a URL or option that cannot work. Connects to nothing.
    pub fn open(url: &str, options: RedisOptions) -> Result<Self> {
        Ok(RedisBroker { backend: Arc::new(Backend::new(At::Url(url), options, None)?) })
    }

    /// As [`open`](Self::open), as one of several.
    pub(in crate::broker) fn open_share(
        at: At,
        options: RedisOptions,
        share: Share,
    ) -> Result<Self> {
        Ok(RedisBroker { backend: Arc::new(Backend::new(at, options, Some(share))?) })
    }
}

impl Sealed for RedisBroker {}

impl Broker for RedisBroker {
    fn describe(&self) -> String {
        self.backend.connector.address.clone()
    }

    fn examine(&self) -> Result<String> {
        let way = self.backend.connector.looking(|| feed::examine(&self.backend))?;
        Ok(format!("has all that a node needs; joins and leaves become known by {way}"))
    }

    fn id_kind(&self) -> IdKind {
        IdKind::of_prefix(&self.backend.options.prefix)
    }
}

impl NodeBroker for RedisBroker {
    fn take_tickets(&self, _node: &str, tokens: &[String]) -> Result<Vec<Option<TakenTicket>>> {
        self.backend.take_tickets(tokens)
    }

    fn return_tickets(&self, _node: &str, tickets: &[(&str, &TakenTicket)]) -> Result<()> {
        self.backend.return_tickets(tickets)
    }

    fn begin_session(&self, node: &str, lease: Duration, supersede: bool) -> Result<Session> {
        let begun = self.backend.begin_session(node, lease, supersede);
        begun.map_err(|error| feed::explain(&self.backend, error))
    }

    fn take_over_session(
        &self,
        node: &str,
        lease: Duration,
        own: Option<&Session>,
    ) -> Result<Option<Former>> {
        let former = self.backend.take_over_session(node, lease, own);
        former.map_err(|error| feed::explain(&self.backend, error))
    }

    fn keep_session(
        &self,
        session: &Session,
        key: &[u8; 16],
        keep: Duration,
        grace: Duration,
    ) -> Result<()> {
        self.backend.keep_session(session, key, keep, grace)
    }

    fn renew(&self, session: &Session, status: &NodeStatus) -> Result<()> {
        self.backend.renew(session, status)
    }

    fn report(&self, session: &mut Session, changes: &[PresenceChange]) -> Result<()> {
        self.backend.report(session, changes)
    }

    fn end_session(&self, session: &Session) -> Result<()> {
        self.backend.stop_session(session, "loud")
    }

    fn discard_session(&self, session: &Session) -> Result<()> {
        self.backend.stop_session(session, "quiet")
    }

    fn lapsed(&self) -> Result<Vec<String>> {
        self.backend.lapsed()
    }

    fn end_lapsed(&self, sessions: &[String]) -> Result<Vec<String>> {
        self.backend.end_lapsed(sessions)
    }

    fn reap(&self, limit: usize) -> Result<usize> {
        self.backend.reap(limit)
    }

    fn leave_overdue(&self) -> Result<bool> {
        self.backend.leave_overdue()
    }

    fn rejoin(&self, clients: &[ClientId]) -> Result<usize> {
        self.backend.rejoin(clients)
    }

    fn tell(&self, node: &str, telling: &Telling<'_>) -> Result<()> {
        self.backend.tell(node, telling)
    }

    fn tell_undelivered(&self, node: &str, undelivered: &[Undelivered<'_>]) -> Result<()> {
        self.backend.tell_undelivered(node, undelivered)
    }

    fn settled(&self, node: &str) -> Result<HashSet<(u64, ClientId)>> {
        self.backend.settled(node)
    }

    fn subscribe(
        &self,
        node: &str,
        watchlist: Arc<Watchlist>,
        start: FeedStart,
    ) -> Box<dyn Subscription> {
        Box::new(RedisFeed::new(Arc::clone(&self.backend), node, watchlist, start))
    }
}

impl Directory for RedisBroker {
    fn put_ticket(&self, token: &str, ticket: &Ticket, life: Duration) -> Result<()> {
        self.backend.put_ticket(token, ticket, life)
    }

    fn void_tickets(&self, client: &ClientId) -> Result<()> {
        self.backend.void_tickets(client)
    }

    fn online_clients(&self) -> Result<Vec<ClientId>> {
        self.backend.online_clients()
    }

    fn online_page(&self, after: Option<&str>, limit: usize) -> Result<Page<ClientId>> {
        self.backend.online_page(after, limit)
    }

    fn are_online(&self, clients: &[ClientId]) -> Result<Vec<bool>> {
        self.backend.are_online(clients)
    }

    fn statuses(&self) -> Result<Vec<(String, Option<NodeStatus>)>> {
        self.backend.statuses()
    }

    fn connections_of(&self, client: &ClientId, node: &str) -> Result<Vec<(u64, Ticket)>> {
        self.backend.connections_of(client, node)
    }

    fn connections_page(
        &self,
        client: &ClientId,
        node: &str,
        after: Option<&str>,
    ) -> Result<Page<(u64, Ticket)>> {
        self.backend.connections_page(client, node, after)
    }

    fn subscribe_events(&self) -> Box<dyn EventSubscription> {
        Box::new(RedisEvents::new(Arc::clone(&self.backend)))
    }

    fn join_within(&self, memberships: &[(ClientId, &str)], limits: &JoinLimits) -> Result<()> {
        self.backend.join_within(memberships, limits)
    }

    fn leave(&self, memberships: &[(ClientId, &str)]) -> Result<()> {
        self.backend.leave(memberships)
    }

    fn channel_members(&self, channel: &str) -> Result<Vec<ClientId>> {
        self.backend.channel_members(channel)
    }

    fn members_page(
        &self,
        channel: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<ClientId>> {
        self.backend.members_page(channel, after, limit)
    }

    fn clear_channel(&self, channel: &str) -> Result<()> {
        self.backend.clear_channel(channel)
    }

    fn channels(&self) -> Result<Vec<(String, i64)>> {
        self.backend.channels()
    }

    fn channels_page(&self, after: Option<&str>, limit: usize) -> Result<Page<(String, i64)>> {
        self.backend.channels_page(after, limit)
    }

    fn channels_of(&self, clients: &[ClientId]) -> Result<Vec<Vec<String>>> {
        self.backend.channels_of(clients)
    }

    fn channel_sizes(&self, channels: &[&str]) -> Result<Vec<i64>> {
        self.backend.channel_sizes(channels)
    }
}

impl Bus for RedisBroker {
    fn publish(&self, outgoing: &[(&str, Envelope)]) -> Result<()> {
        self.backend.publish(None, outgoing).map(drop)
    }

    fn publish_by(&self, version: u64, outgoing: &[(&str, Envelope)]) -> Result<usize> {
        self.backend.publish(Some(version), outgoing)
    }
}

impl Events for RedisBroker {
    fn read_events(
        &self,
        reader: &EventReader,
        limit: usize,
        wait: Duration,
    ) -> Result<EventBatch> {
        self.backend.read_events(reader, limit, wait)
    }

    fn acknowledge_events(
        &self,
        reader: &EventReader,
        missed: u64,
        ids: &[String],
    ) -> Result<bool> {
        self.backend.acknowledge_events(reader, missed, ids)
    }

    fn leave_events(&self, reader: &EventReader) -> Result<()> {
        self.backend.leave_events(reader)
    }

    fn event_groups(&self) -> Result<Vec<EventGroup>> {
        self.backend.event_groups()
    }

    fn forget_event_group(&self, group: &str) -> Result<bool> {
        self.backend.forget_event_group(group)
    }
}

impl Requests for RedisBroker {
    fn claim(&self, key: &str, claim: &str, life: Duration) -> Result<Option<String>> {
        self.backend.claim(key, claim, life)
    }

    fn complete(&self, key: &str, claim: &str, outcome: &str, life: Duration) -> Result<bool> {
        self.backend.complete(key, claim, outcome, life)
    }
}

impl Rosters for RedisBroker {
    fn set_roster(&self, channel: &str, on: bool) -> Result<()> {
        self.backend.set_roster(channel, on)
    }

    fn rosters(&self, mark: &RosterMark) -> Result<RosterNews> {
        self.backend.rosters(mark)
    }
}

impl Moves for RedisBroker {
    fn common_key(&self, proposed: &[u8; 16]) -> Result<[u8; 16]> {
        self.backend.common_key(proposed)
    }

    fn hand_over(
        &self,
        session: &Session,
        to: &str,
        from: u64,
        connections: &[u64],
        parcel: &str,
    ) -> Result<HandOver> {
        self.backend.hand_over(session, to, from, connections, parcel)
    }

    fn parcels(&self, session: &Session) -> Result<Vec<String>> {
        self.backend.parcels(session)
    }

    fn took(&self, session: &Session, count: usize) -> Result<()> {
        self.backend.took(session, count)
    }

    fn abandoned(&self) -> Result<Vec<Abandoned>> {
        self.backend.abandoned()
    }

    fn abandoned_connections(&self, abandoned: &str) -> Result<Vec<FormerConnection>> {
        self.backend.connections_of_session(abandoned)
    }

    fn take_abandoned(
        &self,
        session: &Session,
        abandoned: &str,
        from: u64,
        connections: &[u64],
    ) -> Result<Vec<u64>> {
        self.backend.take_abandoned(session, abandoned, from, connections)
    }

    fn past(&self, node: &str) -> Result<Option<Box<dyn Past>>> {
        feed::past(&self.backend, node)
    }
}

impl Slots for RedisBroker {
    fn slot_table(&self) -> Result<Option<SlotTable>> {
        self.backend.slot_table()
    }

    fn slot_version(&self) -> Result<u64> {
        self.backend.slot_version()
    }

    fn change_slots(
        &self,
        session: &str,
        node: &str,
        version: u64,
        change: &SlotChange<'_>,
    ) -> Result<bool> {
        self.backend.change_slots(session, node, version, change)
    }

    fn living(&self) -> Result<Vec<String>> {
        self.backend.living()
    }

    fn begin_slots(&self, table: &SlotTable) -> Result<bool> {
        self.backend.begin_slots(table)
    }

    fn order(&self, node: &str, order: SlotOrder) -> Result<bool> {
        self.backend.order(node, order)
    }
}

impl Webhooks for RedisBroker {
    fn hold_webhook(&self, holder: &str, life: Duration) -> Result<WebhookTurn> {
        self.backend.hold_webhook(holder, life)
    }

    fn release_webhook(&self, holder: &str) -> Result<()> {
        self.backend.release_webhook(holder)
    }

    fn note_webhook(&self, holder: &str, failure: Option<&str>) -> Result<()> {
        self.backend.note_webhook(holder, failure)
    }

    fn switch_webhook(&self, off: Option<&str>) -> Result<()> {
        self.backend.switch_webhook(off)
    }

    fn webhook_state(&self) -> Result<Option<WebhookState>> {
        self.backend.webhook_state()
    }

    fn bury(&self, letter: &DeadLetter) -> Result<()> {
        self.backend.bury(letter)
    }

    fn dead_letters(&self, after: Option<&str>, limit: usize) -> Result<Page<DeadLetter>> {
        self.backend.dead_letters(after, limit)
    }

    fn dead_letter(&self, id: &str) -> Result<Option<DeadLetter>> {
        self.backend.dead_letter(id)
    }

    fn replay_dead_letters(&self, ids: &[String]) -> Result<usize> {
        self.backend.replay_dead_letters(ids)
    }

    fn next_replay(&self) -> Result<Option<DeadLetter>> {
        self.backend.next_replay()
    }

    fn settle_replay(&self, id: &str, delivered: bool) -> Result<()> {
        self.backend.settle_replay(id, delivered)
    }

    fn discard_dead_letters(&self, ids: &[String]) -> Result<usize> {
        self.backend.discard_dead_letters(ids)
    }
}
