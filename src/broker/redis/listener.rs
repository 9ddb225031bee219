//! One connection that is subscribed to topics, read with a time limit.
//!
//! Used by the feed and by the event subscription, each on its own thread. Any error ends it: whoever
//! owns it opens a new one.

use std::{collections::VecDeque, mem::ManuallyDrop, time::Duration};

use redis::{Connection, Msg, Value, cmd};

use super::{error, options::Connector};
use crate::error::{Error, ErrorKind, Result};

pub(super) struct Listener {
    connection: Connection,
    address: String,
    /// Number of this connection on the server.
    pub(super) id: i64,
    /// The read timeout that is set, to save a system call per message.
    wait: Duration,
    /// What arrived while the subscription was being confirmed.
    early: VecDeque<Msg>,
}

impl Listener {
    /// Connects and subscribes to all topics; every message published after this is heard.
    pub(super) fn open(connector: &Connector, topics: &[&str]) -> Result<Self> {
        let address = connector.address.clone();
        let mut connection = connector.connect()?;
        let failed = |error| error::connect_failed(&address, error);
        let id = cmd("CLIENT").arg("ID").query(&mut connection).map_err(failed)?;
        let subscribe = cmd("SUBSCRIBE").arg(topics).get_packed_command();
        connection.send_packed_command(&subscribe).map_err(failed)?;
        let mut early = VecDeque::new();
        let mut confirmed = 0;
        while confirmed < topics.len() {
            match connection.recv_response().map_err(failed)? {
                Value::ServerError(error) => return Err(failed(error.into())),
                reply => match Msg::from_owned_value(reply) {
                    Some(message) => early.push_back(message),
                    None => confirmed += 1,
                },
            }
        }
        Ok(Listener { connection, address, id, wait: Duration::ZERO, early })
    }

    /// The next message, waiting up to `wait` (at least a millisecond).
    pub(super) fn receive(&mut self, wait: Duration) -> Result<Option<Msg>> {
        if let Some(message) = self.early.pop_front() {
            return Ok(Some(message));
        }
        let wait = whole_millis(wait);
        if wait != self.wait {
            self.connection.set_read_timeout(Some(wait)).map_err(|error| self.failed(error))?;
            self.wait = wait;
        }
        // `PubSub` is the one reader of the client library that keeps its place after a timeout. It
        // borrows the connection and unsubscribes when dropped, so each call makes one that is never
        // dropped; it owns nothing else.
        let mut reader = ManuallyDrop::new(self.connection.as_pubsub());
        match reader.get_message() {
            Ok(message) => Ok(Some(message)),
            Err(error) if error.is_timeout() => Ok(None),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn failed(&self, error: redis::RedisError) -> Error {
        let detail = format!("the subscription at Redis {} broke", self.address);
        Error::new(ErrorKind::Unavailable, detail).with_source(error)
    }
}

/// Rounded up, so that a wait is neither refused as zero nor repeated for a remaining microsecond.
fn whole_millis(wait: Duration) -> Duration {
    Duration::from_millis(wait.as_nanos().div_ceil(1_000_000).clamp(1, 60_000) as u64)
}
