//! All clients in one event loop: they connect, handle, acknowledge, end their connections in all ways, and come back.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    io::{self, Read, Write},
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use imcore::ImClient;
use mio::{Events, Interest, Poll, Token, net::TcpStream};
use socket2::{Domain, SockRef, Socket, Type};

use super::{
    account::Sent,
    client::{Client, Heard, feed},
    delays::Delays,
};
use crate::{
    clock,
    frame::{self, Reader},
    swarm::{ACKNOWLEDGE_EVERY, End, Failures, Way, asking, parse, pause},
};

/// A server is never silent for so long; then it is asked, and then given up.
const SILENCE: Duration = Duration::from_secs(30);
const ANSWER: Duration = Duration::from_secs(12);
/// An attempt takes no longer.
const ATTEMPT: Duration = Duration::from_secs(10);
/// The longest pause: clients are to be back in time.
const LONGEST: Duration = Duration::from_secs(8);
/// A socket that was abandoned without a word is held this long, so that its kernel says nothing either.
const ABANDONED: Duration = Duration::from_secs(60);

/// What the run and the loop tell each other.
#[derive(Default)]
pub struct Shared {
    /// Clients may end their connections.
    pub flaps: AtomicBool,
    /// Something is being done to nodes or Redis.
    pub amid_fault: AtomicBool,
    pub end: AtomicBool,
    /// Clients that are in.
    pub open: AtomicUsize,
    pub delivered: AtomicU64,
    /// Clients that have all that was sent; counted while they do not flap.
    pub complete: AtomicUsize,
    pub ends: AtomicU64,
    /// The longest time for which one of them was not in, after it was the first time, in milliseconds.
    pub longest: AtomicU64,
}

enum Phase {
    /// No connection, and nothing asked for.
    Away,
    Dialling(Vec<u8>),
    Upgrading(Vec<u8>),
    Open(Reader),
}

/// What is due for a client; holds for the connection with this number alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Address,
    GiveUp,
    Flap,
    Acknowledge,
    Silent,
}

struct Peer {
    client: Client,
    phase: Phase,
    stream: Option<TcpStream>,
    connection: u32,
    /// Since when it is not in.
    away: Option<Instant>,
    failures: u32,
    heard: Instant,
    probed: bool,
    acknowledging: bool,
}

pub struct Swarm {
    poll: Poll,
    peers: Vec<Peer>,
    due: BinaryHeap<Reverse<(Instant, usize, u32, Step)>>,
    abandoned: std::collections::VecDeque<(Instant, TcpStream)>,
    wanted: Sender<(usize, i64)>,
    given: Receiver<(usize, Result<Way, String>)>,
    sent: Arc<Sent>,
    shared: Arc<Shared>,
    delays: Delays,
    flap: f64,
    random: u64,
    scratch: Vec<u8>,
}

impl Swarm {
    /// The clients connect over `ramp`, and end their connections every `flap` seconds or so.
    pub fn new(
        clients: Vec<Client>,
        im: ImClient,
        (sent, shared): (Arc<Sent>, Arc<Shared>),
        (ramp, flap): (Duration, f64),
    ) -> io::Result<Self> {
        let (wanted, queue) = channel::<(usize, i64)>();
        let (giver, given) = channel();
        thread::spawn(move || {
            for (key, client) in queue {
                let url = im.connect_url(client, None).map_err(|error| error.to_string());
                let way = url.and_then(|url| parse(&url, None));
                if giver.send((key, way)).is_err() {
                    return;
                }
            }
        });
        let (now, count) = (Instant::now(), clients.len().max(1));
        let due = (0..clients.len()).map(|key| {
            Reverse((now + ramp.mul_f64(key as f64 / count as f64), key, 0, Step::Address))
        });
        let due = due.collect();
        let peers = clients.into_iter().map(|client| Peer {
            client,
            phase: Phase::Away,
            stream: None,
            connection: 0,
            away: None,
            failures: 0,
            heard: now,
            probed: false,
            acknowledging: false,
        });
        Ok(Swarm {
            poll: Poll::new()?,
            peers: peers.collect(),
            due,
            abandoned: std::collections::VecDeque::new(),
            wanted,
            given,
            sent,
            shared,
            delays: Delays::default(),
            flap,
            random: 0x9e37_79b9_7f4a_7c15,
            scratch: vec![0; 64 << 10],
        })
    }

