//! Settings of a node, each with its default, unit and reason; checked before anything is bound.

mod origins;

use std::{net::SocketAddr, time::Duration};

use crate::{
    error::{Error, Result},
    id::IdKind,
    placement::{Placement, check_path},
    server::transport::tls::TlsConfig,
    slots::{MOST_SLOTS, SlotTable},
    wire::Ticket,
};

/// Settings of one node. `ServerConfig::default()` is a node of its own on 127.0.0.1:6001.
///
/// ```
/// use imcore::server::{Limits, ServerConfig};
///
/// let config = ServerConfig {
///     listen: ([0, 0, 0, 0], 6001).into(),
///     server: Some("im-1".into()),
///     servers: vec!["im-0".into(), "im-1".into(), "im-2".into()],
///     origins: vec!["https://example.com".into()],
///     limits: Limits { connections: 50_000, ..Limits::default() },
///     ..ServerConfig::default()
/// };
/// config.validate()?;
/// # Ok::<(), imcore::Error>(())
/// ```
///
/// Further fields may come with any version: build one with `..ServerConfig::default()`, which goes on compiling.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Address that the node binds. Port 0 lets the system choose. Default `127.0.0.1:6001`.
    pub listen: SocketAddr,
    /// The node's identity: its entry in `servers`, part of a topic name. Default: the address that was
    /// bound.
    pub server: Option<String>,
    /// Identities of all nodes, the same list in the same order in every process of the deployment.
    /// Default: this node alone.
    pub servers: Vec<String>,
    /// In place of `servers`, where nodes come and go: clients belong to so many slots, by their ids and for ever, and a table in the
    /// broker says which node owns which. A node takes its share, gives some to nodes that come, and takes those of nodes
    /// that die. The same number on all nodes, for ever: 64 suit twenty nodes. Default 0, nodes are a list; at most 4,096.
    pub slots: usize,
    /// How many slots the node takes compared with others; 0 takes none. Default 1. Only with `slots`.
    pub weight: u32,
    /// What stands for `{server}` in the addresses of the node's clients. Default: its name. Only with `slots`.
    pub address: Option<String>,
    /// Path of the WebSocket endpoint; compared without regard to case, by whole segments. Default `/ws`.
    pub path: String,
    /// Which ids may connect; tickets of others are refused with 401. Default: as the broker says
    /// ([`Broker::id_kind`](crate::broker::Broker::id_kind)). Messages that name a client by a text which is neither a number
    /// nor a GUID are skipped, unless this is [`IdKind::Text`].
    pub ids: Option<IdKind>,
    /// Reactor threads. Default: one per core that the process may use.
    pub reactors: usize,
    /// Values of the `Origin` header that may connect, such as `https://www.example.com`: scheme, host, and
    /// the port if it is not the default one. Empty allows any, as the original does. A browser
    /// sends this header, other clients need not; what has none is let in.
    pub origins: Vec<String>,
    /// Where a peer's real address comes from. Default: its socket. With another value only the proxy may
    /// be able to reach the listen address.
    pub peer_address: PeerAddress,
    /// Certificate and key for TLS on the listen address, which then takes `wss://` only. Default none:
    /// clients connect in the clear, or a proxy in front speaks TLS. Needs the feature `tls`.
    pub tls: Option<TlsConfig>,
    /// Send every message from a client back to it instead of dropping it: for conformance tests of the
    /// protocol, not for production. Default false.
    pub echo: bool,
    /// How long a client that speaks `imcore.1` is waited for when its connection has ended uncleanly, unless its ticket
    /// says otherwise: it counts as online, stays in its channels, and is given what it missed when it comes back. Zero
    /// waits for nobody. Default 60 s, at most 24 h, exact to 2 s.
    pub keep: Duration,
    /// How long a client that does not speak `imcore.1` still counts as online when its connection has ended uncleanly, and
    /// stays in its channels: if it connects again within that time, nobody hears of it. Nothing that was sent meanwhile is
    /// given to it, and receipts say that it was offline. Not over a restart of the node. Default 0, at most 24 h, exact to
    /// 2 s.
    pub grace: Duration,
    /// Tell the business, by an [event that is kept](crate::EventKind::Undelivered), which messages that have an id did not
    /// reach a client. Default false.
    pub undelivered: bool,
    /// Bounds on what peers may do and take.
    pub limits: Limits,
}

