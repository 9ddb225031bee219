//! `RedisBroker`: the broker that .NET helpers and nodes of FreeIM and ImCore share.
//!
//! Called by helpers and by a server's worker and feed threads. Each verb is one blocking round trip
//! on a pooled connection (a long batch: one per thousand commands); none is repeated here. Commands,
//! keys and payloads are those of the .NET original wherever it has any.

mod channels;
mod connector;
mod error;
mod events;
mod feed;
mod gather;
mod link;
mod listener;
mod lists;
mod messages;
mod options;
mod overview;
mod pool;
mod presence;
mod reply;
mod scripts;
mod tickets;
mod url;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use redis::{Pipeline, Value};

use self::{
    connector::Connector, events::RedisEvents, feed::RedisFeed, gather::Gather, pool::Pool,
    presence::Reports,
};
use super::contract::{
    Broker, EventSubscription, JoinLimits, Page, PresenceChange, Session, Subscription,
    TakenTicket, Watchlist,
};
use crate::{
    error::Result,
    id::{ClientId, IdKind},
    wire::{Envelope, Names, NodeStatus, Ticket},
};

pub use self::options::RedisOptions;

/// Commands in one round trip; keeps what Redis must buffer for one call within a few megabytes.
const PIPELINE: usize = 1024;

/// One in so many connections for calls may be one that publishes: those who come meanwhile are gathered.
const LANES: usize = 4;

/// A broker on Redis 6.2 or newer (not Redis Cluster).
///
/// Opening it connects to nothing: a server can start while Redis is away. Calls fail with
/// [`Unavailable`](crate::ErrorKind::Unavailable) at once while nobody listens, with
/// [`Timeout`](crate::ErrorKind::Timeout) after the call timeout, with
/// [`Interrupted`](crate::ErrorKind::Interrupted) when the connection breaks meanwhile, and with
/// [`Overloaded`](crate::ErrorKind::Overloaded) when all connections of the pool stay busy. A call is never
/// repeated here.
///
/// ```no_run
/// use imcore::broker::{Broker, RedisBroker, RedisOptions};
///
/// let options = RedisOptions { pool_size: 4, ..RedisOptions::default() };
/// let broker = RedisBroker::open("redis://:secret@10.0.0.5:6379/1", options)?;
/// assert_eq!(broker.describe(), "redis://10.0.0.5:6379/1");
/// println!("{} clients online", broker.online_clients()?.len());
/// # Ok::<(), imcore::Error>(())
/// ```
pub struct RedisBroker {
    shared: Arc<Shared>,
}

/// What the broker and its subscriptions have in common.
struct Shared {
    names: Names,
    options: RedisOptions,
    connector: Connector,
    /// Connections for calls that change something or that single messages depend on.
    calls: Pool,
    /// What many threads publish at the same moment.
    gather: Gather,
    /// Nodes of which was said that nobody serves them, or that were found to be served.
    unserved: Mutex<HashSet<String>>,
    /// Connections for lists, which must not keep the others waiting.
    reads: Pool,
    /// The one connection for walks through all connections of a node.
    walks: Pool,
    /// Own sessions that were not ended by ourselves.
    reports: Mutex<HashMap<String, Reports>>,
    /// How often Redis was found to have forgotten one of them.
    forgotten: AtomicU64,
}

impl RedisBroker {
    /// A broker on the Redis at `url`: `redis://`, `rediss://` (feature `tls`), or `redis+unix://` and
    /// `unix://` for a socket path; user, password and database as usual for Redis URLs.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config) for a URL or option that cannot work. Connects to nothing.
    pub fn open(url: &str, options: RedisOptions) -> Result<Self> {
        options.validate()?;
        let connector = Connector::new(url, &options)?;
        let names = Names::new(&options.prefix, &options.path, &options.key_prefix);
        let calls = Pool::new(options.pool_size);
        let gather = Gather::new((options.pool_size / LANES).max(1));
        let (reads, walks) = (Pool::new(options.read_pool_size), Pool::new(1));
        let (reports, forgotten) = (Mutex::default(), AtomicU64::new(0));
        Ok(RedisBroker {
            shared: Arc::new(Shared {
                names,
                options,
                connector,
                calls,
                gather,
                unserved: Mutex::default(),
                reads,
                walks,
                reports,
                forgotten,
            }),
        })
    }

