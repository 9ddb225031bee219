//! Nodes that come and go, as whoever operates them sees it.

use serde_json::{Value, json};
use testkit::{Imserver, Redis, eventually};

use crate::{cluster::KEY, http};

fn start(redis: &Redis, name: &str) -> Imserver {
    let node =
        ["--listen", "127.0.0.1:0", "--server", name, "--slots", "16", "--redis", &redis.url()];
    let api = [
        "--api",
        "127.0.0.1:0",
        "--api-key",
        KEY,
        "--public-url",
        "ws://{server}{path}?slot={index}",
    ];
    let node = Imserver::start(&[&node[..], &api].concat());
    node.wait_ready();
    node
}

fn asked(node: &Imserver, request: &str, body: Option<&Value>) -> http::Answer {
    let key = format!("Authorization: Bearer {KEY}\r\n");
    http::ask(node.api(), request, &key, body.map(Value::to_string).as_deref())
}

fn ask(node: &Imserver, request: &str, body: Option<&Value>, status: u16) -> http::Answer {
    let answer = asked(node, request, body);
    assert_eq!(answer.status, status, "{request}: {answer:?}");
    answer
}

/// How many slots each node owns, in the order of their names; none while something is moving, or before one stands there.
fn shares(node: &Imserver) -> Vec<(String, usize)> {
    let answer = asked(node, "GET /v1/slots", None);
    if answer.status == 404 {
        return Vec::new();
    }
    let table = answer.json();
    let nodes = table["nodes"].as_array().unwrap();
    if nodes.iter().any(|node| node["leaving"] != json!([])) {
        return Vec::new();
    }
    let share = |node: &Value| {
        (node["server"].as_str().unwrap().to_owned(), node["slots"].as_array().unwrap().len())
    };
    nodes.iter().map(share).collect()
}

fn of(counts: &[(&str, usize)]) -> Vec<(String, usize)> {
    counts.iter().map(|(name, count)| (name.to_string(), *count)).collect()
}

#[test]
fn slots_are_seen_and_a_node_is_emptied() {
    let redis = Redis::start();
    let a = start(&redis, "a");
    let b = start(&redis, "b");
    eventually("half for each", || shares(&a) == of(&[("a", 8), ("b", 8)]));
    assert_eq!(shares(&b), shares(&a));
    let plan = |body: Value| ask(&a, "POST /v1/slots/plan", Some(&body), 200).json();
    let slots = |plan: &Value, server: &str| {
        let nodes = plan["nodes"].as_array().unwrap();
        nodes.iter().find(|node| node["server"] == server).unwrap()["slots"].clone()
    };
    let grown = plan(json!({ "join": [{ "server": "c", "weight": 2 }] }));
    assert_eq!((slots(&grown, "c"), grown["moves"].as_array().unwrap().len()), (json!(8), 8));
    assert_eq!((&grown["clients"], &grown["unserved"]), (&json!(0), &json!([])));
    let shrunk = plan(json!({ "drain": ["b"] }));
    assert_eq!((slots(&shrunk, "a"), slots(&shrunk, "b")), (json!(16), json!(0)));
    assert!(shrunk["moves"].as_array().unwrap().iter().all(|moved| moved["from"] == "b"));
    let lost = plan(json!({ "lose": ["a", "b"] }));
    assert_eq!(
        (lost["moves"].clone(), lost["unserved"].as_array().unwrap().len()),
        (json!([]), 16)
    );
    ask(&a, "POST /v1/slots/plan", Some(&json!({ "lose": ["c"] })), 404);
    ask(
        &a,
        "POST /v1/slots/plan",
        Some(&json!({ "join": [{ "server": "c", "weight": -1 }] })),
        400,
    );
    let draining = |server: &str, draining: bool| json!({ "server": server, "draining": draining });
    ask(&a, "POST /v1/slots/draining", Some(&draining("b", true)), 202);
    eventually("all for one", || shares(&a) == of(&[("a", 16), ("b", 0)]));
    let url =
        ask(&b, "POST /v1/connections", Some(&json!({ "client": 21 })), 201).json()["url"].clone();
    assert!(url.as_str().unwrap().starts_with("ws://a/ws?slot=5&token="), "{url}");
    ask(&b, "POST /v1/slots/draining", Some(&draining("b", false)), 202);
    eventually("half for each again", || shares(&b) == of(&[("a", 8), ("b", 8)]));
    ask(&a, "POST /v1/slots/draining", Some(&draining("c", true)), 404);
}

#[test]
fn a_weight_is_ordered_and_outlives_the_process() {
    let redis = Redis::start();
    let a = start(&redis, "a");
    let mut b = start(&redis, "b");
    eventually("half for each", || shares(&a) == of(&[("a", 8), ("b", 8)]));
    let order = |weight: Value, status: u16| {
        ask(&a, "POST /v1/slots/weight", Some(&json!({ "server": "b", "weight": weight })), status);
    };
    let weights = || {
        let table = ask(&a, "GET /v1/slots", None, 200).json();
        let node = table["nodes"].as_array().unwrap().iter().find(|node| node["server"] == "b");
        node.map(|node| (node["weight"].clone(), node["ordered_weight"].clone()))
    };
    order(json!(3), 202);
    eventually("three quarters", || shares(&a) == of(&[("a", 4), ("b", 12)]));
    assert_eq!(weights(), Some((json!(3), json!(3))));
    for bad in [json!(-1), json!(1001), json!(1.5), json!("2")] {
        order(bad, 400);
    }
    b.signal("TERM");
    assert!(b.ends().success());
    eventually("it has gone", || shares(&a) == of(&[("a", 16)]));
    let _b = start(&redis, "b");
    eventually("the same again", || shares(&a) == of(&[("a", 4), ("b", 12)]));
    order(Value::Null, 202);
    eventually("its own", || shares(&a) == of(&[("a", 8), ("b", 8)]));
    assert_eq!(weights(), Some((json!(1), Value::Null)));
    let nobody = json!({ "server": "c", "weight": 2 });
    ask(&a, "POST /v1/slots/weight", Some(&nobody), 404);
}

#[test]
fn a_fixed_list_has_no_slots() {
    let node =
        Imserver::start(&["--listen", "127.0.0.1:0", "--api", "127.0.0.1:0", "--api-key", KEY]);
    node.wait_ready();
    ask(&node, "GET /v1/slots", None, 404);
    ask(&node, "POST /v1/slots/plan", Some(&json!({})), 404);
}

#[test]
fn another_number_of_slots_is_said_and_does_no_harm() {
    let redis = Redis::start();
    let a = start(&redis, "a");
    eventually("all", || shares(&a) == of(&[("a", 16)]));
    let node =
        ["--listen", "127.0.0.1:0", "--server", "b", "--slots", "32", "--redis", &redis.url()];
    let b = Imserver::start(&node);
    eventually("it says so", || b.log().contains("the table has 16 slots"));
    assert_eq!(shares(&a), of(&[("a", 16)]));
}
