//! The thread of rosters: asks the broker once a second which have changed, and has the reactors tell their clients.
//!
//! Every node asks for itself and tells its own clients: nothing is published, so nothing is lost on the way to them, a node that
//! dies is missed by nobody else, and a client is told what has changed since what *it* was told last. Whose turn it is to look who is
//! there, and how often, is the broker's.

use std::{
    collections::HashMap,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use crate::{
    backoff::Backoff,
    broker::{Roster, RosterMark},
    error::Result,
    server::{
        connection::roster::Rostered,
        heartbeat,
        inbox::Reactors,
        message::{Command, RosterNews},
        node::Node,
    },
};

/// Between two looks: clients are told of a channel once at most in that time.
const LOOK: Duration = Duration::from_secs(1);
/// How long the thread may overlook that it is to stop.
const STOP_CHECK: Duration = Duration::from_millis(100);
/// Calls in one look.
const CALLS: usize = 100;
/// After a loss of all data: time in which the nodes bring back who is there, or everybody would be told gone.
const RESTORED: Duration = Duration::from_secs(5);

/// What the thread works with.
pub(crate) struct Rosters {
    node: Arc<Node>,
    reactors: Reactors,
    mark: RosterMark,
    /// As they were told last.
    told: HashMap<Arc<str>, Roster>,
    /// Since the broker has lost them: when they are to be switched on again.
    again_at: Option<Instant>,
}

/// The reactors have ended.
struct Ended;

impl Rosters {
    pub(crate) fn new(node: &Arc<Node>, reactors: Reactors) -> Self {
        let (mark, told) = (RosterMark::default(), HashMap::new());
        Rosters { node: Arc::clone(node), reactors, mark, told, again_at: None }
    }

    /// Runs until told to stop or until the reactors have ended.
    pub(crate) fn run(mut self) {
        let mut backoff = Backoff::default();
        let mut look_at = Instant::now() + LOOK;
        while !self.node.stopping.feed_ends() {
            let left = look_at.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                heartbeat::wait(|| thread::sleep(left.min(STOP_CHECK)));
                continue;
            }
            match self.look() {
                Ok(news) => {
                    backoff.works(Instant::now());
                    if self.tell(news).is_err() {
                        return;
                    }
                }
                Err(error) => {
                    if backoff.is_news(&error) {
                        log::warn!(reason:% = error; "rosters of channels stand still: {error}");
                    }
                }
            }
            look_at = Instant::now() + LOOK;
        }
    }

    /// What has changed since the last look.
    fn look(&mut self) -> Result<HashMap<String, Option<Roster>>> {
        let mut all = HashMap::new();
        if self.again_at.is_some_and(|at| Instant::now() >= at) {
            for channel in self.told.keys() {
                heartbeat::call(|| self.node.broker.set_roster(channel, true))?;
            }
            (self.again_at, self.mark) = (None, RosterMark::default());
        }
        for _ in 0..CALLS {
            if self.again_at.is_some() {
                break;
            }
            let news = heartbeat::call(|| self.node.broker.rosters(&self.mark))?;
            let is_lost = !self.mark.epoch.is_empty() && news.mark.epoch != self.mark.epoch;
            if is_lost && !self.told.is_empty() {
                self.again_at = Some(Instant::now() + RESTORED);
                break;
            }
            self.mark = news.mark;
            all.extend(news.changed);
            if !news.more {
                break;
            }
        }
        Ok(all)
    }

    fn tell(&mut self, news: HashMap<String, Option<Roster>>) -> std::result::Result<(), Ended> {
        for (channel, roster) in news {
            let channel: Arc<str> = channel.into();
            let Some(roster) = roster else {
                if self.told.remove(&channel).is_some() {
                    self.to_all(&RosterNews::Ended(Arc::clone(&channel)))?;
                }
                continue;
            };
            if let Some(rostered) = Rostered::new(&channel, self.told.get(&channel), &roster) {
                self.to_all(&RosterNews::Changed(Arc::new(rostered)))?;
                self.told.insert(channel, roster);
            }
        }
        if self.told.is_empty() { Ok(()) } else { self.to_all(&RosterNews::Told) }
    }

    fn to_all(&self, news: &RosterNews) -> std::result::Result<(), Ended> {
        let tell = || Command::Roster(news.clone());
        self.reactors.all().iter().try_for_each(|door| door.push(tell()).map_err(|_| Ended))
    }
}
