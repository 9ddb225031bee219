//! The account: what became of every message that was offered.
//!
//! [`Sequence`] follows one stream at one receiver and knows exactly what is missing, what came twice
//! and what came late. [`Account`] sums up and says whether offered = delivered + dropped. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::AddAssign,
};

use serde::{Deserialize, Serialize};

/// What arrived of one numbered stream (1, 2, 3, ...) at one receiver.
#[derive(Debug, Default)]
pub struct Sequence {
    highest: u32,
    missing: BTreeSet<u32>,
}

/// What one arrival was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    InOrder,
    /// It arrived, but after a later one.
    Late,
    Duplicate,
}

impl Sequence {
    pub fn arrive(&mut self, number: u32) -> Arrival {
        if number > self.highest {
            if number > self.highest + 1 {
                let gap = self.highest + 1..number;
                self.missing.extend(gap);
            }
            self.highest = number;
            return Arrival::InOrder;
        }
        let was_missing = self.missing.remove(&number);
        if was_missing { Arrival::Late } else { Arrival::Duplicate }
    }

    /// Which of the numbers up to `last` have not arrived.
    pub fn missing_up_to(&self, last: u32) -> impl Iterator<Item = u32> {
        let holes = self.missing.range(..=last).copied();
        holes.chain(self.highest.saturating_add(1)..=last)
    }
}

/// Offered = delivered + dropped + missed, and nothing went wrong.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    pub offered: u64,
    pub delivered: u64,
    /// Not arrived because the run itself had the receiver hang up: the only drop that is in order.
    pub dropped: u64,
    /// Sent while the receiver was on its way back from a connection that ended: in order where clients come back.
    pub missed: u64,
    /// Arrived at somebody it was not meant for: the worst that can happen.
    pub misdelivered: u64,
    /// Not arrived, and the run did not have the receiver hang up.
    pub lost: u64,
    pub duplicates: u64,
    pub misordered: u64,
    /// Arrived with another text than was sent.
    pub damaged: u64,
    /// Not a test message.
    pub stray: u64,
    /// Reason -> connections that ended, or never came, without an order of the run.
    pub ended: BTreeMap<String, u64>,
    /// The same, but the client came back; no fault.
    pub interrupted: BTreeMap<String, u64>,
}

impl Account {
    /// What went wrong: name and number, the worst first. Connections are no messages and not among them.
    pub fn faults(&self) -> [(&'static str, u64); 6] {
        [
            ("at the wrong client", self.misdelivered),
            ("lost", self.lost),
            ("duplicates", self.duplicates),
            ("out of order", self.misordered),
            ("damaged", self.damaged),
            ("stray", self.stray),
        ]
    }

    /// Whether every message is accounted for, none came twice, changed, out of order or to the wrong one,
    /// and every connection lasted as long as it was meant to.
    pub fn balances(&self) -> bool {
        self.offered == self.delivered + self.dropped + self.missed
            && self.faults().iter().all(|(_, count)| *count == 0)
            && self.ended.is_empty()
    }

    /// [`balances`](Self::balances) in words.
    pub fn verdict(&self) -> &'static str {
        if self.balances() { "balanced" } else { "DOES NOT BALANCE" }
    }
}

impl AddAssign<&Account> for Account {
    fn add_assign(&mut self, other: &Account) {
        self.offered += other.offered;
        self.delivered += other.delivered;
        self.dropped += other.dropped;
        self.missed += other.missed;
        self.misdelivered += other.misdelivered;
        self.lost += other.lost;
        self.duplicates += other.duplicates;
        self.misordered += other.misordered;
        self.damaged += other.damaged;
        self.stray += other.stray;
        for (reason, count) in &other.ended {
            *self.ended.entry(reason.clone()).or_default() += count;
        }
        for (reason, count) in &other.interrupted {
            *self.interrupted.entry(reason.clone()).or_default() += count;
        }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Account { offered, delivered, dropped, missed, .. } = self;
        write!(f, "offered {offered}, delivered {delivered}, dropped by hanging up {dropped}")?;
        if *missed > 0 || !self.interrupted.is_empty() {
            write!(f, ", missed while away {missed}")?;
        }
        for (name, count) in self.faults() {
            write!(f, ", {name} {count}")?;
        }
        for (reason, count) in &self.ended {
            write!(f, "; {count} connections ended: {reason}")?;
        }
        for (reason, count) in &self.interrupted {
            write!(f, "; {count} clients came back after: {reason}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_knows_late_from_twice() {
        let mut sequence = Sequence::default();
        assert_eq!(sequence.arrive(1), Arrival::InOrder);
        assert_eq!(sequence.arrive(4), Arrival::InOrder);
        let missing = |sequence: &Sequence, last| sequence.missing_up_to(last).collect::<Vec<_>>();
        assert_eq!(missing(&sequence, 4), [2, 3]);
        assert_eq!(missing(&sequence, 2), [2]);
        assert_eq!(missing(&sequence, 6), [2, 3, 5, 6]);
        assert_eq!(sequence.arrive(3), Arrival::Late);
        assert_eq!(sequence.arrive(3), Arrival::Duplicate);
        assert_eq!(sequence.arrive(1), Arrival::Duplicate);
        assert_eq!(missing(&sequence, 4), [2]);
    }

    #[test]
    fn an_account_balances_only_when_all_is_explained() {
        let mut account = Account { offered: 10, delivered: 9, ..Account::default() };
        assert!(!account.balances());
        account.dropped = 1;
        assert!(account.balances());
        let back = Account {
            offered: 3,
            missed: 3,
            interrupted: [("close code 1012".into(), 1)].into(),
            ..Account::default()
        };
        assert!(back.balances(), "{back}");
        for wrong in [
            Account { ended: [("close code 1013".into(), 1)].into(), ..Account::default() },
            Account { misdelivered: 1, ..Account::default() },
            Account { damaged: 1, ..Account::default() },
            Account { duplicates: 1, ..Account::default() },
            Account { misordered: 1, ..Account::default() },
            Account { stray: 1, ..Account::default() },
            Account { lost: 1, offered: 1, ..Account::default() },
        ] {
            let mut sum = account.clone();
            sum += &wrong;
            assert!(!sum.balances(), "{sum}");
        }
        let twice = {
            let mut sum = account.clone();
            sum += &account;
            sum
        };
        assert_eq!(twice.dropped, 2);
        assert!(twice.balances());
    }
}
