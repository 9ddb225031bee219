//! What a node has reported, and what it has still to report. Pure: no broker, no clock.
//!
//! Used by the presence thread alone. Of what it has reported it keeps what a broker that has forgotten it
//! must be told again.

use std::collections::VecDeque;

use ahash::{AHashMap, AHashSet};

use crate::{
    broker::{FormerConnection, PresenceChange},
    id::ClientId,
    server::message::Report,
    wire::Ticket,
};

/// How the last session ended, not by the node itself.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Ended {
    /// Others were told that its clients are offline.
    Reaped,
    /// The broker lost it; nobody was told anything.
    Forgotten,
}

/// Why a connection ended of which only a former process of the node could say more.
const NODE_GONE: &str = "node_gone";

#[derive(Default)]
pub(crate) struct Ledger {
    /// Connections that the broker knows to be open -> ticket text.
    held: AHashMap<u64, Box<str>>,
    /// Those of them that their clients can resume.
    resumable: AHashSet<u64>,
    /// What is still to be reported, in order.
    changes: VecDeque<PresenceChange>,
    /// How many of them, from the first, tell again what a session before has told.
    again: usize,
    /// Memberships that the broker has forgotten.
    members: Vec<(ClientId, String)>,
    /// Reactors that have named theirs, since all of them were last told again.
    named: usize,
    /// Clients that were taken for gone and are here: to be brought back into their channels.
    returned: Vec<ClientId>,
    /// Reports that were ever taken from the queue.
    taken: u64,
}

impl Ledger {
    pub(crate) fn take(&mut self, report: Report) {
        self.taken += 1;
        match report {
            Report::Change(change) => self.changes.push_back(change),
            Report::Members(members) => {
                self.members.extend(members);
                self.named += 1;
            }
            // What is on its way between nodes is no matter of the ledger.
            Report::HandOver(_) | Report::Expect { .. } => {}
        }
    }

    /// These connections of a former process are reported; those that nobody can resume have ended with it.
    pub(crate) fn inherit(&mut self, connections: Vec<FormerConnection>) {
        for FormerConnection { number, ticket, resumable, .. } in connections {
            self.held.insert(number, ticket.into_text());
            match resumable {
                true => {
                    self.resumable.insert(number);
                }
                false => self.changes.push_back(PresenceChange::ClosedLate {
                    connection: number,
                    reason: NODE_GONE,
                }),
            }
        }
    }

    /// What is left of a session that others have ended goes on: of its connections nobody was told anything, so those that
    /// are here stay as they are, and those that are not have still to be told.
    pub(crate) fn retake(&mut self, connections: Vec<FormerConnection>) {
        let mut left: AHashMap<u64, FormerConnection> =
            connections.into_iter().map(|connection| (connection.number, connection)).collect();
        let (held, again, resumable) = (&mut self.held, &mut self.again, &mut self.resumable);
        self.changes.retain(|change| {
            let (connection, is_told) = match change {
                PresenceChange::Reopened { connection, .. } => (connection, true),
                // Carried out, as it turns out, and the answer was lost: once more does no harm.
                PresenceChange::Opened { connection, .. }
                | PresenceChange::Restored { connection, .. } => (connection, false),
                _ => return true,
            };
            let Some(kept) = left.remove(connection).filter(|_| is_told) else { return true };
            held.insert(*connection, kept.ticket.into_text());
            if kept.resumable {
                resumable.insert(*connection);
            }
            *again = again.saturating_sub(1);
            false
        });
        for FormerConnection { number, ticket, .. } in left.into_values() {
            self.held.insert(number, ticket.into_text());
            self.changes
                .push_back(PresenceChange::ClosedLate { connection: number, reason: NODE_GONE });
        }
    }

    /// Of those that would be told anew, others answer for these clients.
    pub(crate) fn give_up(&mut self, is_theirs: impl Fn(&ClientId) -> bool) {
        let before = self.changes.len();
        self.changes.retain(|change| !client(change).is_some_and(&is_theirs));
        self.again = self.again.saturating_sub(before - self.changes.len());
        self.returned.retain(|client| !is_theirs(client));
    }

    /// The ticket of a connection that is reported.
    pub(crate) fn ticket(&self, connection: u64) -> Option<&str> {
        self.held.get(&connection).map(|ticket| &**ticket)
    }

    /// Another node answers for this connection.
    pub(crate) fn handed_over(&mut self, connection: u64) {
        self.held.remove(&connection);
        self.resumable.remove(&connection);
    }

    /// This node answers for a connection that another has reported.
    pub(crate) fn arrived(&mut self, connection: u64, ticket: String, resumable: bool) {
        self.held.insert(connection, ticket.into());
        if resumable {
            self.resumable.insert(connection);
        }
    }

    /// A connection of which nobody here knows anything any more.
    pub(crate) fn close_late(&mut self, connection: u64) {
        self.changes.push_back(PresenceChange::ClosedLate { connection, reason: NODE_GONE });
    }

    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// How much is still to be told.
    pub(crate) fn waiting(&self) -> usize {
        self.changes.len() + self.members.len()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.waiting() == 0 && self.returned.is_empty()
    }

