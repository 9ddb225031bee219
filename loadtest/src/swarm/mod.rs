//! A swarm: one client process that holds thousands of sockets in one event loop.
//!
//! Runs as a child of the conductor (`loadtest swarm`), which sends orders on standard input; ends when
//! that closes. Threads: this loop, one that reads orders, one that issues tickets. The loop does as
//! little as it can per message: the instrument must stay ahead of what it measures.

mod audit;
mod dialer;
mod socket;
mod stream;
mod tally;
mod tickets;

pub use tickets::{helper, parse};

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
use dialer::Dialer;
use socket::{Ready, Socket};
use tally::Tally;

const WAKE: Token = Token(usize::MAX);
/// Longest time that a status may be behind, and its time between two while things change.
const REPORT_EVERY: u64 = 2_000_000;
/// Changes that are reported at once, so that a full window does not wait for the clock.
const REPORT_AT: u64 = 256;
/// One read: everything that a socket usually has.
const SCRATCH: usize = 256 << 10;

struct Swarm {
    poll: Poll,
    sockets: Vec<Socket>,
    dialer: Dialer,
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
    let dialer = Dialer::new(deployment, Arc::clone(&waker));
    let swarm = Swarm {
        poll,
        sockets: Vec::new(),
        dialer,
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
                self.ready(event.token().0);
            }
            self.take_orders()?;
            if let Some(reason) = self.dialer.failure() {
                self.say(&Note::Failed(reason))?;
                return Ok(());
            }
            self.dialer.dial(&mut self.sockets, self.poll.registry(), &mut self.tally)?;
            self.report()?;
        }
        // Tens of thousands of sockets are closed faster by the kernel than one by one.
        std::process::exit(0)
    }

    fn timeout(&self) -> Option<Duration> {
        let until_dial = self.dialer.next_due().map(|due| due.saturating_sub(clock::now()));
        let until_report = (self.tally.changes != self.reported.0)
            .then(|| (self.reported.1 + REPORT_EVERY).saturating_sub(clock::now()));
        let nearest = [until_dial, until_report].into_iter().flatten().min();
        nearest.map(Duration::from_nanos)
    }

    fn ready(&mut self, key: usize) {
        let Some(socket) = self.sockets.get_mut(key) else { return };
        match socket.ready(&mut self.scratch, &mut self.tally) {
            Ready::Nothing => {}
            Ready::Settled => self.dialer.settled(),
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
            Order::Members { stream, first, count, here } => {
                self.tally.members(stream, first..first + count as i64, here);
            }
            Order::Collect => {
                let note = self.tally.collect();
                self.say(&Note::Latencies(note))?;
            }
            Order::Audit(sent) => {
                let account = audit(&self.tally, &sent, &self.sockets);
                self.say(&Note::Audit(account))?;
            }
        }
        Ok(())
    }

    fn hang_up(&mut self, first: i64, count: usize) {
        let clients = first..first + count as i64;
        for socket in self.sockets.iter_mut().filter(|socket| clients.contains(&socket.client)) {
            if socket.hang_up() {
                self.tally.status.hung_up += 1;
                self.tally.changes += 1;
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
