//! The admin listener: health, metrics, and who may ask.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Command, Stdio},
};

use imcore::{ImClient, Message, Receipt};
use testkit::{Imserver, PATIENCE, Redis, eventually, outcome, ws::Client};

use crate::{TOKEN, ask, get, metrics, node, stats, webhooks::TO_NOBODY};

#[test]
fn readiness_follows_redis_and_liveness_does_not() {
    let mut redis = Redis::start();
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
    let redis = Redis::start();
    let (process, admin) = node(&redis, &["--drain", "600"]);
    let im = ImClient::builder().servers(["n"]).redis(redis.url()).build().unwrap();
    let url = im.connect_url(1, None).unwrap();
    let _clients: Vec<_> = (0..2)
        .map(|_| Client::connect(process.address(), &im.connect_url(1, None).unwrap()))
        .collect();
    eventually("connected", || metrics(admin)["imcore_connections"] == 2.0);
    process.signal("TERM");
    eventually("stopping", || get(admin, "/health/ready") == (503, "stopping\n".into()));
    assert_eq!(get(admin, "/health/live").0, 200);
    drop(url);
}

#[test]
fn metrics_add_up() {
    let redis = Redis::start();
    let (process, admin) = node(&redis, &[]);
    let im = ImClient::builder().servers(["n"]).redis(redis.url()).build().unwrap();
    let connect = |id: i64| {
        let url = im.connect_url(id, None).unwrap();
        Client::connect(process.address(), &url).unwrap()
    };
    let (mut one, mut two) = (connect(1), connect(2));
    assert_eq!(Client::connect(process.address(), "ws://x/ws?token=none").err(), Some(401));
    for _ in 0..5 {
        im.send(Message::to([2]).from(1).receipt(Receipt::Sent), "hi").unwrap();
        assert_eq!(two.text(), "\"hi\"");
        one.json();
    }
    im.send(Message::to_everyone(), "all").unwrap();
    assert_eq!((one.text(), two.text()), ("\"all\"".into(), "\"all\"".into()));
    im.kick(2).unwrap();
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
    let dropped = seen["imcore_messages_dropped_total{reason=\"slow_consumer\"}"];
    assert_eq!((dropped, seen["imcore_messages_queued"]), (0.0, 0.0));
    assert_eq!(seen["imcore_reactor_inbox_commands{reactor=\"1\"}"], 0.0);
    for call in ["tickets", "begin", "renew", "report", "reap", "publish"] {
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
    let redis = Redis::start();
    let flags = ["--api", "127.0.0.1:0"];
    let (node, admin) = node(&redis, &[&flags[..], &TO_NOBODY].concat());
    // What the API counts is there once it was asked, and how webhooks go once somebody has looked.
    assert_eq!(get(node.api(), "/v1/clients").0, 200);
    eventually("it delivers", || {
        assert_eq!(get(admin, "/cluster").0, 200);
        let samples = metrics(admin);
        samples.keys().any(|name| name.starts_with("imcore_webhook_delivers"))
            && samples.keys().any(|name| name.starts_with("imcore_event_group"))
    });
    let names: BTreeSet<_> = metrics(admin)
        .into_keys()
        .map(|sample| sample.split('{').next().unwrap().to_owned())
        .collect();
    let text = fs::read_to_string(testkit::root().join("deploy/grafana.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut used = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let words =
                target["expr"].as_str().unwrap().split(|c: char| !c.is_alphanumeric() && c != '_');
            let ours = |word: &&str| word.starts_with("imcore_") || word.starts_with("process_");
            let found: Vec<_> = words.filter(ours).collect();
            assert!(!found.is_empty(), "{target}");
            used.extend(found.into_iter().map(str::to_owned));
        }
    }
    let missing: Vec<_> = used.difference(&names).collect();
    assert!(missing.is_empty(), "{missing:?}");
    // What is counted is also shown; these say what a dashboard does not draw.
    let unseen: Vec<_> = names.difference(&used).collect();
    let known = ["imcore_node_info", "imcore_uptime_seconds"];
    let places = ["process_start_time_seconds", "process_virtual_memory_bytes"];
    assert_eq!(unseen, [&known[..], &places].concat().iter().collect::<Vec<_>>());
}

#[test]
fn what_the_process_takes_is_in_the_metrics() {
    let redis = Redis::start();
    let (process, admin) = node(&redis, &[]);
    let before = metrics(admin);
    let idle: Vec<_> = (0..50).map(|_| TcpStream::connect(process.address()).unwrap()).collect();
    let open = "process_open_fds";
    // Connections of the node's own come and go meanwhile: fewer than half as many.
    eventually("the sockets count", || metrics(admin)[open] >= before[open] + 25.0);
    drop(idle);
    eventually("no more", || metrics(admin)[open] < before[open] + 25.0);
    let after = metrics(admin);
    assert!(after[open] <= after["process_max_fds"]);
    assert!(after["process_cpu_seconds_total"] > before["process_cpu_seconds_total"]);
    let start = "process_start_time_seconds";
    assert_eq!((after[start], after["process_threads"] > 4.0), (before[start], true));
    let resident = after["process_resident_memory_bytes"];
    let seen = process.memory() as f64;
    assert!((seen / 2.0..seen * 2.0).contains(&resident), "{resident} bytes, {seen} bytes");
}

/// Prometheus' own judgement; Debian has `promtool` in the package `prometheus`.
#[test]
fn promtool_finds_nothing_wrong() {
    let redis = Redis::start();
    let (_node, admin) = node(&redis, &TO_NOBODY);
    let check = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut check) = check else {
        // Not `eprintln`, which the test harness keeps to itself when a test passes.
        let _ = writeln!(std::io::stderr(), "SKIPPED: promtool is not installed");
        return;
    };
    let text = get(admin, "/metrics").1;
    check.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = check.wait_with_output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success() && said.is_empty(), "{said}");
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
    let process = Imserver::start(&args);
    let admin = SocketAddr::from(([127, 0, 0, 1], process.admin().port()));
    for path in ["/metrics", "/stats", "/nowhere"] {
        assert_eq!(get(admin, path).0, 401, "{path}");
        for wrong in
            ["0123456789abcdef-tokex", "0123456789abcdef-toke", "0123456789abcdef-token1", ""]
        {
            let header = format!("Authorization: Bearer {wrong}\r\n");
            assert_eq!(ask(admin, &format!("GET {path}"), &header).0, 401, "{wrong}");
        }
    }
    let good = format!("Authorization: Bearer {TOKEN}\r\n");
    let (_, page) = ask(admin, "GET /metrics", &good);
    assert!(page.contains("imcore_unauthorized_total{listener=\"admin\"} 15\n"), "{page}");
    // The listener has names of its own, and a page that was led here has none of them.
    let foreign = format!("Host: anything.example\r\n{good}");
    assert_eq!(ask(admin, "GET /metrics", &foreign).0, 403);
    assert_eq!(ask(admin, "GET /nowhere", &good).0, 404);
    // Probes carry no token; the page asks for it.
    assert_eq!(get(admin, "/health/live").0, 200);
    eventually("ready", || get(admin, "/health/ready").0 == 200);
    assert_eq!(get(admin, "/").0, 200);
    let log = process.log();
    assert!(!log.contains(TOKEN), "{log}");
    let lines = log.lines().filter(|line| line.contains("was refused: its admin_token"));
    assert_eq!(lines.count(), 2, "one of each kind a minute: {log}");
}

