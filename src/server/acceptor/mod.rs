//! The acceptor thread: listens, reads request heads, has tickets checked, and hands authorised
//! sockets to their reactor.
//!
//! Owns a socket until it is authorised, so slow or hostile handshakes never touch delivery. Never
//! blocks, except in handing a socket over to a reactor that is behind. Two parts of it have files of
//! their own: `reading` (what peers say) and `refusing` (how they are turned away).

mod addresses;
pub(super) mod handshakes;
pub(super) mod head;
mod reading;
pub(super) mod real_address;
mod refusing;
mod target;

use std::{
    cell::Cell,
    io,
    net::IpAddr,
    sync::{Arc, atomic::Ordering, mpsc::Sender},
    time::{Duration, Instant},
};

use mio::{
    Events, Interest, Poll, Token,
    event::Event,
    net::{TcpListener, TcpStream},
};

use crate::{
    server::{
        config::{Limits, PeerAddress},
        connection::frame::Frame,
        heartbeat,
        inbox::{Inbox, Reactors},
        message::{AcceptorCommand, Admission, Adoption, Command, HandshakeId, TicketJob},
        node::Node,
        reasons::Refusal,
        stats::counters::Counters,
        transport::Transport,
    },
    throttle::Throttle,
};
use handshakes::{Handshake, Handshakes, Phase};
use head::{Rules, Upgrade};

pub(super) const WAKE: Token = Token(usize::MAX);
const LISTENER: Token = Token(usize::MAX - 1);
/// Sockets that are looked at per turn, and accepted, so that neither starves the other.
const EVENTS_PER_TURN: usize = 1024;
const ACCEPTS_PER_TURN: usize = 256;
/// Both under TLS: each may cost a signature, and tickets are waiting for their answer meanwhile.
const HELLOS_PER_TURN: usize = 32;
/// Pause after the process ran out of descriptors: accepting at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

static PROTOCOLS: Throttle = Throttle::new();

/// What the acceptor thread works with.
pub(super) struct Acceptor {
    poll: Poll,
    inbox: Inbox<AcceptorCommand>,
    listener: TcpListener,
    rules: Rules,
    peer_address: PeerAddress,
    limits: Limits,
    /// Set at the cap on connections, until some places are free again.
    full: Cell<bool>,
    /// Set while the process is out of descriptors, so that this is said once.
    starved: Cell<bool>,
    tickets: Sender<TicketJob>,
    /// Tickets that were asked for and have not been answered.
    asked: Cell<usize>,
    reactors: Reactors,
    node: Arc<Node>,
    counters: Arc<Counters>,
}

impl Acceptor {
    pub(super) fn new(
        node: &Arc<Node>,
        poll: Poll,
        inbox: Inbox<AcceptorCommand>,
        listener: std::net::TcpListener,
        tickets: Sender<TicketJob>,
        reactors: Reactors,
    ) -> Self {
        let config = &node.config;
        Acceptor {
            poll,
            inbox,
            listener: TcpListener::from_std(listener),
            rules: Rules {
                path: config.path.clone(),
                origins: config.origins.clone(),
                head_bytes: config.limits.head_bytes,
                forwarded: config.peer_address == PeerAddress::ForwardedFor,
            },
            peer_address: config.peer_address,
            limits: config.limits.clone(),
            full: Cell::new(false),
            starved: Cell::new(false),
            tickets,
            asked: Cell::new(0),
            reactors,
            node: Arc::clone(node),
            counters: node.pulse.new_counters(),
        }
    }

    /// Runs until told to stop.
    pub(super) fn run(mut self) -> io::Result<()> {
        self.poll.registry().register(&mut self.listener, LISTENER, Interest::READABLE)?;
        let mut events = Events::with_capacity(self.per_turn(EVENTS_PER_TURN));
        let mut handshakes = Handshakes::new(&self.limits);
        let mut accept_at = Some(Instant::now());
        loop {
            let now = Instant::now();
            let wake_at = accept_at.into_iter().chain(handshakes.next_deadline()).min();
            let timeout = wake_at.map(|at| at.saturating_duration_since(now));
            if let Err(error) = heartbeat::wait(|| self.poll.poll(&mut events, timeout))
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
            self.counters.handshakes.store(handshakes.slab.len() as u64, Ordering::Relaxed);
        }
    }

