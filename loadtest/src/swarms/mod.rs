//! The conductor's side of its client processes: start them, give orders, wait for what they report.

mod process;
mod state;

pub use state::{State, Watcher, reasons};

use std::{
    sync::{Arc, PoisonError},
    thread,
    time::{Duration, Instant},
};

use crate::{
    account::Account,
    histogram::Latencies,
    orders::{Deployment, Dial, Order, Sent, SentRoom, Status},
};
use process::{Orders, Process, give};
use state::Shared;

/// Sockets of one process, below the usual limit of 20,000 descriptors.
const PER_PROCESS: usize = 19_000;

/// Client processes that hold the clients `first .. first + count`.
pub struct Swarms {
    processes: Vec<Process>,
    shared: Arc<Shared>,
    first: i64,
    per_process: usize,
    /// Memberships that were declared, one per room and process.
    declared: u64,
}

/// All latencies since the last look, over all swarms.
#[derive(Default)]
pub struct Collected {
    pub connect: Latencies,
    pub direct: Latencies,
    pub room: Latencies,
    pub receipt: Latencies,
    /// From a connection's end until the client's next one was open.
    pub away: Latencies,
}

/// Cuts connections, as networks do.
pub struct Cutter(Vec<Orders>);

impl Cutter {
    /// Cuts this share of them: with a reset, or without a word to the other side.
    pub fn cut(&self, share: f64, silently: bool) -> Result<(), String> {
        self.0.iter().try_for_each(|orders| give(orders, &Order::Cut { share, silently }))
    }
}

impl Swarms {
    /// Starts as many processes as `count` clients need, on `core` alone if one is given.
    pub fn start(
        deployment: Option<&Deployment>,
        first: i64,
        count: usize,
        core: Option<usize>,
    ) -> Result<Self, String> {
        Swarms::start_split(deployment, first, count, PER_PROCESS, core)
    }

    /// The same with fewer clients per process.
    pub fn start_split(
        deployment: Option<&Deployment>,
        first: i64,
        count: usize,
        per_process: usize,
        core: Option<usize>,
    ) -> Result<Self, String> {
        let shared = Arc::new(Shared::default());
        let number = count.div_ceil(per_process).max(1);
        {
            let mut state = shared.lock();
            state.statuses.resize(number, Status::default());
            state.latencies.resize(number, None);
            state.audits.resize(number, None);
        }
        let start = |index| Process::start(deployment, index, core, &shared);
        let processes = (0..number).map(start).collect::<Result<_, _>>()?;
        Ok(Swarms { processes, shared, first, per_process, declared: 0 })
    }

    /// Connects clients; returns at once.
    pub fn dial(&mut self, dial: &Dial) -> Result<(), String> {
        let parts = self.split(dial.first, dial.count);
        let share = |count: usize| count as f64 / dial.count as f64;
        for (index, first, count) in parts {
            let rate = dial.rate.map(|rate| rate * share(count));
            let window = ((dial.window as f64 * share(count)) as usize).max(1);
            let part = Dial { first, count, rate, window, ..dial.clone() };
            self.processes[index].order(&Order::Dial(part))?;
        }
        Ok(())
    }

    /// Connects clients and waits until all are in.
    pub fn dial_all(&mut self, dial: &Dial) -> Result<(), String> {
        let before = self.look(|state| state.opened());
        self.dial(dial)?;
        // A second per hundred connections is far slower than any working deployment.
        let patience = Duration::from_secs(30 + dial.count as u64 / 100);
        let wanted = before + dial.count as u64;
        self.wait("connections", patience, |state| state.opened() >= wanted || state.failed() > 0)?;
        self.look(|state| match state.failed() {
            0 => Ok(()),
            count => Err(format!("{count} connects failed: {}", state.troubles())),
        })
    }

    /// What cuts connections while others work with these clients.
    pub fn cutter(&self) -> Cutter {
        Cutter(self.processes.iter().map(Process::orders).collect())
    }

    /// Resets all connections. Clients that come back wait for being dialled `again`.
    pub fn cut_off(&mut self) -> Result<(), String> {
        self.processes.iter_mut().try_for_each(|process| process.order(&Order::CutOff))
    }

    pub fn hang_up(&mut self, first: i64, count: usize) -> Result<(), String> {
        for (index, first, count) in self.split(first, count) {
            self.processes[index].order(&Order::Hangup { first, count })?;
        }
        Ok(())
    }

    /// Declares who the members of a room are: its completed messages are counted, and whoever else gets one
    /// is a fault. Where the room is a channel of the deployment, whoever comes back joins it again. Returns once every process knows, so that no message can come before.
    pub fn members(
        &mut self,
        stream: u32,
        channel: Option<&str>,
        first: i64,
        count: usize,
    ) -> Result<(), String> {
        let parts = self.split(first, count);
        let holders: Vec<_> = parts.iter().map(|(index, ..)| *index).collect();
        self.declared += holders.len() as u64;
        self.shared.lock().expected.insert(stream, holders);
        for (index, _, here) in parts {
            let (channel, here) = (channel.map(str::to_owned), here as u32);
            self.processes[index].order(&Order::Members { stream, channel, first, count, here })?;
        }
        let declared = self.declared;
        self.wait("client processes to know a room", Duration::from_secs(30), |state| {
            state.declared() >= declared
        })
    }

