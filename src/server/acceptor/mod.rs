//! The acceptor thread: listens, reads request heads, has tickets checked, and hands authorised
//! sockets to their reactor. Read [`Acceptor::work`] first.
//!
//! Owns a socket until it is authorised, so slow or hostile handshakes never touch delivery. Never blocks, except in
//! handing a socket over to a reactor that is behind. It decides; what it decides on is kept by `handshakes`, read by
//! `reading` and limited by `gate`. The clock is read once a turn.

mod addresses;
mod gate;
mod handshake;
mod handshakes;
pub(super) mod head;
mod reading;
pub(super) mod real_address;
mod refusing;
mod target;

use std::{
    io,
    net::IpAddr,
    sync::{Arc, atomic::Ordering, mpsc::Sender},
    time::{Duration, Instant},
};

use mio::{
    Events, Interest, Poll, Token,
    event::{Event, Source},
    net::{TcpListener, TcpStream},
};

use crate::{
    server::{
        config::PeerAddress,
        connection::frame::Frame,
        heartbeat,
        inbox::{Inbox, Reactors},
        message::{AcceptorCommand, Admission, Adoption, Command, HandshakeId, TicketJob},
        node::Node,
        reasons::Refusal,
        stats::counters::Counters,
        transport::{Socket, Transport},
    },
    throttle::Throttle,
};
use gate::Gate;
use handshake::{Handshake, Phase};
use handshakes::Handshakes;
use head::Upgrade;
use reading::{Reader, Said};

pub(super) const WAKE: Token = Token(usize::MAX);
pub(super) const LISTENER: Token = Token(usize::MAX - 1);
/// Sockets that are looked at per turn, and accepted, so that neither starves the other.
const EVENTS_PER_TURN: usize = 1024;
const ACCEPTS_PER_TURN: usize = 256;
/// Both under TLS: each may cost a signature, and tickets are waiting for their answer meanwhile.
const HELLOS_PER_TURN: usize = 32;
/// Pause after the process ran out of descriptors: accepting at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

static PROTOCOLS: Throttle = Throttle::new();

/// Where new sockets come from: a TCP listener, or a simulated one.
pub(super) trait Listen: Source {
    type Socket: Socket;

    /// The next socket, without waiting, and the address at its other end.
    ///
    /// # Errors
    /// `WouldBlock` if there is none.
    fn accept(&self) -> io::Result<(Self::Socket, IpAddr)>;
}

impl Listen for TcpListener {
    type Socket = TcpStream;

    fn accept(&self) -> io::Result<(TcpStream, IpAddr)> {
        TcpListener::accept(self).map(|(stream, address)| (stream, address.ip()))
    }
}

/// What the acceptor thread works with.
pub(super) struct Acceptor<L: Listen = TcpListener> {
    node: Arc<Node>,
    inbox: Inbox<AcceptorCommand>,
    listener: L,
    /// When to accept on: at once, after a pause, or not before the listener says so.
    accept_at: Option<Instant>,
    /// The process is out of descriptors, and that was said.
    starved: bool,
    reader: Reader,
    handshakes: Handshakes<L::Socket>,
    gate: Gate,
    tickets: Sender<TicketJob>,
    /// Tickets that were asked for and have not been answered.
    asked: usize,
    reactors: Reactors<Transport<L::Socket>>,
    counters: Arc<Counters>,
    /// When this turn began.
    now: Instant,
}

/// What the poll says of a socket.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ready {
    pub(super) token: Token,
    /// The socket is broken.
    pub(super) broken: bool,
}

impl Ready {
    fn of(event: &Event) -> Self {
        Ready { token: event.token(), broken: event.is_error() }
    }
}

impl<L: Listen> Acceptor<L> {
    pub(super) fn new(
        node: &Arc<Node>,
        poll: Poll,
        inbox: Inbox<AcceptorCommand>,
        listener: L,
        tickets: Sender<TicketJob>,
        reactors: Reactors<Transport<L::Socket>>,
    ) -> Self {
        let (limits, now) = (&node.config.limits, Instant::now());
        let counters = node.pulse.new_counters();
        Acceptor {
            node: Arc::clone(node),
            inbox,
            listener,
            accept_at: Some(now),
            starved: false,
            reader: Reader::new(node),
            handshakes: Handshakes::new(poll, limits, Arc::clone(&counters), now),
            gate: Gate::new(limits.connections, &node.live),
            tickets,
            asked: 0,
            reactors,
            counters,
            now,
        }
    }

