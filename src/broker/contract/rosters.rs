//! Rosters: who of a channel's members is online, for the clients in it. Asked for by helpers, kept up to date by nodes.

use std::sync::Arc;

use crate::{error::Result, id::ClientId};

/// With so many members online or more a roster names nobody.
pub const ROSTER_NAMES: usize = 200;

/// Channels that have a roster. Whoever asks brings them up to date: no node is special.
///
/// ```
/// use imcore::broker::{Directory, MemoryBroker, RosterMark, Rosters};
///
/// let broker = MemoryBroker::new();
/// broker.set_roster("lobby", true)?;
/// broker.join(&[(42.into(), "lobby")])?; // not online, so not in the roster
/// let news = broker.rosters(&RosterMark::default())?;
/// let [(channel, Some(roster))] = &news.changed[..] else { panic!("all that are known") };
/// assert_eq!((channel.as_str(), roster.online), ("lobby", 0));
/// assert_eq!(broker.rosters(&news.mark)?.changed, []);
/// # Ok::<(), imcore::Error>(())
/// ```
pub trait Rosters: Send + Sync {
    /// Whether a channel has a roster from here on, also while it has no members. It ends by itself a day after the last member
    /// has left. Switching it on twice has no effect.
    fn set_roster(&self, channel: &str, on: bool) -> Result<()>;

    /// Looks again at rosters that may have changed, at each once a second at most and at a large one less often; returns
    /// those that have changed since `mark`, whoever has looked at them.
    ///
    /// Who joins, leaves, comes online or goes is found at the next look; what processes of another make did, at a later
    /// one: all are looked at once in a while.
    fn rosters(&self, mark: &RosterMark) -> Result<RosterNews>;
}

/// How far somebody knows the rosters. The default knows nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RosterMark {
    /// Names the state of the broker; another one means that it has lost all rosters since.
    pub epoch: String,
    /// Version up to which all is known.
    pub version: u64,
}

/// What has become of rosters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RosterNews {
    /// What is known with this. Its epoch is empty if there is not, or no more, any roster.
    pub mark: RosterMark,
    /// Channels with their rosters as they are now; `None` of those that have none any more. Each once.
    pub changed: Vec<(String, Option<Roster>)>,
    /// Whether there is more at once.
    pub more: bool,
}

/// Who of a channel's members is online.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Roster {
    /// How many are.
    pub online: u64,
    /// Who is, in order; `None` from [`ROSTER_NAMES`] on.
    pub members: Option<Arc<[ClientId]>>,
}

impl Roster {
    /// Of these, in any order, each once.
    pub(crate) fn of(mut members: Vec<ClientId>) -> Self {
        members.sort_unstable();
        let online = members.len() as u64;
        Roster { online, members: (members.len() < ROSTER_NAMES).then(|| members.into()) }
    }

    /// Of too many to be named.
    #[cfg(feature = "redis")]
    pub(crate) fn of_many(online: u64) -> Self {
        Roster { online, members: None }
    }
}
