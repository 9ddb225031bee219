//! A reactor thread: the event loop that owns live connections. Read [`Reactor::turn`] first.
//!
//! Single-threaded; never blocks, never calls the broker. What it needs from outside comes through its
//! inbox, what it has to tell goes out through queues that do not make it wait.

mod deliver;
pub(super) mod hub;
mod upkeep;

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::Sender,
    },
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token, event::Event};
use slab::Slab;

use crate::{
    broker::{PresenceChange, Watchlist},
    id::ClientId,
    server::{
        config::Limits,
        connection::{
            Connection, ConnectionLimits, ReadOutcome, outbox::Written, receipt::Notices,
            ticks::Ticks,
        },
        heartbeat,
        inbox::Inbox,
        message::{Adoption, Command, Report},
        node::Node,
        reasons::CloseReason,
        stats::counters::{Counters, add},
        transport::{Socket, Transport},
    },
};
use deliver::Delivery;
use hub::{Hub, Key};
use upkeep::Drain;

pub(super) const WAKE: Token = Token(usize::MAX);
/// Commands per turn, counted by the connections they concern, so that sockets are looked at between them and
/// within a large one.
/// Under load this is also what merges: messages of one turn to one client go out in one write.
const WORK_PER_TURN: usize = 2048;
/// What taking over a socket counts for: it costs system calls.
const ADOPTION: usize = 16;
/// The wait for a publisher that has too much to do.
const SOON: Duration = Duration::from_millis(5);
/// Connections of bulk traffic (channels, broadcast) that are flushed per turn: what a message to one
/// client waits for at most.
const BULK_PER_TURN: usize = 64;
/// Size of the one read buffer that all connections share.
const SCRATCH: usize = 16 << 10;
/// What a turn takes at most, besides its wait, unless the process was stopped.
const LONGEST_TURN: Duration = Duration::from_secs(1);
/// Ticks in a second.
const TICKS: u32 = 10;

/// What a reactor has of its node, and its queues.
pub(super) struct ReactorParts<S> {
    poll: Poll,
    inbox: Inbox<Command<S>>,
    presence: Sender<Report>,
    publisher: Notices,
    watchlist: Arc<Watchlist>,
    limits: Limits,
    pub(super) counters: Arc<Counters>,
    live: Arc<AtomicU64>,
}

/// One event loop and all it owns.
pub(super) struct Reactor<S = Transport> {
    pub(super) parts: ReactorParts<S>,
    pub(super) limits: ConnectionLimits,
    pub(super) connections: Slab<Connection<S>>,
    pub(super) hub: Hub,
    /// Connections with something to flush, each listed once; bulk is taken in slices.
    urgent: Vec<Key>,
    bulk: VecDeque<Key>,
    /// Connections that may have more to read.
    unread: Vec<Key>,
    /// Connections that may be gone, for the reaper.
    ending: Vec<Key>,
    pub(super) written: Written,
    pub(super) scratch: Box<[u8]>,
    /// The message that is handed on over several turns.
    pub(super) delivery: Option<Delivery>,
    pub(super) work_per_turn: usize,
    /// Messages that were offered to connections since the last count.
    pub(super) offered: u64,
    /// For the keys of a receiver, so that they need no allocation.
    keys: Vec<Key>,
    /// When this turn began: the clock is read once a turn.
    at: Instant,
    /// The reactor's own time then, and in ticks.
    clock: Duration,
    pub(super) now: Ticks,
    pub(super) sweep_at: Instant,
    sweep_from: usize,
    pub(super) drain: Option<Drain>,
}

/// When the next turn is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Work was carried over.
    AtOnce,
    /// A message waits for the publisher.
    Soon,
    /// Something happens, or the next sweep.
    Wait,
}

/// What the poll says of a socket.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) key: Key,
    pub(super) writable: bool,
    pub(super) readable: bool,
    /// The peer has closed its side, or the socket is broken.
    pub(super) ended: bool,
}

