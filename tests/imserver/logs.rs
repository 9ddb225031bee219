//! A log that nobody reads, or that cannot be written: the node goes on as if nothing were.

use std::{
    fs::{self, OpenOptions},
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, ChildStderr, Command, Stdio},
    sync::mpsc::channel,
    thread,
};

use imcore::{ImClient, Message};
use testkit::{
    Imserver, PATIENCE, Redis, eventually,
    ws::{Client, exchange},
};

/// The first of two nodes, with every line.
const A_OF_TWO: [&str; 8] =
    ["--listen", "127.0.0.1:0", "--servers", "a,b", "--server", "a", "--log", "debug"];

const TOKEN: &str = "0123456789abcdef-token";

/// A node whose log is read up to the line that names its API, and then no more.
struct Unread {
    child: Child,
    log: Option<BufReader<ChildStderr>>,
    address: SocketAddr,
    admin: SocketAddr,
}

impl Unread {
    fn start(args: &[&str]) -> Unread {
        let mut child = imserver(args).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut read_until = |mark: &str| {
            let mut line = String::new();
            while !line.contains(mark) {
                line.clear();
                assert_ne!(log.read_line(&mut line).unwrap(), 0, "no line with {mark}");
            }
            line[line.find(mark).unwrap() + mark.len()..].to_owned()
        };
        let address = read_until(" listens on ").split(',').next().unwrap().parse().unwrap();
        let admin = read_until("admin at http://").split('/').next().unwrap().parse().unwrap();
        Unread { child, log: Some(log), address, admin }
    }

