//! The broker between business code and nodes: the contract its two backends, and several of one together.

mod contract;
mod memory;
mod ordered;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "redis")]
mod reports;
#[cfg(feature = "redis")]
mod shares;

#[cfg(all(feature = "redis", any(test, feature = "fuzzing")))]
pub(crate) use self::redis::fuzzing;
#[cfg(feature = "redis")]
pub use self::{
    redis::{ChangesBy, RedisBroker, RedisOptions},
    shares::open,
};
pub use crate::{
    slots::{SlotChange, SlotOrder},
    wire::Envelope,
};
#[doc(hidden)]
pub use contract::sealed;
pub use contract::{
    Abandoned, BROUGHT_BACK, Broker, Bus, DEAD_LETTERS, DeadLetter, Directory, Echo, EventBatch,
    EventConsumer, EventGroup, EventReader, EventStart, EventSubscription, Events, FeedEvent,
    FeedStart, Former, FormerConnection, GRACE, HandOver, JoinLimits, Moves, NodeBroker, Page,
    Past, PresenceChange, PresenceEvent, ROSTER_NAMES, Requests, Roster, RosterMark, RosterNews,
    Rosters, Session, Slots, Subscription, TakenTicket, Telling, Undelivered, Watchlist,
    WebhookState, WebhookTurn, Webhooks,
};
pub use memory::MemoryBroker;
