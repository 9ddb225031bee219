//! `RedisBroker`: the broker that .NET helpers and nodes of FreeIM and ImCore share.
//!
//! Called by helpers and by a server's worker and feed threads. Each verb is one blocking round trip
//! on a pooled connection (a long batch: one per thousand commands); none is repeated here. Commands,
//! keys and payloads are those of the .NET original wherever it has any.

mod account;
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
mod reply;
mod scripts;
mod tickets;
mod url;

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use redis::{Pipeline, Value};

use self::{
    connector::Connector, events::RedisEvents, feed::RedisFeed, gather::Gather, pool::Pool,
};
use super::contract::{
    Broker, EventSubscription, Page, PresenceChange, Session, Subscription, TakenTicket, Watchlist,
};
use crate::{
    error::{Error, ErrorKind, Result},
    id::{ClientId, IdKind},
    wire::{Envelope, Names, NodeStatus, Ticket},
};

pub use self::options::RedisOptions;

/// Commands in one round trip; keeps what Redis must buffer for one call within a few megabytes.
const PIPELINE: usize = 1024;

/// One in so many connections for calls may be one that publishes: those who come meanwhile are gathered.
const LANES: usize = 4;

/// Changes in one run of the report script, which blocks Redis for as long as it takes.
const REPORT_CHUNK: usize = 128;

/// Connections closed by one run of the reaping script.
const REAP_CHUNK: usize = 100;

/// How long the end of a session stays known: longer than any node may be paused and come back.
const END_LIFE: Duration = Duration::from_secs(24 * 3600);

/// A broker on Redis 6.2 or newer (not Redis Cluster).
///
/// Opening it connects to nothing: a server can start while Redis is away. Calls fail with
/// [`Unavailable`](ErrorKind::Unavailable) at once while nobody listens, with
/// [`Timeout`](ErrorKind::Timeout) after the call timeout, with
/// [`Interrupted`](ErrorKind::Interrupted) when the connection breaks meanwhile, and with
/// [`Overloaded`](ErrorKind::Overloaded) when all connections of the pool stay busy. A call is never
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
    /// [`Config`](ErrorKind::Config) for a URL or option that cannot work. Connects to nothing.
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
    /// [`Interrupted`](ErrorKind::Interrupted) if some were carried out and others not.
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

    /// The keys and first arguments that [`scripts::REPORT`] and [`scripts::REAP`] have in common.
    fn presence_script(&self, pipeline: &mut Pipeline, script: &str, session: &str) {
        let names = self.names();
        pipeline.cmd("EVAL").arg(script).arg(6);
        pipeline.arg(names.ended_key(session)).arg(names.connections_key(session));
        pipeline.arg(names.online_key()).arg(names.channel_list_key());
        pipeline.arg(names.closed_key(session)).arg(names.sessions_key());
        pipeline.arg(names.channel_key("")).arg(names.client_key_prefix());
        pipeline.arg(names.online_topic()).arg(names.offline_topic()).arg(session);
    }

    fn end(&self, session: &Session, how: &str) -> Result<()> {
        let names = self.names();
        self.one(|pipeline| {
            pipeline.cmd("EVAL").arg(scripts::END).arg(4).arg(names.sessions_key());
            pipeline.arg(names.lease_key(&session.id)).arg(names.ended_key(&session.id));
            pipeline.arg(names.connections_key(&session.id));
            pipeline.arg(&session.id).arg(END_LIFE.as_secs()).arg(how);
        })?;
        self.shared.reports().remove(&session.id);
        Ok(())
    }

    fn reap_sessions(&self, limit: usize, lapsed: bool) -> Result<usize> {
        let names = self.names();
        let ended = self.one(|pipeline| {
            pipeline.cmd("EVAL").arg(scripts::ENDED).arg(1).arg(names.sessions_key());
            pipeline.arg(names.lease_key("")).arg(names.ended_key(""));
            pipeline.arg(END_LIFE.as_secs()).arg(i32::from(lapsed));
        })?;
        let mut closed = 0;
        for session in reply::texts(ended) {
            // At least once, for a session without connections.
            loop {
                let chunk = REAP_CHUNK.min(limit - closed);
                let here = self.one(|pipeline| {
                    self.presence_script(pipeline, scripts::REAP, &session);
                    pipeline.arg(chunk);
                })?;
                let here = reply::number(here).max(0) as usize;
                closed += here;
                if here < chunk || closed >= limit {
                    break;
                }
            }
        }
        Ok(closed)
    }
}

/// Numbers of the reports of an own session, which grow by one per run of the report script.
#[derive(Default, Clone, Copy)]
struct Reports {
    sent: u64,
    /// The last whose reply came. Redis must know it, or it has lost what was reported.
    acknowledged: u64,
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

