//! What can be asked about a running node from any thread, also while it stops. Reads, and changes nothing.
//!
//! Reading takes no lock that a loop takes: what the threads say is in `pulse`.

use std::{sync::Arc, time::Duration};

use super::{pulse::Pulse, snapshot::ServerStats};
#[cfg(doc)]
use crate::server::follow::What;
use crate::{
    error::Result,
    server::{
        follow::{Following, Follows, Target},
        readiness::NotReady,
        transport::tls::Tls,
    },
    wire::NodeStatus,
};

/// A view of one node, cheap to clone; it outlives the node.
///
/// ```
/// # use std::{sync::Arc, time::Duration};
/// # use imcore::{ImClient, broker::MemoryBroker, server::{Server, ServerConfig}};
/// # let config = ServerConfig { listen: ([127, 0, 0, 1], 0).into(), ..ServerConfig::default() };
/// # let node = Server::start(config, Arc::new(MemoryBroker::new()))?;
/// let vitals = node.vitals();
/// std::thread::spawn(move || loop {
///     match vitals.not_ready() {
///         None => println!("ready"),
///         Some(why) => println!("{why}"),
///     }
///     std::thread::sleep(Duration::from_secs(5));
/// });
/// # Ok::<(), imcore::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Vitals {
    pulse: Arc<Pulse>,
    tls: Option<Tls>,
    /// Connections that the node takes at most.
    connections_limit: u64,
    follows: Arc<Follows>,
}

impl Vitals {
    pub(crate) fn new(
        pulse: Arc<Pulse>,
        follows: Arc<Follows>,
        tls: Option<Tls>,
        connections_limit: u64,
    ) -> Self {
        Vitals { pulse, tls, connections_limit, follows }
    }

    /// Why clients cannot connect, the gravest reason first; `None` if they can.
    pub fn not_ready(&self) -> Option<NotReady> {
        self.pulse.readiness.reason()
    }

    /// Why the node has failed, if it has: a thread of it is gone for good, and it must be restarted.
    pub fn failure(&self) -> Option<String> {
        self.pulse.failure.get()
    }

    /// Blocks until the node has [failed](Self::failure), and says why: restart it then. `None` once it was shut down
    /// without a failure.
    ///
    /// ```
    /// # use std::{sync::Arc, time::Duration};
    /// # use imcore::{ImClient, broker::MemoryBroker, server::{Server, ServerConfig}};
    /// # let config = ServerConfig { listen: ([127, 0, 0, 1], 0).into(), ..ServerConfig::default() };
    /// # let node = Server::start(config, Arc::new(MemoryBroker::new()))?;
    /// let vitals = node.vitals();
    /// let watch = std::thread::spawn(move || {
    ///     if vitals.wait_failure().is_some() {
    ///         std::process::exit(1); // whoever started this process starts it again
    ///     }
    /// });
    /// node.shutdown();
    /// watch.join().unwrap();
    /// # Ok::<(), imcore::Error>(())
    /// ```
    pub fn wait_failure(&self) -> Option<String> {
        self.pulse.failure.wait()
    }

    /// Which threads of the node have not turned for about 8 s and are stuck, in one sentence; `None` while
    /// all turn. A stopped node has no threads that could be.
    pub fn stalled(&self) -> Option<String> {
        self.pulse.heartbeats.stalled()
    }

    /// What the node has counted so far, and how it is now.
    ///
    /// ```
    /// # use std::{sync::Arc, time::Duration};
    /// # use imcore::{ImClient, broker::MemoryBroker, server::{Server, ServerConfig}};
    /// # let config = ServerConfig { listen: ([127, 0, 0, 1], 0).into(), ..ServerConfig::default() };
    /// # let node = Server::start(config, Arc::new(MemoryBroker::new()))?;
    /// let stats = node.vitals().stats();
    /// println!("{} connections, {} of {} messages delivered", stats.connections, stats.delivered, stats.offered);
    /// # Ok::<(), imcore::Error>(())
    /// ```
    pub fn stats(&self) -> ServerStats {
        let tls_expiry = self.tls.as_ref().and_then(Tls::expiry);
        ServerStats { tls_expiry, ..self.pulse.read() }
    }

    /// Whether the client of one of this node's connections, by its [number](crate::ConnectionInfo::number), is away and waited for:
    /// it counts as online all the while. False of connections that are not known here, as those of other nodes.
    pub fn is_away(&self, connection: u64) -> bool {
        self.pulse.away.has(connection)
    }

    /// Follows a client, a channel or the messages of an id for `time`, as this node sees them: messages that it gets and what becomes of
    /// them, clients that come and go. `texts`: with what messages say, up to 2000 bytes of each. Up to 500 sightings a second; what is
    /// more is [counted](What::Skipped).
    ///
    /// # Errors
    /// [`Overloaded`](crate::ErrorKind::Overloaded) while 8 follow something on this node.
    ///
    /// ```
    /// # use std::{sync::Arc, time::Duration};
    /// # use imcore::{ImClient, broker::MemoryBroker, server::{Server, ServerConfig, Target}};
    /// # let config = ServerConfig { listen: ([127, 0, 0, 1], 0).into(), ..ServerConfig::default() };
    /// # let node = Server::start(config, Arc::new(MemoryBroker::new()))?;
    /// let following = node.vitals().follow(Target::Client(42.into()), Duration::from_secs(60), false)?;
    /// std::thread::spawn(move || {
    ///     while !following.is_over() {
    ///         if let Some(sighting) = following.next(Duration::from_secs(1)) {
    ///             println!("{} {:?}", sighting.what.as_str(), sighting.position());
    ///         }
    ///     }
    /// });
    /// # Ok::<(), imcore::Error>(())
    /// ```
    pub fn follow(&self, target: Target, time: Duration, texts: bool) -> Result<Following> {
        self.follows.begin(target, time, texts)
    }

    /// What the node tells others of itself with each renewal of its lease, as of now. Asks nobody.
    pub fn status(&self) -> NodeStatus {
        let stats = self.stats();
        NodeStatus {
            version: env!("CARGO_PKG_VERSION").into(),
            uptime_seconds: stats.uptime.as_secs_f64(),
            // A renewal tells by itself that the lease is held.
            not_ready: stats
                .not_ready
                .filter(|why| *why != NotReady::NoLease)
                .map(|why| why.as_str().to_owned()),
            connections: stats.connections,
            parked: stats.parked,
            connections_limit: self.connections_limit,
            handshakes: stats.handshakes,
            opened: stats.opened,
            refused: stats.refused,
            offered: stats.offered,
            delivered: stats.delivered,
            dropped: stats.dropped,
            receipts_dropped: stats.receipts_dropped,
            lost: stats.lost,
            inboxes: stats.inboxes.iter().sum(),
            presence_waiting: stats.presence_waiting,
            feed_lag_seconds: stats.feed_lag.map(|lag| lag.as_secs_f64()),
        }
    }
}
