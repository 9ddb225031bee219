//! The broker between business code and nodes: the contract and its two backends.

mod contract;
mod memory;
mod ordered;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "redis")]
mod reports;

#[cfg(feature = "redis")]
pub use self::redis::{RedisBroker, RedisOptions};
pub use crate::wire::Envelope;
pub use contract::{
    Broker, Echo, EventSubscription, FeedEvent, GRACE, JoinLimits, Page, PresenceChange,
    PresenceEvent, Session, Subscription, TakenTicket, Watchlist,
};
pub use memory::MemoryBroker;
