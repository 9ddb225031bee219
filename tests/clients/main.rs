//! Clients that others wrote against a real `imserver` on a real Redis: Python's `websockets`, Node's
//! `ws`, and a browser. Their packages are installed into the target folder, once.
//!
//! They need what a plain `cargo test` cannot count on, which says "ignored" of them; the step `client` of `.ci/run`
//! installs it and runs them with `-- --ignored`.

mod certificate;
mod driver;
mod kit;
mod node;

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
    time::Duration,
};

use imcore::{
    ImClient, Message,
    broker::MemoryBroker,
    server::{Limits, Server, ServerConfig},
};
use serde_json::{Value, json};

use testkit::{PATIENCE, eventually};

use driver::{Driver, Missing};
use node::Node;

#[test]
#[ignore = "needs python3 with pip; .ci/run runs it"]
fn python_websockets() {
    try_client("Python websockets", Driver::python);
}

#[test]
#[ignore = "needs node and npm; .ci/run runs it"]
fn node_ws() {
    try_client("Node ws", Driver::node);
}

#[test]
#[ignore = "needs chromium; .ci/run runs it"]
fn chromium() {
    try_client("Chromium", Driver::chromium);
}

fn try_client(name: &str, start: fn() -> Result<Driver, Missing>) {
    let mut driver = start().unwrap_or_else(|missing| panic!("{name}: {missing}"));
    for secure in [false, true] {
        life_of_a_client(&mut driver, secure);
    }
    refusals(&mut driver);
    pings_are_answered(&mut driver);
}

fn open(driver: &mut Driver, url: &str) {
    driver.command(&json!({ "open": url }));
    assert_eq!(driver.event(), json!({ "event": "open" }));
}

fn expect_text(driver: &mut Driver, value: &Value) {
    let event = driver.event();
    assert_eq!(event["event"], "text", "{event:.200}");
    let text = event["text"].as_str().unwrap();
    let expected = value.to_string();
    assert!(text == expected, "{text:.200} instead of {expected:.200}");
}

fn expect_close(driver: &mut Driver, code: u16, reason: &str) {
    let closed = json!({ "event": "closed", "code": code, "reason": reason, "clean": true });
    assert_eq!(driver.event(), closed);
}

/// Connects, receives, is kicked, comes back, leaves, comes back, and sees the server go.
fn life_of_a_client(driver: &mut Driver, secure: bool) {
    let node = Node::start(&[], secure);
    let connect = |driver: &mut Driver, client: i64| {
        open(driver, &node.im.connect_url(client, Some("meta")).unwrap());
        eventually("online", || node.im.is_online(client).unwrap());
    };
    connect(driver, 1);
    let texts = [
        json!("hello"),
        json!(""),
        json!({ "text": "你好，世界", "nested": [null, { "a": 1.5 }] }),
        json!("😀 👩‍👩‍👧 e\u{301} \u{2028} \" \\ \u{7f}"),
        json!("x".repeat(125)),
        json!("中".repeat(64 << 10)),
        // With its quotes the longest that a helper sends.
        json!("y".repeat((1 << 20) - 2)),
    ];
    for text in &texts {
        node.im.send(Message::to([1]), text).unwrap();
        expect_text(driver, text);
    }
    for number in 0..500 {
        node.im.send(Message::to([1]), &number).unwrap();
    }
    for number in 0..500 {
        expect_text(driver, &json!(number));
    }
    node.im.kick(1).unwrap();
    expect_close(driver, 4001, "kicked");
    eventually("offline", || !node.im.is_online(1).unwrap());

    connect(driver, 1);
    driver.command(&json!({ "close": 1000 }));
    expect_close(driver, 1000, "bye");
    eventually("offline", || !node.im.is_online(1).unwrap());

    connect(driver, 2);
    node.process.signal("TERM");
    expect_close(driver, 1001, "server is stopping");
}

/// A token that was used, and one for a client of another node.
fn refusals(driver: &mut Driver) {
    let node = Node::start(&["elsewhere"], true);
    // The address is that of the node that is there, for clients of the other too.
    let url = |client: i64| node.im.connect_url(client, None).unwrap();
    let used = url(2);
    open(driver, &used);
    driver.command(&json!({ "close": 1000 }));
    expect_close(driver, 1000, "bye");
    for (url, status) in [(used, 401), (url(3), 421)] {
        driver.command(&json!({ "open": url }));
        let event = driver.event();
        assert_eq!(event["event"], "refused", "{event}");
        assert!(!driver.knows_status() || event["status"] == status, "{event}");
    }
}

/// On a node that pings often, the client outlives a peer that never answers and came later.
fn pings_are_answered(driver: &mut Driver) {
    let broker = Arc::new(MemoryBroker::new());
    let short = Duration::from_millis(400);
    let config = ServerConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        limits: Limits {
            ping_after: short,
            pong_within: 5 * short,
            sweep: short,
            ..Limits::default()
        },
        ..ServerConfig::default()
    };
    let node = Server::start(config, broker.clone()).unwrap();
    assert!(node.wait_ready(PATIENCE));
    let im = ImClient::builder().servers([node.server()]).broker(broker).build().unwrap();
    open(driver, &im.connect_url(1, None).unwrap());
    wait_for_the_end_of_a_mute_peer(&im.connect_url(2, None).unwrap());
    im.send(Message::to([1]), "still here").unwrap();
    expect_text(driver, &json!("still here"));
    driver.command(&json!({ "close": 1000 }));
    expect_close(driver, 1000, "bye");
}

fn wait_for_the_end_of_a_mute_peer(url: &str) {
    let (address, target) = url.strip_prefix("ws://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!(
        "GET /{target} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).unwrap();
    assert!(heard.ends_with(b"\r\n\r\n\x89\0"), "one ping, then the end");
}
