//! The node, its guests, and what is around both: a listener, a ticket thread, a feed, a clock. One world, in one file: each
//! part answers another, and none is used elsewhere.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    io,
    net::{IpAddr, Ipv4Addr},
    rc::Rc,
    sync::{
        Arc, LazyLock,
        atomic::Ordering,
        mpsc::{Receiver, channel},
    },
    time::{Duration, Instant},
};

use mio::{Interest, Poll, Registry, Token, event::Source};
use rustls::{ClientConfig, ClientConnection, RootCertStore, pki_types::ServerName};
use testkit::seeded::Seeded;

use super::{
    super::{
        line::{Line, Wire},
        tls::{identity, trust},
    },
    guest::{Guest, Kind},
};
use crate::{
    broker::{MemoryBroker, PresenceChange},
    server::{
        acceptor::{self, Acceptor, Listen},
        config::{Limits, PeerAddress, ServerConfig},
        connection::{
            prepared::Prepared,
            receipt::{DueNotices, notices},
        },
        inbox::{InboxSender, Reactors, inbox},
        message::{AcceptorCommand, Admission, Command, Report, TicketJob},
        node::Node,
        reactor::{self, Reactor},
        reasons::Refusal,
        transport::{Transport, tls::Tls},
    },
    wire::{Position, Ticket},
};

/// Time that a handshake has, and a refused peer after it.
const HANDSHAKE: Duration = Duration::from_secs(4);
const AFTER: Duration = Duration::from_secs(1);
/// The longest pause between two turns.
const STEP: usize = 200;
const QUEUE: usize = 4096;

/// One for all runs: making it costs more than a run.
static IDENTITY: LazyLock<(Tls, RootCertStore)> = LazyLock::new(identity);

/// Sockets that nobody has accepted yet.
#[derive(Clone, Default)]
struct Queue(Rc<RefCell<VecDeque<Accepted>>>);

type Accepted = io::Result<(Wire, IpAddr)>;

impl Listen for Queue {
    type Socket = Wire;

    fn accept(&self) -> io::Result<(Wire, IpAddr)> {
        self.0.borrow_mut().pop_front().unwrap_or_else(|| Err(io::ErrorKind::WouldBlock.into()))
    }
}

impl Source for Queue {
    fn register(&mut self, _: &Registry, _: Token, _: Interest) -> io::Result<()> {
        Ok(())
    }

    fn reregister(&mut self, _: &Registry, _: Token, _: Interest) -> io::Result<()> {
        Ok(())
    }

    fn deregister(&mut self, _: &Registry) -> io::Result<()> {
        Ok(())
    }
}

/// Who is to be told of a socket's news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Nowhere,
    Acceptor,
    Reactor,
}

