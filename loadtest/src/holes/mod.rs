//! `loadtest holes`: clients that come and go while Redis loses what it held, and an account at the receiver that tells
//! holes of which the server spoke from silent ones. Reading order: `account`, `client`, `delays`, `swarm`, `sender`, `lab`.

mod account;
pub mod args;
mod client;
mod delays;
mod lab;
mod sender;
mod swarm;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use imcore::{ImClient, PresenceEvent};

use self::{
    account::{Account, Sent},
    args::{Fault, HolesArgs},
    client::Client,
    lab::Lab,
    swarm::{Shared, Swarm},
};
use crate::{
    pace::wait,
    progress::Progress,
    report::Row,
    setups::{first_client, room_name},
};

/// Until everybody is in at the start, or has all in the end.
const PATIENCE: Duration = Duration::from_secs(180);
/// Connects a second at the start.
const RAMP: f64 = 2000.0;
/// Between two faults, and before the first one.
const BETWEEN: Duration = Duration::from_secs(10);

/// Presence events since the clients were in, by client.
type Events = Arc<Mutex<Vec<u32>>>;

/// The run, from the first connect to the verdict.
pub fn run(args: &HolesArgs, progress: &Progress) -> Result<Row, String> {
    let deployment = &args.common.deployment;
    deployment.own_nodes_only("holes")?;
    if args.clients == 0 || args.nodes == 0 || args.rooms == 0 || args.flap <= 0.0 {
        return Err("clients, nodes, rooms, flap: more than 0".into());
    }
    let faults = match (&args.faults, args.no_faults) {
        (_, true) => vec![],
        (None, false) => Fault::LOSING.to_vec(),
        (Some(faults), false) => faults.clone(),
    };
    let mut row = Row::new("holes");
    for (name, value) in [("clients", args.clients), ("nodes", args.nodes), ("rooms", args.rooms)] {
        row.set(name, value);
    }
    row.set("faults", format!("{faults:?}").to_lowercase());
    let moves =
        |fault: &Fault| matches!(fault, Fault::Join | Fault::Drain | Fault::Die | Fault::Pause);
    if faults.iter().any(moves) && args.slots == 0 {
        return Err("nodes join, drain, die and are paused where they share --slots".into());
    }
    let mut lab = Lab::start(args)?;
    let im = lab.cluster.im.clone();
    let sent = Arc::new(Sent::new(args.clients, args.rooms));
    let shared = Arc::new(Shared::default());
    let clients = (0..args.clients).map(|place| {
        Client::new(first_client() + place as i64, place as u32, (place % args.rooms) as u32)
    });
    let ramp = Duration::from_secs_f64(args.clients as f64 / RAMP);
    let both = (Arc::clone(&sent), Arc::clone(&shared));
    let swarm = Swarm::new(clients.collect(), im.clone(), both, (ramp, args.flap));
    let swarm = swarm.map_err(|error| error.to_string())?;
    let swarm = thread::spawn(|| swarm.run());
    let events = Events::default();
    let result = drive(args, progress, &mut lab, &im, &sent, &shared, &events, &faults, &mut row);
    shared.end.store(true, Ordering::Release);
    let clients = swarm.join().map_err(|_| "the clients' loop failed")?;
    let (clients, delays) = clients.map_err(|error| error.to_string())?;
    if let Err(error) = result.and(lab.cluster.check()) {
        row.fault(error);
        lab.cluster.logs().into_iter().for_each(|log| row.note(log));
    }
    judge(clients, &sent, &events, &faults, &mut row);
    let longest = shared.longest.load(Ordering::Relaxed) as f64 / 1000.0;
    row.figure("longest time without a connection", "s", None, vec![longest]);
    let are_moves = |fault: &Fault| matches!(fault, Fault::Join | Fault::Drain);
    delays.state(&mut row, faults.iter().all(are_moves).then_some(1.2));
    Ok(row)
}

#[expect(clippy::too_many_arguments, reason = "the parts of one run")]
fn drive(
    args: &HolesArgs,
    progress: &Progress,
    lab: &mut Lab,
    im: &ImClient,
    sent: &Sent,
    shared: &Shared,
    events: &Events,
    faults: &[Fault],
    row: &mut Row,
) -> Result<(), String> {
    let count = args.clients;
    let all = |counter: &std::sync::atomic::AtomicUsize| counter.load(Ordering::Acquire) == count;
    wait("all clients are in", PATIENCE, || all(&shared.open))?;
    for room in 0..args.rooms {
        let members = (room..count).step_by(args.rooms).map(|place| first_client() + place as i64);
        let joined = im.join(members.collect::<Vec<_>>(), [room_name(room as u32)]);
        joined.map_err(|error| error.to_string())?;
    }
    thread::sleep(Duration::from_secs(3));
    let watch = watch(im, count, events)?;
    let (stop, failed) = (AtomicBool::new(false), AtomicU64::new(0));
    let begun = Instant::now();
    thread::scope(|scope| -> Result<(), String> {
        let sending = scope.spawn(|| sender::send(im, args, sent, &stop, &failed));
        shared.flaps.store(true, Ordering::Release);
        let suffered = suffer(args, progress, lab, shared, faults);
        shared.flaps.store(false, Ordering::Release);
        stop.store(true, Ordering::Release);
        sending.join().map_err(|_| "the sender failed")??;
        match suffered {
            Ok(done) => {
                row.note(done);
                lab.moves.iter().for_each(|moved| row.note(moved.clone()));
            }
            Err(error) => row.fault(error),
        }
        Ok(())
    })?;
    row.set("seconds", begun.elapsed().as_secs());
    let ends = shared.ends.load(Ordering::Relaxed);
    row.note(format!("{ends} connections were ended by clients"));
    row.note(format!("{} calls of the sender failed", failed.load(Ordering::Relaxed)));
    progress.say("waiting until everybody is back and has everything");
    // Whoever does not get everything has a hole at its end, which the account says.
    let _ =
        wait("everything is delivered", PATIENCE, || all(&shared.open) && all(&shared.complete));
    // What comes twice comes after it.
    thread::sleep(Duration::from_secs(3));
    let in_now = shared.open.load(Ordering::Acquire);
    watch.stop();
    match in_now == count {
        true => Ok(()),
        false => Err(format!("{} clients did not get in again", count - in_now)),
    }
}