    /// Runs until told to stop.
    pub(super) fn run(mut self) -> io::Result<()> {
        self.handshakes.poll().registry().register(
            &mut self.listener,
            LISTENER,
            Interest::READABLE,
        )?;
        let mut events = Events::with_capacity(self.per_turn(EVENTS_PER_TURN));
        loop {
            let due = self.accept_at.into_iter().chain(self.handshakes.next_deadline()).min();
            let timeout = due.map(|at| at.saturating_duration_since(Instant::now()));
            if let Err(error) =
                heartbeat::wait(|| self.handshakes.poll().poll(&mut events, timeout))
                && error.kind() != io::ErrorKind::Interrupted
            {
                return Err(error);
            }
            if !self.work(events.iter().map(Ready::of), Instant::now()) {
                return Ok(());
            }
        }
    }

    /// The turn after the wait, at `now`; false once told to stop. Here a simulation comes in.
    pub(super) fn work(&mut self, ready: impl Iterator<Item = Ready>, now: Instant) -> bool {
        self.now = now;
        self.handshakes.begin_turn(now);
        // 1. Those that are here, before newcomers can take their place.
        for ready in ready {
            match ready.token {
                LISTENER => self.accept_at = Some(now),
                WAKE => {}
                Token(key) => self.on_ready(key, ready.broken),
            }
        }
        // 2. Answers of the ticket thread: each frees a place.
        self.inbox.open();
        while let Some(command) = self.inbox.pop() {
            match command {
                AcceptorCommand::Verdict { handshake, outcome } => {
                    self.on_verdict(handshake, outcome);
                }
                AcceptorCommand::Stop => {
                    self.counters.handshakes.store(0, Ordering::Relaxed);
                    self.handshakes.refuse_all(Refusal::Draining);
                    return false;
                }
            }
        }
        // 3. Newcomers.
        if self.accept_at.is_some_and(|at| at <= now) {
            self.accept();
        }
        // 4. Last, so that whoever was in time has been heard.
        self.handshakes.expire();
        self.counters.handshakes.store(self.handshakes.len() as u64, Ordering::Relaxed);
        true
    }

    /// How many sockets one turn takes: `bare` of them, or fewer under TLS.
    fn per_turn(&self, bare: usize) -> usize {
        if self.node.tls.is_some() { HELLOS_PER_TURN } else { bare }
    }

    /// Accepts what waits, up to a bound.
    fn accept(&mut self) {
        for _ in 0..self.per_turn(ACCEPTS_PER_TURN) {
            match self.listener.accept() {
                Ok((socket, address)) => {
                    self.starved = false;
                    self.begin(socket, address);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.accept_at = None;
                    return;
                }
                Err(error) if is_peer_fault(&error) => {}
                Err(error) => {
                    if !std::mem::replace(&mut self.starved, true) {
                        log::warn!("cannot accept connections for now: {error}");
                    }
                    self.accept_at = Some(self.now + ACCEPT_PAUSE);
                    return;
                }
            }
        }
        self.accept_at = Some(self.now);
    }

    fn begin(&mut self, socket: L::Socket, address: IpAddr) {
        let config = &self.node.config;
        let counts_now = config.peer_address == PeerAddress::Socket;
        let full =
            self.handshakes.len() >= config.limits.handshakes && !self.handshakes.make_room();
        let phase = self.reader.first_phase();
        let id = self.handshakes.insert(Transport::new(socket), address, phase);
        if full {
            return self.handshakes.refuse(id, Refusal::Full);
        }
        if !counts_now || self.admit(id, address) {
            self.read(id);
        }
    }

    /// Counts a handshake for its address; refuses it if that asks for too much.
    fn admit(&mut self, id: HandshakeId, address: IpAddr) -> bool {
        let admitted = self.handshakes.identify(id, address);
        if let Err(refusal) = admitted {
            self.handshakes.refuse(id, refusal);
        }
        admitted.is_ok()
    }

    fn on_ready(&mut self, key: usize, broken: bool) {
        let Some(id) = self.handshakes.id(key) else { return };
        let Some(handshake) = self.handshakes.get(id) else { return };
        match &handshake.phase {
            Phase::Proxy { .. } | Phase::Hello { .. } | Phase::Head { .. } => self.read(id),
            // The peer may send frames early; a reactor reads them. Only its end matters here.
            Phase::Ticket { .. } if broken => {
                self.handshakes.remove(id);
            }
            Phase::Ticket { .. } => {}
            Phase::Refused(_) => self.handshakes.go_on_refusing(id),
        }
    }

