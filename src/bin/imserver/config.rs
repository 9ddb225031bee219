//! From what was given to what holds: checked settings, before anything is opened.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use imcore::{
    Error, ErrorKind, IdKind, ImClient,
    broker::{Broker, MemoryBroker},
    server::{Limits, PeerAddress, ServerConfig, TlsConfig},
};
use log::LevelFilter;

use crate::{
    api::KeyLimits,
    cli::Cli,
    contradictions,
    file::File,
    layers::Layers,
    limits::{LIMITS, seconds},
    logging::Format,
    settings::{SETTINGS, Source, mistake, place, setting},
    web::Secret,
};

/// Fewest characters of what a listener asks for: it must not be guessed.
const SECRET_LENGTH: usize = 16;

/// What a listener is given.
const ADDRESS: &str = "an IP address with a port, since names are not looked up";

/// Values of all settings, with their sources.
pub(crate) type Values = BTreeMap<String, (String, Source)>;

/// All settings, checked.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) server: ServerConfig,
    pub(crate) redis: Option<String>,
    pub(crate) public_url: String,
    pub(crate) admin: Option<SocketAddr>,
    /// None: to be made.
    pub(crate) admin_token: Option<Secret>,
    pub(crate) api: Option<SocketAddr>,
    pub(crate) api_key: Option<Secret>,
    /// Names of the admin listener and the API.
    pub(crate) hosts: Vec<String>,
    pub(crate) idempotency: KeyLimits,
    /// Channels that the API lets one client be in; 0 is no limit.
    channels_per_client: usize,
    /// How long a membership of a client that never comes lasts; zero is for ever.
    offline_memberships: Duration,
    pub(crate) log: LevelFilter,
    pub(crate) log_format: Format,
    layers: Layers,
}

impl Config {
    /// Puts the layers together and checks everything that needs no socket.
    pub(crate) fn load(cli: &Cli) -> Result<Config, Error> {
        let layers = Layers {
            flags: cli.flags.clone(),
            environment: cli.environment.clone(),
            file: cli.config.as_deref().map(File::read).transpose()?,
        };
        let config = Config {
            server: server_config(&layers)?,
            redis: layers.text("redis"),
            public_url: public_url(&layers),
            admin: layers.parse("admin", ADDRESS, |text| text.parse().ok())?,
            admin_token: secret(&layers, "admin_token")?,
            api: layers.parse("api", ADDRESS, |text| text.parse().ok())?,
            api_key: secret(&layers, "api_key")?,
            hosts: hosts(&layers)?,
            idempotency: idempotency(&layers)?,
            channels_per_client: layers
                .parse("channels_per_client", "a whole number", |text| text.parse().ok())?
                .unwrap_or(1000),
            offline_memberships: offline_memberships(&layers)?,
            log: layers
                .parse("log", "a level", |text| text.parse().ok())?
                .unwrap_or(LevelFilter::Info),
            log_format: layers
                .parse("log_format", "text or json", Format::parse)?
                .unwrap_or_default(),
            layers,
        };
        config.server.validate().map_err(|error| config.with_source(&error))?;
        // A helper checks what it would be given. Port 0 becomes another one once it is bound.
        let mut bound = config.server.listen;
        bound.set_port(bound.port().max(1));
        let name = config.server.server.clone().unwrap_or_else(|| bound.to_string());
        config
            .im_client(&name, Arc::new(MemoryBroker::new()))
            .map_err(|error| config.with_source(&error))?;
        contradictions::check(&config)?;
        Ok(config)
    }

    /// Says where the setting comes from of which an error of the library speaks.
    pub(crate) fn with_source(&self, error: &Error) -> Error {
        let detail = error.detail().to_string();
        let Some(name) = error.setting() else { return Error::new(error.kind(), detail) };
        // By their names here.
        let name = name.replace("tls.", "tls_");
        let source = match self.layers.get(&name) {
            Some(given) if given.source != Source::Default => {
                format!(" ({} was given)", place(setting(&name), &given.source).0)
            }
            _ => match &self.layers.file {
                Some(file) if name.starts_with("limits.") => format!(" (it is from {})", file.path),
                _ => String::new(),
            },
        };
        Error::new(error.kind(), format!("{detail}{source}")).with_setting(name)
    }

    /// Puts the setting's name in front of what the Redis broker finds wrong with it.
    #[cfg(feature = "redis")]
    pub(crate) fn name_redis(&self, error: &Error) -> Error {
        let place = place(setting("redis"), &self.source("redis")).0;
        Error::new(error.kind(), error.detail().to_string()).with_setting(place)
    }

