//! What the threads of a node share. Each thread is made from it and from its own queues, and holds it.
//!
//! Made once, by `Server::start`; `threads` starts what works with it. Knows none of the threads.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, OnceLock, PoisonError, atomic::AtomicU64},
};

use super::{
    absence::Absence,
    config::ServerConfig,
    follow::Follows,
    identity::{self, ResumeKey},
    kicks::Kicks,
    ownership::Departures,
    stats::{pulse::Pulse, vitals::Vitals},
    stopping::Stopping,
    transport::tls::Tls,
};
use crate::{
    broker::{Broker, FeedStart, Watchlist},
    error::Result,
    id::{ClientId, IdKind},
    placement::Placement,
    token::random_u64,
};

/// What a node goes on with of a former process of it.
#[derive(Debug)]
pub(crate) struct Heritage {
    /// What proves that a client means a connection of its own.
    pub(crate) key: ResumeKey,
    /// The same of a former process, if that was another.
    pub(crate) former_key: Option<ResumeKey>,
    /// Numbers of connections begin here.
    pub(crate) first_number: u64,
    /// Where the feed begins: with what clients of the former process have missed, if there are any.
    pub(crate) feed: FeedStart,
}

/// Where a process of a node begins: anew, or where a former one has ended. For all of its threads.
#[derive(Debug)]
pub(crate) struct Origin {
    /// What proves that a client means a connection of its own, if that is not a former process's.
    own_key: ResumeKey,
    heritage: OnceLock<Heritage>,
}

impl Origin {
    fn new() -> Result<Self> {
        let own_key = identity::key([random_u64()?, random_u64()?]);
        Ok(Origin { own_key, heritage: OnceLock::new() })
    }

    /// What presence has found, before which nobody is let in; `None` as long as it has not looked.
    pub(crate) fn heritage(&self) -> Option<&Heritage> {
        self.heritage.get()
    }

    /// What proves that a client means a connection of its own.
    pub(crate) fn resume_key(&self) -> &ResumeKey {
        self.heritage().map_or(&self.own_key, |heritage| &heritage.key)
    }

    /// The number of the connection that a client of this node proves to be its own.
    pub(crate) fn connection_of(&self, client: &ClientId, c: &str) -> Option<u64> {
        let former = self.heritage().and_then(|heritage| heritage.former_key.as_ref());
        let keys = [Some(self.resume_key()), former].into_iter().flatten();
        keys.into_iter().find_map(|key| identity::read(key, client, c))
    }

    /// Presence has looked.
    pub(crate) fn found(&self, heritage: Heritage) {
        // Set once: only that thread does it.
        let _ = self.heritage.set(heritage);
    }
}

/// One node, for all of its threads.
pub(crate) struct Node {
    /// As it was started with.
    pub(crate) config: ServerConfig,
    /// Which node owns which client; written by the thread of slots, if there is one.
    placement: Mutex<Placement>,
    /// This node's name in it.
    pub(crate) name: String,
    /// The session in which its connections are reported, if there is one; written by presence.
    session: Mutex<Option<String>>,
    /// How far reactors are with sending clients on.
    pub(crate) departures: Arc<Departures>,
    /// Who follows what.
    pub(crate) follows: Arc<Follows>,
    /// Called by the threads of `upstream` alone: a call may take long.
    pub(crate) broker: Arc<dyn Broker>,
    /// The certificate in use, if clients speak TLS.
    pub(crate) tls: Option<Tls>,
    /// Whose channels the feed is to tell of; reactors write it, the broker's subscription reads it.
    pub(crate) watchlist: Arc<Watchlist>,
    /// Who was kicked lately; written by the feed, read where clients come in.
    pub(crate) kicks: Kicks,
    /// Connections that reactors hold or are about to; in memory of its own, because loops write it.
    pub(crate) live: Arc<AtomicU64>,
    /// Its clients were taken out of their channels for a while: noted by presence, told by the feed.
    pub(crate) absence: Absence,
    /// What it goes on with of a former process.
    pub(crate) origin: Arc<Origin>,
    /// Names the order of messages as long as no log does.
    pub(crate) epoch: Arc<str>,
    /// How far the node's stop is.
    pub(crate) stopping: Stopping,
    /// What the threads say of themselves.
    pub(crate) pulse: Arc<Pulse>,
}

impl Node {
    /// A node that listens on `bound`.
    pub(crate) fn new(
        config: ServerConfig,
        bound: SocketAddr,
        tls: Option<Tls>,
        broker: Arc<dyn Broker>,
    ) -> Result<Arc<Self>> {
        let (placement, name) = config.identity(bound)?;
        Ok(Arc::new(Node {
            departures: Arc::new(Departures::of(config.reactors)),
            follows: Arc::default(),
            config,
            placement: Mutex::new(placement),
            name,
            session: Mutex::default(),
            broker,
            tls,
            watchlist: Arc::default(),
            kicks: Kicks::default(),
            live: Arc::default(),
            absence: Absence::default(),
            origin: Arc::new(Origin::new()?),
            epoch: identity::epoch(random_u64()?).into(),
            stopping: Stopping::default(),
            pulse: Arc::default(),
        }))
    }

    /// Which node owns which client, as far as is known now.
    pub(crate) fn placement(&self) -> Placement {
        self.placement.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_placement(&self, placement: Placement) {
        *self.placement.lock().unwrap_or_else(PoisonError::into_inner) = placement;
    }

    /// The id of the session in which connections are reported.
    pub(crate) fn session(&self) -> Option<String> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_session(&self, session: Option<&str>) {
        *self.session.lock().unwrap_or_else(PoisonError::into_inner) = session.map(str::to_owned);
    }

    /// Which ids may connect.
    pub(crate) fn ids(&self) -> IdKind {
        self.config.ids.unwrap_or_else(|| self.broker.id_kind())
    }

    /// What can be asked about the node.
    pub(crate) fn vitals(&self) -> Vitals {
        let limit = self.config.limits.connections as u64;
        let follows = Arc::clone(&self.follows);
        Vitals::new(Arc::clone(&self.pulse), follows, self.tls.clone(), limit)
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("name", &self.name).finish_non_exhaustive()
    }
}
