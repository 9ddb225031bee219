//! When a node may judge others, and when it has caught up itself: plain values, the time is an argument.
//!
//! Used by the presence thread alone.

use std::time::{Duration, Instant};

use ahash::AHashMap;

use crate::backoff;

/// Renewals in the life of a lease. So many that two looks which are more than one renewal apart fit behind
/// its end, and all of it within 10 s of a death.
const RENEWALS: u32 = 8;

/// Age from which on what is told counts as told late: well below the 10 s for which a taken ticket is known.
const LATE: Duration = Duration::from_secs(5);

/// Time between two renewals of a lease.
pub(crate) fn renewal(lease: Duration) -> Duration {
    lease / RENEWALS
}

/// Whether other nodes have had the time to renew their leases.
///
/// After an outage all leases have run out, and the first node to be back must not take the others for
/// dead. Nobody tells what was an outage; but whoever could not renew in time himself knows of one.
pub(crate) struct OutageGrace {
    since: Instant,
    renewed: Instant,
}

impl OutageGrace {
    pub(crate) fn new(now: Instant) -> Self {
        OutageGrace { since: now, renewed: now }
    }

    pub(crate) fn renewed(&mut self, now: Instant, lease: Duration) {
        if now.duration_since(self.renewed) > lease * 2 / 3 {
            self.since = now;
        }
        self.renewed = now;
    }

    pub(crate) fn is_over(&self, now: Instant, lease: Duration) -> bool {
        // Everybody has tried once more within the longest pause, and has then renewed.
        now.duration_since(self.since) >= lease + backoff::LONGEST
    }
}

/// Sessions whose lease was not there: since when, by this node's own clock.
///
/// One look does not tell a dead node from a broker whose clock has made a step, or that has lost the leases:
/// then all that live renew theirs before the second look.
#[derive(Default)]
pub(crate) struct Suspects(AHashMap<String, Instant>);

impl Suspects {
    /// After a look that found these sessions without a lease: those that are dead.
    pub(crate) fn look(
        &mut self,
        lapsed: Vec<String>,
        now: Instant,
        lease: Duration,
    ) -> Vec<String> {
        let former = std::mem::take(&mut self.0);
        self.0 = lapsed
            .into_iter()
            .map(|session| {
                let since = former.get(&session).copied().unwrap_or(now);
                (session, since)
            })
            .collect();
        let apart = renewal(lease) * 3 / 2;
        let dead = self.0.iter().filter(|(_, since)| now.duration_since(**since) >= apart);
        dead.map(|(session, _)| session.clone()).collect()
    }

    /// Looks of before count no more.
    pub(crate) fn forget(&mut self) {
        self.0.clear();
    }
}

/// How far behind a node is with what it has to tell.
pub(crate) struct CatchUp {
    /// Changes that waited at the mark and still do.
    behind: usize,
    /// When the mark was made: what came later may wait.
    marked: Instant,
    /// All that came before was told.
    told: Instant,
    /// Whether all that waited when it could tell again, or for the first time, was told.
    done: bool,
    /// A mark is due: something went wrong, or nothing was told yet.
    fresh: bool,
}

impl CatchUp {
    pub(crate) fn new(now: Instant) -> Self {
        CatchUp { behind: 0, marked: now, told: now, done: false, fresh: true }
    }

    /// It cannot tell, or has fallen far behind: what waits when it can again must be told first.
    pub(crate) fn restart(&mut self) {
        (self.done, self.fresh) = (false, true);
    }

    /// So many changes wait, before some of them are told.
    pub(crate) fn waiting(&mut self, count: usize, now: Instant) {
        if std::mem::take(&mut self.fresh) {
            (self.behind, self.marked) = (count, now);
        }
        if self.behind == 0 {
            self.done = true;
            self.told = self.marked;
            (self.behind, self.marked) = (count, now);
        }
    }

    /// Nothing waited until now.
    pub(crate) fn idle(&mut self, now: Instant) {
        (self.behind, self.marked, self.told) = (0, now, now);
    }

    /// So many changes were told.
    pub(crate) fn told(&mut self, count: usize) {
        self.behind = self.behind.saturating_sub(count);
        if self.behind == 0 && !self.fresh {
            self.done = true;
            self.told = self.marked;
        }
    }

    /// Whether newcomers are told soon enough.
    pub(crate) fn is_done(&self) -> bool {
        self.done
    }

    /// Whether what is told now happened so long ago that clients may be back already.
    pub(crate) fn is_late(&self, now: Instant) -> bool {
        !self.done || now.duration_since(self.told) > LATE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(8);

    #[test]
    fn a_late_renewal_begins_the_grace_anew() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut grace = OutageGrace::new(start);
        grace.renewed(at(1), LEASE);
        assert!(!grace.is_over(at(9), LEASE) && grace.is_over(at(10), LEASE));
        grace.renewed(at(20), LEASE);
        assert!(!grace.is_over(at(20), LEASE) && grace.is_over(at(30), LEASE));
    }

    #[test]
    fn two_looks_without_a_lease_between_them_make_a_dead_node() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let both = || vec!["dead".to_owned(), "alive".to_owned()];
        let mut suspects = Suspects::default();
        assert!(suspects.look(both(), at(0), LEASE).is_empty());
        assert!(suspects.look(both(), at(1000), LEASE).is_empty());
        assert!(suspects.look(vec!["dead".into()], at(1200), LEASE).is_empty());
        assert_eq!(suspects.look(both(), at(1500), LEASE), ["dead"]);
        suspects.forget();
        assert!(suspects.look(both(), at(9000), LEASE).is_empty());
    }

    #[test]
    fn a_dead_node_is_found_within_ten_seconds_with_the_default_lease() {
        // It dies right after a renewal; the looks lie as badly as they can.
        let lease = Duration::from_secs(7);
        let look = renewal(lease);
        let looks = (renewal(lease) * 3 / 2).as_secs_f64() / look.as_secs_f64();
        assert!(lease + look + look * looks.ceil() as u32 <= Duration::from_secs(10));
    }

    #[test]
    fn who_has_told_what_waited_has_caught_up() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut catch_up = CatchUp::new(start);
        assert!(catch_up.is_late(start));
        catch_up.waiting(0, start);
        assert!(catch_up.is_done() && !catch_up.is_late(start));
        // An outage; 700 wait behind it, and more come.
        catch_up.restart();
        catch_up.waiting(700, at(60));
        catch_up.told(512);
        catch_up.waiting(900, at(61));
        assert!(!catch_up.is_done() && catch_up.is_late(at(61)));
        catch_up.told(512);
        assert!(catch_up.is_done() && !catch_up.is_late(at(62)));
        // Never idle, but not far behind either.
        for second in 61..80 {
            catch_up.waiting(600, at(second));
            assert!(!catch_up.is_late(at(second)));
            catch_up.told(512);
        }
        // Far behind without an error.
        catch_up.waiting(100_000, at(80));
        catch_up.told(512);
        catch_up.waiting(100_000, at(90));
        assert!(catch_up.is_done() && catch_up.is_late(at(90)));
    }
}
