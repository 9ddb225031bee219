//! What anybody sends to nodes: called by helpers, and by a node that sends receipts.

use crate::{error::Result, wire::Envelope};

/// Carries messages to nodes.
pub trait Bus: Send + Sync {
    /// Sends each envelope to the node beside it, in order. A node that does not listen misses it, and
    /// is told how many it missed once it listens again, see [`FeedEvent::Lost`](super::FeedEvent::Lost).
    fn publish(&self, outgoing: &[(&str, Envelope)]) -> Result<()>;
}
