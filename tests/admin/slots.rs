//! Nodes that come and go: what the admin listener tells of their slots, and draining one, by hand and on the page.

use std::{net::SocketAddr, process::Command};

use serde_json::{Value, json};
use testkit::{Imserver, Redis, eventually};

use crate::{cluster::post, get, metrics};

fn start(redis: &Redis, name: &str) -> (Imserver, SocketAddr) {
    let (slots, url) = (["--slots", "8", "--server", name], redis.url());
    let place = ["--listen", "127.0.0.1:0", "--redis", &url, "--admin", "127.0.0.1:0"];
    let node = Imserver::start(&[&slots[..], &place].concat());
    node.wait_ready();
    let admin = node.admin();
    (node, admin)
}

/// How many slots each node owns, once nothing moves.
fn shares(admin: SocketAddr) -> Option<Vec<usize>> {
    let table: Value = serde_json::from_str(&get(admin, "/slots").1).unwrap();
    let nodes = table["nodes"].as_array()?;
    let rests = table["to_come"] == 0 && nodes.iter().all(|node| node["leaving"] == json!([]));
    let owned = nodes.iter().map(|node| node["slots"].as_array().unwrap().len());
    rests.then(|| owned.collect())
}

fn two(redis: &Redis) -> [(Imserver, SocketAddr); 2] {
    let nodes = [start(redis, "im-0"), start(redis, "im-1")];
    eventually("half for each", || shares(nodes[0].1) == Some(vec![4, 4]));
    nodes
}

#[test]
fn slots_are_shown_and_counted_and_a_node_is_drained() {
    let redis = Redis::start();
    let [(node, one), (_other, two)] = two(&redis);
    let drain = |draining: bool| {
        let body = json!({ "server": "im-1", "draining": draining }).to_string();
        post(one, "/drain", &body, "Content-Type: application/json\r\n").0
    };
    assert_eq!(drain(true), 200);
    node.says("had node im-1 give its slots away");
    eventually("all for one", || shares(two) == Some(vec![8, 0]));
    let owns = |admin: SocketAddr, count: f64| {
        let metrics = metrics(admin);
        let (owned, moving) = ("imcore_slots{state=\"owned\"}", "imcore_slots{state=\"moving\"}");
        metrics[owned] == count && metrics[moving] == 0.0 && metrics["imcore_slots_unowned"] == 0.0
    };
    eventually("so they count", || owns(one, 8.0) && owns(two, 0.0));
    assert!(get(one, "/history").1.contains("had node im-1 give its slots away"));
    assert_eq!(drain(false), 200);
    eventually("half for each again", || shares(two) == Some(vec![4, 4]));
    let nobody = r#"{"server": "im-9", "draining": true}"#;
    assert_eq!(post(one, "/drain", nobody, "Content-Type: application/json\r\n").0, 404);
}

#[test]
fn a_fixed_list_has_none() {
    let redis = Redis::start();
    let (_node, admin) = crate::node(&redis, &[]);
    assert_eq!(get(admin, "/slots"), (200, "null".to_owned()));
    assert!(!get(admin, "/metrics").1.contains("imcore_slot"));
}

/// Needs Node and Chromium: `cargo test --test admin -- --ignored`.
#[test]
#[ignore = "needs Node and Chromium"]
fn the_page_shows_slots_and_drains_a_node() {
    let redis = Redis::start();
    let [(_node, admin), _other] = two(&redis);
    let mut script = Command::new("node");
    script.arg(testkit::root().join("tests/admin/slots.mjs")).arg(format!("http://{admin}/"));
    assert!(script.status().unwrap().success());
}
