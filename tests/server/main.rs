//! Nodes, helper and clients together, over real sockets and both brokers.

/// Tests of one behaviour, one for each backend in the list.
macro_rules! on_each {
    ($name:ident, $backend:ident, $body:block, $($(#[$when:meta])? $test:ident: $kind:ident),*) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            fn behaves($backend: crate::world::Backend) $body

            $(
                $(#[$when])?
                #[test]
                fn $test() {
                    behaves(crate::world::Backend::$kind);
                }
            )*
        }
    };
}

/// Declares a behaviour and its tests: with the broker in memory, with Redis, and with TLS before clients.
macro_rules! behaviour {
    ($name:ident, |$backend:ident| $body:block) => {
        on_each!(
            $name, $backend, $body,
            memory: Memory,
            #[cfg(feature = "redis")] redis: Redis,
            #[cfg(feature = "tls")] secure: Tls
        );
    };
}

/// As `behaviour!`, also with a Redis for each of the nodes, of which there are several, and in a Redis Cluster.
macro_rules! shared_behaviour {
    ($name:ident, |$backend:ident| $body:block) => {
        on_each!(
            $name, $backend, $body,
            memory: Memory,
            #[cfg(feature = "redis")] redis: Redis,
            #[cfg(feature = "redis")] several: Several,
            #[cfg(feature = "redis")] in_cluster: InCluster,
            #[cfg(feature = "tls")] secure: Tls
        );
    };
}

/// Declares a behaviour of sockets in the clear, and its tests: with the broker in memory and with Redis.
macro_rules! behaviour_in_the_clear {
    ($name:ident, |$backend:ident| $body:block) => {
        on_each!(
            $name, $backend, $body,
            memory: Memory,
            #[cfg(feature = "redis")] redis: Redis
        );
    };
}

mod bursts;
#[cfg(feature = "tls")]
mod certificates;
mod channels;
#[cfg(feature = "redis")]
mod cluster;
#[cfg(feature = "redis")]
mod dotnet;
mod faults;
mod fleet;
mod follow;
mod frames;
mod grace;
mod handshakes;
mod heads;
mod life;
mod messages;
mod moves;
mod overview;
mod presence;
mod proxies;
mod receipts;
#[cfg(feature = "redis")]
mod recorded;
mod resume;
mod rosters;
#[cfg(feature = "redis")]
mod shares;
mod slots;
#[cfg(feature = "redis")]
mod stage;
mod texts;
#[cfg(feature = "tls")]
mod tls;
mod tokens;
mod undelivered;
mod world;
