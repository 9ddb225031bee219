//! What each client must have got, knowing the promise alone: every message once and in order, or word that some may be
//! missing. Pure but for the senders' counters. Read by the swarm message by message, and by the run at the end.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

/// Where a message goes; each of these has one sender that numbers its messages from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stream {
    /// The client's place.
    Direct(u32),
    Room(u32),
    All,
}

/// What the senders have sent, readable while they do.
pub struct Sent {
    direct: Vec<AtomicU32>,
    rooms: Vec<AtomicU32>,
    all: AtomicU32,
    /// A call that failed may have sent these or not.
    uncertain: Mutex<BTreeSet<(Stream, u32)>>,
}

impl Sent {
    pub fn new(clients: usize, rooms: usize) -> Self {
        let counters = |count| (0..count).map(|_| AtomicU32::new(0)).collect();
        let (direct, rooms) = (counters(clients), counters(rooms));
        Sent { direct, rooms, all: AtomicU32::new(0), uncertain: Mutex::default() }
    }

    fn counter(&self, stream: Stream) -> &AtomicU32 {
        match stream {
            Stream::Direct(place) => &self.direct[place as usize],
            Stream::Room(room) => &self.rooms[room as usize],
            Stream::All => &self.all,
        }
    }

    /// The number of the next message, which is about to be sent.
    pub fn next(&self, stream: Stream) -> u32 {
        self.counter(stream).fetch_add(1, Ordering::AcqRel) + 1
    }

    /// The highest number that may have gone out.
    pub fn last(&self, stream: Stream) -> u32 {
        self.counter(stream).load(Ordering::Acquire)
    }

    /// Nobody knows whether these went out.
    pub fn doubt(&self, messages: &[(Stream, u32)]) {
        let mut uncertain = self.uncertain.lock().unwrap_or_else(PoisonError::into_inner);
        uncertain.extend(messages);
    }

    fn is_certain(&self, stream: Stream, number: u32) -> bool {
        let uncertain = self.uncertain.lock().unwrap_or_else(PoisonError::into_inner);
        !uncertain.contains(&(stream, number))
    }
}

/// How a message came to be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hole {
    /// Within a connection.
    Open,
    /// Across a connect of which the server said that it resumed.
    Silent,
    /// The server said that something may be missing.
    Told,
}

/// One stream at one receiver.
#[derive(Debug)]
pub struct Line {
    stream: Stream,
    last: u32,
    /// Up to here the server has said that something may be missing.
    told: u32,
    /// The server said "resumed" since the last arrival.
    resumed: bool,
    holes: Vec<(u32, Hole)>,
}

/// What became of the messages of one client or of all.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Account {
    pub delivered: u64,
    pub missing: u64,
    pub silent: u64,
    pub told: u64,
    pub doubles: u64,
    pub misordered: u64,
    pub misdelivered: u64,
    /// Connects that resumed.
    pub resumed: u64,
    /// Why others did not.
    pub why: BTreeMap<String, u64>,
    /// What no server should do.
    pub faults: BTreeMap<String, u64>,
}

impl Line {
    fn arrive(&mut self, number: u32, account: &mut Account) {
        if number > self.last {
            self.hole_up_to(number - 1);
            self.last = number;
            self.resumed = false;
            account.delivered += 1;
        } else if let Some(at) = self.holes.iter().position(|(hole, _)| *hole == number) {
            self.holes.remove(at);
            account.misordered += 1;
        } else {
            account.doubles += 1;
        }
    }

    fn hole_up_to(&mut self, end: u32) {
        for number in self.last + 1..=end {
            let hole = match (number <= self.told, self.resumed) {
                (true, _) => Hole::Told,
                (false, true) => Hole::Silent,
                (false, false) => Hole::Open,
            };
            self.holes.push((number, hole));
        }
    }
}

/// What one client has got, by the streams that it is meant to hear.
#[derive(Debug)]
pub struct Receiver {
    lines: [Line; 3],
    pub account: Account,
}

impl Receiver {
    pub fn new(place: u32, room: u32) -> Self {
        let lines = [Stream::Direct(place), Stream::Room(room), Stream::All];
        let lines =
            lines.map(|stream| Line { stream, last: 0, told: 0, resumed: false, holes: vec![] });
        Receiver { lines, account: Account::default() }
    }

    /// A message is here; `None` if it is none of this run.
    pub fn message(&mut self, message: Option<(Stream, u32)>) {
        let line = message.and_then(|(stream, number)| {
            self.lines.iter_mut().find(|line| line.stream == stream).map(|line| (line, number))
        });
        match line {
            Some((line, number)) => line.arrive(number, &mut self.account),
            None => self.account.misdelivered += 1,
        }
    }

    /// The server says that nothing is missing.
    pub fn resumed(&mut self) {
        self.account.resumed += 1;
        self.lines.iter_mut().for_each(|line| line.resumed = true);
    }

