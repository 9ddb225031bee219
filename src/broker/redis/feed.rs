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
//! Never sleeps. A lost data connection is replaced at once, which loses no message; any other error
//! drops both connections, and the next call opens new ones. What waited still waits, until every
//! watched client has been read again.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use redis::{Cmd, Msg, RedisResult, Value, cmd};

use super::{
    Shared,
    account::Account,
    connector::Connector,
    error, link,
    listener::{Heard, Listener},
    reply,
};
use crate::{
    broker::{
        contract::{Echo, FeedEvent, Subscription, Watchlist},
        ordered::{IDLE_CHUNK, Watched},
    },
    error::{Error, ErrorKind, Result},
    id::ClientId,
    throttle::Throttle,
    token::random_u64,
    wire::{Envelope, Malformed},
};

const INVALIDATE: &str = "__redis__:invalidate";

/// Nobody wakes the feed when the watchlist changes, so it looks that often.
const WATCHLIST_TICK: Duration = Duration::from_millis(100);

/// Between two chunks of clients that are read again without need.
const REFRESH_PAUSE: Duration = Duration::from_millis(10);

pub(super) struct RedisFeed {
    shared: Arc<Shared>,
    node: String,
    topic: String,
    client_key_prefix: String,
    watchlist: Arc<Watchlist>,
    watched: Watched,
    /// Marks our probes; `None` before the first connection.
    origin: Option<u64>,
    /// Number of the last probe, over all connections.
    probes: u64,
    link: Option<Box<Link>>,
    /// What can be handed on.
    ready: VecDeque<FeedEvent>,
    /// A channel message that waits for the barrier, and all that came behind it. Bounded by what
    /// Redis buffers for a subscriber, since the probe stands in the same stream.
    waiting: VecDeque<Envelope>,
    told_duplicate: Option<Instant>,
    /// The last probe that came back, over all connections.
    echo: Option<Echo>,
    account: Account,
    /// The data that Redis has lost, as far as it has been told.
    forgotten: u64,
    /// Whether Redis was asked what it does when its memory is full.
    knows_policy: bool,
}

struct Link {
    listener: Listener,
    data: link::Link,
    /// Whether the data connection has done all it is for since it was last replaced.
    proven: bool,
    /// The probe under way.
    probe: Option<Probe>,
    last_probe: Instant,
    refreshed: Instant,
    /// Whether the next probe must read the count of published messages, however early.
    settle: bool,
    /// Whether Redis may have lost its data since it was last asked.
    doubtful: bool,
}

struct Probe {
    number: u64,
    /// How many of the waiting messages were received before it was sent.
    covers: usize,
    sent: Instant,
    /// For how long nothing at all was heard since.
    waited: Duration,
    /// Messages counted by their senders when it was published, if it was read.
    published: Option<u64>,
}

impl RedisFeed {
    pub(super) fn new(shared: Arc<Shared>, node: &str, watchlist: Arc<Watchlist>) -> Self {
        RedisFeed {
            node: node.into(),
            topic: shared.names.node_topic(node),
            client_key_prefix: shared.names.client_key_prefix(),
            shared,
            watchlist,
            watched: Watched::default(),
            origin: None,
            probes: 0,
            link: None,
            ready: VecDeque::new(),
            waiting: VecDeque::new(),
            told_duplicate: None,
            echo: None,
            account: Account::default(),
            forgotten: 0,
            knows_policy: false,
        }
    }

    fn connect(&mut self) -> Result<Box<Link>> {
        if self.origin.is_none() {
            self.origin = Some(random_u64()?);
        }
        let connector = &self.shared.connector;
        let listener = Listener::open(connector, &[&self.topic, INVALIDATE])?;
        let mut data = self.track(&listener)?;
        let from_nothing = self.mark_count(&mut data)?;
        if !std::mem::replace(&mut self.knows_policy, true) {
            self.doubt_policy(&mut data)?;
        }
        self.ready.push_back(FeedEvent::Listening);
        let now = Instant::now();
        self.account.reconnected(from_nothing);
        Ok(Box::new(Link {
            listener,
            data,
            proven: true,
            probe: None,
            last_probe: now,
            refreshed: now,
            settle: true,
            doubtful: false,
        }))
    }

    /// Opens a data connection whose tracking notices go to the listener.
    fn track(&mut self, listener: &Listener) -> Result<link::Link> {
        let connector = &self.shared.connector;
        let mut data = connector.connect(connector.connect_deadline())?;
        let mut tracking = cmd("CLIENT");
        tracking.arg("TRACKING").arg("ON").arg("REDIRECT").arg(listener.id);
        tracking.arg("BCAST").arg("PREFIX").arg(&self.client_key_prefix);
        let reply = ask(&mut data, connector, &tracking)
            .map_err(|error| error::connect_failed(&connector.address, error))?;
        if let Some(error) = error::of_reply(&connector.address, &reply) {
            return Err(error);
        }
        // From here on no change goes unnoticed; before it, any may have.
        self.watched.mark_all();
        self.check_memory(&mut data)?;
        Ok(data)
    }

