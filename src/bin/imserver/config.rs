//! From what was given to what holds: checked settings, before anything is opened.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use imcore::{
    Error, ErrorKind, IdKind, ImClient,
    broker::Broker,
    server::{Limits, PeerAddress, ServerConfig, TlsConfig},
};
use log::LevelFilter;

use crate::{
    cli::Cli,
    file::File,
    layers::Layers,
    limits::{LIMITS, seconds},
    logging::Format,
    settings::{Kind, SETTINGS, Source, mistake, place, setting, variable},
    web::Secret,
};

/// Fewest characters of what a listener asks for: it must not be guessed.
const SECRET_LENGTH: usize = 16;

/// Values of all settings, with their sources.
pub(crate) type Values = BTreeMap<String, (String, Source)>;

/// All settings, checked.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) server: ServerConfig,
    pub(crate) redis: Option<String>,
    public_url: String,
    pub(crate) admin: Option<SocketAddr>,
    /// None: to be made.
    pub(crate) admin_token: Option<Secret>,
    pub(crate) api: Option<SocketAddr>,
    pub(crate) api_key: Option<Secret>,
    /// Names of the admin listener and the API.
    pub(crate) hosts: Vec<String>,
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
            public_url: public_url(&layers)?,
            admin: layers.parse("admin", "an address with a port", |text| text.parse().ok())?,
            admin_token: secret(&layers, "admin_token")?,
            api: layers.parse("api", "an address with a port", |text| text.parse().ok())?,
            api_key: secret(&layers, "api_key")?,
            hosts: hosts(&layers)?,
            log: layers
                .parse("log", "a level", |text| text.parse().ok())?
                .unwrap_or(LevelFilter::Info),
            log_format: layers
                .parse("log_format", "text or json", Format::parse)?
                .unwrap_or_default(),
            layers,
        };
        config.server.validate().map_err(|error| config.with_source(&error))?;
        check_reach("admin", config.admin, "admin_token", &config.admin_token)?;
        check_reach("api", config.api, "api_key", &config.api_key)?;
        Ok(config)
    }

    /// Says where the setting comes from that an error of the library begins with.
    pub(crate) fn with_source(&self, error: &Error) -> Error {
        let text = error.to_string();
        let detail = text.strip_prefix("bad configuration: ").unwrap_or(&text);
        let name = detail.split(':').next().unwrap_or_default();
        let name = &name.replace("tls.", "tls_");
        let source = match self.layers.get(name) {
            Some(given) if given.source != Source::Default => {
                format!(" ({} was given)", place(setting(name), &given.source).0)
            }
            _ => match &self.layers.file {
                Some(file) if name.starts_with("limits.") => format!(" (it is from {})", file.path),
                _ => String::new(),
            },
        };
        Error::new(error.kind(), format!("{detail}{source}"))
    }

    /// Puts the setting's name in front of what the Redis broker finds wrong with it.
    #[cfg(feature = "redis")]
    pub(crate) fn name_redis(&self, error: &Error) -> Error {
        let text = error.to_string();
        let detail = text.strip_prefix("bad configuration: ").unwrap_or(&text);
        let place = place(setting("redis"), &self.source("redis")).0;
        Error::new(error.kind(), format!("{place}: {detail}"))
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
            [] => vec![server.to_owned()],
            servers => servers.to_vec(),
        };
        // Also with the in-process broker: whoever names a prefix says which ids go with it.
        let prefix = self.layers.text("prefix").unwrap_or_default();
        ImClient::builder()
            .servers(servers)
            .broker(broker)
            .path(self.server.path.as_str())
            .public_url(self.public_url.as_str())
            .id_kind(IdKind::of_prefix(&prefix))
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

    /// What is allowed and yet most likely a mistake: a default identity by which clients elsewhere cannot
    /// find this node.
    pub(crate) fn doubt(&self) -> Option<String> {
        let ServerConfig { listen, server: None, servers, .. } = &self.server else { return None };
        let named =
            format!("this node is called {listen}, its listen address, as server is not given;");
        let port = listen.port();
        if listen.ip().is_unspecified() && self.public_url.contains("{server}") {
            return Some(format!(
                "{named} no client can connect to that. Set server to the address or name that helpers have \
                 in their list, for example --server 10.0.0.1:{port}"
            ));
        }
        let here = |name: &str| name.parse().is_ok_and(|at: SocketAddr| at.ip().is_loopback());
        let elsewhere = servers.iter().find(|name| !here(name))?;
        listen.ip().is_loopback().then(|| {
            format!(
                "{named} only this machine can connect to that, while {elsewhere} seems to be another. Set \
                 server to this node's name, and listen to an address for all, for example \
                 --listen 0.0.0.0:{port} --server 10.0.0.1:{port}"
            )
        })
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

    /// All settings for a person, without secrets; `broker` is how the broker describes itself.
    pub(crate) fn show(&self, broker: &str) -> String {
        let values = self.values();
        let names = SETTINGS.iter().map(|setting| setting.name.to_owned());
        let names = names.chain(LIMITS.iter().map(|limit| format!("limits.{}", limit.name)));
        let line = |name: String| {
            let (value, source) = &values[&name];
            let shown = match (setting(&name).kind, name.as_str()) {
                (_, "redis") => broker,
                (Kind::Secret, _) if !matches!(value.as_str(), "" | "none") => "(not shown)",
                _ if value.is_empty() => "-",
                _ => value,
            };
            format!("{name:<30} {shown:<34} {source}\n")
        };
        names.map(line).collect()
    }
}

fn config_error(detail: String) -> Error {
    Error::new(ErrorKind::Config, detail)
}

fn server_config(layers: &Layers) -> Result<ServerConfig, Error> {
    let defaults = ServerConfig::default();
    let list = |name: &str| layers.get(name).map_or_else(Vec::new, |given| given.texts);
    let address = "an address with a port";
    let from = "socket, proxy-protocol or forwarded-for";
    Ok(ServerConfig {
        listen: layers
            .parse("listen", address, |text| text.parse().ok())?
            .unwrap_or(defaults.listen),
        server: layers.text("server"),
        servers: list("servers"),
        path: layers.text("path").unwrap_or(defaults.path),
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

fn public_url(layers: &Layers) -> Result<String, Error> {
    let read = |text: &str| {
        let scheme = text.starts_with("ws://") || text.starts_with("wss://");
        scheme.then(|| text.to_owned())
    };
    let scheme = if layers.get("tls_cert").is_some() { "wss" } else { "ws" };
    let default = || format!("{scheme}://{{server}}{{path}}");
    Ok(layers.parse("public_url", "ws:// or wss://", read)?.unwrap_or_else(default))
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

/// Whom other machines can reach must ask for a secret.
fn check_reach(
    name: &str,
    address: Option<SocketAddr>,
    secret_name: &str,
    secret: &Option<Secret>,
) -> Result<(), Error> {
    match address {
        Some(address)
            if !address.ip().is_loopback() && !matches!(secret, Some(Secret::Asked(_))) =>
        {
            Err(config_error(format!(
                "{name}: {address} can be reached from other machines and needs {secret_name}; set \
                 {}=$(openssl rand -hex 16), or listen on 127.0.0.1:{}",
                variable(secret_name),
                address.port()
            )))
        }
        _ => Ok(()),
    }
}
