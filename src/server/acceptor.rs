//! The acceptor thread: listens, reads request heads, has tickets checked, and hands authorised
//! sockets to their reactor.
//!
//! Owns a socket until it is authorised, so slow or hostile handshakes never touch delivery. Never
//! blocks, except in handing a socket over to a reactor that is behind.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    net::Shutdown,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::SyncSender,
    },
    time::{Duration, Instant},
};

use mio::{
    Events, Interest, Poll, Token,
    event::Event,
    net::{TcpListener, TcpStream},
};
use slab::Slab;
#[cfg(target_os = "linux")]
use socket2::SockRef;

use super::{
    frame::Frame,
    http::{Head, Refusal, Rules, Upgrade, read_head},
    inbox::Inbox,
    message::{AcceptorCommand, Adoption, Command, HandshakeId, Reactors, Readiness, TicketJob},
    stats::{Counters, add},
};
use crate::wire::Ticket;

pub(super) const WAKE: Token = Token(usize::MAX);
const LISTENER: Token = Token(usize::MAX - 1);
/// Accepted sockets per turn, so that a flood does not starve handshakes under way.
const ACCEPTS_PER_TURN: usize = 256;
/// Pause after the process ran out of descriptors: accepting at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Time for a refused peer to read the answer.
const REFUSAL_LINGER: Duration = Duration::from_secs(1);

/// What the acceptor thread works with.
pub(super) struct Acceptor {
    pub(super) poll: Poll,
    pub(super) inbox: Inbox<AcceptorCommand>,
    pub(super) listener: TcpListener,
    pub(super) rules: Rules,
    pub(super) max_handshakes: usize,
    pub(super) max_connections: u64,
    pub(super) handshake_time: Duration,
    /// How long a peer may leave what was sent to it unacknowledged.
    pub(super) silence: Duration,
    pub(super) tickets: SyncSender<TicketJob>,
    pub(super) reactors: Reactors,
    pub(super) readiness: Arc<Readiness>,
    pub(super) counters: Arc<Counters>,
    /// Connections that reactors hold or are about to.
    pub(super) live: Arc<AtomicU64>,
}

struct Handshake {
    stream: TcpStream,
    serial: u64,
    phase: Phase,
}

enum Phase {
    /// Reading the request head.
    Head { bytes: Vec<u8> },
    /// Waiting for the ticket; what follows the head waits unread in `leftover` and the socket.
    Ticket { response: String, leftover: Vec<u8> },
    /// Writing a refusal, then reading until the peer has seen it: closing with unread input would
    /// reset the connection and take the answer with it.
    Refused { response: String, written: usize },
}

/// Handshakes under way, and when each must be over.
#[derive(Default)]
struct Handshakes {
    slab: Slab<Handshake>,
    /// In the order of their deadlines: the two kinds of deadline have a queue each.
    heads: Deadlines,
    refusals: Deadlines,
    next_serial: u64,
}

type Deadlines = VecDeque<(Instant, HandshakeId)>;

/// The next handshake whose deadline has passed.
fn pop_due(deadlines: &mut Deadlines, now: Instant) -> Option<HandshakeId> {
    let due = deadlines.front().is_some_and(|(at, _)| *at <= now);
    due.then(|| deadlines.pop_front()).flatten().map(|(_, id)| id)
}

impl Handshakes {
    fn get(&mut self, id: HandshakeId) -> Option<&mut Handshake> {
        self.slab.get_mut(id.key).filter(|handshake| handshake.serial == id.serial)
    }

    fn id(&self, key: usize) -> Option<HandshakeId> {
        self.slab.get(key).map(|handshake| HandshakeId { key, serial: handshake.serial })
    }

    fn next_deadline(&self) -> Option<Instant> {
        let first = |queue: &Deadlines| queue.front().map(|(at, _)| *at);
        first(&self.heads).into_iter().chain(first(&self.refusals)).min()
    }
}

