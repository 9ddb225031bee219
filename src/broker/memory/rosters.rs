//! Rosters of channels within one process: which have changed, by version.
//!
//! Kept in `State`, under the broker's mutex; takes the time as an argument. Whoever changes who is there marks it here.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use ahash::AHashMap;

use super::state::State;
use crate::{
    broker::contract::{Roster, RosterMark, RosterNews},
    id::ClientId,
};

/// The least time between two looks at one channel.
const PAUSE: Duration = Duration::from_millis(900);

/// How long a channel without members keeps its roster.
const EMPTY_LIFE: Duration = Duration::from_secs(24 * 3600);

/// How long one that was switched off is told of.
const OFF_LIFE: Duration = Duration::from_secs(60);

/// The state of this process is never lost while it runs.
const EPOCH: &str = "memory";

#[derive(Default)]
pub(super) struct RosterBook {
    entries: AHashMap<String, Entry>,
    /// Channels by the version of their rosters, also of those that were switched off.
    by_version: BTreeMap<u64, String>,
    due: BTreeSet<String>,
    version: u64,
}

/// Of a channel that has, or had, a roster.
#[derive(Default)]
struct Entry {
    version: u64,
    is_on: bool,
    roster: Option<Roster>,
    looked: Option<Instant>,
    empty_since: Option<Instant>,
    /// Of one that is switched off: when it was first looked over.
    off_since: Option<Instant>,
}

impl RosterBook {
    pub(super) fn set(&mut self, channel: &str, on: bool) {
        if self.has(channel) == on {
            return;
        }
        let entry = self.entries.entry(channel.into()).or_default();
        *entry = Entry { version: entry.version, is_on: on, ..Entry::default() };
        self.changed(channel);
        if on {
            self.due.insert(channel.into());
        }
    }

    fn has(&self, channel: &str) -> bool {
        self.entries.get(channel).is_some_and(|entry| entry.is_on)
    }

    /// Who is there may be another from here on.
    pub(super) fn stir(&mut self, channel: &str) {
        if self.has(channel) {
            self.due.insert(channel.into());
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Forgets those that were switched off a while ago.
    fn tidy(&mut self, now: Instant) {
        let RosterBook { entries, by_version, .. } = self;
        entries.retain(|_, entry| {
            let stays =
                entry.is_on || now.duration_since(*entry.off_since.get_or_insert(now)) < OFF_LIFE;
            if !stays {
                by_version.remove(&entry.version);
            }
            stays
        });
    }

    fn changed(&mut self, channel: &str) {
        self.version += 1;
        if let Some(entry) = self.entries.get_mut(channel) {
            self.by_version.remove(&entry.version);
            entry.version = self.version;
            self.by_version.insert(self.version, channel.into());
        }
    }

    fn looked(&mut self, channel: &str, members: usize, roster: Roster, now: Instant) {
        let Some(entry) = self.entries.get_mut(channel) else { return };
        entry.looked = Some(now);
        entry.empty_since = (members == 0).then(|| entry.empty_since.unwrap_or(now));
        if entry.empty_since.is_some_and(|since| now.duration_since(since) > EMPTY_LIFE) {
            self.set(channel, false);
        } else if entry.roster.as_ref() != Some(&roster) {
            entry.roster = Some(roster);
            self.changed(channel);
        }
    }

    /// Channels that are to be looked at now, and those that have been empty for long.
    fn take_due(&mut self, now: Instant) -> Vec<String> {
        let is_over = |since: Instant| now.duration_since(since) > EMPTY_LIFE;
        let old = self.entries.iter().filter(|(_, entry)| entry.empty_since.is_some_and(is_over));
        let mut all: Vec<String> = old.map(|(channel, _)| channel.clone()).collect();
        let entries = &self.entries;
        let is_ready = |channel: &String| {
            let looked = entries.get(channel).and_then(|entry| entry.looked);
            looked.is_none_or(|looked| now.duration_since(looked) >= PAUSE)
        };
        all.extend(self.due.iter().filter(|channel| is_ready(channel)).cloned());
        for channel in &all {
            self.due.remove(channel);
        }
        all
    }

    fn news(&self, mark: &RosterMark) -> RosterNews {
        if self.version == 0 {
            return RosterNews::default();
        }
        let after = if mark.epoch == EPOCH { mark.version } else { 0 };
        let newer = self.by_version.range(after + 1..).filter_map(|(_, channel)| {
            let entry = self.entries.get(channel)?;
            // One that nobody has looked at is told when somebody has.
            (!entry.is_on || entry.roster.is_some())
                .then(|| (channel.clone(), entry.roster.clone()))
        });
        let mark = RosterMark { epoch: EPOCH.into(), version: self.version };
        RosterNews { mark, changed: newer.collect(), more: false }
    }
}

impl State {
    /// The client came online, or went.
    pub(super) fn stir_all(&mut self, client: &ClientId) {
        if !self.rosters.is_empty() {
            for channel in self.channels_of(client) {
                self.rosters.stir(&channel);
            }
        }
    }

    pub(super) fn roster_news(&mut self, mark: &RosterMark, now: Instant) -> RosterNews {
        self.rosters.tidy(now);
        for channel in self.rosters.take_due(now) {
            let members = self.members(&channel);
            let here = members.iter().filter(|client| self.is_online(client)).cloned().collect();
            self.rosters.looked(&channel, members.len(), Roster::of(here), now);
        }
        self.rosters.news(mark)
    }
}
