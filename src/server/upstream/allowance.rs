//! How often the business is told of one client that messages do not reach: who is away may be sent any number.
//!
//! Pure. Used by the receipts thread.

use std::time::{Duration, Instant};

use ahash::AHashMap;

use crate::id::ClientId;

/// Messages told of each client in one [`SPAN`]. Documented in docs/events.md.
const MOST: u32 = 20;
const SPAN: Duration = Duration::from_secs(60);
/// Clients that are counted at once; beyond, all counts begin anew.
const CLIENTS: usize = 100_000;

/// What was told since the last minute began.
pub(super) struct Allowance {
    since: Instant,
    told: AHashMap<ClientId, u32>,
}

impl Allowance {
    pub(super) fn new(now: Instant) -> Self {
        Allowance { since: now, told: AHashMap::new() }
    }

    /// Whether one more may be told of `client`, which counts then.
    pub(super) fn admits(&mut self, client: &ClientId, now: Instant) -> bool {
        if now.duration_since(self.since) >= SPAN || self.told.len() >= CLIENTS {
            *self = Allowance::new(now);
        }
        let told = self.told.entry(client.clone()).or_default();
        *told += 1;
        *told <= MOST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_to_one_client_is_told_a_little_at_a_time() {
        let start = Instant::now();
        let mut allowance = Allowance::new(start);
        let mut admitted =
            |client: i64, now| (0..1000).filter(|_| allowance.admits(&client.into(), now)).count();
        assert_eq!((admitted(1, start), admitted(2, start)), (20, 20));
        assert_eq!(admitted(1, start + SPAN / 2), 0);
        assert_eq!(admitted(1, start + SPAN), 20);
    }

    #[test]
    fn what_is_counted_is_bounded() {
        let start = Instant::now();
        let mut allowance = Allowance::new(start);
        (0..300_000).for_each(|client| assert!(allowance.admits(&client.into(), start)));
        assert!(allowance.told.len() <= CLIENTS);
    }
}