    /// Does what needs the data connection. Should that be lost alone, it is replaced on the spot:
    /// dropping the listener too would lose messages. Only once in a row, lest an error that a new
    /// connection does not cure be hidden for ever.
    fn with_data(
        &mut self,
        link: &mut Link,
        work: impl FnOnce(&mut Self, &mut Link) -> Result<()>,
    ) -> Result<()> {
        let Err(error) = work(self, link) else { return Ok(()) };
        if !std::mem::take(&mut link.proven) {
            return Err(error);
        }
        static REPLACED: Throttle = Throttle::new();
        if let Some(more) = REPLACED.admit(&error.to_string()) {
            log::warn!(reason:% = error; "node feed: {error}; replacing the data connection{more}");
        }
        link.data = self.track(&link.listener)?;
        link.probe = None;
        Ok(())
    }

    /// One turn: send a probe if one is due, read clients again if there is leisure, hear one message.
    fn step(&mut self, link: &mut Link, deadline: Instant) -> Result<()> {
        let now = Instant::now();
        self.watched.apply(&self.watchlist);
        let due = link.settle
            || now.duration_since(link.last_probe) >= self.shared.options.probe_interval;
        if link.probe.is_none() && (due || !self.waiting.is_empty()) {
            self.with_data(link, |feed, link| feed.send_probe(link, now, due))?;
        }
        if self.waiting.is_empty()
            && self.watched.any_dirty()
            && now.duration_since(link.refreshed) >= REFRESH_PAUSE
        {
            self.with_data(link, |feed, link| feed.reread(link, IDLE_CHUNK))?;
            link.refreshed = Instant::now();
            if !self.ready.is_empty() {
                return Ok(());
            }
        }
        let tick = if self.watched.any_dirty() { REFRESH_PAUSE } else { WATCHLIST_TICK };
        let wait = deadline.saturating_duration_since(now).min(tick);
        match link.listener.receive(wait)? {
            Some(Heard::Message(message)) => self.hear(link, &message),
            Some(Heard::Pong) => Ok(()),
            None => self.check_overdue(link, wait),
        }
    }

    fn hear(&mut self, link: &mut Link, message: &Msg) -> Result<()> {
        if message.get_channel_name() == INVALIDATE {
            link.doubtful |= self.invalidated(message);
            return Ok(());
        }
        let Ok(payload) = std::str::from_utf8(message.get_payload_bytes()) else {
            self.ready.push_back(FeedEvent::Malformed("payload is not UTF-8"));
            return Ok(());
        };
        match Envelope::decode(payload) {
            Err(malformed) => {
                // Of a newer version: counted by who sent it, so it is not lost.
                self.account.heard += u64::from(malformed == Malformed::UnknownCommand);
                self.ready.push_back(FeedEvent::Malformed(malformed.as_str()));
            }
            Ok(Envelope::Probe { origin, number }) if Some(origin) == self.origin => {
                if let Some(probe) = link.probe.take_if(|probe| probe.number == number) {
                    let at = Instant::now();
                    self.echo = Some(Echo { at, took: at.duration_since(probe.sent) });
                    self.settle(link, probe.published);
                    self.with_data(link, |feed, link| feed.release(link, probe.covers))?;
                }
            }
            Ok(Envelope::Probe { .. }) => self.duplicate(),
            Ok(envelope) => {
                self.account.heard += 1;
                if self.waiting.is_empty() && !needs_barrier(&envelope) {
                    self.ready.push_back(FeedEvent::Message(envelope));
                } else {
                    self.waiting.push_back(envelope);
                }
            }
        }
        Ok(())
    }

    fn settle(&mut self, link: &mut Link, published: Option<u64>) {
        let Some(published) = published else { return };
        let lost = self.account.probed(published);
        link.settle = lost.is_none();
        self.ready.extend(lost.filter(|lost| *lost > 0).map(FeedEvent::Lost));
    }

    /// Marks the clients whose hashes changed; a notice without keys means all (`FLUSHALL`), and is told.
    /// Redis sends a list or nothing; a text is what somebody else has published there.
    fn invalidated(&mut self, message: &Msg) -> bool {
        match message.get_payload::<Value>() {
            Ok(Value::Array(keys)) => {
                for key in keys {
                    let key = reply::text(key);
                    let client = key.strip_prefix(&self.client_key_prefix);
                    if let Some(client) = client.and_then(ClientId::parse_text) {
                        self.watched.mark(client);
                    }
                }
                false
            }
            Ok(Value::Nil) => {
                self.watched.mark_all();
                true
            }
            _ => false,
        }
    }

