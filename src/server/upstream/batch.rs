//! How a thread that calls the broker takes its work: whatever queued up during its last round trip, as one batch.

use std::{
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::Duration,
};

use crate::server::heartbeat;

/// Items of one batch: bounds the length of one round trip.
pub(crate) const BATCH: usize = 512;

/// What waiting for work came to.
pub(crate) enum Work {
    /// There is some.
    Batch,
    /// None within the time.
    Idle,
    /// There will never be any again.
    Ended,
}

/// Fills `batch` up to [`BATCH`] items, waiting up to `timeout` for the first.
pub(crate) fn collect<T>(queue: &Receiver<T>, batch: &mut Vec<T>, timeout: Duration) -> Work {
    if batch.is_empty() {
        match heartbeat::wait(|| queue.recv_timeout(timeout)) {
            Ok(item) => batch.push(item),
            Err(RecvTimeoutError::Timeout) => return Work::Idle,
            Err(RecvTimeoutError::Disconnected) => return Work::Ended,
        }
    }
    batch.extend(queue.try_iter().take(BATCH.saturating_sub(batch.len())));
    Work::Batch
}

/// Wait for work where there is nothing else to do.
pub(crate) const LONG: Duration = Duration::from_secs(3600);
