//! Clients that come and go: threads, each with clients of its own that it has connect one after the other.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use imcore::ImClient;
use socket2::SockRef;

use super::account::{Attempt, Fate};
use crate::{clock, frame, setups::first_client, swarm::parse};

/// Longest wait for an answer.
const ANSWER: Duration = Duration::from_secs(10);
/// One visit in so many is of two devices at once.
const PAIRS: u64 = 4;
/// Longest stay.
const STAY: Duration = Duration::from_secs(1);
/// After a refusal.
const PAUSE: Duration = Duration::from_millis(100);
/// What a node knows of a connection so long after it has answered, the broker knows as well.
const KNOWN: u64 = 2_000_000_000;
/// An answer may be read so long after its node was killed.
const BEFORE: u64 = 1_000_000_000;

/// What all clients have done, readable while they do.
#[derive(Default)]
pub struct Visits {
    attempts: Mutex<Vec<Record>>,
    /// When which node was killed.
    kills: Mutex<Vec<(String, u64)>>,
    pub opened: AtomicUsize,
}

#[derive(Clone)]
struct Record {
    client: i64,
    node: String,
    fate: Fate,
    opened: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a run of them is to be.
#[derive(Clone, Copy)]
pub struct Plan {
    pub opens: usize,
    pub clients: usize,
    pub seconds: f64,
}

impl Visits {
    /// Has `plan.opens` connections open and close; returns once they are gone.
    pub fn run(&self, im: &ImClient, plan: Plan) {
        let rate = plan.opens as f64 / plan.seconds / (1.0 + 1.0 / PAIRS as f64);
        // Enough that a stay is no limit.
        let workers = ((rate * 2.0) as usize).clamp(4, 400).min(plan.clients);
        let begun = Instant::now();
        let next = AtomicUsize::new(0);
        thread::scope(|scope| {
            for worker in 0..workers {
                let next = &next;
                scope.spawn(move || {
                    let clients: Vec<_> = (worker..plan.clients).step_by(workers).collect();
                    let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ (worker as u64) << 32 | 1);
                    for client in clients.iter().cycle() {
                        let visit = next.fetch_add(1, Ordering::Relaxed);
                        let due = Duration::from_secs_f64(visit as f64 / rate);
                        thread::sleep(due.saturating_sub(begun.elapsed()));
                        if self.opened.load(Ordering::Relaxed) >= plan.opens {
                            return;
                        }
                        self.visit(im, first_client() + *client as i64, &mut random);
                    }
                });
            }
        });
    }

    /// One connection, or two at once.
    fn visit(&self, im: &ImClient, client: i64, random: &mut Random) {
        let devices = 1 + usize::from(random.below(PAIRS) == 0);
        let mut sockets: Vec<_> = (0..devices).filter_map(|_| self.open(im, client)).collect();
        if sockets.is_empty() {
            thread::sleep(PAUSE);
        }
        while !sockets.is_empty() {
            let socket = sockets.swap_remove(random.below(sockets.len() as u64) as usize);
            stay(&socket, STAY.mul_f64(random.below(1000) as f64 / 1000.0));
            leave(socket, random.below(3));
        }
    }

    /// A connect. `None` if it is not open.
    fn open(&self, im: &ImClient, client: i64) -> Option<TcpStream> {
        let node = im.node_of(client).ok()?;
        let number = {
            let mut attempts = lock(&self.attempts);
            attempts.push(Record { client, node, fate: Fate::Unknown, opened: 0 });
            attempts.len() - 1
        };
        let (fate, socket) = match connect(im, client, number) {
            Ok(socket) => (Fate::Was, Some(socket)),
            Err(Some(_status)) => (Fate::Refused, None),
            Err(None) => (Fate::Unknown, None),
        };
        let record = &mut lock(&self.attempts)[number];
        (record.fate, record.opened) = (fate, clock::now());
        self.opened.fetch_add(usize::from(socket.is_some()), Ordering::Relaxed);
        socket
    }

    /// This node was killed just now.
    pub fn killed(&self, node: &str) {
        lock(&self.kills).push((node.to_owned(), clock::now()));
    }

    /// All connects, in their order.
    pub fn attempts(&self) -> Vec<Attempt> {
        let kills = lock(&self.kills);
        let is_doubtful = |record: &Record| {
            kills.iter().any(|(node, at)| {
                *node == record.node
                    && (record.opened.saturating_sub(BEFORE)..record.opened + KNOWN).contains(at)
            })
        };
        let fate = |record: &Record| match record.fate {
            Fate::Was if is_doubtful(record) => Fate::Unknown,
            fate => fate,
        };
        let attempts = lock(&self.attempts);
        attempts.iter().map(|own| Attempt { client: own.client, fate: fate(own) }).collect()
    }
}

/// An open connection; else the status of the refusal, if one came or nobody was asked.
fn connect(im: &ImClient, client: i64, number: usize) -> Result<TcpStream, Option<u16>> {
    // Without an address nobody is asked.
    let url = im.connect_url(client, Some(&number.to_string())).map_err(|_| Some(0))?;
    let way = parse(&url, None).map_err(|_| Some(0))?;
    let mut socket = TcpStream::connect_timeout(&way.address, ANSWER).map_err(|_| Some(0))?;
    let mut ask = || -> io::Result<Vec<u8>> {
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(ANSWER))?;
        socket.write_all(&way.request)?;
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            socket.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        Ok(head)
    };
    let head = ask().map_err(|_| None)?;
    let status = String::from_utf8_lossy(head.get(9..12).unwrap_or_default()).parse();
    match status {
        Ok(101) => Ok(socket),
        Ok(status) => Err(Some(status)),
        Err(_) => Err(None),
    }
}

/// For so long, or until the other side ends it.
fn stay(socket: &TcpStream, time: Duration) {
    let (until, mut scratch) = (Instant::now() + time, [0; 1024]);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || socket.set_read_timeout(Some(left)).is_err() {
            return;
        }
        let mut reader = socket;
        if matches!(reader.read(&mut scratch), Ok(0) | Err(_)) {
            return;
        }
    }
}

/// Ends it in one of the ways in which connections end.
fn leave(mut socket: TcpStream, way: u64) {
    match way {
        0 => {
            let _ = socket.write_all(&frame::control(frame::CLOSE, &1000u16.to_be_bytes()));
            let _ = socket.shutdown(Shutdown::Write);
        }
        1 => drop(SockRef::from(&socket).set_linger(Some(Duration::ZERO))),
        _ => {}
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}
