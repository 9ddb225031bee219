//! `imserver`: runs one node. Sees only the public API of the library.

mod cli;
mod descriptors;

use std::{process::ExitCode, sync::Arc};

use clap::Parser;
use imcore::{
    Error, ErrorKind,
    broker::{Broker, MemoryBroker},
    server::Server,
};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};

fn main() -> ExitCode {
    match run(&cli::Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("imserver: {error}");
            // 2 is the usual code for a usage error: restarting does not help.
            ExitCode::from(if error.kind() == ErrorKind::Config { 2 } else { 1 })
        }
    }
}

fn run(cli: &cli::Cli) -> Result<(), Error> {
    simple_logger::SimpleLogger::new()
        .with_level(cli.log)
        .with_utc_timestamps()
        .init()
        .map_err(|error| Error::new(ErrorKind::Io, "cannot start logging").with_source(error))?;
    // Before anything starts, so that no signal is missed.
    let mut signals = Signals::new([SIGINT, SIGTERM])
        .map_err(|error| Error::new(ErrorKind::Io, "cannot receive signals").with_source(error))?;
    let broker = broker(cli)?;
    let mut config = cli.server_config();
    descriptors::fit(&mut config.limits);
    let node = Server::start(config, Arc::clone(&broker))?;
    log::info!(
        "node {} listens on {}, path {}, broker {}; clients connect to {}",
        node.server(),
        node.local_addr(),
        cli.path,
        broker.describe(),
        cli.public_url_of(node.server())
    );
    let failure = node.failure_watch();
    std::thread::spawn(move || {
        failure.wait();
        let _ = signal_hook::low_level::raise(SIGTERM);
    });
    signals.forever().next();
    log::info!("stopping; a second signal ends at once");
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            std::process::exit(130);
        }
    });
    let failure = node.failure_watch();
    node.shutdown();
    log::info!("stopped");
    match failure.get() {
        Some(why) => Err(Error::new(ErrorKind::Io, why)),
        None => Ok(()),
    }
}

fn broker(cli: &cli::Cli) -> Result<Arc<dyn Broker>, Error> {
    match &cli.redis {
        None => Ok(Arc::new(MemoryBroker::new())),
        #[cfg(feature = "redis")]
        Some(url) => Ok(Arc::new(imcore::broker::RedisBroker::open(url, cli.redis_options())?)),
        #[cfg(not(feature = "redis"))]
        Some(_) => Err(Error::new(
            ErrorKind::Config,
            "--redis: this build has no Redis support; build it with the feature redis",
        )),
    }
}