impl Default for ServerConfig {
    fn default() -> Self {
        ServerConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], 6001)),
            server: None,
            servers: Vec::new(),
            slots: 0,
            weight: 1,
            address: None,
            path: "/ws".into(),
            ids: None,
            reactors: std::thread::available_parallelism().map_or(1, usize::from),
            origins: Vec::new(),
            peer_address: PeerAddress::default(),
            tls: None,
            echo: false,
            keep: Duration::from_secs(60),
            grace: Duration::ZERO,
            undelivered: false,
            limits: Limits::default(),
        }
    }
}

/// Bounds on what peers may do and take. Times are exact to about [`sweep`](Limits::sweep).
///
/// Built as [`ServerConfig`] is, with `..Limits::default()`.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections of this node; more are refused with 503. Default 250,000.
    pub connections: usize,
    /// Connections of one client; with one more the oldest is closed with 4003. Default 32. What is sent to a
    /// client goes to each of them.
    pub connections_per_client: usize,
    /// Sockets whose handshake is under way; for more the oldest gives way of whom nothing has come, or who
    /// has been about its request for a twentieth of `handshake`; if there is none they are refused with 503. Default 4,096: they are cheap for a peer to open
    /// and cost a buffer each.
    pub handshakes: usize,
    /// Handshakes under way from one address, which of IPv6 is a network of 64 bits; more are refused with
    /// 429. 0 sets no limit, which suits a proxy that hides its clients' addresses. Default 512: one host
    /// cannot take all `handshakes`.
    pub handshakes_per_address: usize,
    /// Handshakes a second from one such address that come to nothing by its own fault, on average over ten
    /// seconds; more are refused with 429, or without a word before TLS is agreed on. Those that succeed do
    /// not count, so a whole city may come back from behind one address. 0 sets no limit, which suits a
    /// proxy that hides its clients' addresses. Default 200: under TLS, 3 % of a core.
    pub failures_per_address: usize,
    /// Bytes of a request head; longer is refused with 431. Default 32 KiB, as the original: cookies of a
    /// whole domain come along.
    pub head_bytes: usize,
    /// Time from accept to the end of the handshake. Default 10 s.
    pub handshake: Duration,
    /// Bytes of one message from a client; larger closes with 1009. Default 64 KiB: client data is
    /// read and dropped, so nobody needs more.
    pub inbound_message_bytes: usize,
    /// Time from the first byte of a message from a client to its last; longer closes with 1008. Default 10 s.
    pub inbound_message_time: Duration,
    /// Bytes a second that a client may send on average over one sweep, with what TLS adds to them; more
    /// closes with 1008. Default 256 KiB.
    pub inbound_rate: usize,
    /// Silence after which the node sends a ping. Default 25 s: below the idle time-out of common
    /// proxies.
    pub ping_after: Duration,
    /// Further silence after which the connection counts as dead. Default 10 s.
    pub pong_within: Duration,
    /// Bytes that may wait for a client whatever it does. Default 1 MiB.
    ///
    /// A client that reads is not cut; only one that does not is closed with 1013. That is one whose socket,
    /// with everything offered to it, took *nothing* for [`outbox_stall`](Limits::outbox_stall) while more
    /// than `outbox_bytes` waited; or within [`outbox_age`](Limits::outbox_age) less than 16 KiB and than a
    /// thirtieth of what waited (or all, if less waited): at such a pace it would not catch up in thirty times
    /// that long; or for which 64 times `outbox_bytes` wait.
    pub outbox_bytes: usize,
    /// Time for which a client may take nothing while more than `outbox_bytes` wait. Default 3 s.
    pub outbox_stall: Duration,
    /// Time within which a client must take some of what waits, however little that is. Default 10 s.
    pub outbox_age: Duration,
    /// Bytes of content that a receipt repeats; longer content is left out of it, and the message's id, if it
    /// has one, stands for it. Default 4 KiB: a message to thousands would otherwise come back as often.
    pub receipt_content_bytes: usize,
    /// Time for the last bytes of a connection that is being closed. Default 2 s.
    pub linger: Duration,
    /// Time over which a stopping node spreads its closes, so that clients do not ask the business for a
    /// new address in one wave. Those that have not been closed yet are served meanwhile. Default 0: all at
    /// once.
    pub drain_over: Duration,
    /// Clients a second that are sent on to another node that owns their slot now. Default 500.
    pub moves_per_second: usize,
    /// Time that a stopping node gives its last clients to go. Default 10 s.
    pub drain_grace: Duration,
    /// Life of the presence lease. A node that is gone this long is reaped by another: with the
    /// interval of a third between attempts, its clients are offline within 10 s. Default 7 s.
    pub lease: Duration,
    /// Time of one pass over all connections that looks for the silent and the stuck. Default 4 s.
    pub sweep: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 250_000,
            connections_per_client: 32,
            handshakes: 4096,
            handshakes_per_address: 512,
            failures_per_address: 200,
            head_bytes: 32 << 10,
            handshake: Duration::from_secs(10),
            inbound_message_bytes: 64 << 10,
            inbound_message_time: Duration::from_secs(10),
            inbound_rate: 256 << 10,
            ping_after: Duration::from_secs(25),
            pong_within: Duration::from_secs(10),
            outbox_bytes: 1 << 20,
            outbox_stall: Duration::from_secs(3),
            outbox_age: Duration::from_secs(10),
            receipt_content_bytes: 4 << 10,
            linger: Duration::from_secs(2),
            drain_over: Duration::ZERO,
            moves_per_second: 500,
            drain_grace: Duration::from_secs(10),
            lease: Duration::from_secs(7),
            sweep: Duration::from_secs(4),
        }
    }
}