    /// What [`scripts::RENEW`] and [`scripts::REPORT`] say of an own session.
    fn judge(&self, session: &Session, reply: &Value) -> Result<()> {
        let (kind, what) = match reply {
            Value::Int(1) => return Ok(()),
            Value::Int(-1) => {
                self.reports().remove(&session.id);
                (ErrorKind::SessionLost, "was ended")
            }
            _ => {
                self.forgotten.fetch_add(1, Ordering::AcqRel);
                (ErrorKind::SessionForgotten, "is not, or not fully, known any more")
            }
        };
        Err(Error::new(kind, format!("session {} {what}", session.id)))
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

    fn claim(&self, key: &str, claim: &str, life: Duration) -> Result<Option<String>> {
        self.claim_request(key, claim, life)
    }

    fn settle(&self, key: &str, claim: &str, outcome: &str, life: Duration) -> Result<bool> {
        self.settle_request(key, claim, outcome, life)
    }

    fn begin_session(&self, node: &str, lease: Duration, supersede: bool) -> Result<Session> {
        let session = Session::new(node, lease)?;
        let names = self.names();
        self.one(|pipeline| {
            pipeline.cmd("EVAL").arg(scripts::BEGIN).arg(2);
            pipeline.arg(names.sessions_key()).arg(names.lease_key(&session.id));
            pipeline.arg(node).arg(&session.id).arg(millis(lease)).arg(END_LIFE.as_secs());
            pipeline.arg(names.lease_key("")).arg(names.ended_key("")).arg(i32::from(supersede));
        })?;
        self.shared.reports().insert(session.id.clone(), Reports::default());
        Ok(session)
    }

    fn renew(&self, session: &Session, status: &NodeStatus) -> Result<()> {
        let names = self.names();
        let known = self.shared.reports().get(&session.id).copied().unwrap_or_default();
        let renewed = self.one(|pipeline| {
            pipeline.cmd("EVAL").arg(scripts::RENEW).arg(3).arg(names.sessions_key());
            pipeline.arg(names.lease_key(&session.id)).arg(names.ended_key(&session.id));
            pipeline.arg(&session.id).arg(millis(session.lease)).arg(known.acknowledged);
            pipeline.arg(status.encode());
        })?;
        self.shared.judge(session, &renewed)
    }

    fn report(&self, session: &Session, changes: &[PresenceChange]) -> Result<()> {
        let mut opened = HashSet::new();
        let mut tagged = Vec::with_capacity(changes.len());
        for change in changes {
            tagged.push(match change {
                PresenceChange::Opened { connection, ticket } => {
                    opened.insert(*connection);
                    ("o", *connection, Some(ticket))
                }
                PresenceChange::Restored { connection, ticket } => {
                    opened.insert(*connection);
                    ("r", *connection, Some(ticket))
                }
                PresenceChange::Closed { connection } => {
                    (if opened.contains(connection) { "x" } else { "c" }, *connection, None)
                }
            });
        }
        let chunks: Vec<_> = tagged.chunks(REPORT_CHUNK).zip(1..).collect();
        let before = {
            let mut reports = self.shared.reports();
            let known = reports.entry(session.id.clone()).or_default();
            let before = *known;
            known.sent += chunks.len() as u64;
            before
        };
        let replies = self.each(&chunks, |pipeline, (chunk, number)| {
            self.presence_script(pipeline, scripts::REPORT, &session.id);
            pipeline.arg(before.acknowledged).arg(before.sent + number);
            for (what, connection, ticket) in *chunk {
                pipeline.arg(*what).arg(*connection);
                match ticket {
                    Some(ticket) => pipeline.arg(ticket.client().to_string()).arg(ticket.text()),
                    None => pipeline.arg("").arg(""),
                };
            }
        })?;
        replies.iter().try_for_each(|reply| self.shared.judge(session, reply))?;
        if let Some(known) = self.shared.reports().get_mut(&session.id) {
            let all = before.sent + chunks.len() as u64;
            known.acknowledged = known.acknowledged.max(all);
        }
        Ok(())
    }

    fn end_session(&self, session: &Session) -> Result<()> {
        self.end(session, "loud")
    }

    fn discard_session(&self, session: &Session) -> Result<()> {
        self.end(session, "quiet")
    }

    fn reap(&self, limit: usize) -> Result<usize> {
        self.reap_sessions(limit, true)
    }

    fn reap_ended(&self, limit: usize) -> Result<usize> {
        self.reap_sessions(limit, false)
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

    fn join(&self, memberships: &[(ClientId, &str)]) -> Result<()> {
        self.change_memberships(scripts::JOIN, memberships)
    }

    fn leave(&self, memberships: &[(ClientId, &str)]) -> Result<()> {
        self.change_memberships(scripts::LEAVE, memberships)
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
