//! Settings of an `ImClient`, checked before anything is sent.

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    broker::{Broker, JoinLimits},
    error::{Error, Result},
    helper::{
        client::{ImClient, OnSend, SendEvent},
        public_url,
        routes::Routes,
    },
    id::IdKind,
    placement::{Placement, check_path},
};

/// Default of [`ImClientBuilder::message_bytes`].
const MESSAGE_BYTES: usize = 1 << 20;

/// Channels that one client may be in, if nothing else is set.
const CHANNELS_PER_CLIENT: usize = 1000;

/// How long a client stays a member that is joined while it is offline and never comes, if nothing else is set.
const OFFLINE_LIFE: Duration = Duration::from_secs(24 * 3600);

/// Collects the settings of an [`ImClient`]; made by [`ImClient::builder`].
///
/// Two are needed: [`servers`](Self::servers) and one of [`broker`](Self::broker) and
/// `redis`. The others have the original's defaults.
pub struct ImClientBuilder {
    servers: Vec<String>,
    slots: bool,
    address: Option<String>,
    broker: Option<Arc<dyn Broker>>,
    #[cfg(feature = "redis")]
    redis_url: Option<String>,
    prefix: String,
    key_prefix: String,
    pool_size: Option<usize>,
    #[cfg(feature = "redis")]
    log: Option<bool>,
    path: String,
    public_url: String,
    id_kind: Option<IdKind>,
    message_bytes: usize,
    joins: JoinLimits,
    on_send: Option<OnSend>,
}

impl ImClient {
    /// Starts to collect settings; the original's `Initialization(options)`.
    pub fn builder() -> ImClientBuilder {
        ImClientBuilder::new()
    }
}

impl ImClientBuilder {
    fn new() -> Self {
        ImClientBuilder {
            servers: Vec::new(),
            slots: false,
            address: None,
            broker: None,
            #[cfg(feature = "redis")]
            redis_url: None,
            prefix: "im_v2".into(),
            key_prefix: String::new(),
            pool_size: None,
            #[cfg(feature = "redis")]
            log: None,
            path: "/ws".into(),
            public_url: "ws://{server}{path}".into(),
            id_kind: None,
            message_bytes: MESSAGE_BYTES,
            joins: JoinLimits {
                channels_per_client: CHANNELS_PER_CLIENT,
                offline_life: Some(OFFLINE_LIFE),
            },
            on_send: None,
        }
    }

    /// Names of all nodes: the same list, in the same order, in every process of the deployment.
    ///
    /// A name is the node's identity (its `--server`), normally `host:port`. Which node owns a client
    /// follows from its place in this list.
    pub fn servers<S: Into<String>>(mut self, servers: impl IntoIterator<Item = S>) -> Self {
        self.servers = servers.into_iter().map(Into::into).collect();
        self
    }

    /// In place of [`servers`](Self::servers): nodes come and go, and a table in the broker says which of them owns which clients. For
    /// nodes that have the setting `slots`.
    ///
    /// Whether the table has changed is asked with each address, and by others once a second: one more round trip. Where the broker
    /// lies in the process or keeps a [log](Self::log), it also says so when a message is sent by an old table, which is then
    /// addressed again; else nodes hand it on.
    pub fn slots(mut self) -> Self {
        self.slots = true;
        self
    }

    /// With [`slots`](Self::slots): the address of one of the nodes, with which [`public_url`](Self::public_url) is checked, as the table is
    /// not known yet. Default: a name without a port.
    pub fn address(mut self, address: impl Into<String>) -> Self {
        self.address = Some(address.into());
        self
    }

    /// Uses this broker, shared with others in the process: the way to the in-process
    /// [`MemoryBroker`](crate::broker::MemoryBroker).
    pub fn broker(mut self, broker: Arc<dyn Broker>) -> Self {
        self.broker = Some(broker);
        self
    }

