//! One node's ordered feed on Redis.
//!
//! Called by the node's feed thread alone. Owns two connections: the *listener*, subscribed to the
//! node's topic and to `__redis__:invalidate`, and the *data* connection, whose key tracking is
//! redirected to the listener: Redis names there every client hash that anyone changes.
//!
//! The barrier. Redis sends these notices at the end of its event-loop turn, so a message can overtake
//! the notice of a join that came before it. Therefore a channel message waits until a probe, which
//! the data connection publishes *after* the message was received, has come back: the turn of the
//! message is then over, and all its notices lie before the probe. Dirty clients are read again and
//! reported, then the message. What arrives behind a waiting message waits with it, which keeps the
//! order; one probe covers everything received before it was sent.
//!
//! Here the parts are stepped, each of which keeps a state of its own: `changes` (who must be read again),
//! `barrier` (what waits), `probe` (what is proven), `gap` (what was missed that no log has), `mark` (whether Redis
//! has lost data), `cursor` (how far the log was read); `follow` steps the last. `ways` opens the connections.
//!
//! Where Redis does not track, keyspace notifications take the place of the notices (`changes`). They are sent in front of
//! whatever is published after the change; the barrier is the same.
//!
//! Where it tells of nothing, the scripts that change channels say so themselves, in the same step and to the same
//! connection: with a message all notices before it have been heard, and nothing waits for a probe. Joins of .NET helpers,
//! which say nothing, are found by reading the members of a channel that has a message (`rooms`).
//!
//! Where slots have names of their own, their topics are heard on the same connection (`slot_topics`, stepped by `slots`), so all
//! of it is in one order.
//!
//! Never sleeps. A lost data connection is replaced at once, which loses no message; any other error
//! drops both connections, and the next call opens new ones. What waited still waits, until every
//! watched client has been read again.

mod barrier;
mod changes;
mod cursor;
mod data;
mod eviction;
mod follow;
mod gap;
#[cfg(test)]
mod histories;
mod mark;
mod needs;
mod pages;
mod past;
mod probe;
mod rooms;
mod slot_topics;
mod slots;
mod ways;

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use redis::Value;

use self::{
    barrier::Barrier,
    changes::{Changes, INVALIDATE, Way},
    cursor::{Cursor, Reading},
    data::Data,
    eviction::warn_of_eviction,
    gap::Gap,
    mark::Mark,
    pages::{Logged, PageSize},
    probe::{Covers, Probes, Whose},
    rooms::Rooms,
    slot_topics::SlotTopics,
};
use super::{
    backend::Backend,
    link::listener::{Heard, Listener},
};
use crate::{
    broker::{
        contract::{Echo, FeedEvent, FeedStart, Past, Subscription, Watchlist},
        ordered::IDLE_CHUNK,
    },
    error::{Error, ErrorKind, Result},
    throttle::Throttle,
    wire::{Envelope, Malformed, Mark as Numbered},
};

/// Nobody wakes the feed when the watchlist changes, so it looks that often.
const WATCHLIST_TICK: Duration = Duration::from_millis(100);

/// Between two chunks of clients that are read again without need.
const REFRESH_PAUSE: Duration = Duration::from_millis(10);

/// Finds out whether a node can work on this Redis; by which way it would learn of joins and leaves.
pub(super) fn examine(backend: &Arc<Backend>) -> Result<&'static str> {
    needs::check(backend)?;
    let mut feed = RedisFeed::new(Arc::clone(backend), "?", Arc::default(), FeedStart::Now);
    feed.open(&[])?;
    Ok(feed.changes.way.as_str())
}

/// What the log holds for a node that is no more; `None` without a log.
pub(super) fn past(backend: &Arc<Backend>, node: &str) -> Result<Option<Box<dyn Past>>> {
    Ok(past::RedisPast::open(backend, node)?.map(|past| Box::new(past) as _))
}

/// Says what a node needs that was refused with `error`, if that can be found out.
pub(super) fn explain(backend: &Backend, error: Error) -> Error {
    match error.kind() {
        ErrorKind::Rejected => match needs::check(backend) {
            Err(found) if found.kind() == ErrorKind::Config => found,
            _ => error,
        },
        _ => error,
    }
}

pub(super) struct RedisFeed {
    backend: Arc<Backend>,
    node: String,
    topic: String,
    changes: Changes,
    barrier: Barrier,
    rooms: Rooms,
    slot_topics: SlotTopics,
    probes: Probes,
    gap: Gap,
    mark: Mark,
    /// Where it stands in the log; `None` before it is found, and without one.
    cursor: Option<Cursor>,
    /// What is being read there.
    reading: Option<Reading<Logged>>,
    page: PageSize,
    /// What was read, while memberships must be read before it is handed on.
    held: Vec<FeedEvent>,
    /// Whether what the log holds comes first, and then [`FeedEvent::Listening`].
    from_log: bool,
    connections: Option<Box<Connections>>,
    /// What can be handed on.
    ready: VecDeque<FeedEvent>,
    /// Whether Redis was asked what it can do, and what it does when its memory is full.
    knows_redis: bool,
}

