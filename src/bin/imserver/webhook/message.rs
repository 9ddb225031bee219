//! One message to the business: what it says and what it is called. Pure: the same events give the same message, on whichever
//! node, so that a repetition can be told.

use std::time::Duration;

use imcore::Event;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use crate::{event_json::about, logging::timestamp};

/// What is posted at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    /// The same at each attempt.
    pub(super) id: String,
    pub(super) body: String,
    /// How many events are in it.
    pub(super) count: u64,
    /// The ids of the first and the last of them.
    pub(super) ends: Option<(String, String)>,
}

impl Message {
    /// Events, oldest first; `None` if there are none.
    pub(super) fn of<'a>(events: impl Iterator<Item = &'a Event>) -> Option<Message> {
        let (mut told, mut ends) = (Vec::new(), None);
        for event in events {
            let (first, _) = ends.unwrap_or((event, event));
            ends = Some((first, event));
            let mut about = about(event);
            about["type"] = event.kind.word().into();
            told.push(about);
        }
        let (first, last) = ends?;
        let count = told.len() as u64;
        let body = body("events", last.ms, &json!({ "events": told }));
        let ends = Some((first.id.clone(), last.id.clone()));
        Some(Message { id: name(&first.id, &body), body, count, ends })
    }

    /// That so many events were lost, or all, as was seen at that time.
    pub(super) fn missed(count: Option<u64>, ms: u64) -> Message {
        let body = body("missed", ms, &json!({ "missed": count }));
        let id = name(&format!("{}-0", ms * 1000), &body);
        Message { id, body, count: 0, ends: None }
    }

    /// What it begins with, which a part of it that is told alone has in common with it.
    pub(super) fn first(&self) -> &str {
        self.ends.as_ref().map_or(&self.id, |(first, _)| first)
    }
}

fn body(kind: &str, ms: u64, data: &Value) -> String {
    let time = timestamp(Duration::from_millis(ms));
    format!(r#"{{"type":"{kind}","timestamp":"{time}","data":{data}}}"#)
}

/// In the order of events, and another one for another content.
fn name(first: &str, body: &str) -> String {
    let digest = digest(&SHA256, body.as_bytes());
    let words = digest.as_ref().iter().take(8).map(|byte| format!("{byte:02x}"));
    format!("{first}-{}", words.collect::<String>())
}
