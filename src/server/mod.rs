//! The server: one node that holds WebSocket connections and pushes to them.
//!
//! [`Server::start`] binds, starts the threads and returns a [`ServerHandle`]; the threads end with it.
//! Reading order: `message` (what crosses threads); `reactor` and its `hub`; `connection` with `inbound`, `outbox` and
//! `frame` (the life of a socket); `acceptor` (how a socket gets there) and `transport` (what its bytes go through);
//! `upstream` (the broker's two directions); `assembly` puts them together. `stats` counts, `testing` tries; the rest
//! is small. A part waits (`upstream`), loops (`acceptor`, `reactor`) or only computes: `tests/dependencies.rs` holds
//! them to that.

mod acceptor;
mod assembly;
mod config;
mod connection;
mod failure;
mod heartbeat;
mod inbox;
mod kicks;
mod message;
mod reactor;
mod readiness;
mod reasons;
mod stats;
#[cfg(any(test, feature = "fuzzing", feature = "bench"))]
#[doc(hidden)]
pub mod testing;
mod transport;
mod upstream;

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::Sender,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    broker::Broker,
    error::{Error, ErrorKind, Result},
};
use assembly::Assembly;
use inbox::{InboxSender, Reactors};
use message::{AcceptorCommand, Command};
use readiness::Readiness;
use transport::tls::Tls;
use upstream::patience::Patience;

pub use config::{Limits, PeerAddress, ServerConfig};
pub use failure::FailureWatch;
pub use readiness::NotReady;
pub use reasons::{CloseReason, TlsFailure};
pub use stats::{
    calls::CallStats,
    prometheus::{PROMETHEUS_TYPE, prometheus},
    snapshot::ServerStats,
    vitals::Vitals,
};
pub use transport::tls::TlsConfig;

/// Sockets that the kernel completes before they are accepted; it caps this at its own limit.
const BACKLOG: i32 = 4096;

/// Time that a stopping node has for its last reports to the broker, as long as these succeed.
const LAST_REPORTS: Duration = Duration::from_secs(10);
/// How long a call to the broker may go on after that, by its own deadline.
const LAST_CALL: Duration = Duration::from_secs(5);

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
        let listener = bind(config.listen).map_err(|error| {
            let advice = bind_advice(config.listen, &error);
            let detail = format!("listen: cannot listen on {}; {advice}", config.listen);
            Error::new(ErrorKind::Io, detail).with_source(error)
        })?;
        let failed =
            |error| Error::new(ErrorKind::Io, "cannot start the server").with_source(error);
        let bound = listener.local_addr().map_err(failed)?;
        let (placement, own) = config.identity(bound)?;
        let assembly = Assembly::new(config, placement, own, tls, broker);
        assembly.start(listener, bound).map_err(failed)
    }
}

/// A running node. Dropping it [shuts it down](ServerHandle::shutdown).
#[derive(Debug)]
pub struct ServerHandle {
    bound: SocketAddr,
    node: String,
    limits: Limits,
    readiness: Arc<Readiness>,
    failure: FailureWatch,
    vitals: Vitals,
    tls: Option<Tls>,
    acceptor: InboxSender<AcceptorCommand>,
    reactors: Reactors,
    stop_feed: Arc<AtomicBool>,
    give_up: Arc<Patience>,
    /// Its end is the end of the watch thread.
    watched: Option<Sender<()>>,
    threads: Threads,
}

#[derive(Debug, Default)]
struct Threads {
    acceptor: Option<JoinHandle<()>>,
    feed: Option<JoinHandle<()>>,
    reactors: Vec<JoinHandle<()>>,
    workers: Vec<JoinHandle<()>>,
    watch: Option<JoinHandle<()>>,
}

