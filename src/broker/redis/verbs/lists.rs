//! Lists: who is online, which channels there are, who is in one; whole or by pages.
//!
//! Called by `RedisBroker`'s verbs. Every list is read in steps of bounded size, each a round trip of its
//! own on the connections for reads: Redis serves others between two steps, and sends never wait for a
//! list. Redis promises of such a walk that it meets everything that is there from its beginning to its
//! end, possibly twice.

use std::collections::hash_map::{Entry, HashMap};

use redis::{Pipeline, Value};

use crate::{
    broker::{
        contract::Page,
        redis::{backend::Backend, link::reply},
    },
    error::{Error, Result},
    id::ClientId,
};

/// Fields read by one step: some tenths of a millisecond of Redis.
const STEP: usize = 500;

/// Steps of one page that may find nothing, as in a hash that once was much larger.
const EMPTY_STEPS: usize = 8;

/// What one step through a hash found.
struct Step {
    /// Each field, then its value.
    items: Vec<Value>,
    /// Where the next begins; `None` at the end.
    next: Option<u64>,
    /// Fields in the whole hash.
    total: u64,
}

impl Backend {
    pub(crate) fn online_page(&self, after: Option<&str>, limit: usize) -> Result<Page<ClientId>> {
        self.page(&self.layout.online_key(), after, limit, client)
    }

    pub(crate) fn members_page(
        &self,
        channel: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<ClientId>> {
        if channel.is_empty() {
            return Ok(Page { items: Vec::new(), next: None, total: 0 });
        }
        self.page(&self.layout.channel_key(channel), after, limit, client)
    }

    pub(crate) fn channels_page(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<(String, i64)>> {
        let channel = |name, size| Some((reply::text(name), reply::number(size)));
        self.page(&self.layout.channel_list_key(), after, limit, channel)
    }

    pub(crate) fn online_clients(&self) -> Result<Vec<ClientId>> {
        self.list_clients(&self.layout.online_key())
    }

    pub(crate) fn channel_members(&self, channel: &str) -> Result<Vec<ClientId>> {
        match channel {
            "" => Ok(Vec::new()),
            channel => self.list_clients(&self.layout.channel_key(channel)),
        }
    }

    pub(crate) fn channels(&self) -> Result<Vec<(String, i64)>> {
        let channels = self.walk(&self.layout.channel_list_key())?.into_iter();
        Ok(channels.map(|(name, size)| (reply::text(name), reply::number(size))).collect())
    }

    /// All fields of a hash, as they are.
    pub(crate) fn fields(&self, key: &str) -> Result<Vec<Vec<u8>>> {
        Ok(self.walk(key)?.into_iter().map(|(field, _)| reply::bytes(field)).collect())
    }

    fn list_clients(&self, key: &str) -> Result<Vec<ClientId>> {
        Ok(self.walk(key)?.into_iter().filter_map(|(field, value)| client(field, value)).collect())
    }

    /// Each field of a hash, once, with its value when it was met last.
    fn walk(&self, key: &str) -> Result<Vec<(Value, Value)>> {
        let mut met: Vec<(Value, Value)> = Vec::new();
        let mut places: HashMap<Vec<u8>, usize> = HashMap::new();
        let mut cursor = Some(0);
        while let Some(at) = cursor {
            let mut pipeline = Pipeline::new();
            pipeline.cmd("HSCAN").arg(key).arg(at).arg("COUNT").arg(STEP);
            let (items, next) = found(self.read(&pipeline)?.pop());
            for (field, value) in reply::pairs(items.into_iter()) {
                match places.entry(reply::bytes(field.clone())) {
                    Entry::Occupied(place) => met[*place.get()].1 = value,
                    Entry::Vacant(place) => {
                        place.insert(met.len());
                        met.push((field, value));
                    }
                }
            }
            cursor = next;
        }
        Ok(met)
    }

    /// Steps until about `limit` items were found, or so many found nothing that the caller must be let go.
    fn page<T>(
        &self,
        key: &str,
        after: Option<&str>,
        limit: usize,
        read: impl Fn(Value, Value) -> Option<T>,
    ) -> Result<Page<T>> {
        let mut cursor =
            after.map_or(Ok(0), |after| after.parse()).map_err(|_| bad_cursor(after))?;
        let mut items = Vec::new();
        let mut idle = 0;
        loop {
            let missing = limit.max(1) - items.len();
            let step = self.step(key, cursor, missing.min(STEP))?;
            let before = items.len();
            items.extend(
                reply::pairs(step.items.into_iter())
                    .filter_map(|(field, value)| read(field, value)),
            );
            idle += usize::from(items.len() == before);
            match step.next {
                Some(next) if items.len() < limit && idle < EMPTY_STEPS => cursor = next,
                next => {
                    let next = next.map(|next| next.to_string());
                    return Ok(Page { items, next, total: step.total });
                }
            }
        }
    }

    fn step(&self, key: &str, cursor: u64, count: usize) -> Result<Step> {
        let mut pipeline = Pipeline::new();
        pipeline.cmd("HLEN").arg(key);
        pipeline.cmd("HSCAN").arg(key).arg(cursor).arg("COUNT").arg(count);
        let mut replies = self.read(&pipeline)?.into_iter();
        let total = reply::number(replies.next().unwrap_or(Value::Nil)).max(0) as u64;
        let (items, next) = found(replies.next());
        Ok(Step { items, next, total })
    }
}

/// What a reply to `HSCAN` holds: each field and its value, and where the next step begins.
fn found(reply: Option<Value>) -> (Vec<Value>, Option<u64>) {
    let mut parts = reply::items(reply.unwrap_or(Value::Nil)).into_iter();
    let next = reply::text(parts.next().unwrap_or(Value::Nil)).parse().ok();
    let items = reply::items(parts.next().unwrap_or(Value::Nil));
    (items, next.filter(|next| *next != 0))
}

/// A field that is the id of a client other than the system.
fn client(field: Value, _: Value) -> Option<ClientId> {
    ClientId::parse_text(&reply::text(field)).filter(|client| !client.is_system())
}

/// `after` is not what a page gave as its `next`.
pub(crate) fn bad_cursor(after: Option<&str>) -> Error {
    let after = after.unwrap_or_default();
    Error::argument(format!("after: {after:?} was not given as the next page by a list like this"))
}
