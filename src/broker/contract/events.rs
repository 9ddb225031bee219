//! Presence events for the business: read by a helper's thread.

use std::time::Duration;

use crate::{error::Result, wire::Ticket};

/// Presence events for the business.
pub trait EventSubscription: Send {
    /// Waits up to `timeout` for the next event; `None` if there was none. After an error the next
    /// call connects anew and starts with [`Listening`](PresenceEvent::Listening); the caller paces
    /// the attempts. `Listening` in between means that this subscriber lagged and lost events.
    fn next(&mut self, timeout: Duration) -> Result<Option<PresenceEvent>>;
}

/// A connection opened or ended somewhere.
#[derive(Debug, PartialEq)]
#[non_exhaustive]
pub enum PresenceEvent {
    /// The subscription stands; events published before this may have been missed.
    Listening,
    /// A connection opened.
    Online(Ticket),
    /// A connection ended.
    Offline(Ticket),
}
