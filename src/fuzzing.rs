//! What fuzzing calls: one function per kind of bytes that others choose. Each panics if an invariant of
//! the code it tries does not hold. Not part of the API.
//!
//! `fuzz/` drives them with libFuzzer; the tests here with the seed corpus and seeded mutations of it.

#[cfg(feature = "redis")]
pub use crate::broker::fuzzing::pushes;
#[cfg(feature = "server")]
pub use crate::http::fuzzing::http_head;
#[cfg(feature = "server")]
pub use crate::server::testing::fuzzing::{frames, proxy_header, request_head};
pub use crate::wire::fuzzing::{envelope, lenient_json, ticket};

#[cfg(test)]
mod tests {
    use testkit::mutations::fuzz;

    macro_rules! targets {
        ($($name:ident)*) => { $(#[test] fn $name() { fuzz(stringify!($name), super::$name); })* };
    }

    targets! { envelope lenient_json ticket }
    #[cfg(feature = "redis")]
    targets! { pushes }
    #[cfg(feature = "server")]
    targets! { frames http_head proxy_header request_head }
}
