//! The admin page of a busy cluster in a real browser.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Lines, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{TOKEN, cluster::Fleet, eventually, root, settings::ConfigFile, ws::Client};

/// Lives on im-2, and is larger than a browser's numbers.
const CLIENT: i64 = 9_007_199_254_740_995;
const METAS: [&str; 3] =
    ["laptop · Firefox · 10.0.0.7", "Pixel 9 · app 4.2 · 10.0.0.9", "iPad · Safari · 10.0.0.9"];
const ROOMS: [&str; 6] = ["lobby", "news", "群聊1", "team:design", "order 4711", "release 0.2"];
/// What somebody may call himself and his room who means no good.
const HOSTILE: [i64; 2] = [4711, 4714];
const HOSTILE_META: &str = "<script>hacked = 1</script>\"><img src=x onerror='hacked = 1'>";
const HOSTILE_ROOM: &str = "<img src=x onerror='hacked = 1'>";

/// Reads what has come, and so answers pings.
fn catch_up(client: &mut Client) {
    client.raw().set_nonblocking(true).unwrap();
    while client.0.read().is_ok() {}
    client.raw().set_nonblocking(false).unwrap();
}

/// Connections come and go, and messages with them, until told to stop.
fn keep_busy(fleet: &Fleet, stop: &AtomicBool) {
    let mut clients: VecDeque<(i64, Client)> = VecDeque::new();
    let mut round = 0_i64;
    while !stop.load(Ordering::Relaxed) {
        round += 1;
        let wave = |length: f64| (round as f64 / length).sin();
        let wanted = 90 + (40.0 * wave(90.0)) as usize;
        if clients.len() < wanted {
            clients.push_back((round, fleet.connect(round, None)));
            let rooms = ["lobby", "news", "sports", "music", "help", "trading", "games", "travel"];
            let joined = rooms.iter().enumerate().filter(|(at, _)| round % (*at as i64 + 1) == 0);
            fleet.im.join_chan(round, joined.map(|(_, room)| room)).unwrap();
        } else if let Some((id, client)) = clients.pop_front() {
            match id % 3 {
                0 => fleet.im.force_offline(id).unwrap(),
                1 => drop(client),
                _ => client.leave(),
            }
        }
        let count = 3 + (2.5 * wave(37.0)) as usize;
        (0..count).for_each(|_| fleet.im.send_broadcast_message("tick").unwrap());
        clients.iter_mut().for_each(|(_, client)| catch_up(client));
        thread::sleep(Duration::from_millis(20));
    }
}

/// Ends the load however the test ends.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The script in the browser, which says what is to happen on this side, and waits for it.
struct Script {
    process: Child,
    steps: Lines<BufReader<ChildStdout>>,
    go_on: ChildStdin,
}

impl Script {
    fn start(fleet: &Fleet) -> Script {
        let mut command = Command::new("node");
        command.arg(root().join("tests/admin/page.mjs"));
        command.args([format!("http://{}/", fleet.admin()), TOKEN.into(), CLIENT.to_string()]);
        command.args(std::env::var_os("ADMIN_SHOTS"));
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let steps = BufReader::new(process.stdout.take().unwrap()).lines();
        let go_on = process.stdin.take().unwrap();
        Script { process, steps, go_on }
    }

    /// Does what each step needs, up to `last`, or to the end of the script.
    fn follow(&mut self, last: &str, mut act: impl FnMut(&str)) {
        while let Some(Ok(step)) = self.steps.next() {
            if step != last {
                act(&step);
            }
            writeln!(self.go_on).unwrap();
            if step == last {
                return;
            }
        }
    }
}

/// Reads on until `device` gets this message.
fn gets(device: &mut Client, message: &Value) {
    eventually("the message", || device.json() == *message);
}

/// Needs Node and Chromium: `cargo test --test admin -- --ignored`. `ADMIN_SHOTS` names a folder for
/// pictures.
#[test]
#[ignore = "needs Node and Chromium"]
fn the_page_shows_the_cluster() {
    let file = ConfigFile::new(r#"{ "limits": { "connections": 80 } }"#);
    let mut fleet = Fleet::start(&["--admin-token", TOKEN, "--config", file.path()]);
    let mut devices = METAS.map(|meta| fleet.connect(CLIENT, Some(meta)));
    fleet.im.join_chan(CLIENT, ROOMS).unwrap();
    let mut hostile = HOSTILE.map(|client| fleet.connect(client, Some(HOSTILE_META)));
    fleet.im.join_chan_clients(HOSTILE_ROOM, HOSTILE).unwrap();
    fleet.im.join_chan_clients("announcements", 1_000_000..1_000_128).unwrap();
    let mut script = Script::start(&fleet);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| keep_busy(&fleet, &stop));
        let _stop = Stop(&stop);
        script.follow("quiet", |step| match step {
            "a second passes" => devices.iter_mut().chain(&mut hostile).for_each(catch_up),
            "sent to the client" => {
                let message = json!({ "text": "from the page" });
                devices.iter_mut().for_each(|device| gets(device, &message));
            }
            "sent to the room" => {
                devices.iter_mut().for_each(|device| gets(device, &json!("plain <b>text</b>")));
            }
            "kicked" => {
                devices.iter_mut().for_each(|device| assert_eq!(device.closed(), Some(4001)));
            }
            other => panic!("{other:?} is no step"),
        });
    });
    script.follow("", |step| match step {
        "kill" => fleet.nodes[1].signal("KILL"),
        "redis away" => fleet.redis.stop(),
        "redis back" => fleet.redis.start_again(),
        other => panic!("{other:?} is no step"),
    });
    assert!(script.process.wait().unwrap().success());
}
