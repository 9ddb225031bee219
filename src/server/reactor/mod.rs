//! A reactor thread: the event loop that owns live connections. Read [`Reactor::turn`] first.
//!
//! Single-threaded; never blocks, never calls the broker. What it needs from outside comes through its
//! inbox, what it has to tell goes out through queues that do not make it wait.

mod adopt;
mod arriving;
mod deliver;
mod departing;
mod drain;
mod flush;
pub(super) mod hub;
mod parked;
mod resume;
mod rosters;
mod seen;
mod upkeep;

use std::{
    collections::HashSet,
    io,
    sync::{
        Arc,
        atomic::AtomicU64,
        mpsc::{Sender, SyncSender},
    },
    time::{Duration, Instant},
};

use mio::{Events, Poll, Token, event::Event};
use slab::Slab;

use crate::{
    broker::{PresenceChange, Watchlist},
    id::ClientId,
    server::{
        config::Limits,
        connection::{
            Connection, Context, ReadOutcome,
            continuity::Keep,
            limits::ConnectionLimits,
            outbox::Tally,
            place::Place,
            receipt::Notices,
            runs::Runs,
            ticks::{self, Ticks},
        },
        follow::{Followers, Follows},
        heartbeat,
        inbox::Inbox,
        message::{Command, Report, SlotNews},
        node::{Node, Origin},
        ownership::Departures,
        reasons::CloseReason,
        stats::{
            counters::{Counters, add},
            pulse::Pulse,
        },
        transport::{Socket, Transport},
    },
    wire::Position,
};
use arriving::Arriving;
use deliver::Delivery;
use departing::Departing;
use drain::Drain;
use flush::Pending;
use hub::{Hub, Key};
use parked::Parking;

pub(super) const WAKE: Token = Token(usize::MAX);
/// Commands per turn, counted by the connections they concern, so that sockets are looked at between them and
/// within a large one.
/// Under load this is also what merges: messages of one turn to one client go out in one write.
const WORK_PER_TURN: usize = 2048;
/// The wait for a publisher that has too much to do.
const SOON: Duration = Duration::from_millis(5);
/// Size of the one read buffer that all connections share.
const SCRATCH: usize = 16 << 10;
/// What a turn takes at most, besides its wait, unless the process was stopped.
const LONGEST_TURN: Duration = Duration::from_secs(1);

/// What a reactor has of its node, and its queues.
pub(super) struct ReactorParts<S> {
    poll: Poll,
    inbox: Inbox<Command<S>>,
    presence: Sender<Report>,
    publisher: Notices,
    watchlist: Arc<Watchlist>,
    limits: Limits,
    pub(super) counters: Arc<Counters>,
    pulse: Arc<Pulse>,
    live: Arc<AtomicU64>,
    origin: Arc<Origin>,
    /// Which of all reactors it is, and how many there are.
    index: usize,
    reactors: usize,
    /// What is for clients of other nodes, where slots are served.
    onward: Option<SyncSender<SlotNews>>,
    departures: Arc<Departures>,
    follows: Arc<Follows>,
    /// How long clients are kept whose tickets say nothing of it.
    keep: Keep,
}

