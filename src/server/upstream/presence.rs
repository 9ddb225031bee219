//! The presence thread: keeps the node's lease, reports its connections, clears away what dead nodes left.
//!
//! What reactors report waits here during an outage and is sent afterwards. When more waits than
//! [`BACKLOG`], or something has gone wrong, the node takes no newcomers until all of it is told: so the
//! queue is bounded by that number and twice the node's connections.
//!
//! Three things can have happened to the session meanwhile. *Nothing*, even if the lease has run out: it
//! goes on. *It was ended* (this node was paused, and another reaped it): everybody was told that all
//! its clients are offline, so those that are not are reported anew, with events, once the reaping is
//! over, and brought back into the channels that they left by it. *It was forgotten* (the broker lost
//! data, or went back to an old snapshot): nobody was told anything, so everything is restored without
//! events, and what waits follows: a connection that closed during the outage is restored and then
//! closed, and so has its one offline event.
//!
//! Each turn does at most one step of clearing away and then reports one batch, so neither waits long for
//! the other.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, TryRecvError},
    },
    time::{Duration, Instant},
};

use super::{
    batch::BATCH,
    failover::Failover,
    grace::{CatchUp, OutageGrace, Suspects, renewal},
    handover::Moves,
    ledger::{Ended, Ledger},
};
use crate::{
    backoff::{Backoff, Reasons},
    broker::{JoinLimits, Session},
    error::{Error, ErrorKind, Result},
    id::ClientId,
    server::{
        connection::place::Hole,
        heartbeat,
        inbox::Reactors,
        message::{Command, Report},
        node::Node,
        stats::calls::Call,
    },
};

/// Connections per step of reaping, so that the broker is never held up for long.
pub(super) const REAP_STEP: usize = 100;

/// Memberships restored between two looks at the lease.
const JOIN_STEP: usize = 4096;

/// Clients brought back into their channels per step.
const REJOIN_STEP: usize = 100;

/// Life of a restored membership whose client is not restored: it has gone at the same moment.
const RESTORED_LIFE: Duration = Duration::from_secs(300);

/// Changes that may wait while newcomers are taken.
const BACKLOG: usize = 100_000;

/// What the presence thread works with.
pub(crate) struct Presence {
    pub(super) node: Arc<Node>,
    pub(super) lease: Duration,
    queue: Receiver<Report>,
    /// Who is told of clients of a former process.
    pub(super) reactors: Reactors,
}

/// What it keeps between its turns.
pub(super) struct State {
    pub(super) session: Option<Session>,
    /// One that has begun, of which the broker does not know yet how its connections can be resumed.
    pub(super) begun: Option<Session>,
    /// How the session before it ended; what must be done before the next begins.
    pub(super) ended: Option<Ended>,
    /// Sessions of this process that a rolled-back broker may know again.
    pub(super) former: Vec<Session>,
    /// Whether the former ones must be discarded once everything is restored.
    pub(super) discard: bool,
    /// Whether all clients were told offline, and so were out of their channels until they are back.
    pub(super) absent: Option<Hole>,
    pub(super) ledger: Ledger,
    /// Clients on their way to and from other nodes.
    pub(super) moves: Moves,
    /// Clients that dead nodes have left.
    pub(super) failover: Failover,
    catch_up: CatchUp,
    outage: OutageGrace,
    suspects: Suspects,
    clearing: Clearing,
    /// Connections cleared away since clearing began.
    cleared: usize,
    pub(super) renew_at: Instant,
    /// Whether something has gone wrong since the node was last ready.
    failing: bool,
    /// What was said of that.
    reasons: Reasons,
}

/// What is to be cleared away next: each as long as there is some, then the next.
#[derive(Clone, Copy, PartialEq)]
enum Clearing {
    Connections,
    Memberships,
    Done,
}

enum Turn {
    Again,
    Ended,
}

impl Presence {
    pub(crate) fn new(node: &Arc<Node>, queue: Receiver<Report>, reactors: Reactors) -> Self {
        Presence { node: Arc::clone(node), lease: node.config.limits.lease, queue, reactors }
    }

    /// Runs until the reactors have ended and all they reported is sent.
    pub(crate) fn run(self) {
        let mut backoff = Backoff::default();
        let mut state = State::new(Instant::now());
        loop {
            self.node.pulse.presence(state.ledger.taken(), state.ledger.waiting());
            match self.turn(&mut state) {
                Ok(Turn::Again) => {
                    let ready = state.session.is_some() && state.catch_up.is_done();
                    self.node.pulse.readiness.set_lease(ready);
                    if ready && std::mem::take(&mut state.failing) {
                        state.reasons.clear();
                        log::info!("presence is kept again");
                    }
                    backoff.reset();
                    if self.node.stopping.calls_end() {
                        return self.leave(state, "the broker is too slow");
                    }
                }
                Ok(Turn::Ended) => return self.end(state.session),
                Err(error) => {
                    self.node.pulse.readiness.set_lease(false);
                    state.catch_up.restart();
                    self.failed(&mut state, &error);
                    backoff.sleep(|| self.node.stopping.retries_end());
                    if self.node.stopping.retries_end() {
                        return self.leave(state, &error.to_string());
                    }
                }
            }
        }
    }

