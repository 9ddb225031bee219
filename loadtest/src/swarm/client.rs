//! One client over all of its connections: what it has got, and when it was away.
//!
//! Knows no clock and no loop; the swarm tells it the time, and does what [`After`] says.

use std::{ops::RangeInclusive, time::Duration};

use super::{
    pause::{End, Failures, Hint},
    resume::{self, Place},
    socket::{Greeted, Owner, Socket},
    tally::Tally,
    tickets::Way,
};
use crate::{
    account::Sequence,
    orders::{Reconnect, Schedule},
    stamp::DIRECT,
};

/// A connection that lasted this long was a good one: the pauses start small again.
const STABLE: u64 = 5_000_000_000;
/// What was sent this long before a connection broke may have been on its way.
const ON_ITS_WAY: u64 = 1_000_000_000;
/// Not yet.
const NEVER: u64 = u64::MAX;

pub struct Client {
    pub id: i64,
    socket: Option<Socket>,
    /// What arrived over all connections, by stream; most clients know one or two.
    pub sequences: Vec<(u32, Sequence)>,
    /// Whether it comes back when a connection ends or an attempt fails.
    comes_back: bool,
    /// Where it is, if it goes on from there.
    place: Option<Place>,
    /// It left by order of the run.
    pub left: bool,
    /// It is not in, and will be again.
    pub is_away: bool,
    /// Number of its latest attempt to come back.
    attempt: u64,
    /// Whether an attempt by order is under way.
    pub is_by_order: bool,
    opened: Option<u64>,
    failures: u32,
    /// When a connection was lost that had lasted.
    lost: Option<u64>,
    absences: Vec<Absence>,
}

/// From a connection's end until the client was back, by the clock of the run.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Absence {
    ended: u64,
    /// Until the next connection was open.
    connected: u64,
    /// Until its rooms were joined again.
    joined: u64,
}

/// What the swarm has to do next for a client.
pub enum After {
    Nothing,
    /// It is in; `returned` after an absence.
    Open {
        returned: bool,
    },
    /// It is not in; try again after a pause, if one is given.
    Over {
        again: Option<(Failures, Option<Hint>)>,
    },
}

impl Client {
    pub fn new(id: i64, reconnect: Reconnect) -> Self {
        Client {
            id,
            socket: None,
            sequences: Vec::new(),
            comes_back: reconnect != Reconnect::Never,
            place: (reconnect == Reconnect::Resuming).then(Place::default),
            left: false,
            is_away: false,
            attempt: 0,
            is_by_order: true,
            opened: None,
            failures: 0,
            lost: None,
            absences: Vec::new(),
        }
    }

    /// Another attempt begins.
    pub fn dial(&mut self, socket: Socket, attempt: u64) {
        self.socket = Some(socket);
        self.attempt = attempt;
    }

    /// An attempt by order begins; without a socket it has failed.
    pub fn dial_by_order(&mut self, socket: Option<Socket>) {
        self.socket = socket;
        self.is_by_order = true;
    }

    /// The way to a connection that goes on from where it is, if it does so.
    pub fn asking(&self, mut way: Way) -> Way {
        if let Some(place) = &self.place {
            way.request = resume::asking(&way.request, Some(place));
        }
        way
    }

    /// Its connection breaks: with a reset, or without a word to the other side. What is left of it then, and what follows.
    pub fn cut(&mut self, silently: bool, now: u64, tally: &mut Tally) -> (Option<Socket>, After) {
        let mut socket = self.socket.take();
        let how = if silently { "gave up a silent link" } else { "reset" };
        if let Some(socket) = socket.as_mut().filter(|_| !silently) {
            socket.reset();
        }
        let after = self.ended(true, End::of(how), now, tally);
        (socket.filter(|_| silently), after)
    }

    pub fn is_open(&self) -> bool {
        self.socket.as_ref().is_some_and(Socket::is_open)
    }

    /// Whether the attempt with this number goes on.
    pub fn is_trying(&self, attempt: u64) -> bool {
        attempt == self.attempt && self.socket.as_ref().is_some_and(|socket| !socket.is_open())
    }

    pub fn was_ever_open(&self) -> bool {
        self.opened.is_some()
    }

    /// Reads and answers what is there; `is_over` if nothing comes after it.
    pub fn ready(
        &mut self,
        now: u64,
        is_over: bool,
        scratch: &mut [u8],
        tally: &mut Tally,
    ) -> After {
        let was_open = self.is_open();
        let Some(socket) = &mut self.socket else { return After::Nothing };
        let (client, place) = (self.id, self.place.as_mut());
        let sequences = &mut self.sequences;
        let mut owner = Owner { client, sequences, place, greeted: None, is_over, tally };
        let result = socket.ready(scratch, &mut owner);
        let greeted = owner.greeted;
        let opened = (self.is_open() && !was_open).then(|| self.open(now, tally));
        if let Some(greeted) = greeted {
            self.greeted(greeted, now, tally);
        }
        match result {
            Err(end) => self.over(end, now, tally),
            Ok(()) => opened.unwrap_or(After::Nothing),
        }
    }