struct Connections {
    listener: Listener,
    data: Data,
    /// Whether the data connection has done all it is for since it was last replaced.
    proven: bool,
    refreshed: Instant,
    /// Whether Redis said that all its data is gone.
    flushed: bool,
}

impl RedisFeed {
    pub(super) fn new(
        backend: Arc<Backend>,
        node: &str,
        watchlist: Arc<Watchlist>,
        start: FeedStart,
    ) -> Self {
        RedisFeed {
            node: node.into(),
            topic: backend.layout.node_topic(node),
            changes: Changes::new(&backend.layout, backend.connector.db(), node, watchlist),
            barrier: Barrier::default(),
            rooms: Rooms::default(),
            slot_topics: SlotTopics::new(&backend.layout, &backend.options.slot_names, node),
            probes: Probes::new(Instant::now()),
            gap: Gap::default(),
            mark: Mark::new(&backend.layout, node),
            cursor: None,
            reading: None,
            page: PageSize::default(),
            held: Vec::new(),
            from_log: start == FeedStart::Log && backend.options.log,
            backend,
            connections: None,
            ready: VecDeque::new(),
            knows_redis: false,
        }
    }

    fn connect(&mut self) -> Result<Box<Connections>> {
        let topics = self.begin_slots()?;
        let (listener, mut data) = self.open(&topics)?;
        topics.iter().for_each(|topic| self.slot_topics.confirmed(topic.as_bytes()));
        let began_anew = self.take_up(&mut data)?;
        if !self.knows_redis {
            needs::check_on(&mut data.link, &self.backend)?;
            warn_of_eviction(&mut data.link, &self.backend.connector)?;
            self.say_what_is_late();
            self.knows_redis = true;
        }
        let now = Instant::now();
        self.probes.restart(now)?;
        self.gap.reconnected(began_anew);
        let (proven, flushed) = (true, false);
        let mut connections =
            Box::new(Connections { listener, data, proven, refreshed: now, flushed });
        self.speak(&mut connections)?;
        if self.backend.options.log {
            self.enter_log(&mut connections, None, true)?;
        } else {
            self.ready.push_back(FeedEvent::Listening);
        }
        Ok(connections)
    }

    /// Opens a data connection in place of one that was lost; the listener goes on.
    fn replace_data(&mut self, listener: &Listener) -> Result<Data> {
        let mut data = Data::open(&self.backend, self.changes.track(listener.id).as_ref())?;
        // Elsewhere the number of the listener is that of another connection.
        self.backend.connector.check_term(listener.term())?;
        self.take_up(&mut data)?;
        Ok(data)
    }

    /// Begins to go by a new data connection. Returns whether the count of messages has begun anew.
    fn take_up(&mut self, data: &mut Data) -> Result<bool> {
        // From here on no change goes unnoticed; before it, any may have.
        self.changes.unsure();
        self.look_for_loss(data)
    }

    /// Tells of lost data before any membership is read again. Returns whether the count of messages has begun
    /// anew; then there is a mark again, lest the next look mistake it.
    fn look_for_loss(&mut self, data: &mut Data) -> Result<bool> {
        let found = self.mark.looked(data.ask(&self.mark.look())?);
        if found.loss {
            self.ready.push_back(FeedEvent::Forgotten);
        }
        if found.none {
            self.mark.raised(data.ask(&self.mark.raise())?);
        }
        Ok(found.none)
    }

    /// Does what needs the data connection. Should that be lost alone, it is replaced on the spot:
    /// dropping the listener too would lose messages. Only once in a row, lest an error that a new
    /// connection does not cure be hidden for ever.
    fn with_data(
        &mut self,
        connections: &mut Connections,
        work: impl FnOnce(&mut Self, &mut Connections) -> Result<()>,
    ) -> Result<()> {
        let Err(error) = work(self, connections) else { return Ok(()) };
        if !std::mem::take(&mut connections.proven) {
            return Err(error);
        }
        static REPLACED: Throttle = Throttle::new();
        if let Some(more) = REPLACED.admit(&error.to_string()) {
            log::warn!(reason:% = error; "node feed: {error}; replacing the data connection{more}");
        }
        connections.data = self.replace_data(&connections.listener)?;
        self.probes.give_up();
        Ok(())
    }

