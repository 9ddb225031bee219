//! What was lost: messages sent to a node while its subscription did not hear.
//!
//! Senders count in Redis what they publish to a node, in front of the message, in the same round trip.
//! Every interval the feed reads that count in one transaction with publishing a probe; when the probe
//! comes back, exactly what was counted has been heard. A TCP stream loses nothing while it lives, so only
//! after a reconnect the two are compared. The count of receivers that `PUBLISH` returns would cost
//! nothing, but takes a connection that died without a word for a receiver. Pure; owned by one feed.

/// Compares what was sent to the node with what it heard.
#[derive(Default)]
pub(super) struct Gap {
    /// The count at the last probe before which nothing was missing.
    counted: Option<u64>,
    /// Messages heard since.
    heard: u64,
    /// Whether the subscription broke since.
    broken: bool,
    /// What was missing at the first probe after that.
    missing: Option<u64>,
    /// Whether more was heard than was counted: there are senders that do not count.
    strangers: bool,
}

impl Gap {
    /// There is a new subscription. `began_anew`: Redis lost the count since the last one.
    pub(super) fn reconnected(&mut self, began_anew: bool) {
        self.broken = self.counted.is_some();
        self.missing = None;
        if began_anew && self.broken {
            (self.counted, self.heard) = (Some(0), 0);
        }
    }

    /// A message was heard that its sender has counted.
    pub(super) fn heard(&mut self) {
        self.heard += 1;
    }

    /// A message was heard that nobody has counted.
    pub(super) fn heard_stranger(&mut self) {
        self.strangers = true;
    }

    /// How many messages were counted that were all heard, or told of.
    pub(super) fn counted(&self) -> Option<u64> {
        self.counted.filter(|_| !self.broken)
    }

    /// Whether there are senders of whose messages nobody can tell whether they are missing.
    pub(super) fn has_strangers(&self) -> bool {
        self.strangers
    }

    /// Whether something may be missing: the next probe must read the count, however early.
    pub(super) fn is_open(&self) -> bool {
        self.broken || self.counted.is_none()
    }

    /// A probe came back that was published when `published` messages were counted. Returns what was
    /// lost, once that is certain: a message counted but not yet published looks lost to one probe, not
    /// to two.
    pub(super) fn reconcile(&mut self, published: u64) -> Option<u64> {
        let counted = self.counted.unwrap_or(published);
        let strange = self.counted.is_some() && published >= counted && !self.broken;
        self.strangers |= strange && self.heard > published - counted;
        // Less than before: Redis went back to an old snapshot, and nobody knows what was sent.
        let missing = published.saturating_sub(counted).saturating_sub(self.heard);
        let lost = match (self.broken, self.missing) {
            (false, _) => 0,
            (true, None) if missing > 0 => {
                self.missing = Some(missing);
                return None;
            }
            (true, first) => first.unwrap_or(0).min(missing),
        };
        let strangers = self.strangers;
        *self = Gap { counted: Some(published), strangers, ..Gap::default() };
        Some(lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listening(published: u64) -> Gap {
        let mut gap = Gap::default();
        gap.reconnected(true);
        assert_eq!(gap.reconcile(published), Some(0), "what was before the node is not its loss");
        gap
    }

    #[test]
    fn only_what_is_missing_after_a_break_is_lost() {
        let mut gap = listening(100);
        gap.heard = 5;
        // Three are under way: no break, no loss.
        assert_eq!(gap.reconcile(108), Some(0));
        gap.heard = 3;
        gap.reconnected(false);
        gap.heard += 2;
        assert_eq!(gap.reconcile(120), None);
        gap.heard();
        assert_eq!(gap.reconcile(121), Some(7));
        assert_eq!(gap.reconcile(121), Some(0));
    }

    #[test]
    fn what_is_counted_but_under_way_is_not_lost() {
        let mut gap = listening(0);
        gap.reconnected(false);
        assert_eq!(gap.reconcile(2), None);
        gap.heard = 2;
        assert_eq!(gap.reconcile(2), Some(0));
    }

    #[test]
    fn several_breaks_are_one_gap() {
        let mut gap = listening(10);
        gap.heard = 1;
        gap.reconnected(false);
        assert_eq!(gap.reconcile(14), None);
        gap.reconnected(false);
        gap.heard();
        assert_eq!((gap.reconcile(20), gap.reconcile(20)), (None, Some(8)));
    }

    #[test]
    fn a_redis_without_memory_counts_from_nothing() {
        let mut gap = listening(0);
        gap.heard = 30;
        gap.reconnected(true);
        assert_eq!((gap.reconcile(3), gap.reconcile(3)), (None, Some(3)));
    }

    #[test]
    fn a_redis_of_yesterday_knows_nothing() {
        let mut gap = listening(50);
        gap.reconnected(false);
        assert_eq!(gap.reconcile(3), Some(0));
    }

    #[test]
    fn senders_that_do_not_count_are_noticed() {
        let mut gap = listening(50);
        gap.heard = 3;
        assert_eq!(gap.reconcile(53), Some(0));
        assert!(!gap.has_strangers());
        gap.heard = 3;
        gap.reconcile(55);
        assert!(gap.has_strangers());
        gap.reconnected(false);
        gap.reconcile(55);
        assert!(gap.has_strangers(), "they do not go");
    }

    #[test]
    fn senders_that_do_not_count_never_make_it_negative() {
        let mut gap = listening(50);
        gap.heard = 9;
        gap.reconnected(false);
        assert_eq!(gap.reconcile(51), Some(0));
    }
}
