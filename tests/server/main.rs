//! Nodes, helper and clients together, over real sockets and both brokers.

#[cfg(feature = "redis")]
#[path = "../support/redis.rs"]
mod redis_server;
mod suite;
mod world;
#[path = "../support/ws.rs"]
mod ws;

macro_rules! behaviour {
    ($($module:ident :: $name:ident),* $(,)?) => {
        mod memory {
            $(
                #[test]
                fn $name() {
                    super::$module::$name(super::world::Backend::Memory);
                }
            )*
        }

        #[cfg(feature = "redis")]
        mod redis {
            $(
                #[test]
                fn $name() {
                    super::$module::$name(super::world::Backend::Redis);
                }
            )*
        }
    };
}

behaviour! {
    suite::a_message_reaches_its_receivers_on_all_nodes,
    suite::receipts_tell_what_became_of_a_message,
    suite::channel_messages_reach_members_on_all_nodes,
    suite::force_offline_closes_every_connection,
}
