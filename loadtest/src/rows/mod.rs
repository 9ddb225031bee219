//! What each subcommand measures: one function per row of the table of targets, and the free scenarios.

mod churn;
mod connect;
mod direct;
mod growth;
mod large;
mod look;
mod memory;
mod plots;
mod resumable;
mod resume;
mod room;
mod scenario;
mod shares;
mod smoke;
mod webhook;

use std::{collections::BTreeMap, path::PathBuf};

use clap::ValueEnum;

use crate::{
    args::{CommonArgs, ConnectArgs, FanoutArgs, P2pArgs, RowName, RowsArgs, What},
    meter::Meter,
    progress::Progress,
    report::{Report, Row},
    setups::choose_names,
};

/// What every measurement needs: settings, and where progress goes.
pub struct Bench {
    pub common: CommonArgs,
    /// How often what is measured several times is measured.
    pub runs: usize,
    /// Where a profile of the server goes, if one is wanted.
    pub perf: Option<PathBuf>,
    pub progress: Progress,
}

/// Runs a subcommand; whether every account balances and nothing else went wrong.
pub fn run(what: What) -> Result<bool, String> {
    let mut report = Report::new();
    let bench = bench_of(&what);
    be_nice(bench.common.nice)?;
    choose_names(&bench.common.deployment)?;
    let mut add = |row: Row| {
        bench.progress.say("");
        println!("{}\n", row.text());
        report.rows.push(row);
    };
    // What failed is a line of the report, beside what was measured before and after it.
    let or_failed =
        |name: &str, row: Result<Row, String>| row.unwrap_or_else(|error| Row::failed(name, error));
    match what {
        What::Connect(args) => add(or_failed("connect", connect::ramp(&bench, &args.what))),
        What::Fanout(args) => add(or_failed("fan-out", room::fanout(&bench, &args.what))),
        What::P2p(args) => add(or_failed("point to point", direct::p2p(&bench, &args.what))),
        What::Churn(args) => add(or_failed("churn", scenario::churn(&bench, args.profile))),
        What::Mixed(args) => add(or_failed("mixed", scenario::mixed(&bench, &args.profile))),
        What::Soak(args) => add(or_failed("soak", scenario::soak(&bench, &args.profile))),
        What::Resume(args) => {
            let row = resume::resume(&bench, &args.what);
            add(or_failed("resume", row));
        }
        What::Scenario(args) => add(or_failed("scenario", scenario::from_file(&bench, &args.file))),
        What::Holes(args) => {
            add(or_failed("holes", crate::holes::run(&args, &bench.progress)));
        }
        What::Events(args) => {
            add(or_failed("events", crate::events::run(&args, &bench.progress)));
        }
        What::Floor(args) => add(or_failed("floor", room::floor(&bench, &args))),
        What::Growth(args) => {
            let row = plots::plots(&bench, args.quick, args.svg.as_deref());
            add(or_failed("growth", row));
        }
        What::Smoke(_) => match smoke::run(&bench) {
            Ok(rows) => rows.into_iter().for_each(add),
            Err(error) => add(Row::failed("smoke", error)),
        },
        What::Rows(args) => {
            let chosen = chosen(&args.what);
            check_profile(&bench, &chosen)?;
            for name in chosen {
                let title = name.to_possible_value();
                let title = title.as_ref().map_or("row", |value| value.get_name());
                add(or_failed(title, row(&bench, &args.what, name)));
            }
        }
        What::Swarm(_) | What::Consumer(_) | What::FloorServer(_) => {}
    }
    report.write(bench.common.json.as_deref(), bench.common.html.as_deref())?;
    Ok(report.is_sound())
}

/// CPU seconds by thread since `before`, as a note.
fn threads_note(row: &mut Row, meter: &Meter, before: &BTreeMap<String, f64>) {
    let spent = meter.threads().into_iter().filter_map(|(name, seconds)| {
        let seconds = seconds - before.get(&name).copied().unwrap_or_default();
        (seconds >= 0.01).then(|| format!("{name} {seconds:.2}"))
    });
    let spent: Vec<_> = spent.collect();
    if !spent.is_empty() {
        row.note(format!("CPU seconds by thread: {}", spent.join(", ")));
    }
}

fn be_nice(nice: i32) -> Result<(), String> {
    match nice {
        0 => Ok(()),
        _ => rustix::process::setpriority_process(None, nice)
            .map_err(|error| format!("--nice {nice}: {error}; below 0 needs root")),
    }
}

