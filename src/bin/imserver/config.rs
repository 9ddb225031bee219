//! What holds: all settings of one process, each in a field of its own type. The [rows](crate::settings) fill
//! them; `load` checks them as a whole.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use imcore::{
    Error, IdKind, ImClient,
    broker::{Broker, ChangesBy},
    server::ServerConfig,
};
use log::LevelFilter;

use crate::{
    api::KeyLimits,
    logging::Format,
    web::Secret,
    webhook::{self, Hook},
};

/// All settings. The default is what holds where nothing is given, except for the defaults of the rows, which
/// are read like everything else.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// The node; `ids` and `tls` are filled in once everything is read.
    pub(crate) server: ServerConfig,
    pub(crate) tls_cert: Option<String>,
    pub(crate) tls_key: Option<String>,
    /// What slots are called in the list of .NET helpers; empty: none send.
    pub(crate) slot_names: String,
    pub(crate) redis: Option<String>,
    pub(crate) prefix: String,
    pub(crate) key_prefix: String,
    /// How this node learns of joins and leaves.
    pub(crate) redis_changes: ChangesBy,
    /// Whether messages are kept in Redis for a while, for how long, and how many bytes of them for each node.
    pub(crate) message_log: bool,
    pub(crate) message_log_age: Duration,
    pub(crate) message_log_bytes: u64,
    /// How many events are kept in Redis; 0: none are written.
    pub(crate) events: u64,
    /// How the broker describes itself once it is open: without user and password.
    pub(crate) broker: String,
    /// None: by TLS.
    pub(crate) public_url: Option<String>,
    pub(crate) admin: Option<SocketAddr>,
    /// None: to be made.
    pub(crate) admin_token: Option<Secret>,
    pub(crate) api: Option<SocketAddr>,
    pub(crate) api_key: Option<Secret>,
    /// Names of the admin listener and the API.
    pub(crate) hosts: Vec<String>,
    pub(crate) idempotency: KeyLimits,
    /// Channels that the API lets one client be in; 0 is no limit.
    pub(crate) channels_per_client: usize,
    /// How long a membership of a client that never comes lasts; zero is for ever.
    pub(crate) offline_memberships: Duration,
    /// Whether those who follow something are shown what messages say.
    pub(crate) follow_texts: bool,
    pub(crate) webhook: webhook::Settings,
    /// What these come to; filled in once everything is read.
    pub(crate) hook: Option<Arc<Hook>>,
    pub(crate) log: LevelFilter,
    pub(crate) log_format: Format,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            server: ServerConfig::default(),
            tls_cert: None,
            tls_key: None,
            slot_names: String::new(),
            redis: None,
            prefix: String::new(),
            key_prefix: String::new(),
            redis_changes: ChangesBy::Auto,
            message_log: false,
            message_log_age: Duration::ZERO,
            message_log_bytes: 0,
            events: 0,
            broker: String::new(),
            public_url: None,
            admin: None,
            admin_token: None,
            api: None,
            api_key: None,
            hosts: Vec::new(),
            idempotency: KeyLimits { life: Duration::ZERO, keys: 0 },
            channels_per_client: 0,
            offline_memberships: Duration::ZERO,
            follow_texts: false,
            webhook: webhook::Settings::default(),
            hook: None,
            log: LevelFilter::Info,
            log_format: Format::default(),
        }
    }
}

impl Config {
    /// Which ids clients have, by the prefix if they are not set; a prefix says so for the in-process broker too.
    pub(crate) fn ids(&self) -> IdKind {
        self.server.ids.unwrap_or_else(|| IdKind::of_prefix(&self.prefix))
    }

    /// The address that clients connect to, with places for a node's name and index and for the path.
    pub(crate) fn public_url(&self) -> &str {
        match &self.public_url {
            Some(url) => url,
            None if self.tls_cert.is_some() => "wss://{server}{path}",
            None => "ws://{server}{path}",
        }
    }

    /// The address that clients of the node called `server` connect to; where nodes come and go, `{index}` stays: it is a client's slot.
    pub(crate) fn public_url_of(&self, server: &str) -> String {
        let url = self.public_url().replace("{path}", &self.server.path);
        if self.server.slots > 0 {
            return url.replace("{server}", self.server.address.as_deref().unwrap_or(server));
        }
        let index = self.server.servers.iter().position(|name| name == server).unwrap_or(0);
        url.replace("{server}", server).replace("{index}", &index.to_string())
    }

    /// The name of this node, which it has from its listen address if it was given none.
    pub(crate) fn node_name(&self) -> String {
        self.server.server.clone().unwrap_or_else(|| self.server.listen.to_string())
    }

    /// The names of all nodes.
    pub(crate) fn node_names(&self) -> Vec<String> {
        match self.server.servers.as_slice() {
            [] => vec![self.node_name()],
            servers => servers.to_vec(),
        }
    }

    /// How the names in Redis are made.
    pub(crate) fn redis_options(&self) -> imcore::broker::RedisOptions {
        imcore::broker::RedisOptions {
            prefix: self.prefix.clone(),
            path: self.server.path.clone(),
            key_prefix: self.key_prefix.clone(),
            changes: self.redis_changes,
            log: self.message_log,
            log_age: self.message_log_age,
            log_bytes: self.message_log_bytes,
            events: self.events,
            slot_names: self.slot_names.clone(),
            // Where they come and go there is no list.
            nodes: if self.server.slots > 0 { Vec::new() } else { self.node_names() },
            ..Default::default()
        }
    }

    /// A helper for the cluster of the node called `server`, over its own `broker`.
    pub(crate) fn im_client(
        &self,
        server: &str,
        broker: Arc<dyn Broker>,
    ) -> Result<ImClient, Error> {
        let builder = match self.server.servers.as_slice() {
            _ if self.server.slots > 0 => {
                let address = self.server.address.as_deref().unwrap_or(server);
                ImClient::builder().slots().address(address)
            }
            // Once it is bound, it may have another port.
            [] => ImClient::builder().servers([server.to_owned()]),
            servers => ImClient::builder().servers(servers.to_vec()),
        };
        builder
            .broker(broker)
            .path(self.server.path.as_str())
            .public_url(self.public_url())
            .channels_per_client(self.channels_per_client)
            .offline_memberships(self.offline_memberships)
            .id_kind(self.ids())
            .build()
    }
}