impl Acceptor {
    /// Runs until told to stop.
    pub(super) fn run(mut self) -> io::Result<()> {
        self.poll.registry().register(&mut self.listener, LISTENER, Interest::READABLE)?;
        let mut events = Events::with_capacity(1024);
        let mut handshakes = Handshakes::default();
        let mut accept_at = Some(Instant::now());
        loop {
            let now = Instant::now();
            let wake_at = accept_at.into_iter().chain(handshakes.next_deadline()).min();
            let timeout = wake_at.map(|at| at.saturating_duration_since(now));
            if let Err(error) = self.poll.poll(&mut events, timeout)
                && error.kind() != io::ErrorKind::Interrupted
            {
                return Err(error);
            }
            for event in &events {
                match event.token() {
                    LISTENER => accept_at = Some(Instant::now()),
                    WAKE => {}
                    Token(key) => self.on_ready(&mut handshakes, key, event),
                }
            }
            self.inbox.open();
            while let Some(command) = self.inbox.pop() {
                match command {
                    AcceptorCommand::Verdict { handshake, outcome } => {
                        self.on_verdict(&mut handshakes, handshake, outcome);
                    }
                    AcceptorCommand::Stop => {
                        self.stop(handshakes);
                        return Ok(());
                    }
                }
            }
            if accept_at.is_some_and(|at| at <= Instant::now()) {
                accept_at = self.accept(&mut handshakes);
            }
            self.expire(&mut handshakes);
        }
    }

    /// Accepts what waits, up to a bound; says when to go on, or `None` to wait for an event.
    fn accept(&mut self, handshakes: &mut Handshakes) -> Option<Instant> {
        for _ in 0..ACCEPTS_PER_TURN {
            match self.listener.accept() {
                Ok((stream, _)) => self.begin(handshakes, stream),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(error) if is_peer_fault(&error) => {}
                Err(error) => {
                    log::warn!("cannot accept connections for now: {error}");
                    return Some(Instant::now() + ACCEPT_PAUSE);
                }
            }
        }
        Some(Instant::now())
    }

