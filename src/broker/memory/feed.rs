//! The subscribers of a `MemoryBroker`: one node's ordered feed, and presence events.
//!
//! The queues live in `State`, the subscriptions are handles to them. Called by a node's feed thread
//! and by the business; dropping a handle ends its queue and releases publishers that wait for it.

use std::{
    collections::VecDeque,
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use super::{
    Backend,
    queues::{EventQueue, NodeQueue, Wake},
    state::State,
};
use crate::{
    broker::{
        contract::{EventSubscription, FeedEvent, PresenceEvent, Subscription, Watchlist},
        ordered::{IDLE_CHUNK, Watched},
    },
    error::Result,
    wire::Envelope,
};

/// Nobody wakes the feed when the watchlist changes, so it looks that often.
const WATCHLIST_TICK: Duration = Duration::from_millis(50);

pub(super) struct MemoryFeed {
    backend: Arc<Backend>,
    node: String,
    watchlist: Arc<Watchlist>,
    wake: Arc<Wake>,
    /// Number of our queue; `None` before the first call.
    id: Option<u64>,
    /// Events that precede what is in the queue.
    ready: VecDeque<FeedEvent>,
}

impl MemoryFeed {
    pub(super) fn new(backend: Arc<Backend>, node: &str, watchlist: Arc<Watchlist>) -> Self {
        let (node, ready) = (node.into(), VecDeque::new());
        MemoryFeed { backend, node, watchlist, wake: Wake::new(), id: None, ready }
    }

    fn register(&mut self, state: &mut State) {
        let id = state.next_subscriber;
        state.next_subscriber += 1;
        self.id = Some(id);
        self.ready.push_back(FeedEvent::Listening);
        // Both processes under one name are to hear of it; a foreign probe says so, as on Redis.
        let probe = Envelope::Probe { origin: id, number: 0 };
        let mut messages = VecDeque::new();
        if state.node_queues.iter().any(|queue| queue.node == self.node) {
            state.deliver(&self.node, &probe);
            messages.push_back(probe);
        }
        let (node, wake) = (self.node.clone(), Arc::clone(&self.wake));
        state.node_queues.push(NodeQueue { id, node, messages, watched: Watched::default(), wake });
    }

    /// Moves what can be handed on now to `ready`: the next message with what it depends on, or, when
    /// there is none, some of the clients to be read again.
    fn advance(&mut self, state: &mut State) {
        let Some(queue) = state.node_queues.iter_mut().find(|queue| Some(queue.id) == self.id)
        else {
            return;
        };
        queue.watched.apply(&self.watchlist);
        let reread = match queue.messages.front() {
            Some(Envelope::Channel { channel: Some(_), .. }) => usize::MAX,
            Some(_) => 0,
            None => IDLE_CHUNK,
        };
        let dirty = queue.watched.take_dirty(reread);
        let message = queue.messages.pop_front();
        if message.is_some() {
            queue.wake.space.notify_all();
        }
        for client in dirty {
            let channels = state.channels_of(client);
            self.ready.push_back(FeedEvent::Channels { client, channels });
        }
        self.ready.extend(message.map(|message| match message {
            Envelope::Probe { .. } => FeedEvent::DuplicateNode,
            message => FeedEvent::unnumbered(message),
        }));
    }
}

impl Subscription for MemoryFeed {
    fn next(&mut self, timeout: Duration) -> Result<Option<FeedEvent>> {
        let deadline = Instant::now() + timeout;
        let backend = Arc::clone(&self.backend);
        let mut state = backend.lock();
        if self.id.is_none() {
            self.register(&mut state);
        }
        loop {
            if self.ready.is_empty() {
                self.advance(&mut state);
            }
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let wait = left.min(WATCHLIST_TICK);
            let waited = self.wake.arrived.wait_timeout(state, wait);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for MemoryFeed {
    fn drop(&mut self) {
        self.backend.lock().node_queues.retain(|queue| Some(queue.id) != self.id);
        self.wake.space.notify_all();
    }
}

pub(super) struct MemoryEvents {
    backend: Arc<Backend>,
    wake: Arc<Wake>,
    id: Option<u64>,
}

impl MemoryEvents {
    pub(super) fn new(backend: Arc<Backend>) -> Self {
        MemoryEvents { backend, wake: Wake::new(), id: None }
    }

    fn register(&mut self, state: &mut State) {
        let id = state.next_subscriber;
        state.next_subscriber += 1;
        self.id = Some(id);
        let events = VecDeque::from([PresenceEvent::Listening]);
        state.event_queues.push(EventQueue { id, events, wake: Arc::clone(&self.wake) });
    }
}

impl EventSubscription for MemoryEvents {
    fn next(&mut self, timeout: Duration) -> Result<Option<PresenceEvent>> {
        let deadline = Instant::now() + timeout;
        let backend = Arc::clone(&self.backend);
        let mut state = backend.lock();
        if self.id.is_none() {
            self.register(&mut state);
        }
        loop {
            let own = state.event_queues.iter_mut().find(|queue| Some(queue.id) == self.id);
            if let Some(event) = own.and_then(|queue| queue.events.pop_front()) {
                return Ok(Some(event));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let waited = self.wake.arrived.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for MemoryEvents {
    fn drop(&mut self) {
        self.backend.lock().event_queues.retain(|queue| Some(queue.id) != self.id);
    }
}
