//! The presence thread: keeps the node's lease, reports its connections, reaps dead nodes.
//!
//! Owns the session. What reactors report waits here during an outage and is sent afterwards; the
//! queue is bounded by the node's connections, since none is added while the broker is away.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::Receiver,
    },
    time::{Duration, Instant},
};

use super::{
    calls::Call,
    message::{Command, Reactors, Readiness},
    stats::add,
    vitals::Pulse,
    worker::{Work, collect},
};
use crate::{
    backoff::Backoff,
    broker::{Broker, PresenceChange, Session},
    error::{ErrorKind, Result},
};

/// Connections per step of reaping, so that the broker is never held up for long.
const REAP_STEP: usize = 100;

/// What the presence thread works with.
pub(super) struct Presence {
    pub(super) broker: Arc<dyn Broker>,
    pub(super) node: String,
    pub(super) lease: Duration,
    pub(super) queue: Receiver<PresenceChange>,
    pub(super) reactors: Reactors,
    pub(super) readiness: Arc<Readiness>,
    pub(super) pulse: Arc<Pulse>,
    /// Set when the node has given its clients all the time it had: an unreachable broker is given up.
    pub(super) give_up: Arc<AtomicBool>,
}

impl Presence {
    /// Runs until the reactors have ended and all they reported is sent.
    pub(super) fn run(self) {
        let mut backoff = Backoff::default();
        let mut changes = Vec::new();
        let mut session = None;
        let mut had_session = false;
        let mut renew_at = Instant::now();
        loop {
            let result = match &session {
                None => self.begin(!had_session).map(|begun| {
                    if had_session {
                        self.reactors.all().iter().for_each(|door| {
                            let _ = door.push(Command::Reassert);
                        });
                    }
                    had_session = true;
                    renew_at = Instant::now();
                    session = Some(begun);
                    Turn::Again
                }),
                Some(session) => self.turn(session, &mut changes, &mut renew_at),
            };
            match result {
                Ok(Turn::Again) => {
                    if !self.readiness.session.swap(true, Ordering::AcqRel) && !backoff.is_first() {
                        log::info!("presence is kept again");
                    }
                    backoff.reset();
                }
                Ok(Turn::Ended) => return self.end(session),
                Err(error) => {
                    self.readiness.session.store(false, Ordering::Release);
                    if error.kind() == ErrorKind::SessionLost {
                        log::warn!("this node was taken for dead; its clients are reported anew");
                        session = None;
                        continue;
                    }
                    if backoff.is_first() {
                        log::warn!("presence waits until the broker is back: {error}");
                    }
                    backoff.sleep(|| self.give_up.load(Ordering::Acquire));
                    if self.give_up.load(Ordering::Acquire) {
                        log::error!(
                            "{} offline events are left to other nodes: {error}",
                            changes.len()
                        );
                        return;
                    }
                }
            }
        }
    }

    fn begin(&self, supersede: bool) -> Result<Session> {
        let session = self.broker.begin_session(&self.node, self.lease, supersede)?;
        self.pulse.renewed.touch();
        Ok(session)
    }

    /// Sends what is queued, or waits for it; renews and reaps when it is time.
    fn turn(
        &self,
        session: &Session,
        changes: &mut Vec<PresenceChange>,
        renew_at: &mut Instant,
    ) -> Result<Turn> {
        if Instant::now() >= *renew_at {
            self.pulse.time(Call::Renew, || self.broker.renew(session))?;
            self.pulse.renewed.touch();
            self.reap()?;
            *renew_at = Instant::now() + self.lease / 3;
        }
        let wait = renew_at.saturating_duration_since(Instant::now());
        match collect(&self.queue, changes, wait) {
            Work::Batch => {
                self.pulse.time(Call::Report, || self.broker.report(session, changes))?;
                add(&self.pulse.presence_done, changes.len() as u64);
                changes.clear();
                Ok(Turn::Again)
            }
            Work::Idle => Ok(Turn::Again),
            Work::Ended => Ok(Turn::Ended),
        }
    }

    fn reap(&self) -> Result<()> {
        let deadline = Instant::now() + self.lease / 3;
        let mut total = 0;
        loop {
            let count = self.broker.reap(REAP_STEP)?;
            total += count;
            if count < REAP_STEP || Instant::now() >= deadline {
                break;
            }
        }
        if total > 0 {
            log::warn!("{total} connections of dead nodes were reported offline");
        }
        Ok(())
    }

    fn end(&self, session: Option<Session>) {
        let ended = session.map_or(Ok(()), |session| self.broker.end_session(&session));
        if let Err(error) = ended {
            log::warn!("the presence lease is left to expire: {error}");
        }
    }
}

enum Turn {
    Again,
    Ended,
}
