//! The table of slots. The part of `State` that nodes change and whoever sends reads; under the broker's mutex.

use std::{sync::Arc, time::Instant};

use super::state::State;
use crate::{
    error::Result,
    slots::{Changed, SlotChange, SlotOrder, SlotTable},
};

impl State {
    pub(super) fn change_slots(
        &mut self,
        session: &str,
        node: &str,
        version: u64,
        change: &SlotChange<'_>,
        now: Instant,
    ) -> Result<bool> {
        if self.slots.as_ref().map_or(0, |table| table.version) != version {
            return Ok(false);
        }
        let changed = SlotTable::changed(self.slots.as_ref(), node, change);
        let Some(changed) = changed.map_err(|other| other.error())? else { return Ok(false) };
        let living = self.living();
        let is_alive = |name: &String| living.contains(name);
        let can = self.has_lease(session, node, now)
            && changed.alive.as_ref().is_none_or(is_alive)
            && !changed.dead.as_ref().is_some_and(is_alive);
        if can {
            self.put_slots(changed);
        }
        Ok(can)
    }

    pub(super) fn begin_slots(&mut self, table: &SlotTable) -> bool {
        let is_first = self.slots.is_none();
        if is_first {
            self.put_slots(Changed::of(table.clone()));
        }
        is_first
    }

    pub(super) fn order(&mut self, node: &str, order: SlotOrder) -> bool {
        let Some(table) = &self.slots else { return false };
        let stands = table.node(node).is_some();
        if let Some(after) = table.ordered(node, order) {
            self.put_slots(Changed::of(after));
        }
        stands
    }

    /// The nodes that stand in either table are told.
    fn put_slots(&mut self, changed: Changed) {
        let notice = Arc::new(changed.notice());
        let table = changed.table;
        let before = self.slots.replace(table.clone()).unwrap_or_default();
        let gone = before.nodes().filter(|(name, _)| table.node(name).is_none());
        // What is logged before it has a lower number, what is logged behind it a higher one, on all nodes.
        let number = self.log.number();
        for (name, _) in table.nodes().chain(gone) {
            self.deliver(name, &notice, Some(number));
        }
    }
}
