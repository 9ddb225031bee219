//! Every message that crosses a thread. Read it and you know the server.
//!
//! ```text
//! acceptor --TicketJob--> ticket thread --AcceptorCommand--> acceptor --Command::Adopt--> reactor
//! feed --Command--> reactors --Report--> presence, --Notice--> receipts
//! feed, reactors --SlotNews--> slots --Command::Own--> reactors
//! rosters --Command::Roster--> reactors
//! ```

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    connection::{
        frame::Frame, place::Hole, prepared::Prepared, receipt::Inquiry, roster::Rostered,
    },
    ownership::Ownership,
    parcel::{Arrival, Freight},
    reasons::Refusal,
    transport::Transport,
};
use crate::{
    broker::PresenceChange,
    id::ClientId,
    wire::{Envelope, Position, Ticket},
};

/// To a reactor.
#[derive(Debug)]
pub(crate) enum Command<S = Transport> {
    /// From the acceptor: a socket whose ticket was good.
    Adopt(Box<Adoption<S>>),
    /// From the feed: a message for those of the receivers that are here.
    Direct {
        sender: ClientId,
        receivers: Vec<ClientId>,
        message: Prepared,
        /// Set if receipts are wanted.
        receipt: Option<Arc<Inquiry>>,
        /// As it came, where it may have to be handed on to another node.
        origin: Option<Arc<Original>>,
    },
    /// From the feed: a message for a channel's members here, or for everybody.
    Channel { sender: ClientId, channel: Option<Arc<str>>, message: Prepared },
    /// From the feed: all channels of a client from here on.
    Channels { client: ClientId, channels: Vec<String> },
    /// From the feed: those of this reactor's clients that are in a channel from here on.
    Members { channel: Arc<str>, clients: Vec<ClientId> },
    /// From the thread of rosters.
    Roster(RosterNews),
    /// From the feed: the order of messages goes on from `position` in `epoch`. With a `hole` something may be missing
    /// before that.
    Positions { epoch: Arc<str>, position: Position, hole: Option<Hole> },
    /// From presence: a client of a former process of this node, which may come back.
    /// What is for it up to `from` is not in the log of this node.
    Park { client: ClientId, connection: u64, keep: Duration, from: u64 },
    /// From the feed: the broker lost data; the channels of all clients are as they were up to here.
    Rejoin,
    /// From presence: the broker knows all these channels again.
    Rejoined,
    /// From the feed: close all connections of a client.
    ForceOffline(ClientId),
    /// From the thread of slots: who owns whom from here on.
    Own(Arc<Ownership>),
    /// From the feed: a slot has another owner, in order with the messages: what comes behind it is for clients of the slot at
    /// the new owner alone. `from`: the former one, if that is dead.
    Given { slot: usize, to: Arc<str>, version: u64, position: Position, from: Option<Arc<str>> },
    /// From presence: what clients of a slot go on from is with the new owner.
    HandedOver { slot: usize },
    /// From presence: what clients of a slot go on from.
    Arrive(Box<Arrival>),
    /// From presence: that was all of the slot.
    Arrived { slot: usize, version: u64 },
    /// From the handle: close everything, then end.
    Drain,
}

/// What has become of the rosters of channels.
#[derive(Debug, Clone)]
pub(crate) enum RosterNews {
    /// That of a channel is another.
    Changed(Arc<Rostered>),
    /// A channel has none any more.
    Ended(Arc<str>),
    /// That was all for now.
    Told,
}

/// A socket on its way from the acceptor to a reactor.
#[derive(Debug)]
pub(crate) struct Adoption<S = Transport> {
    pub(crate) stream: S,
    pub(crate) ticket: Ticket,
    /// Number of the connection within the node.
    pub(crate) connection: u64,
    /// The 101 response, not yet sent.
    pub(crate) response: Frame,
    /// Of a client that speaks `imcore.1`.
    pub(crate) claim: Option<Box<Claim>>,
    /// Frames that came right behind the request.
    pub(crate) leftover: Vec<u8>,
}

/// What a client that speaks `imcore.1` says of its former connection, unchecked; nothing at its first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Claim {
    /// The position up to which it has handled what came.
    pub(crate) since: Option<String>,
    /// Which connection that was.
    pub(crate) c: Option<String>,
}

/// To the ticket thread: a token to be taken.
#[derive(Debug)]
pub(crate) struct TicketJob {
    pub(crate) handshake: HandshakeId,
    pub(crate) token: String,
}

/// Names a handshake: its place in the acceptor's slab, and the number of the connection, never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HandshakeId {
    pub(crate) key: usize,
    pub(crate) connection: u64,
}

/// A ticket that is good, and since when it is out of the broker's hands.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) ticket: Ticket,
    pub(crate) taken: Instant,
}

/// To the acceptor.
#[derive(Debug)]
pub(crate) enum AcceptorCommand {
    /// From the ticket thread.
    Verdict { handshake: HandshakeId, outcome: Result<Admission, Refusal> },
    /// From the handle: accept no more, refuse what is under way, then end.
    Stop,
}

/// To the thread of slots.
#[derive(Debug)]
pub(crate) enum SlotNews {
    /// From the feed: the table has changed.
    Changed,
    /// From reactors and the feed.
    Onward(Onward),
}

/// A message as it came.
#[derive(Debug)]
pub(crate) struct Original {
    pub(crate) message: Envelope,
    /// Whether it is in the log: a node that takes its receiver's slot from a dead one has read it there.
    pub(crate) is_logged: bool,
}

/// A message to be handed on to another node.
#[derive(Debug)]
pub(crate) struct Onward {
    pub(crate) node: String,
    /// As it came, for all of its receivers.
    pub(crate) message: Arc<Original>,
    pub(crate) receiver: ClientId,
    /// Whether the other node tells what becomes of it.
    pub(crate) receipt: bool,
}

/// To presence.
#[derive(Debug)]
pub(crate) enum Report {
    /// A connection opened or ended.
    Change(PresenceChange),
    /// Clients and channels that they are in, which the broker has forgotten.
    Members(Vec<(ClientId, String)>),
    /// What clients of a slot go on from is to be handed over to its new owner.
    HandOver(Box<Freight>),
    /// A slot is given to this node, where the order of messages has number `at`: what its clients go on from is to be taken,
    /// from the former owner, or what the log and the broker know of `from` if that is dead.
    Expect { slot: usize, version: u64, at: u64, from: Option<Arc<str>> },
}
