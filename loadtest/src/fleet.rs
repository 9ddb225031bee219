//! The conductor's side of its client processes: start them, give orders, wait for what they report.

use std::{
    collections::BTreeMap,
    env,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use crate::{
    account::Account,
    child::on_core,
    histogram::Latencies,
    orders::{Deployment, Dial, LatencyNote, Note, Order, Sent, Status},
};

/// Sockets of one process, below the usual limit of 20,000 descriptors.
pub const PER_PROCESS: usize = 19_000;

/// Client processes that hold the clients `first .. first + count`.
pub struct Fleet {
    swarms: Vec<Swarm>,
    shared: Arc<Shared>,
    first: i64,
    per_process: usize,
}

struct Swarm {
    process: Child,
    orders: Option<ChildStdin>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// The newest note of each kind from each swarm.
#[derive(Default)]
pub struct State {
    statuses: Vec<Status>,
    latencies: Vec<Option<LatencyNote>>,
    audits: Vec<Option<Account>>,
    failure: Option<String>,
    expected: BTreeMap<u32, Vec<usize>>,
}

/// All latencies since the last look, over all swarms.
#[derive(Default)]
pub struct Collected {
    pub connect: Latencies,
    pub direct: Latencies,
    pub room: Latencies,
    pub receipt: Latencies,
}

impl State {
    fn sum(&self, part: impl Fn(&Status) -> u64) -> u64 {
        self.statuses.iter().map(part).sum()
    }

    pub fn opened(&self) -> u64 {
        self.sum(|status| status.opened)
    }

    pub fn refused(&self) -> u64 {
        self.sum(|status| status.refused.values().sum())
    }

    pub fn ended(&self) -> u64 {
        self.sum(|status| status.ended.values().sum())
    }

    pub fn hung_up(&self) -> u64 {
        self.sum(|status| status.hung_up)
    }

    pub fn delivered(&self) -> u64 {
        self.sum(|status| status.delivered)
    }

    pub fn receipts(&self) -> u64 {
        self.sum(|status| status.receipts_sent + status.receipts_offline)
    }

    pub fn receipts_offline(&self) -> u64 {
        self.sum(|status| status.receipts_offline)
    }

    pub fn prepared(&self) -> usize {
        self.statuses.iter().map(|status| status.prepared).sum()
    }

    /// Messages of a room that all its members have.
    pub fn complete(&self, stream: u32) -> u64 {
        let swarms = self.expected.get(&stream).into_iter().flatten();
        let complete = |index: &usize| {
            self.statuses[*index].complete.get(&stream).copied().unwrap_or_default()
        };
        swarms.map(complete).min().unwrap_or_default()
    }

    /// Why connects failed and connections ended, for a message.
    pub fn troubles(&self) -> String {
        let mut all: BTreeMap<&str, u64> = BTreeMap::new();
        for status in &self.statuses {
            for (reason, count) in status.refused.iter().chain(&status.ended) {
                *all.entry(reason).or_default() += count;
            }
        }
        let all: Vec<_> = all.iter().map(|(reason, count)| format!("{reason}: {count}")).collect();
        if all.is_empty() { "no errors".into() } else { all.join(", ") }
    }
}

impl Fleet {
    /// Starts as many processes as `count` clients need, on `core` alone if one is given.
    pub fn start(
        deployment: Option<&Deployment>,
        first: i64,
        count: usize,
        core: Option<usize>,
    ) -> Result<Self, String> {
        Fleet::start_split(deployment, first, count, PER_PROCESS, core)
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
        let processes = count.div_ceil(per_process).max(1);
        {
            let mut state = shared.lock();
            state.statuses.resize(processes, Status::default());
            state.latencies.resize(processes, None);
            state.audits.resize(processes, None);
        }
        let mut swarms = Vec::new();
        for index in 0..processes {
            swarms.push(start_swarm(deployment, index, core, &shared)?);
        }
        Ok(Fleet { swarms, shared, first, per_process })
    }

    /// Connects clients; returns at once.
    pub fn dial(&mut self, dial: &Dial) -> Result<(), String> {
        let parts = self.split(dial.first, dial.count);
        let share = |count: usize| count as f64 / dial.count as f64;
        for (index, first, count) in parts {
            let rate = dial.rate.map(|rate| rate * share(count));
            let window = ((dial.window as f64 * share(count)) as usize).max(1);
            let part = Dial { first, count, rate, window, ..dial.clone() };
            self.order(index, &Order::Dial(part))?;
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
        self.wait("connections", patience, |state| {
            state.opened() >= wanted || state.refused() > 0
        })?;
        self.look(|state| match state.refused() {
            0 => Ok(()),
            count => Err(format!("{count} connects failed: {}", state.troubles())),
        })
    }

    pub fn hang_up(&mut self, first: i64, count: usize) -> Result<(), String> {
        for (index, first, count) in self.split(first, count) {
            self.order(index, &Order::Hangup { first, count })?;
        }
        Ok(())
    }

    /// Declares who the members of a room are: its completed messages are counted, and whoever else gets one
    /// is a fault.
    pub fn members(&mut self, stream: u32, first: i64, count: usize) -> Result<(), String> {
        let parts = self.split(first, count);
        let swarms = parts.iter().map(|(index, ..)| *index).collect();
        self.shared.lock().expected.insert(stream, swarms);
        for (index, _, here) in parts {
            self.order(index, &Order::Members { stream, first, count, here: here as u32 })?;
        }
        Ok(())
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
        for index in 0..self.swarms.len() {
            self.order(index, &Order::Collect)?;
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
        }
        Ok(all)
    }

    /// Compares what was sent with what every client has, once nothing has come for a while: a copy too
    /// many comes after the last message.
    pub fn audit(&mut self, sent: &Sent) -> Result<Account, String> {
        self.wait_for_quiet();
        self.shared.lock().audits.iter_mut().for_each(|note| *note = None);
        let mut parts = vec![Sent::default(); self.swarms.len()];
        for (client, messages) in &sent.direct {
            parts[self.swarm_of(*client)].direct.push((*client, *messages));
        }
        for room in &sent.rooms {
            for (index, first, count) in self.split(room.first, room.count) {
                parts[index].rooms.push(crate::orders::SentRoom { first, count, ..room.clone() });
            }
        }
        for (index, part) in parts.into_iter().enumerate() {
            self.order(index, &Order::Audit(part))?;
        }
        self.wait("the audit", Duration::from_secs(60), |state| {
            state.audits.iter().all(Option::is_some)
        })?;
        let mut account = Account::default();
        self.shared.lock().audits.iter().flatten().for_each(|part| account += part);
        Ok(account)
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
        self.swarms[index].process.kill().map_err(|error| format!("killing a swarm: {error}"))
    }

    pub fn pids(&self) -> Vec<u32> {
        self.swarms.iter().map(|swarm| swarm.process.id()).collect()
    }

    fn order(&mut self, index: usize, order: &Order) -> Result<(), String> {
        let mut line = serde_json::to_vec(order).map_err(|error| error.to_string())?;
        line.push(b'\n');
        let stdin = self.swarms[index].orders.as_mut();
        let stdin = stdin.ok_or("a client process was told to end")?;
        stdin.write_all(&line).map_err(|error| format!("a client process is gone: {error}"))
    }

    fn swarm_of(&self, client: i64) -> usize {
        ((client - self.first) as usize / self.per_process).min(self.swarms.len() - 1)
    }

    /// Which part of a range of clients lives in which swarm.
    fn split(&self, first: i64, count: usize) -> Vec<(usize, i64, usize)> {
        let end = first + count as i64;
        let mut parts = Vec::new();
        let mut from = first;
        while from < end {
            let index = self.swarm_of(from);
            let next = self.first + ((index + 1) * self.per_process) as i64;
            let to = if index + 1 == self.swarms.len() { end } else { next.min(end) };
            parts.push((index, from, (to - from) as usize));
            from = to;
        }
        parts
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for swarm in &mut self.swarms {
            swarm.orders = None;
        }
        for swarm in &mut self.swarms {
            let _ = swarm.process.wait();
        }
    }
}

/// See [`Fleet::watcher`].
pub struct Watcher(Arc<Shared>);

impl Watcher {
    pub fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.0.lock())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, index: usize, note: Note) {
        let mut state = self.lock();
        match note {
            Note::Status(status) => state.statuses[index] = status,
            Note::Latencies(note) => state.latencies[index] = Some(note),
            Note::Audit(account) => state.audits[index] = Some(account),
            Note::Failed(reason) => state.failure = Some(reason),
        }
        self.changed.notify_all();
    }
}

fn start_swarm(
    deployment: Option<&Deployment>,
    index: usize,
    core: Option<usize>,
    shared: &Arc<Shared>,
) -> Result<Swarm, String> {
    let own = env::current_exe().map_err(|error| format!("where is this program? {error}"))?;
    let mut command = Command::new(own);
    command.arg("swarm");
    if let Some(deployment) = deployment {
        let text = serde_json::to_string(deployment).map_err(|error| error.to_string())?;
        command.args(["--deployment", &text]);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = on_core(core, || {
        command.spawn().map_err(|error| format!("cannot start a client process: {error}"))
    })?;
    let orders = process.stdin.take();
    let notes = process.stdout.take().ok_or("a client process without output")?;
    let shared = Arc::clone(shared);
    thread::spawn(move || {
        for line in BufReader::new(notes).lines().map_while(Result::ok) {
            match serde_json::from_str(&line) {
                Ok(note) => shared.hear(index, note),
                Err(error) => shared.hear(index, Note::Failed(format!("{error}: {line}"))),
            }
        }
    });
    Ok(Swarm { process, orders })
}
