//! The ordered feed of one node: read by the node's feed thread; who is watched is told by its reactors.

use std::{
    mem,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::{error::Result, id::ClientId, wire::Envelope};

/// One node's stream of messages and of what they depend on, in order.
///
/// Before a channel message come the [`Channels`](FeedEvent::Channels) of every watched client that
/// joined or left a channel before the message was published; where the broker is not told of every change, of every
/// client that a helper of this library has changed, and [`Members`](FeedEvent::Members). Changes are also reported while no
/// message comes. Messages keep the order in which they were published.
///
/// ```
/// use std::{sync::Arc, time::Duration};
/// use imcore::broker::{Directory, FeedEvent, FeedStart, MemoryBroker, NodeBroker, Watchlist};
///
/// let broker = MemoryBroker::new();
/// let watchlist = Arc::new(Watchlist::default());
/// let mut feed = broker.subscribe("node-a", Arc::clone(&watchlist), FeedStart::Now);
/// assert_eq!(feed.next(Duration::ZERO)?, Some(FeedEvent::Listening));
/// assert!(matches!(feed.next(Duration::ZERO)?, Some(FeedEvent::Log { .. })));
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
#[non_exhaustive]
pub struct Echo {
    /// When it was heard.
    pub at: Instant,
    /// Time from publishing to hearing it, with all that was waiting in front of it.
    pub took: Duration,
}

/// What a node's feed says.
#[derive(Debug, PartialEq)]
#[non_exhaustive]
pub enum FeedEvent {
    /// The subscription stands; messages published before this may have been missed.
    Listening,
    /// A message for this node.
    Message {
        /// What it says.
        envelope: Envelope,
        /// Its number in the log, which rises from message to message; `None` if it is in no log.
        number: Option<u64>,
    },
    /// A log is kept: of all logged messages for this node with a number above `from`, none is missing from here on.
    ///
    /// Comes behind the first [`Listening`](FeedEvent::Listening), before any message (with [`FeedStart::Log`] before
    /// what the log holds, and that before `Listening`), and again only when something may be missing in between:
    /// messages that no log holds any more, or none ever held. What was lost on the way and is in the log simply
    /// follows, in order and once.
    Log {
        /// Names the log; another one means that the numbers of the one before mean nothing any more.
        epoch: String,
        /// Number of the last message before those that follow; 0 if there was none.
        from: u64,
    },
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
    /// Those of the watched clients that are in a channel from here on, and no other. Comes where the broker cannot tell of
    /// every change by itself, before a message to that channel.
    Members {
        /// The channel.
        channel: String,
        /// Watched clients that are in it, in no order.
        clients: Vec<ClientId>,
    },
    /// The broker has lost data since the last event, and with it joins: what is reported of channels from
    /// here on is what is left. Who wants them back joins again.
    Forgotten,
    /// So many messages were sent to this node while it could not hear, and none of them will come. Not among them: what
    /// is in the log, and what is volatile.
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

/// Where the feed of a node begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum FeedStart {
    /// With what is published from now on.
    #[default]
    Now,
    /// With all that the log still holds for the node: clients of a former process of it are to get what they missed.
    /// Without a log the same as `Now`.
    Log,
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
