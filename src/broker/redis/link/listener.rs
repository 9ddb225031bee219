//! One connection that is subscribed to topics, read with a time limit.
//!
//! Used by the feed and by the event subscription, each on its own thread. Any error ends it: whoever
//! owns it opens a new one.

use std::time::{Duration, Instant};

use redis::{Msg, RedisError, RedisResult, Value, cmd};

use super::{
    connection::Link,
    connector::Connector,
    error,
    pushes::{Push, Pushes},
    reply,
};
use crate::error::{Error, ErrorKind, Result};

pub(crate) struct Listener {
    link: Link,
    pushes: Pushes,
    address: String,
    /// Number of this connection on the server; 0 if it was not asked for.
    pub(crate) id: i64,
}

/// What a connection is subscribed to.
#[derive(Default)]
pub(crate) struct Topics<'a> {
    pub(crate) exact: &'a [&'a str],
    /// Patterns, in which `*`, `?`, `[` and `\\` mean something.
    pub(crate) patterns: &'a [&'a str],
    /// Whether the number of the connection is needed, which not every server tells.
    pub(crate) with_id: bool,
}

/// What a subscribed connection says.
pub(crate) enum Heard<'a> {
    /// What somebody has published on a topic.
    Message { topic: &'a [u8], payload: &'a [u8] },
    /// What Redis itself says: a list, or nothing, or what matched a pattern.
    Notice(Msg),
    /// A topic that was [subscribed to](Listener::subscribe) is heard from here on.
    Subscribed(Vec<u8>),
    /// The answer to a [ping](Listener::ping): everything said before it has been heard.
    Pong,
    /// A confirmation that Redis repeats, or the like.
    Nothing,
}

impl Listener {
    /// Connects and subscribes to all topics; every message published after this is heard.
    pub(crate) fn open(connector: &Connector, topics: &Topics) -> Result<Self> {
        let address = connector.address.clone();
        let failed = |error| error::connect_failed(&address, error);
        let mut link = connector.connect(connector.connect_deadline())?;
        let deadline = connector.call_deadline();
        let mut id = Value::Nil;
        if topics.with_id {
            id = link.ask(cmd("CLIENT").arg("ID"), deadline).map_err(failed)?;
        }
        if let Some(error) = error::of_reply(&address, &id) {
            return Err(error);
        }
        for (command, topics) in [("SUBSCRIBE", topics.exact), ("PSUBSCRIBE", topics.patterns)] {
            if !topics.is_empty() {
                let subscribe = cmd(command).arg(topics).get_packed_command();
                link.send(&subscribe, deadline).map_err(failed)?;
            }
        }
        let mut pushes = Pushes::new();
        let wanted = topics.exact.len() + topics.patterns.len();
        confirm(&mut link, &mut pushes, wanted, deadline).map_err(failed)?;
        Ok(Listener { link, pushes, address, id: reply::number(id) })
    }

    /// The [term](super::connector::Connector::term) of the server that it listens to.
    pub(crate) fn term(&self) -> u64 {
        self.link.term
    }

    /// Waits up to `wait` (at least a millisecond) until something can be [heard](Self::hear); whether it can. A wait
    /// that ends, or is interrupted, within a message loses nothing of it.
    pub(crate) fn wait(&mut self, wait: Duration) -> Result<bool> {
        let wait = wait.clamp(Duration::from_millis(1), Duration::from_secs(60));
        let deadline = Instant::now() + wait;
        come(&mut self.link, &mut self.pushes, deadline).map_err(failed(&self.address))
    }

    /// What has come next, without waiting for it.
    pub(crate) fn hear(&mut self) -> Result<Option<Heard<'_>>> {
        let failed = failed(&self.address);
        Ok(match self.pushes.take().map_err(&failed)? {
            None => None,
            Some(Push::Message { topic, payload }) => Some(Heard::Message { topic, payload }),
            Some(Push::Other(Value::ServerError(error))) => return Err(failed(error.into())),
            Some(Push::Other(reply)) if is_answer(&reply, b"pong") => Some(Heard::Pong),
            Some(Push::Other(reply)) if is_answer(&reply, b"sunsubscribe") => {
                let detail = format!(
                    "what the subscription at Redis {} hears was moved to another master",
                    self.address
                );
                return Err(Error::new(ErrorKind::Unavailable, detail));
            }
            Some(Push::Other(reply)) => Some(match subscribed(&reply) {
                Some(topic) => Heard::Subscribed(topic),
                None => Msg::from_owned_value(reply).map_or(Heard::Nothing, Heard::Notice),
            }),
        })
    }

    /// Asks for further topics, which come behind a [`Heard::Subscribed`] each, and for no more of others.
    pub(crate) fn subscribe(
        &mut self,
        to: &[String],
        no_longer_to: &[String],
        deadline: Instant,
    ) -> Result<()> {
        for (command, topics) in [("SUBSCRIBE", to), ("UNSUBSCRIBE", no_longer_to)] {
            if !topics.is_empty() {
                let subscribe = cmd(command).arg(topics).get_packed_command();
                self.link.send(&subscribe, deadline).map_err(failed(&self.address))?;
            }
        }
        Ok(())
    }

    /// Asks for a [`Heard::Pong`] on the subscribed connection itself.
    pub(crate) fn ping(&mut self, deadline: Instant) -> Result<()> {
        let ping = cmd("PING").get_packed_command();
        self.link.send(&ping, deadline).map_err(failed(&self.address))
    }
}

fn failed(address: &str) -> impl Fn(RedisError) -> Error {
    move |error| {
        let detail = format!("the subscription at Redis {address} broke");
        Error::new(ErrorKind::Unavailable, detail).with_source(error)
    }
}

/// Waits until a reply is whole; whether one is by the deadline.
fn come(link: &mut Link, pushes: &mut Pushes, deadline: Instant) -> RedisResult<bool> {
    while pushes.first()?.is_none() {
        match link.receive(pushes.room(), deadline)? {
            Some(count) => pushes.came(count),
            None => return Ok(false),
        }
    }
    Ok(true)
}

/// Waits until as many subscriptions are confirmed. What comes on one of them before the others are is kept.
fn confirm(
    link: &mut Link,
    pushes: &mut Pushes,
    mut topics: usize,
    deadline: Instant,
) -> RedisResult<()> {
    let mut early = Vec::new();
    while topics > 0 {
        if !come(link, pushes, deadline)? {
            return Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into());
        }
        let before = early.len();
        early.extend_from_slice(pushes.first()?.unwrap_or_default());
        let confirmed = match pushes.take()? {
            Some(Push::Other(Value::ServerError(error))) => return Err(error.into()),
            Some(Push::Other(reply)) => Msg::from_owned_value(reply).is_none(),
            _ => false,
        };
        if confirmed {
            early.truncate(before);
            topics -= 1;
        }
    }
    pushes.put_back(&early);
    Ok(())
}

/// The topic, if the reply confirms that it is heard.
fn subscribed(reply: &Value) -> Option<Vec<u8>> {
    let Value::Array(items) = reply else { return None };
    match &items[..] {
        [Value::BulkString(word), Value::BulkString(topic), _] if word == b"subscribe" => {
            Some(topic.clone())
        }
        _ => None,
    }
}

/// `PING` is answered by a list of two to whoever is subscribed; in a cluster one of three says that a topic is not served here any
/// more.
fn is_answer(reply: &Value, name: &[u8]) -> bool {
    match reply {
        Value::Array(items) => {
            matches!(items.first(), Some(Value::BulkString(word)) if word == name)
        }
        _ => false,
    }
}
