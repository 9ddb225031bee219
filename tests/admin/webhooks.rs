//! What the admin listener tells of webhooks, and what it lets an operator do about them.

use serde_json::{Value, json};
use testkit::eventually;

use crate::{
    TOKEN, ask,
    cluster::{Fleet, post},
    get, metrics,
};

/// Flags of nodes that post to nobody, so that what happens is put aside.
pub const TO_NOBODY: [&str; 14] = [
    "--events",
    "100000",
    "--webhook-url",
    "http://127.0.0.1:1/hook?key=hidden",
    "--webhook-secret",
    "whsec_QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIz",
    "--webhook-allow",
    "http,127.0.0.1",
    "--webhook-give-up",
    "0",
    "--webhook-timeout",
    "1",
    "--keep",
    "0",
];

fn webhook(fleet: &Fleet) -> Value {
    fleet.json("/cluster")["webhook"].clone()
}

#[test]
fn delivery_is_shown_counted_and_steered() {
    let fleet = Fleet::start(&TO_NOBODY);
    eventually("somebody delivers what happens from now on", || {
        webhook(&fleet)["node"].is_string() && fleet.json("/cluster")["groups"] != json!([])
    });
    let seen = webhook(&fleet);
    assert_eq!((&seen["url"], &seen["on"]), (&json!("http://127.0.0.1:1/hook?.."), &json!(true)));
    let _clients = [1, 2].map(|client| {
        let socket = fleet.connect(client, None);
        eventually("it is put aside", || webhook(&fleet)["dead_letters"] == client);
        socket
    });
    let letters = fleet.json("/letters");
    let id = letters["letters"][0]["letter"].as_str().unwrap();
    assert_eq!((&letters["total"], &letters["letters"][0]["events"]), (&json!(2), &json!(2)));

    let node = seen["node"].as_str().unwrap();
    let delivers = format!("imcore_webhook_delivers{{node=\"{node}\"}}");
    eventually("metrics have what all nodes know", || {
        let samples = metrics(fleet.admin());
        samples.get("imcore_webhook_dead_letters") == Some(&2.0)
            && samples.get("imcore_webhook_on") == Some(&1.0)
            && samples.get("imcore_webhook_failures") >= Some(&1.0)
            && samples.get(&delivers) == Some(&1.0)
    });
    let attempts = "imcore_webhook_attempts_total{outcome=\"failed\"}";
    let all: f64 = fleet.nodes.iter().map(|node| metrics(node.admin())[attempts]).sum();
    assert!(all >= 1.0, "{all} attempts");

    let act = |body: Value| {
        let (status, text) = fleet.post("/webhook", &body);
        assert_eq!(status, 200, "{text}");
        serde_json::from_str::<Value>(&text).unwrap()
    };
    assert_eq!(act(json!({ "do": "replay", "letters": [id] })), json!({ "letters": 1 }));
    fleet.nodes[0].says(" has 1 dead letters delivered once more");
    assert_eq!(act(json!({ "do": "discard", "letters": [id] })), json!({ "letters": 1 }));
    act(json!({ "do": "off" }));
    eventually("it is off", || webhook(&fleet)["off_reason"] == "by an operator");
    eventually("metrics say so", || metrics(fleet.admin())["imcore_webhook_on"] == 0.0);
    act(json!({ "do": "on" }));
    eventually("it is on", || webhook(&fleet)["on"] == true);
    assert_eq!(act(json!({ "do": "discard", "all": true })), json!({ "letters": 1 }));
    assert_eq!(fleet.json("/letters")["letters"], json!([]));
    let history = fleet.json("/history").to_string();
    for what in ["switched webhooks off", "switched webhooks on", "threw 1 dead letters away"] {
        assert!(history.contains(what), "{what} in {history}");
    }
    assert!(!history.contains("hidden"));
}

#[test]
fn what_cannot_be_done_is_said() {
    let fleet = Fleet::start(&[&TO_NOBODY[..], &["--admin-token", TOKEN]].concat());
    let json = format!("Authorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n");
    let act = |body: &str| post(fleet.admin(), "/webhook", body, &json);
    for body in [
        "",
        "{}",
        r#"{"do": "stop"}"#,
        r#"{"do": "replay"}"#,
        r#"{"do": "replay", "letters": []}"#,
        r#"{"do": "discard", "letters": "x"}"#,
        r#"{"do": "discard", "letters": ["x"], "all": true}"#,
        r#"{"do": "off", "all": true}"#,
        r#"{"do": "off", "more": 1}"#,
    ] {
        let (status, text) = act(body);
        assert!(status == 400 && text.contains("for example {"), "{body}: {status} {text}");
    }
    assert_eq!(act(r#"{"do": "replay", "letters": ["x"]}"#), (200, r#"{"letters":0}"#.to_owned()));
    assert_eq!(post(fleet.admin(), "/webhook", "{}", "Content-Type: application/json\r\n").0, 401);
    assert_eq!(get(fleet.admin(), "/letters").0, 401);
    assert_eq!(ask(fleet.admin(), "GET /webhook", &json).0, 405);
}

#[test]
fn where_no_webhook_is_set_there_is_none() {
    let fleet = Fleet::start(&[]);
    assert_eq!(webhook(&fleet), Value::Null);
    assert_eq!(get(fleet.admin(), "/letters").0, 404);
    assert_eq!(fleet.post("/webhook", &json!({ "do": "on" })).0, 404);
    assert!(!get(fleet.admin(), "/metrics").1.contains("imcore_webhook"));
}
