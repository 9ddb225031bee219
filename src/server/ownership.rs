//! Which clients are this node's, where it serves slots, and how far those are on their way that are not any more.
//!
//! Pure. Made by the thread of slots; read by reactors and the feed.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    id::ClientId,
    slots::{self, SlotTable},
};

/// The table of slots, as one node sees it.
#[derive(Debug)]
pub(crate) struct Ownership {
    table: Arc<SlotTable>,
    node: Arc<str>,
    /// Slots that were taken from this node, which was held for dead.
    lost: BTreeSet<usize>,
}

impl Ownership {
    /// As the table says, and what it said `before`.
    pub(crate) fn new(table: Arc<SlotTable>, node: &str, before: Option<&Ownership>) -> Self {
        let is_gone = |slot: &usize| table.has_gone_from(*slot, node);
        let was_own = |slot: &usize| {
            before.is_some_and(|before| {
                before.owner(*slot) == Some(node) || before.lost.contains(slot)
            })
        };
        let lost = (0..table.count()).filter(is_gone).filter(was_own).collect();
        Ownership { table, node: node.into(), lost }
    }

    /// Which version of the table it is.
    pub(crate) fn version(&self) -> u64 {
        self.table.version
    }

    /// How many slots there are.
    pub(crate) fn count(&self) -> usize {
        self.table.count()
    }

    pub(crate) fn slot(&self, client: &ClientId) -> usize {
        slots::slot(client, self.table.count())
    }

    /// Whether another node owns the client. One whom nobody owns stays where it is.
    pub(crate) fn is_elsewhere(&self, client: &ClientId) -> bool {
        self.table.owner(self.slot(client)).is_some_and(|owner| owner != &*self.node)
    }

    /// Whether another node has taken the client's slot from this one.
    pub(crate) fn is_lost(&self, client: &ClientId) -> bool {
        self.lost.contains(&self.slot(client))
    }

    /// The node itself.
    pub(crate) fn node(&self) -> &str {
        &self.node
    }

    pub(crate) fn owner(&self, slot: usize) -> Option<&str> {
        self.table.owner(slot)
    }

    /// The node that has still to hand over what clients of the slot go on from.
    pub(crate) fn former_owner(&self, slot: usize) -> Option<&str> {
        self.table.moving_from(slot)
    }

    /// Slots that this node has given away and is not done with.
    pub(crate) fn leaving(&self) -> impl Iterator<Item = usize> {
        self.table.leaving(&self.node)
    }

    /// Another node that has connections of the client, or may have: the one that owns it, or did before this one.
    pub(crate) fn other(&self, client: &ClientId) -> Option<&str> {
        self.table.other(self.slot(client), &self.node)
    }
}

/// How far reactors are with sending clients on, each for itself.
#[derive(Debug, Default)]
pub(crate) struct Departures {
    reactors: Vec<Departing>,
}

#[derive(Debug, Default)]
struct Departing {
    /// The version of the table that it goes by.
    version: AtomicU64,
    /// Clients that are still to be sent on, by slot.
    left: Mutex<HashMap<usize, usize>>,
}

impl Departures {
    pub(crate) fn of(reactors: usize) -> Self {
        Departures { reactors: (0..reactors).map(|_| Departing::default()).collect() }
    }

    /// A reactor goes by `version`, and has so many connections of slots that are elsewhere.
    pub(crate) fn set(&self, reactor: usize, version: u64, left: HashMap<usize, usize>) {
        let Some(departing) = self.reactors.get(reactor) else { return };
        *departing.left.lock().unwrap_or_else(PoisonError::into_inner) = left;
        departing.version.store(version, Ordering::Release);
    }

    /// Connections that are still to be sent on, by slot; `None` before all reactors go by `version`.
    pub(crate) fn left(&self, version: u64) -> Option<HashMap<usize, usize>> {
        let mut sum = HashMap::new();
        for departing in &self.reactors {
            if departing.version.load(Ordering::Acquire) < version {
                return None;
            }
            for (slot, count) in &*departing.left.lock().unwrap_or_else(PoisonError::into_inner) {
                *sum.entry(*slot).or_default() += count;
            }
        }
        Some(sum)
    }
}
