//! What the helper and the server need from a broker, in the words of the domain.
//!
//! Implemented by `memory` (one process) and `redis`; called by the helper on any thread and by the
//! server's worker and feed threads, never by a reactor: every call may block up to the broker's
//! deadline. Nothing here knows Redis.

use std::{
    mem,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

#[cfg(feature = "redis")]
use super::reports::Reports;
use crate::{
    error::{Error, Result},
    id::{ClientId, IdKind},
    wire::{Envelope, NodeStatus, Ticket},
};

/// Carries messages to nodes and keeps tickets, presence and channels.
///
/// All methods may be called from many threads at once. Errors that are
/// [retryable](crate::Error::is_retryable) pass; the same call may be repeated, and
/// [`report`](Broker::report) without double effect.
pub trait Broker: Send + Sync {
    /// Where the state lives, for a person: `in-process` or the Redis address without secrets.
    fn describe(&self) -> String;

    /// Which ids clients may have here, as far as the broker knows: [`IdKind::Any`] where no .NET process
    /// can take part.
    fn id_kind(&self) -> IdKind {
        IdKind::Any
    }

    // --- Tickets ---------------------------------------------------------------------------------

    /// Stores what `token` stands for; it vanishes after `life`.
    fn put_ticket(&self, token: &str, ticket: &Ticket, life: Duration) -> Result<()>;

    /// Takes the tickets out, each at most once over all callers; what was stored, unchecked, in the order
    /// of `tokens`.
    fn take_tickets(&self, tokens: &[String]) -> Result<Vec<Option<TakenTicket>>>;

    /// Puts tickets back under their tokens for what was left of their life, unless something is there.
    fn return_tickets(&self, tickets: &[(&str, &TakenTicket)]) -> Result<()>;

    /// Tickets of `client` that were put here and not taken so far are good no more. Not those that a .NET helper
    /// wrote, which nobody can find by their client.
    fn void_tickets(&self, client: ClientId) -> Result<()>;

    // --- Requests --------------------------------------------------------------------------------

    /// Stores `claim` under `key` for `life`, unless something is there already, which is returned then.
    ///
    /// Of all callers on all nodes, one is the first. Claims should be unique, so that whoever repeats
    /// an own one after an error knows it when it is returned. Keys are any text.
    fn claim(&self, key: &str, claim: &str, life: Duration) -> Result<Option<String>>;

    /// Puts `outcome` in the place of the own `claim`, for `life`; with a life of zero nothing stays
    /// there, and the key is free.
    ///
    /// Returns false, and changes nothing, if that claim is not there any more.
    fn settle(&self, key: &str, claim: &str, outcome: &str, life: Duration) -> Result<bool>;

    // --- Presence, seen by a node ----------------------------------------------------------------

    /// Opens a presence session for `node`, which lives for `lease` after each
    /// [`renew`](Broker::renew).
    ///
    /// With `supersede` (the node has just started) the node's former sessions end at once: their
    /// connections are left to [`reap`](Broker::reap). From here on the clients of all that have ended
    /// are known to be coming, see [`GRACE`].
    fn begin_session(&self, node: &str, lease: Duration, supersede: bool) -> Result<Session>;

    /// Prolongs the session by its lease, also when that has run out and nobody has noticed. `status` is
    /// what [`statuses`](Broker::statuses) says of the node as long as the lease stands.
    ///
    /// [`SessionLost`](crate::ErrorKind::SessionLost) when it was ended: its connections are, or will
    /// be, reported offline. [`SessionForgotten`](crate::ErrorKind::SessionForgotten) when the broker
    /// lost what was reported, all of it or what came last, as after a restart from an old snapshot.
    /// Then begin another session, report there what is still open as
    /// [`Restored`](PresenceChange::Restored), and [`discard_session`](Broker::discard_session) this
    /// one: counts are right again, and nobody hears of it.
    fn renew(&self, session: &Session, status: &NodeStatus) -> Result<()>;

    /// Records that connections opened and closed, in order, and publishes one event for each.
    ///
    /// Repeating a change has no effect, nor has repeating a whole call that failed, with more changes
    /// behind it or without. When a client's last connection on any node closes, the client leaves all its
    /// channels, except when it is known to be coming, see [`GRACE`]. Very many memberships are ended in
    /// steps, the last of them by [`leave_overdue`](Broker::leave_overdue). Errors as of [`renew`](Broker::renew), with no effect. A call
    /// that was given up has no effect either once a later one has succeeded, however late it arrives.
    fn report(&self, session: &mut Session, changes: &[PresenceChange]) -> Result<()>;

    /// Ends an own session; connections that it still holds are left to [`reap`](Broker::reap).
    fn end_session(&self, session: &Session) -> Result<()>;

    /// Ends an own session as [`end_session`](Broker::end_session) does, but what it still holds goes
    /// without events: every connection of it was reported by another session or has been reported closed.
    fn discard_session(&self, session: &Session) -> Result<()>;

    /// Sessions that nobody has ended and whose lease has run out. Not necessarily dead: an outage, or a
    /// step of the broker's clock, ends the leases of nodes that are alive and renew them at once.
    fn lapsed(&self) -> Result<Vec<String>>;

    /// Ends those of `sessions` whose lease is still not there, as their nodes are dead; which those were.
    ///
    /// What [`reap`](Broker::reap) leaves because of it can be brought back for an hour by
    /// [`rejoin`](Broker::rejoin).
    fn end_lapsed(&self, sessions: &[String]) -> Result<Vec<String>>;

    /// Closes up to `limit` connections that ended sessions left behind, as [`report`](Broker::report)
    /// would, each exactly once over all callers.
    ///
    /// Returns how many; fewer than `limit` means that nothing is left for now.
    fn reap(&self, limit: usize) -> Result<usize>;

    /// Ends some of the memberships whose time has come: of clients that were known to be coming and have
    /// not come, of those that were joined while they were offline and never came, and what is left of
    /// those that were in very many channels. Returns whether there are more.
    ///
    /// Each node calls it at least once a second.
    fn leave_overdue(&self) -> Result<bool>;

    /// Joins clients that are online to the channels that were left when their node was taken for dead: it
    /// was not, and has reported them as [`Reopened`](PresenceChange::Reopened). Returns for how many of
    /// `clients`, from the first, that is done; what remains is for further calls.
    fn rejoin(&self, clients: &[ClientId]) -> Result<usize>;

    // --- Presence, seen by the business ----------------------------------------------------------

    /// All clients with an open connection, in no order. The system's id is left out.
    ///
    /// Read in steps, as if page by page; see [`Page`] for what that means. Costs memory and time by
    /// their number.
    fn online_clients(&self) -> Result<Vec<ClientId>>;

    /// About `limit` of them: those after the page whose [`next`](Page::next) is `after`, from the
    /// beginning if that is `None`.
    ///
    /// # Errors
    /// [`Argument`](crate::ErrorKind::Argument) if `after` was not given by a page.
    fn online_page(&self, after: Option<&str>, limit: usize) -> Result<Page<ClientId>>;

    /// Whether each of `clients` has an open connection, in their order.
    fn are_online(&self, clients: &[ClientId]) -> Result<Vec<bool>>;

    /// What each session whose lease stands last said of its node, in no order: node and status. `None`
    /// before the first renewal, and from a version that says nothing.
    fn statuses(&self) -> Result<Vec<(String, Option<NodeStatus>)>>;

    /// The open connections of `client` that sessions of `node` hold, in no order: number and ticket.
    ///
    /// Looks through all connections of the node, in steps between which the broker serves others: for an
    /// operator's eyes, not for business per message. What opens or closes meanwhile may be missed.
    fn connections_of(&self, client: ClientId, node: &str) -> Result<Vec<(u64, Ticket)>>;

    /// A bounded part of that: looks through some thousand connections of the node. The page may be
    /// empty and not the last; [`total`](Page::total) is the number of the client's open connections on
    /// all nodes.
    fn connections_page(
        &self,
        client: ClientId,
        node: &str,
        after: Option<&str>,
    ) -> Result<Page<(u64, Ticket)>>;

    // --- Channels --------------------------------------------------------------------------------

    /// Makes each client a member of the channel beside it. Joining twice has no effect.
    fn join(&self, memberships: &[(ClientId, &str)]) -> Result<()> {
        self.join_within(memberships, &JoinLimits::default())
    }

    /// As [`join`](Broker::join), within limits.
    ///
    /// # Errors
    /// [`Argument`](crate::ErrorKind::Argument) if clients are in as many channels as they may be. The other
    /// memberships were made.
    fn join_within(&self, memberships: &[(ClientId, &str)], limits: &JoinLimits) -> Result<()>;

    /// Ends each membership. Leaving a channel one is not in has no effect.
    fn leave(&self, memberships: &[(ClientId, &str)]) -> Result<()>;

    /// Members of the channel, online or not, in no order. The system's id is left out. Read in steps, as
    /// [`online_clients`](Broker::online_clients) is.
    fn channel_members(&self, channel: &str) -> Result<Vec<ClientId>>;

    /// About `limit` of them, as [`online_page`](Broker::online_page).
    fn members_page(
        &self,
        channel: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<ClientId>>;

    /// Ends the membership of all members that are not online.
    fn clear_channel(&self, channel: &str) -> Result<()>;

    /// All channels with their number of members, in no order. Read in steps, as
    /// [`online_clients`](Broker::online_clients) is.
    fn channels(&self) -> Result<Vec<(String, i64)>>;

    /// About `limit` of them, as [`online_page`](Broker::online_page).
    fn channels_page(&self, after: Option<&str>, limit: usize) -> Result<Page<(String, i64)>>;

    /// Channels of each of `clients`, in their order.
    fn channels_of(&self, clients: &[ClientId]) -> Result<Vec<Vec<String>>>;

    /// Number of members of the channel; 0 if there is none of that name.
    fn channel_size(&self, channel: &str) -> Result<i64>;

    // --- Messages --------------------------------------------------------------------------------

    /// Sends each envelope to the node beside it, in order. A node that does not listen misses it, and
    /// is told how many it missed once it listens again, see [`FeedEvent::Lost`].
    fn publish(&self, outgoing: &[(&str, Envelope)]) -> Result<()>;

    /// The ordered feed of one node. Connects on the first [`next`](Subscription::next).
    ///
    /// `watchlist` names the clients whose channels the feed reports.
    fn subscribe(&self, node: &str, watchlist: Arc<Watchlist>) -> Box<dyn Subscription>;

    /// The presence events of all nodes. Connects on the first [`next`](EventSubscription::next).
    fn subscribe_events(&self) -> Box<dyn EventSubscription>;
}

/// A part of a list that is read bit by bit, in no order.
///
/// What is there from the first page to the last is on one of them; what comes or goes meanwhile may be or
/// not, and an item may come twice. A page holds *about* as many items as were asked for: some more, fewer,
/// or none, which says nothing about whether it is the last.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page<T> {
    /// What is on this page.
    pub items: Vec<T>,
    /// What to ask the next page with; `None` if this was the last. An opaque text.
    pub next: Option<String>,
    /// Length of the whole list at this moment.
    pub total: u64,
}

/// A ticket that was [taken](Broker::take_tickets).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenTicket {
    /// The stored text, unchecked.
    pub text: String,
    /// What was left of its life, more than zero.
    pub left: Duration,
}

