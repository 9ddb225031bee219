//! The admin page of a busy cluster in a real browser.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    thread,
    time::Duration,
};

use testkit::{eventually, ws::Client};
use tungstenite::Message;

use crate::{TOKEN, cluster::Fleet, settings::ConfigFile, webhooks::TO_NOBODY};

/// Lives on im-2, and is larger than a browser's numbers.
const CLIENT: i64 = 9_007_199_254_740_995;
const METAS: [&str; 3] =
    ["laptop · Firefox · 10.0.0.7", "Pixel 9 · app 4.2 · 10.0.0.9", "iPad · Safari · 10.0.0.9"];
const CHANNELS: [&str; 6] = ["lobby", "news", "群聊1", "team:design", "order 4711", "release 0.2"];
/// What somebody may call himself and his channel who means no good.
const HOSTILE: [i64; 2] = [4711, 4714];
const HOSTILE_META: &str = "<script>hacked = 1</script>\"><img src=x onerror='hacked = 1'>";
const HOSTILE_CHANNEL: &str = "<img src=x onerror='hacked = 1'>";

/// A client's socket that is read now and then, which also answers pings.
struct Device {
    client: Client,
    texts: Vec<String>,
    closed: Option<u16>,
}

impl Device {
    fn connect(fleet: &Fleet, client: i64, meta: Option<&str>) -> Device {
        Device { client: fleet.connect(client, meta), texts: Vec::new(), closed: None }
    }

    /// Reads what has come.
    fn catch_up(&mut self) {
        self.client.raw().set_nonblocking(true).unwrap();
        while let Ok(message) = self.client.0.read() {
            match message {
                Message::Text(text) => self.texts.push(text.to_string()),
                Message::Close(frame) => self.closed = frame.map(|frame| frame.code.into()),
                _ => {}
            }
        }
        self.client.raw().set_nonblocking(false).unwrap();
    }

    fn gets(&mut self, message: &str) {
        eventually(message, || {
            self.catch_up();
            self.texts.iter().any(|text| text == message)
        });
    }
}

/// Connections come and go, and messages with them, until told to stop.
fn keep_busy(fleet: &Fleet, stop: &AtomicBool) {
    let mut clients: VecDeque<(i64, Device)> = VecDeque::new();
    let mut round = 0_i64;
    while !stop.load(Ordering::Relaxed) {
        round += 1;
        let wave = |length: f64| (round as f64 / length).sin();
        let wanted = 90 + (40.0 * wave(90.0)) as usize;
        if clients.len() < wanted {
            clients.push_back((round, Device::connect(fleet, round, None)));
            let channels =
                ["lobby", "news", "sports", "music", "help", "trading", "games", "travel"];
            let joined =
                channels.iter().enumerate().filter(|(at, _)| round % (*at as i64 + 1) == 0);
            fleet.im.join([round], joined.map(|(_, channel)| channel)).unwrap();
        } else if let Some((id, Device { client, .. })) = clients.pop_front() {
            match id % 3 {
                0 => fleet.im.kick(id).unwrap(),
                1 => drop(client),
                _ => client.leave(),
            }
        }
        let count = 3 + (2.5 * wave(37.0)) as usize;
        for _ in 0..count {
            fleet.im.send(imcore::Message::to_everyone(), "tick").unwrap();
        }
        for (_, device) in &mut clients {
            device.catch_up();
            device.texts.clear();
        }
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
    steps: Receiver<String>,
    go_on: ChildStdin,
}

impl Script {
    fn start(fleet: &Fleet) -> Script {
        let mut command = Command::new("node");
        command.arg(testkit::root().join("tests/admin/page.mjs"));
        command.args([format!("http://{}/", fleet.admin()), TOKEN.into(), CLIENT.to_string()]);
        command.args(std::env::var_os("ADMIN_SHOTS"));
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let (sender, steps) = channel();
        thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let go_on = process.stdin.take().unwrap();
        Script { process, steps, go_on }
    }

    /// Does what each step needs, up to `last`, or to the end of the script; and something every second.
    fn follow(&mut self, last: &str, mut act: impl FnMut(Option<&str>)) {
        loop {
            let step = match self.steps.recv_timeout(Duration::from_secs(1)) {
                Ok(step) => step,
                Err(RecvTimeoutError::Timeout) => {
                    act(None);
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if step != last {
                act(Some(&step));
            }
            writeln!(self.go_on).unwrap();
            if step == last {
                return;
            }
        }
    }
}

/// Needs Node and Chromium: `cargo test --test admin -- --ignored`. `ADMIN_SHOTS` names a folder for
/// pictures.
#[test]
#[ignore = "needs Node and Chromium"]
fn the_page_shows_the_cluster() {
    let file = ConfigFile::new(r#"{ "limits": { "connections": 80 } }"#);
    let flags = ["--admin-token", TOKEN, "--config", file.path(), "--webhook-retry", "0.2"];
    let mut fleet = Fleet::start(&[&flags[..], &TO_NOBODY].concat());
    let mut devices = METAS.map(|meta| Device::connect(&fleet, CLIENT, Some(meta)));
    fleet.im.join([CLIENT], CHANNELS).unwrap();
    let mut hostile = HOSTILE.map(|client| Device::connect(&fleet, client, Some(HOSTILE_META)));
    fleet.im.join(HOSTILE, [HOSTILE_CHANNEL]).unwrap();
    fleet.im.join(1_000_000..1_000_128, ["announcements"]).unwrap();
    let mut script = Script::start(&fleet);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| keep_busy(&fleet, &stop));
        let _stop = Stop(&stop);
        script.follow("quiet", |step| match step {
            None => devices.iter_mut().chain(&mut hostile).for_each(Device::catch_up),
            Some("sent to the client") => {
                let message = r#"{"id": 9007199254740993, "text": "from the page"}"#;
                devices.iter_mut().for_each(|device| device.gets(message));
            }
            Some("sent to the channel") => {
                devices.iter_mut().for_each(|device| device.gets(r#""plain <b>text</b> for $1""#));
            }
            Some("kicked") => devices.iter_mut().for_each(|device| {
                eventually("closed", || {
                    device.catch_up();
                    device.closed == Some(4001)
                });
            }),
            Some(other) => panic!("{other:?} is no step"),
        });
    });
    script.follow("", |step| match step {
        None => {}
        Some("kill") => fleet.nodes[1].signal("KILL"),
        Some("redis hangs") => fleet.signal_redis("STOP"),
        Some("redis goes on") => fleet.signal_redis("CONT"),
        Some("redis away") => fleet.redis.stop(),
        Some("redis back") => fleet.redis.start_again(),
        Some(other) => panic!("{other:?} is no step"),
    });
    assert!(script.process.wait().unwrap().success());
}
