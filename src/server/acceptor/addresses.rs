//! What each address may ask of the acceptor: handshakes under way, and handshakes that come to nothing.
//!
//! Pure: the clock is an argument. Used by the acceptor's `Handshakes`. Those that end in a connection cost
//! nothing here, however many come from behind one address; what is limited over time is work for nothing,
//! which under TLS can be had by replaying one hello.

use std::time::{Duration, Instant};

use ahash::AHashMap;

use super::real_address::AddressBlock;
use crate::server::reasons::Refusal;

/// Failures that may come at once, in seconds of the rate that is allowed on average.
const BURST: usize = 10;
/// Addresses whose failures are remembered; of more, those that come last are not.
const REMEMBERED: usize = 65_536;
/// Pause between two looks for addresses that can be forgotten.
const SWEEP: Duration = Duration::from_secs(1);

/// Counts of all addresses.
#[derive(Debug)]
pub(crate) struct Addresses {
    /// Handshakes under way from one address; 0 sets no limit.
    at_once: usize,
    /// Handshakes a second that come to nothing; 0 sets no limit.
    failures: usize,
    usage: AHashMap<AddressBlock, Usage>,
    swept: Instant,
}

#[derive(Debug)]
struct Usage {
    under_way: usize,
    /// Failures that the rate has not made up for, at the time beside.
    failed: f64,
    at: Instant,
}

impl Usage {
    /// Takes off the failures that the rate has made up for since.
    fn decay(&mut self, rate: usize, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.failed = (self.failed - passed * rate as f64).max(0.0);
        self.at = now;
    }
}

impl Addresses {
    pub(crate) fn new(at_once: usize, failures: usize, now: Instant) -> Self {
        Addresses { at_once, failures, usage: AHashMap::new(), swept: now }
    }

    /// Counts a handshake from `address`; how it is to be refused if there are too many. Ends with
    /// [`end`](Self::end) in any case.
    pub(crate) fn begin(&mut self, address: AddressBlock, now: Instant) -> Result<(), Refusal> {
        self.sweep(now);
        let (at_once, failures) = (self.at_once, self.failures);
        let new = Usage { under_way: 0, failed: 0.0, at: now };
        let usage = self.usage.entry(address).or_insert(new);
        usage.decay(failures, now);
        usage.under_way += 1;
        if at_once > 0 && usage.under_way > at_once {
            return Err(Refusal::AddressBusy);
        }
        if failures > 0 && usage.failed >= (failures * BURST) as f64 {
            return Err(Refusal::AddressFailing);
        }
        Ok(())
    }

    /// A handshake that was counted is over; `failed` unless it became a connection, or this node is at fault.
    pub(crate) fn end(&mut self, address: AddressBlock, failed: bool, now: Instant) {
        let crowded = self.usage.len() > REMEMBERED;
        let Some(usage) = self.usage.get_mut(&address) else { return };
        usage.under_way -= 1;
        usage.decay(self.failures, now);
        if failed && self.failures > 0 && !crowded {
            usage.failed += 1.0;
        }
        if usage.under_way == 0 && (usage.failed == 0.0 || crowded) {
            self.usage.remove(&address);
        }
    }

    /// Forgets those who have nothing under way and whose failures are made up for.
    fn sweep(&mut self, now: Instant) {
        if now.saturating_duration_since(self.swept) < SWEEP {
            return;
        }
        self.swept = now;
        let rate = self.failures;
        self.usage.retain(|_, usage| {
            usage.decay(rate, now);
            usage.under_way > 0 || usage.failed > 0.0
        });
        // After a flood from everywhere the table is given back.
        if self.usage.capacity() > 4 * self.usage.len().max(1024) {
            self.usage.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn block(number: u32) -> AddressBlock {
        IpAddr::V4(Ipv4Addr::from(number)).into()
    }

    #[test]
    fn only_what_comes_to_nothing_is_limited_over_time() {
        let start = Instant::now();
        let mut addresses = Addresses::new(0, 5, start);
        let mut attempt = |address, failed, seconds| {
            let now = start + Duration::from_secs(seconds);
            let admitted = addresses.begin(block(address), now);
            addresses.end(block(address), failed && admitted.is_ok(), now);
            admitted.is_ok()
        };
        assert!((0..1000).all(|_| attempt(1, false, 0)), "those that succeed are free");
        assert_eq!((0..1000).filter(|_| attempt(1, true, 0)).count(), 50, "ten seconds' worth");
        assert!(!attempt(1, false, 0) && attempt(2, true, 0), "others are not concerned");
        assert_eq!((0..1000).filter(|_| attempt(1, true, 2)).count(), 10);
        assert!(attempt(1, true, 3));
    }

    #[test]
    fn those_under_way_are_limited() {
        let now = Instant::now();
        let mut addresses = Addresses::new(2, 5, now);
        let mut begin = || addresses.begin(block(1), now).is_ok();
        assert_eq!([begin(), begin(), begin()], [true, true, false]);
        addresses.end(block(1), false, now);
        addresses.end(block(1), false, now);
        assert_eq!(addresses.begin(block(1), now), Ok(()));
        let mut free = Addresses::new(0, 0, now);
        assert!((0..10_000).all(|_| free.begin(block(1), now).is_ok()));
    }

    #[test]
    fn memory_is_bounded_and_given_back() {
        let start = Instant::now();
        let mut addresses = Addresses::new(1, 5, start);
        for number in 0..100_000 {
            addresses.begin(block(number), start).unwrap();
            addresses.end(block(number), true, start);
        }
        assert!(addresses.usage.len() <= REMEMBERED + 1, "{}", addresses.usage.len());
        addresses.begin(block(0), start + Duration::from_secs(60)).unwrap();
        assert_eq!(addresses.usage.len(), 1);
        assert!(addresses.usage.capacity() < 10_000);
        addresses.end(block(0), false, start + Duration::from_secs(60));
        assert!(addresses.usage.is_empty());
    }
}
