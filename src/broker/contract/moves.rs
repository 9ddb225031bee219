//! How connections go from one node's session to another's, with what their clients go on from.
//!
//! Called by the presence threads of nodes that serve slots: the one that gives, and the one that gets.

use super::node::Session;
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