    /// Accepts what waits, up to a bound; says when to go on, or `None` to wait for an event.
    fn accept(&mut self, handshakes: &mut Handshakes) -> Option<Instant> {
        for _ in 0..self.per_turn(ACCEPTS_PER_TURN) {
            match self.listener.accept() {
                Ok((stream, address)) => {
                    self.starved.set(false);
                    self.begin(handshakes, stream, address.ip());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(error) if is_peer_fault(&error) => {}
                Err(error) => {
                    if !self.starved.replace(true) {
                        log::warn!("cannot accept connections for now: {error}");
                    }
                    return Some(Instant::now() + ACCEPT_PAUSE);
                }
            }
        }
        Some(Instant::now())
    }

    /// How many sockets one turn takes: `bare` of them, or fewer under TLS.
    fn per_turn(&self, bare: usize) -> usize {
        if self.node.tls.is_some() { HELLOS_PER_TURN } else { bare }
    }

    fn begin(&self, handshakes: &mut Handshakes, stream: TcpStream, address: IpAddr) {
        let full = handshakes.slab.len() >= self.limits.handshakes && !self.make_room(handshakes);
        let phase = match self.peer_address {
            PeerAddress::ProxyProtocol => Phase::Proxy { bytes: Vec::new() },
            PeerAddress::Socket | PeerAddress::ForwardedFor => self.begin_peer(Vec::new()),
        };
        let deadline = Instant::now() + self.limits.handshake;
        let id = handshakes.insert(Transport::new(stream), address, phase, deadline);
        if full {
            return self.refuse(handshakes, id, Refusal::Full);
        }
        if self.peer_address == PeerAddress::Socket && !self.admit(handshakes, id, address) {
            return;
        }
        self.read(handshakes, id);
    }

    /// What comes first from the peer itself, of which `bytes` are here.
    fn begin_peer(&self, bytes: Vec<u8>) -> Phase {
        match self.node.tls {
            Some(_) => Phase::Hello { bytes },
            None => Phase::Head { bytes },
        }
    }

    /// Counts a handshake for its address; refuses it if that asks for too much.
    fn admit(&self, handshakes: &mut Handshakes, id: HandshakeId, address: IpAddr) -> bool {
        let admitted = handshakes.identify(id, address);
        if let Err(refusal) = admitted {
            self.refuse(handshakes, id, refusal);
        }
        admitted.is_ok()
    }

    /// Has the poll watch a handshake that must wait for its peer. Most heads are there when their
    /// socket is accepted; those sockets are first watched by their reactor.
    fn watch(&self, handshakes: &mut Handshakes, id: HandshakeId) {
        if handshakes.get(id).is_some_and(|handshake| !handshake.watched) {
            self.watch_anew(handshakes, id);
        }
    }

    /// The same, and has it tell of what is there already.
    fn watch_anew(&self, handshakes: &mut Handshakes, id: HandshakeId) {
        let Some(Handshake { stream, watched, .. }) = handshakes.get(id) else { return };
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registry = self.poll.registry();
        let result = match std::mem::replace(watched, true) {
            true => registry.reregister(stream, Token(id.key), interest),
            false => registry.register(stream, Token(id.key), interest),
        };
        if let Err(error) = result {
            log::warn!("cannot watch a new socket: {error}");
            handshakes.remove(id);
        }
    }

    fn on_ready(&self, handshakes: &mut Handshakes, key: usize, event: &Event) {
        let Some(id) = handshakes.id(key) else { return };
        let Some(handshake) = handshakes.get(id) else { return };
        match &handshake.phase {
            Phase::Proxy { .. } | Phase::Hello { .. } | Phase::Head { .. } => {
                self.read(handshakes, id);
            }
            // The peer may send frames early; a reactor reads them. Only its end matters here.
            Phase::Ticket { .. } if event.is_error() => {
                handshakes.remove(id);
            }
            Phase::Ticket { .. } => {}
            Phase::Refused { .. } => self.drive_refusal(handshakes, id),
        }
    }

    fn ask_ticket(&self, handshakes: &mut Handshakes, id: HandshakeId, upgrade: Upgrade) {
        if !self.node.pulse.readiness.is_ready() {
            return self.refuse(handshakes, id, Refusal::NoBroker);
        }
        if self.is_full() {
            return self.refuse(handshakes, id, Refusal::Full);
        }
        // Those that timed out are still being asked for.
        if self.asked.get() >= self.limits.handshakes {
            return self.refuse(handshakes, id, Refusal::NoBroker);
        }
        if upgrade.offers_protocols
            && let Some(more) = PROTOCOLS.admit("")
        {
            log::info!(
                "conn={} offers a sub-protocol and gets none; a browser gives up then: leave the second \
                 argument of new WebSocket(..) out{more}",
                id.serial
            );
        }
        let Some(handshake) = handshakes.get(id) else { return };
        let leftover = match &handshake.phase {
            Phase::Head { bytes } => bytes[upgrade.head_len..].to_vec(),
            _ => Vec::new(),
        };
        handshake.phase = Phase::Ticket { response: upgrade.response, leftover };
        match self.tickets.send(TicketJob { handshake: id, token: upgrade.token }) {
            Ok(()) => self.asked.set(self.asked.get() + 1),
            Err(_) => self.refuse(handshakes, id, Refusal::NoBroker),
        }
    }

    fn on_verdict(
        &self,
        handshakes: &mut Handshakes,
        id: HandshakeId,
        outcome: Result<Admission, Refusal>,
    ) {
        self.asked.set(self.asked.get().saturating_sub(1));
        let waiting =
            handshakes.get(id).is_some_and(|found| matches!(found.phase, Phase::Ticket { .. }));
        if !waiting {
            return;
        }
        match outcome {
            // Others may have taken the last places meanwhile.
            Ok(_) if self.is_full() => self.refuse(handshakes, id, Refusal::Full),
            Ok(Admission { ticket, taken })
                if self.node.kicks.is_kicked_since(ticket.client(), taken) =>
            {
                self.refuse(handshakes, id, Refusal::Kicked);
            }
            Ok(admission) => {
                if let Some(handshake) = handshakes.get(id) {
                    handshake.failed = false;
                }
                if let Some(handshake) = handshakes.remove(id) {
                    self.hand_over(handshake, admission);
                }
            }
            Err(refusal) => self.refuse(handshakes, id, refusal),
        }
    }

    /// Full at the cap, and until a twentieth of the places is free: a node at its limit must not flap.
    fn is_full(&self) -> bool {
        let cap = self.limits.connections as u64;
        let resume = cap - cap.div_ceil(20);
        let live = self.node.live.load(Ordering::Relaxed);
        let full = live >= cap || (self.full.get() && live > resume);
        if self.full.replace(full) != full {
            match full {
                true => log::warn!("full: {live} connections; more are refused"),
                false => log::warn!("{live} connections; more are accepted again"),
            }
        }
        full
    }

    fn hand_over(&self, handshake: Handshake, Admission { ticket, taken }: Admission) {
        let Handshake { mut stream, serial, watched, phase, .. } = handshake;
        let Phase::Ticket { response, leftover } = phase else { return };
        if watched && let Err(error) = self.poll.registry().deregister(&mut stream) {
            log::warn!("cannot hand a socket over: {error}");
            return;
        }
        let client = ticket.client();
        let reactor = &self.reactors.all()[self.reactors.index_of(client)];
        let adoption = Adoption {
            stream,
            ticket,
            number: serial,
            response: Frame::raw(response.as_bytes()),
            leftover,
        };
        self.node.live.fetch_add(1, Ordering::Relaxed);
        if reactor.push(Command::Adopt(Box::new(adoption))).is_err() {
            self.node.live.fetch_sub(1, Ordering::Relaxed);
        }
        // A kick that was heard in between was told to the reactor before it had this connection.
        if self.node.kicks.is_kicked_since(client, taken) {
            let _ = reactor.push(Command::ForceOffline(client));
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
