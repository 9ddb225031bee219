//! Who is known to be coming, and when those leave their channels who do not come.
//!
//! Kept in `State`, under the broker's mutex; takes the time as an argument. The twin of what the Redis
//! broker keeps under `Coming`, `Leaving`, `Kept` and `Left`.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use ahash::{AHashMap, AHashSet};

use crate::{
    broker::contract::{BROUGHT_BACK, GRACE},
    id::ClientId,
};

/// What has expired is looked for only when at least so many clients are stored.
const PURGE_AT_LEAST: usize = 1024;

/// Time that the clock advances at once at most.
const LONGEST_STEP: Duration = Duration::from_secs(5);

/// Time that passes only while somebody asks: a process that was stopped makes nobody late.
#[derive(Default)]
struct Clock {
    asked: Option<Instant>,
    now: Duration,
}

impl Clock {
    fn now(&mut self, at: Instant) -> Duration {
        let passed = self.asked.map_or(LONGEST_STEP, |asked| at.saturating_duration_since(asked));
        self.asked = Some(at);
        self.now += passed.min(LONGEST_STEP);
        self.now
    }
}

/// Why memberships of a client end, and with it when.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Due {
    /// Too many for one step; they are set aside, as the node was taken for dead.
    Lapsed,
    /// Too many for one step.
    Now,
    /// Unless the client comes before.
    At(Duration),
}

#[derive(Default)]
pub(super) struct Leaving {
    clock: Clock,
    /// Client -> tag of a token whose ticket is out, or was taken for a connection that is not reported
    /// yet -> until when that counts.
    coming: AHashMap<ClientId, AHashMap<u64, Duration>>,
    purge_at: usize,
    due: AHashMap<ClientId, Due>,
    by_time: BTreeSet<(Due, ClientId)>,
    /// Channels that a client was joined to while it was leaving, and how long it may stay away from them.
    kept: AHashMap<ClientId, (AHashSet<String>, Option<Duration>)>,
    /// Channels that a client left because its node was taken for dead, until when.
    left: AHashMap<ClientId, (Vec<String>, Duration)>,
}

impl Leaving {
    /// A ticket of `client` is out, or was taken; for `life`.
    pub(super) fn comes(&mut self, client: &ClientId, tag: u64, life: Duration, at: Instant) {
        let now = self.clock.now(at);
        if self.coming.len() >= self.purge_at.max(PURGE_AT_LEAST) {
            self.coming.retain(|_, tags| tags.values().any(|until| now <= *until));
            self.left.retain(|_, (_, until)| now <= *until);
            self.purge_at = 2 * self.coming.len();
        }
        let tags = self.coming.entry(client.clone()).or_default();
        tags.retain(|_, until| now <= *until);
        tags.insert(tag, now.saturating_add(life));
    }

    /// The connection of that ticket is reported.
    pub(super) fn came(&mut self, client: &ClientId, tag: u64) {
        if let Some(tags) = self.coming.get_mut(client) {
            tags.remove(&tag);
            if tags.is_empty() {
                self.coming.remove(client);
            }
        }
    }

    /// The tags by which the client is known to be coming.
    pub(super) fn tags(&self, client: &ClientId) -> Vec<u64> {
        self.coming.get(client).map_or_else(Vec::new, |tags| tags.keys().copied().collect())
    }

    pub(super) fn is_coming(&mut self, client: &ClientId, at: Instant) -> bool {
        let now = self.clock.now(at);
        self.coming.get(client).is_some_and(|tags| tags.values().any(|until| now <= *until))
    }

    /// The client is online, or has left: nothing is due any more.
    pub(super) fn stays(&mut self, client: &ClientId) {
        if let Some(due) = self.due.remove(client) {
            self.by_time.remove(&(due, client.clone()));
            self.kept.remove(client);
        }
    }

    /// Its memberships end after a grace, unless it comes.
    pub(super) fn wait(&mut self, client: &ClientId, at: Instant) {
        let now = self.clock.now(at);
        self.set(client, Due::At(now + GRACE));
    }

    /// Its memberships end as soon as somebody looks.
    pub(super) fn at_once(&mut self, client: &ClientId, lapsed: bool) {
        self.set(client, if lapsed { Due::Lapsed } else { Due::Now });
    }

    fn set(&mut self, client: &ClientId, due: Due) {
        if let Some(former) = self.due.insert(client.clone(), due) {
            self.by_time.remove(&(former, client.clone()));
        }
        self.by_time.insert((due, client.clone()));
    }

