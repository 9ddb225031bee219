//! Lists of a `MemoryBroker` by pages: ordered maps, so that a page costs what it returns.
//!
//! Used under the broker's mutex only. The text that asks for the next page is the last item of the one
//! before.

use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Unbounded},
};

use super::state::State;
use crate::{broker::contract::Page, error::Result, id::ClientId};

impl State {
    pub(super) fn online_page(&self, after: Option<&str>, limit: usize) -> Result<Page<ClientId>> {
        let after = after.map(str::parse).transpose()?;
        Ok(clients(
            self.online.range((bound(after), Unbounded)).map(|(id, _)| id),
            limit,
            self.online.len(),
        ))
    }

    pub(super) fn members_page(
        &self,
        channel: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<ClientId>> {
        let after: Option<ClientId> = after.map(str::parse).transpose()?;
        let Some(members) = self.members.get(channel) else {
            return Ok(Page { items: Vec::new(), next: None, total: 0 });
        };
        Ok(clients(members.range((bound(after), Unbounded)), limit, members.len()))
    }

    pub(super) fn channels_page(&self, after: Option<&str>, limit: usize) -> Page<(String, i64)> {
        let after = after.map_or(Unbounded, Excluded);
        let all: &BTreeMap<String, _> = &self.members;
        let mut rest = all.range::<str, _>((after, Unbounded));
        let size = |(name, members): (&String, &std::collections::BTreeSet<_>)| {
            (name.clone(), members.len() as i64)
        };
        let items: Vec<_> = rest.by_ref().take(limit.max(1)).map(size).collect();
        let next = rest.next().and_then(|_| items.last()).map(|(name, _)| name.clone());
        Page { items, next, total: all.len() as u64 }
    }
}

fn bound(after: Option<ClientId>) -> std::ops::Bound<ClientId> {
    after.map_or(Unbounded, Excluded)
}

/// The next `limit` of `rest`, without the system's id.
fn clients<'a>(
    mut rest: impl Iterator<Item = &'a ClientId>,
    limit: usize,
    total: usize,
) -> Page<ClientId> {
    let mut items: Vec<_> = rest.by_ref().take(limit.max(1)).cloned().collect();
    let next = rest.next().and_then(|_| items.last()).map(ClientId::to_string);
    items.retain(|client| !client.is_system());
    Page { items, next, total: total as u64 }
}
