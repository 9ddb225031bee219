//! What several Redis cannot do: it needs one stream, one table or one count for all nodes. Refused in one sentence each, and
//! empty where it is only asked for.
//!
//! `open` refuses the settings that would need any of it; this is for who calls it all the same.

use std::time::Duration;

use super::Shares;
use crate::{
    broker::contract::{
        Abandoned, DeadLetter, EventBatch, EventGroup, EventReader, Events, FormerConnection,
        HandOver, Moves, Page, Past, RosterMark, RosterNews, Rosters, Session, Slots, WebhookState,
        WebhookTurn, Webhooks,
    },
    error::{Error, Result},
    slots::{SlotChange, SlotOrder, SlotTable},
};

/// What needs the one table that several Redis have not.
pub(super) fn no_slots() -> Error {
    let detail = "several Redis, or a Redis Cluster, share the nodes of a fixed list; nodes that come and go (slots) need one Redis";
    Error::config("redis", detail)
}

fn no_events() -> Error {
    Error::config(
        "redis",
        "no events are kept where several Redis, or a Redis Cluster, share the nodes; that needs one Redis",
    )
}

impl Events for Shares {
    fn read_events(&self, _: &EventReader, _limit: usize, _wait: Duration) -> Result<EventBatch> {
        Err(no_events())
    }

    fn acknowledge_events(&self, _: &EventReader, _missed: u64, _ids: &[String]) -> Result<bool> {
        Err(no_events())
    }

    fn leave_events(&self, _: &EventReader) -> Result<()> {
        Ok(())
    }

    fn event_groups(&self) -> Result<Vec<EventGroup>> {
        Ok(Vec::new())
    }

    fn forget_event_group(&self, _group: &str) -> Result<bool> {
        Ok(false)
    }
}

impl Rosters for Shares {
    fn set_roster(&self, _channel: &str, on: bool) -> Result<()> {
        match on {
            true => Err(Error::argument(
                "no channel has a roster where several Redis, or a Redis Cluster, share the nodes; that needs one Redis",
            )),
            false => Ok(()),
        }
    }

    fn rosters(&self, _mark: &RosterMark) -> Result<RosterNews> {
        Ok(RosterNews::default())
    }
}

impl Moves for Shares {
    fn common_key(&self, _proposed: &[u8; 16]) -> Result<[u8; 16]> {
        Err(no_slots())
    }

    fn hand_over(
        &self,
        _session: &Session,
        _to: &str,
        _from: u64,
        _connections: &[u64],
        _parcel: &str,
    ) -> Result<HandOver> {
        Err(no_slots())
    }

    fn parcels(&self, _session: &Session) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn took(&self, _session: &Session, _count: usize) -> Result<()> {
        Err(no_slots())
    }

    fn abandoned(&self) -> Result<Vec<Abandoned>> {
        Ok(Vec::new())
    }

    fn abandoned_connections(&self, _abandoned: &str) -> Result<Vec<FormerConnection>> {
        Err(no_slots())
    }

    fn take_abandoned(
        &self,
        _session: &Session,
        _abandoned: &str,
        _from: u64,
        _connections: &[u64],
    ) -> Result<Vec<u64>> {
        Err(no_slots())
    }

    fn past(&self, node: &str) -> Result<Option<Box<dyn Past>>> {
        self.of_node(node)?.past(node)
    }
}

impl Slots for Shares {
    fn slot_table(&self) -> Result<Option<SlotTable>> {
        Ok(None)
    }

    fn slot_version(&self) -> Result<u64> {
        Ok(0)
    }

    fn change_slots(&self, _: &str, _: &str, _version: u64, _: &SlotChange<'_>) -> Result<bool> {
        Err(no_slots())
    }

    fn living(&self) -> Result<Vec<String>> {
        let all = self.all(Slots::living).into_iter().collect::<Result<Vec<_>>>()?;
        Ok(all.concat())
    }

    fn begin_slots(&self, _table: &SlotTable) -> Result<bool> {
        Err(no_slots())
    }

    fn order(&self, _node: &str, _order: SlotOrder) -> Result<bool> {
        Ok(false)
    }
}

impl Webhooks for Shares {
    fn hold_webhook(&self, _holder: &str, _life: Duration) -> Result<WebhookTurn> {
        Err(no_events())
    }

    fn release_webhook(&self, _holder: &str) -> Result<()> {
        Ok(())
    }

    fn note_webhook(&self, _holder: &str, _failure: Option<&str>) -> Result<()> {
        Err(no_events())
    }

    fn switch_webhook(&self, _off: Option<&str>) -> Result<()> {
        Err(no_events())
    }

    fn webhook_state(&self) -> Result<Option<WebhookState>> {
        Ok(None)
    }

    fn bury(&self, _letter: &DeadLetter) -> Result<()> {
        Err(no_events())
    }

    fn dead_letters(&self, _after: Option<&str>, _limit: usize) -> Result<Page<DeadLetter>> {
        Ok(Page { items: Vec::new(), next: None, total: 0 })
    }

    fn dead_letter(&self, _id: &str) -> Result<Option<DeadLetter>> {
        Ok(None)
    }

    fn replay_dead_letters(&self, _ids: &[String]) -> Result<usize> {
        Ok(0)
    }

    fn next_replay(&self) -> Result<Option<DeadLetter>> {
        Ok(None)
    }

    fn settle_replay(&self, _id: &str, _delivered: bool) -> Result<()> {
        Err(no_events())
    }

    fn discard_dead_letters(&self, _ids: &[String]) -> Result<usize> {
        Ok(0)
    }
}
