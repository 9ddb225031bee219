//! The ledger of a node against a broker that forgets, in one thread and without a clock.
//!
//! Connections come and go, reports lose their answers, the node is taken for dead, the broker is emptied or goes
//! back to an old snapshot: whatever the order, the books must be right once it is over. What happens is drawn from
//! a seed; `PRESENCE_SEED=17` replays one.

use std::collections::{BTreeMap, BTreeSet};

use testkit::seeded::{Replay, Seeded, seeds};

use super::super::{
    message::Report,
    upstream::ledger::{Ended, Ledger},
};
use crate::{
    broker::{FormerConnection, PresenceChange},
    wire::Ticket,
};

const VARIABLE: &str = "PRESENCE_SEED";

/// Clients of which there are several connections each.
const CLIENTS: u64 = 5;

fn client(connection: u64) -> u64 {
    connection % CLIENTS
}

/// Half of them can be resumed.
fn is_resumable(connection: u64) -> bool {
    connection / CLIENTS % 2 == 1
}

/// Why a session is there no more for its node.
#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    /// Taken for dead: its connections are told offline, but for those that can be resumed.
    Held,
    /// Nobody waits for these any more, or never did.
    Loud,
    /// Replaced by another: its connections go without a word.
    Quiet,
}

#[derive(Debug, Clone, Default)]
struct Session {
    connections: BTreeSet<u64>,
    last_report: u64,
    end: Option<End>,
}

/// What the broker knows: all of it is lost, or goes back, at once.
#[derive(Debug, Clone, Default)]
struct Books {
    sessions: BTreeMap<u64, Session>,
    online: BTreeMap<u64, u32>,
}

/// The broker as the contract has it, with what it published, which no loss takes back.
#[derive(Default)]
struct Forgetful {
    books: Books,
    snapshot: Books,
    /// Online and offline events of each connection, in order.
    events: BTreeMap<u64, Vec<bool>>,
    /// Clients that have left their channels because sessions were discarded.
    left: BTreeSet<u64>,
}

impl Forgetful {
    /// The number of the last report that is known.
    fn renew(&self, session: u64, acknowledged: u64) -> Result<u64, Ended> {
        match self.books.sessions.get(&session) {
            Some(Session { end: Some(_), .. }) => Err(Ended::Reaped),
            Some(known) if known.last_report >= acknowledged => Ok(known.last_report),
            _ => Err(Ended::Forgotten),
        }
    }

    fn report(
        &mut self,
        session: u64,
        acknowledged: u64,
        number: u64,
        changes: &[PresenceChange],
    ) -> Result<(), Ended> {
        if self.renew(session, acknowledged)? >= number {
            return Ok(());
        }
        for change in changes {
            match change {
                PresenceChange::Opened { connection, .. }
                | PresenceChange::Reopened { connection, .. } => {
                    self.open(session, *connection, true);
                }
                PresenceChange::Restored { connection, .. } => {
                    self.open(session, *connection, false);
                }
                PresenceChange::Closed { connection, .. }
                | PresenceChange::ClosedLate { connection, .. } => {
                    self.close(session, *connection, true);
                }
            }
        }
        self.books.sessions.entry(session).or_default().last_report = number;
        Ok(())
    }

    fn open(&mut self, session: u64, connection: u64, told: bool) {
        let known = self.books.sessions.entry(session).or_default();
        if known.connections.insert(connection) {
            *self.books.online.entry(client(connection)).or_default() += 1;
            if told {
                self.events.entry(connection).or_default().push(true);
            }
        }
    }

    fn close(&mut self, session: u64, connection: u64, told: bool) {
        let known = self.books.sessions.entry(session).or_default();
        if !known.connections.remove(&connection) {
            return;
        }
        let count = self.books.online.entry(client(connection)).or_default();
        *count -= 1;
        if *count == 0 {
            self.books.online.remove(&client(connection));
            if !told {
                self.left.insert(client(connection));
            }
        }
        if told {
            self.events.entry(connection).or_default().push(false);
        }
    }

    /// Clears away what ended sessions hold.
    fn reap(&mut self) {
        let ended =
            self.books.sessions.iter().filter_map(|(id, known)| {
                known.end.map(|end| (*id, end, known.connections.clone()))
            });
        for (session, end, connections) in ended.collect::<Vec<_>>() {
            let due =
                connections.into_iter().filter(|number| end != End::Held || !is_resumable(*number));
            for connection in due {
                self.close(session, connection, end != End::Quiet);
            }
        }
    }

    /// Ended sessions wait for nobody any more.
    fn release(&mut self) {
        for known in self.books.sessions.values_mut().filter(|known| known.end == Some(End::Held)) {
            known.end = Some(End::Loud);
        }
    }

    /// What is left of `former` goes on in a new session, if some of it can be resumed.
    fn take_over(&mut self, former: u64, session: u64) -> Option<Vec<FormerConnection>> {
        let known = self.books.sessions.get(&former)?;
        if known.end != Some(End::Held)
            || !known.connections.iter().any(|number| is_resumable(*number))
        {
            return None;
        }
        let Session { connections, .. } = self.books.sessions.remove(&former)?;
        let left = connections.iter().map(|number| FormerConnection {
            number: *number,
            ticket: ticket(*number),
            resumable: is_resumable(*number),
            from: 0,
        });
        let left = left.collect();
        self.books.sessions.insert(session, Session { connections, ..Session::default() });
        Some(left)
    }