    /// The server says that something may be missing: whatever was sent before now.
    pub fn resync(&mut self, why: &str, sent: &Sent) {
        *self.account.why.entry(why.to_owned()).or_default() += 1;
        for line in &mut self.lines {
            line.told = sent.last(line.stream);
        }
    }

    /// Whether everything that was sent is here, but for what the server said may be missing.
    pub fn is_complete(&self, sent: &Sent) -> bool {
        self.lines.iter().all(|line| line.last.max(line.told) >= sent.last(line.stream))
    }

    /// Nothing comes any more.
    pub fn close(mut self, sent: &Sent) -> Account {
        for line in &mut self.lines {
            line.hole_up_to(sent.last(line.stream));
            for (number, hole) in &line.holes {
                if sent.is_certain(line.stream, *number) {
                    match hole {
                        Hole::Open => self.account.missing += 1,
                        Hole::Silent => self.account.silent += 1,
                        Hole::Told => self.account.told += 1,
                    }
                }
            }
        }
        self.account
    }
}

impl Account {
    pub fn add(&mut self, other: &Account) {
        self.delivered += other.delivered;
        self.missing += other.missing;
        self.silent += other.silent;
        self.told += other.told;
        self.doubles += other.doubles;
        self.misordered += other.misordered;
        self.misdelivered += other.misdelivered;
        self.resumed += other.resumed;
        for (sum, more) in [(&mut self.why, &other.why), (&mut self.faults, &other.faults)] {
            for (name, count) in more {
                *sum.entry(name.clone()).or_default() += count;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a receiver says of a server that was sent five direct messages and did `lie`.
    fn account(lie: impl FnOnce(&mut Receiver, &Sent)) -> Account {
        let sent = Sent::new(1, 1);
        for _ in 0..5 {
            sent.next(Stream::Direct(0));
        }
        let mut receiver = Receiver::new(0, 0);
        lie(&mut receiver, &sent);
        receiver.close(&sent)
    }

    fn take(receiver: &mut Receiver, numbers: &[u32]) {
        numbers.iter().for_each(|number| receiver.message(Some((Stream::Direct(0), *number))));
    }

    #[test]
    fn an_honest_server_is_believed() {
        let account = account(|receiver, _| {
            take(receiver, &[1, 2, 3]);
            receiver.resumed();
            take(receiver, &[4, 5]);
        });
        assert_eq!(account, Account { delivered: 5, resumed: 1, ..Account::default() });
    }

    #[test]
    fn each_lie_is_found() {
        let drops = account(|receiver, _| take(receiver, &[1, 2, 4, 5]));
        assert_eq!((drops.missing, drops.silent), (1, 0));
        let last = account(|receiver, _| take(receiver, &[1, 2, 3, 4]));
        assert_eq!(last.missing, 1);
        let doubles = account(|receiver, _| take(receiver, &[1, 2, 2, 3, 4, 5, 1]));
        assert_eq!((doubles.doubles, doubles.misordered), (2, 0));
        let swaps = account(|receiver, _| take(receiver, &[1, 3, 2, 4, 5]));
        assert_eq!((swaps.misordered, swaps.missing), (1, 0));
        let hole = account(|receiver, _| {
            take(receiver, &[1, 2]);
            receiver.resumed();
            take(receiver, &[4, 5]);
        });
        assert_eq!((hole.silent, hole.missing), (1, 0));
        let stray = account(|receiver, _| {
            take(receiver, &[1, 2, 3, 4, 5]);
            receiver.message(Some((Stream::Room(7), 1)));
            receiver.message(None);
        });
        assert_eq!(stray.misdelivered, 2);
    }

    #[test]
    fn what_was_told_excuses_only_what_was_sent_before() {
        let sent = Sent::new(1, 1);
        let mut receiver = Receiver::new(0, 0);
        for _ in 0..3 {
            sent.next(Stream::Direct(0));
        }
        take(&mut receiver, &[1]);
        assert!(!receiver.is_complete(&sent));
        receiver.resync("epoch", &sent);
        assert!(receiver.is_complete(&sent));
        for _ in 0..2 {
            sent.next(Stream::Direct(0));
        }
        take(&mut receiver, &[5]);
        let account = receiver.close(&sent);
        assert_eq!((account.told, account.missing), (2, 1));
        assert_eq!(account.why, [("epoch".to_owned(), 1)].into());
    }

    #[test]
    fn what_may_not_have_gone_out_is_not_missing_and_counts_twice_all_the_same() {
        let account = account(|receiver, sent| {
            sent.doubt(&[(Stream::Direct(0), 3), (Stream::Direct(0), 4)]);
            take(receiver, &[1, 2, 4, 4, 5]);
        });
        assert_eq!((account.missing, account.doubles), (0, 1));
    }
}
