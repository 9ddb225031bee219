//! Who carries out a request: called by the program's HTTP API, for its idempotency keys.

use std::time::Duration;

use crate::error::Result;

/// Claims of requests, of which all callers on all nodes see the same.
///
/// ```
/// use std::time::Duration;
/// use imcore::broker::{MemoryBroker, Requests};
///
/// let (broker, life) = (MemoryBroker::new(), Duration::from_secs(60));
/// assert_eq!(broker.claim("order 7", "claim a", life)?, None); // the first carries it out
/// assert_eq!(broker.claim("order 7", "claim b", life)?.as_deref(), Some("claim a"));
/// assert!(broker.complete("order 7", "claim a", "shipped", life)?);
/// assert_eq!(broker.claim("order 7", "claim c", life)?.as_deref(), Some("shipped"));
/// # Ok::<(), imcore::Error>(())
/// ```
pub trait Requests: Send + Sync {
    /// Stores `claim` under `key` for `life`, unless something is there already, which is returned then.
    ///
    /// Of all callers on all nodes, one is the first. Claims should be unique, so that whoever repeats
    /// an own one after an error knows it when it is returned. Keys are any text.
    fn claim(&self, key: &str, claim: &str, life: Duration) -> Result<Option<String>>;

    /// Puts `outcome` in the place of the own `claim`, for `life`; with a life of zero nothing stays
    /// there, and the key is free.
    ///
    /// Returns false, and changes nothing, if that claim is not there any more.
    fn complete(&self, key: &str, claim: &str, outcome: &str, life: Duration) -> Result<bool>;
}
