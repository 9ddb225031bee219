//! Events that are kept within one process: a ring, and how far each group of readers is in it.
//!
//! Kept in `State`, under the broker's mutex. Waits for nothing; the time of day is its own, as the broker's is on Redis.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use ahash::AHashMap;

use super::queues::Wake;
use crate::{
    broker::contract::{EventBatch, EventConsumer, EventGroup, EventReader, Undelivered},
    id::ClientId,
    wire::{Event, EventKind, Ticket},
};

/// Events that are kept: some megabytes.
const CAPACITY: usize = 1 << 15;

/// For how long, in microseconds.
const LIFE: u64 = 24 * 3600 * 1_000_000;

pub(super) struct EventLog {
    events: VecDeque<Event>,
    /// How many events came before the first of them.
    before: u64,
    last: u64,
    groups: AHashMap<String, Group>,
    pub(super) wake: Arc<Wake>,
}

struct Group {
    /// The next event that it is to be given, counted from 0.
    next: u64,
    /// What was given and not acknowledged: to whom, and when.
    pending: BTreeMap<u64, (String, Instant)>,
    missed: u64,
    /// Who reads, and when it asked last.
    readers: BTreeMap<String, Instant>,
    /// Who was told of what was missed, and when.
    teller: Option<(String, Instant)>,
}

impl Default for EventLog {
    fn default() -> Self {
        let (events, groups) = (VecDeque::new(), AHashMap::new());
        EventLog { events, before: 0, last: 0, groups, wake: Wake::new() }
    }
}

impl EventLog {
    /// Of a node, or of one of its connections; `session` names it.
    pub(super) fn push(
        &mut self,
        kind: EventKind,
        session: &str,
        connection: Option<(u64, &Ticket)>,
        reason: &str,
    ) {
        let (node, _) = session.rsplit_once('#').unwrap_or((session, ""));
        self.add(Event {
            client: connection.map(|(_, ticket)| ticket.client().clone()),
            connection: connection.map(|(number, _)| number),
            ticket: connection.map(|(_, ticket)| ticket.clone()),
            node: node.to_owned(),
            reason: reason.to_owned(),
            ..Event::bare(String::new(), kind)
        });
    }

    /// Of a channel, by the client who came or went.
    pub(super) fn push_of_channel(&mut self, kind: EventKind, client: &ClientId, channel: &str) {
        self.add(Event {
            client: Some(client.clone()),
            channel: Some(channel.to_owned()),
            ..Event::bare(String::new(), kind)
        });
    }

    pub(super) fn push_undelivered(&mut self, node: &str, undelivered: &Undelivered<'_>) {
        self.add(Event {
            client: Some(undelivered.client.clone()),
            message: Some(undelivered.id.to_owned()),
            node: node.to_owned(),
            reason: undelivered.reason.to_owned(),
            ..Event::bare(String::new(), EventKind::Undelivered)
        });
    }

