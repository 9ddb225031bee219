//! The table of slots: one hash, read as a whole and changed field by field, version by version.
//!
//! Called by nodes, which change it, and by whoever sends. What a change comes to is computed here; the script makes it if the
//! table is still the same, and tells the nodes in the same step.

use std::collections::BTreeMap;

use redis::Value;

use super::scripts;
use crate::{
    broker::redis::{backend::Backend, link::reply},
    error::{Error, Result},
    slots::{Changed, SlotChange, SlotOrder, SlotTable},
};

/// Attempts at a change that others may come before.
const ATTEMPTS: usize = 20;

impl Backend {
    pub(crate) fn slot_table(&self) -> Result<Option<SlotTable>> {
        let fields = self.one(|pipeline| {
            pipeline.cmd("HGETALL").arg(self.layout.slots_key());
        })?;
        let fields = reply::pairs(reply::texts(fields).into_iter());
        SlotTable::read(fields).transpose().map_err(|why| {
            let key = self.layout.slots_key();
            Error::config("slots", format!("the table in Redis at {key} cannot be read: {why}"))
        })
    }

    pub(crate) fn slot_version(&self) -> Result<u64> {
        let version = self.one(|pipeline| {
            pipeline.cmd("HGET").arg(self.layout.slots_key()).arg("version");
        })?;
        Ok(reply::number(version).max(0) as u64)
    }

    pub(crate) fn change_slots(
        &self,
        session: &str,
        node: &str,
        version: u64,
        change: &SlotChange<'_>,
    ) -> Result<bool> {
        let table = self.slot_table()?;
        if table.as_ref().map_or(0, |table| table.version) != version {
            return Ok(false);
        }
        let changed = SlotTable::changed(table.as_ref(), node, change);
        let Some(changed) = changed.map_err(|other| other.error())? else { return Ok(false) };
        self.put_slots(table.as_ref(), Some((session, node)), &changed)
    }

    pub(crate) fn living(&self) -> Result<Vec<String>> {
        let sessions = self.sessions()?;
        let ended = self.each(&sessions, |pipeline, (session, _)| {
            pipeline.cmd("EXISTS").arg(self.layout.ended_key(session));
        })?;
        let alive = sessions.into_iter().zip(ended).filter(|(_, ended)| *ended == Value::Int(0));
        let mut names: Vec<_> = alive.map(|((_, node), _)| node).collect();
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    pub(crate) fn begin_slots(&self, table: &SlotTable) -> Result<bool> {
        match self.slot_table()? {
            Some(_) => Ok(false),
            None => self.put_slots(None, None, &Changed::of(table.clone())),
        }
    }

    pub(crate) fn order(&self, node: &str, order: SlotOrder) -> Result<bool> {
        for _ in 0..ATTEMPTS {
            let Some(table) = self.slot_table()? else { return Ok(false) };
            let stands = table.node(node).is_some();
            let Some(after) = table.ordered(node, order) else { return Ok(stands) };
            let changed = Changed::of(after);
            if self.put_slots(Some(&table), None, &changed)? {
                return Ok(stands);
            }
        }
        Err(Error::new(crate::ErrorKind::Overloaded, "the table of slots changes all the time"))
    }

    /// Puts a table in the place of the one that it was made from, if that is still there.
    fn put_slots(
        &self,
        before: Option<&SlotTable>,
        by: Option<(&str, &str)>,
        changed: &Changed,
    ) -> Result<bool> {
        let Changed { table, alive, dead, .. } = changed;
        let script = self.telling(&scripts::SLOTS)?;
        let notice = changed.notice().encode();
        let (session, node) = by.unwrap_or_default();
        let stood = before.into_iter().flat_map(SlotTable::nodes);
        let mut told: Vec<&str> = stood.chain(table.nodes()).map(|(name, _)| name).collect();
        told.sort_unstable();
        told.dedup();
        let of = |table: &SlotTable| table.fields().into_iter().collect::<BTreeMap<_, _>>();
        let (old, new) = (before.map(of).unwrap_or_default(), of(table));
        let done = self.one(|pipeline| {
            self.presence_script(pipeline, script);
            pipeline.arg(session).arg(node).arg(before.map_or(0, |table| table.version));
            pipeline.arg(alive.as_deref().unwrap_or_default());
            pipeline.arg(dead.as_deref().unwrap_or_default());
            pipeline.arg(notice).arg(told.len());
            for name in &told {
                pipeline.arg(self.layout.node_topic(name));
            }
            for (field, value) in new.iter().filter(|(field, value)| old.get(*field) != Some(value))
            {
                pipeline.arg(field).arg(value);
            }
            for field in old.keys().filter(|field| !new.contains_key(*field)) {
                pipeline.arg(field).arg("");
            }
        })?;
        self.tell_untold()?;
        Ok(reply::number(done) == 1)
    }
}
