//! What a node says of itself with each renewal of its lease, for whoever looks at the whole cluster.

use serde::{Deserialize, Serialize};

/// What a node last said of itself; see [`ImClient::nodes`](crate::ImClient::nodes).
///
/// Counters run from the start of the node: two statuses of one node, divided by the difference of their
/// [uptimes](Self::uptime_seconds), give rates that no clock of another machine can distort. A member that
/// the node's version does not know has its default value.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct NodeStatus {
    /// Version of the node's software.
    pub version: String,
    /// Time since the node started. Smaller than before: it was restarted, and counts from nothing.
    pub uptime_seconds: f64,
    /// Why clients cannot connect: `failed`, `stopping` or `subscription`; `None` if they can.
    pub not_ready: Option<String>,
    /// Connections that are open now.
    pub connections: u64,
    /// Clients that are away, count as online, and are waited for.
    pub parked: u64,
    /// Connections that it takes at most.
    pub connections_limit: u64,
    /// Handshakes under way.
    pub handshakes: u64,
    /// Connections that were ever opened.
    pub opened: u64,
    /// Handshakes that were ever turned away.
    pub refused: u64,
    /// Messages offered to connections: always `delivered`, `dropped` and what is still queued.
    pub offered: u64,
    /// Of those, messages whose last byte the operating system took.
    pub delivered: u64,
    /// Of those, messages that were queued when their connection ended.
    pub dropped: u64,
    /// Receipts that could not be sent.
    pub receipts_dropped: u64,
    /// Messages that were sent to the node while it could not hear.
    pub lost: u64,
    /// Commands that wait for its reactors, all together.
    pub inboxes: u64,
    /// Openings and ends of connections that the broker does not know of yet.
    pub presence_waiting: u64,
    /// Time that a message took through the broker when that was last tried; `None` before the first time.
    pub feed_lag_seconds: Option<f64>,
}

impl NodeStatus {
    /// The text that travels.
    #[cfg_attr(not(feature = "redis"), allow(dead_code))]
    pub(crate) fn encode(&self) -> String {
        serde_json::to_string(self).expect("numbers and strings are always valid JSON")
    }

    /// Reads a text of any version; `None` if it is none, as before the first renewal.
    #[cfg_attr(not(feature = "redis"), allow(dead_code))]
    pub(crate) fn decode(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_versions_are_understood() {
        let status = NodeStatus {
            version: "9.1".into(),
            connections: 7,
            uptime_seconds: 2.5,
            ..NodeStatus::default()
        };
        let newer = r#"{"version":"9.1","connections":7,"uptime_seconds":2.5,"moons":[1]}"#;
        assert_eq!(NodeStatus::decode(newer), Some(status.clone()));
        assert_eq!(NodeStatus::decode(&status.encode()), Some(status));
        for text in ["", "1", "null", "[]x", r#"{"connections":-1}"#] {
            assert_eq!(NodeStatus::decode(text), None, "{text}");
        }
    }
}