    /// Uses Redis at `url`: `redis://user:password@host:port/db`, `rediss://` for TLS,
    /// `redis+unix:///path`, or with Sentinels
    /// `redis+sentinel://user:password@host:26379,host,host/name/0`. Several URLs with commas between them: these Redis share
    /// the nodes, as [`broker::open`](crate::broker::open) says; the same list in every process.
    #[cfg(feature = "redis")]
    pub fn redis(mut self, url: impl Into<String>) -> Self {
        self.redis_url = Some(url.into());
        self
    }

    /// First part of every Redis name. Default `im_v2` (FreeIM 2); `wsim` for ImCore and FreeIM 1.
    /// Only used with `redis`.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Put in front of keys but not of topics, like `prefix=` in the original's connection string.
    /// Default empty. Only used with `redis`.
    pub fn key_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.key_prefix = prefix.into();
        self
    }

    /// Maximum number of connections to Redis for the calls of this client. Default 16. Only used with `redis`.
    pub fn pool_size(mut self, connections: usize) -> Self {
        self.pool_size = Some(connections);
        self
    }

    /// Whether messages are also kept in Redis for a while, for clients and nodes that come back. Has to be what the
    /// nodes have as their setting `message_log`; for how long, they say. Default false. Only used with `redis`; a
    /// [`MemoryBroker`](crate::broker::MemoryBroker) always keeps them.
    #[cfg(feature = "redis")]
    pub fn log(mut self, log: bool) -> Self {
        self.log = Some(log);
        self
    }

    /// Path of the WebSocket endpoint, the same as the nodes' `--path`. Default `/ws`.
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }

    /// Template of the address that clients connect to, without the token. Default
    /// `ws://{server}{path}`.
    ///
    /// `{server}` is the node's name, `{index}` its place in the list counted from 0, `{path}` the
    /// path: `wss://im.example.com/node{index}{path}` suits nodes behind one proxy. It may have a query, to which
    /// the token is added, and no fragment. With several nodes it has to hold `{server}` or `{index}`.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use imcore::{ImClient, broker::MemoryBroker};
    /// let im = ImClient::builder()
    ///     .servers(["node-a", "node-b"])
    ///     .public_url("wss://im.example.com/{index}{path}")
    ///     .broker(Arc::new(MemoryBroker::new()))
    ///     .build()?;
    /// assert!(im.connect_url(3, None)?.starts_with("wss://im.example.com/1/ws?token="));
    /// # Ok::<(), imcore::Error>(())
    /// ```
    pub fn public_url(mut self, template: impl Into<String>) -> Self {
        self.public_url = template.into();
        self
    }

    /// Which ids clients may have; others are refused. The default follows from the broker: what goes with
    /// the [`prefix`](Self::prefix) on Redis, see [`IdKind::of_prefix`], and integers and GUIDs within one process. With
    /// [`IdKind::Text`] also any other text: set it alike on all helpers and nodes, and only where no .NET process takes part.
    pub fn id_kind(mut self, kind: IdKind) -> Self {
        self.id_kind = Some(kind);
        self
    }

    /// Maximum size of one message in bytes of JSON; a longer message is refused with
    /// [`Argument`](crate::ErrorKind::Argument). Default 1 MiB.
    ///
    /// A message that Redis cannot keep for its subscribers (32 MB by default) cuts every node off for a
    /// moment, and what is sent meanwhile is lost: stay well below.
    pub fn message_bytes(mut self, limit: usize) -> Self {
        self.message_bytes = limit;
        self
    }

    /// Maximum number of channels that a client may be in; joining more is refused with
    /// [`Argument`](crate::ErrorKind::Argument). Default 1,000; 0 is no limit.
    ///
    /// Any change of a client's channels has its node read all of them again, and all are left when it goes.
    /// Joins by .NET helpers are not counted against it, but count.
    pub fn channels_per_client(mut self, limit: usize) -> Self {
        self.joins.channels_per_client = limit;
        self
    }

    /// How long a client that is joined to a channel while it is offline stays a member without coming,
    /// counted from its last join. Default 24 h; zero is for ever. Once it has come, its memberships end with
    /// its last connection, as all do.
    ///
    /// Memberships of ids that never connect would fill Redis otherwise. Joins by .NET helpers have no such end.
    pub fn offline_memberships(mut self, life: Duration) -> Self {
        self.joins.offline_life = Some(life).filter(|life| !life.is_zero());
        self
    }

    /// Calls `hook` once per node for every message, channel message and broadcast, before it is
    /// sent, on the sending thread.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use imcore::{ImClient, Message, broker::MemoryBroker};
    /// let im = ImClient::builder()
    ///     .servers(["127.0.0.1:6001"])
    ///     .broker(Arc::new(MemoryBroker::new()))
    ///     .on_send(|send| println!("{} -> {:?} by {}", send.sender, send.receivers, send.node))
    ///     .build()?;
    /// im.send(Message::to([42]).from(7), "hello")?;
    /// # Ok::<(), imcore::Error>(())
    /// ```
    pub fn on_send(mut self, hook: impl Fn(&SendEvent<'_>) + Send + Sync + 'static) -> Self {
        self.on_send = Some(Arc::new(hook));
        self
    }

    /// Checks the settings. Connects to nothing.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config), naming the setting: no or repeated servers, no broker, a
    /// path without a leading `/`, a template that leads clients nowhere or all of them to one of several nodes,
    /// an unusable Redis URL.
    pub fn build(mut self) -> Result<ImClient> {
        let servers = std::mem::take(&mut self.servers);
        let placement = match self.slots {
            false => Some(Placement::fixed(servers)?),
            true if servers.is_empty() => None,
            true => {
                return Err(Error::config(
                    "servers",
                    "nodes are a list or stand in a table (slots); choose one",
                ));
            }
        };
        check_path(&self.path)?;
        let nodes = placement.as_ref().map_or_else(
            || public_url::Nodes::Unknown(self.address.as_deref().unwrap_or("im-0")),
            |placement| public_url::Nodes::All(placement.nodes()),
        );
        public_url::check(&self.public_url, &self.path, &nodes)?;
        let broker = self.open_broker(placement.as_ref())?;
        Ok(ImClient {
            id_kind: self.id_kind.unwrap_or_else(|| broker.id_kind()),
            broker,
            routes: placement.map_or_else(|| Routes::Followed(Arc::default()), Routes::Fixed),
            url_template: self.public_url.replace("{path}", &self.path).into(),
            message_bytes: self.message_bytes,
            joins: self.joins,
            on_send: self.on_send,
        })
    }

    /// The broker that was given, or the one at the Redis URL, of which several share the nodes of a list.
    #[cfg_attr(not(feature = "redis"), allow(unused_variables))]
    fn open_broker(&mut self, placement: Option<&Placement>) -> Result<Arc<dyn Broker>> {
        #[cfg(feature = "redis")]
        if let Some(url) = &self.redis_url {
            if self.broker.is_some() {
                return Err(Error::config("broker", "redis is set beside it; choose one"));
            }
            let nodes = placement.map(Placement::nodes).unwrap_or_default();
            let defaults = crate::broker::RedisOptions::default();
            let options = crate::broker::RedisOptions {
                prefix: self.prefix.clone(),
                path: self.path.clone(),
                key_prefix: self.key_prefix.clone(),
                pool_size: self.pool_size.unwrap_or(defaults.pool_size),
                log: self.log.unwrap_or(defaults.log),
                nodes: nodes.iter().map(|name| (*name).to_owned()).collect(),
                ..defaults
            };
            return crate::broker::open(url, options);
        }
        self.broker.take().ok_or_else(|| {
            let advice = "none is set; call broker(MemoryBroker) or redis(\"redis://...\")";
            Error::config("broker", advice)
        })
    }
}

impl fmt::Debug for ImClientBuilder {
    /// Without the Redis URL, which may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImClientBuilder")
            .field("servers", &self.servers)
            .field("prefix", &self.prefix)
            .field("path", &self.path)
            .field("public_url", &self.public_url)
            .finish_non_exhaustive()
    }
}
