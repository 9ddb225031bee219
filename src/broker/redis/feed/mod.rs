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

mod barrier;
mod gap;
mod memory;

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use redis::{Msg, Value, cmd};

use self::{
    barrier::{Probe, needs_barrier},
    gap::Account,
    memory::ask,
};
use super::{
    backend::Backend,
    link::{
        connection, error,
        listener::{Heard, Listener},
        reply,
    },
};
use crate::{
    broker::{
        contract::{Echo, FeedEvent, Subscription, Watchlist},
        ordered::{IDLE_CHUNK, Watched},
    },
    error::Result,
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
    backend: Arc<Backend>,
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
    data: connection::Link,
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

impl RedisFeed {
    pub(super) fn new(backend: Arc<Backend>, node: &str, watchlist: Arc<Watchlist>) -> Self {
        RedisFeed {
            node: node.into(),
            topic: backend.layout.node_topic(node),
            client_key_prefix: backend.layout.client_key_prefix(),
            backend,
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
        let connector = &self.backend.connector;
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
    fn track(&mut self, listener: &Listener) -> Result<connection::Link> {
        let connector = &self.backend.connector;
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
            || now.duration_since(link.last_probe) >= self.backend.options.probe_interval;
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

    /// Another process probes itself on our topic. Said once per interval: it goes on for ever.
    fn duplicate(&mut self) {
        let interval = self.backend.options.probe_interval;
        if self.told_duplicate.is_none_or(|told| told.elapsed() >= interval) {
            self.told_duplicate = Some(Instant::now());
            self.ready.push_back(FeedEvent::DuplicateNode);
        }
    }
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