    /// One turn with nothing to hear: send a probe if one is due, read clients again if there is leisure, wait.
    fn step(&mut self, connections: &mut Connections, deadline: Instant) -> Result<()> {
        let now = Instant::now();
        self.backend.connector.check_term(connections.listener.term())?;
        self.changes.take_over();
        if self.reading.is_some() || !self.held.is_empty() {
            return self.with_data(connections, Self::read_log);
        }
        if self.changes.way == Way::Notice && !self.barrier.is_empty() {
            return self.with_data(connections, Self::release_heard);
        }
        if self.slot_topics.is_stale() || self.slot_topics.has_to_speak() {
            return self.follow_slots(connections);
        }
        let count =
            self.gap.is_open() || self.probes.is_due(now, self.backend.options.probe_interval);
        if !self.probes.is_under_way() && (count || !self.barrier.is_empty()) {
            self.with_data(connections, |feed, connections| {
                feed.send_probe(connections, now, count)
            })?;
        }
        let unread = self.changes.any() || connections.flushed;
        if self.barrier.is_empty()
            && unread
            && now.duration_since(connections.refreshed) >= REFRESH_PAUSE
        {
            self.with_data(connections, |feed, connections| feed.reread(connections, IDLE_CHUNK))?;
            if !self.ready.is_empty() {
                return Ok(());
            }
        }
        let tick = if self.changes.any() { REFRESH_PAUSE } else { WATCHLIST_TICK };
        let wait = deadline.saturating_duration_since(now).min(tick);
        match connections.listener.wait(wait)? {
            true => Ok(()),
            false => self.check_overdue(wait),
        }
    }

    /// Publishes a probe, with `count` in one transaction with a look at what was published before it. That
    /// the data connection answers proves that tracking is still on.
    fn send_probe(
        &mut self,
        connections: &mut Connections,
        now: Instant,
        count: bool,
    ) -> Result<()> {
        if count && self.changes.way != Way::Tracking {
            self.look_again(connections)?;
        }
        let probe = self.probes.next();
        let data = &mut connections.data;
        let (published, head) = if count && self.backend.options.log {
            let (published, head) = data.check(&self.node, &self.topic, &probe, &self.gap)?;
            (Some(published), Some(head))
        } else {
            (data.probe(&self.node, &self.topic, &probe, count)?, None)
        };
        self.probes.sent(now, Covers { waiting: self.barrier.len(), published, head });
        Ok(())
    }

    /// Hears what has come next, if the log is not to be read before; whether anything has. Looks at no clock: all that
    /// came at once is heard before the feed takes its next turn.
    fn hear(&mut self, connections: &mut Connections) -> Result<bool> {
        if self.reading.is_some() || !self.held.is_empty() {
            return Ok(false);
        }
        let (topic, payload) = match connections.listener.hear()? {
            None => return Ok(false),
            Some(Heard::Message { topic, payload }) if topic == self.changes.topic.as_bytes() => {
                self.changes.told(payload);
                return Ok(true);
            }
            // Where Redis names changed keys, what somebody has published says nothing.
            Some(Heard::Message { topic, payload }) if topic != INVALIDATE.as_bytes() => {
                (topic, payload)
            }
            Some(Heard::Subscribed(topic)) => {
                self.slot_topics.confirmed(&topic);
                return Ok(true);
            }
            Some(Heard::Notice(notice)) if notice.get_channel_name() == INVALIDATE => {
                if let Ok(keys) = notice.get_payload::<Value>() {
                    connections.flushed |= self.changes.notice(keys);
                }
                return Ok(true);
            }
            Some(Heard::Notice(notice)) => {
                self.changes.notified(notice.get_channel_name());
                return Ok(true);
            }
            Some(_) => return Ok(true),
        };
        if topic != self.topic.as_bytes() {
            self.hear_slot(topic, payload);
            return Ok(true);
        }
        let Ok(payload) = std::str::from_utf8(payload) else {
            self.ready.push_back(FeedEvent::Malformed("payload is not UTF-8"));
            return Ok(true);
        };
        let (mark, message) = Envelope::decode_numbered(payload);
        match message {
            Err(malformed) => {
                // Of a newer version: counted by who sent it, so it is not lost.
                if malformed == Malformed::UnknownCommand && mark == Numbered::Plain {
                    self.gap.heard();
                }
                self.ready.push_back(FeedEvent::Malformed(malformed.as_str()));
            }
            Ok(Envelope::Probe { origin, number }) => {
                self.hear_probe(connections, origin, number)?;
            }
            // Of a script, which counts nothing, and takes a number of the log but adds nothing to it.
            Ok(envelope @ Envelope::Slots { .. }) => {
                self.slot_topics.table_changed();
                let number = match (mark, &self.cursor) {
                    (Numbered::Logged(number), Some(_)) => Some(number),
                    _ => None,
                };
                self.ready.extend(self.barrier.admit(envelope, number));
            }
            Ok(envelope) => self.hear_message(connections, mark, envelope)?,
        }
        Ok(true)
    }

