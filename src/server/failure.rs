//! What becomes of a node when one of its threads fails: it says so, instead of serving half.
//!
//! A thread that panics or cannot poll any more is a fault of this program or of the machine. The node
//! then stops taking clients, and whoever runs it is told to restart it.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

/// Whether a node has failed, for those who wait for it.
#[derive(Debug, Default)]
pub(crate) struct Failure {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    why: Option<String>,
    /// The node has stopped: nothing that is not known now can fail any more.
    ended: bool,
}

impl Failure {
    /// Blocks until the node has failed, and says why; `None` if it has stopped without.
    pub(crate) fn wait(&self) -> Option<String> {
        let state = self.lock();
        let over = |state: &mut State| state.why.is_none() && !state.ended;
        let state = self.changed.wait_while(state, over).unwrap_or_else(PoisonError::into_inner);
        state.why.clone()
    }

    /// Why the node has failed, if it has.
    pub(crate) fn get(&self) -> Option<String> {
        self.lock().why.clone()
    }

    /// The node has stopped.
    pub(crate) fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.lock().why.get_or_insert(why.clone());
        self.changed.notify_all();
        // After the others know: whatever has failed may be the log.
        log::error!("{why}");
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread};

    use super::*;

    #[test]
    fn panics_and_errors_are_failures_and_the_first_is_told() {
        let failure = Arc::new(Failure::default());
        assert!(failure.guard("a", || Ok(())));
        assert_eq!(failure.get(), None);
        let waiting = thread::spawn({
            let failure = Arc::clone(&failure);
            move || failure.wait()
        });
        assert!(!failure.guard("b", || Err(io::Error::other("x"))));
        assert!(!failure.guard("c", || panic!("on purpose")));
        let first = "b cannot go on: x; this node takes no more clients and must be restarted";
        assert_eq!(waiting.join().unwrap().as_deref(), Some(first));
        failure.end();
        assert_eq!(failure.wait().as_deref(), Some(first), "an end makes nothing well");
    }

    #[test]
    fn nobody_waits_for_a_node_that_has_stopped() {
        let failure = Arc::new(Failure::default());
        let waiting = thread::spawn({
            let failure = Arc::clone(&failure);
            move || failure.wait()
        });
        failure.end();
        assert_eq!(waiting.join().unwrap(), None);
        assert_eq!(failure.wait(), None);
    }
}
