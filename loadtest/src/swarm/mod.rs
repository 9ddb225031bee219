//! A swarm: one client process that holds thousands of sockets in one event loop.
//!
//! Runs as a child of the conductor (`loadtest swarm`), which sends orders on standard input; ends when
//! that closes. Threads: this loop, one that reads orders, one that asks the helper ([`tickets`]). The loop does
//! as little as it can per message: the instrument must stay ahead of what it measures.

mod audit;
mod client;
mod dialer;
mod pause;
mod resume;
mod returns;
mod socket;
mod stream;
mod tally;
mod tickets;

pub use pause::{End, Failures, pause};
pub use resume::{ACKNOWLEDGE_EVERY, Frame, Place, asking};
pub use tickets::{Way, helper, parse};

use std::{
    io::{self, BufRead, Write},
    sync::{
        Arc,
        mpsc::{Receiver, channel},
    },
    thread,
    time::Duration,
};

use mio::{Events, Poll, Token, Waker};

use crate::{
    clock,
    orders::{Deployment, Note, Order},
};
use audit::audit;
use client::{After, Client};
use dialer::Dialer;
use returns::{ATTEMPT, Returns, Step};
use tally::Tally;
use tickets::{Given, Tickets, Want};

const WAKE: Token = Token(usize::MAX);
/// Tickets that may wait for their connect: more could expire before their turn.
const TICKETS_AHEAD: usize = 20_000;
/// Longest time that a status may be behind, and its time between two while things change.
const REPORT_EVERY: u64 = 2_000_000;
/// Changes that are reported at once, so that a full window does not wait for the clock.
const REPORT_AT: u64 = 256;
/// One read: everything that a socket usually has.
const SCRATCH: usize = 256 << 10;

struct Swarm {
    poll: Poll,
    /// A client's place here is its key, and the token of its socket.
    /// Sockets that their clients have given up without a word.
    abandoned: Vec<socket::Socket>,
    clients: Vec<Client>,
    dialer: Dialer,
    /// None without a deployment: a floor wants no ticket.
    tickets: Option<Tickets>,
    returns: Returns,
    tally: Tally,
    orders: Receiver<Order>,
    scratch: Box<[u8]>,
    reported: (u64, u64),
    end: bool,
    /// Held so that the last wake-up of a thread that ends is not closed with it.
    _waker: Arc<Waker>,
}

/// The whole life of a swarm process.
pub fn run(deployment: Option<Deployment>) -> io::Result<()> {
    let poll = Poll::new()?;
    let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
    let (sender, orders) = channel();
    let order_waker = Arc::clone(&waker);
    thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            let Ok(order) = serde_json::from_str::<Order>(&line) else { break };
            if sender.send(order).is_err() || order_waker.wake().is_err() {
                break;
            }
        }
        // The conductor is gone, or has no further use for this process.
        drop(sender);
        let _ = order_waker.wake();
    });
    let tickets =
        deployment.map(|deployment| Tickets::start(deployment, TICKETS_AHEAD, Arc::clone(&waker)));
    let swarm = Swarm {
        poll,
        abandoned: Vec::new(),
        clients: Vec::new(),
        dialer: Dialer::default(),
        tickets,
        returns: Returns::default(),
        tally: Tally::default(),
        orders,
        scratch: vec![0; SCRATCH].into(),
        reported: (0, 0),
        end: false,
        _waker: waker,
    };
    swarm.turn_for_ever()
}

impl Swarm {
    fn turn_for_ever(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(2048);
        self.say(&Note::Status(self.tally.status.clone()))?;
        while !self.end {
            let timeout = self.timeout();
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            for event in events.iter().filter(|event| event.token() != WAKE) {
                self.ready(event.token().0, event.is_read_closed());
            }
            self.take_orders()?;
            if let Err(reason) = self.dial() {
                self.say(&Note::Failed(reason.to_string()))?;
                return Ok(());
            }
            self.report()?;
        }
        // Tens of thousands of sockets are closed faster by the kernel than one by one.
        std::process::exit(0)
    }