    fn end(&mut self, session: u64, end: End) {
        if let Some(known) = self.books.sessions.get_mut(&session) {
            known.end = Some(end);
        }
    }
}

/// A node: what its presence thread keeps, and what is true of its connections.
#[derive(Default)]
struct Model {
    broker: Forgetful,
    ledger: Ledger,
    session: Option<u64>,
    ended: Option<Ended>,
    former: Vec<u64>,
    discard: bool,
    next_session: u64,
    next_connection: u64,
    open: BTreeSet<u64>,
    /// The broker has acknowledged so many reports of the session.
    acknowledged: u64,
    /// Changes of the report whose answer was lost.
    unanswered: Option<usize>,
    /// Connections of which nobody can know what was told: two things went wrong at once, a loss of data before
    /// the answer to a report, or before the reaping of a session was over.
    unsure: BTreeSet<u64>,
    /// Data was lost, and the node has not heard of it yet.
    lost: bool,
    /// Connections that were open when their session was found to be reaped, and of which nothing was left.
    reaped: BTreeSet<u64>,
    /// The same, before it is known what is left.
    found_reaped: BTreeSet<u64>,
}

impl Model {
    fn act(&mut self, chance: &mut Seeded) {
        match chance.below(41) {
            0..10 => self.connect(),
            10..17 => self.disconnect(chance),
            17..34 => self.turn(chance),
            34..36 => self.broker.snapshot = self.broker.books.clone(),
            36 => self.lose(self.broker.snapshot.clone()),
            37 => self.lose(Books::default()),
            38 => self.take_for_dead(),
            39 => {
                self.broker.release();
                self.reap();
            }
            _ => self.reap(),
        }
    }

    /// What ended sessions hold is cleared away. Whoever is online, and was told to be, stays in its channels, unless
    /// the broker has gone back into the middle of clearing, and the node has not restored it yet.
    fn reap(&mut self) {
        self.broker.reap();
        let left = std::mem::take(&mut self.broker.left);
        if self.lost || self.session.is_none() || !self.ledger.is_restored() {
            return;
        }
        for connection in self.open.difference(&self.unsure) {
            let told = self.broker.events.get(connection).and_then(|told| told.last());
            let leaves = told == Some(&true) && left.contains(&client(*connection));
            assert!(!leaves, "{connection} has left its channels");
        }
    }

    fn connect(&mut self) {
        let connection = self.next_connection;
        self.next_connection += 1;
        self.open.insert(connection);
        self.ledger.take(Report::Change(PresenceChange::Opened {
            connection,
            ticket: ticket(connection),
            resumable: is_resumable(connection),
        }));
    }

    fn disconnect(&mut self, chance: &mut Seeded) {
        if self.open.is_empty() {
            return;
        }
        let connection = *self.open.iter().nth(chance.below(self.open.len())).unwrap();
        self.open.remove(&connection);
        self.ledger.take(Report::Change(PresenceChange::Closed { connection, reason: "peer" }));
    }

    /// The broker goes back to what it knew before. Were the node's connections being told offline at that moment,
    /// nobody knows for which of them it was done.
    fn lose(&mut self, left: Books) {
        let pending = self.former.last().filter(|_| self.ended == Some(Ended::Reaped)).copied();
        let is_loud = |books: &Books, session| {
            let end = books.sessions.get(&session).and_then(|known| known.end);
            matches!(end, Some(End::Loud | End::Held))
        };
        let session = self.session.or(pending);
        if session.is_some_and(|session| is_loud(&self.broker.books, session)) {
            self.unsure.extend(0..self.next_connection);
        }
        // Likewise if it goes back into the middle of that.
        let is_loud = |known: &&Session| matches!(known.end, Some(End::Loud | End::Held));
        let loud = left.sessions.values().filter(is_loud);
        self.unsure.extend(loud.flat_map(|known| &known.connections));
        self.doubt_unanswered();
        self.lost = true;
        self.broker.books = left;
    }

    /// Others find that the lease has lapsed.
    fn take_for_dead(&mut self) {
        let Some(session) = self.session else { return };
        self.broker.end(session, End::Held);
        if self.lost {
            // Whoever reaps tells only those that are left.
            self.unsure.extend(0..self.next_connection);
        }
    }

    /// One turn of the presence thread.
    fn turn(&mut self, chance: &mut Seeded) {
        let Some(session) = self.session else { return self.begin() };
        if let Err(how) = self.broker.renew(session, self.acknowledged) {
            return self.session_ended(how);
        }
        self.lost = false;
        if self.discard && self.ledger.is_restored() {
            self.former.iter().for_each(|former| self.broker.end(*former, End::Quiet));
            self.discard = false;
        }
        let limit = self.unanswered.unwrap_or(1 + chance.below(4));
        let batch = self.ledger.batch(limit, chance.once_in(4));
        let count = batch.len();
        if count == 0 {
            return;
        }
        let (acknowledged, number) = (self.acknowledged, self.acknowledged + 1);
        match self.broker.report(session, acknowledged, number, batch) {
            Ok(()) if chance.once_in(5) => self.unanswered = Some(count),
            Ok(()) => {
                self.ledger.reported(count);
                self.acknowledged = number;
                self.unanswered = None;
            }
            Err(how) => self.session_ended(how),
        }
    }

