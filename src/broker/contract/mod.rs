//! What the helper and the server need from a broker, in the words of the domain: a trait for each who calls it.
//!
//! Implemented by `memory` (one process), `redis` and `shares`; called by the helper on any thread and by those of the
//! server's threads that wait, never by a reactor: every call may block up to the broker's deadline. Nothing here
//! knows Redis.

mod bus;
mod directory;
mod events;
mod feed;
mod moves;
mod node;
mod requests;
mod rosters;
mod slots;
mod webhooks;

pub use self::{
    bus::Bus,
    directory::{Directory, JoinLimits, Page},
    events::{
        EventBatch, EventConsumer, EventGroup, EventReader, EventStart, EventSubscription, Events,
        PresenceEvent,
    },
    feed::{Echo, FeedEvent, FeedStart, Subscription, Watchlist},
    moves::{Abandoned, HandOver, Moves, Past},
    node::{
        BROUGHT_BACK, Former, FormerConnection, GRACE, NodeBroker, PresenceChange, Session,
        TakenTicket, Telling, Undelivered,
    },
    requests::Requests,
    rosters::{ROSTER_NAMES, Roster, RosterMark, RosterNews, Rosters},
    slots::Slots,
    webhooks::{DEAD_LETTERS, DeadLetter, WebhookState, WebhookTurn, Webhooks},
};
use crate::id::IdKind;

/// Carries messages to nodes and keeps tickets, presence and channels: the sum of what its callers need.
///
/// All methods may be called from many threads at once, and all may block for as long as the broker's deadlines
/// allow. Errors that are [retryable](crate::Error::is_retryable) pass; the same call may be repeated, and
/// [`report`](NodeBroker::report) without double effect.
///
/// Sealed: [`MemoryBroker`](super::MemoryBroker), [`RedisBroker`](super::RedisBroker) and several of that together are all there
/// are. Every
/// further thing that nodes and helpers need of a broker is one more method here, and must not break a program.
pub trait Broker:
    NodeBroker
    + Directory
    + Bus
    + Requests
    + Events
    + Rosters
    + Slots
    + Moves
    + Webhooks
    + sealed::Sealed
{
    /// Where the state lives, for a person: `in-process` or the Redis address without secrets.
    fn describe(&self) -> String;

    /// Asks whether a node can work on it, over connections of its own and leaving nothing that lasts; what was found, in a few words.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config) with what is missing and the way out; what passes by itself is retryable.
    fn examine(&self) -> crate::Result<String> {
        Ok(String::from("in this process"))
    }

    /// Which ids clients may have here, as far as the broker knows: [`IdKind::Any`] where no .NET process
    /// can take part.
    fn id_kind(&self) -> IdKind {
        IdKind::Any
    }
}

/// Not part of the API: whoever implements it all the same, as the echo server of the conformance suites does, is
/// broken by any version.
pub mod sealed {
    /// Marks the brokers of this crate.
    pub trait Sealed {}
}
