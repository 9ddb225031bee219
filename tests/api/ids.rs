//! Ids on the wire: what reaches the nodes is the id that the caller wrote, or nothing is sent.

use std::net::SocketAddr;

use serde_json::{Value, json};
use testkit::{Imserver, Redis, eventually};

use crate::{
    cluster::{Cluster, KEY},
    http::ask,
};

const GUID: &str = "8f14e45f-ceea-467f-a9b1-000000000007";
const SYSTEM: &str = "00000000-0000-0000-0000-000000000000";

/// A node called `n`, its API and admin listener, and what is published to the node.
struct Wire {
    process: Imserver,
    api: SocketAddr,
    connection: redis::Connection,
    topic: &'static str,
    _redis: Redis,
}

impl Wire {
    fn start(prefix: &str, topic: &'static str) -> Wire {
        let redis = Redis::start();
        let url = redis.url();
        let node = ["--listen", "127.0.0.1:0", "--server", "n", "--redis", &url];
        let more = ["--api", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--prefix", prefix];
        let process = Imserver::start(&[&node[..], &more].concat());
        let (api, connection) = (process.api(), redis.connect());
        Wire { process, api, connection, topic, _redis: redis }
    }

    fn admin(&self) -> SocketAddr {
        let log = self.process.log();
        let rest = log.split("admin at http://").nth(1).expect("an admin listener");
        rest.split('/').next().unwrap().parse().unwrap()
    }

    /// What `act` has published to the node, as JSON behind the envelope's name.
    fn published(&mut self, act: impl FnOnce()) -> Value {
        let mut listener = self.connection.as_pubsub();
        listener.subscribe(self.topic).unwrap();
        act();
        loop {
            let payload: String = listener.get_message().unwrap().get_payload().unwrap();
            let text = payload.split_once('|').map_or(payload.as_str(), |(_, text)| text);
            // The node's probes to itself are no messages.
            if let Some(at) = text.find("{\"Item1\"") {
                return serde_json::from_str(&text[at..]).unwrap();
            }
        }
    }
}

#[test]
fn no_id_is_rounded_in_whatever_form_a_number_comes() {
    let mut wire = Wire::start("im_v2", "im_v2_wsServern");
    let api = wire.api;
    let send = |number: &str| {
        let body = format!("{{\"receivers\": [{number}], \"message\": 1}}");
        ask(api, "POST /v1/messages", "", Some(&body))
    };
    for (number, id) in [
        ("9007199254740993", "9007199254740993"),
        ("\"9007199254740993\"", "9007199254740993"),
        ("1.5e1", "15"),
        ("4200e-2", "42"),
        ("-42.000", "-42"),
        ("9007199254740993.0", "9007199254740993"),
        ("9007199254740993e0", "9007199254740993"),
        ("90071992547409930e-1", "9007199254740993"),
        ("9.007199254740993E15", "9007199254740993"),
        ("-9007199254740995.0", "-9007199254740995"),
    ] {
        let envelope = wire.published(|| assert_eq!(send(number).status, 202, "{number}"));
        assert!(envelope["Item2"].to_string().contains(id), "{number}: {envelope}");
    }
    for number in
        ["9007199254740993.5", "9223372036854775808", "9223372036854775808.0", "1e400", "0.5"]
    {
        let answer = send(number);
        assert_eq!((answer.status, answer.code()), (400, "invalid_request".into()), "{number}");
        assert_eq!(answer.json()["pointer"], "/receivers/0", "{answer:?}");
    }
}

#[test]
fn the_system_has_an_id_of_the_deployments_kind() {
    let mut wire = Wire::start("wsim", "wsim_wsServern");
    let (api, admin) = (wire.api, wire.admin());
    eventually("ready", || ask(admin, "GET /health/ready", "", None).status == 200);
    let to = |sender: &str| format!("{{{sender}\"receivers\": [\"{GUID}\"], \"message\": 1}}");
    let batch = format!("{{\"messages\": [{}]}}", to(""));
    let room_batch = r#"{"messages": [{"channel": "room", "message": 1}]}"#;
    for (address, request, body, status) in [
        (api, "POST /v1/messages", to(""), 202),
        (api, "POST /v1/messages", to("\"sender\": 0, "), 202),
        (api, "POST /v1/messages", to("\"sender\": \"0\", "), 202),
        (api, "POST /v1/messages/batch", batch, 202),
        (api, "POST /v1/messages/batch", room_batch.to_owned(), 202),
        (api, "POST /v1/channels/room/messages", "{\"message\": 1}".to_owned(), 202),
        (api, "POST /v1/broadcast", "{\"message\": 1}".to_owned(), 202),
        (admin, "POST /send", "{\"channel\": \"room\", \"message\": 1}".to_owned(), 200),
        (admin, "POST /send", format!("{{\"client\": \"{GUID}\", \"message\": 1}}"), 200),
    ] {
        let envelope = wire.published(|| {
            let answer = ask(address, request, "", Some(&body));
            assert_eq!(answer.status, status, "{request} {body}: {answer:?}");
        });
        assert_eq!(envelope["Item1"], SYSTEM, "{request} {body}");
    }
}

#[test]
fn messages_of_operators_go_out_as_written() {
    let mut wire = Wire::start("im_v2", "im_v2_wsServern");
    let admin = wire.admin();
    eventually("ready", || ask(admin, "GET /health/ready", "", None).status == 200);
    let message = r#"{"b":1.10,  "a":12345678901234567890123}"#;
    let body = format!("{{\"client\": 7, \"message\": {message}}}");
    let envelope = wire.published(|| {
        assert_eq!(ask(admin, "POST /send", "", Some(&body)).status, 200);
    });
    let members = envelope.as_object().unwrap().values();
    assert!(members.into_iter().any(|member| member == message), "{envelope}");
    let nested = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
    let body = format!("{{\"client\": 7, \"message\": {nested}}}");
    assert_eq!(ask(admin, "POST /send", "", Some(&body)).status, 400);
}

/// An id of the other kind would end the .NET processes that hear of it.
#[test]
fn a_deployment_has_one_kind_of_ids() {
    for (prefix, other) in [("wsim", "7"), ("im_v2", GUID)] {
        let wire = Wire::start(prefix, "unused");
        for (request, body) in [
            ("POST /v1/connections", format!("{{\"client\": \"{other}\"}}")),
            ("POST /v1/messages", format!("{{\"receivers\": [\"{other}\"], \"message\": 1}}")),
            (
                "POST /v1/messages/batch",
                format!("{{\"messages\": [{{\"receivers\": [\"{other}\"], \"message\": 1}}]}}"),
            ),
            (
                "POST /v1/memberships",
                format!("{{\"join\": [{{\"client\": \"{other}\", \"channel\": \"a\"}}]}}"),
            ),
        ] {
            let answer = ask(wire.api, request, "", Some(&body));
            let seen = (answer.status, answer.code());
            assert_eq!(seen, (400, "invalid_request".into()), "{prefix} {request}: {answer:?}");
        }
        let answer = ask(wire.api, &format!("PUT /v1/channels/a/clients/{other}"), "", None);
        assert_eq!(answer.status, 400, "{prefix}: {answer:?}");
    }
}

#[test]
fn what_is_nobody_is_not_taken_for_a_client() {
    let wire = Wire::start("im_v2", "im_v2_wsServern");
    for (request, body, pointer) in [
        ("POST /v1/connections", Some("{\"client\": 0}"), "/client"),
        ("POST /v1/connections", Some("{\"client\": \"0\"}"), "/client"),
        ("POST /v1/messages", Some("{\"receivers\": [0], \"message\": 1}"), "/receivers/0"),
        (
            "POST /v1/memberships",
            Some("{\"join\": [{\"client\": 0, \"channel\": \"a\"}]}"),
            "/join/0/client",
        ),
        ("PUT /v1/channels/a/clients/0", None, ""),
    ] {
        let answer = ask(wire.api, request, "", body);
        assert_eq!((answer.status, answer.code()), (400, "invalid_request".into()), "{request}");
        assert!(answer.body.contains("is the system"), "{answer:?}");
        assert_eq!(answer.json()["pointer"].as_str().unwrap_or_default(), pointer, "{answer:?}");
    }
}

/// How an id stands in an address.
fn escaped(id: &str) -> String {
    id.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[test]
fn texts_are_ids_where_the_setting_says_so() {
    let cluster = Cluster::start_with(&["--ids", "text"]);
    let ids = ["alice", "a/b?c#d%20&e,f", "\"q\\\"", "李雷", "42.0", "9223372036854775808"];
    let mut clients: Vec<_> = ids
        .iter()
        .map(|id| {
            let body = json!({ "client": id });
            let answer = cluster.expect(0, "POST /v1/connections", Some(&body), 201).json();
            cluster.open(answer["url"].as_str().unwrap())
        })
        .collect();
    for id in ids {
        let path = format!("/v1/clients/{}", escaped(id));
        eventually("online", || {
            cluster.expect(1, &format!("GET {path}"), None, 200).json()["online"] == true
        });
        let join = format!("PUT /v1/channels/room/clients/{}", escaped(id));
        cluster.expect(2, &join, None, 204);
        let found = cluster.expect(0, &format!("GET {path}"), None, 200).json();
        assert_eq!((&found["client"], &found["channels"]), (&json!(id), &json!(["room"])));
        let open = cluster.expect(0, &format!("GET {path}/connections"), None, 200).json();
        assert_eq!(open["connections"].as_array().unwrap().len(), 1, "{open}");
    }
    let send = json!({ "sender": "alice", "receivers": ids, "message": 1, "receipt": true });
    cluster.expect(1, "POST /v1/messages", Some(&send), 202);
    let mut about: Vec<_> = (1..ids.len()).map(|_| clients[0].json()["to"].take()).collect();
    about.sort_by_key(Value::to_string);
    let mut others: Vec<_> = ids[1..].iter().map(|id| json!(id)).collect();
    others.sort_by_key(Value::to_string);
    assert_eq!(about, others);
    clients[1..].iter_mut().for_each(|client| assert_eq!(client.json(), 1));
    let online = json!({ "clients": ["alice", "Alice", "42.0", 42] });
    let states = cluster.expect(0, "POST /v1/clients/online", Some(&online), 200).json();
    let states: Vec<_> = states["clients"].as_array().unwrap().clone();
    let online: Vec<_> = states.iter().map(|state| state["online"] == true).collect();
    assert_eq!(online, [true, false, true, false], "{states:?}");
    let leave = json!({ "leave": [{ "client": "alice", "channel": "room" }] });
    cluster.expect(0, "POST /v1/memberships", Some(&leave), 204);
    let members = cluster.expect(0, "GET /v1/channels/room/clients", None, 200).json();
    assert_eq!(members["clients"].as_array().unwrap().len(), ids.len() - 1);
    cluster.expect(0, &format!("DELETE /v1/clients/{}/connections", escaped(ids[1])), None, 202);
    assert_eq!(clients[1].closed(), Some(4001));
    refuse_what_is_no_id(&cluster);
    let owners = (0..3).filter(|node| {
        let follow = format!("HEAD /v1/follow?client={}", escaped(ids[2]));
        cluster.ask(*node, &follow, None).status == 200
    });
    assert_eq!(owners.count(), 1, "a text is followed where it lives");
    let document = ask(cluster.apis[0], "GET /openapi.json", "", None).json();
    assert_eq!(document["components"]["schemas"]["ClientIdText"]["maxLength"], 64);
}

fn refuse_what_is_no_id(cluster: &Cluster) {
    let long = "x".repeat(65);
    for id in ["", " alice", "a b", "a\u{7}", "a\u{fffd}", ".", "..", "042", "+42", &long] {
        let answer = cluster.ask(0, "POST /v1/connections", Some(&json!({ "client": id })));
        assert_eq!((answer.status, answer.code()), (400, "invalid_request".into()), "{id:?}");
        assert!(answer.body.contains("is not a client id"), "{answer:?}");
    }
    // Half of a character, and bytes that are none.
    let key = format!("Authorization: Bearer {KEY}\r\n");
    let half = r#"{"client": "a\ud83d"}"#;
    assert_eq!(ask(cluster.apis[0], "POST /v1/connections", &key, Some(half)).status, 400);
    for path in ["a%FF", "a%ED%A0%BD", "%2E%2E", "a%20b"] {
        let answer = cluster.ask(0, &format!("GET /v1/clients/{path}"), None);
        assert_eq!(answer.status, 400, "{path}: {answer:?}");
    }
}

#[test]
fn texts_are_refused_where_net_may_listen() {
    let wire = Wire::start("im_v2", "unused");
    for (request, body) in [
        ("POST /v1/connections", Some(r#"{"client": "alice"}"#)),
        ("POST /v1/messages", Some(r#"{"receivers": ["alice"], "message": 1}"#)),
        ("POST /v1/clients/online", Some(r#"{"clients": ["alice"]}"#)),
        ("PUT /v1/channels/a/clients/alice", None),
        ("GET /v1/clients/alice", None),
    ] {
        let answer = ask(wire.api, request, "", body);
        assert_eq!((answer.status, answer.code()), (400, "invalid_request".into()), "{request}");
        assert!(answer.body.contains("is not a client id"), "{answer:?}");
    }
    let answer = ask(wire.api, "GET /v1/follow?client=alice", "", None);
    assert_eq!((answer.status, answer.code()), (400, "invalid_request".into()), "{answer:?}");
    let admin = wire.admin();
    eventually("ready", || ask(admin, "GET /health/ready", "", None).status == 200);
    for (request, body) in [
        ("GET /clients/alice", None),
        ("POST /kick", Some(r#"{"client": "alice"}"#)),
        ("POST /send", Some(r#"{"client": "alice", "message": 1}"#)),
    ] {
        let answer = ask(admin, request, "", body);
        assert_eq!(answer.status, 400, "{answer:?}");
        assert!(answer.body.contains("--ids text"), "{answer:?}");
    }
}