    fn failed(&self, state: &mut State, error: &Error) {
        state.failing = true;
        if matches!(error.kind(), ErrorKind::SessionLost | ErrorKind::SessionForgotten) {
            self.node.set_session(None);
        }
        match error.kind() {
            ErrorKind::SessionLost => {
                log::warn!("this node was taken for dead; its clients are reported anew");
                state.session_ended(Ended::Reaped, &self.queue);
            }
            ErrorKind::SessionForgotten => {
                log::warn!("the broker lost data; this node's clients are restored");
                state.session_ended(Ended::Forgotten, &self.queue);
            }
            _ if state.reasons.are_new(error) => {
                log::warn!("presence waits until the broker is back: {error}")
            }
            _ => {}
        }
    }

    /// The node ends without having told everything.
    fn leave(&self, mut state: State, why: &str) {
        self.queue.try_iter().for_each(|report| state.take(report));
        // A reactor that is stuck has not said everything.
        let all_said = matches!(self.queue.try_recv(), Err(TryRecvError::Disconnected));
        match state.ledger.closes() {
            0 => {
                if all_said {
                    self.node.stopping.reported();
                }
                log::warn!("the presence lease is left to expire: {why}");
            }
            left => log::error!("{left} offline events are left to other nodes: {why}"),
        }
    }

    /// Renews when it is time, clears away one step, and sends what is queued or waits for it.
    fn turn(&self, state: &mut State) -> Result<Turn> {
        if state.session.is_none() {
            return self.begin(state).map(|()| Turn::Again);
        }
        if Instant::now() >= state.renew_at {
            self.renew(state)?;
        }
        self.discard_former(state)?;
        self.clear_step(state)?;
        self.take_reports(state);
        if state.ledger.is_idle() && state.clearing == Clearing::Done && !state.moves.is_barred() {
            let now = Instant::now();
            let due = state.moves.due(now).into_iter().chain(state.failover.due(now));
            let due = due.fold(state.renew_at, Instant::min);
            let wait = due.saturating_duration_since(now);
            let report = heartbeat::wait(|| self.queue.recv_timeout(wait));
            state.catch_up.idle(Instant::now());
            match report {
                Ok(report) => state.take(report),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(Turn::Ended),
            }
            self.take_reports(state);
        }
        self.tell(state)?;
        self.move_on(state).map(|()| Turn::Again)
    }

    /// Takes what the reactors say, up to a slot that is handed over: what comes before that is told first.
    fn take_reports(&self, state: &mut State) {
        while !state.moves.is_barred()
            && let Ok(report) = self.queue.try_recv()
        {
            state.take(report);
        }
    }

    /// Renews the lease, and looks for those of others that are not there.
    fn renew(&self, state: &mut State) -> Result<()> {
        let Some(session) = &state.session else { return Ok(()) };
        let status = self.node.vitals().status();
        self.node.pulse.time(Call::Renew, || self.node.broker.renew(session, &status))?;
        self.node.pulse.renewed.touch();
        let now = Instant::now();
        state.renew_at = now + renewal(self.lease);
        state.outage.renewed(now, self.lease);
        if state.outage.is_over(now, self.lease) {
            let lapsed = self.node.pulse.time(Call::Reap, || self.node.broker.lapsed())?;
            let dead = state.suspects.look(lapsed, Instant::now(), self.lease);
            if !dead.is_empty() {
                let end = || self.node.broker.end_lapsed(&dead);
                let ended = self.node.pulse.time(Call::Reap, end)?;
                tell_dead(&ended);
            }
        } else {
            state.suspects.forget();
        }
        if state.clearing == Clearing::Done {
            state.clearing = Clearing::Connections;
        }
        if self.node.config.slots == 0 {
            return Ok(());
        }
        // Also what nobody has said that it comes.
        state.failover.look(now);
        self.take_parcels(state)
    }