    /// How many connections that have ended are still to be reported.
    pub(crate) fn closes(&self) -> usize {
        let is_close = |change: &&PresenceChange| closed(change).is_some();
        self.changes.iter().filter(is_close).count()
    }

    /// Whether all is told again that a session before has told.
    pub(crate) fn is_restored(&self) -> bool {
        self.again == 0
    }

    /// The next `limit` changes; with `late` each close among them is told as one that was long ago, also
    /// when they are asked for again.
    pub(crate) fn batch(&mut self, limit: usize, late: bool) -> &[PresenceChange] {
        let count = self.changes.len().min(limit);
        if late {
            for change in self.changes.iter_mut().take(count) {
                if let PresenceChange::Closed { connection, reason } = *change {
                    *change = PresenceChange::ClosedLate { connection, reason };
                }
            }
        }
        &self.changes.make_contiguous()[..count]
    }

    /// The broker has taken the first `count` changes.
    pub(crate) fn reported(&mut self, count: usize) {
        for change in self.changes.drain(..count) {
            match change {
                PresenceChange::Opened { connection, ticket, resumable }
                | PresenceChange::Reopened { connection, ticket, resumable }
                | PresenceChange::Restored { connection, ticket, resumable } => {
                    self.held.insert(connection, ticket.into_text());
                    if resumable {
                        self.resumable.insert(connection);
                    }
                }
                PresenceChange::Closed { connection, .. }
                | PresenceChange::ClosedLate { connection, .. } => {
                    self.held.remove(&connection);
                    self.resumable.remove(&connection);
                }
            }
        }
        self.again = self.again.saturating_sub(count);
        if self.changes.is_empty() && self.changes.capacity() > 1 << 12 {
            // A long outage must not be paid for ever after.
            self.changes = VecDeque::new();
        }
    }

    /// Some memberships that the broker has forgotten, the last `limit`.
    pub(crate) fn members(&self, limit: usize) -> &[(ClientId, String)] {
        &self.members[self.members.len().saturating_sub(limit)..]
    }

    /// Whether the memberships that all of so many reactors have named are told again; says so once.
    pub(crate) fn members_are_back(&mut self, reactors: usize) -> bool {
        // One loss after another: each reactor names all it has each time.
        let back = self.members.is_empty() && self.named > 0 && self.named.is_multiple_of(reactors);
        if back {
            self.named = 0;
        }
        back
    }

    pub(crate) fn members_joined(&mut self, count: usize) {
        self.members.truncate(self.members.len() - count);
    }

    /// Clients to be brought back into their channels, once they are reported.
    pub(crate) fn returned(&self, limit: usize) -> &[ClientId] {
        let limit = if self.is_restored() { limit } else { 0 };
        &self.returned[self.returned.len().saturating_sub(limit)..]
    }

    /// Whether nobody is to be brought back any more.
    pub(crate) fn all_have_returned(&self) -> bool {
        self.is_restored() && self.returned.is_empty()
    }

    pub(crate) fn rejoined(&mut self, done: usize, asked: usize) {
        let from = self.returned.len() - asked;
        self.returned.drain(from..from + done);
    }

    /// Puts everything that was reported in front of what is still to be reported.
    pub(crate) fn session_ended(&mut self, how: Ended) {
        if how == Ended::Reaped {
            // Closed since: that it is offline has been told, or will be by whoever reaps.
            let held = &mut self.held;
            self.changes.retain(|change| {
                closed(change).is_none_or(|connection| held.remove(&connection).is_none())
            });
        }
        let again: Vec<_> = self
            .held
            .drain()
            .filter_map(|(connection, text)| {
                let ticket = Ticket::parse(&text)?;
                let resumable = self.resumable.remove(&connection);
                Some(match how {
                    Ended::Reaped => PresenceChange::Reopened { connection, ticket, resumable },
                    Ended::Forgotten => PresenceChange::Restored { connection, ticket, resumable },
                })
            })
            .collect();
        if how == Ended::Reaped {
            let mut clients: AHashSet<_> = again.iter().filter_map(client).cloned().collect();
            clients.extend(self.returned.drain(..));
            self.returned = clients.into_iter().collect();
        }
        // Some of the former may be unreported still, if one session ended soon after another.
        self.again += again.len();
        again.into_iter().rev().for_each(|change| self.changes.push_front(change));
    }
}

fn closed(change: &PresenceChange) -> Option<u64> {
    match change {
        PresenceChange::Closed { connection, .. }
        | PresenceChange::ClosedLate { connection, .. } => Some(*connection),
        _ => None,
    }
}

