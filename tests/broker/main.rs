//! One behaviour suite over both brokers, and what is special to Redis.
//!
//! `tickets`, `sessions`, `former`, `channels`, `lists` and `feed` hold behaviours that know only the contract; each is a test per backend. `memory_only` is about its queues; `redis_only` starts servers of its own where it breaks them.

/// Declares a behaviour of every broker, and a test of it for each.
macro_rules! behaviour {
    ($name:ident, |$world:ident| $body:block) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            fn behaves($world: &crate::world::World) $body

            #[test]
            fn memory() {
                behaves(&crate::world::World::memory());
            }

            #[cfg(feature = "redis")]
            #[test]
            fn redis() {
                behaves(&crate::world::World::redis());
            }
        }
    };
}

/// As `behaviour!`, also with a log on Redis.
macro_rules! logged_behaviour {
    ($name:ident, |$world:ident| $body:block) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            fn behaves($world: &crate::world::World) $body

            #[test]
            fn memory() {
                behaves(&crate::world::World::memory());
            }

            #[cfg(feature = "redis")]
            #[test]
            fn redis() {
                behaves(&crate::world::World::redis());
            }

            #[cfg(feature = "redis")]
            #[test]
            fn redis_with_log() {
                behaves(&crate::world::World::redis_with_log());
            }
        }
    };
}

/// Declares a behaviour of every broker that keeps a log.
macro_rules! log_behaviour {
    ($name:ident, |$world:ident| $body:block) => {
        mod $name {
            use super::*;

            fn behaves($world: &crate::world::World) $body

            #[test]
            fn memory() {
                behaves(&crate::world::World::memory());
            }

            #[cfg(feature = "redis")]
            #[test]
            fn redis() {
                behaves(&crate::world::World::redis_with_log());
            }
        }
    };
}

mod channels;
mod feed;
mod former;
mod helper;
mod lists;
mod log;
mod memory_only;
#[cfg(feature = "redis")]
mod recorded;
#[cfg(feature = "redis")]
mod redis_only;
mod sessions;
mod tickets;
#[cfg(feature = "redis")]
mod truth;
mod world;
