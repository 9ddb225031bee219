//! Running `imserver`: its settings, its admin listener and its log, as an operator meets them.

#[path = "imserver/process.rs"]
#[allow(dead_code)]
mod process;
#[path = "support/redis.rs"]
mod redis_server;
#[path = "support/ws.rs"]
mod ws;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
};

use imcore::ImClient;
use process::{LONG, Process, eventually, outcome};
use redis_server::RedisServer;
use ws::Client;

const TOKEN: &str = "0123456789abcdef-token";

// --- Asking the admin listener -------------------------------------------------------------------

/// Where a process says that its admin listener is.
fn admin_of(process: &Process) -> SocketAddr {
    process.says("admin at http://");
    let log = process.log();
    let rest = &log[log.find("admin at http://").unwrap() + "admin at http://".len()..];
    rest.split('/').next().unwrap().parse().unwrap()
}

/// Status and body of the answer to a request with these further header lines.
fn ask(admin: SocketAddr, request: &str, headers: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(admin).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    let host = if headers.contains("Host: ") { "" } else { "Host: localhost\r\n" };
    write!(stream, "{request} HTTP/1.1\r\n{host}{headers}\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").expect("a whole head");
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

fn get(admin: SocketAddr, path: &str) -> (u16, String) {
    ask(admin, &format!("GET {path}"), "Host: localhost\r\n")
}

/// All samples of `/metrics`, each with its labels as they stand there.
fn metrics(admin: SocketAddr) -> BTreeMap<String, f64> {
    let (status, text) = get(admin, "/metrics");
    assert_eq!(status, 200, "{text}");
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let pair = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap())
    };
    samples.map(pair).collect()
}

fn stats(admin: SocketAddr) -> serde_json::Value {
    serde_json::from_str(&get(admin, "/stats").1).unwrap()
}

/// A node on `redis` with an admin listener, once it is ready.
fn node(redis: &RedisServer, extra: &[&str]) -> (Process, SocketAddr) {
    let url = redis.url();
    let args =
        ["--listen", "127.0.0.1:0", "--server", "n", "--redis", &url, "--admin", "127.0.0.1:0"];
    let process = Process::start(&[&args[..], extra].concat());
    let admin = admin_of(&process);
    eventually("ready", || get(admin, "/health/ready").0 == 200);
    (process, admin)
}

#[test]
fn readiness_follows_redis_and_liveness_does_not() {
    let mut redis = RedisServer::start();
    let (_node, admin) = node(&redis, &[]);
    assert_eq!(get(admin, "/health/ready"), (200, "ready\n".into()));
    redis.stop();
    eventually("not ready", || get(admin, "/health/ready").0 == 503);
    let (_, why) = get(admin, "/health/ready");
    assert!(why.starts_with("subscription: ") || why.starts_with("lease: "), "{why}");
    assert_eq!(why.lines().count(), 1);
    assert_eq!(get(admin, "/health/live"), (200, "live\n".into()));
    assert_eq!(metrics(admin)["imcore_ready"], 0.0);
    // The lease is renewed every few seconds, and only then found to be in doubt.
    let failed = "imcore_broker_call_errors_total{call=\"renew\"}";
    eventually("a renewal fails", || metrics(admin)[failed] > 0.0);
    eventually("no lease", || metrics(admin)["imcore_lease_held"] == 0.0);
    redis.start_again();
    eventually("ready again", || get(admin, "/health/ready").0 == 200);
    eventually("proven", || metrics(admin)["imcore_feed_lag_seconds"] > 0.0);
    let metrics = metrics(admin);
    assert_eq!((metrics["imcore_ready"], metrics["imcore_lease_held"]), (1.0, 1.0));
}

#[test]
fn a_draining_node_is_not_ready_but_answers() {
    let redis = RedisServer::start();
    let (process, admin) = node(&redis, &["--drain", "600"]);
    let im = ImClient::builder().servers(["n"]).redis(redis.url()).build().unwrap();
    let url = im.prev_connect_server(1, None).unwrap();
    let _clients: Vec<_> = (0..2)
        .map(|_| Client::connect(process.address(), &im.prev_connect_server(1, None).unwrap()))
        .collect();
    eventually("connected", || metrics(admin)["imcore_connections"] == 2.0);
    process.signal("TERM");
    eventually("stopping", || get(admin, "/health/ready") == (503, "stopping\n".into()));
    assert_eq!(get(admin, "/health/live").0, 200);
    drop(url);
}

