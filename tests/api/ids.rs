//! Ids on the wire: what reaches the nodes is the id that the caller wrote, or nothing is sent.

use std::net::SocketAddr;

use serde_json::Value;
use testkit::{Imserver, Redis, eventually};

use crate::http::ask;

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