impl Limits {
    /// The longest time that a limit may be; it stands for "never" where that is wanted.
    pub const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

    /// Whether a node can work with every value: nothing that it reckons with them overflows.
    fn validate(&self) -> Result<()> {
        const MANY: usize = u32::MAX as usize;
        const GIB: usize = 1 << 30;
        const MILLISECOND: Duration = Duration::from_millis(1);
        let counts = [
            ("connections", self.connections, 1, MANY),
            ("connections_per_client", self.connections_per_client, 1, 10_000),
            ("handshakes", self.handshakes, 1, MANY),
            ("handshakes_per_address", self.handshakes_per_address, 0, MANY),
            ("failures_per_address", self.failures_per_address, 0, MANY / 1000),
            ("head_bytes", self.head_bytes, 1, GIB),
            ("inbound_message_bytes", self.inbound_message_bytes, 1, GIB),
            ("inbound_rate", self.inbound_rate, 1, MANY),
            ("outbox_bytes", self.outbox_bytes, 1, GIB),
            ("receipt_content_bytes", self.receipt_content_bytes, 0, GIB),
            ("moves_per_second", self.moves_per_second, 1, 1_000_000),
        ];
        let times = [
            ("handshake", self.handshake, MILLISECOND),
            ("inbound_message_time", self.inbound_message_time, MILLISECOND),
            ("ping_after", self.ping_after, MILLISECOND),
            ("pong_within", self.pong_within, MILLISECOND),
            ("outbox_stall", self.outbox_stall, MILLISECOND),
            ("outbox_age", self.outbox_age, MILLISECOND),
            ("linger", self.linger, MILLISECOND),
            ("drain_over", self.drain_over, Duration::ZERO),
            ("drain_grace", self.drain_grace, Duration::ZERO),
            ("lease", self.lease, 100 * MILLISECOND),
            ("sweep", self.sweep, MILLISECOND),
        ];
        for (name, value, least, most) in counts {
            if !(least..=most).contains(&value) {
                return Err(Error::config(
                    format!("limits.{name}"),
                    format!(
                        "{value} is not usable; {least} to {most} are, or leave it out for the \
                     default"
                    ),
                ));
            }
        }
        for (name, value, least) in times {
            if !(least..=Self::LONGEST).contains(&value) {
                return Err(Error::config(
                    format!("limits.{name}"),
                    format!(
                        "{value:?} is not usable; {least:?} to 30 days are, or leave it out for \
                     the default"
                    ),
                ));
            }
        }
        Ok(())
    }
}

impl ServerConfig {
    /// Checks everything that needs no socket; [`Server::start`](super::Server::start) does it too.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config), beginning with the name of the setting.
    pub fn validate(&self) -> Result<()> {
        check_path(&self.path)?;
        if self.reactors == 0 || self.reactors > 1024 {
            return Err(Error::config(
                "reactors",
                format!("{} is not between 1 and 1024", self.reactors),
            ));
        }
        if let Some(tls) = &self.tls {
            tls.validate()?;
        }
        for (name, time) in [("keep", self.keep), ("grace", self.grace)] {
            let most = Ticket::LONGEST_KEEP;
            if time > most {
                return Err(Error::config(name, format!("{time:?} is more than a day ({most:?})")));
            }
        }
        self.identity(self.listen)?;
        self.origins.iter().try_for_each(|origin| origins::check(origin))?;
        self.limits.validate()
    }

