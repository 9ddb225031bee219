//! Events that nobody misses, over HTTP: a stream for one of a group, acknowledgements, and how far groups are.
//!
//! A stream is a reader of its group, on the thread of its connection; the broker keeps what it has not acknowledged. Its ids
//! name the reader as well: who comes back with `Last-Event-ID` is the same one, and goes on behind that.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use imcore::{
    EventStart,
    broker::{Broker, EventBatch, EventGroup, EventReader},
};
use serde_json::{Value, json};

use super::{
    input,
    problem::{Code, Problem},
};
use crate::{
    event_json::about,
    sse::{self, LOOK, Listener, PAUSE},
    web::{Access, Request, Response},
};

/// Streams at a time: each holds a thread, a connection, and one to the broker.
pub(super) const READERS: usize = 32;
/// Events that are out to one stream and not acknowledged.
pub(super) const WINDOW: usize = 1000;
/// What a reader was given so long ago, and is not acknowledged, comes again.
pub(super) const TAKE_OVER: Duration = Duration::from_secs(30);
/// Pause while nothing comes but that something was missed, which is known.
const KNOWN: Duration = Duration::from_millis(100);

/// The streams of this node.
#[derive(Default)]
pub(super) struct Readers(Arc<AtomicUsize>);

/// Whose events are asked for, and from where on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) group: String,
    pub(super) start: EventStart,
}

impl Readers {
    /// An answer that goes on with the events of a group, for as long as `access` lets the caller ask.
    pub(super) fn read(
        &self,
        broker: &Arc<dyn Broker>,
        access: &Arc<Access>,
        request: &Request,
        asked: Asked,
    ) -> Result<Response, Problem> {
        let slot = self.take_slot()?;
        let (after, consumer) = match request.header("Last-Event-ID") {
            Some(id) => told_before(id).map(|(id, reader)| (Some(id), reader))?,
            None => (None, random()?),
        };
        let Asked { group, start } = asked;
        let is_known = after.is_some();
        let reader = EventReader { group, consumer, start, take_over: TAKE_OVER, after };
        let listener = Listener::new(access, request);
        if request.method == "HEAD" {
            return Ok(sse::answer(std::iter::empty()));
        }
        // What happens once this is answered belongs to the group.
        let first = broker.read_events(&reader, WINDOW, Duration::ZERO)?;
        let broker = Arc::clone(broker);
        let mut stream = Stream {
            broker,
            reader,
            listener,
            is_known,
            missed: None,
            next: Vec::new(),
            _slot: slot,
        };
        stream.next = stream.tell(first);
        Ok(sse::answer(stream))
    }

    fn take_slot(&self) -> Result<Slot, Problem> {
        let count = &self.0;
        let taken = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
            (count < READERS).then_some(count + 1)
        });
        match taken {
            Ok(_) => Ok(Slot(Arc::clone(count))),
            Err(_) => {
                let detail =
                    format!("there are {READERS} streams of groups already; ask another node");
                Err(Problem::new(Code::Unavailable, detail))
            }
        }
    }
}

