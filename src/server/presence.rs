//! The presence thread: keeps the node's lease, reports its connections, reaps dead nodes.
//!
//! Owns the session and remembers what it has reported, so that it can say it again. What reactors
//! report waits here during an outage and is sent afterwards; the queue is bounded by the node's
//! connections, since none is added while the broker is away.
//!
//! Three things can have happened to the session meanwhile. *Nothing*, even if the lease has run out: it
//! goes on. *It was ended* (this node was paused, and another reaped it): everybody was told that all
//! its clients are offline, so those that are not are reported anew, with events, once the reaping is
//! over. *It was forgotten* (the broker lost data, or went back to an old snapshot): nobody was told
//! anything, so everything is restored without events, and what waits follows: a connection that closed
//! during the outage is restored and then closed, and so has its one offline event.

use std::{
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use ahash::AHashMap;

use super::{
    calls::Call, heartbeat, message::Report, patience::Patience, vitals::Vitals, worker::BATCH,
};
use crate::{
    backoff::{self, Backoff},
    broker::{Broker, PresenceChange, Session},
    error::{ErrorKind, Result},
    id::ClientId,
    wire::Ticket,
};

/// Connections per step of reaping, so that the broker is never held up for long.
const REAP_STEP: usize = 100;

/// Memberships restored between two looks at the lease.
const JOIN_STEP: usize = 4096;

/// What the presence thread works with.
pub(super) struct Presence {
    pub(super) broker: Arc<dyn Broker>,
    pub(super) node: String,
    pub(super) lease: Duration,
    pub(super) queue: Receiver<Report>,
    pub(super) vitals: Vitals,
    /// Set when the node has given its clients all the time it had: an unreachable broker is given up.
    pub(super) give_up: Arc<Patience>,
}

/// What it keeps between its turns.
struct Memory {
    session: Option<Session>,
    /// How the session before it ended; what must be done before the next begins.
    ended: Option<Ended>,
    /// Sessions of this process that a rolled-back broker may know again.
    former: Vec<Session>,
    /// Whether the former ones must be discarded once everything is restored.
    discard: bool,
    /// Connections that the broker knows to be open -> ticket text.
    held: AHashMap<u64, Box<str>>,
    /// Reports that were taken from the queue so far.
    taken: u64,
    /// What is still to be reported, in order.
    changes: Vec<PresenceChange>,
    /// Memberships that the broker has forgotten.
    members: Vec<(ClientId, String)>,
    renew_at: Instant,
    calm: Calm,
}

#[derive(Clone, Copy, PartialEq)]
enum Ended {
    Reaped,
    Forgotten,
}

enum Turn {
    Again,
    Ended,
}

impl Presence {
    /// Runs until the reactors have ended and all they reported is sent.
    pub(super) fn run(self) {
        let mut backoff = Backoff::default();
        let mut memory = Memory::new();
        loop {
            self.vitals.pulse.presence(memory.taken, memory.changes.len() + memory.members.len());
            match self.turn(&mut memory) {
                Ok(Turn::Again) => {
                    if !self.vitals.readiness.session.swap(true, Ordering::AcqRel)
                        && !backoff.is_first()
                    {
                        log::info!("presence is kept again");
                    }
                    backoff.reset();
                    if self.give_up.is_over() {
                        return self.leave(memory, "the broker is too slow");
                    }
                }
                Ok(Turn::Ended) => return self.end(memory.session),
                Err(error) => {
                    self.vitals.readiness.session.store(false, Ordering::Release);
                    match error.kind() {
                        ErrorKind::SessionLost => {
                            log::warn!(
                                "this node was taken for dead; its clients are reported anew"
                            );
                            memory.session_ended(Ended::Reaped, &self.queue);
                        }
                        ErrorKind::SessionForgotten => {
                            log::warn!("the broker lost data; this node's clients are restored");
                            memory.session_ended(Ended::Forgotten, &self.queue);
                        }
                        _ if backoff.is_first() => {
                            log::warn!("presence waits until the broker is back: {error}");
                        }
                        _ => {}
                    }
                    backoff.sleep(|| self.give_up.is_short());
                    if self.give_up.is_short() {
                        self.leave(memory, &error.to_string());
                        return;
                    }
                }
            }
        }
    }

    /// The node ends without having told everything.
    fn leave(&self, mut memory: Memory, why: &str) {
        self.queue.try_iter().for_each(|report| memory.take(report));
        let is_closed = |change: &&PresenceChange| matches!(change, PresenceChange::Closed { .. });
        match memory.changes.iter().filter(is_closed).count() {
            0 => log::warn!("the presence lease is left to expire: {why}"),
            left => log::error!("{left} offline events are left to other nodes: {why}"),
        }
    }

    /// Sends what is queued, or waits for it; renews and reaps when it is time.
    fn turn(&self, memory: &mut Memory) -> Result<Turn> {
        let session = match &memory.session {
            Some(session) => session.clone(),
            None => return self.begin(memory).map(|()| Turn::Again),
        };
        if Instant::now() >= memory.renew_at {
            let status = self.vitals.status();
            self.vitals.pulse.time(Call::Renew, || self.broker.renew(&session, &status))?;
            self.vitals.pulse.renewed.touch();
            memory.calm.renewed(Instant::now(), self.lease);
            memory.renew_at = Instant::now() + self.lease / 3;
            self.reap(memory.calm.is_calm(self.lease))?;
        }
        if memory.discard && !memory.changes.iter().any(is_restored) {
            // Only now: a client whose count had fallen to nothing would have left its channels.
            for former in &memory.former {
                self.vitals.pulse.time(Call::Discard, || self.broker.discard_session(former))?;
            }
            memory.discard = false;
        }
        if memory.is_idle() {
            let wait = memory.renew_at.saturating_duration_since(Instant::now());
            match heartbeat::wait(|| self.queue.recv_timeout(wait)) {
                Ok(report) => memory.take(report),
                Err(RecvTimeoutError::Timeout) => return Ok(Turn::Again),
                Err(RecvTimeoutError::Disconnected) => return Ok(Turn::Ended),
            }
        }
        while memory.changes.len() < BATCH
            && let Ok(report) = self.queue.try_recv()
        {
            memory.take(report);
        }
        if !memory.members.is_empty() {
            // Before the changes: a client that has left since leaves these channels too.
            return self.rejoin(memory).map(|()| Turn::Again);
        }
        let batch = memory.changes.len().min(BATCH);
        let changes = &memory.changes[..batch];
        self.vitals.pulse.time(Call::Report, || self.broker.report(&session, changes))?;
        memory.reported(batch);
        Ok(Turn::Again)
    }

    fn rejoin(&self, memory: &mut Memory) -> Result<()> {
        let rest = memory.members.len().saturating_sub(JOIN_STEP);
        let step: Vec<_> =
            memory.members[rest..].iter().map(|(client, name)| (*client, name.as_str())).collect();
        self.vitals.pulse.time(Call::Join, || self.broker.join(&step))?;
        log::warn!("the broker lost data; {} memberships were restored", step.len());
        memory.members.truncate(rest);
        Ok(())
    }

    fn begin(&self, memory: &mut Memory) -> Result<()> {
        if memory.ended == Some(Ended::Reaped) {
            // Whoever ended it may still be at it: no client may be online again before it was offline.
            while self.reap_step(false)? == REAP_STEP {}
        }
        let supersede = memory.former.is_empty();
        let begin = || self.broker.begin_session(&self.node, self.lease, supersede);
        memory.session = Some(self.vitals.pulse.time(Call::Begin, begin)?);
        self.vitals.pulse.renewed.touch();
        memory.discard |= memory.ended == Some(Ended::Forgotten);
        memory.ended = None;
        memory.renew_at = Instant::now();
        Ok(())
    }

    fn reap(&self, lapsed: bool) -> Result<()> {
        let deadline = Instant::now() + self.lease / 3;
        let mut total = 0;
        loop {
            let count = self.reap_step(lapsed)?;
            total += count;
            if count < REAP_STEP || Instant::now() >= deadline {
                break;
            }
        }
        if total > 0 {
            log::warn!("{total} connections of ended sessions were cleared away");
        }
        Ok(())
    }

    /// Clears away some connections of ended sessions, or of `lapsed` ones as well: how many.
    fn reap_step(&self, lapsed: bool) -> Result<usize> {
        self.vitals.pulse.time(Call::Reap, || match lapsed {
            true => self.broker.reap(REAP_STEP),
            false => self.broker.reap_ended(REAP_STEP),
        })
    }

    fn end(&self, session: Option<Session>) {
        let Some(session) = session else { return };
        if let Err(error) = self.vitals.pulse.time(Call::End, || self.broker.end_session(&session))
        {
            log::warn!("the presence lease is left to expire: {error}");
        }
    }
}

impl Memory {
    fn new() -> Self {
        Memory {
            session: None,
            ended: None,
            former: Vec::new(),
            discard: false,
            held: AHashMap::new(),
            taken: 0,
            changes: Vec::new(),
            members: Vec::new(),
            renew_at: Instant::now(),
            calm: Calm::new(Instant::now()),
        }
    }

    fn is_idle(&self) -> bool {
        self.changes.is_empty() && self.members.is_empty()
    }

    fn take(&mut self, report: Report) {
        self.taken += 1;
        match report {
            Report::Change(change) => self.changes.push(change),
            Report::Members(members) => self.members.extend(members),
        }
    }

    /// The broker has taken the first `count` changes.
    fn reported(&mut self, count: usize) {
        for change in self.changes.drain(..count) {
            match change {
                PresenceChange::Opened { connection, ticket }
                | PresenceChange::Restored { connection, ticket } => {
                    self.held.insert(connection, ticket.into_text());
                }
                PresenceChange::Closed { connection } => {
                    self.held.remove(&connection);
                }
            }
        }
        if self.changes.is_empty() && self.changes.capacity() > 4 * BATCH {
            // A long outage must not be paid for ever after.
            self.changes = Vec::new();
        }
    }

    /// Puts everything that was reported in front of what is still to be reported.
    fn session_ended(&mut self, how: Ended, queue: &Receiver<Report>) {
        queue.try_iter().for_each(|report| self.take(report));
        if how == Ended::Reaped {
            // Closed since: that it is offline has been told, or will be by whoever reaps.
            self.changes.retain(|change| match change {
                PresenceChange::Closed { connection } => self.held.remove(connection).is_none(),
                _ => true,
            });
        }
        let again = self.held.drain().filter_map(|(connection, text)| {
            let ticket = Ticket::parse(&text)?;
            Some(match how {
                Ended::Reaped => PresenceChange::Opened { connection, ticket },
                Ended::Forgotten => PresenceChange::Restored { connection, ticket },
            })
        });
        self.changes = again.chain(std::mem::take(&mut self.changes)).collect();
        self.former.extend(self.session.take());
        self.ended = Some(how);
    }
}

fn is_restored(change: &PresenceChange) -> bool {
    matches!(change, PresenceChange::Restored { .. })
}

/// Whether other nodes have had the time to renew their leases.
///
/// After an outage all leases have run out, and the first node to be back must not take the others for
/// dead. Nobody tells what was an outage; but whoever could not renew in time himself knows of one.
struct Calm {
    since: Instant,
    renewed: Instant,
}

impl Calm {
    fn new(now: Instant) -> Self {
        Calm { since: now, renewed: now }
    }

    fn renewed(&mut self, now: Instant, lease: Duration) {
        if now.duration_since(self.renewed) > lease * 2 / 3 {
            self.since = now;
        }
        self.renewed = now;
    }

    fn is_calm(&self, lease: Duration) -> bool {
        // Everybody has tried once more within the longest pause, and has then renewed.
        self.since.elapsed() >= lease + backoff::LONGEST
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    fn opened(connection: u64) -> PresenceChange {
        PresenceChange::Opened { connection, ticket: Ticket::new(1.into(), None) }
    }

    fn restored(connection: u64) -> PresenceChange {
        PresenceChange::Restored { connection, ticket: Ticket::new(1.into(), None) }
    }

    fn closed(connection: u64) -> PresenceChange {
        PresenceChange::Closed { connection }
    }

    /// Connection 1 was reported and has closed, 2 was not reported yet.
    fn in_an_outage(how: Ended) -> Vec<PresenceChange> {
        let (sender, queue) = channel();
        let mut memory = Memory::new();
        memory.changes = vec![opened(1), opened(2), closed(1)];
        memory.reported(1);
        sender.send(Report::Change(opened(3))).unwrap();
        memory.session_ended(how, &queue);
        memory.changes
    }

    #[test]
    fn what_was_forgotten_is_restored_before_it_closes() {
        let changes = in_an_outage(Ended::Forgotten);
        assert_eq!(changes, [restored(1), opened(2), closed(1), opened(3)]);
    }

    #[test]
    fn what_was_reaped_and_has_closed_is_not_told_again() {
        assert_eq!(in_an_outage(Ended::Reaped), [opened(2), opened(3)]);
    }

    #[test]
    fn what_was_reaped_and_lives_is_told_anew() {
        let (_sender, queue) = channel();
        let mut memory = Memory::new();
        memory.changes = vec![opened(1)];
        memory.reported(1);
        memory.session_ended(Ended::Reaped, &queue);
        assert_eq!(memory.changes, [opened(1)]);
        // Forgotten before it was reported: it must be told all the same.
        memory.session_ended(Ended::Forgotten, &queue);
        assert_eq!(memory.changes, [opened(1)]);
    }

    #[test]
    fn a_late_renewal_ends_the_calm() {
        let lease = Duration::from_secs(3);
        let start = Instant::now() - Duration::from_secs(60);
        let mut calm = Calm::new(start);
        calm.renewed(start + Duration::from_secs(1), lease);
        assert!(calm.is_calm(lease));
        calm.renewed(Instant::now(), lease);
        assert!(!calm.is_calm(lease));
    }
}
