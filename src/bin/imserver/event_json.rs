//! An event that is kept, as JSON: the same in streams of the API and in webhooks. Pure.

use imcore::{Event, EventKind};
use serde_json::{Value, json};

/// What is known of an event, but for its type.
pub(crate) fn about(event: &Event) -> Value {
    if event.kind == EventKind::NodeDied {
        return json!({ "id": event.id, "node": event.node, "ms": event.ms, "n": event.n });
    }
    let client = event.client.as_ref().map(ToString::to_string);
    if let Some(channel) = &event.channel {
        return json!({
            "id": event.id,
            "channel": channel,
            "client": client,
            "ms": event.ms,
            "n": event.n,
        });
    }
    if let Some(message) = &event.message {
        return json!({
            "id": event.id,
            "client": client,
            "message": message,
            "node": event.node,
            "reason": event.reason,
            "ms": event.ms,
            "n": event.n,
        });
    }
    json!({
        "id": event.id,
        "client": client,
        "connection": event.connection,
        "meta": event.ticket.as_ref().and_then(|ticket| ticket.meta()),
        "node": event.node,
        "reason": Some(&event.reason).filter(|reason| !reason.is_empty()),
        "ms": event.ms,
        "n": event.n,
    })
}