#[test]
fn metrics_add_up() {
    let redis = RedisServer::start();
    let (process, admin) = node(&redis, &[]);
    let im = ImClient::builder().servers(["n"]).redis(redis.url()).build().unwrap();
    let connect = |id: i64| {
        let url = im.prev_connect_server(id, None).unwrap();
        Client::connect(process.address(), &url).unwrap()
    };
    let (mut one, mut two) = (connect(1), connect(2));
    assert_eq!(Client::connect(process.address(), "ws://x/ws?token=none").err(), Some(401));
    for _ in 0..5 {
        im.send_message(1, [2], "hi", true).unwrap();
        assert_eq!(two.text(), "\"hi\"");
        one.json();
    }
    im.send_broadcast_message("all").unwrap();
    assert_eq!((one.text(), two.text()), ("\"all\"".into(), "\"all\"".into()));
    im.force_offline(2).unwrap();
    assert_eq!(two.closed(), Some(4001));
    drop(two);
    let kicked = "imcore_connections_closed_total{reason=\"kicked\"}";
    eventually("closed", || metrics(admin)[kicked] == 1.0);
    eventually("told", || metrics(admin)["imcore_presence_changes_waiting"] == 0.0);
    eventually("sent", || metrics(admin)["imcore_receipts_waiting"] == 0.0);
    let seen = metrics(admin);
    assert_eq!(seen["imcore_connections"], 1.0);
    assert_eq!(seen["imcore_connections_opened_total"], 2.0);
    assert_eq!(seen["imcore_handshakes_refused_total{status=\"401\"}"], 1.0);
    // Five messages, five receipts, one broadcast to two.
    assert_eq!(seen["imcore_messages_offered_total"], 12.0);
    assert_eq!(seen["imcore_messages_delivered_total"], 12.0);
    assert_eq!((seen["imcore_messages_dropped_total"], seen["imcore_messages_queued"]), (0.0, 0.0));
    assert_eq!(seen["imcore_reactor_inbox_commands{reactor=\"1\"}"], 0.0);
    for call in ["tickets", "report", "renew", "publish"] {
        let count = seen[&format!("imcore_broker_call_seconds_count{{call=\"{call}\"}}")];
        let last =
            seen[&format!("imcore_broker_call_seconds_bucket{{call=\"{call}\",le=\"+Inf\"}}")];
        assert!(count > 0.0 && count == last, "{call}: {count}, {last}");
    }
    assert!(seen["imcore_lease_age_seconds"] < 7.0);
    let stats = stats(admin);
    assert_eq!(stats["connections"]["open"], 1);
    assert_eq!(stats["connections"]["closed"]["kicked"], 1);
    assert_eq!(stats["connections"]["refused"]["401"], 1);
    assert_eq!(stats["messages"]["delivered"], 12);
    assert_eq!(stats["reactors"], serde_json::json!([0, 0]));
    assert_eq!((&stats["ready"], &stats["node"]), (&true.into(), &"n".into()));
}

#[test]
fn the_dashboard_names_metrics_that_exist() {
    let redis = RedisServer::start();
    let (_node, admin) = node(&redis, &[]);
    let names: BTreeSet<_> = metrics(admin)
        .into_keys()
        .map(|sample| sample.split('{').next().unwrap().to_owned())
        .collect();
    let text = fs::read_to_string(root().join("deploy/grafana.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut used = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let words =
                target["expr"].as_str().unwrap().split(|c: char| !c.is_alphanumeric() && c != '_');
            let found: Vec<_> = words.filter(|word| word.starts_with("imcore_")).collect();
            assert!(!found.is_empty(), "{target}");
            used.extend(found.into_iter().map(str::to_owned));
        }
    }
    let missing: Vec<_> = used.difference(&names).collect();
    assert!(missing.is_empty(), "{missing:?}");
    // What is counted is also shown; these say what a dashboard does not draw.
    let unseen: Vec<_> = names.difference(&used).collect();
    assert_eq!(unseen, ["imcore_node_info", "imcore_uptime_seconds"]);
}

// --- Who may ask ---------------------------------------------------------------------------------