    fn begin(&mut self) {
        if self.ended == Some(Ended::Reaped) {
            self.reap();
        }
        self.next_session += 1;
        self.session = Some(self.next_session);
        let own = self.former.last().filter(|_| self.ended == Some(Ended::Reaped)).copied();
        match own.and_then(|own| self.broker.take_over(own, self.next_session)) {
            Some(left) => {
                self.found_reaped.retain(|open| left.iter().all(|kept| kept.number != *open));
                self.ledger.retake(left);
            }
            None => {
                self.broker.books.sessions.insert(self.next_session, Session::default());
            }
        }
        self.reaped.append(&mut self.found_reaped);
        // It is back: what else it has left is cleared away.
        self.broker.release();
        self.acknowledged = 0;
        self.discard |= self.ended == Some(Ended::Forgotten);
        self.ended = None;
    }

    /// What the report whose answer was lost has told may be told again.
    fn doubt_unanswered(&mut self) {
        let count = self.unanswered.unwrap_or_default();
        self.unsure.extend(self.ledger.batch(count, false).iter().map(connection));
    }

    fn session_ended(&mut self, how: Ended) {
        self.doubt_unanswered();
        self.unanswered = None;
        self.lost = false;
        if how == Ended::Reaped {
            self.found_reaped = self.open.clone();
        }
        self.ledger.session_ended(how);
        self.former.extend(self.session.take());
        self.ended = Some(how);
    }

    /// Nothing more goes wrong: all is told, and what is left of former sessions is cleared away.
    fn calm(&mut self) {
        let mut never = Seeded::new(0);
        for _ in 0..10_000 {
            self.calm_turn(&mut never);
            if self.session.is_some() && self.ledger.waiting() == 0 && !self.discard {
                return self.lapse();
            }
        }
        panic!("it does not come to rest: {} wait", self.ledger.waiting());
    }

    /// Sessions that came back with an old snapshot, and that nobody renews, are taken for dead by others: the node
    /// had left them behind, and what they hold is told offline once more.
    fn lapse(&mut self) {
        let current = self.session;
        for (session, known) in &mut self.broker.books.sessions {
            if known.end.is_none() && Some(*session) != current {
                known.end = Some(End::Loud);
                self.unsure.extend(&known.connections);
            }
        }
        self.reap();
    }

    fn calm_turn(&mut self, chance: &mut Seeded) {
        let before = self.unanswered;
        self.turn(chance);
        // An answer that was lost is not lost again.
        if let (Some(count), None) = (self.unanswered, before) {
            self.ledger.reported(count);
            self.acknowledged += 1;
            self.unanswered = None;
        }
    }

    fn check(&self) {
        let books = &self.broker.books;
        let mut held = BTreeSet::new();
        for (session, known) in &books.sessions {
            for connection in &known.connections {
                assert!(held.insert(*connection), "{connection} is in session {session} as well");
            }
        }
        assert_eq!(held, self.open, "who is online");
        let mut online = BTreeMap::new();
        self.open
            .iter()
            .for_each(|connection| *online.entry(client(*connection)).or_insert(0) += 1);
        assert_eq!(books.online, online, "how often");
        for connection in (0..self.next_connection).filter(|number| !self.unsure.contains(number)) {
            let told = self.broker.events.get(&connection).map_or(&[][..], Vec::as_slice);
            let alternate = told.iter().enumerate().all(|(at, online)| *online == (at % 2 == 0));
            assert!(alternate, "{connection} was told {told:?}");
            let is_open = self.open.contains(&connection);
            assert_eq!(told.last(), Some(&is_open), "{connection} was told {told:?}");
            let once = told.len() == if is_open { 1 } else { 2 };
            assert!(once || self.reaped.contains(&connection), "{connection} was told {told:?}");
        }
    }
}

fn ticket(connection: u64) -> Ticket {
    Ticket::new((client(connection) as i64 + 1).into(), None)
}

fn connection(change: &PresenceChange) -> u64 {
    match change {
        PresenceChange::Opened { connection, .. }
        | PresenceChange::Reopened { connection, .. }
        | PresenceChange::Restored { connection, .. }
        | PresenceChange::Closed { connection, .. }
        | PresenceChange::ClosedLate { connection, .. } => *connection,
    }
}

#[test]
fn the_books_are_right_whatever_the_broker_forgets() {
    for seed in seeds(VARIABLE, 1500) {
        let _replay = Replay { variable: VARIABLE, seed };
        let mut chance = Seeded::new(seed);
        let mut model = Model::default();
        for _ in 0..3 {
            (0..60).for_each(|_| model.act(&mut chance));
            model.calm();
            model.check();
        }
    }
}