    /// Warns of a Redis that drops keys when its memory is full: presence and rooms would vanish without a
    /// word. Whoever may not ask is not told.
    fn doubt_policy(&self, data: &mut link::Link) -> Result<()> {
        let connector = &self.shared.connector;
        let mut command = cmd("INFO");
        command.arg("memory");
        let reply = ask(data, connector, &command)
            .map_err(|error| error::call_failed(&connector.address, error))?;
        let info = reply::text(reply);
        let field = |name: &str| {
            info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
        };
        let policy = field("maxmemory_policy").unwrap_or("noeviction");
        if policy != "noeviction" && field("maxmemory") != Some("0") {
            log::warn!(
                "Redis at {} has maxmemory-policy {policy}: when its memory is full it drops who is online \
                 and who is in which room, and nobody is told; set maxmemory-policy noeviction",
                connector.address
            );
        }
        Ok(())
    }

    /// Leaves a mark beside the count of messages, under what cannot be the name of a node. True if there was
    /// none: the count has begun anew.
    fn mark_count(&self, data: &mut link::Link) -> Result<bool> {
        let mark = format!("{} begun", self.node);
        let key = self.shared.names.published_key();
        let connector = &self.shared.connector;
        let mut command = cmd("HSETNX");
        command.arg(key).arg(mark).arg(1);
        let reply = ask(data, connector, &command)
            .map_err(|error| error::call_failed(&connector.address, error))?;
        // An error, out of memory or read-only, must not deafen the node: it is no 1 either.
        Ok(reply::number(reply) == 1)
    }

    /// Asks whether Redis still knows what this process reported; if not, it has lost memberships too,
    /// and that is told before any is read again.
    fn check_memory(&mut self, data: &mut link::Link) -> Result<()> {
        let sessions: Vec<_> = self.shared.reports().clone().into_iter().collect();
        let mut pipeline = redis::pipe();
        for (session, _) in &sessions {
            pipeline.cmd("EXISTS").arg(self.shared.names.ended_key(session));
            pipeline.cmd("HGET").arg(self.shared.names.sessions_key()).arg(session);
        }
        if sessions.is_empty() {
            self.tell_forgotten(false);
            return Ok(());
        }
        let connector = &self.shared.connector;
        let packed = pipeline.get_packed_pipeline();
        let replies = data
            .exchange(&packed, pipeline.len(), connector.call_deadline())
            .map_err(|error| error::call_failed(&connector.address, error))?;
        let mut replies = replies.into_iter();
        let mut lost = false;
        for (_, known) in sessions {
            let ended = reply::number(replies.next().unwrap_or(Value::Nil)) == 1;
            let value = reply::text(replies.next().unwrap_or(Value::Nil));
            let last = value.split_once(' ').and_then(|(last, _)| last.parse::<u64>().ok());
            lost |= !ended && last.is_none_or(|last| last < known.acknowledged);
        }
        self.tell_forgotten(lost);
        Ok(())
    }

    /// Tells once of each loss, whoever found it.
    fn tell_forgotten(&mut self, found: bool) {
        let forgotten = self.shared.forgotten.load(Ordering::Acquire);
        if found || forgotten != self.forgotten {
            self.forgotten = forgotten;
            self.ready.push_back(FeedEvent::Forgotten);
        }
    }

    /// Another process probes itself on our topic. Said once per interval: it goes on for ever.
    fn duplicate(&mut self) {
        let interval = self.shared.options.probe_interval;
        if self.told_duplicate.is_none_or(|told| told.elapsed() >= interval) {
            self.told_duplicate = Some(Instant::now());
            self.ready.push_back(FeedEvent::DuplicateNode);
        }
    }

    /// The barrier has passed for the first `covered` of the waiting messages.
    fn release(&mut self, link: &mut Link, covered: usize) -> Result<()> {
        if covered > 0 {
            // Watched before the message was published, possibly after the last look.
            self.watched.apply(&self.watchlist);
            self.reread(link, usize::MAX)?;
            link.refreshed = Instant::now();
        }
        link.proven = true;
        let covered = self.waiting.drain(..covered).map(FeedEvent::Message);
        self.ready.extend(covered);
        while self.waiting.front().is_some_and(|envelope| !needs_barrier(envelope)) {
            self.ready.extend(self.waiting.pop_front().map(FeedEvent::Message));
        }
        Ok(())
    }

