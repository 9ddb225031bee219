//! A stop that ends within its bound, whatever waits for a Redis that hangs.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::Command,
};

use imcore::ImClient;

use crate::{
    process::{LONG, Process, eventually},
    redis_server::RedisServer,
    ws::Client,
};

const TOKEN: &str = "0123456789abcdef-token";
/// Enough that a batch after the other, each until its time is over, takes far longer than a stop may.
const RECEIPTS: usize = 8_000;

/// What the node has been asked to deliver, from its own counters.
fn offered(admin: SocketAddr) -> u64 {
    let mut stream = TcpStream::connect(admin).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    let request = format!(
        "GET /stats HTTP/1.1\r\nHost: {admin}\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let stats: serde_json::Value =
        serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    stats["messages"]["offered"].as_u64().unwrap()
}

/// Stops the server process in its tracks; its sockets stay open.
fn freeze(redis: &RedisServer) {
    let info: String = redis::cmd("INFO").arg("server").query(&mut redis.connect()).unwrap();
    let pid = info.lines().find_map(|line| line.strip_prefix("process_id:")).unwrap();
    assert!(Command::new("kill").args(["-STOP", pid.trim()]).status().unwrap().success());
}

/// Messages with receipts wait for a client that reads nothing; the stop makes all their receipts due.
#[test]
fn a_node_stops_in_time_though_redis_hangs_and_thousands_of_receipts_are_due() {
    let redis = RedisServer::start();
    let file = std::env::temp_dir().join(format!("imcore-stops-{}.json", std::process::id()));
    fs::write(&file, r#"{"limits": {"outbox_bytes": 67108864, "outbox_age": 600}}"#).unwrap();
    let (config, url) = (file.display().to_string(), redis.url());
    let mut node = Process::start(&[
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--admin-token",
        TOKEN,
        "--server",
        "n",
        "--redis",
        &url,
        "--config",
        &config,
    ]);
    let address = node.address();
    node.says("admin at http://");
    let log = node.log();
    let admin = log.split("admin at http://").nth(1).unwrap().split('/').next().unwrap();
    let admin: SocketAddr = admin.parse().unwrap();
    let im = ImClient::builder().servers(["n"]).redis(&url).build().unwrap();
    let connect = || Client::connect(address, &im.prev_connect_server(1, None).unwrap());
    eventually("ready", || Client::connect(address, "ws://x/ws?token=no").err() == Some(401));
    let deaf = connect().unwrap();
    eventually("online", || im.has_online(1).unwrap());
    // More than the kernel takes for it.
    let large = "x".repeat(256 << 10);
    for _ in 0..60 {
        im.send_message(0, [1], &large, false).unwrap();
    }
    for _ in 0..RECEIPTS / 1000 {
        let mut batch = im.batch();
        for number in 0..1000 {
            batch.message(2, [1], &number, true).unwrap();
        }
        batch.send().unwrap();
    }
    eventually("all waits", || offered(admin) == 60 + RECEIPTS as u64);
    freeze(&redis);
    node.signal("TERM");
    assert_eq!(node.ends().code(), Some(0));
    assert!(node.log().contains("left to other nodes"), "what was lost is said");
    drop(deaf);
    fs::remove_file(file).unwrap();
}
