//! The broker between business code and nodes: the contract and its two backends.

mod contract;

pub use contract::{
    Broker, EventSubscription, FeedEvent, PresenceChange, PresenceEvent, Session, Subscription,
    Watchlist,
};