/// How long a client has to come, if it is known to be coming when its last connection ends; only then it
/// leaves its channels.
///
/// It is known to be coming while a ticket of it is out, while one was taken and its connection is not
/// reported yet, and when the close is told late or by others, because its node was away.
pub const GRACE: Duration = Duration::from_secs(10);

/// Bounds on joins; see [`Broker::join_within`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct JoinLimits {
    /// Channels that one client may be in. Default 0: no limit.
    pub channels_per_client: usize,
    /// How long a client that is not online stays a member without coming; counted from its last join.
    /// Default `None`: for ever.
    pub offline_life: Option<Duration>,
}

impl JoinLimits {
    /// Fails if some clients were refused.
    pub(crate) fn check(&self, refused: &[ClientId], asked: usize) -> Result<()> {
        let Some(client) = refused.first() else { return Ok(()) };
        let limit = self.channels_per_client;
        let made = asked - refused.len();
        Err(Error::argument(format!(
            "client {client} is in {limit} channels, as many as it may be (channels_per_client); leave \
             some first. {made} of {asked} memberships were made"
        )))
    }
}

/// One node's stream of messages and of what they depend on, in order.
///
/// Before a channel message come the [`Channels`](FeedEvent::Channels) of every watched client that
/// joined or left a channel before the message was published. Changes are also reported while no
/// message comes. Messages keep the order in which they were published.
///
/// ```
/// use std::{sync::Arc, time::Duration};
/// use imcore::broker::{Broker, FeedEvent, MemoryBroker, Watchlist};
///
/// let broker = MemoryBroker::new();
/// let watchlist = Arc::new(Watchlist::default());
/// let mut feed = broker.subscribe("node-a", Arc::clone(&watchlist));
/// assert_eq!(feed.next(Duration::ZERO)?, Some(FeedEvent::Listening));
///
/// watchlist.watch(42.into());
/// broker.join(&[(42.into(), "lobby")])?;
/// let Some(FeedEvent::Channels { channels, .. }) = feed.next(Duration::from_secs(1))? else {
///     panic!("a membership comes before the messages that it decides about")
/// };
/// assert_eq!(channels, ["lobby"]);
/// # Ok::<(), imcore::Error>(())
/// ```
pub trait Subscription: Send {
    /// Waits up to `timeout` for the next event; `None` if there was none. A call that has to connect
    /// or to read channels may take longer, by the broker's own time limits.
    ///
    /// After an error the next call connects anew and starts with
    /// [`Listening`](FeedEvent::Listening), after events that were ready before; all watched clients
    /// are then reported again. The caller paces the attempts, for as long as the node lives: an
    /// error of any kind may pass, even a refused password.
    fn next(&mut self, timeout: Duration) -> Result<Option<FeedEvent>>;

