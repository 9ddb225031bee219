//! What a behaviour test runs against: a backend of its own, and waiting without sleeping.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use imcore::{
    ClientId, Ticket,
    broker::{Broker, EventSubscription, MemoryBroker, PresenceChange, PresenceEvent},
};
use testkit::PATIENCE;

#[cfg(feature = "redis")]
use crate::{feed::NODE, log::OTHER};

/// A lease, or the life of a ticket, that no test outlives.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// What the names of a cluster's first share have behind the prefix.
#[cfg(feature = "redis")]
pub(crate) const FIRST_SHARE: &str = "{0.781}";

/// One backend without any state yet.
pub(crate) struct World {
    kind: Kind,
}

enum Kind {
    Memory(Arc<MemoryBroker>),
    #[cfg(feature = "redis")]
    Redis {
        url: String,
        options: Box<imcore::broker::RedisOptions>,
    },
}

impl World {
    pub(crate) fn memory() -> Self {
        World { kind: Kind::Memory(Arc::new(MemoryBroker::new())) }
    }

    #[cfg(feature = "redis")]
    pub(crate) fn redis() -> Self {
        let url = testkit::Redis::shared().url();
        World { kind: Kind::Redis { url, options: Box::new(fresh_options()) } }
    }

    /// On a Redis that tracks nothing for nodes.
    #[cfg(feature = "redis")]
    pub(crate) fn redis_by_keyspace() -> Self {
        use imcore::broker::{ChangesBy, RedisOptions};

        let options = RedisOptions { changes: ChangesBy::Keyspace, ..fresh_options() };
        World { kind: Kind::Redis { url: notifying().url(), options: Box::new(options) } }
    }

    /// On a Redis that tells nobody of anything.
    #[cfg(feature = "redis")]
    pub(crate) fn redis_by_notice() -> Self {
        use imcore::broker::{ChangesBy, RedisOptions};

        let options = RedisOptions { changes: ChangesBy::Notice, ..fresh_options() };
        World {
            kind: Kind::Redis { url: testkit::Redis::shared().url(), options: Box::new(options) },
        }
    }

    /// On a Redis on which no script may publish.
    #[cfg(feature = "redis")]
    pub(crate) fn redis_aside() -> Self {
        Self::aside(fresh_options())
    }

    /// The same, with events.
    #[cfg(feature = "redis")]
    pub(crate) fn redis_aside_with_events() -> Self {
        Self::aside(with_events())
    }

    #[cfg(feature = "redis")]
    fn aside(options: imcore::broker::RedisOptions) -> Self {
        use testkit::poor::{Poor, without_publish};

        let poor = Poor::start_with(testkit::Redis::shared().port, |_| None, without_publish);
        World { kind: Kind::Redis { url: poor.url(), options: Box::new(options) } }
    }

    /// With as many events as one process keeps.
    #[cfg(feature = "redis")]
    pub(crate) fn redis_with_events() -> Self {
        let url = testkit::Redis::shared().url();
        World { kind: Kind::Redis { url, options: Box::new(with_events()) } }
    }

    /// With a log, and sessions of the nodes, without which nothing is logged for them.
    #[cfg(feature = "redis")]
    pub(crate) fn redis_with_log() -> Self {
        let server = testkit::Redis::shared();
        let options = imcore::broker::RedisOptions { log: true, ..fresh_options() };
        for node in [NODE, OTHER] {
            serve(server, &options.prefix, node);
        }
        World { kind: Kind::Redis { url: server.url(), options: Box::new(options) } }
    }

    /// On two Redis. The nodes of the behaviours are on the first, and so must be their clients, whose ids are [`even`]: what
    /// is of all nodes goes to both all the same.
    #[cfg(feature = "redis")]
    pub(crate) fn redis_of_two() -> Self {
        let url = testkit::Redis::shared().url();
        let options = imcore::broker::RedisOptions { nodes: nodes_of_two(), ..fresh_options() };
        World { kind: Kind::Redis { url: format!("{url}/0,{url}/1"), options: Box::new(options) } }
    }

    /// The same, with a log, and sessions of the nodes.
    #[cfg(feature = "redis")]
    pub(crate) fn redis_of_two_with_log() -> Self {
        let Kind::Redis { url, mut options } = Self::redis_of_two().kind else { unreachable!() };
        options.log = true;
        for node in [NODE, OTHER] {
            let redis = &mut testkit::Redis::shared().connect();
            serve_as(redis, &format!("{}_ws{{0}}", options.prefix), node);
        }
        World { kind: Kind::Redis { url, options } }
    }

    /// In a cluster, as on two Redis.
    #[cfg(feature = "redis")]
    pub(crate) fn redis_in_cluster() -> Self {
        let url = format!("{}?shares=2", testkit::Cluster::shared().url());
        let options = imcore::broker::RedisOptions { nodes: nodes_of_two(), ..fresh_options() };
        World { kind: Kind::Redis { url, options: Box::new(options) } }
    }

