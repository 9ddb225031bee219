//! Whether clients may connect to this node, and why not.
//!
//! Written by feed, presence, the watch thread, the handle, and whoever starts a thread that fails, each through the
//! one method that is its own; read by the acceptor and by whoever watches the node.

use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering},
};

/// What the node is fit for.
#[derive(Debug, Default)]
pub(crate) struct Readiness {
    listening: AtomicBool,
    lease: AtomicBool,
    failed: AtomicBool,
    stalled: AtomicBool,
    stopping: AtomicBool,
}

impl Readiness {
    /// The feed: whether it hears the broker.
    pub(crate) fn set_listening(&self, listening: bool) {
        self.listening.store(listening, Ordering::Release);
    }

    /// Presence: whether the lease is held and everything is reported.
    pub(crate) fn set_lease(&self, held: bool) {
        self.lease.store(held, Ordering::Release);
    }

    /// The watch thread: whether a thread does not turn.
    pub(crate) fn set_stalled(&self, stalled: bool) {
        self.stalled.store(stalled, Ordering::Release);
    }

    /// A thread is gone for good.
    pub(crate) fn fail(&self) {
        self.failed.store(true, Ordering::Release);
    }

    /// The node is told to stop; presence goes on reporting until the last client is gone.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Whether the feed hears the broker.
    pub(crate) fn is_listening(&self) -> bool {
        self.listening.load(Ordering::Acquire)
    }

    /// Whether the presence lease is held.
    pub(crate) fn is_lease_held(&self) -> bool {
        self.lease.load(Ordering::Acquire)
    }

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
            (!self.is_listening(), NotReady::NoFeed),
            (!self.is_lease_held(), NotReady::NoLease),
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
    /// The feed is not proven: the node would not hear what is sent to its clients.
    NoFeed,
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
            NotReady::NoFeed => "subscription",
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
            NotReady::NoFeed => "subscription: this node does not hear the broker",
            NotReady::NoLease => "lease: this node does not hold its presence lease",
        })
    }
}