    /// The last proof that this subscription hears what is published; `None` where there is nothing to
    /// prove, because publisher and subscriber share memory.
    fn last_echo(&self) -> Option<Echo> {
        None
    }
}

/// A message that a subscription published to itself, and heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Echo {
    /// When it was heard.
    pub at: Instant,
    /// Time from publishing to hearing it, with all that was waiting in front of it.
    pub took: Duration,
}

/// What a node's feed says.
#[derive(Debug, PartialEq)]
pub enum FeedEvent {
    /// The subscription stands; messages published before this may have been missed.
    Listening,
    /// A message for this node.
    Message(Envelope),
    /// All channels that a watched client is in from here on, possibly none or the same as before.
    ///
    /// Comes at least once after each [`watch`](Watchlist::watch), so that a report still under way
    /// to a client watched before is overruled.
    Channels {
        /// The watched client.
        client: ClientId,
        /// Its channels, in no order.
        channels: Vec<String>,
    },
    /// The broker has lost data since the last event, and with it joins: what is reported of channels from
    /// here on is what is left. Who wants them back joins again.
    Forgotten,
    /// So many messages were sent to this node while it could not hear, and none of them will come.
    ///
    /// Exact if all senders are helpers and nodes of this library and the broker kept its data; senders
    /// that do not count what they send (the .NET helper) make it too small by what was heard from them.
    Lost(u64),
    /// A payload that is no envelope was skipped.
    Malformed(&'static str),
    /// Another process listens under the same node name: every message reaches both. Comes again as
    /// long as that lasts. (A [`Probe`](Envelope::Probe) published by anybody else reads as one.)
    DuplicateNode,
}

/// Presence events for the business.
pub trait EventSubscription: Send {
    /// Waits up to `timeout` for the next event; `None` if there was none. After an error the next
    /// call connects anew and starts with [`Listening`](PresenceEvent::Listening); the caller paces
    /// the attempts. `Listening` in between means that this subscriber lagged and lost events.
    fn next(&mut self, timeout: Duration) -> Result<Option<PresenceEvent>>;
}

/// A connection opened or ended somewhere.
#[derive(Debug, PartialEq)]
pub enum PresenceEvent {
    /// The subscription stands; events published before this may have been missed.
    Listening,
    /// A connection opened.
    Online(Ticket),
    /// A connection ended.
    Offline(Ticket),
}

/// A node's claim on its connections, see [`Broker::begin_session`]. To be used with the broker that began
/// it, one call at a time.
#[derive(Debug)]
pub struct Session {
    /// Unique over all nodes and times; starts with the node's name.
    pub id: String,
    /// How long it lives without [`Broker::renew`].
    pub lease: Duration,
    /// What was reported, and what of it the broker has acknowledged.
    #[cfg(feature = "redis")]
    pub(super) reports: Reports,
}

impl Session {
    /// A fresh session name for `node`.
    pub(crate) fn new(node: &str, lease: Duration) -> Result<Self> {
        Ok(Session {
            id: format!("{node}#{:016x}", crate::token::random_u64()?),
            lease,
            #[cfg(feature = "redis")]
            reports: Reports::default(),
        })
    }
}

/// One change of a node's own connections. Connection numbers are unique within a session.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum PresenceChange {
    /// The client of `ticket` has one connection more.
    Opened {
        /// Number of the connection.
        connection: u64,
        /// The ticket it came with; its text is the event.
        ticket: Ticket,
    },
    /// As `Opened`, for a connection that was reported before in a session that was ended: its channels can
    /// be brought back by [`Broker::rejoin`].
    Reopened {
        /// Number of the connection.
        connection: u64,
        /// The ticket it came with.
        ticket: Ticket,
    },
    /// As `Opened`, for a connection that was reported before in a session that the broker has forgotten:
    /// counted, but no event.
    Restored {
        /// Number of the connection.
        connection: u64,
        /// The ticket it came with.
        ticket: Ticket,
    },
    /// The connection ended.
    Closed {
        /// Number of the connection.
        connection: u64,
    },
    /// The connection ended long ago: its client may be connecting again already, see [`GRACE`].
    ClosedLate {
        /// Number of the connection.
        connection: u64,
    },
}

/// Which clients are on a node, told by its reactors to its feed.
///
/// A client is put on the list before its connection is confirmed to the peer, so that no message
/// published after that can overtake it.
#[derive(Debug, Default)]
pub struct Watchlist {
    changes: Mutex<Vec<(ClientId, bool)>>,
}

impl Watchlist {
    /// Start reporting the channels of `client`.
    pub fn watch(&self, client: ClientId) {
        self.push(client, true);
    }

    /// Stop reporting the channels of `client`.
    pub fn unwatch(&self, client: ClientId) {
        self.push(client, false);
    }

    /// The changes since the last call, in order; `true` is a watch.
    pub(crate) fn take(&self) -> Vec<(ClientId, bool)> {
        mem::take(&mut *self.changes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn push(&self, client: ClientId, watched: bool) {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).push((client, watched));
    }
}
