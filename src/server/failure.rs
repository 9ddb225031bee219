//! What becomes of a node when one of its threads fails: it says so, instead of serving half.
//!
//! A thread that panics or cannot poll any more is a fault of this program or of the machine. The node
//! then stops taking clients, and whoever runs it is told to restart it.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, PoisonError},
};

/// Tells when a node has failed; see [`ServerHandle::failure_watch`](super::ServerHandle::failure_watch).
#[derive(Debug, Clone, Default)]
pub struct FailureWatch(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    failure: Mutex<Option<String>>,
    changed: Condvar,
}

impl FailureWatch {
    /// Blocks until the node has failed, and says why. For ever, if it never does.
    pub fn wait(&self) -> String {
        let mut failure = self.0.failure.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(why) = &*failure {
                return why.clone();
            }
            failure = self.0.changed.wait(failure).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Why the node has failed, if it has.
    pub fn get(&self) -> Option<String> {
        self.0.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Runs a thread that the node cannot do without; `true` unless it failed.
    pub(crate) fn guard(&self, name: &str, run: impl FnOnce() -> io::Result<()>) -> bool {
        let why = match catch_unwind(AssertUnwindSafe(run)) {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => format!("{name} cannot go on: {error}"),
            // The panic hook has printed what and where.
            Err(_) => format!("{name} panicked"),
        };
        self.fail(format!("{why}; this node takes no more clients and must be restarted"));
        false
    }

    /// Records a failure, if it is the first, and logs it.
    pub(crate) fn fail(&self, why: String) {
        self.0.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why.clone());
        self.0.changed.notify_all();
        // After the others know: whatever has failed may be the log.
        log::error!("{why}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_and_errors_are_failures_and_the_first_is_told() {
        let watch = FailureWatch::default();
        assert!(watch.guard("a", || Ok(())));
        assert_eq!(watch.get(), None);
        let failed = watch.clone();
        let waiting = std::thread::spawn(move || failed.wait());
        assert!(!watch.guard("b", || Err(io::Error::other("x"))));
        assert!(!watch.guard("c", || panic!("on purpose")));
        assert_eq!(
            waiting.join().unwrap(),
            "b cannot go on: x; this node takes no more clients and must be restarted"
        );
    }
}
