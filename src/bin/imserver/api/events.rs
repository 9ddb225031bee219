//! Presence events as server-sent events. A node has one subscription at the broker, shared by its
//! listeners; each has a queue of its own here, which is bounded: one that reads too slowly misses events
//! and is told so.
//!
//! The subscription is read by a thread of its own, for as long as there are listeners. The thread of each
//! listener's connection reads its queue.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use imcore::{
    Ticket,
    broker::{Broker, EventSubscription, PresenceEvent},
};
use serde_json::json;

use super::problem::{Code, Problem};
use crate::{
    sse::{self, HEARTBEAT, LOOK, Listener, PAUSE},
    web::{Access, Request, Response},
};

/// Listeners at a time: each holds a thread and a connection.
pub(super) const LISTENERS: usize = 32;
/// Bytes that wait for one listener.
const QUEUE: usize = 1 << 20;

/// An event as it is sent.
type Piece = Arc<[u8]>;

/// All listeners of this node.
#[derive(Default)]
pub(super) struct Listeners(Arc<Mutex<Subscribers>>);

#[derive(Default)]
struct Subscribers {
    queues: Vec<Arc<Queue>>,
    /// Whether there is a thread that reads the subscription.
    is_read: bool,
    /// Whether all events from here on will come.
    is_complete: bool,
}

impl Listeners {
    /// An answer that goes on with all events from here on, for as long as `access` lets the caller ask.
    pub(super) fn listen(
        &self,
        broker: &dyn Broker,
        access: &Arc<Access>,
        request: &Request,
    ) -> Result<Response, Problem> {
        let slot = self.take_slot(broker)?;
        slot.queue.wait_for_greeting()?;
        Ok(sse::answer(Stream { slot, listener: Listener::new(access, request) }))
    }

    fn take_slot(&self, broker: &dyn Broker) -> Result<Slot, Problem> {
        let mut subscribers = lock(&self.0);
        if subscribers.queues.len() >= LISTENERS {
            let detail = format!("there are {LISTENERS} listeners already; ask another node");
            return Err(Problem::new(Code::Unavailable, detail));
        }
        let queue = Arc::new(Queue::default());
        if subscribers.is_complete {
            queue.greet();
        }
        if !subscribers.is_read {
            let (subscription, shared) = (broker.subscribe_events(), Arc::clone(&self.0));
            let thread = thread::Builder::new().name("api-events".into());
            thread.spawn(move || read(subscription, &shared)).map_err(|error| {
                Problem::new(Code::Unavailable, format!("no thread for events: {error}"))
            })?;
            subscribers.is_read = true;
        }
        subscribers.queues.push(Arc::clone(&queue));
        Ok(Slot { queue, subscribers: Arc::clone(&self.0) })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Hands all events on until nobody listens any more.
fn read(mut subscription: Box<dyn EventSubscription>, shared: &Mutex<Subscribers>) {
    loop {
        let next = subscription.next(LOOK);
        let mut subscribers = lock(shared);
        match &next {
            Ok(Some(PresenceEvent::Listening)) => {
                subscribers.is_complete = true;
                subscribers.queues.iter().for_each(|queue| queue.greet());
            }
            Ok(Some(event)) => {
                let piece = piece(event);
                subscribers.queues.iter().for_each(|queue| queue.push(&piece));
            }
            Ok(None) => {}
            Err(error) => {
                subscribers.is_complete = false;
                subscribers.queues.iter().for_each(|queue| queue.fail(&error.to_string()));
            }
        }
        if subscribers.queues.is_empty() {
            (subscribers.is_read, subscribers.is_complete) = (false, false);
            return;
        }
        drop(subscribers);
        if let Err(error) = next {
            log::debug!("API: presence events are missed: {error}");
            thread::sleep(PAUSE);
        }
    }
}

/// One of the [`LISTENERS`]; dropped, it is free.
struct Slot {
    queue: Arc<Queue>,
    subscribers: Arc<Mutex<Subscribers>>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        lock(&self.subscribers).queues.retain(|queue| !Arc::ptr_eq(queue, &self.queue));
    }
}

/// What waits for one listener.
#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    more: Condvar,
}

#[derive(Default)]
struct Waiting {
    pieces: VecDeque<Piece>,
    bytes: usize,
    /// There was no room for an event: until all that waits is taken, no more are put behind the gap.
    lost: bool,
    /// The listener was told that events come from now on.
    greeted: bool,
    /// Why that cannot be promised yet.
    failed: Option<String>,
}

impl Queue {
    fn push(&self, piece: &Piece) {
        let mut waiting = lock(&self.waiting);
        // Before the greeting nothing is promised.
        if waiting.greeted && !waiting.lost {
            waiting.lost = waiting.bytes + piece.len() > QUEUE;
            if !waiting.lost {
                waiting.bytes += piece.len();
                waiting.pieces.push_back(Arc::clone(piece));
            }
            self.more.notify_one();
        }
    }

