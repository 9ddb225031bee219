//! One behaviour suite over both brokers, and what is special to Redis.
//!
//! `tickets`, `sessions`, `former`, `moves`, `channels`, `lists`, `feed`, `texts` and `webhooks` hold behaviours that know only the contract; each is a test per backend. `memory_only` is about its queues; `redis_only` starts servers of its own where it breaks them.

/// Tests of one behaviour, one for each world in the list.
macro_rules! on_each {
    ($name:ident, $world:ident, $body:block, $($(#[$when:meta])? $test:ident: $make:ident),*) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            fn behaves($world: &crate::world::World) $body

            $(
                $(#[$when])?
                #[test]
                fn $test() {
                    behaves(&crate::world::World::$make());
                }
            )*
        }
    };
}

/// Declares a behaviour of every broker, and a test of it for each.
macro_rules! behaviour {
    ($name:ident, |$world:ident| $body:block) => {
        on_each!($name, $world, $body, memory: memory, #[cfg(feature = "redis")] redis: redis);
    };
}

/// As `behaviour!`, also on two Redis and in a cluster.
macro_rules! shared_behaviour {
    ($name:ident, |$world:ident| $body:block) => {
        on_each!(
            $name, $world, $body,
            memory: memory,
            #[cfg(feature = "redis")] redis: redis,
            #[cfg(feature = "redis")] redis_of_two: redis_of_two,
            #[cfg(feature = "redis")] redis_in_cluster: redis_in_cluster
        );
    };
}

/// As `shared_behaviour!`, also on a Redis on which no script may publish.
macro_rules! told_shared_behaviour {
    ($name:ident, |$world:ident| $body:block) => {
        on_each!(
            $name, $world, $body,
            memory: memory,
            #[cfg(feature = "redis")] redis: redis,
            #[cfg(feature = "redis")] redis_aside: redis_aside,
            #[cfg(feature = "redis")] redis_of_two: redis_of_two,
            #[cfg(feature = "redis")] redis_in_cluster: redis_in_cluster
        );
    };
}

/// As `behaviour!`, also on a Redis on which no script may publish.
macro_rules! told_behaviour {
    ($name:ident, |$world:ident| $body:block) => {
        on_each!(
            $name, $world, $body,
            memory: memory,
            #[cfg(feature = "redis")] redis: redis,
            #[cfg(feature = "redis")] redis_aside: redis_aside
        );
    };
}

/// As `shared_behaviour!`, also with a log on Redis, and in the other ways in which joins become known there.
macro_rules! logged_behaviour {
    ($name:ident, |$world:ident| $body:block) => {
        on_each!(
            $name, $world, $body,
            memory: memory,
            #[cfg(feature = "redis")] redis: redis,
            #[cfg(feature = "redis")] redis_with_log: redis_with_log,
            #[cfg(feature = "redis")] redis_by_keyspace: redis_by_keyspace,
            #[cfg(feature = "redis")] redis_by_notice: redis_by_notice,
            #[cfg(feature = "redis")] redis_of_two: redis_of_two,
            #[cfg(feature = "redis")] redis_in_cluster: redis_in_cluster
        );
    };
}

/// Declares a behaviour of every broker that keeps a log.
macro_rules! log_behaviour {
    ($name:ident, |$world:ident| $body:block) => {
        on_each!(
            $name, $world, $body,
            memory: memory,
            #[cfg(feature = "redis")] redis: redis_with_log
        );
    };
}

/// As `log_behaviour!`, also on two Redis and in a cluster.
macro_rules! shared_log_behaviour {
    ($name:ident, |$world:ident| $body:block) => {
        on_each!(
            $name, $world, $body,
            memory: memory,
            #[cfg(feature = "redis")] redis: redis_with_log,
            #[cfg(feature = "redis")] redis_of_two: redis_of_two_with_log,
            #[cfg(feature = "redis")] redis_in_cluster: redis_in_cluster_with_log
        );
    };
}

/// Declares a behaviour of every broker that keeps events.
macro_rules! event_behaviour {
    ($name:ident, |$world:ident| $body:block) => {
        on_each!(
            $name, $world, $body,
            memory: memory,
            #[cfg(feature = "redis")] redis: redis_with_events
        );
    };
}

/// As `event_behaviour!`, also on a Redis on which no script may publish.
macro_rules! told_event_behaviour {
    ($name:ident, |$world:ident| $body:block) => {
        on_each!(
            $name, $world, $body,
            memory: memory,
            #[cfg(feature = "redis")] redis: redis_with_events,
            #[cfg(feature = "redis")] redis_aside: redis_aside_with_events
        );
    };
}

mod channels;
mod events;
mod feed;
mod former;
mod helper;
mod lists;
mod log;
mod memory_only;
mod moves;
mod occupied;
#[cfg(feature = "redis")]
mod recorded;
#[cfg(feature = "redis")]
mod redis_only;
mod rosters;
mod sessions;
mod slots;
mod texts;
mod tickets;
#[cfg(feature = "redis")]
mod truth;
mod webhooks;
mod world;
