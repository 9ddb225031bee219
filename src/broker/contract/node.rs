//! What a node needs to serve its clients: their tickets, the session that reports them, the feed.
//!
//! Called by those of the server's threads that wait.

use std::{collections::HashSet, sync::Arc, time::Duration};

use super::feed::{FeedStart, Subscription, Watchlist};
#[cfg(feature = "redis")]
use crate::broker::reports::Reports;
use crate::{
    error::Result,
    id::ClientId,
    wire::{Envelope, NodeStatus, Ticket},
};

/// What a node asks and tells.
pub trait NodeBroker: Send + Sync {
    // --- Tickets ---------------------------------------------------------------------------------

    /// Takes the tickets out that were brought to `node`, each at most once over all callers; what was stored, unchecked, in
    /// the order of `tokens`.
    fn take_tickets(&self, node: &str, tokens: &[String]) -> Result<Vec<Option<TakenTicket>>>;

    /// Puts tickets that were [taken](NodeBroker::take_tickets) at `node` back under their tokens for what was left of their
    /// life, unless something is there.
    fn return_tickets(&self, node: &str, tickets: &[(&str, &TakenTicket)]) -> Result<()>;

    // --- Presence --------------------------------------------------------------------------------

    /// Opens a presence session for `node`, which lives for `lease` after each
    /// [`renew`](NodeBroker::renew).
    ///
    /// With `supersede` (the node has just started) the node's former sessions end at once: their
    /// connections are left to [`reap`](NodeBroker::reap). From here on the clients of all that have ended
    /// are known to be coming, see [`GRACE`].
    fn begin_session(&self, node: &str, lease: Duration, supersede: bool) -> Result<Session>;

    /// Opens a session that takes over what the former one of `node` has left, if some of its connections can be
    /// resumed: they stay reported, and nobody hears of it. The former session has ended then, for whoever still holds it.
    /// `None` if there is none such: [begin](NodeBroker::begin_session) one. What is left of further ones is left to
    /// [`reap`](NodeBroker::reap).
    ///
    /// With `own`, a session that the caller has lost, that one alone: what another process has taken over meanwhile stays
    /// with it. Of two callers at the same time one gets it, or the second from the first, which finds its session lost.
    fn take_over_session(
        &self,
        node: &str,
        lease: Duration,
        own: Option<&Session>,
    ) -> Result<Option<Former>>;

    /// Remembers what clients of the session prove with which connection is theirs, and for how long those that can be
    /// resumed are held when the session has ended otherwise than by [`discard_session`](NodeBroker::discard_session): so
    /// long [`reap`](NodeBroker::reap) leaves them to [`take_over_session`](NodeBroker::take_over_session). For `grace` it leaves
    /// all others to a node that [takes](super::Moves::take_abandoned) them.
    fn keep_session(
        &self,
        session: &Session,
        key: &[u8; 16],
        keep: Duration,
        grace: Duration,
    ) -> Result<()>;

    /// Prolongs the session by its lease, also when that has run out and nobody has noticed. `status` is
    /// what [`statuses`](super::Directory::statuses) says of the node as long as the lease stands.
    ///
    /// [`SessionLost`](crate::ErrorKind::SessionLost) when it was ended: its connections are, or will
    /// be, reported offline. [`SessionForgotten`](crate::ErrorKind::SessionForgotten) when the broker
    /// lost what was reported, all of it or what came last, as after a restart from an old snapshot.
    /// Then begin another session, report there what is still open as
    /// [`Restored`](PresenceChange::Restored), and [`discard_session`](NodeBroker::discard_session) this
    /// one: counts are right again, and nobody hears of it.
    fn renew(&self, session: &Session, status: &NodeStatus) -> Result<()>;

    /// Records that connections opened and closed, in order, and publishes one event for each.
    ///
    /// Repeating a change has no effect, nor has repeating a whole call that failed, with more changes
    /// behind it or without. When a client's last connection on any node closes, the client leaves all its
    /// channels, except when it is known to be coming, see [`GRACE`]. Very many memberships are ended in
    /// steps, the last of them by [`leave_overdue`](NodeBroker::leave_overdue). Errors as of [`renew`](NodeBroker::renew), with no effect. A call
    /// that was given up has no effect either once a later one has succeeded, however late it arrives.
    fn report(&self, session: &mut Session, changes: &[PresenceChange]) -> Result<()>;

    /// Ends an own session; connections that it still holds are left to [`reap`](NodeBroker::reap).
    fn end_session(&self, session: &Session) -> Result<()>;

    /// Ends an own session as [`end_session`](NodeBroker::end_session) does, but what it still holds goes
    /// without events: every connection of it was reported by another session or has been reported closed.
    fn discard_session(&self, session: &Session) -> Result<()>;

    /// Sessions that nobody has ended and whose lease has run out. Not necessarily dead: an outage, or a
    /// step of the broker's clock, ends the leases of nodes that are alive and renew them at once.
    fn lapsed(&self) -> Result<Vec<String>>;

    /// Ends those of `sessions` whose lease is still not there, as their nodes are dead; which those were.
    ///
    /// What [`reap`](NodeBroker::reap) leaves because of it can be brought back for an hour by
    /// [`rejoin`](NodeBroker::rejoin).
    fn end_lapsed(&self, sessions: &[String]) -> Result<Vec<String>>;

    /// Closes up to `limit` connections that ended sessions left behind, as [`report`](NodeBroker::report)
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

    // --- Messages --------------------------------------------------------------------------------

