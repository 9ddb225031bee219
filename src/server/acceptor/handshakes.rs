//! Sockets that are not authorised yet, and what each still has to do.
//!
//! Used by the acceptor alone. Keeps deadlines and the count per address right whatever way a handshake
//! ends; decides nothing.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    net::IpAddr,
    time::{Duration, Instant},
};

use slab::Slab;

use super::{addresses::Addresses, head::is_head_request};
use crate::server::{
    config::Limits,
    message::HandshakeId,
    reasons::Refusal,
    transport::{Socket, Transport},
};

/// A socket until it is authorised.
pub(crate) struct Handshake {
    pub(crate) stream: Transport,
    pub(crate) serial: u64,
    /// Of the socket: the peer's own, or a proxy's.
    pub(crate) socket_address: IpAddr,
    /// The real peer, once known; counted from then on.
    pub(crate) address: Option<IpAddr>,
    /// Whether its end is held against its address.
    pub(crate) failed: bool,
    /// Whether the acceptor's poll knows the socket.
    pub(crate) watched: bool,
    pub(crate) phase: Phase,
}

impl Handshake {
    /// The peer's address for the log.
    pub(crate) fn shown_address(&self) -> String {
        self.address.map_or("unknown".into(), |address| address.to_string())
    }

    /// Whether the peer is still to send its request, or a part of it.
    fn is_unheard(&self) -> bool {
        matches!(self.phase, Phase::Proxy { .. } | Phase::Hello { .. } | Phase::Head { .. })
    }

    /// Whether not a byte has come.
    fn is_silent(&self) -> bool {
        match &self.phase {
            Phase::Proxy { bytes } | Phase::Hello { bytes } => bytes.is_empty(),
            Phase::Head { bytes } => bytes.is_empty() && !self.stream.is_secure(),
            Phase::Ticket { .. } | Phase::Refused { .. } => false,
        }
    }

    /// Whether the peer asks for an answer without a body.
    pub(crate) fn wants_no_body(&self) -> bool {
        matches!(&self.phase, Phase::Head { bytes } if is_head_request(bytes))
    }

    /// Whether the peer can read an answer: one that speaks TLS cannot before both have agreed on it.
    pub(crate) fn can_be_told(&self, refusal: Refusal) -> bool {
        let awaits_hello = matches!(self.phase, Phase::Hello { .. });
        !self.stream.is_handshaking() && (!awaits_hello || refusal == Refusal::NotTls)
    }
}

/// How far a handshake is.
pub(crate) enum Phase {
    /// Reading the proxy's header if there is to be one.
    Proxy { bytes: Vec<u8> },
    /// Reading the first bytes of a TLS handshake if there is to be one.
    Hello { bytes: Vec<u8> },
    /// Reading the request head.
    Head { bytes: Vec<u8> },
    /// Waiting for the ticket; what follows the head waits unread in `leftover` and the socket.
    Ticket { response: String, leftover: Vec<u8> },
    /// Writing a refusal, then reading until the peer has seen it: closing with unread input would
    /// reset the connection and take the answer with it.
    Refused { response: String, written: usize },
}

/// Handshakes under way, and when each must be over.
pub(crate) struct Handshakes {
    pub(crate) slab: Slab<Handshake>,
    /// In the order of their deadlines: the two kinds of deadline have a queue each.
    pub(crate) heads: Deadlines,
    pub(crate) refusals: Deadlines,
    /// In the order in which they came, with some that have got further or ended.
    silent: VecDeque<HandshakeId>,
    unheard: VecDeque<(Instant, HandshakeId)>,
    /// Time that one has which has begun, whoever waits behind it.
    patience: Duration,
    addresses: Addresses,
    next_serial: u64,
}

pub(crate) type Deadlines = VecDeque<(Instant, HandshakeId)>;

impl Handshakes {
    pub(crate) fn new(limits: &Limits) -> Self {
        let (at_once, failures) = (limits.handshakes_per_address, limits.failures_per_address);
        Handshakes {
            slab: Slab::new(),
            heads: Deadlines::new(),
            refusals: Deadlines::new(),
            silent: VecDeque::new(),
            unheard: VecDeque::new(),
            patience: limits.handshake / 20,
            addresses: Addresses::new(at_once, failures, Instant::now()),
            next_serial: 0,
        }
    }