pub(super) struct World {
    node: Arc<Node>,
    acceptor: Acceptor<Queue>,
    reactor: Reactor<Transport<Wire>>,
    to_acceptor: InboxSender<AcceptorCommand>,
    to_reactor: InboxSender<Command<Transport<Wire>>>,
    listener: Queue,
    jobs: Receiver<TicketJob>,
    /// Tickets that are asked for, when that was, and when the broker answers at the earliest.
    asked: Vec<(TicketJob, Instant, Instant)>,
    reports: Receiver<Report>,
    _notices: DueNotices,
    now: Instant,
    trust: Option<Arc<ClientConfig>>,
    guests: Vec<Guest>,
    places: Vec<Place>,
    came: Vec<Instant>,
    /// Guests by connection, while the broker knows them, and how many there were.
    online: BTreeMap<u64, usize>,
    opened: u64,
    messages: usize,
    /// Whether the poll has something to tell of the listener.
    somebody_came: bool,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let secure = seed.is_multiple_of(2);
        let config = ServerConfig {
            peer_address: [
                PeerAddress::Socket,
                PeerAddress::ProxyProtocol,
                PeerAddress::ForwardedFor,
            ][seed as usize / 2 % 3],
            limits: Limits {
                connections: 16,
                handshakes: 8,
                handshakes_per_address: 4,
                handshake: HANDSHAKE,
                ..Limits::default()
            },
            ..ServerConfig::default()
        };
        let bound = config.listen;
        let (tls, roots) = &*IDENTITY;
        let version = rustls::ALL_VERSIONS[seed as usize / 6 % rustls::ALL_VERSIONS.len()];
        let trust = secure.then(|| Arc::new(trust(roots, &[version])));
        let tls = secure.then(|| tls.clone());
        let node = Node::new(config, bound, tls, Arc::new(MemoryBroker::new())).unwrap();
        node.pulse.readiness.set_listening(true);
        node.pulse.readiness.set_lease(true);
        let poll = Poll::new().unwrap();
        let (to_reactor, commands) = inbox(&poll, reactor::WAKE, QUEUE).unwrap();
        let (report, reports) = channel();
        let (notices, due) = notices();
        let mut reactor = Reactor::new(&node, poll, commands, report, notices);
        let poll = Poll::new().unwrap();
        let (to_acceptor, commands) = inbox(&poll, acceptor::WAKE, QUEUE).unwrap();
        let (job, jobs) = channel();
        let listener = Queue::default();
        let doors = Reactors::new(vec![to_reactor.clone()]);
        let acceptor = Acceptor::new(&node, poll, commands, listener.clone(), job, doors);
        let now = Instant::now();
        reactor.pass(now, Duration::ZERO);
        World {
            node,
            acceptor,
            reactor,
            to_acceptor,
            to_reactor,
            listener,
            jobs,
            asked: Vec::new(),
            reports,
            _notices: due,
            now,
            trust,
            guests: Vec::new(),
            places: Vec::new(),
            came: Vec::new(),
            online: BTreeMap::new(),
            opened: 0,
            messages: 0,
            somebody_came: false,
        }
    }

    /// Somebody does something, then both threads have a turn.
    pub(super) fn step(&mut self, chance: &mut Seeded) {
        match chance.below(16) {
            0..=3 => self.come(chance),
            4..=7 => self.send(chance),
            8 if chance.once_in(3) => self.kick(chance),
            9 if chance.once_in(4) => {
                // Out of descriptors, or a peer that left before it was accepted.
                let error = match chance.once_in(2) {
                    true => io::Error::from_raw_os_error(24),
                    false => io::ErrorKind::ConnectionAborted.into(),
                };
                self.listener.0.borrow_mut().push_back(Err(error));
                self.somebody_came = true;
            }
            10 if chance.once_in(4) => {
                let ready = chance.once_in(2);
                self.node.pulse.readiness.set_lease(ready);
            }
            _ => {}
        }
        for guest in &mut self.guests {
            if chance.once_in(2) {
                guest.act(chance);
            }
        }
        self.answer_tickets(chance);
        let late = chance.once_in(4);
        self.turn(Duration::from_millis(chance.below(STEP) as u64), |_| !late || chance.once_in(2));
    }

    fn come(&mut self, chance: &mut Seeded) {
        let client = 1 + self.guests.len() as i64;
        let kind = match chance.below(12) {
            0 => Kind::Forged,
            1 => Kind::Lost,
            2 => Kind::Clear,
            3 => Kind::Junk,
            4 => Kind::Silent,
            _ => Kind::Good,
        };
        let address = Ipv4Addr::new(10, 0, 0, 1 + chance.below(4) as u8);
        // Room for an answer at least, as every kernel has it.
        let line = Line::new(chance.next(), 1000 + chance.below(3000));
        let tls = self.trust.as_ref().map(|trust| {
            let name = ServerName::try_from("localhost").unwrap();
            ClientConnection::new(Arc::clone(trust), name).unwrap()
        });
        let opening = self.opening(kind, client, address);
        let guest = Guest::new(client, kind, !chance.once_in(3), line, tls, opening);
        let wire = Wire(Rc::clone(&guest.line));
        self.listener.0.borrow_mut().push_back(Ok((wire, address.into())));
        self.somebody_came = true;
        self.guests.push(guest);
        self.places.push(Place::Nowhere);
        self.came.push(self.now);
    }

    /// What a proxy says in front, and the request.
    fn opening(&self, kind: Kind, client: i64, address: Ipv4Addr) -> (Vec<u8>, String) {
        let mut front = Vec::new();
        if self.node.config.peer_address == PeerAddress::ProxyProtocol {
            front.extend(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c");
            front.extend(address.octets());
            front.extend([10, 0, 0, 99, 0, 1, 0, 2]);
        }
        let path = if kind == Kind::Lost { "/elsewhere" } else { "/ws" };
        let token = if kind == Kind::Forged { "forged".into() } else { format!("t{client}") };
        let head = format!(
            "GET {path}?token={token} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Version: 13\r\nX-Forwarded-For: 6.6.6.6, {address}\r\n\r\n"
        );
        (front, head)
    }

    /// The feed: a message to one guest, wherever it is by now.
    fn send(&mut self, chance: &mut Seeded) {
        if self.guests.is_empty() {
            return;
        }
        let index = chance.below(self.guests.len());
        let id = self.messages;
        self.messages += 1;
        let is_online = self.online.values().any(|online| *online == index);
        let guest = &mut self.guests[index];
        guest.may_get.push(id);
        if is_online && !guest.left && !guest.was_kicked {
            guest.owed.push(id);
        }
        let message =
            Prepared::text(&format!("{id} {}", "x".repeat(chance.below(600))), Position::default());
        let receivers = vec![guest.client.into()];
        let command =
            Command::Direct { sender: 0.into(), receivers, message, receipt: None, origin: None };
        self.to_reactor.push(command).unwrap();
    }

    /// The feed: somebody must go, and not come back with the ticket that it has.
    fn kick(&mut self, chance: &mut Seeded) {
        if self.guests.is_empty() {
            return;
        }
        let index = chance.below(self.guests.len());
        let guest = &mut self.guests[index];
        guest.was_kicked = true;
        guest.must_go |= guest.has_ticket;
        let client = guest.client;
        self.node.kicks.note(client.into(), self.now);
        self.to_reactor.push(Command::ForceOffline(client.into())).unwrap();
    }

    /// The ticket thread, which is sometimes late, and whose broker is sometimes away.
    fn answer_tickets(&mut self, chance: &mut Seeded) {
        for job in self.jobs.try_iter() {
            if let Some(client) = job.token.strip_prefix('t') {
                self.guests[client.parse::<usize>().unwrap() - 1].has_ticket = true;
            }
            // Some answers come when nobody waits for them any more.
            let lost = if chance.once_in(12) { HANDSHAKE + AFTER } else { Duration::ZERO };
            self.asked.push((job, self.now, self.now + lost));
        }
        for (job, at, due) in std::mem::take(&mut self.asked) {
            if self.now < due || !chance.once_in(3) {
                self.asked.push((job, at, due));
                continue;
            }
            let outcome = match job.token.strip_prefix('t') {
                None => Err(Refusal::BadToken),
                Some(_) if chance.once_in(12) => Err(Refusal::NoBroker),
                Some(client) => {
                    let client: i64 = client.parse().unwrap();
                    Ok(Admission { ticket: Ticket::new(client.into(), None), taken: at })
                }
            };
            let verdict = AcceptorCommand::Verdict { handshake: job.handshake, outcome };
            self.to_acceptor.push(verdict).unwrap();
        }
    }

    /// Time passes, and both threads work on what they are told of.
    fn turn(&mut self, waited: Duration, mut told: impl FnMut(usize) -> bool) {
        self.now += waited;
        let mut for_acceptor = Vec::new();
        let mut for_reactor = Vec::new();
        for (index, guest) in self.guests.iter().enumerate() {
            let mut line = guest.line.borrow_mut();
            let Some(token) = line.watch.filter(|_| !line.dropped && told(index)) else { continue };
            let readable = std::mem::take(&mut line.readable);
            let writable = std::mem::take(&mut line.writable);
            if !readable && !writable {
                continue;
            }
            match self.places[index] {
                Place::Nowhere => unreachable!("watched by nobody"),
                Place::Acceptor => {
                    for_acceptor.push(acceptor::Ready { token, broken: line.reset });
                }
                Place::Reactor => for_reactor.push(reactor::Ready {
                    key: token.0 as _,
                    writable,
                    readable,
                    ended: line.ended,
                }),
            }
        }
        if std::mem::take(&mut self.somebody_came) {
            for_acceptor.push(acceptor::Ready { token: acceptor::LISTENER, broken: false });
        }
        assert!(self.acceptor.work(for_acceptor.into_iter(), self.now));
        self.note_places(Place::Acceptor);
        self.reactor.pass(self.now, waited);
        self.reactor.work(for_reactor.into_iter());
        self.note_places(Place::Reactor);
        self.collect();
        self.check();
    }

    /// Who has begun to watch a socket is whoever has just worked.
    fn note_places(&mut self, worked: Place) {
        for (place, guest) in self.places.iter_mut().zip(&self.guests) {
            if std::mem::take(&mut guest.line.borrow_mut().watch_is_new) {
                *place = worked;
            }
        }
    }

    /// What presence is told.
    fn collect(&mut self) {
        for report in self.reports.try_iter() {
            match report {
                Report::Change(PresenceChange::Opened { connection, ticket, .. }) => {
                    let client = ticket.client().to_string();
                    let index = client.parse::<usize>().unwrap() - 1;
                    assert_eq!(self.guests[index].kind, Kind::Good, "{client} was let in");
                    assert!(!self.online.values().any(|online| *online == index), "opened twice");
                    self.online.insert(connection, index);
                    self.opened += 1;
                }
                Report::Change(PresenceChange::Closed { connection, .. }) => {
                    assert!(self.online.remove(&connection).is_some(), "closed but not open");
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// What holds at any time.
    fn check(&self) {
        for (index, guest) in self.guests.iter().enumerate() {
            let line = guest.line.borrow();
            let waits = self.now - self.came[index];
            // Accepting may take a pause, and a turn is late by a step.
            let late = waits > HANDSHAKE + AFTER + Duration::from_millis(3 * STEP as u64 + 200);
            let under_way = self.places[index] != Place::Reactor && !line.dropped;
            assert!(!(late && under_way), "{guest:?} is under way for {waits:?}");
            if guest.kind != Kind::Good {
                assert_ne!(guest.status, Some(101), "{guest:?} was let in");
            }
            if let Some(status) = guest.status {
                assert!(expected(guest.kind).contains(&status), "{status}: {guest:?}");
            }
            let mut order = guest.may_get.iter();
            let in_order = guest.got.iter().all(|got| order.any(|sent| sent == got));
            assert!(in_order, "{:?} of {:?}", guest.got, guest.may_get);
            let reached = guest.got.last().copied().unwrap_or(0);
            let due: Vec<_> = guest.owed.iter().filter(|id| **id <= reached).collect();
            let missing = due.iter().any(|id| !guest.got.contains(id));
            assert!(!missing || guest.got.is_empty(), "a gap: {:?} of {:?}", guest.got, guest.owed);
        }
    }

    /// Faults are over: whoever is patient and still here gets all that it is owed.
    pub(super) fn settle(&mut self, chance: &mut Seeded) {
        self.node.pulse.readiness.set_lease(true);
        // One more, behind a moment without descriptors: nothing but time says that this is over.
        self.listener.0.borrow_mut().push_back(Err(io::Error::from_raw_os_error(24)));
        self.come(chance);
        for _ in 0..60 {
            for guest in &mut self.guests {
                guest.settle();
            }
            self.answer_tickets(chance);
            self.turn(Duration::from_millis(100), |_| true);
        }
        for (index, guest) in self.guests.iter().enumerate().filter(|(_, guest)| guest.polite) {
            let is_online = self.online.values().any(|online| *online == index);
            match guest.status {
                Some(101) if guest.left && guest.close.is_none() => {
                    assert!(!is_online, "{guest:?} has left and is shown");
                }
                Some(101) if guest.close.is_none() => {
                    assert!(is_online, "{guest:?} is served and not shown");
                    assert!(!guest.must_go, "{guest:?} was kicked and is served");
                    let all = guest.owed.iter().all(|id| guest.got.contains(id));
                    assert!(all, "{:?} of {:?}", guest.got, guest.owed);
                }
                Some(101) => assert!(guest.was_kicked && guest.close == Some(4001), "{guest:?}"),
                // Let go before TLS was agreed on, or by something that it would not read.
                None if self.trust.is_none() && guest.kind != Kind::Junk => {
                    panic!("{guest:?} was told nothing");
                }
                _ => assert!(!is_online && guest.line.borrow().dropped, "{guest:?} waits for ever"),
            }
        }
    }

    /// The node stops; a digest of what everybody got.
    pub(super) fn finish(mut self) -> u64 {
        self.to_acceptor.push(AcceptorCommand::Stop).unwrap();
        assert!(!self.acceptor.work(std::iter::empty(), self.now));
        drop(self.acceptor);
        self.to_reactor.push(Command::Drain).unwrap();
        for _ in 0..4 {
            self.reactor.pass(self.now, Duration::ZERO);
            self.reactor.work(std::iter::empty());
            self.guests.iter_mut().for_each(Guest::settle);
        }
        self.reactor.finish();
        drop(self.reactor);
        let mut digest = DefaultHasher::new();
        for report in self.reports.try_iter() {
            let Report::Change(PresenceChange::Closed { connection, .. }) = report else {
                panic!("{report:?}")
            };
            assert!(self.online.remove(&connection).is_some(), "closed but not open");
        }
        assert!(self.online.is_empty(), "nobody was told that {:?} are gone", self.online);
        self.listener.0.borrow_mut().clear();
        for guest in &self.guests {
            assert!(guest.line.borrow().dropped, "{guest:?} was forgotten");
            (guest.client, guest.status, guest.close, &guest.got).hash(&mut digest);
        }
        assert_eq!(self.node.live.load(Ordering::Relaxed), 0);
        let stats = self.node.vitals().stats();
        assert_eq!((stats.connections, stats.handshakes), (0, 0));
        assert_eq!(stats.offered, stats.delivered + stats.dropped);
        assert!(stats.opened >= self.opened);
        digest.finish()
    }
}

/// What somebody may be told.
fn expected(kind: Kind) -> &'static [u16] {
    match kind {
        Kind::Good => &[101, 401, 408, 429, 503],
        Kind::Forged => &[401, 408, 429, 503],
        Kind::Lost => &[404, 408, 429, 503],
        Kind::Clear => &[400, 408, 429, 503],
        Kind::Junk => &[],
        Kind::Silent => &[408, 429, 503],
    }
}
