//! The server: one node that holds WebSocket connections and pushes to them.
//!
//! [`Server::start`] binds, starts the threads and returns a [`ServerHandle`]; the threads end with it.
//! Reading order of the files: `message` (what crosses threads), `reactor` and `connection` (the life of
//! a socket), `hub`, `outbox`, `frame`; then `acceptor` and `http` (how a socket gets there), `feed` and
//! `presence` (the broker's two directions).

mod acceptor;
mod boundary;
mod config;
mod connection;
mod feed;
mod frame;
mod http;
mod hub;
mod inbox;
mod message;
mod outbox;
mod presence;
mod reactor;
mod receipt;
mod stats;
mod worker;

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{channel, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use mio::{Poll, net::TcpListener};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    broker::{Broker, Watchlist},
    error::{Error, ErrorKind, Result},
};
use acceptor::Acceptor;
use feed::Feed;
use http::Rules;
use inbox::{InboxSender, inbox};
use message::{AcceptorCommand, Command, Reactors, Readiness};
use presence::Presence;
use reactor::{Reactor, ReactorParts};
use stats::Counters;

pub use config::{Limits, ServerConfig};
pub use stats::{CloseReason, ServerStats};

/// Commands that may wait for a reactor, receipts that may wait for the publisher.
const QUEUE: usize = 8192;
/// Sockets that the kernel completes before they are accepted; it caps this at its own limit.
const BACKLOG: i32 = 4096;

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
    /// println!("connect to {}", im.prev_connect_server(1, None)?);
    /// node.shutdown();
    /// # Ok::<(), imcore::Error>(())
    /// ```
    pub fn start(config: ServerConfig, broker: Arc<dyn Broker>) -> Result<ServerHandle> {
        config.validate()?;
        let silence = config.limits.ping_after + config.limits.pong_within;
        let listener = bind(config.listen, silence).map_err(|error| {
            let detail =
                format!("cannot listen on {}; choose another listen address", config.listen);
            Error::new(ErrorKind::Io, detail).with_source(error)
        })?;
        let io = |error| Error::new(ErrorKind::Io, "cannot start the server").with_source(error);
        let bound = listener.local_addr().map_err(io)?;
        let (nodes, own_index) = config.identity(bound)?;
        let node = nodes.name(own_index).to_owned();
        let limits = config.limits.clone();

        let readiness = Arc::new(Readiness::default());
        let live = Arc::new(AtomicU64::new(0));
        let watchlist = Arc::new(Watchlist::default());
        let mut counters = Vec::new();
        let mut counted = || {
            let part = Arc::new(Counters::default());
            counters.push(Arc::clone(&part));
            part
        };
        let (presence_sender, presence_queue) = channel();
        let (publisher_sender, publisher_queue) = sync_channel(QUEUE);
        let (ticket_sender, ticket_queue) = sync_channel(limits.handshakes);

        let mut reactors = Vec::new();
        let mut doors = Vec::new();
        for _ in 0..config.reactors {
            let poll = Poll::new().map_err(io)?;
            let (door, inbox) = inbox(&poll, reactor::WAKE, QUEUE).map_err(io)?;
            doors.push(door);
            reactors.push(ReactorParts {
                poll,
                inbox,
                presence: presence_sender.clone(),
                publisher: publisher_sender.clone(),
                watchlist: Arc::clone(&watchlist),
                nodes: nodes.clone(),
                limits: limits.clone(),
                echo: config.echo,
                counters: counted(),
                live: Arc::clone(&live),
            });
        }
        drop((presence_sender, publisher_sender));
        let doors = Reactors::new(doors);

        let poll = Poll::new().map_err(io)?;
        let (acceptor_door, acceptor_inbox) = inbox(&poll, acceptor::WAKE, QUEUE).map_err(io)?;
        let acceptor = Acceptor {
            poll,
            inbox: acceptor_inbox,
            listener: TcpListener::from_std(listener),
            rules: Rules {
                path: config.path.clone(),
                origins: config.origins.clone(),
                head_bytes: limits.head_bytes,
            },
            max_handshakes: limits.handshakes,
            max_connections: limits.connections as u64,
            handshake_time: limits.handshake,
            tickets: ticket_sender,
            reactors: doors.clone(),
            readiness: Arc::clone(&readiness),
            counters: counted(),
            live: Arc::clone(&live),
        };
        let stop_feed = Arc::new(AtomicBool::new(false));
        let feed = Feed {
            node: node.clone(),
            subscription: broker.subscribe(&node, watchlist),
            reactors: doors.clone(),
            readiness: Arc::clone(&readiness),
            counters: counted(),
            stop: Arc::clone(&stop_feed),
            complained: Vec::new(),
        };
        let give_up = Arc::new(AtomicBool::new(false));
        let presence = Presence {
            broker: Arc::clone(&broker),
            node: node.clone(),
            lease: limits.lease,
            queue: presence_queue,
            readiness: Arc::clone(&readiness),
            give_up: Arc::clone(&give_up),
        };

        let mut threads = Threads::default();
        for (index, parts) in reactors.into_iter().enumerate() {
            threads.reactors.push(spawn(&format!("im-reactor-{index}"), move || {
                report_failure("a reactor", Reactor::new(parts).run());
            })?);
        }
        threads.workers.push(spawn("im-presence", move || presence.run())?);
        threads.workers.push(spawn("im-receipts", {
            let (broker, nodes, counters) = (Arc::clone(&broker), nodes.clone(), counted());
            move || worker::run_publisher(&*broker, &publisher_queue, &nodes, &counters)
        })?);
        threads.workers.push(spawn("im-tickets", {
            let (broker, nodes, door) = (Arc::clone(&broker), nodes.clone(), acceptor_door.clone());
            move || worker::run_tickets(&*broker, &ticket_queue, &door, &nodes, own_index)
        })?);
        threads.feed = Some(spawn("im-feed", move || feed.run())?);
        threads.acceptor =
            Some(spawn("im-acceptor", move || report_failure("the acceptor", acceptor.run()))?);
        Ok(ServerHandle {
            bound,
            node,
            limits,
            readiness,
            counters,
            acceptor: acceptor_door,
            reactors: doors,
            stop_feed,
            give_up,
            threads,
        })
    }
}

