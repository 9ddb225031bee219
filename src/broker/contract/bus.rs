//! What anybody sends to nodes: called by helpers, and by a node that sends receipts.

use crate::{error::Result, wire::Envelope};

/// Carries messages to nodes.
pub trait Bus: Send + Sync {
    /// Sends each envelope to the node beside it, in order. A node that does not listen reads it in the log once it
    /// listens again; what no log has it misses, and is told how much that was, see
    /// [`FeedEvent::Lost`](super::FeedEvent::Lost). The same message to several nodes, one behind the other, is one.
    fn publish(&self, outgoing: &[(&str, Envelope)]) -> Result<()>;

    /// As [`publish`](Bus::publish), where the nodes follow from the table of slots at `version`. Once the table has changed nothing
    /// more is sent, if the broker sees that in the same step: within a process, and where it keeps a log. How many of
    /// `outgoing` were sent, from the first.
    fn publish_by(&self, version: u64, outgoing: &[(&str, Envelope)]) -> Result<usize>;
}