#[test]
fn without_a_token_a_foreign_name_is_refused() {
    let process = Imserver::start(&["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    let admin = process.admin();
    assert_eq!(ask(admin, "GET /stats", "Host: rebound.example\r\n").0, 403);
    assert_eq!(ask(admin, "GET /stats", &format!("Host: {admin}\r\n")).0, 200);
}

#[test]
fn hostile_peers_do_not_keep_others_out() {
    let process = Imserver::start(&["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    let admin = process.admin();
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
    assert!(after < before + (16 << 20), "{before} bytes before, {after} bytes after");
    // The oldest were cut, long before their time was over.
    stuck[0].set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(matches!(stuck[0].read(&mut [0]), Ok(0) | Err(_)));
    drop(stuck);
    assert_eq!(ask(admin, "GET /health/live", &format!("X: {}\r\n", "x".repeat(40_000))).0, 431);
    assert_eq!(ask(admin, "POST /stats", "Host: localhost\r\nContent-Length: 3\r\n\r\nabc").0, 405);
    assert_eq!(ask(admin, "nonsense", "").0, 400);
    assert_eq!(ask(admin, "HEAD /health/live", "").1, "");
    assert_eq!(get(admin, "/health/live").0, 200);
}

/// What a log numbers by its time is counted from where it was published, all else from where it came to the node.
#[test]
fn how_long_messages_take_is_told() {
    let redis = Redis::start();
    let (process, admin) = node(&redis, &["--message-log", "on"]);
    let im = |log| ImClient::builder().servers(["n"]).redis(redis.url()).log(log).build().unwrap();
    let (logged, not_logged) = (im(true), im(false));
    let url = logged.connect_url(1, None).unwrap();
    let mut client = Client::connect(process.address(), &url).unwrap();
    eventually("online", || logged.is_online(1).unwrap());
    logged.send(Message::to([1]), "logged").unwrap();
    not_logged.send(Message::to([1]).volatile(), "not").unwrap();
    assert_eq!([client.text(), client.text()], ["\"logged\"", "\"not\""]);
    let count = |name: &str| metrics(admin)[&format!("imcore_{name}_to_written_seconds_count")];
    eventually("both are counted", || count("publish") + count("arrival") == 2.0);
    assert_eq!((count("publish"), count("arrival")), (1.0, 1.0));
    let all = "imcore_publish_to_written_seconds_bucket{le=\"+Inf\"}";
    assert_eq!(metrics(admin)[all], 1.0);
}