    fn names(&self) -> &Names {
        &self.shared.names
    }

    /// Sends one command and returns its reply.
    fn one(&self, build: impl FnOnce(&mut Pipeline)) -> Result<Value> {
        let mut pipeline = redis::pipe();
        build(&mut pipeline);
        let mut replies = self.shared.run(&pipeline)?;
        replies.pop().ok_or_else(|| error::unexpected(&self.shared.connector.address))
    }

    /// Sends one command per item, over one connection, and returns their replies.
    ///
    /// [`Interrupted`](crate::ErrorKind::Interrupted) if some were carried out and others not.
    fn each<T>(&self, items: &[T], build: impl Fn(&mut Pipeline, &T)) -> Result<Vec<Value>> {
        let replies = self.each_reply(items, build)?;
        error::judge(&self.shared.connector.address, &replies)?;
        Ok(replies)
    }

    /// As [`each`](Self::each), with errors of Redis among the replies: what is wrong with one item is not
    /// wrong with the others.
    fn each_reply<T>(&self, items: &[T], build: impl Fn(&mut Pipeline, &T)) -> Result<Vec<Value>> {
        if items.is_empty() {
            return Ok(Vec::new());
        }
        let pipelines = items.chunks(PIPELINE).map(|chunk| {
            let mut pipeline = Pipeline::with_capacity(chunk.len());
            chunk.iter().for_each(|item| build(&mut pipeline, item));
            pipeline
        });
        let replies = self.shared.calls.take(&self.shared.connector)?.run_all(pipelines)?;
        Ok(replies.into_iter().flatten().collect())
    }
}

impl Shared {
    /// Runs a pipeline; the first error among its replies fails it.
    fn run(&self, pipeline: &Pipeline) -> Result<Vec<Value>> {
        self.run_on(&self.calls, pipeline)
    }

    /// As [`run`](Self::run), for lists.
    fn read(&self, pipeline: &Pipeline) -> Result<Vec<Value>> {
        self.run_on(&self.reads, pipeline)
    }

    fn run_on(&self, pool: &Pool, pipeline: &Pipeline) -> Result<Vec<Value>> {
        let replies = pool.run(&self.connector, pipeline)?;
        let address = &self.connector.address;
        match replies.iter().find_map(|reply| error::of_reply(address, reply)) {
            Some(error) => Err(error),
            None => Ok(replies),
        }
    }

    fn reports(&self) -> MutexGuard<'_, HashMap<String, Reports>> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis().clamp(1, i64::MAX as u128) as u64
}

impl Broker for RedisBroker {
    fn describe(&self) -> String {
        self.shared.connector.address.clone()
    }

    fn id_kind(&self) -> IdKind {
        IdKind::of_prefix(&self.shared.options.prefix)
    }

    fn put_ticket(&self, token: &str, ticket: &Ticket, life: Duration) -> Result<()> {
        self.store_ticket(token, ticket, life)
    }

    fn take_tickets(&self, tokens: &[String]) -> Result<Vec<Option<TakenTicket>>> {
        self.remove_tickets(tokens)
    }

    fn return_tickets(&self, tickets: &[(&str, &TakenTicket)]) -> Result<()> {
        self.restore_tickets(tickets)
    }

    fn void_tickets(&self, client: ClientId) -> Result<()> {
        self.drop_tickets(client)
    }

    fn claim(&self, key: &str, claim: &str, life: Duration) -> Result<Option<String>> {
        self.claim_request(key, claim, life)
    }

