//! Presence events as server-sent events. Each listener has a subscription of its own at the broker, whose
//! queue is bounded there: one that reads too slowly misses events and is told so.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use imcore::{
    Ticket,
    broker::{Broker, EventSubscription, PresenceEvent},
};
use serde_json::json;

use super::problem::{Code, Problem};
use crate::web::{Body, Response};

/// Listeners at a time: each holds a thread and a subscription.
pub(super) const LISTENERS: usize = 32;
/// Something is sent at least this often, so that both sides and proxies see that the other is there.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Pause between attempts while the broker is away.
const PAUSE: Duration = Duration::from_millis(500);

/// How many listeners there are.
#[derive(Default)]
pub(super) struct Listeners(Arc<AtomicUsize>);

impl Listeners {
    /// An answer that goes on with all events from here on.
    pub(super) fn listen(&self, broker: &dyn Broker) -> Result<Response, Problem> {
        let place = Place::take(&self.0)?;
        let mut subscription = broker.subscribe_events();
        // Only what stands can be promised.
        let first = match subscription.next(HEARTBEAT)? {
            Some(event) => piece(&event, true),
            None => Vec::new(),
        };
        let stream = Stream { subscription, first: Some(first), _place: place };
        let body = Body::Stream(Box::new(stream));
        Ok(Response { body, ..Response::new(200, "text/event-stream", "") })
    }
}

/// One of the [`LISTENERS`]; dropped, it is free.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(count: &Arc<AtomicUsize>) -> Result<Place, Problem> {
        let more = |count| (count < LISTENERS).then_some(count + 1);
        match count.fetch_update(Ordering::AcqRel, Ordering::Acquire, more) {
            Ok(_) => Ok(Place(Arc::clone(count))),
            Err(_) => {
                let detail = format!("there are {LISTENERS} listeners already; ask another node");
                Err(Problem::new(Code::Unavailable, detail))
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

struct Stream {
    subscription: Box<dyn EventSubscription>,
    first: Option<Vec<u8>>,
    _place: Place,
}

impl Iterator for Stream {
    type Item = Vec<u8>;

    /// The next event, or a sign of life. Never ends by itself: an outage of the broker is told by
    /// `missed` once it is over.
    fn next(&mut self) -> Option<Vec<u8>> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        let until = Instant::now() + HEARTBEAT;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Some(b":\n\n".to_vec());
            }
            match self.subscription.next(left) {
                Ok(Some(event)) => return Some(piece(&event, false)),
                Ok(None) => {}
                Err(error) => {
                    log::debug!("API: presence events are missed: {error}");
                    thread::sleep(PAUSE.min(left));
                }
            }
        }
    }
}

/// One event of the stream.
fn piece(event: &PresenceEvent, first: bool) -> Vec<u8> {
    let about =
        |ticket: &Ticket| json!({ "client": ticket.client().to_string(), "meta": ticket.meta() });
    let (name, data) = match event {
        PresenceEvent::Listening if first => ("listening", json!({})),
        PresenceEvent::Listening => ("missed", json!({})),
        PresenceEvent::Online(ticket) => ("online", about(ticket)),
        PresenceEvent::Offline(ticket) => ("offline", about(ticket)),
    };
    format!("event: {name}\ndata: {data}\n\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use imcore::broker::MemoryBroker;

    use super::*;

    #[test]
    fn an_event_is_two_lines_whatever_it_says() {
        let ticket = Ticket::new(9_007_199_254_740_993_i64.into(), Some("a\nb\r\n\"c\""));
        let text = String::from_utf8(piece(&PresenceEvent::Online(ticket), false)).unwrap();
        let expected = "event: online\n\
                        data: {\"client\":\"9007199254740993\",\"meta\":\"a\\nb\\r\\n\\\"c\\\"\"}\n\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn there_are_only_so_many_listeners() {
        let (listeners, broker) = (Listeners::default(), MemoryBroker::new());
        let mut all: Vec<_> =
            (0..LISTENERS).map(|_| listeners.listen(&broker).ok().unwrap()).collect();
        assert_eq!(listeners.listen(&broker).err().unwrap().code, Code::Unavailable);
        all.pop();
        assert!(listeners.listen(&broker).is_ok());
    }
}