    /// A client that is not online was joined to a channel, for `life` if it never comes.
    pub(super) fn joined(
        &mut self,
        client: &ClientId,
        channel: &str,
        life: Option<Duration>,
        at: Instant,
    ) {
        let now = self.clock.now(at);
        let due = self.due.get(client).copied();
        if due.is_some_and(|due| due <= Due::At(now + GRACE)) {
            // After the close: this one is not what is going to be left.
            let kept = self.kept.entry(client.clone()).or_default();
            kept.0.insert(channel.into());
            kept.1 = life;
        } else if let Some(life) = life {
            let until = Due::At(now.saturating_add(life));
            self.set(client, due.map_or(until, |due| due.max(until)));
        } else {
            self.stays(client);
        }
    }

    /// A client whose time has come, and what for.
    pub(super) fn next_due(&mut self, at: Instant) -> Option<(ClientId, Due)> {
        let now = self.clock.now(at);
        let (due, client) = self.by_time.first()?;
        (*due <= Due::At(now)).then(|| (client.clone(), *due))
    }

    /// Whether what was too much for one step waits.
    pub(super) fn has_more(&self) -> bool {
        self.by_time.first().is_some_and(|(due, _)| *due <= Due::Now)
    }

    pub(super) fn is_kept(&self, client: &ClientId, channel: &str) -> bool {
        self.kept.get(client).is_some_and(|(channels, _)| channels.contains(channel))
    }

    /// All that was to be left is left; what the business has joined the client to meanwhile begins a life
    /// of its own.
    pub(super) fn done(&mut self, client: &ClientId, at: Instant) {
        let now = self.clock.now(at);
        let kept = self.kept.remove(client);
        self.stays(client);
        if let Some((_, Some(life))) = kept {
            self.set(client, Due::At(now.saturating_add(life)));
        }
    }

    /// The client has left the channel because its node was taken for dead.
    pub(super) fn set_aside(&mut self, client: &ClientId, channel: String, at: Instant) {
        let now = self.clock.now(at);
        let (channels, until) = self.left.entry(client.clone()).or_default();
        channels.push(channel);
        *until = now + BROUGHT_BACK;
    }

    /// What was set aside, which is forgotten by that.
    pub(super) fn take_left(&mut self, client: &ClientId) -> Vec<String> {
        self.left.remove(client).unwrap_or_default().0
    }

    /// The business ends a membership: no node brings it back.
    pub(super) fn forget_left(&mut self, client: &ClientId, channel: &str) {
        if let Some((channels, _)) = self.left.get_mut(client) {
            channels.retain(|name| name != channel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn who_is_awaited_and_does_not_come_is_due_once() {
        let (mut leaving, mut at) = (Leaving::default(), Instant::now());
        leaving.comes(&1.into(), 7, 10 * SECOND, at);
        assert!(leaving.is_coming(&1.into(), at) && !leaving.is_coming(&2.into(), at));
        leaving.wait(&1.into(), at);
        for _ in 0..9 {
            at += SECOND;
            assert_eq!(leaving.next_due(at), None);
        }
        at += SECOND;
        assert!(leaving.next_due(at).is_some_and(|(client, _)| client == 1.into()));
        leaving.done(&1.into(), at);
        assert_eq!(leaving.next_due(at + SECOND), None);
        leaving.came(&1.into(), 7);
        assert!(leaving.coming.is_empty());
    }

    #[test]
    fn a_process_that_was_stopped_makes_nobody_late() {
        let (mut leaving, at) = (Leaving::default(), Instant::now());
        leaving.wait(&1.into(), at);
        assert_eq!(leaving.next_due(at + 3600 * SECOND), None);
        assert_eq!(leaving.next_due(at + 3604 * SECOND), None);
        assert!(leaving.next_due(at + 3606 * SECOND).is_some());
    }

    #[test]
    fn a_membership_of_a_client_that_never_comes_ends_with_its_life() {
        let (mut leaving, mut at) = (Leaving::default(), Instant::now());
        leaving.joined(&1.into(), "a", Some(20 * SECOND), at);
        leaving.joined(&1.into(), "b", Some(12 * SECOND), at);
        leaving.joined(&2.into(), "a", None, at);
        for _ in 0..20 {
            assert_eq!(leaving.next_due(at), None);
            at += SECOND;
        }
        assert_eq!(leaving.next_due(at).unwrap().0, 1.into());
        leaving.done(&1.into(), at);
        assert_eq!(leaving.next_due(at), None);
    }
}