/// One event loop and all it owns.
pub(super) struct Reactor<S = Transport> {
    pub(super) parts: ReactorParts<S>,
    pub(super) limits: ConnectionLimits,
    pub(super) connections: Slab<Connection<S>>,
    parking: Parking,
    /// Clients that are sent on to other nodes.
    departing: Departing,
    /// Clients that come from other nodes.
    arriving: Arriving<S>,
    /// Clients that went from a connection to being waited for, by their keys, since the message that is under way began.
    moved: Vec<(Key, Key)>,
    pub(super) hub: Hub,
    /// How far the order of messages is.
    pub(super) place: Place,
    pending: Pending,
    /// Connections that may have more to read.
    unread: Vec<Key>,
    /// Connections that may be gone, for the reaper.
    ending: Vec<Key>,
    /// Messages that were written since the last count.
    pub(super) written: Tally,
    /// What clients were written in common.
    pub(super) runs: Runs,
    pub(super) scratch: Box<[u8]>,
    /// The message that is handed on over several turns.
    pub(super) delivery: Option<Delivery>,
    pub(super) work_per_turn: usize,
    /// Messages that were offered to connections since the last count.
    pub(super) offered: u64,
    /// Those who follow something, as of the beginning of this turn.
    followers: Option<Followers>,
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
            pulse: Arc::clone(&node.pulse),
            live: Arc::clone(&node.live),
            origin: Arc::clone(&node.origin),
            index: 0,
            reactors: node.config.reactors,
            onward: None,
            departures: Arc::clone(&node.departures),
            follows: Arc::clone(&node.follows),
            keep: Keep::new(node.config.keep),
        };
        let now = Instant::now();
        Reactor {
            limits: ConnectionLimits::of(&node.config),
            connections: Slab::new(),
            parking: Parking::default(),
            departing: Departing::default(),
            arriving: Arriving::default(),
            moved: Vec::new(),
            place: Place::new(Arc::clone(&node.epoch)),
            hub: Hub::default(),
            pending: Pending::default(),
            unread: Vec::new(),
            ending: Vec::new(),
            written: Tally::default(),
            runs: Runs::default(),
            scratch: vec![0; SCRATCH].into(),
            delivery: None,
            work_per_turn: WORK_PER_TURN,
            offered: 0,
            followers: None,
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

    /// The one of this number, which hands on what is for clients of other nodes.
    pub(super) fn numbered(mut self, index: usize, onward: Option<SyncSender<SlotNews>>) -> Self {
        (self.parts.index, self.parts.onward) = (index, onward);
        self
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
        let dues = [self.departing.at, self.arriving.at];
        let next_at = dues.into_iter().flatten().fold(self.sweep_at, Instant::min);
        let wait = next_at.saturating_duration_since(self.at);
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
        self.now = ticks::at(self.clock);
    }

    /// The turn after the wait; here a simulation comes in.
    pub(super) fn work(&mut self, ready: impl Iterator<Item = Ready>) -> Next {
        self.look_who_follows();
        // 2. Sockets: room to write, then bytes to read. Before the commands: who is found to be gone here gets no more
        //    messages, and who has read again is not judged by what it had not read.
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
        // 3. Commands: they only enqueue and mark, so that several messages to one client go out in one write.
        let more = self.take_commands();
        // 4. Write what is marked. After the commands, or their messages would wait for another turn.
        self.flush_pending();
        // 5. Look after the silent and the stuck. After the writes: what the sockets took just now counts for them.
        if self.at >= self.sweep_at {
            self.sweep();
        }
        if self.departing.at.is_some_and(|at| self.at >= at) {
            self.depart();
        }
        if self.arriving.at.is_some_and(|at| self.at >= at) && self.delivery.is_none() {
            self.look_who_arrives();
        }
        self.settle_written();
        // 6. Let go of what is gone. Last: until here every key that this turn has noted means the connection that it meant
        //    when it was noted.
        self.reap();
        self.check();
        if more || !self.pending.is_empty() || !self.unread.is_empty() {
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
                return adopt::WORK;
            }
            Command::Direct { sender, receivers, message, receipt, origin } => {
                self.begin(message.position());
                let receivers = receivers.into_iter();
                let delivery = Delivery::Direct { sender, receivers, message, receipt, origin };
                return self.deliver(delivery, most);
            }
            Command::Channel { sender, channel: Some(channel), message } => {
                self.begin(message.position());
                self.see_channel_message(Some(&channel), &message);
                self.gather_channel(&sender, Some(&channel), &message);
                let Some(plan) = self.hub.plan(&sender, &channel) else {
                    self.place.settle();
                    return 1;
                };
                return 1 + self.deliver(Delivery::Channel { plan, message }, most);
            }
            Command::Channel { sender, channel: None, message } => {
                self.begin(message.position());
                self.see_channel_message(None, &message);
                self.gather_channel(&sender, None, &message);
                let own = self.hub.own(&sender);
                return 1 + self.deliver(Delivery::All { next: 0, own, message }, most);
            }
            Command::Rejoin => {
                self.hub.restore();
                self.rejoin();
            }
            Command::Rejoined => {
                // Its answer to this says who has left meanwhile.
                let clients = self.hub.restored();
                clients.into_iter().for_each(|client| self.parts.watchlist.watch(client));
            }
            Command::Channels { client, channels } => {
                self.channels_known(&client, &channels);
                let before = self.channels_before(&client);
                self.hub.set_channels(&client, channels);
                self.see_channels(&client, before);
            }
            Command::Members { channel, clients } => self.members(&channel, clients),
            Command::ForceOffline(client) => self.force_offline(&client),
            Command::Roster(news) => return self.roster(news, most),
            Command::Positions { epoch, position, hole } => self.go_on(epoch, position, hole),
            Command::Park { client, connection, keep, from } => {
                self.park_former(client, connection, Keep::new(keep), from);
            }
            Command::Own(ownership) => self.own(ownership),
            Command::Given { slot, to, version, position, from } => {
                self.given(slot, &to, version, position, from);
            }
            Command::HandedOver { slot } => self.handed_over(slot),
            Command::Arrive(arrival) => self.arrive(*arrival),
            Command::Arrived { slot, version } => self.arrived(slot, version),
            Command::Drain => self.begin_drain(),
        }
        1
    }

    fn members(&mut self, channel: &str, clients: Vec<ClientId>) {
        let before: Option<Vec<_>> = self.followers.is_some().then(|| {
            let all: HashSet<_> = self.hub.members(channel).chain(&clients).cloned().collect();
            let before = |client: ClientId| (self.channels_before(&client), client);
            all.into_iter().map(before).collect()
        });
        self.hub.set_members(channel, clients);
        for (before, client) in before.into_iter().flatten() {
            self.see_channels(&client, before);
        }
    }

    fn force_offline(&mut self, client: &ClientId) {
        self.gather_kick(client);
        for key in self.hub.connections(client).to_vec() {
            self.close(key, CloseReason::Kicked);
            self.end_parked(key, CloseReason::Kicked);
        }
    }

    /// A message begins to be handed on. Who moves from here on is followed; who has moved before stands where it is in
    /// the hub, and its former key may be another's by now.
    fn begin(&mut self, position: Position) {
        self.moved.clear();
        self.parking.begin();
        self.place.begin(position);
    }

    /// The socket takes more.
    fn wake(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key as usize)
            && connection.takes_more()
        {
            self.mark_urgent(key);
        }
    }

    fn read(&mut self, key: Key, to_end: bool) {
        let (limits, place, tally, runs) =
            (&self.limits, &mut self.place, &mut self.written, &mut self.runs);
        let mut cx = Context { now: self.now, limits, place, tally, runs };
        let Some(connection) = self.connections.get_mut(key as usize) else { return };
        let before = connection.unsent();
        if connection.read(&mut self.scratch, to_end, &mut cx) == ReadOutcome::More {
            self.unread.push(key);
        }
        // What waited before does so in its place, or an acknowledgement amid a busy channel would cost a write.
        if connection.unsent() != before {
            self.mark_urgent(key);
        }
        self.note_phase(key);
    }

    fn close(&mut self, key: Key, reason: CloseReason) {
        let (pause, before) = (self.pause(reason), self.unwritten_of(key));
        let (connections, mut cx) = self.split();
        let Some(connection) = connections.get_mut(key as usize) else { return };
        let who = before.as_ref().map(|_| (connection.client().clone(), connection.number));
        let dropped = connection.close(reason, pause, &mut cx);
        if let Some((client, number)) = who {
            self.see_dropped((&client, number), before, self.unwritten_of(key), reason);
        }
        self.settle_dropped(reason, dropped);
        self.mark_urgent(key);
        self.note_phase(key);
    }

    /// The connections, and what they work with.
    fn split(&mut self) -> (&mut Slab<Connection<S>>, Context<'_>) {
        let (limits, place, tally, runs) =
            (&self.limits, &mut self.place, &mut self.written, &mut self.runs);
        (&mut self.connections, Context { now: self.now, limits, place, tally, runs })
    }

    /// Lists a connection that is no longer open for the reaper, who takes it out of the hub at the end of the turn, unless
    /// its client is waited for.
    fn note_phase(&mut self, key: Key) {
        let Some(connection) = self.connections.get(key as usize) else { return };
        if let Some(reason) = connection.ending() {
            self.park(key, reason);
            self.ending.push(key);
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