    /// Clears away a little of what ended sessions and overdue memberships have left.
    fn clear_step(&self, state: &mut State) -> Result<()> {
        match state.clearing {
            Clearing::Connections => {
                let count = self.reap_step()?;
                state.cleared += count;
                if count < REAP_STEP {
                    state.clearing = Clearing::Memberships;
                    let total = std::mem::take(&mut state.cleared);
                    if total > 0 {
                        let connections = if total == 1 { "connection" } else { "connections" };
                        log::warn!("{total} {connections} of ended sessions were cleared away");
                    }
                }
            }
            Clearing::Memberships => {
                let more =
                    self.node.pulse.time(Call::Leave, || self.node.broker.leave_overdue())?;
                if !more {
                    state.clearing = Clearing::Done;
                }
            }
            Clearing::Done => {}
        }
        Ok(())
    }

    pub(super) fn reap_step(&self) -> Result<usize> {
        self.node.pulse.time(Call::Reap, || self.node.broker.reap(REAP_STEP))
    }

    /// Sends what waits first: forgotten memberships, or one batch of changes, or what follows from them.
    fn tell(&self, state: &mut State) -> Result<()> {
        let Some(session) = &mut state.session else { return Ok(()) };
        let now = Instant::now();
        state.catch_up.waiting(state.ledger.waiting(), now);
        if state.ledger.waiting() > BACKLOG {
            state.catch_up.restart();
        }
        let members = state.ledger.members(JOIN_STEP);
        if !members.is_empty() {
            // Before the changes: a client that has left since leaves these channels too.
            let count = self.restore(members)?;
            state.ledger.members_joined(count);
            state.catch_up.told(count);
            return Ok(());
        }
        if state.ledger.members_are_back(self.reactors.len()) {
            for reactor in self.reactors.all() {
                let _ = reactor.push(Command::Rejoined);
            }
        }
        let late = state.catch_up.is_late(now);
        let batch = state.ledger.batch(BATCH, late);
        let count = batch.len();
        if count > 0 {
            self.node.pulse.time(Call::Report, || self.node.broker.report(session, batch))?;
            state.ledger.reported(count);
            state.catch_up.told(count);
        }
        let returned = state.ledger.returned(REJOIN_STEP);
        let asked = returned.len();
        if asked > 0 {
            let done = self.node.pulse.time(Call::Join, || self.node.broker.rejoin(returned))?;
            state.ledger.rejoined(done, asked);
        }
        if let Some(hole) = state.absent
            && state.ledger.all_have_returned()
        {
            state.absent = None;
            self.node.absence.is_over(hole);
        }
        Ok(())
    }

    fn restore(&self, members: &[(ClientId, String)]) -> Result<usize> {
        let step: Vec<_> =
            members.iter().map(|(client, name)| (client.clone(), name.as_str())).collect();
        let limits = JoinLimits { offline_life: Some(RESTORED_LIFE), ..JoinLimits::default() };
        self.node.pulse.time(Call::Join, || self.node.broker.join_within(&step, &limits))?;
        log::warn!("the broker lost data; {} memberships were restored", step.len());
        Ok(step.len())
    }

    /// Once everything is restored: a client whose count had fallen to nothing would have left its channels.
    fn discard_former(&self, state: &mut State) -> Result<()> {
        if state.discard && state.ledger.is_restored() {
            for former in &state.former {
                self.node.pulse.time(Call::Discard, || self.node.broker.discard_session(former))?;
            }
            state.discard = false;
        }
        Ok(())
    }

    fn end(&self, session: Option<Session>) {
        self.node.stopping.reported();
        let Some(session) = session else { return };
        if let Err(error) =
            self.node.pulse.time(Call::End, || self.node.broker.end_session(&session))
        {
            log::warn!("the presence lease is left to expire: {error}");
        }
    }
}

impl State {
    fn new(now: Instant) -> Self {
        State {
            session: None,
            begun: None,
            ended: None,
            former: Vec::new(),
            discard: false,
            absent: None,
            ledger: Ledger::default(),
            moves: Moves::default(),
            failover: Failover::default(),
            catch_up: CatchUp::new(now),
            outage: OutageGrace::new(now),
            suspects: Suspects::default(),
            clearing: Clearing::Done,
            cleared: 0,
            renew_at: now,
            failing: false,
            reasons: Reasons::default(),
        }
    }

    fn session_ended(&mut self, how: Ended, queue: &Receiver<Report>) {
        queue.try_iter().for_each(|report| self.take(report));
        self.ledger.session_ended(how);
        self.failover = Failover::default();
        self.former.extend(self.session.take());
        self.ended = Some(how);
    }
}

/// Says whose sessions were ended; their names begin with that of the node.
fn tell_dead(sessions: &[String]) {
    for session in sessions {
        let node = session.rsplit_once('#').map_or(session.as_str(), |(node, _)| node);
        log::warn!(
            "node {node} has not renewed its lease and is taken for dead; its clients are told offline"
        );
    }
}
