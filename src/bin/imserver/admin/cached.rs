//! An answer that costs the broker something, made once for all who ask within a few seconds.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use imcore::{Error, ErrorKind};

/// The broker is busy with one kind of answer for at most this fraction of the time.
const SHARE: u32 = 10;

/// A JSON text, or why there is none.
pub(super) type Outcome = Result<String, Failure>;

/// Why something cannot be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) status: u16,
    pub(super) why: String,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let status = match error.kind() {
            ErrorKind::Argument | ErrorKind::Encode => 400,
            _ => 503,
        };
        Failure { status, why: error.to_string() }
    }
}

/// The last answer of one kind.
pub(super) struct Cached {
    /// How long an answer is good at least.
    life: Duration,
    last: Mutex<Option<Last>>,
}

struct Last {
    outcome: Outcome,
    until: Instant,
}

impl Cached {
    pub(super) fn new(life: Duration) -> Cached {
        Cached { life, last: Mutex::new(None) }
    }

    /// The answer, made anew if the last one is too old; all who ask meanwhile wait for that one.
    pub(super) fn get(&self, make: impl FnOnce() -> Outcome) -> Outcome {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Last { outcome, until }) = &*last
            && Instant::now() < *until
        {
            return outcome.clone();
        }
        let began = Instant::now();
        let outcome = make();
        // A failure may have taken until a time-out, and the next attempt may find all well.
        let life = match outcome {
            Ok(_) => self.life.max(began.elapsed() * SHARE),
            Err(_) => self.life,
        };
        *last = Some(Last { outcome: outcome.clone(), until: Instant::now() + life });
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_made_once_for_all_who_ask_in_time() {
        let shared = Cached::new(Duration::from_secs(600));
        let away = || Err(Failure { status: 503, why: "away".into() });
        assert_eq!(shared.get(|| Ok("one".into())), Ok("one".into()));
        assert_eq!(shared.get(away), Ok("one".into()));
        let forgetful = Cached::new(Duration::ZERO);
        assert_eq!(forgetful.get(away), away());
        assert_eq!(forgetful.get(|| Ok("two".into())), Ok("two".into()));
    }
}
