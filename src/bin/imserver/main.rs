//! `imserver`: runs one node. Sees only the public API of the library.
//!
//! Reading order: `settings` (what can be set, and where it is given), `cli`, `config` (what holds), `load` and
//! `contradictions` (how that comes about), `check` (what it comes to), `serve` (the node from start to stop); `admin`, `health`,
//! `logging` and `reload` are what an operator works with, `api` what business code does, `webhook` what is told to it; the listeners
//! of the first two stand on `web`.

mod admin;
mod api;
mod check;
mod cli;
mod config;
mod contradictions;
mod descriptors;
mod event_json;
mod following;
#[cfg(test)]
mod fuzzing;
mod health;
mod load;
mod logging;
mod lookups;
mod operate;
mod process;
mod reload;
mod serve;
mod settings;
mod slot_table;
mod sse;
mod stderr;
mod web;
mod webhook;

use std::{io::Write, process::ExitCode};

use cli::Cli;
use config::Config;
use imcore::{Error, ErrorKind};
use load::Settings;

fn main() -> ExitCode {
    let code = run().unwrap_or_else(|error| {
        logging::print_fatal(&error.to_string());
        // 2 is the usual code for a usage error: restarting does not help.
        ExitCode::from(if error.kind() == ErrorKind::Config { 2 } else { 1 })
    });
    logging::finish();
    code
}

fn run() -> Result<ExitCode, Error> {
    let cli = Cli::read()?;
    if let Some(shell) = cli.completions {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut cli::command(), "imserver", &mut script);
        return print(&script);
    }
    if let Some(question) = &cli.health {
        return match health::ask(&cli, question) {
            Ok(word) => print(format!("{word}\n").as_bytes()),
            Err(why) => {
                logging::print_fatal(&why);
                // Whatever is wrong: to Docker, other codes have no meaning.
                Ok(ExitCode::FAILURE)
            }
        };
    }
    let mut settings = Settings::load(&cli)?;
    let broker = serve::open_broker(&settings)?;
    settings.config.broker = broker.describe();
    if let Some(verb) = &cli.webhook {
        let is_shared = settings.config.redis.is_some();
        let answer = operate::webhook(verb, &*broker, is_shared)?;
        return print(answer.as_bytes());
    }
    if let Some(words) = &cli.slot_table {
        let Config { redis, server, .. } = &settings.config;
        let im = settings.config.im_client(&settings.config.node_name(), broker)?;
        let pace = server.limits.moves_per_second;
        return print(slot_table::run(words, &im, pace, redis.is_some())?.as_bytes());
    }
    if cli.check {
        return print(
            check::report(settings, &*broker, &cli.stray_variables, cli.dial)?.as_bytes(),
        );
    }
    logging::start(settings.config.log, settings.config.log_format)?;
    serve::run(&cli, settings, broker)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints what was asked for; a reader may close the pipe before the end.
fn print(bytes: &[u8]) -> Result<ExitCode, Error> {
    match std::io::stdout().lock().write_all(bytes) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::new(ErrorKind::Io, "cannot print").with_source(error))
        }
        Ok(()) | Err(_) => Ok(ExitCode::SUCCESS),
    }
}