    /// The answer of the admin listener.
    fn ask(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.admin).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n",
            self.admin
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn dropped(&self) -> u64 {
        let page = self.ask("/metrics");
        let line =
            page.lines().find_map(|line| line.strip_prefix("imcore_log_lines_dropped_total "));
        line.unwrap().parse().unwrap()
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    fn ends(&mut self) -> Option<i32> {
        eventually("the process ends", || self.child.try_wait().unwrap().is_some());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn imserver(args: &[&str]) -> Command {
    let mut command = Command::new(testkit::imserver::program());
    command
        .args(args)
        .env("IMSERVER_ADMIN_TOKEN", TOKEN)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

/// A node at level debug, under a flood of peers each of whom is a line, with a pipe that nobody reads.
#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let redis = Redis::start();
    let url = redis.url();
    // Handshakes that fail are limited otherwise.
    let file = std::env::temp_dir().join(format!("imcore-logs-{}.json", std::process::id()));
    fs::write(&file, r#"{"limits": {"failures_per_address": 0}}"#).unwrap();
    let config = file.display().to_string();
    let mut node = Unread::start(
        &[
            &A_OF_TWO[..],
            &["--config", &config, "--redis", &url],
            &["--admin", "127.0.0.1:0", "--reactors", "1"],
        ]
        .concat(),
    );
    let im = ImClient::builder().servers(["a", "b"]).redis(&url).build().unwrap();
    let connect = |id: i64| {
        let url = im.connect_url(id, None).unwrap();
        Client::connect(node.address, &url)
    };
    eventually("ready", || node.ask("/health/ready").contains("200"));
    let mut stays = connect(2).unwrap();
    // Far more than a pipe and the queue behind it hold: lines of acceptor, ticket thread and reactor.
    let long = "x".repeat(100);
    while node.dropped() == 0 {
        for _ in 0..200 {
            assert!(exchange(node.address, b"GET /no HTTP/1.1\r\nHost: x\r\n\r\n").contains("404"));
        }
        assert_eq!(connect(3).err(), Some(421));
        drop(connect(4).unwrap());
    }
    im.send(Message::to([2]), &long).unwrap();
    assert!(stays.text().contains(&long));
    assert!(node.ask("/health/live").contains("200"));
    assert!(node.ask("/health/ready").contains("200"));
    // Once somebody reads on, the log says what is missing, in its place.
    let (sender, lines) = channel();
    let mut log = node.log.take().unwrap();
    let reader = thread::spawn(move || {
        let mut line = String::new();
        while log.read_line(&mut line).unwrap() > 0 {
            let _ = sender.send(std::mem::take(&mut line));
        }
    });
    let missing = lines.iter().find(|line| line.contains("log lines are missing here"));
    assert!(missing.is_some_and(|line| line.contains("WARN")));
    node.signal("TERM");
    assert_eq!(node.ends(), Some(0));
    reader.join().unwrap();
    assert!(lines.iter().any(|line| line.contains("stopped")), "the last line is there");
    fs::remove_file(file).unwrap();
}

/// Standard error that takes nothing: full, and with nobody at the other end.
fn broken() -> [Stdio; 2] {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    [full.into(), writer.into()]
}

#[test]
fn exit_codes_do_not_depend_on_who_reads_the_log() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let cases: [(&[&str], i32); 6] = [
        (&["--servers", "a,b", "--server", "c"], 2),
        (&["--no-such-flag"], 2),
        (&["--listen", "nonsense", "--log-format", "json"], 2),
        (&["--listen", &taken], 1),
        (&["--listen", &taken, "--log-format", "json"], 1),
        (&["--health"], 1),
    ];
    for (args, expected) in cases {
        for stderr in broken() {
            let code = imserver(args).stderr(stderr).status().unwrap().code();
            assert_eq!(code, Some(expected), "{args:?}");
        }
    }
}

#[test]
fn a_node_with_a_broken_log_stops_in_good_order() {
    for stderr in broken() {
        let port = testkit::port();
        let admin = SocketAddr::from(([127, 0, 0, 1], port));
        let args = ["--listen", "127.0.0.1:0", "--admin", &admin.to_string()];
        let child = imserver(&args).stderr(stderr).spawn().unwrap();
        let mut node = Unread { child, log: None, address: admin, admin };
        eventually("it listens", || TcpStream::connect(admin).is_ok());
        eventually("ready", || node.ask("/health/ready").contains("200"));
        eventually("counted", || node.dropped() > 0);
        node.signal("TERM");
        assert_eq!(node.ends(), Some(0));
    }
}

#[test]
fn one_stop_that_is_told_twice_is_one() {
    let mut node = Unread::start(&["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    node.signal("TERM");
    node.signal("INT");
    assert_eq!(node.ends(), Some(0));
}

/// What a line names can be filtered by, without taking its text apart.
#[test]
fn json_lines_have_fields() {
    let redis = Redis::start();
    let url = redis.url();
    let process =
        Imserver::start(&[&A_OF_TWO[..], &["--redis", &url, "--log-format", "json"]].concat());
    eventually("listens", || process.log().contains(" listens on "));
    let address = process.address();
    let im = ImClient::builder().servers(["a", "b"]).redis(&url).build().unwrap();
    let connect = |id: i64| Client::connect(address, &im.connect_url(id, None).unwrap());
    eventually("ready", || connect(2).is_ok());
    assert_eq!(connect(3).err(), Some(421));
    let line = |mark: &str| {
        process.says(mark);
        let log = process.log();
        let line = log.lines().find(|line| line.contains(mark)).unwrap().to_owned();
        serde_json::from_str::<serde_json::Value>(&line).unwrap()
    };
    let ended = line(" reason=");
    assert_eq!(ended["client"], "2");
    assert!(ended["connection"].is_u64() && ended["reason"].is_string(), "{ended}");
    let refused = line(" refused: 421");
    assert_eq!(refused["status"], 421);
    assert_eq!(refused["address"], "127.0.0.1");
    let astray = line("belongs to node");
    assert_eq!((&astray["client"], &astray["owner"]), (&"3".into(), &"b".into()));
    for line in [ended, refused, astray, line("handshakes refused")] {
        assert_eq!(line["node"], "a", "{line}");
        for field in ["time", "level", "target", "message"] {
            assert!(line[field].is_string(), "{line}");
        }
    }
}

/// An outage begins as one thing and goes on as another: what helps is mostly the second.
#[test]
fn another_reason_of_an_outage_is_said() {
    let redis = Redis::start();
    let node =
        Imserver::start(&["--listen", "127.0.0.1:0", "--server", "n", "--redis", &redis.url()]);
    let address = node.address();
    eventually("ready", || Client::connect(address, "ws://x/ws?token=no").err() == Some(401));
    let mut connection = redis.connect();
    let run = |connection: &mut redis::Connection, words: &[&str]| {
        redis::cmd(words[0]).arg(&words[1..]).exec(connection).unwrap();
    };
    // The subscription is cut, and every attempt after that is refused.
    run(&mut connection, &["CONFIG", "SET", "requirepass", "changed"]);
    run(&mut connection, &["CLIENT", "KILL", "TYPE", "pubsub"]);
    run(&mut connection, &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    eventually("the reason", || {
        let log = node.log();
        let mut lines = log.lines().filter(|line| line.contains("node n hears nothing"));
        lines.any(|line| line.contains("user or password is missing or wrong"))
    });
    let log = node.log();
    let lines = log.lines().filter(|line| line.contains("node n hears nothing")).count();
    assert!(lines <= 8, "each reason is said once: {log}");
}
