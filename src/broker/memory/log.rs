//! The log of a `MemoryBroker`: what was published, kept for a while for nodes that subscribe anew.
//!
//! Kept in `State`, under the broker's mutex; told the time. A stream for each node and one for all, as on Redis; the
//! last message of each stays, however old, so that a reader sees that nothing is missing behind it.

use std::{
    collections::{HashSet, VecDeque, hash_map::RandomState},
    hash::{BuildHasher, Hasher},
    sync::Arc,
    time::{Duration, Instant},
};

use ahash::AHashMap;

use crate::{id::ClientId, wire::Envelope};

/// How long a message is kept.
const AGE: Duration = Duration::from_secs(120);

/// Bytes that one stream keeps.
const BYTES: usize = 256 << 20;

/// Between two looks at streams that nothing is added to.
const SWEEP: Duration = Duration::from_secs(1);

pub(super) struct Log {
    epoch: String,
    /// Number of the last message.
    last: u64,
    nodes: AHashMap<String, Stream>,
    all: Stream,
    swept: Option<Instant>,
    limit: usize,
}

#[derive(Default)]
struct Stream {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// Number of the last message that is gone.
    floor: u64,
    /// Of which messages senders know what became of them at which receiver, in the order in which they were told.
    settled: VecDeque<(u64, ClientId)>,
}

struct Entry {
    number: u64,
    at: Instant,
    envelope: Arc<Envelope>,
    bytes: usize,
}

impl Default for Log {
    fn default() -> Self {
        // Need not be secret: it only differs from that of another broker.
        let epoch = format!("{:016x}", RandomState::new().build_hasher().finish());
        let (nodes, all) = (AHashMap::new(), Stream::default());
        Log { epoch, last: 0, nodes, all, swept: None, limit: BYTES }
    }
}

impl Log {
    pub(super) fn epoch(&self) -> &str {
        &self.epoch
    }

    /// Number of the last message.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// The next number, for what is in order with the messages and not kept.
    pub(super) fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Keeps a message for `node`, or for all nodes; its number.
    pub(super) fn add(&mut self, node: &str, envelope: &Arc<Envelope>, now: Instant) -> u64 {
        self.last += 1;
        let stream = match **envelope {
            Envelope::Channel { .. } => &mut self.all,
            _ => match self.nodes.get_mut(node) {
                Some(stream) => stream,
                None => self.nodes.entry(node.to_owned()).or_default(),
            },
        };
        stream.add(self.last, envelope, now);
        stream.trim(now, self.limit);
        if self.swept.is_none_or(|swept| now.duration_since(swept) >= SWEEP) {
            self.swept = Some(now);
            self.nodes.values_mut().for_each(|stream| stream.trim(now, self.limit));
            self.all.trim(now, self.limit);
        }
        self.last
    }

    /// Everything for `node` above this number is there.
    pub(super) fn floor(&self, node: &str) -> u64 {
        self.nodes.get(node).map_or(0, |stream| stream.floor).max(self.all.floor)
    }

    /// The first message for `node` above `after`.
    pub(super) fn next(&self, node: &str, after: u64) -> Option<(u64, Arc<Envelope>)> {
        let own = self.nodes.get(node).and_then(|stream| stream.first(after));
        let first = own.into_iter().chain(self.all.first(after)).min_by_key(|entry| entry.number);
        first.map(|entry| (entry.number, Arc::clone(&entry.envelope)))
    }

    /// The senders of these messages for `node` know what became of them.
    pub(super) fn settle(&mut self, node: &str, settled: &[(u64, ClientId)]) {
        if let Some(stream) = self.nodes.get_mut(node) {
            stream.settled.extend(settled.iter().cloned());
            stream.forget_settled();
        }
    }

    /// What was settled of the messages for `node` that are there.
    pub(super) fn settled(&self, node: &str) -> HashSet<(u64, ClientId)> {
        let settled = self.nodes.get(node).map(|stream| stream.settled.iter().cloned());
        settled.into_iter().flatten().collect()
    }
}

impl Stream {
    fn add(&mut self, number: u64, envelope: &Arc<Envelope>, at: Instant) {
        let bytes = size_of::<Entry>() + weight(envelope);
        self.bytes += bytes;
        let envelope = Arc::clone(envelope);
        self.entries.push_back(Entry { number, at, envelope, bytes });
    }