    fn settle(&self, key: &str, claim: &str, outcome: &str, life: Duration) -> Result<bool> {
        self.settle_request(key, claim, outcome, life)
    }

    fn begin_session(&self, node: &str, lease: Duration, supersede: bool) -> Result<Session> {
        self.start_session(node, lease, supersede)
    }

    fn renew(&self, session: &Session, status: &NodeStatus) -> Result<()> {
        self.renew_lease(session, status)
    }

    fn report(&self, session: &Session, changes: &[PresenceChange]) -> Result<()> {
        self.report_changes(session, changes)
    }

    fn end_session(&self, session: &Session) -> Result<()> {
        self.stop_session(session, "loud")
    }

    fn discard_session(&self, session: &Session) -> Result<()> {
        self.stop_session(session, "quiet")
    }

    fn lapsed(&self) -> Result<Vec<String>> {
        self.lapsed_sessions()
    }

    fn end_lapsed(&self, sessions: &[String]) -> Result<Vec<String>> {
        self.end_lapsed_sessions(sessions)
    }

    fn reap(&self, limit: usize) -> Result<usize> {
        self.reap_sessions(limit)
    }

    fn leave_overdue(&self) -> Result<bool> {
        self.end_overdue()
    }

    fn rejoin(&self, clients: &[ClientId]) -> Result<usize> {
        self.rejoin_clients(clients)
    }

    fn online_clients(&self) -> Result<Vec<ClientId>> {
        self.list_online()
    }

    fn online_page(&self, after: Option<&str>, limit: usize) -> Result<Page<ClientId>> {
        self.page_of_online(after, limit)
    }

    fn are_online(&self, clients: &[ClientId]) -> Result<Vec<bool>> {
        self.count_connections(clients)
    }

    fn statuses(&self) -> Result<Vec<(String, Option<NodeStatus>)>> {
        self.read_statuses()
    }

    fn connections_of(&self, client: ClientId, node: &str) -> Result<Vec<(u64, Ticket)>> {
        self.find_connections(client, node)
    }

    fn connections_page(
        &self,
        client: ClientId,
        node: &str,
        after: Option<&str>,
    ) -> Result<Page<(u64, Ticket)>> {
        self.page_of_connections(client, node, after)
    }

    fn join_within(&self, memberships: &[(ClientId, &str)], limits: &JoinLimits) -> Result<()> {
        self.join_channels(memberships, limits)
    }

    fn leave(&self, memberships: &[(ClientId, &str)]) -> Result<()> {
        self.change_memberships(&scripts::LEAVE, memberships, |_| {}).map(drop)
    }

    fn channel_members(&self, channel: &str) -> Result<Vec<ClientId>> {
        self.list_members(channel)
    }

    fn members_page(
        &self,
        channel: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<ClientId>> {
        self.page_of_members(channel, after, limit)
    }

    fn clear_channel(&self, channel: &str) -> Result<()> {
        self.leave_offline_members(channel)
    }

    fn channels(&self) -> Result<Vec<(String, i64)>> {
        self.list_channels()
    }

    fn channels_page(&self, after: Option<&str>, limit: usize) -> Result<Page<(String, i64)>> {
        self.page_of_channels(after, limit)
    }

    fn channels_of(&self, clients: &[ClientId]) -> Result<Vec<Vec<String>>> {
        self.read_channels_of(clients)
    }

    fn channel_size(&self, channel: &str) -> Result<i64> {
        self.read_channel_size(channel)
    }

    fn publish(&self, outgoing: &[(&str, Envelope)]) -> Result<()> {
        self.send(outgoing)
    }

    fn subscribe(&self, node: &str, watchlist: Arc<Watchlist>) -> Box<dyn Subscription> {
        Box::new(RedisFeed::new(Arc::clone(&self.shared), node, watchlist))
    }

    fn subscribe_events(&self) -> Box<dyn EventSubscription> {
        Box::new(RedisEvents::new(Arc::clone(&self.shared)))
    }
}