    fn add(&mut self, event: Event) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let micros = now.as_micros() as u64;
        self.last = micros.max(self.last + 1);
        let id = format!("{}-{}", self.last, self.end() + 1);
        self.events.push_back(Event { id, ms: micros / 1000, n: self.last, ..event });
        let is_old = |event: &Event| event.n + LIFE < micros;
        while self.events.len() > CAPACITY || self.events.front().is_some_and(is_old) {
            self.events.pop_front();
            self.before += 1;
        }
        self.wake.arrived.notify_all();
    }

    /// How many events there ever were.
    fn end(&self) -> u64 {
        self.before + self.events.len() as u64
    }

    fn event(&self, place: u64) -> Option<&Event> {
        self.events.get(usize::try_from(place.checked_sub(self.before)?).ok()?)
    }

    pub(super) fn read(&mut self, reader: &EventReader, limit: usize, now: Instant) -> EventBatch {
        let created = !self.groups.contains_key(&reader.group);
        let mut group = self.groups.remove(&reader.group).unwrap_or_else(|| {
            let start = reader.start.number().unwrap_or(u64::MAX);
            let older = self.events.partition_point(|event| event.n < start) as u64;
            let (pending, next) = (BTreeMap::new(), self.before + older);
            Group { next, pending, missed: 0, readers: BTreeMap::new(), teller: None }
        });
        group.readers.insert(reader.consumer.clone(), now);
        let is_due = |since: Instant| now.duration_since(since) >= reader.take_over;
        let trimmed = group.pending.len();
        group.pending.retain(|place, _| *place >= self.before);
        group.missed += (trimmed - group.pending.len()) as u64;
        let (mut events, limit) = (Vec::new(), limit.max(1));
        let after = reader.after.as_ref().map(|id| serial(id).unwrap_or_default());
        let mut open = 0;
        for (place, (consumer, since)) in &mut group.pending {
            let is_own = *consumer == reader.consumer;
            let is_behind = after.is_none_or(|after| *place >= after);
            if events.len() < limit && (is_own && is_behind || is_due(*since)) {
                (*consumer, *since) = (reader.consumer.clone(), now);
                events.extend(self.event(*place).cloned());
            }
            open += usize::from(*consumer == reader.consumer);
        }
        if events.is_empty() {
            let limit = limit.saturating_sub(open);
            group.missed += self.before.saturating_sub(group.next);
            group.next = group.next.max(self.before);
            while events.len() < limit
                && let Some(event) = self.event(group.next)
            {
                events.push(event.clone());
                group.pending.insert(group.next, (reader.consumer.clone(), now));
                group.next += 1;
            }
        }
        let told = &group.teller;
        let by_other = told
            .as_ref()
            .is_some_and(|(teller, since)| *teller != reader.consumer && !is_due(*since));
        let missed = if by_other { 0 } else { group.missed };
        if missed > 0 {
            group.teller = Some((reader.consumer.clone(), now));
        }
        self.groups.insert(reader.group.clone(), group);
        EventBatch { created, missed, events }
    }

    /// Whether there is such a group.
    pub(super) fn acknowledge(
        &mut self,
        reader: &EventReader,
        missed: u64,
        ids: &[String],
    ) -> bool {
        let Some(group) = self.groups.get_mut(&reader.group) else { return false };
        for serial in ids.iter().filter_map(|id| serial(id)) {
            group.pending.remove(&serial.saturating_sub(1));
        }
        if missed > 0 {
            group.missed = group.missed.saturating_sub(missed);
            group.teller = None;
        }
        // Who waits until fewer are open.
        self.wake.arrived.notify_all();
        true
    }

    /// The reader reads no more.
    pub(super) fn leave(&mut self, reader: &EventReader) {
        if let Some(group) = self.groups.get_mut(&reader.group) {
            group.readers.remove(&reader.consumer);
        }
    }

    pub(super) fn groups(&self, now: Instant) -> Vec<EventGroup> {
        let mut groups: Vec<_> =
            self.groups.iter().map(|(name, group)| self.group(name, group, now)).collect();
        groups.sort_by(|one, other| one.name.cmp(&other.name));
        groups
    }

    fn group(&self, name: &str, group: &Group, now: Instant) -> EventGroup {
        let open = |name: &str| group.pending.values().filter(|(of, _)| of == name).count() as u64;
        let oldest = group.pending.keys().copied().chain([group.next.max(self.before)]);
        let readers = group.readers.iter().map(|(name, asked)| EventConsumer {
            name: name.clone(),
            unacknowledged: open(name),
            idle: now.saturating_duration_since(*asked),
        });
        EventGroup {
            name: name.to_owned(),
            waiting: self.end().saturating_sub(group.next.max(self.before)),
            unacknowledged: group.pending.len() as u64,
            missed: group.missed + self.before.saturating_sub(group.next),
            oldest: oldest.filter_map(|place| Some(self.event(place)?.ms)).min(),
            readers: readers.collect(),
        }
    }

    /// Whether there was one.
    pub(super) fn forget(&mut self, group: &str) -> bool {
        self.groups.remove(group).is_some()
    }

    /// How long a reader of the group may wait before something is to be taken over.
    pub(super) fn due(&self, reader: &EventReader, now: Instant) -> Option<Duration> {
        let pending = self.groups.get(&reader.group)?.pending.values();
        let oldest = pending.map(|(_, since)| *since).min()?;
        Some((oldest + reader.take_over).saturating_duration_since(now))
    }
}

/// Which of all events an id names, counted from 1.
fn serial(id: &str) -> Option<u64> {
    id.rsplit_once('-')?.1.parse().ok()
}
