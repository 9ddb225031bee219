//! Rosters: which channels have one, and who is there; both in scripts, see `rosters.lua`.
//!
//! Called by helpers, and by a node's thread of rosters.

use redis::Value;

use super::scripts;
use crate::{
    broker::{
        contract::{ROSTER_NAMES, Roster, RosterMark, RosterNews},
        redis::{backend::Backend, link::reply},
    },
    error::Result,
    id::ClientId,
    token::random_u64,
};

/// Rosters that are told at once.
const TOLD: usize = 100;

impl Backend {
    pub(crate) fn set_roster(&self, channel: &str, on: bool) -> Result<()> {
        let epoch = format!("{:016x}", random_u64()?);
        self.one(|pipeline| {
            self.presence_script(pipeline, &scripts::ROSTER);
            pipeline.arg(channel).arg(i32::from(on)).arg(epoch);
        })?;
        Ok(())
    }

    pub(crate) fn rosters(&self, mark: &RosterMark) -> Result<RosterNews> {
        let news = self.one(|pipeline| {
            self.presence_script(pipeline, &scripts::ROSTERS);
            pipeline.arg(&mark.epoch).arg(mark.version).arg(ROSTER_NAMES).arg(TOLD);
        })?;
        let mut parts = reply::items(news).into_iter();
        let mut next = || parts.next().unwrap_or(Value::Nil);
        let epoch = reply::text(next());
        let version = reply::number(next()).max(0) as u64;
        let more = reply::number(next()) == 1;
        let changed = reply::pairs(parts.map(reply::text));
        let changed = changed.map(|(channel, state)| (channel, roster(&state))).collect();
        Ok(RosterNews { mark: RosterMark { epoch, version }, changed, more })
    }
}

/// A state as the script writes it.
fn roster(state: &str) -> Option<Roster> {
    let mut words = state.split(' ');
    let online: usize = words.next()?.parse().ok()?;
    Some(match online < ROSTER_NAMES {
        true => Roster::of(words.filter_map(ClientId::parse_text).collect()),
        false => Roster::of_many(online as u64),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_names_those_who_are_ids() {
        assert_eq!(roster(""), None);
        assert_eq!(roster("0"), Some(Roster::of(Vec::new())));
        let all = vec![9.into(), 10.into(), "x,".parse().unwrap()];
        assert_eq!(roster("3 10 9 x, "), Some(Roster::of(all)));
        assert_eq!(roster("200"), Some(Roster::of_many(200)));
        assert_eq!(roster("x"), None);
    }
}
