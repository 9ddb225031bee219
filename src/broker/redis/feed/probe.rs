//! Probes: messages that a feed publishes to itself, and what their return proves.
//!
//! A probe that comes back proves that the subscription hears, that everything in front of it in the stream
//! has been heard, and how far the node lags. Knows no connection, and is told the time; owned by one feed.

use std::time::{Duration, Instant};

use super::cursor::Head;
use crate::{broker::contract::Echo, error::Result, token::random_u64, wire::Envelope};

/// The probes of one feed: at most one is under way.
pub(super) struct Probes {
    /// Marks our own among those of other processes; `None` before the first connection.
    origin: Option<u64>,
    /// Number of the last one, over all connections.
    number: u64,
    under_way: Option<Probe>,
    /// When the last was sent that read the count; when there was a new connection, if none was sent since.
    last: Instant,
    /// The last that came back, over all connections.
    echo: Option<Echo>,
    /// When it was told that another process probes itself under our name.
    told_duplicate: Option<Instant>,
}

struct Probe {
    covers: Covers,
    sent: Instant,
    /// For how long nothing at all was heard since.
    waited: Duration,
}

/// What is proven by the return of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Covers {
    /// How many of the messages that waited for the barrier were heard before it was sent.
    pub(super) waiting: usize,
    /// Messages counted by their senders when it was published, if it was read.
    pub(super) published: Option<u64>,
    /// The head of the log as it was then, if it was read.
    pub(super) head: Option<Head>,
}

/// Whose probe was heard.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// The one that was under way.
    Own(Covers),
    /// An own one that is not waited for any more.
    Former,
    /// That of another process, which is to be told now.
    Foreign,
    /// That of another process, of which was told a moment ago.
    ForeignAgain,
}

impl Probes {
    pub(super) fn new(now: Instant) -> Self {
        let (origin, under_way, echo, told_duplicate) = (None, None, None, None);
        Probes { origin, number: 0, under_way, last: now, echo, told_duplicate }
    }

    /// There are new connections: what was under way will not come back.
    pub(super) fn restart(&mut self, now: Instant) -> Result<()> {
        if self.origin.is_none() {
            self.origin = Some(random_u64()?);
        }
        self.under_way = None;
        self.last = now;
        Ok(())
    }

    /// What was under way may come back, and proves nothing any more.
    pub(super) fn give_up(&mut self) {
        self.under_way = None;
    }

    /// Whether `interval` has passed since the last that read the count.
    pub(super) fn is_due(&self, now: Instant, interval: Duration) -> bool {
        now.duration_since(self.last) >= interval
    }

    pub(super) fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// The next one, to be published.
    pub(super) fn next(&mut self) -> Envelope {
        self.number += 1;
        Envelope::Probe { origin: self.origin.unwrap_or_default(), number: self.number }
    }

    /// The [next](Self::next) one was published; its publishing began at `now`. One that reads no count leaves the next that
    /// does due: else channel messages, each of which sends one, would put it off for ever.
    pub(super) fn sent(&mut self, now: Instant, covers: Covers) {
        if covers.published.is_some() {
            self.last = now;
        }
        self.under_way = Some(Probe { covers, sent: now, waited: Duration::ZERO });
    }

    /// A probe was heard. Foreign ones are told once per `interval`: they go on for ever.
    pub(super) fn heard(
        &mut self,
        origin: u64,
        number: u64,
        now: Instant,
        interval: Duration,
    ) -> Whose {
        if Some(origin) != self.origin {
            let told = self.told_duplicate;
            if told.is_some_and(|told| now.duration_since(told) < interval) {
                return Whose::ForeignAgain;
            }
            self.told_duplicate = Some(now);
            return Whose::Foreign;
        }
        match self.under_way.take_if(|_| number == self.number) {
            None => Whose::Former,
            Some(Probe { covers, sent, .. }) => {
                self.echo = Some(Echo { at: now, took: now.duration_since(sent) });
                Whose::Own(covers)
            }
        }
    }

    /// Nothing was left to hear within `wait`. True if the one under way was waited for as long as `limit`:
    /// it will not come back. Counted in waits and not by the clock: a process that was stopped, or suspended
    /// with its machine, has not waited meanwhile.
    pub(super) fn is_overdue(&mut self, wait: Duration, limit: Duration) -> bool {
        self.under_way.as_mut().is_some_and(|probe| {
            probe.waited += wait;
            probe.waited >= limit
        })
    }

    /// The last that came back, over all connections.
    pub(super) fn echo(&self) -> Option<Echo> {
        self.echo
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const NOTHING: Covers = Covers { waiting: 0, published: None, head: None };

    fn begun(now: Instant) -> Probes {
        let mut probes = Probes::new(now);
        probes.origin = Some(7);
        probes
    }

    #[test]
    fn the_one_under_way_proves_and_a_former_one_does_not() {
        let start = Instant::now();
        let mut probes = begun(start);
        assert!(!probes.is_due(start, SECOND) && probes.is_due(start + SECOND, SECOND));
        assert_eq!(probes.next(), Envelope::Probe { origin: 7, number: 1 });
        probes.sent(start + SECOND, NOTHING);
        probes.restart(start + SECOND).unwrap();
        assert!(!probes.is_under_way());
        probes.next();
        let covers = Covers { waiting: 3, published: Some(9), head: None };
        probes.sent(start + SECOND, covers.clone());
        assert_eq!(probes.heard(7, 1, start + 2 * SECOND, SECOND), Whose::Former);
        assert_eq!(probes.echo(), None);
        assert_eq!(probes.heard(7, 2, start + 3 * SECOND, SECOND), Whose::Own(covers));
        assert_eq!(probes.echo(), Some(Echo { at: start + 3 * SECOND, took: 2 * SECOND }));
        assert_eq!(probes.heard(7, 2, start + 3 * SECOND, SECOND), Whose::Former, "it came twice");
    }

    #[test]
    fn a_probe_is_overdue_by_waits_alone() {
        let start = Instant::now();
        let mut probes = begun(start);
        assert!(!probes.is_overdue(60 * SECOND, SECOND), "none is under way");
        probes.next();
        probes.sent(start, NOTHING);
        let overdue = (1..=10).map(|_| probes.is_overdue(SECOND, 3 * SECOND)).position(|is| is);
        assert_eq!(overdue, Some(2));
    }

    #[test]
    fn another_process_is_told_once_per_interval() {
        let start = Instant::now();
        let mut probes = begun(start);
        assert_eq!(probes.heard(8, 1, start, SECOND), Whose::Foreign);
        assert_eq!(probes.heard(8, 2, start + SECOND / 2, SECOND), Whose::ForeignAgain);
        assert_eq!(probes.heard(8, 3, start + SECOND, SECOND), Whose::Foreign);
    }
}
