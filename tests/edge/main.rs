//! The configurations in `deploy/` at work: wss clients, a proxy, three `imserver` processes, one Redis.
//!
//! Needs nginx, haproxy and caddy; where one is missing its tests say so and pass, unless
//! `IMCORE_EDGE=required` is set. Debian: `apt-get install nginx-light haproxy caddy`.

mod edge;
#[allow(dead_code, reason = "shared with the tests of the program")]
#[path = "../imserver/process.rs"]
mod process;
mod proxy;
#[path = "../support/redis.rs"]
mod redis_server;
mod stories;
mod wss;

use proxy::Kind;

/// Every story behind every proxy.
macro_rules! behind {
    ($($module:ident $kind:ident),*) => {$(
        mod $module {
            use super::*;

            #[test]
            fn three_names_for_one_node() {
                stories::three_names_for_one_node(Kind::$kind);
            }

            #[test]
            fn everything_arrives() {
                stories::everything_arrives(Kind::$kind);
            }

            #[test]
            fn refusals_and_ends_pass_through() {
                stories::refusals_and_ends_pass_through(Kind::$kind);
            }

            #[test]
            fn the_client_s_address_is_seen() {
                stories::the_client_s_address_is_seen(Kind::$kind);
            }

            #[test]
            #[ignore = "takes 100 seconds"]
            fn a_silent_connection_outlives_every_time_out() {
                stories::a_silent_connection_outlives_every_time_out(Kind::$kind);
            }
        }
    )*};
}

behind!(nginx Nginx, haproxy Haproxy, caddy Caddy);
