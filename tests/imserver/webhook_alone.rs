//! Webhooks of a node that is alone, without Redis.

use serde_json::{Value, json};
use testkit::{
    Imserver,
    ws::{Client, exchange},
};

use crate::webhooks::{SECRET, TAKEN, Target};

const KEY: &str = "0123456789abcdef-key";

fn start(target: &Target) -> Imserver {
    let node = Imserver::start(&[
        "--listen=127.0.0.1:0",
        "--api=127.0.0.1:0",
        &format!("--api-key={KEY}"),
        "--keep=0",
        &format!("--webhook-url={}", target.url()),
        &format!("--webhook-secret={SECRET}"),
        "--webhook-allow=http,127.0.0.1",
        "--webhook-retry=0.02",
    ]);
    node.wait_ready();
    node
}

fn connect(client: i64, node: &Imserver) -> Client {
    let body = json!({ "client": client, "meta": "note" }).to_string();
    let request = format!(
        "POST /v1/connections HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let answer = exchange(node.api(), request.as_bytes());
    let (_, body) = answer.split_once("\r\n\r\n").expect(&answer);
    let body: Value = serde_json::from_str(body).expect(&answer);
    Client::connect(node.address(), body["url"].as_str().expect(&answer)).unwrap()
}

#[test]
fn what_happens_is_posted_in_order_and_again_until_it_is_taken() {
    let target = Target::start();
    let node = start(&target);
    let client = connect(42, &node);
    let first = target.next();
    assert_eq!(first.words(), ["opened", "online"]);
    assert_eq!(first.body["data"]["events"][0]["meta"], "note");
    target.answers("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
    drop(client);
    let ended = target.next();
    assert_eq!(ended.words(), ["ended", "offline"]);
    let again = target.next();
    assert_eq!((&again.id, &again.body), (&ended.id, &ended.body));
    target.answers(TAKEN);
    let _other = connect(44, &node);
    let after = std::iter::repeat_with(|| target.next()).find(|post| post.id != ended.id).unwrap();
    assert_eq!(after.words(), ["opened", "online"]);
}

#[test]
fn a_target_that_wants_no_more_is_left_alone_until_another_start() {
    let target = Target::start();
    let mut node = start(&target);
    target.answers("HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n");
    let client = connect(42, &node);
    let first = target.next();
    node.says("Delivery is OFF on all nodes");
    target.answers(TAKEN);
    drop(client);
    let _other = connect(44, &node);
    node.kill();
    assert!(target.posts.try_recv().is_err());
    let node = start(&target);
    let _client = connect(46, &node);
    let next = target.next();
    assert_eq!(next.words(), ["opened", "online"]);
    assert!(next.id != first.id && next.body["data"]["events"][0]["client"] == "46");
}
