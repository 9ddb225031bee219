//! Nodes that serve slots, each with its own way to one broker: what the tests of slots, and of clients that move with them, begin
//! with.

use std::{sync::Arc, time::Duration};

use imcore::{
    broker::{Broker, MemoryBroker},
    server::{Limits, Server, ServerConfig, ServerHandle},
};
use testkit::PATIENCE;

use crate::world::Backend;

/// Opens the same broker once more.
pub type Open = Box<dyn Fn() -> Arc<dyn Broker>>;

/// A broker of its own, on Redis with a log of messages if it is to have one.
pub fn opener(backend: Backend, log: bool) -> Open {
    match backend {
        #[cfg(feature = "redis")]
        Backend::Redis => {
            use imcore::broker::RedisOptions;

            let prefix = crate::world::fresh_prefix();
            let options = RedisOptions { prefix, log, ..RedisOptions::default() };
            Box::new(move || crate::world::open_redis_with(options.clone()))
        }
        _ => {
            let _ = log;
            let memory = Arc::new(MemoryBroker::new());
            Box::new(move || Arc::clone(&memory) as _)
        }
    }
}

/// A node that is ready; `change` says what else is set.
pub fn start(
    name: &str,
    slots: usize,
    broker: Arc<dyn Broker>,
    change: impl FnOnce(&mut ServerConfig),
) -> ServerHandle {
    let mut config = ServerConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        server: Some(name.into()),
        slots,
        reactors: 2,
        limits: Limits {
            drain_over: Duration::from_secs(20),
            drain_grace: Duration::from_secs(1),
            linger: Duration::from_millis(200),
            lease: Duration::from_secs(1),
            ..Limits::default()
        },
        ..ServerConfig::default()
    };
    change(&mut config);
    let node = Server::start(config, broker).unwrap();
    assert!(node.wait_ready(PATIENCE), "{name} does not get ready");
    node
}