impl Ready {
    fn of(event: &Event) -> Self {
        Ready {
            key: event.token().0 as Key,
            writable: event.is_writable(),
            readable: event.is_readable(),
            ended: event.is_read_closed() || event.is_error(),
        }
    }
}

fn ticks(duration: Duration) -> Ticks {
    (duration.as_millis() as u32 / (1000 / TICKS)).max(1)
}

impl<S: Socket> Reactor<S> {
    pub(super) fn new(
        node: &Node,
        poll: Poll,
        inbox: Inbox<Command<S>>,
        presence: Sender<Report>,
        publisher: Notices,
    ) -> Self {
        let parts = ReactorParts {
            poll,
            inbox,
            presence,
            publisher,
            watchlist: Arc::clone(&node.watchlist),
            limits: node.config.limits.clone(),
            counters: node.pulse.new_counters(),
            live: Arc::clone(&node.live),
        };
        let limits = &parts.limits;
        let sweep_share = limits.sweep.as_secs_f64();
        let connection_limits = ConnectionLimits {
            echo: node.config.echo,
            message_bytes: limits.inbound_message_bytes,
            message_time: ticks(limits.inbound_message_time),
            // At least one whole message with its header must pass between two looks.
            inbound_bytes: (limits.inbound_rate as f64 * sweep_share)
                .max(2.0 * limits.inbound_message_bytes as f64)
                .min(f64::from(u32::MAX / 2)) as u32,
            ping_after: ticks(limits.ping_after),
            pong_within: ticks(limits.pong_within),
            outbox_bytes: limits.outbox_bytes,
            outbox_stall: ticks(limits.outbox_stall),
            outbox_age: ticks(limits.outbox_age),
            linger: ticks(limits.linger),
        };
        let now = Instant::now();
        Reactor {
            limits: connection_limits,
            connections: Slab::new(),
            hub: Hub::default(),
            urgent: Vec::new(),
            bulk: VecDeque::new(),
            unread: Vec::new(),
            ending: Vec::new(),
            written: Written::default(),
            scratch: vec![0; SCRATCH].into(),
            delivery: None,
            work_per_turn: WORK_PER_TURN,
            offered: 0,
            keys: Vec::new(),
            at: now,
            clock: Duration::ZERO,
            now: 0,
            sweep_at: now,
            sweep_from: 0,
            drain: None,
            parts,
        }
    }