    #[cfg(feature = "redis")]
    pub(crate) fn redis_options(&self) -> imcore::broker::RedisOptions {
        imcore::broker::RedisOptions {
            prefix: self.layers.text("prefix").unwrap_or_default(),
            path: self.server.path.clone(),
            key_prefix: self.layers.text("key_prefix").unwrap_or_default(),
            ..Default::default()
        }
    }

    /// A helper for the cluster of the node called `server`, over its own `broker`.
    pub(crate) fn im_client(
        &self,
        server: &str,
        broker: Arc<dyn Broker>,
    ) -> Result<ImClient, Error> {
        let servers = match self.server.servers.as_slice() {
            // Once it is bound, it may have another port.
            [] => vec![server.to_owned()],
            servers => servers.to_vec(),
        };
        let client = ImClient::builder()
            .servers(servers)
            .broker(broker)
            .path(self.server.path.as_str())
            .public_url(self.public_url.as_str())
            .channels_per_client(self.channels_per_client)
            .offline_memberships(self.offline_memberships);
        match self.server.ids {
            Some(ids) => client.id_kind(ids),
            None => client,
        }
        .build()
    }

    /// The public address of this node.
    pub(crate) fn public_url_of(&self, server: &str) -> String {
        let index = self.server.servers.iter().position(|name| name == server).unwrap_or(0);
        self.public_url
            .replace("{server}", server)
            .replace("{index}", &index.to_string())
            .replace("{path}", &self.server.path)
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

    fn source(&self, name: &str) -> Source {
        self.layers.get(name).map_or(Source::Default, |given| given.source)
    }

    /// Every setting with its value and source: for comparison, so secrets are as they are.
    pub(crate) fn values(&self) -> Values {
        let settings = SETTINGS.iter().map(|setting| {
            let given = self.layers.get(setting.name);
            let source = self.source(setting.name);
            let value = match (setting.name, given) {
                (_, Some(given)) => given.texts.join(","),
                ("reactors", None) => self.server.reactors.to_string(),
                ("ids", None) => self.server.ids.map(|ids| ids.to_string()).unwrap_or_default(),
                ("public_url", None) => self.public_url.clone(),
                ("drain", None) => self.server.limits.drain_over.as_secs_f64().to_string(),
                (_, None) => String::new(),
            };
            (setting.name.to_owned(), (value, source))
        });
        let limits = LIMITS.iter().map(|limit| {
            let file = self.layers.file.as_ref();
            let file = file.filter(|file| file.limits.contains_key(limit.name));
            let source = match file.map(|file| Source::File(file.path.clone())) {
                Some(source) => source,
                // By its other name.
                None if limit.name == "drain_over" => self.source("drain"),
                None => Source::Default,
            };
            (format!("limits.{}", limit.name), (limit.show(&self.server.limits), source))
        });
        settings.chain(limits).collect()
    }
}

fn config_error(detail: String) -> Error {
    Error::new(ErrorKind::Config, detail)
}

fn server_config(layers: &Layers) -> Result<ServerConfig, Error> {
    let defaults = ServerConfig::default();
    let list = |name: &str| layers.get(name).map_or_else(Vec::new, |given| given.texts);
    let from = "socket, proxy-protocol or forwarded-for";
    Ok(ServerConfig {
        listen: layers
            .parse("listen", ADDRESS, |text| text.parse().ok())?
            .unwrap_or(defaults.listen),
        server: layers.text("server"),
        servers: list("servers"),
        path: layers.text("path").unwrap_or(defaults.path),
        ids: Some(ids(layers)?),
        reactors: layers
            .parse("reactors", "a whole number", |text| text.parse().ok())?
            .unwrap_or(defaults.reactors),
        origins: list("origins"),
        peer_address: layers.parse("peer_address", from, peer_address)?.unwrap_or_default(),
        limits: limits(layers)?,
        tls: tls(layers)?,
        echo: defaults.echo,
    })
}

/// Also with the in-process broker: whoever names a prefix says which ids go with it.
fn ids(layers: &Layers) -> Result<IdKind, Error> {
    let by_prefix = || IdKind::of_prefix(&layers.text("prefix").unwrap_or_default());
    let given = layers.parse("ids", "integer, guid or mixed", |text| text.parse().ok())?;
    Ok(given.unwrap_or_else(by_prefix))
}

/// Certificate and key come together or not at all.
fn tls(layers: &Layers) -> Result<Option<TlsConfig>, Error> {
    let (cert, key) = match (layers.text("tls_cert"), layers.text("tls_key")) {
        (None, None) => return Ok(None),
        (Some(cert), Some(key)) => (cert, key),
        (Some(_), None) => return Err(half_of_tls(layers, "tls_cert", "tls_key")),
        (None, Some(_)) => return Err(half_of_tls(layers, "tls_key", "tls_cert")),
    };
    #[cfg(feature = "tls")]
    return Ok(Some(TlsConfig::from_files(cert, key)));
    #[cfg(not(feature = "tls"))]
    return Err(config_error(format!(
        "tls_cert: this build has no TLS and cannot use {cert} and {key}; build it with the feature tls"
    )));
}

fn half_of_tls(layers: &Layers, given: &str, missing: &str) -> Error {
    let source = layers.get(given).map_or(Source::Default, |given| given.source);
    let (given, _) = place(setting(given), &source);
    let (missing, example) = place(setting(missing), &source);
    config_error(format!("{given} needs {missing} beside it; for example {example}"))
}

fn peer_address(text: &str) -> Option<PeerAddress> {
    match text {
        "socket" => Some(PeerAddress::Socket),
        "proxy-protocol" => Some(PeerAddress::ProxyProtocol),
        "forwarded-for" => Some(PeerAddress::ForwardedFor),
        _ => None,
    }
}

/// `drain` is `limits.drain_over` by a shorter name, from when it was the only limit with a flag.
fn limits(layers: &Layers) -> Result<Limits, Error> {
    let mut limits = Limits::default();
    if let Some(file) = &layers.file {
        for limit in LIMITS {
            if let Some(number) = file.limits.get(limit.name) {
                limit.set(&mut limits, *number, &file.path)?;
            }
        }
        if file.values.contains_key("drain") && file.limits.contains_key("drain_over") {
            return Err(config_error(format!(
                "{}: drain and limits.drain_over are the same setting; leave one out",
                file.path
            )));
        }
    }
    let read = |text: &str| text.parse().ok().and_then(seconds);
    if let Some(drain) = layers.parse("drain", "a number of seconds up to 30 days", read)? {
        limits.drain_over = drain;
    }
    Ok(limits)
}

fn public_url(layers: &Layers) -> String {
    let scheme = if layers.get("tls_cert").is_some() { "wss" } else { "ws" };
    layers.text("public_url").unwrap_or_else(|| format!("{scheme}://{{server}}{{path}}"))
}

/// A secret that a listener asks for; the word `none` says that it asks for none.
fn secret(layers: &Layers, name: &str) -> Result<Option<Secret>, Error> {
    let Some(given) = layers.get(name) else { return Ok(None) };
    let secret = given.text();
    if secret == "none" {
        return Ok(Some(Secret::Open));
    }
    let sendable = secret.bytes().all(|byte| byte.is_ascii_graphic());
    match sendable && secret.len() >= SECRET_LENGTH {
        true => Ok(Some(Secret::Asked(secret.to_owned()))),
        false => Err(mistake(
            name,
            &given,
            &format!("none, or at least {SECRET_LENGTH} letters, digits or signs without blanks"),
        )),
    }
}

/// What the API keeps of requests with a key.
fn idempotency(layers: &Layers) -> Result<KeyLimits, Error> {
    const DAY: u64 = 24 * 3600;
    let life = layers.parse("idempotency_life", "a number of seconds up to a day", |text| {
        text.parse().ok().filter(|seconds| (1..=DAY).contains(seconds)).map(Duration::from_secs)
    })?;
    let keys = layers.parse("idempotency_keys", "a whole number", |text| text.parse().ok())?;
    Ok(KeyLimits {
        life: life.unwrap_or(Duration::from_secs(600)),
        keys: keys.unwrap_or(1_000_000),
    })
}

fn offline_memberships(layers: &Layers) -> Result<Duration, Error> {
    const YEAR: u64 = 366 * 24 * 3600;
    let life = layers.parse("offline_memberships", "a number of seconds up to a year", |text| {
        text.parse().ok().filter(|seconds| *seconds <= YEAR).map(Duration::from_secs)
    })?;
    Ok(life.unwrap_or(Duration::from_secs(24 * 3600)))
}

/// Names as they stand in `Host`, without a port.
fn hosts(layers: &Layers) -> Result<Vec<String>, Error> {
    let Some(given) = layers.get("hosts") else { return Ok(Vec::new()) };
    let is_sign = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let is_name = |name: &String| name == "*" || (!name.is_empty() && name.bytes().all(is_sign));
    match given.texts.iter().all(is_name) {
        true => Ok(given.texts),
        false => Err(mistake("hosts", &given, "names without scheme and port, or *")),
    }
}
