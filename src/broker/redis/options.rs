//! `RedisOptions`, and `Connector`: from a URL and options to an open connection.
//!
//! Used when a broker is opened and by everything in this folder that connects.

use std::time::Duration;

use redis::{
    Client, Connection, ConnectionInfo, IntoConnectionInfo, ProtocolVersion,
    io::tcp::{TcpSettings, socket2::TcpKeepalive},
};

use super::error;
use crate::error::{Error, Result};

/// How a [`RedisBroker`](super::RedisBroker) names its keys and treats its connections.
///
/// ```
/// use imcore::broker::{Broker, RedisBroker, RedisOptions};
///
/// let options = RedisOptions { prefix: "wsim".into(), pool_size: 4, ..RedisOptions::default() };
/// let broker = RedisBroker::open("redis://user:secret@127.0.0.1:6379/2", options)?; // connects later
/// assert_eq!(broker.describe(), "redis://127.0.0.1:6379/2");
/// # Ok::<(), imcore::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct RedisOptions {
    /// First part of all names: `im_v2` (default) as FreeIM 2, `wsim` as ImCore and FreeIM 1.
    pub prefix: String,
    /// The WebSocket path of the nodes, part of all names with `/` turned into `_`. Default `/ws`.
    pub path: String,
    /// In front of keys but not of topics, as the `prefix=` option of a .NET connection string.
    /// Default empty.
    pub key_prefix: String,
    /// Most connections open for calls at once; subscriptions have their own. Default 16.
    pub pool_size: usize,
    /// Most connections open for lists at once, beside those for calls. Default 4.
    pub read_pool_size: usize,
    /// Longest wait for a connection to open, and for a free one. Default 2 s.
    pub connect_timeout: Duration,
    /// Longest wait for Redis to go on reading or answering within a call. Default 3 s.
    pub call_timeout: Duration,
    /// How often a subscription proves that it still hears. Default 2 s.
    pub probe_interval: Duration,
    /// A subscription whose proof takes longer is given up. Default 5 s.
    pub probe_timeout: Duration,
}

impl Default for RedisOptions {
    fn default() -> Self {
        RedisOptions {
            prefix: "im_v2".into(),
            path: "/ws".into(),
            key_prefix: String::new(),
            pool_size: 16,
            read_pool_size: 4,
            connect_timeout: Duration::from_secs(2),
            call_timeout: Duration::from_secs(3),
            probe_interval: Duration::from_secs(2),
            probe_timeout: Duration::from_secs(5),
        }
    }
}

impl RedisOptions {
    pub(super) fn validate(&self) -> Result<()> {
        if self.pool_size == 0 || self.read_pool_size == 0 {
            return Err(Error::config("a Redis pool size is 0; each must be at least 1"));
        }
        let durations = [
            (self.connect_timeout, "connect timeout"),
            (self.call_timeout, "call timeout"),
            (self.probe_interval, "probe interval"),
            (self.probe_timeout, "probe timeout"),
        ];
        match durations.iter().find(|(duration, _)| duration.is_zero()) {
            Some((_, name)) => Err(Error::config(format!("the Redis {name} is 0; try 2 s"))),
            None => Ok(()),
        }
    }
}

/// Opens connections to one Redis.
pub(super) struct Connector {
    client: Client,
    /// For people: scheme, host, port and database, no secrets.
    pub(super) address: String,
    connect_timeout: Duration,
    call_timeout: Duration,
}

impl Connector {
    /// Checks the URL; connects to nothing.
    pub(super) fn new(url: &str, options: &RedisOptions) -> Result<Self> {
        let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
        if scheme == "rediss" {
            prepare_tls(url)?;
        }
        let info = url.into_connection_info().map_err(|error| {
            Error::config(
                "the Redis URL cannot be read; expected redis://user:password@host:6379/0, \
                 rediss://... or redis+unix:///path?db=0&user=..&pass=..",
            )
            .with_source(error)
        })?;
        let address = describe(scheme, &info);
        let redis = info
            .redis_settings()
            .clone()
            .set_protocol(ProtocolVersion::RESP2)
            .set_skip_set_lib_name();
        let info = info.set_redis_settings(redis).set_tcp_settings(tcp_settings());
        let client = Client::open(info)
            .map_err(|error| Error::config("the Redis URL is not usable").with_source(error))?;
        let &RedisOptions { connect_timeout, call_timeout, .. } = options;
        Ok(Connector { client, address, connect_timeout, call_timeout })
    }

    /// An authenticated connection whose reads and writes time out.
    pub(super) fn connect(&self) -> Result<Connection> {
        let connection = self
            .client
            .get_connection_with_timeout(self.connect_timeout)
            .map_err(|error| error::connect_failed(&self.address, error))?;
        connection
            .set_read_timeout(Some(self.call_timeout))
            .and_then(|()| connection.set_write_timeout(Some(self.call_timeout)))
            .map_err(|error| error::connect_failed(&self.address, error))?;
        Ok(connection)
    }
}

fn describe(scheme: &str, info: &ConnectionInfo) -> String {
    format!("{scheme}://{}/{}", info.addr(), info.redis_settings().db())
}

/// A peer that vanished without a word is noticed within about 20 s even by a connection that waits.
fn tcp_settings() -> TcpSettings {
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(10))
        .with_interval(Duration::from_secs(3))
        .with_retries(3);
    let settings = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive);
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(Duration::from_secs(15));
    settings
}

#[cfg(feature = "tls")]
fn prepare_tls(url: &str) -> Result<()> {
    if url.ends_with("#insecure") {
        return Err(Error::config(
            "#insecure in the Redis URL is not supported; add the server's certificate authority \
             to the system's store or name it in SSL_CERT_FILE",
        ));
    }
    // Fails only when the process has chosen a provider already, which is then used.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Ok(())
}

#[cfg(not(feature = "tls"))]
fn prepare_tls(_url: &str) -> Result<()> {
    Err(Error::config("rediss:// needs imcore built with the feature `tls`"))
}