fn client(change: &PresenceChange) -> Option<&ClientId> {
    match change {
        PresenceChange::Reopened { ticket, .. } => Some(ticket.client()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket() -> Ticket {
        Ticket::new(1.into(), None)
    }

    fn opened(connection: u64) -> PresenceChange {
        PresenceChange::Opened { connection, ticket: ticket(), resumable: false }
    }

    fn restored(connection: u64) -> PresenceChange {
        PresenceChange::Restored { connection, ticket: ticket(), resumable: false }
    }

    fn reopened(connection: u64) -> PresenceChange {
        PresenceChange::Reopened { connection, ticket: ticket(), resumable: false }
    }

    fn closed(connection: u64) -> PresenceChange {
        PresenceChange::Closed { connection, reason: "peer" }
    }

    fn ledger(changes: impl IntoIterator<Item = PresenceChange>) -> Ledger {
        let mut ledger = Ledger::default();
        changes.into_iter().for_each(|change| ledger.take(Report::Change(change)));
        ledger
    }

    fn told(ledger: &mut Ledger) -> Vec<PresenceChange> {
        ledger.batch(usize::MAX, false).to_vec()
    }

    /// Connection 1 was reported and has closed, 2 was not reported yet.
    fn in_an_outage(how: Ended) -> Ledger {
        let mut ledger = ledger([opened(1), opened(2), closed(1), opened(3)]);
        ledger.reported(1);
        ledger.session_ended(how);
        ledger
    }

    #[test]
    fn what_was_forgotten_is_restored_before_it_closes() {
        let mut ledger = in_an_outage(Ended::Forgotten);
        assert_eq!(told(&mut ledger), [restored(1), opened(2), closed(1), opened(3)]);
        assert!(ledger.returned(9).is_empty());
    }

    #[test]
    fn what_was_reaped_and_has_closed_is_not_told_again() {
        assert_eq!(told(&mut in_an_outage(Ended::Reaped)), [opened(2), opened(3)]);
    }

    #[test]
    fn what_nobody_was_told_of_goes_on() {
        // 1 was left alone, 2 has closed meanwhile and was left alone too, 3 was told offline.
        let mut ledger = ledger([opened(1), opened(2), opened(3)]);
        ledger.reported(3);
        ledger.take(Report::Change(closed(2)));
        ledger.session_ended(Ended::Reaped);
        let left = |number| FormerConnection { number, ticket: ticket(), resumable: true, from: 0 };
        ledger.retake(vec![left(1), left(2)]);
        let late = PresenceChange::ClosedLate { connection: 2, reason: NODE_GONE };
        assert_eq!(told(&mut ledger), [reopened(3), late]);
        assert_eq!(ledger.again, 1);
        // What goes on is restored if the broker forgets it after all.
        ledger.reported(2);
        ledger.session_ended(Ended::Forgotten);
        let mut restored: Vec<_> = told(&mut ledger).iter().map(number).collect();
        restored.sort_unstable();
        assert_eq!(restored, [1, 3]);
    }

    #[test]
    fn what_was_told_without_an_answer_is_not_taken_for_gone() {
        let mut ledger = ledger([opened(1)]);
        ledger.session_ended(Ended::Reaped);
        ledger.retake(vec![FormerConnection {
            number: 1,
            ticket: ticket(),
            resumable: true,
            from: 0,
        }]);
        assert_eq!(told(&mut ledger), [opened(1)]);
    }

    fn number(change: &PresenceChange) -> u64 {
        match change {
            PresenceChange::Restored { connection, .. } => *connection,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_was_reaped_and_lives_is_told_anew_and_brought_back_after_that() {
        let mut ledger = ledger([opened(1), opened(4)]);
        ledger.reported(2);
        ledger.session_ended(Ended::Reaped);
        assert_eq!(ledger.changes.len(), 2);
        ledger.reported(1);
        assert!(ledger.returned(9).is_empty(), "not before all are told");
        // Taken for dead again, before all were told and one was brought back.
        ledger.session_ended(Ended::Reaped);
        assert_eq!(ledger.again, 2);
        ledger.reported(2);
        assert_eq!(ledger.returned(9), [1.into()]);
        ledger.rejoined(1, 1);
        assert!(ledger.is_idle());
    }

    #[test]
    fn what_others_have_taken_is_not_told_anew() {
        let other = PresenceChange::Opened {
            connection: 2,
            ticket: Ticket::new(2.into(), None),
            resumable: false,
        };
        let mut ledger = ledger([opened(1), other]);
        ledger.reported(2);
        ledger.session_ended(Ended::Reaped);
        ledger.give_up(|client| *client == 2.into());
        assert_eq!((told(&mut ledger), ledger.again), (vec![reopened(1)], 1));
        ledger.reported(1);
        assert_eq!(ledger.returned(9), [1.into()]);
    }

    #[test]
    fn what_was_reaped_and_is_forgotten_before_it_was_told_is_told_all_the_same() {
        let mut ledger = ledger([opened(1)]);
        ledger.reported(1);
        ledger.session_ended(Ended::Reaped);
        ledger.session_ended(Ended::Forgotten);
        assert_eq!(told(&mut ledger), [reopened(1)]);
    }

    #[test]
    fn a_close_that_was_told_late_stays_late() {
        let mut ledger = ledger([opened(1), closed(1), closed(2)]);
        let late = |connection| PresenceChange::ClosedLate { connection, reason: "peer" };
        assert_eq!(ledger.batch(2, true), [opened(1), late(1)]);
        assert_eq!(ledger.batch(3, false), [opened(1), late(1), closed(2)]);
        assert_eq!(ledger.closes(), 2);
    }
}