    /// The same, with a log, and sessions of the nodes.
    #[cfg(feature = "redis")]
    pub(crate) fn redis_in_cluster_with_log() -> Self {
        let Kind::Redis { url, mut options } = Self::redis_in_cluster().kind else {
            unreachable!()
        };
        options.log = true;
        let begin = format!("{}_ws{FIRST_SHARE}", options.prefix);
        for node in [NODE, OTHER] {
            serve_as(&mut testkit::Cluster::shared().connect(&begin), &begin, node);
        }
        World { kind: Kind::Redis { url, options } }
    }

    /// A broker as a further process would open it.
    pub(crate) fn broker(&self) -> Arc<dyn Broker> {
        match &self.kind {
            Kind::Memory(broker) => Arc::clone(broker) as _,
            #[cfg(feature = "redis")]
            Kind::Redis { url, options } => imcore::broker::open(url, (**options).clone()).unwrap(),
        }
    }
}

/// One server for all tests of a process that has its keyspace notifications on.
#[cfg(feature = "redis")]
pub(crate) fn notifying() -> &'static testkit::Redis {
    static NOTIFYING: std::sync::OnceLock<testkit::Redis> = std::sync::OnceLock::new();
    NOTIFYING.get_or_init(|| testkit::Redis::start_with(&["--notify-keyspace-events", "Kgh"]))
}

/// Writes a session of a node, as one that runs has it.
#[cfg(feature = "redis")]
pub(crate) fn serve(server: &testkit::Redis, prefix: &str, node: &str) {
    serve_as(&mut server.connect(), &format!("{prefix}_ws"), node);
}

/// The same, where keys begin otherwise.
#[cfg(feature = "redis")]
fn serve_as(redis: &mut redis::Connection, begin: &str, node: &str) {
    let mut set = redis::cmd("HSET");
    set.arg(format!("{begin}Sessions")).arg(format!("{node}#0")).arg(format!("0 {node}"));
    set.exec(redis).unwrap();
}

/// Names of nodes of which the first, third and so on are those of the behaviours.
#[cfg(feature = "redis")]
fn nodes_of_two() -> Vec<String> {
    let own = ["n1", "n2", "n 2", NODE, OTHER, "elsewhere"];
    own.iter().flat_map(|name| [(*name).to_owned(), format!("not {name}")]).collect()
}

/// [`fresh_options`], and as many events as one process keeps.
#[cfg(feature = "redis")]
pub(crate) fn with_events() -> imcore::broker::RedisOptions {
    imcore::broker::RedisOptions { events: 1 << 15, ..fresh_options() }
}

/// Options with a prefix that no other test has.
#[cfg(feature = "redis")]
pub(crate) fn fresh_options() -> imcore::broker::RedisOptions {
    use std::sync::atomic::{AtomicU32, Ordering};

    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    imcore::broker::RedisOptions { prefix: format!("t{number}x"), ..Default::default() }
}

pub(crate) fn id(number: i64) -> ClientId {
    number.into()
}

/// A client of the first of two Redis.
pub(crate) fn even(number: i64) -> ClientId {
    id(2 * number)
}

pub(crate) fn opened(connection: u64, client: ClientId) -> PresenceChange {
    PresenceChange::Opened { connection, ticket: Ticket::new(client, Some("m")), resumable: false }
}

pub(crate) fn closed(connection: u64) -> PresenceChange {
    PresenceChange::Closed { connection, reason: "peer" }
}

/// How many events there were before this one, and this.
pub(crate) fn serial_of(event: &imcore::Event) -> u64 {
    event.id.rsplit_once('-').unwrap().1.parse().unwrap()
}

pub(crate) fn sorted<T: Ord>(mut items: Vec<T>) -> Vec<T> {
    items.sort();
    items
}

/// Presence events, subscribed from the start.
pub(crate) struct Events(Box<dyn EventSubscription>);

impl Events {
    pub(crate) fn of(broker: &dyn Broker) -> Self {
        let mut events = Events(broker.subscribe_events());
        assert_eq!(events.next(), PresenceEvent::Listening);
        events
    }

    #[cfg(feature = "redis")]
    pub(crate) fn into_inner(self) -> Box<dyn EventSubscription> {
        self.0
    }

    pub(crate) fn next(&mut self) -> PresenceEvent {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(event) = self.0.next(Duration::from_millis(200)).unwrap() {
                return event;
            }
            assert!(Instant::now() < deadline, "no event");
        }
    }

    pub(crate) fn online(&mut self) -> String {
        match self.next() {
            PresenceEvent::Online(ticket) => ticket.text().into(),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn offline(&mut self) -> String {
        match self.next() {
            PresenceEvent::Offline(ticket) => ticket.text().into(),
            other => panic!("{other:?}"),
        }
    }
}
