//! Every message that crosses a thread. Read it and you know the server.
//!
//! ```text
//! acceptor --TicketJob--> ticket worker --AcceptorCommand--> acceptor --Command::Adopt--> reactor
//! feed --Command--> reactors --Report--> presence, --Notice--> publisher
//! ```

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use super::{
    frame::Frame, inbox::InboxSender, receipt::Inquiry, refusal::Refusal, transport::Transport,
};
use crate::{broker::PresenceChange, id::ClientId, wire::Ticket};

/// To a reactor.
#[derive(Debug)]
pub(super) enum Command<S = Transport> {
    /// From the acceptor: a socket whose ticket was good.
    Adopt(Box<Adoption<S>>),
    /// From the feed: a message for those of the receivers that are here.
    Direct {
        sender: ClientId,
        receivers: Vec<ClientId>,
        frame: Frame,
        /// Set if receipts are wanted.
        receipt: Option<Arc<Inquiry>>,
    },
    /// From the feed: a message for a channel's members here, or for everybody.
    Channel { sender: ClientId, channel: Option<Arc<str>>, frame: Frame },
    /// From the feed: all channels of a client from here on.
    Channels { client: ClientId, channels: Vec<String> },
    /// From the feed: the broker lost data; the channels of all clients are as they were up to here.
    Rejoin,
    /// From the feed: close all connections of a client.
    ForceOffline(ClientId),
    /// From the handle: close everything, then end.
    Drain,
}

/// A socket on its way from the acceptor to a reactor.
#[derive(Debug)]
pub(super) struct Adoption<S = Transport> {
    pub(super) stream: S,
    pub(super) ticket: Ticket,
    /// Number of the connection within the node.
    pub(super) number: u64,
    /// The 101 response, not yet sent.
    pub(super) response: Frame,
    /// Frames that came right behind the request.
    pub(super) leftover: Vec<u8>,
}

/// To the ticket worker: a token to be taken.
#[derive(Debug)]
pub(super) struct TicketJob {
    pub(super) handshake: HandshakeId,
    pub(super) token: String,
}

/// Names a handshake: its place in the acceptor's slab, and a number that is never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HandshakeId {
    pub(super) key: usize,
    pub(super) serial: u64,
}

/// A ticket that is good, and since when it is out of the broker's hands.
#[derive(Debug)]
pub(super) struct Admission {
    pub(super) ticket: Ticket,
    pub(super) taken: Instant,
}

/// To the acceptor.
#[derive(Debug)]
pub(super) enum AcceptorCommand {
    /// From the ticket worker.
    Verdict { handshake: HandshakeId, outcome: Result<Admission, Refusal> },
    /// From the handle: accept no more, refuse what is under way, then end.
    Stop,
}

/// To presence.
#[derive(Debug)]
pub(super) enum Report {
    /// A connection opened or ended.
    Change(PresenceChange),
    /// Clients and channels that they are in, which the broker has forgotten.
    Members(Vec<(ClientId, String)>),
}

/// The doors of all reactors, and which of them a client belongs to.
#[derive(Debug, Clone)]
pub(super) struct Reactors(Arc<[InboxSender<Command>]>);

impl Reactors {
    pub(super) fn new(doors: Vec<InboxSender<Command>>) -> Self {
        Reactors(doors.into())
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn all(&self) -> &[InboxSender<Command>] {
        &self.0
    }

    /// Place of the reactor that holds all connections of `client`.
    ///
    /// Independent of the node rule, by which all clients of a node share a remainder.
    pub(super) fn index_of(&self, client: ClientId) -> usize {
        let bits = match client {
            ClientId::Int(id) => id as u64,
            ClientId::Guid(guid) => {
                let [a, b, c, d, e, f, g, h, rest @ ..] = guid;
                u64::from_le_bytes([a, b, c, d, e, f, g, h]) ^ u64::from_le_bytes(rest)
            }
        };
        // Fibonacci hashing: the high bits of the product depend on all bits of the id.
        let mixed = bits.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        ((mixed * self.0.len() as u64) >> 32) as usize
    }
}

/// What the node is fit for, set by feed, presence and handle, read by the acceptor.
#[derive(Debug, Default)]
pub(super) struct Readiness {
    pub(super) listening: AtomicBool,
    pub(super) session: AtomicBool,
    /// A thread is gone for good.
    pub(super) failed: AtomicBool,
    /// A thread does not turn.
    pub(super) stalled: AtomicBool,
    /// Told to stop; presence goes on reporting until the last client is gone.
    pub(super) stopping: AtomicBool,
}

impl Readiness {
    /// Whether a client that connects now can be reached and is shown online.
    pub(super) fn is_ready(&self) -> bool {
        self.reason().is_none()
    }

    /// Why not; the gravest reason first.
    pub(super) fn reason(&self) -> Option<NotReady> {
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
