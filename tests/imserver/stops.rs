//! A Redis that hangs: a stop ends within its bound whatever waits, and nobody is told to restart the node.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::Command,
};

use imcore::{ImClient, Message, Receipt};
use testkit::{Imserver, PATIENCE, Redis, eventually, ws::Client};

const TOKEN: &str = "0123456789abcdef-token";
/// Enough that a batch after the other, each until its time is over, takes far longer than a stop may.
const RECEIPTS: usize = 8_000;

/// Status and body of the admin listener's answer.
fn ask(admin: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(admin).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {admin}\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// A node with an admin listener.
fn node(redis: &Redis, more: &[&str]) -> Imserver {
    let (url, any) = (redis.url(), "127.0.0.1:0");
    let place = ["--listen", any, "--server", "n", "--redis", &url];
    Imserver::start(&[&place[..], &["--admin", any, "--admin-token", TOKEN], more].concat())
}

/// The node's own counters.
fn stats(admin: SocketAddr) -> serde_json::Value {
    serde_json::from_str(&ask(admin, "/stats").1).unwrap()
}

/// Stops the server process in its tracks; its sockets stay open.
fn freeze(redis: &Redis) {
    let info: String = redis::cmd("INFO").arg("server").query(&mut redis.connect()).unwrap();
    let pid = info.lines().find_map(|line| line.strip_prefix("process_id:")).unwrap();
    assert!(Command::new("kill").args(["-STOP", pid.trim()]).status().unwrap().success());
}

/// Messages with receipts wait for a client that reads nothing; the stop makes all their receipts due.
#[test]
fn a_node_stops_in_time_though_redis_hangs_and_thousands_of_receipts_are_due() {
    let redis = Redis::start();
    let file = std::env::temp_dir().join(format!("imcore-stops-{}.json", std::process::id()));
    fs::write(&file, r#"{"limits": {"outbox_bytes": 67108864, "outbox_age": 600}}"#).unwrap();
    let (config, url) = (file.display().to_string(), redis.url());
    let mut node = node(&redis, &["--config", &config]);
    let address = node.address();
    let admin = node.admin();
    let im = ImClient::builder().servers(["n"]).redis(&url).build().unwrap();
    let connect = || Client::connect(address, &im.connect_url(1, None).unwrap());
    eventually("ready", || Client::connect(address, "ws://x/ws?token=no").err() == Some(401));
    let deaf = connect().unwrap();
    eventually("online", || im.is_online(1).unwrap());
    // More than the kernel takes for it.
    let large = "x".repeat(256 << 10);
    for _ in 0..60 {
        im.send(Message::to([1]), &large).unwrap();
    }
    for _ in 0..RECEIPTS / 1000 {
        let mut batch = im.batch();
        for number in 0..1000 {
            batch.add(Message::to([1]).from(2).receipt(Receipt::Sent), &number).unwrap();
        }
        batch.send().unwrap();
    }
    eventually("all waits", || stats(admin)["messages"]["offered"] == 60 + RECEIPTS);
    freeze(&redis);
    node.signal("TERM");
    assert_eq!(node.ends().code(), Some(0));
    assert!(node.log().contains("left to other nodes"), "what was lost is said");
    drop(deaf);
    fs::remove_file(file).unwrap();
}

/// A restart would only throw its clients out.
#[test]
fn a_node_whose_redis_hangs_is_live() {
    let redis = Redis::start();
    let node = node(&redis, &[]);
    let (address, admin) = (node.address(), node.admin());
    eventually("ready", || ask(admin, "/health/ready").0 == 200);
    freeze(&redis);
    // Longer than a stuck thread would go unnoticed. Whoever connects keeps the ticket thread asking.
    eventually("long ago", || {
        let _ = Client::connect(address, "ws://x/ws?token=no");
        assert_eq!(ask(admin, "/health/live"), (200, "live\n".into()));
        stats(admin)["feed"]["heard_age_seconds"].as_f64().is_some_and(|age| age > 14.0)
    });
    assert_eq!(ask(admin, "/health/ready").0, 503);
}
