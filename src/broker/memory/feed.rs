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
        contract::{
            EventSubscription, FeedEvent, FeedStart, Past, PresenceEvent, Subscription, Watchlist,
        },
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
    start: FeedStart,
    /// Number of the message after which the log is read, and of the last that is, before what is in the queue.
    past: Option<(u64, u64)>,
}

/// Messages of the log that are read at once.
const PAGE: usize = 512;

/// What the log holds for a node, whoever reads it.
pub(super) struct MemoryPast {
    backend: Arc<Backend>,
    node: String,
    /// Number of the message after which it is read on; `None` before the first page.
    at: Option<u64>,
    /// Number of the last.
    upto: u64,
}

impl MemoryPast {
    pub(super) fn new(backend: Arc<Backend>, node: &str) -> Self {
        let upto = backend.lock().log.last();
        MemoryPast { backend, node: node.into(), at: None, upto }
    }
}

impl Past for MemoryPast {
    fn next(&mut self) -> Result<Option<Vec<FeedEvent>>> {
        let state = self.backend.lock();
        let (log, mut page) = (&state.log, Vec::new());
        let floor = log.floor(&self.node);
        let mut after = match self.at {
            Some(after) if floor <= after => after,
            _ => {
                page.push(FeedEvent::Log { epoch: log.epoch().to_owned(), from: floor });
                floor
            }
        };
        while page.len() < PAGE
            && let Some((number, envelope)) = log.next(&self.node, after)
            && number <= self.upto
        {
            after = number;
            let envelope = Envelope::clone(&envelope);
            page.push(FeedEvent::Message { envelope, number: Some(number) });
        }
        self.at = Some(after);
        Ok((!page.is_empty()).then_some(page))
    }
}

impl MemoryFeed {
    pub(super) fn new(
        backend: Arc<Backend>,
        node: &str,
        watchlist: Arc<Watchlist>,
        start: FeedStart,
    ) -> Self {
        let (node, ready, wake) = (node.into(), VecDeque::new(), Wake::new());
        MemoryFeed { backend, node, watchlist, wake, id: None, ready, start, past: None }
    }

    fn register(&mut self, state: &mut State) {
        let id = state.next_subscriber;
        state.next_subscriber += 1;
        self.id = Some(id);
        self.begin(state);
        // Both processes under one name are to hear of it; a foreign probe says so, as on Redis.
        let probe = Arc::new(Envelope::Probe { origin: id, number: 0 });
        let mut messages = VecDeque::new();
        if state.node_queues.iter().any(|queue| queue.node == self.node) {
            state.deliver(&self.node, &probe, None);
            messages.push_back((probe, None));
        }
        let (node, wake) = (self.node.clone(), Arc::clone(&self.wake));
        state.node_queues.push(NodeQueue { id, node, messages, watched: Watched::default(), wake });
    }

    /// Says from which message on nothing is missing, and whether the past comes first.
    fn begin(&mut self, state: &State) {
        let (log, last) = (&state.log, state.log.last());
        let epoch = log.epoch().to_owned();
        match self.start {
            FeedStart::Now => {
                self.ready.push_back(FeedEvent::Listening);
                self.ready.push_back(FeedEvent::Log { epoch, from: last });
            }
            FeedStart::Log => {
                let from = log.floor(&self.node);
                self.ready.push_back(FeedEvent::Log { epoch, from });
                self.past = Some((from, last));
            }
        }
    }

    /// The next message of the past; once there is none, the subscription stands.
    fn next_of_past(&mut self, state: &State) -> Option<(Arc<Envelope>, Option<u64>)> {
        let (after, upto) = self.past?;
        let from = state.log.floor(&self.node);
        if from > after {
            // Trimmed meanwhile.
            let epoch = state.log.epoch().to_owned();
            self.ready.push_back(FeedEvent::Log { epoch, from });
            self.past = Some((from, upto));
            return None;
        }
        match state.log.next(&self.node, after).filter(|(number, _)| *number <= upto) {
            Some((number, envelope)) => {
                self.past = Some((number, upto));
                Some((envelope, Some(number)))
            }
            None => {
                self.past = None;
                self.ready.push_back(FeedEvent::Listening);
                None
            }
        }
    }

    /// Moves what can be handed on now to `ready`: the next message with what it depends on, or, when
    /// there is none, some of the clients to be read again.
    fn advance(&mut self, state: &mut State) {
        let past = self.next_of_past(state);
        if !self.ready.is_empty() {
            return;
        }
        let Some(queue) = state.node_queues.iter_mut().find(|queue| Some(queue.id) == self.id)
        else {
            return;
        };
        queue.watched.apply(&self.watchlist);
        let message = past.or_else(|| {
            let message = queue.messages.pop_front()?;
            queue.wake.space.notify_all();
            Some(message)
        });
        let reread = match message.as_ref().map(|(message, _)| &**message) {
            Some(Envelope::Channel { channel: Some(_), .. }) => usize::MAX,
            Some(_) => 0,
            None => IDLE_CHUNK,
        };
        let dirty = queue.watched.take_dirty(reread);
        for client in dirty {
            let channels = state.channels_of(&client);
            self.ready.push_back(FeedEvent::Channels { client, channels });
        }
        self.ready.extend(message.map(|(message, number)| match Arc::unwrap_or_clone(message) {
            Envelope::Probe { .. } => FeedEvent::DuplicateNode,
            envelope => FeedEvent::Message { envelope, number },
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