impl ServerHandle {
    /// The address that was bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.bound
    }

    /// The node's identity.
    pub fn server(&self) -> &str {
        &self.node
    }

    /// Whether clients can connect: the node hears the broker and holds its presence lease.
    pub fn is_ready(&self) -> bool {
        self.readiness.is_ready()
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

    /// Tells when a thread of the node fails, which it does not recover from: restart the node then.
    ///
    /// ```
    /// # use std::{sync::Arc, time::Duration};
    /// # use imcore::{ImClient, broker::MemoryBroker, server::{Server, ServerConfig}};
    /// # let config = ServerConfig { listen: ([127, 0, 0, 1], 0).into(), ..ServerConfig::default() };
    /// # let node = Server::start(config, Arc::new(MemoryBroker::new()))?;
    /// std::thread::spawn({
    ///     let failure = node.failure_watch();
    ///     move || {
    ///         failure.wait();
    ///         std::process::exit(1); // whoever started this process starts it again
    ///     }
    /// });
    /// # Ok::<(), imcore::Error>(())
    /// ```
    pub fn failure_watch(&self) -> FailureWatch {
        self.failure.clone()
    }

    /// What the node has counted so far.
    ///
    /// ```
    /// # use std::{sync::Arc, time::Duration};
    /// # use imcore::{ImClient, broker::MemoryBroker, server::{Server, ServerConfig}};
    /// # let config = ServerConfig { listen: ([127, 0, 0, 1], 0).into(), ..ServerConfig::default() };
    /// # let node = Server::start(config, Arc::new(MemoryBroker::new()))?;
    /// let stats = node.stats();
    /// println!("{} connections, {} of {} messages delivered", stats.connections, stats.delivered, stats.offered);
    /// # Ok::<(), imcore::Error>(())
    /// ```
    pub fn stats(&self) -> ServerStats {
        self.vitals.stats()
    }

    /// The same and more for whoever watches the node from outside, also while it stops.
    pub fn vitals(&self) -> Vitals {
        self.vitals.clone()
    }

    /// Uses the certificate and key of `tls` from the next TLS handshake on; files are read now. Connections
    /// that are open go on with the old one. Blocks for the reading only.
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config), naming file and fault, or because the node was started without TLS;
    /// the old certificate stays in use.
    pub fn reload_tls(&self, tls: &TlsConfig) -> Result<()> {
        match &self.tls {
            Some(running) => running.reload(tls),
            None => Err(Error::config("tls", "this node was started without TLS; restart it")),
        }
    }

    /// Stops accepting, closes every connection (code 1001, or 1012 if the closes are
    /// [spread](Limits::drain_over)), reports all clients offline and waits for the end of all
    /// threads: at most [`Limits::drain_over`], [`Limits::drain`] and 15 seconds, also while the broker
    /// hangs. What could not be reported by then is left to other nodes, and a thread that is stuck is left
    /// behind: both are logged, and the second is a [failure](Self::failure_watch).
    pub fn shutdown(self) {
        drop(self);
    }

    fn stop(&mut self) {
        let Some(acceptor) = self.threads.acceptor.take() else { return };
        self.readiness.stopping.store(true, Ordering::Release);
        let _ = self.acceptor.push_within(AcceptorCommand::Stop, LAST_CALL);
        self.join(vec![acceptor], Instant::now() + LAST_CALL);
        let drained = Instant::now() + self.limits.drain_over + self.limits.drain + LAST_CALL;
        for door in self.reactors.all() {
            let _ = door.push_within(Command::Drain, LAST_CALL);
        }
        let reactors = std::mem::take(&mut self.threads.reactors);
        self.join(reactors, drained);
        // Last, because clients that are still to be closed go on getting messages.
        self.stop_feed.store(true, Ordering::Release);
        // What the reactors reported last is sent now, or given up if the broker is away.
        let now = Instant::now();
        self.give_up.begin(now + self.limits.linger.min(LAST_REPORTS), now + LAST_REPORTS);
        let mut workers = std::mem::take(&mut self.threads.workers);
        workers.extend(self.threads.feed.take());
        self.join(workers, now + LAST_REPORTS + LAST_CALL);
        self.watched = None;
        self.threads.watch.take().into_iter().for_each(|watch| drop(watch.join()));
    }

    /// Waits for the end of some threads until `deadline`; who has not ended by then is stuck.
    fn join(&self, mut threads: Vec<JoinHandle<()>>, deadline: Instant) {
        while threads.iter().any(|thread| !thread.is_finished()) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        for stuck in threads.extract_if(.., |thread| !thread.is_finished()) {
            let name = stuck.thread().name().unwrap_or_default().to_owned();
            self.failure.fail(format!("{name} does not end and is left behind"));
        }
        for ended in threads {
            // Threads catch their own panics.
            let _ = ended.join();
        }
    }
}

impl Drop for ServerHandle {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What to do about an address that cannot be bound.
#[doc(hidden)]
pub fn bind_advice(address: SocketAddr, error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied if address.port() < 1024 => {
            "ports below 1024 are for root: choose another, or allow them with \
             sysctl net.ipv4.ip_unprivileged_port_start=443"
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine does not have that address: choose one of its own, or 0.0.0.0 for all"
        }
        _ => "choose another address, or free this one",
    }
}

fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restarted node must not wait for the old one's sockets to time out.
    socket.set_reuse_address(true)?;
    // Accepted sockets inherit this, which saves a system call each: pushes are small and must not wait for
    // each other's acknowledgement. No TCP_USER_TIMEOUT: Linux counts against it while a peer's window is
    // small, and so cuts clients that read in pauses. Whoever vanished is found by its missing pong.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}