fn bench_of(what: &What) -> Bench {
    let (common, runs, perf) = match what {
        What::Connect(args) => (&args.common, Some(&args.runs), args.perf.clone()),
        What::Fanout(args) => (&args.common, Some(&args.runs), args.perf.clone()),
        What::P2p(args) => (&args.common, Some(&args.runs), args.perf.clone()),
        What::Rows(args) => (&args.common, Some(&args.runs), args.perf.clone()),
        What::Floor(args) => (&args.common, Some(&args.runs), None),
        What::Growth(args) => (&args.common, Some(&args.runs), None),
        What::Churn(args) | What::Mixed(args) | What::Soak(args) => (&args.common, None, None),
        What::Scenario(args) => (&args.common, None, None),
        What::Resume(args) => (&args.common, None, None),
        What::Holes(args) => (&args.common, None, None),
        What::Events(args) => (&args.common, None, None),
        What::Smoke(common) => (common, None, None),
        What::Swarm(_) | What::Consumer(_) | What::FloorServer(_) => {
            unreachable!("child roles measure nothing")
        }
    };
    let mut common = common.clone();
    // Rows compare CPU times, which needs the server on a core of its own.
    common.deployment.pin |= matches!(what, What::Rows(_) | What::Floor(_) | What::Growth(_));
    let runs = runs.map_or(1, |args| args.runs.get());
    Bench { common, runs, perf, progress: Progress::new() }
}

/// A profile is of one row, and not all rows have a part to profile.
fn check_profile(bench: &Bench, rows: &[RowName]) -> Result<(), String> {
    match (&bench.perf, rows) {
        (None, _) => Ok(()),
        (_, [row]) if row.can_be_profiled() => Ok(()),
        _ => Err("--perf: name one row, of those that compare CPU time: fanout, fanout8, p2p, \
                  p2p-saturated, p2p-receipts, p2p-acknowledged, connect"
            .into()),
    }
}

fn chosen(args: &RowsArgs) -> Vec<RowName> {
    match args.rows.is_empty() {
        true => RowName::value_variants().to_vec(),
        false => args.rows.clone(),
    }
}

fn row(bench: &Bench, args: &RowsArgs, name: RowName) -> Result<Row, String> {
    // A tenth of everything under --quick.
    let part = |whole: usize| if args.quick { whole / 10 } else { whole };
    let fanout = |in_flight| FanoutArgs {
        members: part(10_000),
        rooms: 1,
        in_flight,
        messages: 40,
        size: 128,
        rate: None,
        seconds: 0.0,
    };
    let p2p = |window, receipts, rate| P2pArgs {
        receivers: 1000,
        messages: part(100_000) as u64,
        window,
        size: 128,
        receipts,
        rate,
        seconds: if args.quick { 2.0 } else { 10.0 },
    };
    let connect = ConnectArgs { clients: part(15_000), rate: None, window: 256 };
    let deployment = &bench.common.deployment;
    match name {
        RowName::Memory | RowName::Cluster => deployment.may_broadcast("memory, cluster")?,
        _ => {}
    }
    if name.needs_own_nodes() {
        deployment.own_nodes_only("this row")?;
    }
    match name {
        RowName::Memory => memory::idle(bench, part(2000), part(18_000), args.settle),
        RowName::Fanout => room::fanout(bench, &fanout(1)),
        RowName::Fanout8 => room::fanout(bench, &fanout(8)),
        // Turns of about a second: those who can resume acknowledge once in each, as under a steady load.
        RowName::Fanout8Resumable => {
            resumable::fanout(bench, part(10_000), part(800) as u32, args.before.as_deref())
        }
        RowName::P2p => direct::p2p(bench, &p2p(None, false, None)),
        RowName::P2pSaturated => direct::p2p(bench, &p2p(Some(4000), false, None)),
        RowName::P2pReceipts => direct::p2p(bench, &p2p(Some(4000), true, None)),
        RowName::P2pAcknowledged => {
            direct::receipts(bench, &p2p(Some(4000), true, None), &direct::ACKNOWLEDGED)
        }
        RowName::P2pLog => resumable::log(bench, 1000, part(100_000) as u64),
        RowName::P2pLatency => direct::p2p(bench, &p2p(None, false, Some(2000.0))),
        RowName::P2pUnderRoom => {
            direct::under_room(bench, part(10_000), p2p(None, false, None).seconds)
        }
        RowName::Connect => connect::ramp(bench, &connect),
        RowName::ConnectEvents => connect::events(bench, &connect),
        RowName::RoomCost => growth::room_cost(bench, args.quick),
        RowName::MassDisconnect => large::mass_disconnect(bench, part(15_000)),
        RowName::MassDisconnectEvents => large::mass_disconnect_events(bench, part(15_000)),
        RowName::Webhook => webhook::throughput(bench, part(15_000)),
        RowName::SeveralRedis => shares::shares(bench, part(8000), part(100_000), part(100_000)),
        RowName::Storm => resumable::storm(bench, part(15_000)),
        RowName::Cluster => large::cluster(bench, part(200_000), 12),
        RowName::Reactors => growth::reactors(bench, part(10_000)),
    }
}
