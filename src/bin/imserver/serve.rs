//! One node with its listeners, from the start to the stop in good order. Runs on the main thread, which waits for
//! signals.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use imcore::{
    Error, ErrorKind,
    broker::{self, Broker, MemoryBroker},
    server::{Server, ServerHandle},
};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

use crate::{
    admin::Site,
    api::Api,
    check,
    cli::Cli,
    config::Config,
    following::Follows,
    load::Settings,
    logging,
    lookups::Lookups,
    reload::Running,
    web::{self, Access, Listener, Serving},
    webhook::Webhook,
};

/// Runs the node until a signal, or until it fails.
pub(crate) fn run(cli: &Cli, mut settings: Settings, broker: Arc<dyn Broker>) -> Result<(), Error> {
    // Before anything starts, so that no signal is missed.
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])
        .map_err(|error| Error::new(ErrorKind::Io, "cannot receive signals").with_source(error))?;
    let warnings = check::prepare(&mut settings.config)?;
    let config = &settings.config;
    let listen =
        |name, address: Option<_>| address.map(|address| Listener::bind(name, address)).transpose();
    let admin = listen("admin", config.admin)?;
    let api = listen("api", config.api)?;
    let node = Server::start(config.server.clone(), Arc::clone(&broker))
        .map_err(|error| settings.with_source(&error))?;
    let im = config.im_client(node.server(), api_broker(&settings, &broker)?)?;
    let Config { hosts, admin_token, api_key, .. } = config;
    let access = Access::new("api", "api_key", api_key.clone(), config.api, hosts)?;
    logging::name_node(node.server());
    let webhook = Webhook::start(node.server(), Arc::clone(im.broker()), config.hook.clone());
    let lookups = Arc::new(Lookups::new(im).beside(node.server(), node.vitals()));
    let keeps_events = config.redis.is_none() || config.events > 0;
    let idempotency = config.idempotency;
    let (vitals, im) = (node.vitals(), lookups.im().clone());
    let follows = Arc::new(Follows::new(node.server(), vitals, im, config.follow_texts));
    let api_site = Api::new(
        Arc::clone(&lookups),
        access,
        idempotency,
        keeps_events,
        webhook.desk(),
        Arc::clone(&follows),
    );
    let api_site = Arc::new(api_site);
    let access = Access::new("admin", "admin_token", admin_token.clone(), config.admin, hosts)?;
    let admin_site = Arc::new(Site::new(
        (node.server(), config.server.limits.connections),
        lookups,
        node.vitals(),
        config.api.map(|_| Arc::clone(&api_site)),
        webhook.desk(),
        follows,
        access,
    ));
    print_banner(config, &node, &*broker);
    cli.stray_variables.iter().chain(&warnings).for_each(|warning| log::warn!("{warning}"));
    let admin = open(admin, &admin_site, ("admin", "/", "#token="), admin_site.access())?;
    let api = open(api, &api_site, ("API", "/openapi.json", ", key "), api_site.access())?;
    let vitals = node.vitals();
    std::thread::spawn(move || {
        if vitals.wait_failure().is_some() {
            let _ = signal_hook::low_level::raise(SIGTERM);
        }
    });
    let mut running =
        Running::new(&settings, admin_site.access(), api_site.access(), &webhook, &node);
    for signal in signals.forever() {
        if signal != SIGHUP {
            break;
        }
        running.reload(cli);
    }
    stop(node, webhook, [api, admin], signals)
}

/// Time within which a second signal is the first one once more: a terminal and a parent process may both
/// pass the same one on.
const SAME_SIGNAL: Duration = Duration::from_millis(500);

/// How long the node waits for requests under way before it tells its clients: most take milliseconds, and what
/// they send is still delivered then.
const REQUESTS_FIRST: Duration = Duration::from_secs(2);
/// How long after the signal requests under way are waited for at all: longer than a call of the broker takes.
const REQUESTS: Duration = Duration::from_secs(10);

