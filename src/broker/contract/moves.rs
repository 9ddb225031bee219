//! How connections go from one node's session to another's, with what their clients go on from.
//!
//! Called by the presence threads of nodes that serve slots: the one that gives, and the one that gets, or takes from the dead.

use std::time::Duration;

use super::{
    feed::FeedEvent,
    node::{FormerConnection, Session},
};
use crate::error::Result;

/// Handing connections over to another node, and taking them.
pub trait Moves: Send + Sync {
    /// What clients of all nodes prove with which connection is theirs, so that any of them can be asked: the first that any
    /// node has proposed.
    fn common_key(&self, proposed: &[u8; 16]) -> Result<[u8; 16]>;

    /// Moves those of `connections` that the session holds to the session of node `to`, and leaves `parcel` for it, in one step:
    /// counts and channels stay as they are, and nobody hears of it. If the session holds none of those that are named, nothing
    /// is done: so repeating a call that failed has no double effect. Without connections the parcel is left.
    ///
    /// `from` is the number in the log behind which that of the other node has all that is for their clients.
    ///
    /// # Errors
    /// As of [`report`](super::NodeBroker::report), with no effect.
    fn hand_over(
        &self,
        session: &Session,
        to: &str,
        from: u64,
        connections: &[u64],
        parcel: &str,
    ) -> Result<HandOver>;

    /// The first parcels that were left for this session, in order; those that were [taken](Moves::took) are not among them.
    fn parcels(&self, session: &Session) -> Result<Vec<String>>;

    /// The first `count` parcels are done with.
    fn took(&self, session: &Session, count: usize) -> Result<()>;

    /// Sessions that have ended with connections that nobody has closed yet, while their nodes have not come back.
    fn abandoned(&self) -> Result<Vec<Abandoned>>;

    /// The connections of an [abandoned](Moves::abandoned) session, in no order.
    fn abandoned_connections(&self, abandoned: &str) -> Result<Vec<FormerConnection>>;

    /// Moves those of `connections` that the abandoned session still holds to this one, as they are: nobody hears of it. Which
    /// of them are with this one now, also if an earlier call has moved them.
    ///
    /// `from` as for [`hand_over`](Moves::hand_over); [`u64::MAX`] if that is not known.
    ///
    /// # Errors
    /// As of [`report`](super::NodeBroker::report), with no effect.
    fn take_abandoned(
        &self,
        session: &Session,
        abandoned: &str,
        from: u64,
        connections: &[u64],
    ) -> Result<Vec<u64>>;

    /// Reads what the log still holds for `node`, whose process is no more; `None` where no log says what that would have
    /// heard.
    fn past(&self, node: &str) -> Result<Option<Box<dyn Past>>>;
}

/// What the log holds for a node, from its beginning to where it ends when it is opened.
pub trait Past: Send {
    /// What comes next: [messages](FeedEvent::Message), in order and each once, and where something may be missing, or it
    /// begins, a [`Log`](FeedEvent::Log). `None` if that was all.
    fn next(&mut self) -> Result<Option<Vec<FeedEvent>>>;
}

/// A session that has ended, see [`Moves::abandoned`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Abandoned {
    /// Its id.
    pub session: String,
    /// Its node.
    pub node: String,
    /// Since when its clients are away, as far as anybody has looked.
    pub away: Duration,
    /// For how long those are held that can be resumed and whose tickets say nothing of it.
    pub keep: Duration,
    /// For how long the others are.
    pub grace: Duration,
}

/// What came of [`Moves::hand_over`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HandOver {
    /// It was done, now or before.
    Done,
    /// The other node has no session whose lease stands; nothing was done.
    Nobody,
    /// The other node has connections with these numbers; nothing was done.
    Taken(Vec<u64>),
}