#[test]
fn a_token_is_required_off_loopback_and_asked_for() {
    let (code, message) = outcome(&["--listen", "127.0.0.1:0", "--admin", "0.0.0.0:0"]);
    assert_eq!(code, Some(2), "{message}");
    assert!(
        message.contains("admin: 0.0.0.0:0") && message.contains("IMSERVER_ADMIN_TOKEN="),
        "{message}"
    );
    let (code, message) = outcome(&["--listen", "127.0.0.1:0", "--admin-token", "short-secret"]);
    assert_eq!(code, Some(2), "{message}");
    assert!(message.contains("--admin-token") && !message.contains("short-secret"), "{message}");

    let args = ["--listen", "127.0.0.1:0", "--admin", "0.0.0.0:0", "--admin-token", TOKEN];
    let process = Process::start(&args);
    let admin = SocketAddr::from(([127, 0, 0, 1], admin_of(&process).port()));
    for path in ["/metrics", "/stats", "/nowhere"] {
        assert_eq!(get(admin, path).0, 401, "{path}");
        for wrong in
            ["0123456789abcdef-tokex", "0123456789abcdef-toke", "0123456789abcdef-token1", ""]
        {
            let header = format!("Authorization: Bearer {wrong}\r\n");
            assert_eq!(ask(admin, &format!("GET {path}"), &header).0, 401, "{wrong}");
        }
    }
    let good = format!("Host: anything.example\r\nAuthorization: Bearer {TOKEN}\r\n");
    assert_eq!(ask(admin, "GET /metrics", &good).0, 200);
    assert_eq!(ask(admin, "GET /nowhere", &good).0, 404);
    // Probes carry no token; the page asks for it.
    assert_eq!(get(admin, "/health/live").0, 200);
    eventually("ready", || get(admin, "/health/ready").0 == 200);
    assert_eq!(get(admin, "/").0, 200);
    assert!(!process.log().contains(TOKEN), "{}", process.log());
}

