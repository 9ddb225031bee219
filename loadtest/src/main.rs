//! Load generator and measuring instrument for imcore: what a user runs against a deployment before
//! trusting it.
//!
//! The conductor (this process) starts a deployment ([`cluster`]), client processes ([`swarms`],
//! [`swarm`]) and a floor ([`floor`]), sends through the helper, and writes down what it cost
//! ([`meter`]) and what became of every message ([`account`]). Reading order: `stamp`, `account`,
//! `orders`, `swarm`, `swarms`, `setups`, `rows`.

mod account;
mod args;
mod child;
mod clock;
mod cluster;
mod events;
mod floor;
mod frame;
mod histogram;
mod holes;
mod meter;
mod orders;
mod pace;
mod perf;
mod progress;
mod readers;
mod report;
mod rows;
mod sender;
mod setups;
mod stamp;
mod swarm;
mod swarms;
mod target;
mod traffic;

use std::process::ExitCode;

use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use args::{Cli, What};

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("loadtest: something is wrong; see the lines above");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("loadtest: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every account balances and nothing else went wrong.
fn run(cli: Cli) -> Result<bool, String> {
    raise_descriptor_limit();
    match cli.what {
        What::Swarm(args) => {
            let deployment = args.deployment.as_deref().map(serde_json::from_str).transpose();
            let deployment = deployment.map_err(|error| format!("--deployment: {error}"))?;
            swarm::run(deployment).map_err(|error| format!("swarm: {error}"))?;
            Ok(true)
        }
        What::Consumer(args) => {
            let deployment = serde_json::from_str(&args.deployment);
            events::consume(&deployment.map_err(|error| format!("--deployment: {error}"))?)?;
            Ok(true)
        }
        What::FloorServer(args) => {
            floor::server::run(args.redis.zip(args.topic), args.merging)
                .map_err(|error| format!("floor: {error}"))?;
            Ok(true)
        }
        other => rows::run(other),
    }
}

/// Every process of a run may need as many descriptors as it can get; children inherit it.
fn raise_descriptor_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}