    /// Sends receipts as [`publish`](super::Bus::publish) does, and remembers in the same step that the senders of messages to
    /// clients of `node` know by them what became of these, for as long as the log has the message.
    ///
    /// If there is a log and something is settled, then repeating a telling that failed has no effect if it was carried
    /// out, nor has one that arrives late, behind its repetition or a later one.
    fn tell(&self, node: &str, telling: &Telling<'_>) -> Result<()>;

    /// Has it kept as events that these messages did not reach clients of `node`; of no effect where no events are kept.
    fn tell_undelivered(&self, node: &str, undelivered: &[Undelivered<'_>]) -> Result<()>;

    /// What was [settled](NodeBroker::tell), for a node that reads the messages once more.
    fn settled(&self, node: &str) -> Result<HashSet<(u64, ClientId)>>;

    /// The ordered feed of one node. Connects on the first [`next`](Subscription::next).
    ///
    /// `watchlist` names the clients whose channels the feed reports; `start` says with which message it begins.
    fn subscribe(
        &self,
        node: &str,
        watchlist: Arc<Watchlist>,
        start: FeedStart,
    ) -> Box<dyn Subscription>;
}

/// Receipts, and what they [tell](NodeBroker::tell) of.
#[derive(Debug, Clone, Copy)]
pub struct Telling<'a> {
    /// Names the process that tells; no other ever has that name. Without blanks.
    pub by: &'a str,
    /// Which telling of it this is: a repetition has the same number, the next one a higher.
    pub number: u64,
    /// The receipts, each with the node of who gets it.
    pub receipts: &'a [(&'a str, Envelope)],
    /// Numbers in the log of the messages that they tell of, and receivers of these.
    pub settled: &'a [(u64, ClientId)],
}

/// A message that did not reach one of its receivers.
#[derive(Debug, Clone, Copy)]
pub struct Undelivered<'a> {
    /// The receiver.
    pub client: &'a ClientId,
    /// The id that its sender gave it.
    pub id: &'a str,
    /// Why, in the word of a receipt: `offline` or `expired`.
    pub reason: &'a str,
}

/// A ticket that was [taken](NodeBroker::take_tickets).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenTicket {
    /// The stored text, unchecked.
    pub text: String,
    /// What was left of its life, more than zero.
    pub left: Duration,
}

/// What a node has taken over of its former self, see [`NodeBroker::take_over_session`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Former {
    /// The session that goes on from it.
    pub session: Session,
    /// What its clients prove with which connection is theirs.
    pub key: [u8; 16],
    /// Connections that it had reported as opened, and not as closed.
    pub connections: Vec<FormerConnection>,
}

/// A connection of a former process.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct FormerConnection {
    /// Its number.
    pub number: u64,
    /// The ticket it came with.
    pub ticket: Ticket,
    /// Whether its client can resume it.
    pub resumable: bool,
    /// It came from another node: what is for its client and is behind this number is in the log of this one, what is before in
    /// none that is read. 0 if all is.
    pub from: u64,
}

/// How long a client has to come, if it is known to be coming when its last connection ends; only then it
/// leaves its channels.
///
/// It is known to be coming while a ticket of it is out, while one was taken and its connection is not
/// reported yet, and when the close is told late or by others, because its node was away.
pub const GRACE: Duration = Duration::from_secs(10);

/// How long the memberships that ended because a node was taken for dead can be brought back by it.
pub const BROUGHT_BACK: Duration = Duration::from_secs(3600);

/// A node's claim on its connections, see [`NodeBroker::begin_session`]. To be used with the broker that began
/// it, one call at a time.
#[derive(Debug)]
pub struct Session {
    /// Unique over all nodes and times; starts with the node's name.
    pub id: String,
    /// How long it lives without [`NodeBroker::renew`].
    pub lease: Duration,
    /// What was reported, and what of it the broker has acknowledged.
    #[cfg(feature = "redis")]
    pub(in crate::broker) reports: Reports,
}

impl Session {
    /// A fresh session name for `node`.
    pub(crate) fn new(node: &str, lease: Duration) -> Result<Self> {
        Ok(Session::named(node, crate::token::random_u64()?, lease))
    }

    /// The session that takes over from this one, the same each time it is tried.
    #[cfg(feature = "redis")]
    pub(crate) fn successor(&self, node: &str, lease: Duration) -> Result<Self> {
        let number = self.id.rsplit_once('#').map(|(_, number)| u64::from_str_radix(number, 16));
        match number {
            Some(Ok(number)) => Ok(Session::named(node, number.wrapping_add(1), lease)),
            _ => Session::new(node, lease),
        }
    }

    fn named(node: &str, number: u64, lease: Duration) -> Self {
        Session {
            id: format!("{node}#{number:016x}"),
            lease,
            #[cfg(feature = "redis")]
            reports: Reports::default(),
        }
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
        /// Whether its client can resume it on another connection.
        resumable: bool,
    },
    /// As `Opened`, for a connection that was reported before in a session that was ended: its channels can
    /// be brought back by [`NodeBroker::rejoin`].
    Reopened {
        /// Number of the connection.
        connection: u64,
        /// The ticket it came with.
        ticket: Ticket,
        /// Whether its client can resume it on another connection.
        resumable: bool,
    },
    /// As `Opened`, for a connection that was reported before in a session that the broker has forgotten:
    /// counted, but no event.
    Restored {
        /// Number of the connection.
        connection: u64,
        /// The ticket it came with.
        ticket: Ticket,
        /// Whether its client can resume it on another connection.
        resumable: bool,
    },
    /// The connection ended.
    Closed {
        /// Number of the connection.
        connection: u64,
        /// Why, in one word: for the [`Event`](crate::Event) about it.
        reason: &'static str,
    },
    /// The connection ended long ago: its client may be connecting again already, see [`GRACE`].
    ClosedLate {
        /// Number of the connection.
        connection: u64,
        /// As of `Closed`.
        reason: &'static str,
    },
}
