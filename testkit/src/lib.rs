//! What tests of all packages share, and the load tool's proxy. Never named by code that is shipped, and names nothing of imcore itself: what is
//! asserted through it is seen from outside.

pub mod cluster;
pub mod dotnet;
pub mod failover;
pub mod imserver;
pub mod mutations;
pub mod poor;
mod ports;
pub mod proxy;
pub mod redis;
pub mod roster;
pub mod seeded;
pub mod tls;
pub mod ws;

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use serde::de::DeserializeOwned;

pub use self::{
    cluster::Cluster,
    dotnet::Dotnet,
    imserver::{Imserver, outcome},
    ports::port,
    redis::Redis,
};

/// Longest wait for anything that is expected to happen; some things wait for a lease to end.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks again until the answer is yes.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "still not: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// The folder of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The cases of a file of `tests/fixtures/wire/`, one a line.
pub fn fixtures<T: DeserializeOwned>(name: &str) -> Vec<T> {
    let path = root().join("tests/fixtures/wire").join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}
