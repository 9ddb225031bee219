//! One connection that is subscribed to topics, read with a time limit.
//!
//! Used by the feed and by the event subscription, each on its own thread. Any error ends it: whoever
//! owns it opens a new one.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use redis::{Msg, RedisError, Value, cmd};

use super::{connection::Link, connector::Connector, error, reply};
use crate::error::{Error, ErrorKind, Result};

pub(crate) struct Listener {
    link: Link,
    address: String,
    /// Number of this connection on the server.
    pub(crate) id: i64,
    /// What arrived while the subscription was being confirmed.
    early: VecDeque<Msg>,
}

/// What a subscribed connection says.
pub(crate) enum Heard {
    Message(Msg),
    /// The answer to a [ping](Listener::ping): everything said before it has been heard.
    Pong,
}

impl Listener {
    /// Connects and subscribes to all topics; every message published after this is heard.
    pub(crate) fn open(connector: &Connector, topics: &[&str]) -> Result<Self> {
        let address = connector.address.clone();
        let failed = |error| error::connect_failed(&address, error);
        let mut link = connector.connect(connector.connect_deadline())?;
        let deadline = connector.call_deadline();
        let id = link.ask(cmd("CLIENT").arg("ID"), deadline).map_err(failed)?;
        if let Some(error) = error::of_reply(&address, &id) {
            return Err(error);
        }
        let subscribe = cmd("SUBSCRIBE").arg(topics).get_packed_command();
        link.send(&subscribe, deadline).map_err(failed)?;
        let mut early = VecDeque::new();
        let mut confirmed = 0;
        while confirmed < topics.len() {
            match link.receive(deadline).map_err(failed)? {
                None => return Err(failed(timed_out())),
                Some(Value::ServerError(error)) => return Err(failed(error.into())),
                Some(reply) => match Msg::from_owned_value(reply) {
                    Some(message) => early.push_back(message),
                    None => confirmed += 1,
                },
            }
        }
        Ok(Listener { link, address, id: reply::number(id), early })
    }

    /// The next message, waiting up to `wait` (at least a millisecond). A wait that ends, or is
    /// interrupted, within a message loses nothing of it.
    pub(crate) fn receive(&mut self, wait: Duration) -> Result<Option<Heard>> {
        if let Some(message) = self.early.pop_front() {
            return Ok(Some(Heard::Message(message)));
        }
        let wait = wait.clamp(Duration::from_millis(1), Duration::from_secs(60));
        let reply = self.link.receive(Instant::now() + wait).map_err(|error| self.failed(error))?;
        match reply {
            None => Ok(None),
            Some(Value::ServerError(error)) => Err(self.failed(error.into())),
            // A confirmation that Redis repeats, or the like, is no message and no reason to stop.
            Some(reply) if is_pong(&reply) => Ok(Some(Heard::Pong)),
            Some(reply) => Ok(Msg::from_owned_value(reply).map(Heard::Message)),
        }
    }

    /// Asks for a [`Heard::Pong`] on the subscribed connection itself.
    pub(crate) fn ping(&mut self, deadline: Instant) -> Result<()> {
        let ping = cmd("PING").get_packed_command();
        self.link.send(&ping, deadline).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: RedisError) -> Error {
        let detail = format!("the subscription at Redis {} broke", self.address);
        Error::new(ErrorKind::Unavailable, detail).with_source(error)
    }
}

fn timed_out() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

/// `PING` is answered by a list of two to whoever is subscribed.
fn is_pong(reply: &Value) -> bool {
    match reply {
        Value::Array(items) => {
            matches!(items.first(), Some(Value::BulkString(word)) if word == b"pong")
        }
        _ => false,
    }
}
