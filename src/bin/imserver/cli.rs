//! Flags and environment of `imserver`, turned into the library's settings.

use std::{net::SocketAddr, time::Duration};

use clap::{Parser, ValueEnum};
use imcore::server::{Limits, PeerAddress, ServerConfig};
use log::LevelFilter;

/// Holds the WebSocket connections of clients and pushes what the business sends to them.
///
/// Every flag can also be given as an environment variable; a flag wins.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub(crate) struct Cli {
    /// Address to listen on
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:6001", env = "IMSERVER_LISTEN")]
    pub(crate) listen: SocketAddr,

    /// This node's identity: its entry in --servers [default: the listen address]
    #[arg(long, value_name = "NAME", env = "IMSERVER_SERVER")]
    pub(crate) server: Option<String>,

    /// Identities of all nodes, the same list in the same order everywhere [default: this node alone]
    #[arg(long, value_name = "A,B,C", value_delimiter = ',', env = "IMSERVER_SERVERS")]
    pub(crate) servers: Vec<String>,

    /// Redis, for example redis://user:password@127.0.0.1:6379/0 [default: the in-process broker]
    #[arg(long, value_name = "URL", env = "IMSERVER_REDIS", hide_env_values = true)]
    pub(crate) redis: Option<String>,

    /// First part of every Redis name; wsim for ImCore and FreeIM 1. The path is appended
    #[arg(long, value_name = "TEXT", default_value = "im_v2", env = "IMSERVER_PREFIX")]
    pub(crate) prefix: String,

    /// Put in front of Redis keys but not of topics, like prefix= in the .NET connection string
    #[arg(long, value_name = "TEXT", default_value = "", env = "IMSERVER_KEY_PREFIX")]
    pub(crate) key_prefix: String,

    /// Path of the WebSocket endpoint
    #[arg(long, value_name = "PATH", default_value = "/ws", env = "IMSERVER_PATH")]
    pub(crate) path: String,

    /// Address that clients connect to, as the helper issues it; only shown here
    #[arg(
        long,
        value_name = "TEMPLATE",
        default_value = "ws://{server}{path}",
        env = "IMSERVER_PUBLIC_URL"
    )]
    pub(crate) public_url: String,

    /// Event-loop threads [default: one per core]
    #[arg(long, value_name = "N", env = "IMSERVER_REACTORS")]
    pub(crate) reactors: Option<usize>,

    /// Origins that may connect, separated by commas [default: any]
    #[arg(long, value_name = "A,B", value_delimiter = ',', env = "IMSERVER_ORIGINS")]
    pub(crate) origins: Vec<String>,

    /// Where a client's real address comes from, which limits its handshakes
    #[arg(long, value_name = "FROM", default_value = "socket", env = "IMSERVER_PEER_ADDRESS")]
    pub(crate) peer_address: AddressSource,

    /// Seconds over which a stopping node spreads its closes [default: all at once]
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 0,
        hide_default_value = true,
        env = "IMSERVER_DRAIN"
    )]
    pub(crate) drain: u64,

    /// What to log: off, error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", default_value = "info", env = "IMSERVER_LOG")]
    pub(crate) log: LevelFilter,
}

impl Cli {
    pub(crate) fn server_config(&self) -> ServerConfig {
        let defaults = ServerConfig::default();
        ServerConfig {
            listen: self.listen,
            server: self.server.clone(),
            servers: self.servers.clone(),
            path: self.path.clone(),
            reactors: self.reactors.unwrap_or(defaults.reactors),
            origins: self.origins.clone(),
            peer_address: self.peer_address.into(),
            limits: Limits { drain_over: Duration::from_secs(self.drain), ..defaults.limits },
            ..defaults
        }
    }

    #[cfg(feature = "redis")]
    pub(crate) fn redis_options(&self) -> imcore::broker::RedisOptions {
        imcore::broker::RedisOptions {
            prefix: self.prefix.clone(),
            path: self.path.clone(),
            key_prefix: self.key_prefix.clone(),
            ..Default::default()
        }
    }

    /// The public address of this node.
    pub(crate) fn public_url_of(&self, server: &str) -> String {
        let index = self.servers.iter().position(|name| name == server).unwrap_or(0);
        self.public_url
            .replace("{server}", server)
            .replace("{index}", &index.to_string())
            .replace("{path}", &self.path)
    }
}

/// The values of --peer-address.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum AddressSource {
    /// The socket: clients connect directly
    Socket,
    /// The PROXY protocol, version 2, which the proxy in front must speak
    ProxyProtocol,
    /// The last entry of X-Forwarded-For, which the proxy in front must append
    ForwardedFor,
}

impl From<AddressSource> for PeerAddress {
    fn from(source: AddressSource) -> Self {
        match source {
            AddressSource::Socket => PeerAddress::Socket,
            AddressSource::ProxyProtocol => PeerAddress::ProxyProtocol,
            AddressSource::ForwardedFor => PeerAddress::ForwardedFor,
        }
    }
}