/// A running node. Dropping it [shuts it down](ServerHandle::shutdown).
#[derive(Debug)]
pub struct ServerHandle {
    bound: SocketAddr,
    node: String,
    limits: Limits,
    readiness: Arc<Readiness>,
    counters: Vec<Arc<Counters>>,
    acceptor: InboxSender<AcceptorCommand>,
    reactors: Reactors,
    stop_feed: Arc<AtomicBool>,
    give_up: Arc<AtomicBool>,
    threads: Threads,
}

#[derive(Debug, Default)]
struct Threads {
    acceptor: Option<JoinHandle<()>>,
    feed: Option<JoinHandle<()>>,
    reactors: Vec<JoinHandle<()>>,
    workers: Vec<JoinHandle<()>>,
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

    /// What the node has counted so far.
    pub fn stats(&self) -> ServerStats {
        ServerStats::sum(self.counters.iter().map(|part| &**part))
    }

    /// Stops accepting, closes every connection (code 1001, or 1012 if the closes are
    /// [spread](Limits::drain_over)), reports all clients offline and waits for the end of all
    /// threads: at most [`Limits::drain_over`], [`Limits::drain`] and a few seconds.
    pub fn shutdown(self) {
        drop(self);
    }

    fn stop(&mut self) {
        let Some(acceptor) = self.threads.acceptor.take() else { return };
        self.readiness.session.store(false, Ordering::Release);
        let _ = self.acceptor.push(AcceptorCommand::Stop);
        join(acceptor);
        for door in self.reactors.all() {
            let _ = door.push(Command::Drain);
        }
        self.threads.reactors.drain(..).for_each(join);
        // Last, because clients that are still to be closed go on getting messages.
        self.stop_feed.store(true, Ordering::Release);
        self.threads.feed.take().into_iter().for_each(join);
        // What the reactors reported last is sent now, or given up if the broker is away.
        let deadline = Instant::now() + self.limits.linger;
        while self.threads.workers.iter().any(|worker| !worker.is_finished()) {
            if Instant::now() >= deadline {
                self.give_up.store(true, Ordering::Release);
            }
            thread::sleep(Duration::from_millis(5));
        }
        self.threads.workers.drain(..).for_each(join);
    }
}

impl Drop for ServerHandle {
    fn drop(&mut self) {
        self.stop();
    }
}

fn bind(address: SocketAddr, silence: Duration) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restarted node must not wait for the old one's sockets to time out.
    socket.set_reuse_address(true)?;
    // Accepted sockets inherit these two, which saves two system calls each. Pushes are small and must
    // not wait for each other's acknowledgement; and a peer that vanished must not hold what was sent
    // to it for the quarter of an hour that is the kernel's default.
    socket.set_tcp_nodelay(true)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(silence))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(run).map_err(|error| {
        Error::new(ErrorKind::Io, format!("cannot start thread {name}")).with_source(error)
    })
}

fn report_failure(what: &str, result: io::Result<()>) {
    if let Err(error) = result {
        log::error!("{what} ended: {error}");
    }
}

fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        log::error!("a server thread panicked");
    }
}