    /// Takes a new socket in, to be over at `deadline`.
    pub(crate) fn insert(
        &mut self,
        stream: Transport,
        socket_address: IpAddr,
        phase: Phase,
        deadline: Instant,
    ) -> HandshakeId {
        let serial = self.next_serial;
        self.next_serial += 1;
        let (address, failed, watched) = (None, true, false);
        let handshake =
            Handshake { stream, serial, socket_address, address, failed, watched, phase };
        let id = HandshakeId { key: self.slab.insert(handshake), serial };
        self.heads.push_back((deadline, id));
        self.forget_the_heard();
        self.silent.push_back(id);
        self.unheard.push_back((Instant::now(), id));
        id
    }

    pub(crate) fn get(&mut self, id: HandshakeId) -> Option<&mut Handshake> {
        self.slab.get_mut(id.key).filter(|handshake| handshake.serial == id.serial)
    }

    /// Takes a handshake out: the only way.
    pub(crate) fn remove(&mut self, id: HandshakeId) -> Option<Handshake> {
        self.get(id)?;
        let handshake = self.slab.remove(id.key);
        if let Some(address) = handshake.address {
            self.addresses.end(address.into(), handshake.failed, Instant::now());
        }
        Some(handshake)
    }

    /// Learns who the peer is; how it is to be refused if that address asks for too much.
    pub(crate) fn identify(&mut self, id: HandshakeId, address: IpAddr) -> Result<(), Refusal> {
        let Some(handshake) = self.get(id) else { return Ok(()) };
        handshake.address = Some(address);
        self.addresses.begin(address.into(), Instant::now())
    }

    /// Who has to give way to a newcomer: the first of those that have had their answer, or of whom not a byte
    /// has come, or who have been about their request for long. `None` if there is none of these: a herd of honest
    /// clients must not push each other out.
    pub(crate) fn first_to_give_way(&mut self) -> Option<HandshakeId> {
        while let Some(&(_, id)) = self.refusals.front() {
            if self.get(id).is_some() {
                return Some(id);
            }
            self.refusals.pop_front();
        }
        self.forget_the_heard();
        let slow = self.unheard.front().filter(|(since, _)| since.elapsed() >= self.patience);
        self.silent.front().or(slow.map(|(_, id)| id)).copied()
    }

    /// The first of both queues belong there then. Each leaves a queue once, and none comes back.
    fn forget_the_heard(&mut self) {
        while let Some(&id) = self.silent.front()
            && !self.get(id).is_some_and(|handshake| handshake.is_silent())
        {
            self.silent.pop_front();
        }
        while let Some(&(_, id)) = self.unheard.front()
            && !self.get(id).is_some_and(|handshake| handshake.is_unheard())
        {
            self.unheard.pop_front();
        }
        // A queue keeps no room for its longest moment.
        if self.unheard.is_empty() {
            (self.silent, self.unheard) = (VecDeque::new(), VecDeque::new());
        }
    }

    pub(crate) fn id(&self, key: usize) -> Option<HandshakeId> {
        self.slab.get(key).map(|handshake| HandshakeId { key, serial: handshake.serial })
    }

    /// The next handshake whose time is over. Those that have ended leave their queue on the way, so that
    /// it stays as short as the list of handshakes under way, mostly.
    pub(crate) fn pop_due(
        &mut self,
        queue: fn(&mut Self) -> &mut Deadlines,
    ) -> Option<HandshakeId> {
        let now = Instant::now();
        while let Some(&(at, id)) = queue(self).front() {
            let ended = self.get(id).is_none();
            if at > now && !ended {
                return None;
            }
            queue(self).pop_front();
            if !ended {
                return Some(id);
            }
        }
        // A queue keeps no room for its longest moment.
        *queue(self) = Deadlines::new();
        None
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let first = |queue: &Deadlines| queue.front().map(|(at, _)| *at);
        first(&self.heads).into_iter().chain(first(&self.refusals)).min()
    }
}

/// `WouldBlock` as long as there is something to wait for.
pub(crate) fn finish_refusal(
    stream: &mut Transport,
    response: &[u8],
    written: &mut usize,
) -> io::Result<()> {
    while *written < response.len() {
        *written += stream.write(&response[*written..])?;
        if *written == response.len() {
            stream.shutdown_write()?;
        }
    }
    let mut chunk = [0; 4096];
    // Bounded: a peer that goes on sending has had its answer, and costs one turn little.
    for _ in 0..16 {
        match stream.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            Ok(_) | Err(_) => {}
        }
    }
    Ok(())
}