    /// A view of the counts for another thread.
    pub fn watcher(&self) -> Watcher {
        Watcher(Arc::clone(&self.shared))
    }

    pub fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.shared.lock())
    }

    /// Waits until `done`; fails when a swarm fails or the time is over.
    pub fn wait(
        &self,
        what: &str,
        patience: Duration,
        mut done: impl FnMut(&State) -> bool,
    ) -> Result<(), String> {
        let deadline = Instant::now() + patience;
        let mut state = self.shared.lock();
        loop {
            if let Some(failure) = &state.failure {
                return Err(failure.clone());
            }
            if done(&state) {
                return Ok(());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(format!(
                    "waited {patience:?} for {what}: {} connected, {} delivered, {}",
                    state.opened(),
                    state.delivered(),
                    state.troubles()
                ));
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until `done`, for clients that must all stay: fails at once when a connection has ended.
    pub fn wait_unbroken(
        &self,
        what: &str,
        patience: Duration,
        mut done: impl FnMut(&State) -> bool,
    ) -> Result<(), String> {
        self.wait(what, patience, |state| state.ended() > 0 || done(state))?;
        self.look(|state| match state.ended() {
            0 => Ok(()),
            ended => Err(format!(
                "{ended} connections ended while waiting for {what}: {}",
                state.troubles()
            )),
        })
    }

    /// All latencies since the last call.
    pub fn collect(&mut self) -> Result<Collected, String> {
        self.shared.lock().latencies.iter_mut().for_each(|note| *note = None);
        for index in 0..self.processes.len() {
            self.processes[index].order(&Order::Collect)?;
        }
        self.wait("latencies", Duration::from_secs(60), |state| {
            state.latencies.iter().all(Option::is_some)
        })?;
        let mut all = Collected::default();
        for note in self.shared.lock().latencies.iter().flatten() {
            all.connect.merge(&note.connect);
            all.direct.merge(&note.direct);
            all.room.merge(&note.room);
            all.receipt.merge(&note.receipt);
            all.away.merge(&note.away);
        }
        Ok(all)
    }

    /// Compares what was sent with what every client has, once nothing has come for a while: a copy too
    /// many comes after the last message.
    pub fn audit(&mut self, sent: &Sent) -> Result<Account, String> {
        self.wait_for_quiet();
        self.shared.lock().audits.iter_mut().for_each(|note| *note = None);
        let mut parts = vec![Sent::default(); self.processes.len()];
        for one in &sent.direct {
            parts[self.process_of(one.client)].direct.push(one.clone());
        }
        for room in &sent.rooms {
            for (index, first, count) in self.split(room.first, room.count) {
                parts[index].rooms.push(SentRoom { first, count, ..room.clone() });
            }
        }
        for (index, part) in parts.into_iter().enumerate() {
            self.processes[index].order(&Order::Audit(part))?;
        }
        self.wait("the audit", Duration::from_secs(60), |state| {
            state.audits.iter().all(Option::is_some)
        })?;
        let mut account = Account::default();
        self.shared.lock().audits.iter().flatten().for_each(|part| account += part);
        Ok(account)
    }

    /// Waits for those on their way back; who is not back in time is a fault that the audit finds.
    pub fn wait_until_back(&self) {
        // Two of the longest pauses, and the attempts after them.
        let _ = self.wait("clients to be back", Duration::from_secs(90), |s| s.away() == 0);
    }

    fn wait_for_quiet(&self) {
        const QUIET: Duration = Duration::from_secs(1);
        let arrived = || self.look(|state| state.delivered() + state.receipts());
        // Traffic that never ends would be somebody else's; what it does to the account is seen then.
        for _ in 0..10 {
            let before = arrived();
            thread::sleep(QUIET);
            if arrived() == before {
                return;
            }
        }
    }

    /// Kills one client process: all its sockets close at once.
    pub fn kill(&mut self, index: usize) -> Result<(), String> {
        self.processes[index].kill()
    }

    pub fn pids(&self) -> Vec<u32> {
        self.processes.iter().map(Process::id).collect()
    }

    fn process_of(&self, client: i64) -> usize {
        ((client - self.first) as usize / self.per_process).min(self.processes.len() - 1)
    }

    /// Which part of a range of clients lives in which process.
    fn split(&self, first: i64, count: usize) -> Vec<(usize, i64, usize)> {
        let end = first + count as i64;
        let mut parts = Vec::new();
        let mut from = first;
        while from < end {
            let index = self.process_of(from);
            let next = self.first + ((index + 1) * self.per_process) as i64;
            let to = if index + 1 == self.processes.len() { end } else { next.min(end) };
            parts.push((index, from, (to - from) as usize));
            from = to;
        }
        parts
    }
}

impl Drop for Swarms {
    fn drop(&mut self) {
        // All are told before the first is waited for.
        self.processes.iter_mut().for_each(Process::tell_to_end);
    }
}
