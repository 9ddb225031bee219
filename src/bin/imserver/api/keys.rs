//! How many idempotency keys this node keeps in the broker, and for how long: users cause them, and each costs
//! the broker some hundred bytes. Pure, but for the time.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::problem::{Code, Problem};
use crate::web::Request;

/// The longest life that a request can ask for.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// What the operator allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyLimits {
    /// How long an answer is kept, where the request does not say.
    pub(crate) life: Duration,
    /// Most keys that this node keeps at a time.
    pub(crate) keys: u64,
}

/// The keys of one node, by the second in which they end.
pub(super) struct Keys {
    limits: KeyLimits,
    start: Instant,
    ends: Mutex<BTreeMap<u64, u64>>,
}

impl Keys {
    pub(super) fn new(limits: KeyLimits) -> Keys {
        Keys { limits, start: Instant::now(), ends: Mutex::default() }
    }

    /// How long the answer to this request is to be kept, which has a key if `has_key`.
    pub(super) fn life(&self, request: &Request, has_key: bool) -> Result<Duration, Problem> {
        let mut lives = request.headers_of("Idempotency-Life");
        let Some(text) = lives.next() else { return Ok(self.limits.life) };
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let seconds = digits.then(|| text.parse().ok()).flatten().map(Duration::from_secs);
        let good = |life: &Duration| !life.is_zero() && *life <= LONGEST && lives.next().is_none();
        match seconds.filter(good) {
            Some(life) if has_key => Ok(life),
            Some(_) => {
                Err(Problem::invalid("Idempotency-Life: there is no Idempotency-Key beside it"))
            }
            None => Err(Problem::invalid(format!(
                "Idempotency-Life: expected one number of seconds from 1 to {}",
                LONGEST.as_secs()
            ))),
        }
    }

    /// Whether there is room for another key.
    pub(super) fn check_room(&self) -> Result<(), Problem> {
        match self.count() < self.limits.keys {
            true => Ok(()),
            false => Err(Problem::new(
                Code::Unavailable,
                format!(
                    "this node keeps {} idempotency keys already; nothing was done: send without one, or \
                     give keys a shorter Idempotency-Life",
                    self.limits.keys
                ),
            )),
        }
    }

    /// One more is kept for `life`.
    pub(super) fn add(&self, life: Duration) {
        let end = (self.start.elapsed() + life).as_secs() + 1;
        *self.lock().entry(end).or_default() += 1;
    }

    /// How many are kept now.
    pub(super) fn count(&self) -> u64 {
        let now = self.start.elapsed().as_secs();
        let mut ends = self.lock();
        *ends = ends.split_off(&(now + 1));
        ends.values().sum()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, u64>> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(most: u64) -> Keys {
        Keys::new(KeyLimits { life: Duration::from_secs(600), keys: most })
    }

    fn with(lives: &[&str]) -> Request {
        let header = |life: &&str| ("idempotency-life".to_owned(), (*life).to_owned());
        Request { headers: lives.iter().map(header).collect(), ..Request::default() }
    }

    #[test]
    fn there_is_room_for_so_many() {
        let keys = keys(2);
        keys.add(Duration::from_secs(1000));
        assert!(keys.check_room().is_ok());
        keys.add(Duration::from_secs(1));
        assert_eq!((keys.count(), keys.check_room().unwrap_err().code), (2, Code::Unavailable));
        // As if the second were over.
        keys.lock().clear();
        assert!(keys.check_room().is_ok());
    }

    #[test]
    fn a_request_may_say_how_long() {
        let keys = keys(1);
        let life = |lives: &[&str]| keys.life(&with(lives), true).map(|life| life.as_secs());
        assert_eq!((life(&[]).ok(), life(&["5"]).ok()), (Some(600), Some(5)));
        assert_eq!(life(&["86400"]).ok(), Some(86400));
        for lives in
            [&["0"][..], &["86401"], &["-1"], &["1.5"], &["+5"], &["x"], &[""], &["5", "5"]]
        {
            assert!(life(lives).is_err(), "{lives:?}");
        }
        assert!(keys.life(&with(&["5"]), false).is_err());
    }
}