    fn hear_probe(
        &mut self,
        connections: &mut Connections,
        origin: u64,
        number: u64,
    ) -> Result<()> {
        let interval = self.backend.options.probe_interval;
        match self.probes.heard(origin, number, Instant::now(), interval) {
            Whose::Former | Whose::ForeignAgain => Ok(()),
            Whose::Foreign => {
                self.ready.push_back(FeedEvent::DuplicateNode);
                Ok(())
            }
            Whose::Own(Covers { waiting, published, head }) => {
                if published.is_some() && !self.changes.was_told() {
                    return Err(self.unnotified(ErrorKind::Unavailable));
                }
                let lost = published.and_then(|published| self.gap.reconcile(published));
                if let Some(lost @ 1..) = lost {
                    self.ready.push_back(FeedEvent::Lost(lost));
                    self.tell_of_hole();
                }
                self.with_data(connections, |feed, connections| {
                    feed.release(connections, waiting)?;
                    connections.proven = true;
                    Ok(())
                })?;
                match head {
                    Some(head) => self.check_log(connections, &head),
                    None => Ok(()),
                }
            }
        }
    }

    /// The barrier has passed for the first `covered` of the waiting messages.
    fn release(&mut self, connections: &mut Connections, covered: usize) -> Result<()> {
        if covered > 0 {
            // Watched before the message was published, possibly after the last look.
            self.changes.take_over();
            self.reread(connections, usize::MAX)?;
        }
        self.ready.extend(self.barrier.open(covered));
        Ok(())
    }

    /// All that waits may pass, where the notices in front of it have been heard with it.
    fn release_heard(&mut self, connections: &mut Connections) -> Result<()> {
        let now = Instant::now();
        let due = self.rooms.due(self.barrier.channels(), now);
        if !due.is_empty() {
            self.changes.take_over();
            let (members, marked) = connections.data.members(&due, self.mark.raise())?;
            self.rooms.read(&due, now, now.elapsed());
            if self.mark.raised(marked) {
                self.ready.push_back(FeedEvent::Forgotten);
            }
            for (channel, members) in due.into_iter().zip(members) {
                let clients = self.changes.watched(members);
                self.ready.push_back(FeedEvent::Members { channel, clients });
            }
        }
        self.release(connections, self.barrier.len())
    }

    /// Reads and reports the channels of up to `limit` clients that must be read again, in pipelines of bounded
    /// size.
    fn reread(&mut self, connections: &mut Connections, limit: usize) -> Result<()> {
        if std::mem::take(&mut connections.flushed) {
            self.look_for_loss(&mut connections.data)?;
        }
        let mut left = limit;
        while left > 0 {
            let clients = self.changes.take(left.min(IDLE_CHUNK));
            if clients.is_empty() {
                break;
            }
            left -= clients.len();
            let (channels, marked) = connections.data.channels(&clients, self.mark.raise())?;
            if self.mark.raised(marked) {
                self.ready.push_back(FeedEvent::Forgotten);
            }
            let channels = clients.into_iter().zip(channels);
            self.ready.extend(
                channels.map(|(client, channels)| FeedEvent::Channels { client, channels }),
            );
        }
        connections.refreshed = Instant::now();
        Ok(())
    }

    /// Nothing was left to hear within `wait`.
    fn check_overdue(&mut self, wait: Duration) -> Result<()> {
        let limit = self.backend.options.probe_timeout;
        if !self.probes.is_overdue(wait, limit) {
            return Ok(());
        }
        let address = &self.backend.connector.address;
        let detail = format!("the node's subscription at Redis {address} was deaf for {limit:?}");
        Err(Error::new(ErrorKind::Unavailable, detail))
    }
}

impl Subscription for RedisFeed {
    fn last_echo(&self) -> Option<Echo> {
        self.probes.echo()
    }

    fn next(&mut self, timeout: Duration) -> Result<Option<FeedEvent>> {
        let mut deadline = None;
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            // Taken out, so that any error below drops the connections.
            let connections = match self.connections.take() {
                None => self.connect()?,
                Some(mut connections) => {
                    if !self.hear(&mut connections)? {
                        let deadline = *deadline.get_or_insert_with(|| Instant::now() + timeout);
                        self.step(&mut connections, deadline)?;
                    }
                    connections
                }
            };
            self.connections = Some(connections);
            let is_over = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if self.ready.is_empty() && is_over {
                return Ok(None);
            }
        }
    }
}