    /// Until the run ends; the clients with all they have seen, and how long it took.
    pub fn run(mut self) -> io::Result<(Vec<Client>, Delays)> {
        let mut events = Events::with_capacity(2048);
        let mut told = Instant::now();
        while !self.shared.end.load(Ordering::Acquire) {
            match self.poll.poll(&mut events, Some(Duration::from_millis(20))) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            for event in &events {
                self.ready(event.token().0);
            }
            while let Ok((key, way)) = self.given.try_recv() {
                self.dial(key, way);
            }
            self.steps();
            if told.elapsed() > Duration::from_millis(500) {
                told = Instant::now();
                self.tell();
            }
        }
        Ok((self.peers.into_iter().map(|peer| peer.client).collect(), self.delays))
    }

    fn tell(&mut self) {
        let is_open = |peer: &&Peer| matches!(peer.phase, Phase::Open(_)) && peer.client.greeted;
        self.shared.open.store(self.peers.iter().filter(is_open).count(), Ordering::Release);
        let delivered = self.peers.iter().map(|peer| peer.client.receiver.account.delivered);
        self.shared.delivered.store(delivered.sum(), Ordering::Release);
        if !self.shared.flaps.load(Ordering::Acquire) {
            let whole = self.peers.iter().filter(|p| p.client.receiver.is_complete(&self.sent));
            self.shared.complete.store(whole.count(), Ordering::Release);
        }
        while self.abandoned.front().is_some_and(|(at, _)| at.elapsed() > ABANDONED) {
            self.abandoned.pop_front();
        }
    }