/// Stops API, node and admin listener, in this order and in good order; a second signal ends the program at once.
fn stop(
    node: ServerHandle,
    mut webhook: Webhook,
    [api, admin]: [Option<Serving>; 2],
    mut signals: Signals,
) -> Result<(), Error> {
    log::info!("stopping; a second signal ends at once");
    let since = Instant::now();
    std::thread::spawn(move || {
        if signals.forever().any(|signal| signal != SIGHUP && since.elapsed() > SAME_SIGNAL) {
            logging::finish();
            std::process::exit(130);
        }
    });
    let vitals = node.vitals();
    let finish = |serving: &Option<Serving>, time| {
        let Some(serving) = serving else { return 0 };
        serving.close();
        serving.finish(since + time)
    };
    webhook.close();
    finish(&api, REQUESTS_FIRST);
    node.shutdown();
    webhook.finish(since + REQUESTS_FIRST);
    // Its health is asked for until here.
    let left = finish(&api, REQUESTS) + finish(&admin, REQUESTS);
    if left > 0 {
        log::warn!("{left} requests to the API or the admin listener were cut off");
    }
    log::info!("stopped");
    match vitals.failure() {
        Some(why) => Err(Error::new(ErrorKind::Io, why)),
        None => Ok(()),
    }
}

/// Says what listens where, and within which limits.
fn print_banner(config: &Config, node: &ServerHandle, broker: &dyn Broker) {
    let server = &config.server;
    log::info!("imserver {}", env!("CARGO_PKG_VERSION"));
    log::info!(
        "node {} listens on {}, path {}, broker {}; clients connect to {}",
        node.server(),
        node.local_addr(),
        server.path,
        broker.describe(),
        config.public_url_of(node.server())
    );
    let limits = &server.limits;
    log::info!(
        "{} reactors; up to {} connections and {} handshakes at a time, {} KiB waiting for each client; \
         lease {:?}",
        server.reactors,
        limits.connections,
        limits.handshakes,
        limits.outbox_bytes >> 10,
        limits.lease
    );
    if let Some(end) = node.vitals().stats().tls_expiry {
        let left = end.duration_since(SystemTime::now()).unwrap_or_default();
        log::info!("TLS; the certificate ends in {} days", left.as_secs() / (24 * 3600));
    }
}

/// Has a listener answer, if there is one, and says where it is and what it asks for: a secret that was made
/// is known from this line alone. It stands behind `mark` there.
fn open(
    listener: Option<Listener>,
    site: &Arc<impl web::Site>,
    (name, path, mark): (&str, &str, &str),
    access: &Access,
) -> Result<Option<Serving>, Error> {
    let Some(listener) = listener else { return Ok(None) };
    if let Ok(address) = listener.local_addr() {
        let url = format!("http://{address}{path}");
        match access.made() {
            // Without this line nobody could ask at all.
            Some(made) if !log::log_enabled!(log::Level::Info) => {
                log::warn!("{name} at {url}{mark}{made} until the next start");
            }
            Some(made) => log::info!("{name} at {url}{mark}{made} until the next start"),
            None if access.is_open() => {
                log::warn!("{name} at {url}, open to everybody with an account on this machine");
            }
            None => log::info!("{name} at {url}, asks for its secret"),
        }
    }
    listener.serve(Arc::clone(site)).map(Some)
}

/// The broker that the settings name. Connects to nothing yet.
pub(crate) fn open_broker(settings: &Settings) -> Result<Arc<dyn Broker>, Error> {
    match &settings.config.redis {
        None => Ok(Arc::new(MemoryBroker::new())),
        Some(urls) => broker::open(urls, settings.config.redis_options())
            .map_err(|error| settings.of_redis(&error)),
    }
}

/// The broker of the API. On Redis it has connections of its own: however much business code asks, the
/// node's lease must be renewed in time.
fn api_broker(settings: &Settings, own: &Arc<dyn Broker>) -> Result<Arc<dyn Broker>, Error> {
    match settings.config.redis {
        Some(_) => open_broker(settings),
        None => Ok(Arc::clone(own)),
    }
}