    fn begin(&self, handshakes: &mut Handshakes, mut stream: TcpStream) {
        let entry = handshakes.slab.vacant_entry();
        let token = Token(entry.key());
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self.poll.registry().register(&mut stream, token, interest) {
            log::warn!("cannot watch a new socket: {error}");
            return;
        }
        // Pushes are small and must not wait for each other's acknowledgement; and a peer that vanished
        // must not hold what was sent to it for the quarter of an hour that is the kernel's default.
        let _ = stream.set_nodelay(true);
        #[cfg(target_os = "linux")]
        let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(self.silence));
        let id = HandshakeId { key: token.0, serial: handshakes.next_serial };
        handshakes.next_serial += 1;
        let phase = Phase::Head { bytes: Vec::new() };
        entry.insert(Handshake { stream, serial: id.serial, phase });
        handshakes.heads.push_back((Instant::now() + self.handshake_time, id));
        if handshakes.slab.len() > self.max_handshakes {
            self.refuse(handshakes, id, Refusal::Full);
        }
    }

    fn on_ready(&self, handshakes: &mut Handshakes, key: usize, event: &Event) {
        let Some(id) = handshakes.id(key) else { return };
        let Some(handshake) = handshakes.get(id) else { return };
        match &handshake.phase {
            Phase::Head { .. } => self.read_head(handshakes, id),
            // The peer may send frames early; a reactor reads them. Only its end matters here.
            Phase::Ticket { .. } if event.is_error() => {
                handshakes.slab.remove(id.key);
            }
            Phase::Ticket { .. } => {}
            Phase::Refused { .. } => self.drive_refusal(handshakes, id),
        }
    }

    fn read_head(&self, handshakes: &mut Handshakes, id: HandshakeId) {
        let mut chunk = [0; 2048];
        loop {
            let Some(Handshake { stream, phase: Phase::Head { bytes }, .. }) = handshakes.get(id)
            else {
                return;
            };
            match stream.read(&mut chunk) {
                Ok(0) => {
                    handshakes.slab.remove(id.key);
                    return;
                }
                Ok(count) => {
                    let seen = bytes.len();
                    bytes.extend_from_slice(&chunk[..count]);
                    match read_head(bytes, seen, &self.rules) {
                        Head::Incomplete => {}
                        Head::Refused(refusal) => return self.refuse(handshakes, id, refusal),
                        Head::Upgrade(upgrade) => return self.ask_ticket(handshakes, id, upgrade),
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    handshakes.slab.remove(id.key);
                    return;
                }
            }
        }
    }

    fn ask_ticket(&self, handshakes: &mut Handshakes, id: HandshakeId, upgrade: Upgrade) {
        if !self.readiness.is_ready() {
            return self.refuse(handshakes, id, Refusal::NoBroker);
        }
        if self.is_full() {
            return self.refuse(handshakes, id, Refusal::Full);
        }
        let Some(handshake) = handshakes.get(id) else { return };
        let leftover = match &handshake.phase {
            Phase::Head { bytes } => bytes[upgrade.head_len..].to_vec(),
            _ => Vec::new(),
        };
        handshake.phase = Phase::Ticket { response: upgrade.response, leftover };
        // The queue holds as many jobs as there may be handshakes; it is full only if those that
        // timed out are still being asked for.
        if self.tickets.try_send(TicketJob { handshake: id, token: upgrade.token }).is_err() {
            self.refuse(handshakes, id, Refusal::NoBroker);
        }
    }

    fn on_verdict(
        &self,
        handshakes: &mut Handshakes,
        id: HandshakeId,
        outcome: Result<Ticket, Refusal>,
    ) {
        let waiting =
            handshakes.get(id).is_some_and(|found| matches!(found.phase, Phase::Ticket { .. }));
        if !waiting {
            return;
        }
        match outcome {
            // Others may have taken the last places meanwhile.
            Ok(_) if self.is_full() => self.refuse(handshakes, id, Refusal::Full),
            Ok(ticket) => self.hand_over(handshakes.slab.remove(id.key), ticket),
            Err(refusal) => self.refuse(handshakes, id, refusal),
        }
    }

    fn is_full(&self) -> bool {
        self.live.load(Ordering::Relaxed) >= self.max_connections
    }

    fn hand_over(&self, handshake: Handshake, ticket: Ticket) {
        let Handshake { mut stream, serial, phase: Phase::Ticket { response, leftover } } =
            handshake
        else {
            return;
        };
        if let Err(error) = self.poll.registry().deregister(&mut stream) {
            log::warn!("cannot hand a socket over: {error}");
            return;
        }
        let reactor = &self.reactors.all()[self.reactors.index_of(ticket.client())];
        let adoption = Adoption {
            stream,
            ticket,
            number: serial,
            response: Frame::raw(response.as_bytes()),
            leftover,
        };
        self.live.fetch_add(1, Ordering::Relaxed);
        if reactor.push(Command::Adopt(Box::new(adoption))).is_err() {
            self.live.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn refuse(&self, handshakes: &mut Handshakes, id: HandshakeId, refusal: Refusal) {
        let Some(handshake) = handshakes.get(id) else { return };
        add(&self.counters.refused, 1);
        log::debug!("conn={} refused: {} {}", id.serial, refusal.status(), refusal.why());
        handshake.phase = Phase::Refused { response: refusal.response(), written: 0 };
        handshakes.refusals.push_back((Instant::now() + REFUSAL_LINGER, id));
        self.drive_refusal(handshakes, id);
    }

    fn drive_refusal(&self, handshakes: &mut Handshakes, id: HandshakeId) {
        let Some(Handshake { stream, phase: Phase::Refused { response, written }, .. }) =
            handshakes.get(id)
        else {
            return;
        };
        while *written < response.len() {
            match stream.write(&response.as_bytes()[*written..]) {
                Ok(count) => {
                    *written += count;
                    if *written == response.len() {
                        let _ = stream.shutdown(Shutdown::Write);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    handshakes.slab.remove(id.key);
                    return;
                }
            }
        }
        let mut chunk = [0; 4096];
        // Bounded: who keeps sending is cut at the deadline, and costs one turn little.
        for _ in 0..16 {
            match stream.read(&mut chunk) {
                Ok(1..) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Ok(0) | Err(_) => {
                    handshakes.slab.remove(id.key);
                    return;
                }
            }
        }
    }

    fn expire(&self, handshakes: &mut Handshakes) {
        let now = Instant::now();
        while let Some(id) = pop_due(&mut handshakes.heads, now) {
            match handshakes.get(id).map(|handshake| &handshake.phase) {
                Some(Phase::Head { .. }) => self.refuse(handshakes, id, Refusal::TimedOut),
                Some(Phase::Ticket { .. }) => self.refuse(handshakes, id, Refusal::NoBroker),
                Some(Phase::Refused { .. }) | None => {}
            }
        }
        while let Some(id) = pop_due(&mut handshakes.refusals, now) {
            if handshakes.get(id).is_some() {
                handshakes.slab.remove(id.key);
            }
        }
    }

    /// Tells everybody who is waiting; what cannot be written at once is given up.
    fn stop(&self, mut handshakes: Handshakes) {
        let ids: Vec<_> =
            (0..handshakes.slab.capacity()).filter_map(|key| handshakes.id(key)).collect();
        for id in ids {
            if handshakes.get(id).is_some_and(|found| !matches!(found.phase, Phase::Refused { .. }))
            {
                self.refuse(&mut handshakes, id, Refusal::Draining);
            }
        }
    }
}

/// Errors of `accept` that concern one peer: the next socket may be fine.
fn is_peer_fault(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
            | io::ErrorKind::PermissionDenied
    )
}
