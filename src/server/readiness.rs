//! Whether clients may connect to this node, and why not.
//!
//! Written by feed, presence, the watch thread and the handle; read by the acceptor and by whoever watches the node.

use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering},
};

/// What the node is fit for, set by feed, presence and handle, read by the acceptor.
#[derive(Debug, Default)]
pub(crate) struct Readiness {
    pub(crate) listening: AtomicBool,
    pub(crate) session: AtomicBool,
    /// A thread is gone for good.
    pub(crate) failed: AtomicBool,
    /// A thread does not turn.
    pub(crate) stalled: AtomicBool,
    /// Told to stop; presence goes on reporting until the last client is gone.
    pub(crate) stopping: AtomicBool,
}

impl Readiness {
    /// Whether a client that connects now can be reached and is shown online.
    pub(crate) fn is_ready(&self) -> bool {
        self.reason().is_none()
    }

    /// Why not; the gravest reason first.
    pub(crate) fn reason(&self) -> Option<NotReady> {
        let is = |flag: &AtomicBool| flag.load(Ordering::Acquire);
        [
            (is(&self.failed), NotReady::Failed),
            (is(&self.stalled), NotReady::Stalled),
            (is(&self.stopping), NotReady::Stopping),
            (!is(&self.listening), NotReady::NotListening),
            (!is(&self.session), NotReady::NoLease),
        ]
        .into_iter()
        .find_map(|(holds, why)| holds.then_some(why))
    }
}

/// Why clients cannot connect to a node now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NotReady {
    /// A thread of the node has failed: it must be restarted.
    Failed,
    /// A thread of the node is stuck: it must be restarted, unless the thread turns again.
    Stalled,
    /// The node was told to stop.
    Stopping,
    /// The subscription is not proven: the node would not hear what is sent to its clients.
    NotListening,
    /// The presence lease is not held: clients would not be shown online.
    NoLease,
}

impl NotReady {
    /// One word for metrics and programs.
    pub fn as_str(self) -> &'static str {
        match self {
            NotReady::Failed => "failed",
            NotReady::Stalled => "stalled",
            NotReady::Stopping => "stopping",
            NotReady::NotListening => "subscription",
            NotReady::NoLease => "lease",
        }
    }
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NotReady::Failed => "failed: a thread of this node has ended; restart it",
            NotReady::Stalled => "stalled: a thread of this node does not turn; restart it",
            NotReady::Stopping => "stopping",
            NotReady::NotListening => "subscription: this node does not hear the broker",
            NotReady::NoLease => "lease: this node does not hold its presence lease",
        })
    }
}