    fn chance(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1u64 << 53) as f64
    }

    fn after(&mut self, pause: Duration, key: usize, step: Step) {
        let connection = self.peers[key].connection;
        self.due.push(Reverse((Instant::now() + pause, key, connection, step)));
    }

    fn steps(&mut self) {
        let now = Instant::now();
        while let Some(Reverse((at, key, connection, step))) = self.due.peek().copied() {
            if at > now {
                return;
            }
            self.due.pop();
            if self.peers[key].connection == connection {
                self.step(key, step);
            }
        }
    }

    fn step(&mut self, key: usize, step: Step) {
        let is_open = matches!(self.peers[key].phase, Phase::Open(_));
        match step {
            Step::Address => drop(self.wanted.send((key, self.peers[key].client.id))),
            Step::GiveUp if !is_open => self.over(key, None),
            Step::GiveUp => {}
            Step::Flap if self.shared.flaps.load(Ordering::Acquire) => self.flap(key),
            Step::Flap => {
                let pause = Duration::from_secs_f64(self.flap);
                self.after(pause, key, Step::Flap);
            }
            Step::Acknowledge => self.acknowledge(key),
            Step::Silent => self.listen(key),
        }
    }

    fn acknowledge(&mut self, key: usize) {
        let peer = &mut self.peers[key];
        peer.acknowledging = false;
        if let Some(word) = peer.client.place.acknowledge(clock::now()) {
            self.write(key, &frame::control(frame::TEXT, word.as_bytes()));
        }
    }

    /// Nothing was heard for long: the server is asked, and given up when it does not answer.
    fn listen(&mut self, key: usize) {
        let peer = &mut self.peers[key];
        let quiet = peer.heard.elapsed();
        if quiet < SILENCE {
            peer.probed = false;
            return self.after(SILENCE - quiet, key, Step::Silent);
        }
        if peer.probed {
            return self.abandon(key);
        }
        peer.probed = true;
        self.write(key, &frame::control(frame::TEXT, b"{\"q\":1}"));
        self.after(ANSWER, key, Step::Silent);
    }

    /// Ends the connection in one of the ways in which connections end, and comes back after a while.
    fn flap(&mut self, key: usize) {
        self.shared.ends.fetch_add(1, Ordering::Relaxed);
        let way = (self.chance() * 4.0) as u32;
        if way == 0 {
            return self.abandon(key);
        }
        if way == 1
            && let Some(stream) = &self.peers[key].stream
        {
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
        if way == 2 {
            self.write(key, &frame::control(frame::CLOSE, &3001u16.to_be_bytes()));
        }
        self.over(key, None);
    }

    /// Leaves the socket without a word, as a phone that loses its network does.
    fn abandon(&mut self, key: usize) {
        if let Some(mut stream) = self.peers[key].stream.take() {
            let _ = self.poll.registry().deregister(&mut stream);
            self.abandoned.push_back((Instant::now(), stream));
        }
        self.over(key, None);
    }

    /// The connection or the attempt is over; `end` is what the server said.
    fn over(&mut self, key: usize, end: Option<End>) {
        let chance = self.chance();
        let peer = &mut self.peers[key];
        let was_open = matches!(peer.phase, Phase::Open(_));
        if let Some(end) = &end
            && (end.for_good || end.reason == "close code 4002")
        {
            peer.client.fault(format!("the connection it had: {}", end.reason));
        }
        peer.failures = if was_open { 0 } else { peer.failures + 1 };
        if peer.client.greeted && was_open {
            peer.away = Some(Instant::now());
        }
        peer.stream = None;
        peer.phase = Phase::Away;
        peer.connection += 1;
        peer.acknowledging = false;
        let since_loss = peer.away.map(|away| away.elapsed());
        let failures = Failures { count: peer.failures, since_loss };
        let pause = pause(failures, end.and_then(|end| end.hint), chance).min(LONGEST);
        self.after(pause, key, Step::Address);
    }

    fn dial(&mut self, key: usize, way: Result<Way, String>) {
        let Ok(way) = way else { return self.over(key, None) };
        let request = asking(&way.request, Some(&self.peers[key].client.place));
        match self.connect(key, way.address) {
            Ok(stream) => {
                let peer = &mut self.peers[key];
                peer.stream = Some(stream);
                peer.phase = Phase::Dialling(request);
                peer.client.greeted = false;
                self.after(ATTEMPT, key, Step::GiveUp);
            }
            Err(_) => self.over(key, None),
        }
    }

    /// From addresses of our own, so that ports do not run out.
    fn connect(&self, key: usize, address: std::net::SocketAddr) -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking().cloexec(), None)?;
        let host = 1 + (key % 200) as u8;
        socket.bind(&std::net::SocketAddr::from((Ipv4Addr::new(127, 77, 0, host), 0)).into())?;
        match socket.connect(&address.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
            _ => {}
        }
        let mut stream = TcpStream::from_std(socket.into());
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(key), interest)?;
        Ok(stream)
    }

    fn write(&mut self, key: usize, bytes: &[u8]) {
        // A few bytes a second: a buffer that is full is a connection that is lost, which shows elsewhere.
        if let Some(stream) = &mut self.peers[key].stream {
            let _ = stream.write(bytes);
        }
    }

    fn ready(&mut self, key: usize) {
        let peer = &mut self.peers[key];
        let Some(stream) = &mut peer.stream else { return };
        if let Phase::Dialling(request) = &peer.phase {
            match stream.write(request) {
                Ok(_) => peer.phase = Phase::Upgrading(vec![]),
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected
                    ) =>
                {
                    return;
                }
                Err(_) => return self.over(key, None),
            }
            let _ = stream.set_nodelay(true);
        }
        self.read(key);
    }

    fn read(&mut self, key: usize) {
        let mut scratch = std::mem::take(&mut self.scratch);
        while let Some(stream) = &mut self.peers[key].stream {
            match stream.read(&mut scratch) {
                Ok(0) => {
                    self.over(key, None);
                    break;
                }
                Ok(count) => self.take(key, &scratch[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.over(key, None);
                    break;
                }
            }
        }
        self.scratch = scratch;
    }

    fn take(&mut self, key: usize, bytes: &[u8]) {
        let peer = &mut self.peers[key];
        peer.heard = Instant::now();
        let mut rest = bytes.to_vec();
        if let Phase::Upgrading(answer) = &mut peer.phase {
            answer.extend_from_slice(bytes);
            let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return };
            if answer.get(9..12) != Some(b"101") {
                return self.over(key, None);
            }
            rest = answer.split_off(end + 4);
            peer.phase = Phase::Open(Reader::default());
            self.opened(key);
        }
        let peer = &mut self.peers[key];
        let Phase::Open(reader) = &mut peer.phase else { return };
        let mut answer = Vec::new();
        let amid_fault = self.shared.amid_fault.load(Ordering::Relaxed);
        let delays = &mut |delay| self.delays.add(delay, amid_fault);
        let heard = &mut Heard { sent: &self.sent, now: clock::now(), delays };
        let closed = feed(reader, &rest, &mut peer.client, heard, &mut answer);
        if peer.client.greeted
            && let Some(since) = peer.away.take()
        {
            let away = since.elapsed().as_millis() as u64;
            self.shared.longest.fetch_max(away, Ordering::Relaxed);
        }
        let acknowledges = peer.client.place.owes() && !peer.acknowledging;
        peer.acknowledging |= acknowledges;
        if acknowledges {
            self.after(ACKNOWLEDGE_EVERY, key, Step::Acknowledge);
        }
        if !answer.is_empty() {
            self.write(key, &answer);
        }
        if let Some(payload) = closed {
            self.over(key, Some(End::close(&payload)));
        }
    }

    fn opened(&mut self, key: usize) {
        let pause = Duration::from_secs_f64(self.flap * 2.0 * self.chance());
        self.after(pause, key, Step::Flap);
        self.after(SILENCE, key, Step::Silent);
    }
}
