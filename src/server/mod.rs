//! The server: one node that holds WebSocket connections and pushes to them.
//!
//! [`Server::start`] binds, starts the threads and returns a [`ServerHandle`]; the threads end with it.
//! Reading order: `message` (what crosses threads); `reactor` and its `hub`; `connection` with `inbound`, `outbox` and
//! `frame` (the life of a socket); `acceptor` (how a socket gets there) and `transport` (what its bytes go through);
//! `upstream` (the broker's two directions). They share a `node`; `threads` starts and stops them. `stats` counts,
//! `testing` tries; the rest is small. A part waits (`upstream`), loops (`acceptor`, `reactor`) or only computes:
//! `tests/dependencies.rs` holds them to that.

mod absence;
mod acceptor;
mod bind;
mod config;
mod connection;
mod failure;
mod follow;
mod heartbeat;
mod identity;
mod inbox;
mod kicks;
mod message;
mod node;
mod ownership;
mod parcel;
mod reactor;
mod readiness;
mod reasons;
mod stats;
mod stopping;
#[cfg(any(test, feature = "fuzzing", feature = "bench"))]
#[doc(hidden)]
pub mod testing;
mod threads;
mod transport;
mod upstream;
mod waits;

use std::{
    net::SocketAddr,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use crate::{
    broker::Broker,
    error::{Error, ErrorKind, Result},
};
use bind::bind;
use node::Node;
use threads::Threads;
use transport::tls::Tls;

pub use crate::wire::ReceiptStatus;
pub use bind::bind_advice;
pub use config::{Limits, PeerAddress, ServerConfig};
pub use follow::{Following, Sighting, Target, What};
pub use readiness::NotReady;
pub use reasons::{CloseReason, NotResumed, TlsFailure};
pub use stats::{
    calls::CallStats,
    histogram::Times,
    prometheus::{PROMETHEUS_TYPE, prometheus},
    snapshot::{ServerStats, SlotStats},
    vitals::Vitals,
};
pub use threads::Shutdown;
pub use transport::tls::TlsConfig;

/// Starts nodes; see [`Server::start`].
#[derive(Debug)]
pub struct Server;

impl Server {
    /// Binds the listen address, starts all threads and returns. The node takes clients as soon as
    /// the broker can be reached, which it tries for ever: see [`ServerHandle::wait_ready`].
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config), naming the setting, before anything is bound;
    /// [`Io`](ErrorKind::Io) if the address cannot be bound or a thread not be started.
    ///
    /// ```
    /// use std::{sync::Arc, time::Duration};
    /// use imcore::{ImClient, broker::MemoryBroker, server::{Server, ServerConfig}};
    ///
    /// let broker = Arc::new(MemoryBroker::new());
    /// let config = ServerConfig { listen: ([127, 0, 0, 1], 0).into(), ..ServerConfig::default() };
    /// let node = Server::start(config, broker.clone())?;
    /// assert!(node.wait_ready(Duration::from_secs(5)));
    /// let im = ImClient::builder().servers([node.server()]).broker(broker).build()?;
    /// println!("connect to {}", im.connect_url(1, None)?);
    /// node.shutdown();
    /// # Ok::<(), imcore::Error>(())
    /// ```
    pub fn start(config: ServerConfig, broker: Arc<dyn Broker>) -> Result<ServerHandle> {
        config.validate()?;
        let tls = config.tls.as_ref().map(Tls::new).transpose()?;
        let listener = bind(config.listen)?;
        let failed =
            |error| Error::new(ErrorKind::Io, "cannot start the server").with_source(error);
        let bound = listener.local_addr().map_err(failed)?;
        let node = Node::new(config, bound, tls, broker)?;
        let threads = Some(Threads::start(&node, listener).map_err(failed)?);
        Ok(ServerHandle { bound, node, threads })
    }
}

/// A running node. Dropping it [shuts it down](ServerHandle::shutdown), which may take as long.
#[derive(Debug)]
pub struct ServerHandle {
    bound: SocketAddr,
    node: Arc<Node>,
    /// `None` once they were stopped.
    threads: Option<Threads>,
}

impl ServerHandle {
    /// The address that was bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.bound
    }

    /// The node's identity.
    pub fn server(&self) -> &str {
        &self.node.name
    }

    /// Whether clients can connect: the node hears the broker and holds its presence lease.
    pub fn is_ready(&self) -> bool {
        self.node.pulse.readiness.is_ready()
    }

    /// Waits until the node is [ready](Self::is_ready), up to `timeout`; false if it is not by then.
    pub fn wait_ready(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        while !self.is_ready() {
            if Instant::now() >= deadline {
                return false;
            }
            thread::sleep(Duration::from_millis(5));
        }
        true
    }

    /// What can be asked about the node from any thread, also while it stops: whether it is ready or has failed, and
    /// what it has counted.
    pub fn vitals(&self) -> Vitals {
        self.node.vitals()
    }

    /// Uses the certificate and key of `tls` from the next TLS handshake on; files are read now. Connections
    /// that are open go on with the old one. Blocks for the reading only.
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config), naming file and fault, or because the node was started without TLS;
    /// the old certificate stays in use.
    pub fn reload_tls(&self, tls: &TlsConfig) -> Result<()> {
        match &self.node.tls {
            Some(running) => running.reload(tls),
            None => Err(Error::config("tls", "this node was started without TLS; restart it")),
        }
    }

    /// Stops accepting, closes every connection (code 1001, or 1012 if the closes are
    /// [spread](Limits::drain_over)), reports all clients offline and waits for the end of all
    /// threads: at most [`Limits::drain_over`], [`Limits::drain_grace`] and 15 seconds, also while the broker
    /// hangs. What could not be reported by then is left to other nodes, and a thread that is stuck is left
    /// behind: both are logged and [told](Shutdown), and the second is a [failure](Vitals::failure).
    pub fn shutdown(mut self) -> Shutdown {
        self.stop().unwrap_or_else(|| unreachable!("a handle is shut down once"))
    }

    fn stop(&mut self) -> Option<Shutdown> {
        self.threads.take().map(|threads| threads.stop(&self.node))
    }
}

impl Drop for ServerHandle {
    fn drop(&mut self) {
        self.stop();
    }
}
