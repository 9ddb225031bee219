//! The configurations in `deploy/` at work: wss clients, a proxy, three `imserver` processes, one Redis.
//!
//! Needs nginx, haproxy and caddy, so a plain `cargo test` says "ignored" of them; `tests/edge/check.sh`
//! installs the three and runs all.

mod edge;
mod proxy;
mod slots;
mod stories;
mod wss;

use proxy::Kind;

/// Every story behind every proxy.
macro_rules! behind {
    ($($module:ident $kind:ident),*) => {$(
        mod $module {
            use super::*;

            #[test]
            #[ignore = "needs a proxy; tests/edge/check.sh installs it"]
            fn three_names_for_one_node() {
                stories::three_names_for_one_node(Kind::$kind);
            }

            #[test]
            #[ignore = "needs a proxy; tests/edge/check.sh installs it"]
            fn everything_arrives() {
                stories::everything_arrives(Kind::$kind);
            }

            #[test]
            #[ignore = "needs a proxy; tests/edge/check.sh installs it"]
            fn refusals_and_ends_pass_through() {
                stories::refusals_and_ends_pass_through(Kind::$kind);
            }

            #[test]
            #[ignore = "needs a proxy; tests/edge/check.sh installs it"]
            fn the_client_s_address_is_seen() {
                stories::the_client_s_address_is_seen(Kind::$kind);
            }

            #[test]
            #[ignore = "needs a proxy; tests/edge/check.sh installs it"]
            fn slots_are_found_by_the_map() {
                slots::slots_are_found_by_the_map(Kind::$kind);
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
