//! How a feed learns whose channels have changed: it watches clients, and Redis names every client hash that
//! anyone changes.
//!
//! Knows no connection; owned by one feed. The rule it helps to keep: a client that is taken is read after
//! that, so that a change which comes meanwhile marks it again.

use std::sync::Arc;

use redis::{Cmd, Value, cmd};

use crate::{
    broker::{contract::Watchlist, ordered::Watched, redis::link::reply},
    id::ClientId,
};

/// The topic on which Redis names changed keys to the connection that tracking is redirected to.
pub(super) const INVALIDATE: &str = "__redis__:invalidate";

/// Watched clients, and which of them must be read again.
pub(super) struct Changes {
    /// What the name of every client hash starts with.
    prefix: String,
    watchlist: Arc<Watchlist>,
    watched: Watched,
}

impl Changes {
    pub(super) fn new(prefix: String, watchlist: Arc<Watchlist>) -> Self {
        Changes { prefix, watchlist, watched: Watched::default() }
    }

    /// Has the connection that this is sent on notify `listener` of changes.
    pub(super) fn track(&self, listener: i64) -> Cmd {
        let mut command = cmd("CLIENT");
        command.arg("TRACKING").arg("ON").arg("REDIRECT").arg(listener);
        command.arg("BCAST").arg("PREFIX").arg(&self.prefix);
        command
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
                    let key = reply::text(key);
                    let client = key.strip_prefix(&self.prefix).and_then(ClientId::parse_text);
                    if let Some(client) = client {
                        self.watched.mark(client);
                    }
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
        let mut changes = Changes::new("p_wsClient".into(), Arc::default());
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
    fn a_notice_without_keys_means_all_and_a_text_nobody() {
        let mut changes = watching(&[1, 2]);
        assert!(!changes.notice(text("x")) && !changes.any());
        assert!(changes.notice(Value::Nil));
        assert_eq!(changes.take(9).len(), 2);
    }
}
