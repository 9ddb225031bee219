//! What was lost: messages sent to a node while its subscription did not hear.
//!
//! Senders count in Redis what they publish to a node, in front of the message, in the same round trip.
//! Every interval the feed reads that count in one transaction with publishing a probe; when the probe
//! comes back, exactly what was counted has been heard. A TCP stream loses nothing while it lives, so only
//! after a reconnect the two are compared. The count of receivers that `PUBLISH` returns would cost
//! nothing, but takes a connection that died without a word for a receiver. Pure; owned by one feed.

/// Compares what was sent to the node with what it heard.
#[derive(Default)]
pub(super) struct Account {
    /// The count at the last probe before which nothing was missing.
    settled: Option<u64>,
    /// Messages heard since.
    pub(super) heard: u64,
    /// Whether the subscription broke since.
    broken: bool,
    /// What was missing at the first probe after that.
    missing: Option<u64>,
}

impl Account {
    /// There is a new subscription. `from_nothing`: Redis lost the count since the last one.
    pub(super) fn reconnected(&mut self, from_nothing: bool) {
        self.broken = self.settled.is_some();
        self.missing = None;
        if from_nothing && self.broken {
            (self.settled, self.heard) = (Some(0), 0);
        }
    }

    /// A probe came back that was published when `published` messages were counted. Returns what was
    /// lost, once that is certain: a message counted but not yet published looks lost to one probe, not
    /// to two.
    pub(super) fn probed(&mut self, published: u64) -> Option<u64> {
        let settled = self.settled.unwrap_or(published);
        // Less than before: Redis went back to an old snapshot, and nobody knows what was sent.
        let missing = published.saturating_sub(settled).saturating_sub(self.heard);
        let lost = match (self.broken, self.missing) {
            (false, _) => 0,
            (true, None) if missing > 0 => {
                self.missing = Some(missing);
                return None;
            }
            (true, first) => first.unwrap_or(0).min(missing),
        };
        *self = Account { settled: Some(published), ..Account::default() };
        Some(lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listening(published: u64) -> Account {
        let mut account = Account::default();
        account.reconnected(true);
        assert_eq!(account.probed(published), Some(0), "what was before the node is not its loss");
        account
    }

    #[test]
    fn only_what_is_missing_after_a_break_is_lost() {
        let mut account = listening(100);
        account.heard = 5;
        // Three are under way: no break, no loss.
        assert_eq!(account.probed(108), Some(0));
        account.heard = 3;
        account.reconnected(false);
        account.heard += 2;
        assert_eq!(account.probed(120), None);
        account.heard += 1;
        assert_eq!(account.probed(121), Some(7));
        assert_eq!(account.probed(121), Some(0));
    }

    #[test]
    fn what_is_counted_but_under_way_is_not_lost() {
        let mut account = listening(0);
        account.reconnected(false);
        assert_eq!(account.probed(2), None);
        account.heard = 2;
        assert_eq!(account.probed(2), Some(0));
    }

    #[test]
    fn several_breaks_are_one_account() {
        let mut account = listening(10);
        account.heard = 1;
        account.reconnected(false);
        assert_eq!(account.probed(14), None);
        account.reconnected(false);
        account.heard += 1;
        assert_eq!((account.probed(20), account.probed(20)), (None, Some(8)));
    }

    #[test]
    fn a_redis_without_memory_counts_from_nothing() {
        let mut account = listening(0);
        account.heard = 30;
        account.reconnected(true);
        assert_eq!((account.probed(3), account.probed(3)), (None, Some(3)));
    }

    #[test]
    fn a_redis_of_yesterday_knows_nothing() {
        let mut account = listening(50);
        account.reconnected(false);
        assert_eq!(account.probed(3), Some(0));
    }

    #[test]
    fn senders_that_do_not_count_never_make_it_negative() {
        let mut account = listening(50);
        account.heard = 9;
        account.reconnected(false);
        assert_eq!(account.probed(51), Some(0));
    }
}