    /// Who owns which clients, and this node's own name, once `bound` is known.
    pub(crate) fn identity(&self, bound: SocketAddr) -> Result<(Placement, String)> {
        let server = self.server.clone().unwrap_or_else(|| bound.to_string());
        if self.slots > 0 {
            if !self.servers.is_empty() {
                return Err(Error::config(
                    "servers",
                    "nodes are a list or stand in a table (slots); choose one",
                ));
            }
            if self.slots > MOST_SLOTS {
                return Err(Error::config(
                    "slots",
                    format!("{} is more than {MOST_SLOTS}", self.slots),
                ));
            }
            Placement::fixed([&*server])?;
            return Ok((Placement::slots(SlotTable::empty(self.slots)), server));
        }
        let servers =
            if self.servers.is_empty() { vec![server.clone()] } else { self.servers.clone() };
        let placement = Placement::fixed(servers)?;
        if placement.index_of(&server).is_none() {
            let names = placement.nodes();
            let hint = match self.server {
                Some(_) => "",
                None => "; it was not given, so the listen address was taken",
            };
            return Err(Error::config(
                "server",
                format!(
                    "{server:?} is not in servers {names:?}; clients of this node would get no \
                 messages. Set server to this node's entry, for example {:?}, or add it there{hint}",
                    names[0]
                ),
            ));
        }
        Ok((placement, server))
    }
}

/// Where a peer's real address comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum PeerAddress {
    /// From the socket: clients connect directly.
    #[default]
    Socket,
    /// From the PROXY protocol header, version 2, that the proxy puts in front of every connection.
    ProxyProtocol,
    /// From the last entry of `X-Forwarded-For`, which the proxy appends.
    ForwardedFor,
}

impl PeerAddress {
    /// What it is called in settings: `socket`, `proxy-protocol` or `forwarded-for`.
    pub fn as_str(self) -> &'static str {
        match self {
            PeerAddress::Socket => "socket",
            PeerAddress::ProxyProtocol => "proxy-protocol",
            PeerAddress::ForwardedFor => "forwarded-for",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(change: impl FnOnce(&mut ServerConfig)) -> String {
        let mut config = ServerConfig::default();
        change(&mut config);
        config.validate().unwrap_err().to_string()
    }

    #[test]
    fn mistakes_name_the_setting() {
        let list = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
        assert!(refusal(|c| c.servers = list(&["a", "a"])).contains("servers"));
        assert!(refusal(|c| c.servers = list(&["a", ""])).contains("servers"));
        assert!(refusal(|c| c.servers = list(&["a", "b"])).contains("server: \"127.0.0.1:6001\""));
        assert!(refusal(|c| c.path = "ws".into()).contains("path"));
        assert!(refusal(|c| c.reactors = 0).contains("reactors"));
        assert!(refusal(|c| c.limits.outbox_bytes = 0).contains("outbox_bytes"));
    }

    #[test]
    fn limits_that_a_node_cannot_reckon_with_are_refused() {
        type Change = fn(&mut Limits);
        let changes: [(&str, Change); 12] = [
            ("ping_after", |limits| limits.ping_after = Duration::MAX),
            ("handshake", |limits| limits.handshake = Duration::MAX),
            ("lease", |limits| limits.lease = Limits::LONGEST + Duration::from_nanos(1)),
            ("lease", |limits| limits.lease = Duration::from_nanos(1)),
            ("drain_grace", |limits| limits.drain_grace = Duration::MAX),
            ("drain_over", |limits| limits.drain_over = Duration::from_secs(u64::MAX)),
            ("sweep", |limits| limits.sweep = Duration::from_nanos(1)),
            ("outbox_stall", |limits| limits.outbox_stall = Duration::ZERO),
            ("outbox_bytes", |limits| limits.outbox_bytes = usize::MAX),
            ("inbound_rate", |limits| limits.inbound_rate = usize::MAX),
            ("connections", |limits| limits.connections = usize::MAX),
            ("connections_per_client", |limits| limits.connections_per_client = 0),
        ];
        for (name, change) in changes {
            let text = refusal(|config| change(&mut config.limits));
            assert!(text.contains(&format!("limits.{name}: ")), "{text}");
        }
    }

    #[test]
    fn a_node_alone_takes_the_address_it_bound() {
        let bound = SocketAddr::from(([127, 0, 0, 1], 4321));
        let (placement, own) = ServerConfig::default().identity(bound).unwrap();
        assert_eq!(own, "127.0.0.1:4321");
        assert_eq!(placement.nodes(), [&*own]);
    }
}