/// One of the [`READERS`]; dropped, it is free.
struct Slot(Arc<AtomicUsize>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn random() -> Result<String, Problem> {
    let random =
        getrandom::u64().map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
    Ok(format!("{random:016x}"))
}

/// The event and the reader in the id of a stream.
fn told_before(id: &str) -> Result<(String, String), Problem> {
    let parts = id.split_once('.').filter(|(event, reader)| {
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        input::event_id(event) && reader.len() == 16 && reader.bytes().all(is_hex)
    });
    match parts {
        Some((event, reader)) => Ok((event.to_owned(), reader.to_owned())),
        None => {
            Err(Problem::invalid("Last-Event-ID: it is not the id of an event of such a stream"))
        }
    }
}

/// When a new group begins, by the word or the number in the query.
pub(super) fn start(text: &str) -> Option<EventStart> {
    match text {
        "new" => Some(EventStart::New),
        "all" => Some(EventStart::All),
        _ => {
            let since = Duration::from_millis(input::digits(text, 16)?);
            SystemTime::UNIX_EPOCH.checked_add(since).map(EventStart::At)
        }
    }
}

struct Stream {
    broker: Arc<dyn Broker>,
    reader: EventReader,
    listener: Listener,
    /// The group was there, or made, when it was read last.
    is_known: bool,
    /// How many missed ones were told, and when.
    missed: Option<(u64, Instant)>,
    /// What is to be sent next.
    next: Vec<u8>,
    _slot: Slot,
}

impl Iterator for Stream {
    type Item = Vec<u8>;

    /// The next events, a sign of life, or nothing for now. While the broker is away they wait there.
    fn next(&mut self) -> Option<Vec<u8>> {
        let mut piece = std::mem::take(&mut self.next);
        if piece.is_empty() {
            match self.broker.read_events(&self.reader, WINDOW, LOOK) {
                Ok(batch) => {
                    let is_missed = batch.missed > 0;
                    piece = self.tell(batch);
                    if piece.is_empty() && is_missed {
                        thread::sleep(KNOWN);
                    }
                }
                Err(error) => {
                    log::debug!("API: events of {} wait in the broker: {error}", self.reader.group);
                    thread::sleep(PAUSE);
                }
            }
        }
        self.listener.send(Some(piece).filter(|piece| !piece.is_empty()))
    }
}

impl Stream {
    /// What was read, as it is sent.
    fn tell(&mut self, batch: EventBatch) -> Vec<u8> {
        let mut text = String::new();
        if batch.created && self.is_known {
            text += &piece("", "missed", &json!({ "missed": null }));
        }
        // Should the broker lose the group, all that is there then is new.
        (self.is_known, self.reader.start) = (true, EventStart::All);
        let is_told =
            |(missed, at): (u64, Instant)| missed == batch.missed && at.elapsed() < TAKE_OVER;
        if batch.missed > 0 && !self.missed.is_some_and(is_told) {
            text += &piece("", "missed", &json!({ "missed": batch.missed }));
            self.missed = Some((batch.missed, Instant::now()));
        }
        for event in &batch.events {
            let after = self.reader.after.as_deref().and_then(number).unwrap_or_default();
            // What comes again is not where the stream is.
            let mut id = String::new();
            if event.n > after {
                id = format!("id: {}.{}\n", event.id, self.reader.consumer);
                self.reader.after = Some(event.id.clone());
            }
            let word = Some(event.kind.word()).filter(|word| input::is_visible(word, 64));
            text += &piece(&id, word.unwrap_or("other"), &about(event));
        }
        text.into_bytes()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Err(error) = self.broker.leave_events(&self.reader) {
            log::debug!(
                "API: the group {} keeps a reader that is gone: {error}",
                self.reader.group
            );
        }
    }
}

/// The number in the id of an event.
fn number(id: &str) -> Option<u64> {
    id.split_once('-')?.0.parse().ok()
}

fn piece(id: &str, name: &str, data: &Value) -> String {
    format!("{id}event: {name}\ndata: {data}\n\n")
}

/// How far a group is.
pub(super) fn status(group: &EventGroup) -> Value {
    let readers: Vec<_> = group
        .readers
        .iter()
        .map(|reader| {
            json!({
                "name": reader.name,
                "unacknowledged": reader.unacknowledged,
                "idle_ms": u64::try_from(reader.idle.as_millis()).unwrap_or(u64::MAX),
            })
        })
        .collect();
    json!({
        "group": group.name,
        "waiting": group.waiting,
        "unacknowledged": group.unacknowledged,
        "missed": group.missed,
        "oldest_ms": group.oldest,
        "readers": readers,
    })
}

/// Acknowledges in the name of a group.
pub(super) fn acknowledge(
    broker: &dyn Broker,
    group: String,
    missed: u64,
    ids: &[String],
) -> Result<bool, imcore::Error> {
    let (consumer, start) = (String::new(), EventStart::New);
    let reader = EventReader { group, consumer, start, take_over: TAKE_OVER, after: None };
    broker.acknowledge_events(&reader, missed, ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_event_and_reader() {
        let good = told_before("1764304503123459-4714.00000000000000ff").ok();
        assert_eq!(good, Some(("1764304503123459-4714".into(), "00000000000000ff".into())));
        for bad in
            ["", "1-1", "1-1.", "1.00000000000000ff", "1-1.00000000000000FF", "-1.00000000000000ff"]
        {
            assert!(told_before(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn streams_are_limited() {
        let readers = Readers::default();
        let mut all: Vec<_> = (0..READERS).map(|_| readers.take_slot().ok().unwrap()).collect();
        assert_eq!(readers.take_slot().err().unwrap().code, Code::Unavailable);
        all.pop();
        assert!(readers.take_slot().is_ok());
    }
}