    /// The subscription is_complete: for the first time, or again.
    fn greet(&self) {
        let is_first = !std::mem::replace(&mut lock(&self.waiting).greeted, true);
        if is_first {
            lock(&self.waiting).pieces.push_back(told("listening"));
            self.more.notify_one();
        } else {
            self.push(&told("missed"));
        }
    }

    fn fail(&self, why: &str) {
        lock(&self.waiting).failed = Some(why.to_owned());
        self.more.notify_one();
    }

    /// Waits until the subscription is_complete; only then can events be promised.
    fn wait_for_greeting(&self) -> Result<(), Problem> {
        let pending = |waiting: &mut Waiting| !waiting.greeted && waiting.failed.is_none();
        let waited = self.more.wait_timeout_while(lock(&self.waiting), HEARTBEAT, pending);
        let (waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if waiting.greeted {
            return Ok(());
        }
        let why = waiting.failed.as_deref().unwrap_or("it does not answer");
        log::warn!("API: nobody can listen to events: {why}");
        Err(Problem::new(Code::Unavailable, "the broker is away; nothing was done, try again"))
    }

    /// The next piece, if one comes within `time`.
    fn take(&self, time: Duration) -> Option<Piece> {
        let pending = |waiting: &mut Waiting| waiting.pieces.is_empty() && !waiting.lost;
        let waited = self.more.wait_timeout_while(lock(&self.waiting), time, pending);
        let (mut waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match waiting.pieces.pop_front() {
            Some(piece) => {
                waiting.bytes = waiting.bytes.saturating_sub(piece.len());
                Some(piece)
            }
            None => std::mem::take(&mut waiting.lost).then(|| told("missed")),
        }
    }
}

struct Stream {
    slot: Slot,
    listener: Listener,
}

impl Iterator for Stream {
    type Item = Vec<u8>;

    /// The next event, a sign of life, or nothing for now. Ends when the caller may not ask any more; an
    /// outage of the broker is told by `missed` once it is over.
    fn next(&mut self) -> Option<Vec<u8>> {
        let piece = self.slot.queue.take(LOOK);
        self.listener.send(piece.map(|piece| piece.to_vec()))
    }
}

/// One connection that opened or ended.
fn piece(event: &PresenceEvent) -> Piece {
    let about = |name: &str, ticket: &Ticket| {
        let data = json!({ "client": ticket.client().to_string(), "meta": ticket.meta() });
        format!("event: {name}\ndata: {data}\n\n").into_bytes().into()
    };
    match event {
        PresenceEvent::Online(ticket) => about("online", ticket),
        PresenceEvent::Offline(ticket) => about("offline", ticket),
        // Listening again, or of a kind that has no name here: what was told may not hold any more.
        _ => told("missed"),
    }
}

/// An event about the stream itself.
fn told(name: &str) -> Piece {
    format!("event: {name}\ndata: {{}}\n\n").into_bytes().into()
}

#[cfg(test)]
mod tests {
    use imcore::broker::MemoryBroker;

    use super::*;

    #[test]
    fn an_event_is_two_lines_whatever_it_says() {
        let ticket = Ticket::new(9_007_199_254_740_993_i64.into(), Some("a\nb\r\n\"c\""));
        let piece = piece(&PresenceEvent::Online(ticket));
        let expected = "event: online\n\
                        data: {\"client\":\"9007199254740993\",\"meta\":\"a\\nb\\r\\n\\\"c\\\"\"}\n\n";
        assert_eq!(std::str::from_utf8(&piece), Ok(expected));
    }

    #[test]
    fn there_are_only_so_many_listeners() {
        let (listeners, broker) = (Listeners::default(), MemoryBroker::new());
        let access = Arc::new(Access::new("api", "api_key", None, None, &[]).unwrap());
        let listen = || listeners.listen(&broker, &access, &Request::default());
        let mut all: Vec<_> = (0..LISTENERS).map(|_| listen().ok().unwrap()).collect();
        assert_eq!(listen().err().unwrap().code, Code::Unavailable);
        all.pop();
        assert!(listen().is_ok());
    }

    #[test]
    fn a_gap_is_told_where_it_is() {
        let queue = Queue::default();
        let large: Piece = vec![b'x'; QUEUE / 2].into();
        queue.push(&large);
        queue.greet();
        for _ in 0..5 {
            queue.push(&large);
        }
        let taken = || queue.take(Duration::ZERO);
        assert_eq!(taken(), Some(told("listening")));
        assert_eq!((taken(), taken()), (Some(large.clone()), Some(large.clone())));
        queue.push(&large);
        assert_eq!((taken(), taken()), (Some(told("missed")), None));
        queue.push(&large);
        queue.greet();
        assert_eq!((taken(), taken(), taken()), (Some(large.clone()), Some(told("missed")), None));
    }
}