    /// Runs until drained.
    pub(super) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut next = Next::Wait;
        loop {
            next = self.turn(&mut events, next)?;
            if let Some(drain) = &self.drain
                && (self.connections.is_empty() || self.at >= drain.until)
            {
                self.finish();
                return Ok(());
            }
        }
    }

    /// One turn, always in this order. Returns when the next is due.
    fn turn(&mut self, events: &mut Events, next: Next) -> io::Result<Next> {
        // 1. Wait, unless there is work left.
        let wait = self.sweep_at.saturating_duration_since(self.at);
        let timeout = match next {
            Next::AtOnce => Duration::ZERO,
            Next::Soon => wait.min(SOON),
            Next::Wait => wait,
        };
        if let Err(error) = heartbeat::wait(|| self.parts.poll.poll(events, Some(timeout)))
            && error.kind() != io::ErrorKind::Interrupted
        {
            return Err(error);
        }
        self.pass(Instant::now(), timeout);
        Ok(self.work(events.iter().filter(|event| event.token() != WAKE).map(Ready::of)))
    }

    /// It is `now`. Lets the reactor's own time go on after a wait of up to `waited`. It stands still while the process or
    /// its machine does: nobody is silent or slow because this side was stopped.
    pub(super) fn pass(&mut self, now: Instant, waited: Duration) {
        self.clock += now.saturating_duration_since(self.at).min(waited + LONGEST_TURN);
        self.at = now;
        self.now = (self.clock.as_millis() / u128::from(1000 / TICKS)) as Ticks;
    }

    /// The turn after the wait; here a simulation comes in.
    pub(super) fn work(&mut self, ready: impl Iterator<Item = Ready>) -> Next {
        // 2. Sockets: room to write, then bytes to read.
        for key in std::mem::take(&mut self.unread) {
            self.read(key, true);
        }
        for Ready { key, writable, readable, ended } in ready {
            if writable {
                self.wake(key);
            }
            if readable || ended {
                self.read(key, ended);
            }
        }
        // 3. Commands: they only enqueue and mark.
        let more = self.take_commands();
        // 4. Flush what is marked: messages to single clients first, then a slice of the rest.
        let mut urgent = std::mem::take(&mut self.urgent);
        urgent.drain(..).for_each(|key| self.flush(key));
        self.urgent = urgent;
        // Not amid a message to many: those who get several in a row then get them in one write.
        let amid_many = self.delivery.as_ref().is_some_and(Delivery::is_to_many);
        for _ in 0..if amid_many { 0 } else { BULK_PER_TURN } {
            match self.bulk.pop_front() {
                Some(key) => self.flush(key),
                None => break,
            }
        }
        // 5. Look after the silent and the stuck.
        if self.at >= self.sweep_at {
            self.sweep();
        }
        self.settle_written();
        // 6. Let go of what is gone.
        self.reap();
        self.check();
        if more || !self.bulk.is_empty() || !self.urgent.is_empty() || !self.unread.is_empty() {
            return Next::AtOnce;
        }
        if self.delivery.is_some() { Next::Soon } else { Next::Wait }
    }

    /// Takes commands until the turn has its share of work; whether there may be more of it at once. One that
    /// is under way comes before all others, so that no message overtakes another.
    fn take_commands(&mut self) -> bool {
        self.parts.inbox.open();
        let mut left = self.work_per_turn;
        while left > 0 {
            let done = match self.delivery.take() {
                Some(delivery) => self.deliver(delivery, left),
                None => match self.parts.inbox.pop() {
                    Some(command) => self.obey(command, left),
                    None => return false,
                },
            };
            if done == 0 && self.delivery.is_some() {
                return false;
            }
            left = left.saturating_sub(done);
        }
        true
    }

    /// Does what is asked, or a beginning of it of about `most`, and says how much of the turn's work that
    /// was.
    pub(super) fn obey(&mut self, command: Command<S>, most: usize) -> usize {
        match command {
            Command::Adopt(adoption) => {
                self.adopt(*adoption);
                return ADOPTION;
            }
            Command::Direct { sender, receivers, frame, receipt } => {
                let receivers = receivers.into_iter();
                return self.deliver(Delivery::Direct { sender, receivers, frame, receipt }, most);
            }
            Command::Channel { sender, channel: Some(channel), frame } => {
                let Some(plan) = self.hub.plan(sender, &channel) else { return 1 };
                return 1 + self.deliver(Delivery::Channel { plan, frame }, most);
            }
            Command::Channel { sender, channel: None, frame } => {
                let own = self.hub.own(sender);
                return 1 + self.deliver(Delivery::All { next: 0, own, frame }, most);
            }
            Command::Rejoin => self.rejoin(),
            Command::Channels { client, channels } => self.hub.set_channels(client, channels),
            Command::ForceOffline(client) => {
                for key in self.hub.connections(client).to_vec() {
                    self.close(key, CloseReason::Kicked);
                }
            }
            Command::Drain => self.begin_drain(),
        }
        1
    }

    /// Takes a socket over. It is in the hub before its peer sees the 101, and reported after.
    fn adopt(&mut self, adoption: Adoption<S>) {
        let Adoption { stream, ticket, number, response, mut leftover } = adoption;
        if self.drain.is_some() {
            self.parts.live.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let client = ticket.client();
        let entry = self.connections.vacant_entry();
        let key = entry.key();
        let mut connection = Connection::new(stream, ticket, number, self.now);
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registry = self.parts.poll.registry();
        if let Err(error) = registry.register(connection.stream_mut(), Token(key), interest) {
            log::warn!("conn={number} client={client} cannot be watched: {error}");
            self.parts.live.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        connection.enqueue_control(response);
        if !leftover.is_empty() {
            connection.receive(&mut leftover, self.now, &self.limits);
        }
        if connection.has_unread() {
            self.unread.push(key as Key);
        }
        entry.insert(connection);
        add(&self.parts.counters.opened, 1);
        if self.hub.insert(client, key as Key) {
            self.parts.watchlist.watch(client);
        }
        self.mark_urgent(key as Key);
        self.note_phase(key as Key);
        self.close_beyond_limit(client);
    }

    /// A client with too many connections loses its oldest: a page that lost its network comes back before
    /// its former socket is known to be dead.
    fn close_beyond_limit(&mut self, client: ClientId) {
        let keys = self.hub.connections(client);
        if keys.len() <= self.parts.limits.connections_per_client {
            return;
        }
        let is_open =
            |key: &&Key| self.connections.get(**key as usize).is_some_and(|c| c.is_open());
        let open: Vec<_> = keys.iter().filter(is_open).copied().collect();
        let beyond = open.len().saturating_sub(self.parts.limits.connections_per_client);
        for key in &open[..beyond] {
            self.close(*key, CloseReason::TooMany);
        }
    }

    /// The socket takes more.
    fn wake(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key as usize) {
            connection.takes_more();
            self.mark_urgent(key);
        }
    }

    fn mark_urgent(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key as usize)
            && !std::mem::replace(&mut connection.in_urgent, true)
        {
            self.urgent.push(key);
        }
    }

    fn mark_bulk(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key as usize)
            && !std::mem::replace(&mut connection.in_bulk, true)
        {
            self.bulk.push_back(key);
        }
    }

    fn flush(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key as usize) else { return };
        connection.in_urgent = false;
        connection.in_bulk = false;
        if connection.has_output() {
            connection.flush(self.now, &self.limits, &mut self.written);
        }
        if !connection.reported && connection.is_open() && !connection.has_output() {
            // The 101 is on its way: from here on the client may count as online.
            connection.reported = true;
            self.report_opened(key);
        }
        self.note_phase(key);
    }

    fn read(&mut self, key: Key, to_end: bool) {
        let Some(connection) = self.connections.get_mut(key as usize) else { return };
        if connection.read(&mut self.scratch, to_end, self.now, &self.limits) == ReadOutcome::More {
            self.unread.push(key);
        }
        if connection.has_output() {
            self.mark_urgent(key);
        }
        self.note_phase(key);
    }

    fn close(&mut self, key: Key, reason: CloseReason) {
        let Some(connection) = self.connections.get_mut(key as usize) else { return };
        let dropped = connection.close(reason, self.now, &self.limits);
        self.settle_dropped(reason, dropped);
        self.mark_urgent(key);
        self.note_phase(key);
    }

    /// A connection that no longer delivers leaves the hub at once; one that is gone is listed for the reaper.
    fn note_phase(&mut self, key: Key) {
        let Some(connection) = self.connections.get(key as usize) else { return };
        if !connection.is_open() {
            self.ending.push(key);
        }
    }

    fn report_opened(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key as usize) else { return };
        let number = connection.number;
        if let Some(ticket) = connection.take_ticket() {
            self.report(PresenceChange::Opened { connection: number, ticket });
        }
    }

    fn report(&self, change: PresenceChange) {
        self.tell(Report::Change(change));
    }

    fn tell(&self, report: Report) {
        // Fails only when the presence thread has ended, which it does after the reactors.
        let _ = self.parts.presence.send(report);
        add(&self.parts.counters.presence_queued, 1);
    }
}