    /// The node has said whether it misses anything. What it is told of is forgiven, all else is not.
    fn greeted(&mut self, greeted: Greeted, now: u64, tally: &mut Tally) {
        match greeted {
            Greeted::Resumed => {
                self.absences.pop();
                tally.status.resumed += 1;
            }
            Greeted::Resync(None) => {}
            Greeted::Resync(Some(why)) => {
                self.absences = vec![Absence { ended: 0, connected: now, joined: now }];
                *tally.status.resyncs.entry(why).or_default() += 1;
            }
        }
    }

    fn open(&mut self, now: u64, tally: &mut Tally) -> After {
        let returned = self.was_ever_open();
        self.opened = Some(now);
        if let Some(absence) = self.absences.last_mut().filter(|_| returned) {
            absence.connected = now;
            tally.returned(now - absence.ended);
        }
        After::Open { returned }
    }

    /// The connection has ended, or the attempt has come to nothing.
    pub fn over(&mut self, end: End, now: u64, tally: &mut Tally) -> After {
        let was_open = self.is_open();
        self.socket = None;
        self.ended(was_open, end, now, tally)
    }

    fn ended(&mut self, was_open: bool, end: End, now: u64, tally: &mut Tally) -> After {
        let again = self.comes_back && !end.for_good;
        match (was_open, again) {
            (true, true) => tally.interrupted(end.reason),
            (true, false) => tally.ended(end.reason),
            (false, true) => tally.tried(end.reason),
            (false, false) => tally.refuse(end.reason),
        }
        if was_open && again {
            self.go_absent(now);
        }
        let since_loss = self.lost.map(|lost| Duration::from_nanos(now.saturating_sub(lost)));
        let failures = Failures { count: self.failures, since_loss };
        self.failures += 1;
        After::Over { again: again.then_some((failures, end.hint)) }
    }

    fn go_absent(&mut self, now: u64) {
        if let Some(last) = self.absences.last_mut() {
            last.joined = last.joined.min(now);
        }
        self.absences.push(Absence { ended: now, connected: NEVER, joined: NEVER });
        if self.opened.is_some_and(|opened| now - opened >= STABLE) {
            self.failures = 0;
            self.lost = Some(now);
        }
    }

    /// Its rooms are joined again.
    pub fn joined(&mut self, now: u64) {
        let is_open = self.is_open();
        if let Some(last) = self.absences.last_mut().filter(|_| is_open) {
            last.joined = last.joined.min(now);
        }
    }

    /// It goes by order, without a word. False if it was not there; whoever has not come yet comes all the same.
    pub fn hang_up(&mut self) -> bool {
        let was_open = self.is_open();
        if was_open || self.is_away && self.was_ever_open() {
            self.left = true;
            self.socket = None;
        }
        was_open
    }

    /// Which of the messages 1 to `last` of a stream it does not have.
    pub fn missing(&self, stream: u32, last: u32) -> Vec<u32> {
        let found = self.sequences.iter().find(|(own, _)| *own == stream);
        found.map_or_else(|| (1..=last).collect(), |(_, got)| got.missing_up_to(last).collect())
    }

    /// Whether a message of `stream` with this number was sent while it was away, or so shortly before that it was
    /// on its way.
    pub fn was_away(&self, stream: u32, number: u32, schedule: &Schedule) -> bool {
        let sent = schedule.moments(number);
        self.absences.iter().any(|absence| {
            let back = if stream == DIRECT { absence.connected } else { absence.joined };
            overlap(&sent, &(absence.ended.saturating_sub(ON_ITS_WAY)..=back))
        })
    }
}

fn overlap(one: &RangeInclusive<u64>, other: &RangeInclusive<u64>) -> bool {
    one.start() <= other.end() && other.start() <= one.end()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn only_what_was_sent_while_it_was_away_was_missed() {
        let mut client = Client::new(1, Reconnect::Anew);
        let at = |second| Absence { ended: second * SECOND, connected: NEVER, joined: NEVER };
        // One message a second, the first at second 1, each going out when it is due.
        let schedule = Schedule { first: SECOND, step: SECOND as f64, late: 0 };
        let away = |client: &Client, stream| -> Vec<u32> {
            (1..=20).filter(|number| client.was_away(stream, *number, &schedule)).collect()
        };
        assert!(away(&client, DIRECT).is_empty());
        client.absences = vec![at(5)];
        assert_eq!(away(&client, DIRECT), (4..=20).collect::<Vec<_>>());
        client.absences[0].connected = 8 * SECOND - 1;
        client.absences[0].joined = 10 * SECOND - 1;
        assert_eq!(away(&client, DIRECT), [4, 5, 6, 7]);
        assert_eq!(away(&client, 3), [4, 5, 6, 7, 8, 9]);
        // Messages that may have gone out up to 2 s after they were due.
        let late = Schedule { late: 2 * SECOND, ..schedule };
        assert!(client.was_away(DIRECT, 2, &late) && !client.was_away(DIRECT, 1, &late));
    }

    #[test]
    fn a_further_cut_ends_the_absence_before() {
        let mut client = Client::new(1, Reconnect::Anew);
        client.go_absent(5 * SECOND);
        client.absences[0].connected = 6 * SECOND;
        client.opened = Some(6 * SECOND);
        client.go_absent(7 * SECOND);
        assert_eq!(client.absences[0].joined, 7 * SECOND);
        assert_eq!(client.absences[1].joined, NEVER);
    }
}
