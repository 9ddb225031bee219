//! How a feed learns whose channels have changed: it watches clients, and Redis names every client hash that
//! anyone changes, in one of two ways; or whoever of this library has changed one says so.
//!
//! Knows no connection; owned by one feed. The rule it helps to keep: a client that is taken is read after
//! that, so that a change which comes meanwhile marks it again.
//!
//! Tracking ends only with its connection. Keyspace notifications can be switched off at any time, and say nothing of a
//! database that is emptied: so the node changes a hash itself now and then, of which it must be told.

use std::sync::Arc;

use redis::{Cmd, Pipeline, Value, cmd};

use crate::{
    broker::{
        contract::Watchlist,
        ordered::Watched,
        redis::{layout::Layout, link::reply},
    },
    id::ClientId,
};

/// The topic on which Redis names changed keys to the connection that tracking is redirected to.
pub(super) const INVALIDATE: &str = "__redis__:invalidate";

/// How many notifications a [touch](Changes::touch) brings: of the change, and of the life.
const TOUCH: u8 = 2;

/// How changes become known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// `CLIENT TRACKING` on the data connection, redirected to the listener.
    Tracking,
    /// Keyspace notifications.
    Keyspace,
    /// Notices, published by the scripts that change channels; what others change is found in `rooms`.
    Notice,
}

impl Way {
    /// For people.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Way::Tracking => "CLIENT TRACKING",
            Way::Keyspace => "keyspace notifications",
            Way::Notice => "notices of helpers",
        }
    }
}

/// Watched clients, and which of them must be read again.
pub(super) struct Changes {
    /// What the name of every client hash starts with.
    prefix: String,
    /// What a topic of a keyspace notification has in front of a key.
    space: String,
    /// Where notices are published.
    pub(super) topic: String,
    /// The hash that the node changes itself.
    touched: String,
    /// How many notifications of that were heard since; `None` if none are due.
    heard: Option<u8>,
    pub(super) way: Way,
    watchlist: Arc<Watchlist>,
    watched: Watched,
}

impl Changes {
    pub(super) fn new(layout: &Layout, db: i64, node: &str, watchlist: Arc<Watchlist>) -> Self {
        Changes {
            prefix: layout.client_key_prefix(),
            space: format!("__keyspace@{db}__:"),
            topic: layout.changed_topic(),
            touched: layout.touched_key(node),
            heard: None,
            way: Way::Tracking,
            watchlist,
            watched: Watched::default(),
        }
    }

    /// What to subscribe to for keyspace notifications.
    pub(super) fn pattern(&self) -> String {
        let mut pattern = String::new();
        for sign in self.space.chars().chain(self.prefix.chars()) {
            if "*?[]\\".contains(sign) {
                pattern.push('\\');
            }
            pattern.push(sign);
        }
        pattern + "*"
    }

    /// Changes a hash, and gives it a life: a notification of each kind that changes of channels bring.
    pub(super) fn touch(&self) -> Pipeline {
        let mut pipeline = Pipeline::with_capacity(2);
        pipeline.cmd("HINCRBY").arg(&self.touched).arg("touched").arg(1);
        pipeline.cmd("PEXPIRE").arg(&self.touched).arg(60_000);
        pipeline
    }

    /// What a [touch](Self::touch) was answered: whether it is to be heard of.
    pub(super) fn touched(&mut self, replies: &[Value]) -> bool {
        // Out of memory or read-only, which must not deafen the node.
        let done = replies.iter().all(|reply| !matches!(reply, Value::ServerError(_)));
        self.heard = done.then_some(0);
        done
    }

    /// Whether Redis has told of the last touch, by the time when it must have.
    pub(super) fn was_told(&mut self) -> bool {
        self.heard.take().is_none_or(|heard| heard >= TOUCH)
    }

    /// Marks the client that a keyspace notification on `topic` is about. False if that is none.
    pub(super) fn notified(&mut self, topic: &str) -> bool {
        let Some(key) = topic.strip_prefix(&self.space) else { return false };
        if key == self.touched {
            self.heard = self.heard.map(|heard| heard.saturating_add(1));
        }
        self.changed(key);
        true
    }

    /// Marks the clients that a notice names. Anybody can write one, so what is no id names nobody.
    pub(super) fn told(&mut self, notice: &[u8]) {
        let clients = std::str::from_utf8(notice).unwrap_or_default().split(' ');
        for client in clients.filter_map(ClientId::parse_text) {
            self.watched.mark(&client);
        }
    }

    /// Those of `clients` who are watched.
    pub(super) fn watched(&self, clients: Vec<String>) -> Vec<ClientId> {
        let clients = clients.iter().filter_map(|client| ClientId::parse_text(client));
        clients.filter(|client| self.watched.contains(client)).collect()
    }

