//! The demo business side of imcore: a web API and one page, beside a node of the push server.
//!
//! `cargo run --release --example chat` runs everything in this process, on the in-process broker.
//! With `--redis` the process is one node of a deployment plus a web API; see `--help`.
//!
//! Reading order: `api` (what a business does with imcore), `message` (what the sockets receive),
//! `people` (nicknames from the event bus), `rooms`, `session`, `pace`, then `web`, `http` and `form`, `args`.
//! The page is in `page/`.
//!
//! It is a demo: anybody may come in under any name. A real business checks the user's login before it calls
//! imcore, and decides who may read and write where. Its web server has no TLS.

mod api;
mod args;
mod form;
mod http;
mod message;
mod pace;
mod page;
mod people;
mod refusal;
mod rooms;
mod session;
mod web;

use std::{error::Error, process::ExitCode, sync::Arc, time::Duration};

use clap::Parser;
use imcore::{
    ImClient,
    broker::{Broker, MemoryBroker, RedisBroker, RedisOptions},
    server::{Server, ServerConfig},
};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};

use crate::{
    api::Api,
    args::{Args, Settings},
    people::People,
    session::Sessions,
    web::Site,
};

/// Usually milliseconds; a broker that is away must not keep the address from being printed.
const READY_TIME: Duration = Duration::from_secs(3);

fn main() -> ExitCode {
    let args = Args::parse();
    match args.check().and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chat: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(settings: Settings) -> Result<(), Box<dyn Error>> {
    simple_logger::SimpleLogger::new().with_level(log::LevelFilter::Warn).init()?;
    // Before any thread starts, so that no signal ends the process half-way.
    let mut signals = Signals::new([SIGINT, SIGTERM])?;

    let broker: Arc<dyn Broker> = match &settings.redis {
        Some(url) => Arc::new(RedisBroker::open(url, RedisOptions::default())?),
        None => Arc::new(MemoryBroker::new()),
    };
    let config = ServerConfig {
        listen: settings.listen,
        server: Some(settings.server.clone()),
        servers: settings.servers.clone(),
        ..ServerConfig::default()
    };
    let node = Server::start(config, Arc::clone(&broker))
        .map_err(|error| format!("the node {} cannot start: {error}", settings.server))?;

    let mut client = ImClient::builder().servers(settings.servers).broker(Arc::clone(&broker));
    if let Some(template) = settings.public_url {
        client = client.public_url(template);
    }
    let im = client.build()?;
    let people = People::watch(&im)?;
    let api = Api::new(im, people.roll(), Sessions::new(&settings.secret));
    let site = Site::start(settings.http, settings.names, api)
        .map_err(|error| format!("--http {}: {error}", settings.http))?;

    if !node.wait_ready(READY_TIME) {
        eprintln!("chat: {} does not answer yet; the node keeps trying", broker.describe());
    }
    println!("imcore chat");
    println!("  page    http://{}", site.address());
    println!("  node    {} on {}", settings.server, node.local_addr());
    println!("  broker  {}", broker.describe());
    if !settings.http.ip().is_loopback() {
        println!("  WARNING this demo has no login: whoever reaches {} may come in", settings.http);
    }
    println!("Open the page in two tabs to talk to yourself. Ctrl-C stops.");

    signals.forever().next();
    // A second signal ends the process at once: whoever presses Ctrl-C twice means it.
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_default(signal, Arc::new(true.into()))?;
    }
    println!("stopping");
    // No new work first, then the sockets; the events last, because closing sockets makes some.
    site.stop();
    node.shutdown();
    people.stop();
    Ok(())
}