#[test]
fn without_a_token_a_foreign_name_is_refused() {
    let process = Process::start(&["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    let admin = admin_of(&process);
    assert_eq!(ask(admin, "GET /stats", "Host: rebound.example\r\n").0, 403);
    assert_eq!(ask(admin, "GET /stats", &format!("Host: {admin}\r\n")).0, 200);
}

#[test]
fn hostile_peers_do_not_keep_others_out() {
    let process = Process::start(&["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    let admin = admin_of(&process);
    let before = process.memory();
    // Three times as many as there may be, each in the middle of its head.
    let mut stuck: Vec<_> = (0..100).map(|_| TcpStream::connect(admin).unwrap()).collect();
    for stream in &mut stuck {
        let _ = stream.write_all(b"GET /health/live HTTP/1.1\r\n");
    }
    for _ in 0..100 {
        assert_eq!(get(admin, "/health/live").0, 200);
    }
    let after = process.memory();
    assert!(after < before + (16 << 10), "{before} KiB before, {after} KiB after");
    // The oldest were cut, long before their time was over.
    stuck[0].set_read_timeout(Some(LONG)).unwrap();
    assert!(matches!(stuck[0].read(&mut [0]), Ok(0) | Err(_)));
    drop(stuck);
    assert_eq!(ask(admin, "GET /health/live", &format!("X: {}\r\n", "x".repeat(9000))).0, 431);
    assert_eq!(ask(admin, "POST /stats", "Host: localhost\r\nContent-Length: 3\r\n\r\nabc").0, 405);
    assert_eq!(ask(admin, "nonsense", "").0, 400);
    assert_eq!(ask(admin, "HEAD /health/live", "").1, "");
    assert_eq!(get(admin, "/health/live").0, 200);
}

// --- Settings ------------------------------------------------------------------------------------

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A configuration file of its own.
struct ConfigFile(PathBuf);

impl ConfigFile {
    fn new(text: &str) -> ConfigFile {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("imcore-config-{}-{number}.json", std::process::id());
        let file = ConfigFile(std::env::temp_dir().join(name));
        file.write(text);
        file
    }

    fn write(&self, text: &str) {
        fs::write(&self.0, text).unwrap();
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for ConfigFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Runs to the end, with nothing but this in the environment.
fn run(args: &[&str], environment: &[(&str, &str)]) -> Output {
    let path = std::env::var_os("PATH").unwrap_or_default();
    Command::new(env!("CARGO_BIN_EXE_imserver"))
        .args(args)
        .env_clear()
        .env("PATH", path)
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// What `--check` shows: value and source of each setting.
fn check(args: &[&str], environment: &[(&str, &str)]) -> BTreeMap<String, (String, String)> {
    let output = run(&[args, &["--check"]].concat(), environment);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    let line = |line: &str| {
        let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        let [name, value, source] = &words[..] else { panic!("{line}") };
        (name.clone(), (value.clone(), source.clone()))
    };
    text.lines().map(line).collect()
}

/// The message of a start that fails with code 2.
fn mistake(args: &[&str], environment: &[(&str, &str)]) -> String {
    let output = run(args, environment);
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{args:?} {environment:?}: {message}");
    assert!(!message.contains("panicked"), "{message}");
    message
}

#[test]
fn a_flag_wins_over_the_environment_over_the_file_over_the_default() {
    let file =
        ConfigFile::new(r#"{"path": "/file", "prefix": "file", "reactors": 3, "log": "warn"}"#);
    let environment =
        [("IMSERVER_PATH", "/env"), ("IMSERVER_PREFIX", "env"), ("IMSERVER_CONFIG", file.path())];
    let seen = check(&["--path", "/flag"], &environment);
    let is = |name: &str| (seen[name].0.as_str(), seen[name].1.as_str());
    assert_eq!(is("path"), ("/flag", "flag"));
    assert_eq!(is("prefix"), ("env", "environment"));
    assert_eq!(is("reactors"), ("3", file.path()));
    assert_eq!(is("log"), ("warn", file.path()));
    assert_eq!(is("listen"), ("127.0.0.1:6001", "default"));
    // An empty variable counts as not given; a flag for the file wins over the variable for it.
    let other =
        ConfigFile::new(r#"{"prefix": "other", "limits": {"drain_over": 2.5, "lease": 9}}"#);
    let environment = [("IMSERVER_PREFIX", ""), ("IMSERVER_CONFIG", file.path())];
    let seen = check(&["--config", other.path()], &environment);
    assert_eq!(seen["prefix"].0, "other");
    assert_eq!(seen["limits.lease"], ("9".into(), other.path().into()));
    assert_eq!(seen["limits.drain_over"].0, "2.5");
    let seen = check(&["--config", other.path(), "--drain", "7"], &[]);
    assert_eq!(seen["limits.drain_over"].0, "7");
    let help = String::from_utf8(run(&["--help"], &[]).stdout).unwrap();
    assert!(help.contains("the first that is given wins"), "{help}");
}

#[test]
fn mistakes_name_setting_value_source_and_an_example() {
    let cases: [(&str, &[&str]); 14] = [
        (r#"{"lisen": "127.0.0.1:1"}"#, &["\"lisen\"", "\"listen\""]),
        (
            r#"{"limits": {"outbox_byte": 1}}"#,
            &["\"limits.outbox_byte\"", "\"limits.outbox_bytes\""],
        ),
        (r#"{"listen": "here"}"#, &["listen in ", "\"here\"", "\"listen\": \"0.0.0.0:6001\""]),
        (r#"{"reactors": 1.5}"#, &["reactors in ", "1.5", "\"reactors\": 4"]),
        (r#"{"reactors": 0}"#, &["reactors: 0", "reactors in "]),
        (r#"{"servers": "a,b"}"#, &["servers in ", "an array of texts", "[\"10.0.0.1:6001\", "]),
        (
            r#"{"servers": ["a", "a"], "server": "a"}"#,
            &["servers: \"a\" is listed twice", "servers in "],
        ),
        (r#"{"path": "ws"}"#, &["path: \"ws\"", "for example /ws", "path in "]),
        (r#"{"log": "loud"}"#, &["log in ", "\"loud\"", "\"log\": \"info\""]),
        (r#"{"redis": "http://secret@x"}"#, &["redis in ", "redis://user:password@host:6379/0"]),
        (r#"{"limits": {"lease": -1}}"#, &["limits.lease in ", "-1", "\"lease\": 7"]),
        (r#"{"limits": {"lease": 0}}"#, &["limits.lease: 0 is not usable"]),
        (r#"{"drain": 3, "limits": {"drain_over": 3}}"#, &["drain and limits.drain_over"]),
        ("nonsense", &["is not a JSON object", "for example"]),
    ];
    for (text, parts) in cases {
        let file = ConfigFile::new(text);
        let message = mistake(&["--config", file.path()], &[]);
        for part in parts.iter().chain([&file.path()]) {
            // What the library finds names the file only where a key is at fault.
            assert!(message.contains(part), "{text}: {part}: {message}");
        }
        assert!(!message.contains("secret"), "{message}");
    }
    let message = mistake(&["--config", "/no/such/file.json"], &[]);
    assert!(message.contains("--config") && message.contains("/no/such/file.json"), "{message}");
    let message = mistake(&[], &[("IMSERVER_PUBLIC_URL", "http://x")]);
    assert!(message.contains("IMSERVER_PUBLIC_URL: \"http://x\""), "{message}");
    assert!(message.contains("IMSERVER_PUBLIC_URL=wss://"), "{message}");
}

#[test]
fn check_binds_nothing_and_shows_no_secret() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let redis = "redis://user:verysecret@127.0.0.1:1/0";
    let args =
        ["--listen", &address, "--redis", redis, "--admin", &address, "--admin-token", TOKEN];
    let output = run(&[&args[..], &["--check"]].concat(), &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(text.contains("127.0.0.1:1") && text.contains(&address), "{text}");
    assert!(!text.contains("verysecret") && !text.contains(TOKEN), "{text}");
}

#[test]
fn the_example_file_is_good_and_has_every_key() {
    let path = root().join("deploy/imserver.example.json");
    let text = fs::read_to_string(&path).unwrap();
    let example: serde_json::Value = serde_json::from_str(&text).unwrap();
    let seen = check(&["--config", path.to_str().unwrap()], &[]);
    let defaults = check(&[], &[]);
    for name in defaults.keys() {
        let (place, key) = match name.strip_prefix("limits.") {
            Some(key) => (&example["limits"], key),
            None => (&example, name.as_str()),
        };
        assert!(place.get(key).is_some(), "{name} is missing");
        assert!(place.get(format!("// {key}")).is_some(), "{name} is not explained");
        if name != "admin" {
            assert_eq!(seen[name].0, defaults[name].0, "{name} is not the default");
        }
    }
}

#[test]
fn completions_know_the_flags() {
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&["--completions", shell], &[]);
        assert_eq!(output.status.code(), Some(0));
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(script.contains("admin-token") && script.contains("forwarded-for"), "{script}");
    }
    let script = run(&["--completions", "bash"], &[]).stdout;
    let file = ConfigFile::new(std::str::from_utf8(&script).unwrap());
    assert!(Command::new("bash").args(["-n", file.path()]).status().unwrap().success());
    let version = String::from_utf8(run(&["--version"], &[]).stdout).unwrap();
    assert_eq!(version.trim(), concat!("imserver ", env!("CARGO_PKG_VERSION")));
}

// --- Log and reload ------------------------------------------------------------------------------

/// The messages of a log in which every line is a JSON object.
fn messages(log: &str) -> Vec<String> {
    let line = |line: &str| {
        let entry: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        for key in ["time", "level", "target", "message"] {
            assert!(entry[key].is_string(), "{line}");
        }
        entry["message"].as_str().unwrap().to_owned()
    };
    log.lines().map(line).collect()
}

#[test]
fn json_logs_are_one_object_per_line_to_the_end() {
    let args = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-format", "json"];
    let mut process = Process::start(&[&args[..], &["--server", "a\\\"b"]].concat());
    admin_of(&process);
    process.signal("TERM");
    assert_eq!(process.ends().code(), Some(0));
    eventually("the last line", || {
        process.log().ends_with("\"}\n") && process.log().contains("stopped")
    });
    let messages = messages(&process.log());
    assert!(messages.iter().any(|text| text.starts_with("node a\\\"b listens on 127.0.0.1:")));
    assert!(messages.iter().any(|text| text.contains("2 reactors; up to ")), "{messages:?}");
    // What ends the program is told in the same way.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, log) = outcome(&["--listen", &address, "--log-format", "json"]);
    assert_eq!(code, Some(1));
    assert!(self::messages(&log).last().unwrap().contains(&address), "{log}");
}

#[test]
fn sighup_reloads_what_can_change_and_names_what_cannot() {
    let settings = |token: &str, more: &str| {
        format!(
            r#"{{"listen": "127.0.0.1:0", "admin": "127.0.0.1:0", "admin_token": "{token}"{more}}}"#
        )
    };
    let file = ConfigFile::new(&settings(TOKEN, ""));
    let process = Process::start(&["--config", file.path()]);
    let admin = admin_of(&process);
    let status =
        |token: &str| ask(admin, "GET /stats", &format!("Authorization: Bearer {token}\r\n")).0;
    assert_eq!(status(TOKEN), 200);
    assert!(!process.log().contains("refused: 401"));

    let next = "another-token-0123456789";
    file.write(&settings(next, r#", "log": "debug", "path": "/other""#));
    process.signal("HUP");
    process.says("these wait for the next start: path");
    assert!(process.log().contains("changed: admin_token, log\n"), "{}", process.log());
    assert_eq!((status(TOKEN), status(next)), (401, 200));
    eventually("ready", || get(admin, "/health/ready").0 == 200);
    assert_eq!(Client::connect(process.address(), "ws://x/ws?token=none").err(), Some(401));
    process.says("refused: 401");

    file.write("{\"log\": 1}");
    process.signal("HUP");
    process.says("the settings stay as they are");
    assert_eq!(status(next), 200);

    file.write(&settings(next, r#", "log_format": "json""#));
    process.signal("HUP");
    process.says("\"message\":\"settings read again; changed: log, log_format\"");
}

// --- The page ------------------------------------------------------------------------------------

/// Connections come and go, and messages with them, until told to stop.
fn keep_busy(node: SocketAddr, im: &ImClient, stop: &AtomicBool) {
    let mut clients = std::collections::VecDeque::new();
    let mut round = 0_u32;
    while !stop.load(Ordering::Relaxed) {
        round += 1;
        let wanted = 60 + (40.0 * (f64::from(round) / 90.0).sin()) as usize;
        if clients.len() < wanted {
            let url = im.prev_connect_server(i64::from(round), None).unwrap();
            let client = Client::connect(node, &url).unwrap();
            client.0.get_ref().set_nonblocking(true).unwrap();
            clients.push_back((round, client));
        } else if let Some((id, client)) = clients.pop_front() {
            client.0.get_ref().set_nonblocking(false).unwrap();
            match id % 3 {
                0 => im.force_offline(i64::from(id)).unwrap(),
                1 => drop(client),
                _ => client.leave(),
            }
        }
        let count = 3 + (2.5 * (f64::from(round) / 37.0).sin()) as usize;
        (0..count).for_each(|_| im.send_broadcast_message("tick").unwrap());
        for (_, client) in &mut clients {
            while client.0.read().is_ok() {}
        }
        if round.is_multiple_of(20) {
            let _ = Client::connect(node, "ws://x/ws?token=none");
            im.send_message(1, (1..50).map(i64::from), "receipt", true).unwrap();
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// Needs Node and Chromium: `cargo test --test admin -- --ignored`. `ADMIN_SHOTS` names a folder for
/// pictures.
#[test]
#[ignore = "needs Node and Chromium"]
fn the_page_shows_the_node() {
    let redis = RedisServer::start();
    let url = redis.url();
    let admin = ["--admin", "127.0.0.1:0", "--admin-token", TOKEN];
    let args = ["--listen", "127.0.0.1:0", "--server", "im-1", "--redis", &url];
    let process = Process::start(&[&args[..], &admin].concat());
    let page = format!("http://{}/", admin_of(&process));
    let node = process.address();
    let im = ImClient::builder().servers(["im-1"]).redis(&url).build().unwrap();
    eventually("ready", || Client::connect(node, "ws://x/ws?token=none").err() == Some(401));
    let stop = AtomicBool::new(false);
    let status = std::thread::scope(|scope| {
        scope.spawn(|| keep_busy(node, &im, &stop));
        let mut check = Command::new("node");
        check.arg(root().join("tests/admin_page.mjs")).args([&page, TOKEN]);
        check.args(std::env::var_os("ADMIN_SHOTS"));
        let status = check.status();
        stop.store(true, Ordering::Relaxed);
        status.unwrap()
    });
    assert!(status.success());
}