/// One fault after the other until the time is up; how often each was done.
fn suffer(
    args: &HolesArgs,
    progress: &Progress,
    lab: &mut Lab,
    shared: &Shared,
    faults: &[Fault],
) -> Result<String, String> {
    let end = Instant::now() + Duration::from_secs(args.seconds);
    let mut done = Vec::new();
    let pass = |until: Instant, what: &str| {
        while Instant::now() < until {
            let open = shared.open.load(Ordering::Acquire);
            let delivered = shared.delivered.load(Ordering::Acquire);
            progress.live(&format!("{open} in, {delivered} delivered; {what}"));
            thread::sleep(Duration::from_millis(500));
        }
    };
    let longest = Duration::from_secs(args.cut.max(10)) + BETWEEN;
    for (round, fault) in faults.iter().cycle().enumerate() {
        pass((Instant::now() + BETWEEN).min(end), "quiet");
        if Instant::now() + longest > end {
            break;
        }
        progress.say(&format!("{fault:?}"));
        shared.amid_fault.store(true, Ordering::Release);
        lab.inflict(*fault, round / faults.len() + round % 2)
            .map_err(|error| format!("{fault:?}: {error}"))?;
        shared.amid_fault.store(false, Ordering::Release);
        done.push(format!("{fault:?}"));
    }
    pass(end, "quiet");
    if done.len() < faults.len() {
        return Err(format!(
            "--seconds {}: there was time for {} of {} faults",
            args.seconds,
            done.len(),
            faults.len()
        ));
    }
    Ok(format!("faults: {}", done.join(", ")))
}

fn watch(im: &ImClient, count: usize, events: &Events) -> Result<imcore::PresenceWatch, String> {
    *events.lock().unwrap_or_else(PoisonError::into_inner) = vec![0; count];
    let events = Arc::clone(events);
    let watch = im.watch_presence(move |event| {
        let (PresenceEvent::Online(ticket) | PresenceEvent::Offline(ticket)) = event else {
            return;
        };
        let place = ticket.client().to_string().parse::<i64>().map(|id| id - first_client());
        let mut events = events.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = place.ok().and_then(|place| events.get_mut(place as usize)) {
            *count += 1;
        }
    });
    watch.map_err(|error| error.to_string())
}

fn judge(clients: Vec<Client>, sent: &Sent, events: &Events, faults: &[Fault], row: &mut Row) {
    let events = events.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut sum, mut told_events) = (Account::default(), 0);
    for (place, client) in clients.into_iter().enumerate() {
        let account = client.receiver.close(sent);
        // Who was away for too long, or lost with what Redis lost, may be told of.
        if !account.why.contains_key("expired") && !account.why.contains_key("no why") {
            told_events += u64::from(events.get(place).copied().unwrap_or(0));
        }
        sum.add(&account);
    }
    let harmless = faults.iter().all(|fault| fault.is_harmless());
    let mut must_be_none = vec![
        ("missing without a word", sum.missing),
        ("silent holes", sum.silent),
        ("double", sum.doubles),
        ("out of order", sum.misordered),
        ("misdelivered", sum.misdelivered),
    ];
    let mut stated = vec![("delivered", sum.delivered), ("resumed", sum.resumed)];
    let by_fault = [
        ("missing after resumed:false", sum.told),
        ("presence events of clients that came back in time", told_events),
    ];
    if harmless {
        must_be_none.extend(by_fault)
    } else {
        stated.extend(by_fault)
    }
    for (name, count) in stated {
        row.figure(name, "", None, vec![count as f64]);
    }
    for (name, count) in must_be_none {
        row.figure(name, "", Some(0.0), vec![count as f64]);
        if count > 0 {
            row.fault(format!("{name}: {count}"));
        }
    }
    for (why, count) in &sum.why {
        row.note(format!("not resumed, {why}: {count}"));
    }
    for (what, count) in &sum.faults {
        row.fault(format!("{what}: {count}"));
    }
}