    /// Reads what a peer says, as far as it can be decided on.
    fn read(&mut self, id: HandshakeId) {
        while let Some(handshake) = self.handshakes.get(id) {
            match self.reader.read(handshake) {
                Said::TooLittle => return self.handshakes.watch(id),
                Said::MoreToCome => return self.handshakes.watch_anew(id),
                Said::Address(address) if self.admit(id, address) => {}
                Said::Address(_) => return,
                Said::Upgrade { upgrade, address } => {
                    if address.is_none_or(|address| self.admit(id, address)) {
                        self.ask_ticket(id, upgrade);
                    }
                    return;
                }
                Said::Refused(refusal) => return self.handshakes.refuse(id, refusal),
                Said::Gone(error) => return self.handshakes.give_up(id, error.as_ref()),
            }
        }
    }

    fn ask_ticket(&mut self, id: HandshakeId, upgrade: Upgrade) {
        if !self.node.pulse.readiness.is_ready() {
            return self.handshakes.refuse(id, Refusal::NoBroker);
        }
        if self.gate.is_full() {
            return self.handshakes.refuse(id, Refusal::Full);
        }
        // Those that timed out are still being asked for.
        if self.asked >= self.node.config.limits.handshakes {
            return self.handshakes.refuse(id, Refusal::NoBroker);
        }
        if upgrade.offers_unknown
            && let Some(more) = PROTOCOLS.admit("")
        {
            log::info!(
                "connection={} offers sub-protocols of which only imcore.1 is known, and gets none; a browser gives up \
                 then: leave the second argument of new WebSocket(..) out{more}",
                id.connection
            );
        }
        let Some(handshake) = self.handshakes.get(id) else { return };
        let leftover = match &handshake.phase {
            Phase::Head { bytes, .. } => bytes[upgrade.head_len..].to_vec(),
            _ => Vec::new(),
        };
        let Upgrade { response, claim, token, .. } = upgrade;
        handshake.phase = Phase::Ticket { response, claim, leftover };
        match self.tickets.send(TicketJob { handshake: id, token }) {
            Ok(()) => self.asked += 1,
            Err(_) => self.handshakes.refuse(id, Refusal::NoBroker),
        }
    }

    fn on_verdict(&mut self, id: HandshakeId, outcome: Result<Admission, Refusal>) {
        self.asked = self.asked.saturating_sub(1);
        let waiting = self
            .handshakes
            .get(id)
            .is_some_and(|found| matches!(found.phase, Phase::Ticket { .. }));
        if !waiting {
            return;
        }
        match outcome {
            // Others may have taken the last places meanwhile.
            Ok(_) if self.gate.is_full() => self.handshakes.refuse(id, Refusal::Full),
            Ok(Admission { ticket, taken })
                if self.node.kicks.is_kicked_since(ticket.client(), taken) =>
            {
                self.handshakes.refuse(id, Refusal::Kicked);
            }
            Ok(admission) => match self.handshakes.release(id) {
                Ok(handshake) => self.hand_over(handshake, admission),
                Err(error) => log::warn!("cannot hand a socket over: {error}"),
            },
            Err(refusal) => self.handshakes.refuse(id, refusal),
        }
    }

    fn hand_over(
        &self,
        handshake: Option<Handshake<L::Socket>>,
        Admission { ticket, taken }: Admission,
    ) {
        let Some(Handshake { stream, connection, phase, .. }) = handshake else { return };
        let Phase::Ticket { response, claim, leftover } = phase else { return };
        let client = ticket.client().clone();
        let reactor = &self.reactors.all()[self.reactors.index_of(&client)];
        // Numbers that a former process has given stay with its connections.
        let first = self.node.origin.heritage().map_or(0, |heritage| heritage.first_number);
        let adoption = Adoption {
            stream,
            ticket,
            connection: first + connection,
            response: Frame::raw(response.as_bytes()),
            claim,
            leftover,
        };
        self.gate.enter();
        if reactor.push(Command::Adopt(Box::new(adoption))).is_err() {
            self.gate.leave();
        }
        // A kick that was heard in between was told to the reactor before it had this connection.
        if self.node.kicks.is_kicked_since(&client, taken) {
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
