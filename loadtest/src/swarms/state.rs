//! What the client processes have reported, and the sums that a measurement waits for.
//!
//! Filled by the threads that read the processes' notes; looked at by rows while traffic flows.

use std::{
    collections::BTreeMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use crate::{
    account::Account,
    orders::{LatencyNote, Note, Status},
};

#[derive(Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    pub(super) changed: Condvar,
}

/// The newest note of each kind from each swarm.
#[derive(Default)]
pub struct State {
    pub(super) statuses: Vec<Status>,
    pub(super) latencies: Vec<Option<LatencyNote>>,
    pub(super) audits: Vec<Option<Account>>,
    pub(super) failure: Option<String>,
    /// Room -> the processes that hold members of it.
    pub(super) expected: BTreeMap<u32, Vec<usize>>,
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

    /// Attempts that failed, whether or not another followed.
    pub fn failed(&self) -> u64 {
        self.refused() + self.sum(|status| status.tried.values().sum())
    }

    /// Connections that ended for good.
    pub fn ended(&self) -> u64 {
        self.sum(|status| status.ended.values().sum())
    }

    /// Connections that ended and whose clients come back.
    pub fn interrupted(&self) -> u64 {
        self.sum(|status| status.interrupted.values().sum())
    }

    /// Connections after an interrupted one.
    pub fn returned(&self) -> u64 {
        self.sum(|status| status.returned)
    }

    /// Connections that went on from the one before.
    pub fn resumed(&self) -> u64 {
        self.sum(|status| status.resumed)
    }

    /// Reason -> clients that were told to load their state anew, of each process.
    pub fn resyncs(&self) -> Vec<(String, u64)> {
        self.statuses.iter().flat_map(|status| status.resyncs.clone()).collect()
    }

    /// Clients that have been in.
    pub fn arrived(&self) -> u64 {
        self.opened() - self.returned()
    }

    /// Clients that are on their way back.
    pub fn away(&self) -> u64 {
        self.sum(|status| status.away)
    }

    /// Connections that are open.
    pub fn open(&self) -> u64 {
        let gone = self.ended() + self.interrupted() + self.hung_up();
        self.opened().saturating_sub(gone)
    }

    pub fn hung_up(&self) -> u64 {
        self.sum(|status| status.hung_up)
    }

    pub fn delivered(&self) -> u64 {
        self.sum(|status| status.delivered)
    }

    pub fn receipts(&self) -> u64 {
        self.sum(|status| {
            status.receipts_sent + status.receipts_acknowledged + status.receipts_offline
        })
    }

    pub fn receipts_acknowledged(&self) -> u64 {
        self.sum(|status| status.receipts_acknowledged)
    }

    pub fn receipts_offline(&self) -> u64 {
        self.sum(|status| status.receipts_offline)
    }

    /// Memberships that the processes know.
    pub(super) fn declared(&self) -> u64 {
        self.sum(|status| status.declared)
    }

    pub fn prepared(&self) -> usize {
        self.statuses.iter().map(|status| status.prepared).sum()
    }

    /// Messages of a room that all its members have.
    pub fn complete(&self, stream: u32) -> u64 {
        let holders = self.expected.get(&stream).into_iter().flatten();
        let complete = |index: &usize| {
            self.statuses[*index].complete.get(&stream).copied().unwrap_or_default()
        };
        holders.map(complete).min().unwrap_or_default()
    }

    /// Why connects failed and connections ended, for a message.
    pub fn troubles(&self) -> String {
        let all = |status: &Status| {
            let Status { refused, tried, ended, interrupted, .. } = status;
            [refused, tried, ended, interrupted].map(Clone::clone)
        };
        reasons(self.statuses.iter().flat_map(all).flatten(), "no errors")
    }

    /// Reason -> attempts to come back that failed, of each process.
    pub fn tried(&self) -> Vec<(String, u64)> {
        self.statuses.iter().flat_map(|status| status.tried.clone()).collect()
    }
}

/// Reasons with their numbers, each once, for a message; `none` if there are none.
pub fn reasons(counts: impl IntoIterator<Item = (String, u64)>, none: &str) -> String {
    let mut all: BTreeMap<String, u64> = BTreeMap::new();
    for (reason, count) in counts {
        *all.entry(reason).or_default() += count;
    }
    let all: Vec<_> = all.iter().map(|(reason, count)| format!("{reason}: {count}")).collect();
    if all.is_empty() { none.into() } else { all.join(", ") }
}

/// A view of the counts for another thread; see [`Swarms::watcher`](super::Swarms::watcher).
pub struct Watcher(pub(super) Arc<Shared>);

impl Watcher {
    pub fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.0.lock())
    }
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn hear(&self, index: usize, note: Note) {
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
