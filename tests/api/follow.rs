//! Following a client, a channel or a message over HTTP.

use serde_json::json;

use crate::{
    cluster::{Cluster, KEY},
    events::Events,
    http,
};

/// The node that owns a client, and one that does not.
fn nodes_of(cluster: &Cluster, client: i64) -> (usize, usize) {
    let path = format!("HEAD /v1/follow?client={client}");
    let owner = (0..3).find(|node| cluster.ask(*node, &path, None).status == 200).unwrap();
    (owner, (owner + 1) % 3)
}

#[test]
fn a_client_is_followed_where_it_lives_until_the_time_is_over() {
    let cluster = Cluster::start();
    let (owner, other) = nodes_of(&cluster, 42);
    let elsewhere = cluster.expect(other, "GET /v1/follow?client=42", None, 404);
    let name = ["a", "b", "c"][owner];
    assert!(elsewhere.body.contains(&format!("lives on node {name}")), "{elsewhere:?}");

    let mut events = Events::begin(&cluster, owner, "GET /v1/follow?client=42&seconds=600");
    let begins = json!({ "node": name, "seconds": 600, "texts": false });
    assert_eq!(events.next(), ("following".into(), begins));
    let mut socket = cluster.connect(42);
    assert_eq!(events.next().0, "connected");
    let message = json!({ "receivers": [42], "message": "secret", "sender": 7, "receipt": true, "id": "order-17" });
    cluster.expect(other, "POST /v1/messages", Some(&message), 202);
    let (what, received) = events.next();
    assert_eq!(
        (what.as_str(), &received["id"], &received["client"]),
        ("received", &json!("order-17"), &json!("42"))
    );
    assert_eq!(received.get("text"), None, "nobody has allowed that");
    let (what, written) = events.next();
    assert_eq!((what.as_str(), &written["position"]), ("written", &received["position"]));
    assert!(written["bytes"].as_u64().unwrap() > 8 && written["connection"].is_u64(), "{written}");
    socket.text();
    cluster.expect(other, "DELETE /v1/clients/42/connections", None, 202);
    let (what, closed) = events.next();
    assert_eq!(
        (what.as_str(), &closed["code"], &closed["reason"]),
        ("closed", &json!(4001), &json!("kicked"))
    );
    let mut short = Events::begin(&cluster, owner, "GET /v1/follow?client=42&seconds=1");
    assert_eq!([short.next().0, short.next().0], ["following", "ended"]);
}

#[test]
fn what_messages_say_is_shown_where_that_is_set() {
    let cluster = Cluster::start_with(&["--follow-texts", "on"]);
    let (owner, _) = nodes_of(&cluster, 42);
    let mut events = Events::begin(&cluster, owner, "GET /v1/follow?channel=%E7%BE%A4");
    assert_eq!(events.next().1["texts"], true);
    cluster.expect(
        0,
        "POST /v1/channels/%E7%BE%A4/messages",
        Some(&json!({ "message": "hi" })),
        202,
    );
    let (what, received) = events.next();
    assert_eq!((what.as_str(), &received["text"]), ("received", &json!("\"hi\"")));
    assert_eq!(received["channel"], "群");
}

#[test]
fn a_trace_goes_with_the_message_into_the_log_of_its_node() {
    let cluster = Cluster::start_with(&["--log", "debug"]);
    let (owner, other) = nodes_of(&cluster, 42);
    let mut events = Events::begin(&cluster, owner, "GET /v1/follow?client=42");
    assert_eq!(events.next().0, "following");
    let message = json!({ "receivers": [42], "message": 1, "id": "order-17" });
    let send = |headers: &str| {
        let answer = cluster.ask_with(other, "POST /v1/messages", headers, Some(&message));
        assert_eq!(answer.status, 202, "{answer:?}");
    };
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    send("traceparent: 00-not-a-trace\r\n");
    send(&format!("traceparent: {trace}\r\n"));
    let mut received = || loop {
        let (what, about) = events.next();
        if what == "received" {
            break about;
        }
    };
    assert_eq!(received().get("traceparent"), None);
    assert_eq!(received()["traceparent"], trace);
    cluster.says(owner, &format!("message traceparent={trace} position="));
    let channel = json!({ "message": 1 });
    let headers = format!("traceparent: {trace}\r\n");
    cluster.ask_with(other, "POST /v1/channels/lobby/messages", &headers, Some(&channel));
    (0..3).for_each(|node| cluster.says(node, "id=\"\" came to node"));
}

#[test]
fn what_cannot_be_followed_is_refused() {
    let cluster = Cluster::start();
    for query in ["", "?client=x", "?channel=a&message=b", "?channel=a&seconds=601", "?room=a"] {
        let answer = cluster.expect(0, &format!("GET /v1/follow{query}"), None, 400);
        assert_eq!(answer.code(), "invalid_request");
    }
    assert_eq!(http::ask(cluster.apis[0], "GET /v1/follow?channel=a", "", None).status, 401);
    let follow = || Events::begin(&cluster, 0, "GET /v1/follow?message=m");
    let mut all: Vec<_> = (0..8).map(|_| follow()).collect();
    all.iter_mut().for_each(|events| assert_eq!(events.next().0, "following"));
    assert_eq!(cluster.expect(0, "GET /v1/follow?message=m", None, 503).code(), "unavailable");
    drop(all);
    testkit::eventually("there is room", || {
        let key = format!("Authorization: Bearer {KEY}\r\n");
        let (_, head) = http::begin(cluster.apis[0], "GET /v1/follow?message=m", &key, None);
        head.starts_with("HTTP/1.1 200")
    });
}
