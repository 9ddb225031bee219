//! What waits for the subscribers of a `MemoryBroker`. Kept in `State`, under the broker's mutex.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar},
};

use crate::{
    broker::{contract::PresenceEvent, ordered::Watched},
    wire::Envelope,
};

/// Events that wait for one subscriber before it has lost them.
const EVENT_CAPACITY: usize = 4096;

/// Tells a waiting subscriber that something arrived, and waiting publishers that there is room.
pub(super) struct Wake {
    pub(super) arrived: Condvar,
    pub(super) space: Condvar,
}

impl Wake {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Wake { arrived: Condvar::new(), space: Condvar::new() })
    }
}

/// What waits for one node, and which clients it watches.
pub(super) struct NodeQueue {
    pub(super) id: u64,
    pub(super) node: String,
    /// Each with its number in the log, if it is there.
    pub(super) messages: VecDeque<(Arc<Envelope>, Option<u64>)>,
    pub(super) watched: Watched,
    pub(super) wake: Arc<Wake>,
}

/// What waits for one subscriber of presence events.
pub(super) struct EventQueue {
    pub(super) id: u64,
    pub(super) events: VecDeque<PresenceEvent>,
    pub(super) wake: Arc<Wake>,
}

impl EventQueue {
    /// A subscriber that lags too far loses everything and is told so, as on Redis, which cuts it.
    pub(super) fn push(&mut self, event: PresenceEvent) {
        if self.events.len() >= EVENT_CAPACITY {
            self.events.clear();
            self.events.push_back(PresenceEvent::Listening);
        }
        self.events.push_back(event);
        self.wake.arrived.notify_one();
    }
}