    fn trim(&mut self, now: Instant, limit: usize) {
        while self.entries.len() > 1
            && let Some(first) = self.entries.front()
            && (self.bytes > limit || now.duration_since(first.at) > AGE)
        {
            self.bytes -= first.bytes;
            self.floor = first.number;
            self.entries.pop_front();
        }
        tighten(&mut self.entries);
        self.forget_settled();
    }

    /// Forgets what was settled of messages that are gone.
    fn forget_settled(&mut self) {
        while self.settled.front().is_some_and(|(number, _)| *number <= self.floor) {
            self.settled.pop_front();
        }
        tighten(&mut self.settled);
    }

    fn first(&self, after: u64) -> Option<&Entry> {
        self.entries.get(self.entries.partition_point(|entry| entry.number <= after))
    }
}

/// Gives back most of the room that is not used any more.
fn tighten<T>(queue: &mut VecDeque<T>) {
    if queue.capacity() > 4 * queue.len().max(64) {
        queue.shrink_to(2 * queue.len());
    }
}

/// Bytes that a message takes.
fn weight(envelope: &Envelope) -> usize {
    size_of::<Envelope>()
        + match envelope {
            Envelope::Direct { receivers, content, id, .. } => {
                let texts = receivers.iter().map(|receiver| match receiver {
                    ClientId::Text(text) => text.as_str().len(),
                    _ => 0,
                });
                size_of_val(&receivers[..])
                    + texts.sum::<usize>()
                    + content.len()
                    + id.as_ref().map_or(0, String::len)
            }
            Envelope::Channel { channel, content, .. } => {
                content.len() + channel.as_ref().map_or(0, String::len)
            }
            _ => 0,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kick(client: i64) -> Arc<Envelope> {
        Arc::new(Envelope::ForceOffline { client: client.into() })
    }

    fn to_all() -> Arc<Envelope> {
        Arc::new(Envelope::Channel {
            sender: 0.into(),
            channel: None,
            content: "1".into(),
            trace: None,
        })
    }

    fn numbers(log: &Log, node: &str) -> Vec<u64> {
        let mut after = log.floor(node);
        std::iter::from_fn(|| {
            (after, _) = log.next(node, after)?;
            Some(after)
        })
        .collect()
    }

    #[test]
    fn a_node_reads_its_own_and_what_is_for_all() {
        let (mut log, now) = (Log::default(), Instant::now());
        log.add("a", &kick(1), now);
        log.add("b", &kick(2), now);
        log.add("b", &to_all(), now);
        log.add("a", &kick(3), now);
        assert_eq!(numbers(&log, "a"), [1, 3, 4]);
        assert_eq!(numbers(&log, "b"), [2, 3]);
        assert_eq!(numbers(&log, "c"), [3]);
    }

    #[test]
    fn age_and_bytes_bound_it_and_the_last_stays() {
        let (mut log, now) = (Log::default(), Instant::now());
        log.add("a", &kick(1), now);
        log.add("a", &kick(2), now + AGE / 2);
        log.add("b", &kick(3), now + AGE + SWEEP);
        assert_eq!((log.floor("a"), numbers(&log, "a")), (1, vec![2]));
        log.add("b", &kick(4), now + 100 * AGE);
        assert_eq!(numbers(&log, "a"), [2], "a quiet node misses nothing");
        assert_eq!((log.floor("b"), numbers(&log, "b")), (3, vec![4]));
        log.limit = 1000;
        for client in 0..100 {
            log.add("b", &kick(client), now + 100 * AGE);
        }
        assert!(log.nodes["b"].bytes <= 1000 && numbers(&log, "b").len() > 2);
        assert_eq!(log.floor("b") + 1, numbers(&log, "b")[0]);
    }

    #[test]
    fn what_is_settled_is_known_as_long_as_its_message() {
        let (mut log, now) = (Log::default(), Instant::now());
        log.settle("a", &[(1, 7.into())]);
        assert!(log.settled("a").is_empty(), "of no message that is there");
        log.add("a", &kick(1), now);
        log.add("a", &kick(2), now + AGE / 2);
        log.settle("a", &[(2, 7.into()), (1, 7.into()), (1, 8.into())]);
        assert_eq!((log.settled("a").len(), log.settled("b").len()), (3, 0));
        log.add("a", &kick(3), now + AGE + SWEEP);
        log.settle("a", &[(3, 7.into())]);
        assert!(log.settled("a").contains(&(2, 7.into())));
        log.add("a", &kick(4), now + 2 * AGE);
        assert_eq!(log.settled("a"), [(3, 7.into())].into());
    }
}