    /// Reads and reports the channels of up to `limit` dirty clients, in pipelines of bounded size.
    fn reread(&mut self, link: &mut Link, limit: usize) -> Result<()> {
        match std::mem::take(&mut link.doubtful) {
            true => {
                self.check_memory(&mut link.data)?;
                // After `FLUSHALL` too the mark must be there, lest the next reconnect mistake it.
                self.mark_count(&mut link.data)?;
            }
            false => self.tell_forgotten(false),
        }
        let address = &self.shared.connector.address;
        let mut left = limit;
        while left > 0 {
            let clients = self.watched.take_dirty(left.min(IDLE_CHUNK));
            if clients.is_empty() {
                break;
            }
            left -= clients.len();
            let mut pipeline = redis::pipe();
            for client in &clients {
                pipeline.cmd("HKEYS").arg(self.shared.names.client_key(*client));
            }
            let packed = pipeline.get_packed_pipeline();
            let replies = link
                .data
                .exchange(&packed, clients.len(), self.shared.connector.call_deadline())
                .map_err(|error| error::call_failed(address, error))?;
            for reply in &replies {
                // A key of a foreign type holds no channels; it must not deafen the node for ever.
                if let Some(error) = error::of_reply(address, reply)
                    && !error::is_wrong_type(reply)
                {
                    return Err(error);
                }
            }
            for (client, names) in clients.into_iter().zip(replies) {
                let channels = reply::texts(names);
                self.ready.push_back(FeedEvent::Channels { client, channels });
            }
        }
        Ok(())
    }

    /// Publishes a probe, with `count` in one transaction with a look at what was published before it.
    fn send_probe(&mut self, link: &mut Link, now: Instant, count: bool) -> Result<()> {
        self.probes += 1;
        let number = self.probes;
        let origin = self.origin.unwrap_or_default();
        let payload = Envelope::Probe { origin, number }.encode();
        let address = &self.shared.connector.address;
        let mut pipeline = redis::pipe();
        if count {
            pipeline.atomic();
            pipeline.cmd("HGET").arg(self.shared.names.published_key()).arg(&self.node);
        }
        pipeline.cmd("PUBLISH").arg(&self.topic).arg(payload);
        // Within a transaction each command is answered twice: MULTI, two QUEUED, then the replies.
        let answers = if count { 4 } else { 1 };
        // That the data connection answers proves that tracking is still on.
        let packed = pipeline.get_packed_pipeline();
        let mut replies = link
            .data
            .exchange(&packed, answers, self.shared.connector.call_deadline())
            .map_err(|error| error::call_failed(address, error))?;
        if let Some(error) = replies.iter().find_map(|reply| error::of_reply(address, reply)) {
            return Err(error);
        }
        let mut last = replies.pop().unwrap_or(Value::Nil);
        let mut published = None;
        if count {
            let mut results = reply::items(last).into_iter();
            published = results.next().map(|count| reply::number(count).max(0) as u64);
            last = results.next().unwrap_or(Value::Nil);
        }
        if reply::number(last) == 0 {
            let detail = format!("Redis at {address} no longer knows the node's subscription");
            return Err(Error::new(ErrorKind::Unavailable, detail));
        }
        link.last_probe = now;
        let covers = self.waiting.len();
        link.probe = Some(Probe { number, covers, sent: now, waited: Duration::ZERO, published });
        Ok(())
    }

    /// Nothing was left to hear within `wait`: a probe for which was waited too long will not come back.
    /// Counted in waits and not by the clock: a process that was stopped, or suspended with its machine, has
    /// not waited meanwhile.
    fn check_overdue(&self, link: &mut Link, wait: Duration) -> Result<()> {
        let limit = self.shared.options.probe_timeout;
        let Some(probe) = &mut link.probe else { return Ok(()) };
        probe.waited += wait;
        if probe.waited < limit {
            return Ok(());
        }
        let address = &self.shared.connector.address;
        let detail = format!("the node's subscription at Redis {address} was deaf for {limit:?}");
        Err(Error::new(ErrorKind::Unavailable, detail))
    }
}

/// One command and its reply.
fn ask(data: &mut link::Link, connector: &Connector, command: &Cmd) -> RedisResult<Value> {
    let packed = command.get_packed_command();
    let mut replies = data.exchange(&packed, 1, connector.call_deadline())?;
    Ok(replies.pop().unwrap_or(Value::Nil))
}

/// Only messages whose receivers follow from channels depend on joins and leaves before them.
fn needs_barrier(envelope: &Envelope) -> bool {
    matches!(envelope, Envelope::Channel { channel: Some(_), .. })
}

impl Subscription for RedisFeed {
    fn last_echo(&self) -> Option<Echo> {
        self.echo
    }

    fn next(&mut self, timeout: Duration) -> Result<Option<FeedEvent>> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            // Taken out, so that any error below drops the connections.
            let link = match self.link.take() {
                None => self.connect()?,
                Some(mut link) => {
                    self.step(&mut link, deadline)?;
                    link
                }
            };
            self.link = Some(link);
            if self.ready.is_empty() && Instant::now() >= deadline {
                return Ok(None);
            }
        }
    }
}
