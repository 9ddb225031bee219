//! Sockets that are not authorised yet, and what each still has to do.
//!
//! Used by the acceptor alone, which decides who comes in. Here is kept what holds for all: deadlines, the count per
//! address, and how a handshake ends that does not become a connection. The clock is an argument of each turn.

use std::{
    collections::VecDeque,
    io,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use mio::Poll;
use slab::Slab;

use super::{
    addresses::Addresses,
    handshake::{Handshake, Phase},
    refusing::Refusing,
};
use crate::server::{
    config::Limits,
    message::HandshakeId,
    reasons::{Refusal, TlsFailure},
    stats::counters::Counters,
    transport::{Socket, Transport, tls::TlsSession},
};

/// Time for a refused peer to read the answer.
const REFUSAL_LINGER: Duration = Duration::from_secs(1);

/// Handshakes under way, and when each must be over.
pub(super) struct Handshakes<S> {
    slab: Slab<Handshake<S>>,
    /// In the order of their deadlines: the two kinds of deadline have a queue each.
    heads: Deadlines,
    refusals: Deadlines,
    /// In the order in which they came, with some that have got further or ended.
    silent: VecDeque<HandshakeId>,
    unheard: VecDeque<(Instant, HandshakeId)>,
    /// Time that each has for its request and its ticket.
    time: Duration,
    /// Time that one has which has begun, whoever waits behind it.
    patience: Duration,
    addresses: Addresses,
    next_connection: u64,
    /// Watches the sockets.
    poll: Poll,
    counters: Arc<Counters>,
    /// When this turn began.
    now: Instant,
}

type Deadlines = VecDeque<(Instant, HandshakeId)>;

impl<S: Socket> Handshakes<S> {
    pub(super) fn new(poll: Poll, limits: &Limits, counters: Arc<Counters>, now: Instant) -> Self {
        let (at_once, failures) = (limits.handshakes_per_address, limits.failures_per_address);
        Handshakes {
            slab: Slab::new(),
            heads: Deadlines::new(),
            refusals: Deadlines::new(),
            silent: VecDeque::new(),
            unheard: VecDeque::new(),
            time: limits.handshake,
            patience: limits.handshake / 20,
            addresses: Addresses::new(at_once, failures, now),
            next_connection: 0,
            poll,
            counters,
            now,
        }
    }

    /// What watches the sockets, for whoever waits for them.
    pub(super) fn poll(&mut self) -> &mut Poll {
        &mut self.poll
    }

    /// A turn begins.
    pub(super) fn begin_turn(&mut self, now: Instant) {
        self.now = now;
    }

    /// How many are under way.
    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    /// Takes a new socket in.
    pub(super) fn insert(
        &mut self,
        stream: Transport<S>,
        socket_address: IpAddr,
        phase: Phase,
    ) -> HandshakeId {
        let connection = self.next_connection;
        self.next_connection += 1;
        let (address, failed, watched) = (None, true, false);
        let handshake =
            Handshake { stream, connection, socket_address, address, failed, watched, phase };
        let id = HandshakeId { key: self.slab.insert(handshake), connection };
        self.heads.push_back((self.now + self.time, id));
        self.forget_the_heard();
        self.silent.push_back(id);
        self.unheard.push_back((self.now, id));
        id
    }

    pub(super) fn get(&mut self, id: HandshakeId) -> Option<&mut Handshake<S>> {
        find(&mut self.slab, id)
    }

    /// Takes a handshake out: the only way.
    pub(super) fn remove(&mut self, id: HandshakeId) -> Option<Handshake<S>> {
        self.get(id)?;
        let handshake = self.slab.remove(id.key);
        if let Some(address) = handshake.address {
            self.addresses.end(address.into(), handshake.failed, self.now);
        }
        Some(handshake)
    }

    /// Learns who the peer is; how it is to be refused if that address asks for too much.
    pub(super) fn identify(&mut self, id: HandshakeId, address: IpAddr) -> Result<(), Refusal> {
        let Some(handshake) = find(&mut self.slab, id) else { return Ok(()) };
        handshake.address = Some(address);
        self.addresses.begin(address.into(), self.now)
    }

    /// Who has to give way to a newcomer: the first of those that have had their answer, or of whom not a byte
    /// has come, or who have been about their request for long. `None` if there is none of these: a herd of honest
    /// clients must not push each other out.
    fn first_to_give_way(&mut self) -> Option<HandshakeId> {
        while let Some(&(_, id)) = self.refusals.front() {
            if self.get(id).is_some() {
                return Some(id);
            }
            self.refusals.pop_front();
        }
        self.forget_the_heard();
        let slow = self
            .unheard
            .front()
            .filter(|(since, _)| self.now.saturating_duration_since(*since) >= self.patience);
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

    pub(super) fn id(&self, key: usize) -> Option<HandshakeId> {
        self.slab.get(key).map(|handshake| HandshakeId { key, connection: handshake.connection })
    }

    /// All that are under way.
    fn ids(&self) -> Vec<HandshakeId> {
        let id = |(key, handshake): (usize, &Handshake<S>)| HandshakeId {
            key,
            connection: handshake.connection,
        };
        self.slab.iter().map(id).collect()
    }

    /// The next that has not come to its end within its time.
    fn pop_unfinished(&mut self) -> Option<HandshakeId> {
        self.pop_due(|handshakes| &mut handshakes.heads)
    }

    /// The next that was turned away and has had its time for that.
    fn pop_turned_away(&mut self) -> Option<HandshakeId> {
        self.pop_due(|handshakes| &mut handshakes.refusals)
    }

    /// The next handshake whose time is over. Those that have ended leave their queue on the way, so that
    /// it stays as short as the list of handshakes under way, mostly.
    fn pop_due(&mut self, queue: fn(&mut Self) -> &mut Deadlines) -> Option<HandshakeId> {
        while let Some(&(at, id)) = queue(self).front() {
            let ended = self.get(id).is_none();
            if at > self.now && !ended {
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

    /// When the next is due.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let first = |queue: &Deadlines| queue.front().map(|(at, _)| *at);
        first(&self.heads).into_iter().chain(first(&self.refusals)).min()
    }

    /// Has the poll watch a handshake that must wait for its peer. Most heads are there when their
    /// socket is accepted; those sockets are first watched by their reactor.
    pub(super) fn watch(&mut self, id: HandshakeId) {
        if self.get(id).is_some_and(|handshake| !handshake.watched) {
            self.watch_anew(id);
        }
    }

    /// Has the poll watch it, and tell of what is there already.
    pub(super) fn watch_anew(&mut self, id: HandshakeId) {
        let Some(handshake) = find(&mut self.slab, id) else { return };
        if let Err(error) = handshake.watch(self.poll.registry(), id.key) {
            log::warn!("cannot watch a new socket: {error}");
            self.remove(id);
        }
    }

    /// Lets go of a peer that is gone, or broke the rules of its transport: then it is told so.
    pub(super) fn give_up(&mut self, id: HandshakeId, error: Option<&io::Error>) {
        let Some(handshake) = find(&mut self.slab, id) else { return };
        if handshake.stream.is_handshaking() {
            tls_failed(&self.counters, handshake, TlsSession::failure(error), error);
            let is_here = error.is_some_and(|error| error.kind() == io::ErrorKind::InvalidData);
            if is_here && handshake.stream.give_up_tls().is_ok() {
                return self.turn_away(id, String::new());
            }
        }
        self.remove(id);
    }

    /// Turns a peer away with an answer, if it can read one.
    pub(super) fn refuse(&mut self, id: HandshakeId, refusal: Refusal) {
        let Some(handshake) = find(&mut self.slab, id) else { return };
        self.counters.refused(refusal.status());
        let (connection, address) = (id.connection, handshake.shown_address());
        let (status, reason) = (refusal.status(), refusal.why());
        log::debug!(
            connection, address:%, status, reason;
            "connection={connection} address={address} refused: {status} {reason}"
        );
        handshake.failed = refusal.is_peers_fault();
        if !handshake.can_be_told(refusal) {
            self.remove(id);
            return;
        }
        let response = refusal.response(handshake.wants_no_body());
        self.turn_away(id, response);
    }

    /// Answers, and waits a moment for the peer to read it.
    fn turn_away(&mut self, id: HandshakeId, response: String) {
        let Some(handshake) = find(&mut self.slab, id) else { return };
        handshake.phase = Phase::Refused(Refusing::new(response));
        self.refusals.push_back((self.now + REFUSAL_LINGER, id));
        self.go_on_refusing(id);
    }

    pub(super) fn go_on_refusing(&mut self, id: HandshakeId) {
        let Some(handshake) = find(&mut self.slab, id) else { return };
        let Phase::Refused(refusing) = &mut handshake.phase else { return };
        match refusing.go_on(&mut handshake.stream) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.watch(id),
            Ok(()) | Err(_) => {
                self.remove(id);
            }
        }
    }

    /// Has one that costs its peer little give way to a newcomer; false if all wait for this node.
    pub(super) fn make_room(&mut self) -> bool {
        let Some(id) = self.first_to_give_way() else { return false };
        let Some(handshake) = find(&mut self.slab, id) else { return false };
        if handshake.stream.is_handshaking() {
            tls_failed(&self.counters, handshake, TlsFailure::TimedOut, None);
        }
        if !matches!(handshake.phase, Phase::Refused(_)) {
            self.refuse(id, Refusal::GaveWay);
        }
        self.remove(id);
        true
    }

    /// Ends what has taken too long.
    pub(super) fn expire(&mut self) {
        while let Some(id) = self.pop_unfinished() {
            let Some(handshake) = find(&mut self.slab, id) else { continue };
            if handshake.stream.is_handshaking() {
                tls_failed(&self.counters, handshake, TlsFailure::TimedOut, None);
            }
            match &handshake.phase {
                Phase::Proxy { .. } | Phase::Hello { .. } | Phase::Head { .. } => {
                    self.refuse(id, Refusal::TimedOut);
                }
                Phase::Ticket { .. } => self.refuse(id, Refusal::NoBroker),
                Phase::Refused(_) => {}
            }
        }
        while let Some(id) = self.pop_turned_away() {
            self.remove(id);
        }
    }

    /// Tells everybody who is waiting; what cannot be written at once is given up.
    pub(super) fn refuse_all(&mut self, refusal: Refusal) {
        for id in self.ids() {
            let told = self.get(id).is_none_or(|found| matches!(found.phase, Phase::Refused(_)));
            if !told {
                self.refuse(id, refusal);
            }
        }
    }

    /// Takes one out that is authorised, with its socket off the poll.
    ///
    /// # Errors
    /// Those of the poll; the handshake has ended then.
    pub(super) fn release(&mut self, id: HandshakeId) -> io::Result<Option<Handshake<S>>> {
        let Some(handshake) = find(&mut self.slab, id) else { return Ok(None) };
        handshake.failed = false;
        let Some(mut handshake) = self.remove(id) else { return Ok(None) };
        if handshake.watched {
            self.poll.registry().deregister(&mut handshake.stream)?;
        }
        Ok(Some(handshake))
    }
}

/// The handshake called `id`, if it has not ended; apart from all else, which goes on to be used beside it.
fn find<S>(slab: &mut Slab<Handshake<S>>, id: HandshakeId) -> Option<&mut Handshake<S>> {
    slab.get_mut(id.key).filter(|handshake| handshake.connection == id.connection)
}

fn tls_failed<S: Socket>(
    counters: &Counters,
    handshake: &Handshake<S>,
    failure: TlsFailure,
    error: Option<&io::Error>,
) {
    counters.tls_failed(failure);
    let (connection, address) = (handshake.connection, handshake.shown_address());
    let reason = failure.label();
    log::debug!(
        connection, address:%, reason;
        "connection={connection} address={address} TLS: {reason}{}",
        error.map_or_else(String::new, |error| format!(": {error}"))
    );
}