    fn timeout(&self) -> Option<Duration> {
        let now = clock::now();
        let report =
            (self.tally.changes != self.reported.0).then(|| self.reported.1 + REPORT_EVERY);
        let due = [self.dialer.next_due(), self.returns.next_due(), report];
        due.into_iter().flatten().min().map(|due| Duration::from_nanos(due.saturating_sub(now)))
    }

    fn ready(&mut self, key: usize, is_over: bool) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let after = client.ready(clock::now(), is_over, &mut self.scratch, &mut self.tally);
        self.follow(key, after);
    }

    /// An attempt came to nothing without a word of its socket.
    fn over(&mut self, key: usize, end: End) {
        let after = self.clients[key].over(end, clock::now(), &mut self.tally);
        self.follow(key, after);
    }

    /// Does what follows from a connection that opened, or came to its end.
    fn follow(&mut self, key: usize, after: After) {
        let is_settled = !matches!(after, After::Nothing);
        if is_settled && std::mem::take(&mut self.clients[key].is_by_order) {
            self.dialer.settled();
        }
        match after {
            After::Over { again: Some(again) } => {
                self.set_away(key, true);
                self.returns.after_pause(clock::now(), key, Step::Address, again);
            }
            After::Open { returned: true } => self.join_again(key),
            After::Open { returned: false } | After::Over { again: None } => {
                self.set_away(key, false);
            }
            After::Nothing => {}
        }
    }

    fn set_away(&mut self, key: usize, is_away: bool) {
        let client = &mut self.clients[key];
        match (client.is_away, is_away) {
            (false, true) => self.tally.status.away += 1,
            (true, false) => self.tally.status.away -= 1,
            _ => return,
        }
        client.is_away = is_away;
        self.tally.note();
    }

    /// Opens what is due: clients that come for the first time, and those that come back.
    fn dial(&mut self) -> io::Result<()> {
        while let Some(given) =
            self.tickets.as_ref().and_then(|tickets| tickets.given.try_recv().ok())
        {
            self.tally.changes += 1;
            match given {
                Given::First(invitation) => self.dialer.invite(invitation),
                Given::Again { key, way } => self.try_again(key, way),
                Given::Joined { key, is_done: true } => self.joined(key),
                Given::Joined { key, is_done: false } => {
                    self.returns.after_pause(clock::now(), key, Step::Join, Default::default());
                }
                Given::Failed(error) => return Err(io::Error::other(error)),
            }
        }
        while let Some((key, step)) = self.returns.take(clock::now()) {
            self.step(key, step);
        }
        let tickets = self.tickets.as_ref();
        let failed = self.dialer.dial(tickets, &mut self.clients, self.poll.registry())?;
        failed.into_iter().for_each(|(key, end)| self.over(key, end));
        Ok(())
    }

    fn step(&mut self, key: usize, step: Step) {
        let client = &self.clients[key];
        match step {
            _ if client.left => {}
            Step::Address => self.want(Want::Again { key, client: client.id }),
            Step::Join if client.is_open() => self.join_again(key),
            Step::GiveUp(attempt) if client.is_trying(attempt) => {
                self.over(key, End::of(format!("not open within {ATTEMPT:?}")));
            }
            Step::Join | Step::GiveUp(_) => {}
        }
    }

    fn want(&self, want: Want) {
        if let Some(tickets) = &self.tickets {
            tickets.want(want);
        }
    }

    /// A client that is away has an address, or none.
    fn try_again(&mut self, key: usize, way: Result<Way, String>) {
        if self.clients[key].left {
            return;
        }
        let now = clock::now();
        let way = way.map(|way| self.clients[key].asking(way));
        let socket = match way {
            Ok(way) => self.dialer.open(way, now, key, self.poll.registry()).map_err(End::from),
            Err(error) => Err(End::of(format!("no address: {error}"))),
        };
        match socket {
            Ok(socket) => {
                let attempt = self.returns.limit(now, key);
                self.clients[key].dial(socket, attempt);
            }
            Err(end) => self.over(key, end),
        }
    }

    /// As a page does after each connect: its memberships may have ended with its last connection.
    fn join_again(&mut self, key: usize) {
        let client = self.clients[key].id;
        let channels = self.tally.channels_of(client);
        match channels.is_empty() {
            true => self.joined(key),
            false => self.want(Want::Join { key, client, channels }),
        }
    }

    fn joined(&mut self, key: usize) {
        let client = &mut self.clients[key];
        if client.is_open() {
            client.joined(clock::now());
            self.set_away(key, false);
        }
    }

    fn take_orders(&mut self) -> io::Result<()> {
        loop {
            match self.orders.try_recv() {
                Ok(order) => self.obey(order)?,
                Err(std::sync::mpsc::TryRecvError::Empty) => return Ok(()),
                Err(std::sync::mpsc::TryRecvError::Disconnected) => {
                    self.end = true;
                    return Ok(());
                }
            }
        }
    }

    fn obey(&mut self, order: Order) -> io::Result<()> {
        match order {
            Order::Dial(dial) => self.dialer.begin(dial),
            Order::Hangup { first, count } => self.hang_up(first, count),
            Order::Members { stream, channel, first, count, here } => {
                self.tally.members(stream, channel, first..first + count as i64, here);
            }
            Order::Cut { share, silently } => self.cut(share, silently),
            Order::CutOff => self.cut_off(),
            Order::Collect => {
                let note = self.tally.collect();
                self.say(&Note::Latencies(note))?;
            }
            Order::Audit(sent) => {
                let account = audit(&self.tally, &sent, &self.clients);
                self.say(&Note::Audit(account))?;
            }
        }
        Ok(())
    }

    /// Has some connections end, as networks do.
    fn cut(&mut self, share: f64, silently: bool) {
        for key in 0..self.clients.len() {
            if !self.clients[key].is_open() || self.returns.chance() >= share {
                continue;
            }
            let (left, after) = self.clients[key].cut(silently, clock::now(), &mut self.tally);
            // Nobody reads it any more, and the other side is not told.
            self.abandoned.extend(left);
            self.follow(key, after);
        }
        let most = self.clients.len();
        let beyond = self.abandoned.len().saturating_sub(most);
        self.abandoned.drain(..beyond);
    }

    fn cut_off(&mut self) {
        for key in 0..self.clients.len() {
            if self.clients[key].is_open() {
                self.clients[key].cut(false, clock::now(), &mut self.tally);
                self.set_away(key, true);
            }
        }
    }

    fn hang_up(&mut self, first: i64, count: usize) {
        let range = first..first + count as i64;
        for key in 0..self.clients.len() {
            let client = &mut self.clients[key];
            if !range.contains(&client.id) {
                continue;
            }
            if client.hang_up() {
                self.tally.status.hung_up += 1;
                self.tally.changes += 1;
            }
            if client.left {
                self.set_away(key, false);
            }
        }
    }

    /// Sends the status when something changed: at once when much did, else every so often.
    fn report(&mut self) -> io::Result<()> {
        let (changes, at) = self.reported;
        if self.tally.changes == changes {
            return Ok(());
        }
        let now = clock::now();
        if self.tally.urgent
            || self.tally.changes - changes >= REPORT_AT
            || now >= at + REPORT_EVERY
        {
            self.tally.status.prepared = self.dialer.prepared();
            self.reported = (self.tally.changes, now);
            self.tally.urgent = false;
            self.say(&Note::Status(self.tally.status.clone()))?;
        }
        Ok(())
    }

    fn say(&self, note: &Note) -> io::Result<()> {
        let mut line = serde_json::to_vec(note)?;
        line.push(b'\n');
        io::stdout().lock().write_all(&line)
    }
}