    fn changed(&mut self, key: &str) {
        let client = key.strip_prefix(&self.prefix).and_then(ClientId::parse_text);
        if let Some(client) = client {
            self.watched.mark(&client);
        }
    }

    /// Has the connection that this is sent on notify `listener` of changes, if that is the way.
    pub(super) fn track(&self, listener: i64) -> Option<Cmd> {
        if self.way != Way::Tracking {
            return None;
        }
        let mut command = cmd("CLIENT");
        command.arg("TRACKING").arg("ON").arg("REDIRECT").arg(listener);
        command.arg("BCAST").arg("PREFIX").arg(&self.prefix);
        Some(command)
    }

    /// Takes over who is watched now.
    pub(super) fn take_over(&mut self) {
        self.watched.apply(&self.watchlist);
    }

    /// Any change may have gone unnoticed.
    pub(super) fn unsure(&mut self) {
        self.watched.mark_all();
    }

    /// Marks the clients whose hashes changed. True for a notice without keys, which means all of them
    /// (`FLUSHALL`). Redis sends a list or nothing; a text is what somebody else has published there.
    pub(super) fn notice(&mut self, payload: Value) -> bool {
        match payload {
            Value::Array(keys) => {
                for key in keys {
                    self.changed(&reply::text(key));
                }
                false
            }
            Value::Nil => {
                self.unsure();
                true
            }
            _ => false,
        }
    }

    /// Whether anybody must be read again.
    pub(super) fn any(&self) -> bool {
        self.watched.any_dirty()
    }

    /// Up to `limit` of those who must be read again.
    pub(super) fn take(&mut self, limit: usize) -> Vec<ClientId> {
        self.watched.take_dirty(limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    fn watching(clients: &[i64]) -> Changes {
        let layout = Layout::new("p", "/ws", "", None);
        let mut changes = Changes::new(&layout, 3, "n:1", Arc::default());
        clients.iter().for_each(|client| changes.watchlist.watch((*client).into()));
        changes.take_over();
        assert_eq!(changes.take(9).len(), clients.len(), "who is new is read");
        changes
    }

    #[test]
    fn a_notice_names_clients_and_other_keys_are_none() {
        let mut changes = watching(&[1, 2]);
        let keys = ["p_wsClient2", "p_wsClient3", "p_wsClient", "p_wsClientjunk", "other1"];
        assert!(!changes.notice(Value::Array(keys.map(text).to_vec())));
        assert_eq!(changes.take(9), [2.into()]);
        assert!(!changes.any());
    }

    #[test]
    fn a_keyspace_notification_names_its_key_by_its_topic() {
        let mut changes = watching(&[1, 2]);
        assert!(changes.notified("__keyspace@3__:p_wsClient2"));
        assert!(changes.notified("__keyspace@3__:p_wsClientjunk"));
        assert!(!changes.notified("__keyspace@4__:p_wsClient1"));
        assert!(!changes.notified("p_wsServern:1"));
        assert_eq!(changes.take(9), [2.into()]);
    }

    #[test]
    fn a_notice_by_a_script_names_clients() {
        let mut changes = watching(&[1, 2, 3]);
        for notice in [&b"2 4 3"[..], b"", b"x 1x", b"\xff 1"] {
            changes.told(notice);
        }
        assert_eq!(changes.take(9), [2.into(), 3.into()]);
        assert_eq!(changes.watched(["4", "1", "x"].map(String::from).to_vec()), [1.into()]);
    }

    #[test]
    fn a_touch_must_be_told_of_in_full() {
        let mut changes = watching(&[]);
        assert!(changes.was_told(), "nothing was touched");
        let told = |changes: &mut Changes, times: usize| {
            assert!(changes.touched(&[Value::Int(1), Value::Int(1)]));
            for _ in 0..times {
                assert!(changes.notified("__keyspace@3__:p_wsClient n:1"));
            }
            changes.was_told()
        };
        assert!(told(&mut changes, 2) && told(&mut changes, 3));
        assert!(!told(&mut changes, 0) && !told(&mut changes, 1));
        let layout = Layout::new("p[1]*", "/ws", "a?", None);
        let changes = Changes::new(&layout, 0, "n", Arc::default());
        assert_eq!(changes.pattern(), r"__keyspace@0__:a\?p\[1\]\*_wsClient*");
    }

    #[test]
    fn a_notice_without_keys_means_all_and_a_text_nobody() {
        let mut changes = watching(&[1, 2]);
        assert!(!changes.notice(text("x")) && !changes.any());
        assert!(changes.notice(Value::Nil));
        assert_eq!(changes.take(9).len(), 2);
    }
}
