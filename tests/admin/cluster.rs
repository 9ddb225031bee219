//! What the admin listener tells of the whole cluster, and what it lets an operator do.

use std::{net::SocketAddr, process::Command};

use imcore::{ClientId, ImClient};
use serde_json::{Value, json};
use testkit::{Imserver, Redis, eventually, ws::Client};

use crate::{TOKEN, ask, get};

const NAMES: [&str; 3] = ["im-0", "im-1", "im-2"];

/// No original has it, so there may be both kinds of ids.
const PREFIX: &str = "fleet";

/// Three nodes on one Redis, each with an admin listener, and a helper.
pub struct Fleet {
    pub nodes: Vec<Imserver>,
    pub redis: Redis,
    pub im: ImClient,
    redis_process: String,
}

impl Fleet {
    pub fn start(extra: &[&str]) -> Fleet {
        let redis = Redis::start();
        let (url, servers) = (redis.url(), NAMES.join(","));
        let start = |name: &&str| {
            let args = ["--listen", "127.0.0.1:0", "--redis", &url, "--servers", &servers];
            let admin = ["--prefix", PREFIX, "--server", name, "--admin", "127.0.0.1:0"];
            Imserver::start(&[&args[..], &admin, extra].concat())
        };
        let nodes: Vec<_> = NAMES.iter().map(start).collect();
        for node in &nodes {
            let admin = node.admin();
            eventually("ready", || get(admin, "/health/ready").0 == 200);
        }
        let im =
            ImClient::builder().servers(NAMES).redis(redis.url()).prefix(PREFIX).build().unwrap();
        let info: String = redis::cmd("INFO").arg("server").query(&mut redis.connect()).unwrap();
        let process = info.lines().find_map(|line| line.strip_prefix("process_id:"));
        let redis_process = process.unwrap().trim().to_owned();
        Fleet { nodes, redis, im, redis_process }
    }

    /// Opens a connection of `client` on its own node.
    pub fn connect(&self, client: impl Into<ClientId>, meta: Option<&str>) -> Client {
        let client = client.into();
        let url = self.im.connect_url(&client, meta).unwrap();
        let owner = self.im.node_of(client).unwrap();
        let index = NAMES.iter().position(|name| *name == owner).unwrap();
        Client::connect(self.nodes[index].address(), &url).unwrap()
    }

    /// Stops Redis in mid-air, or lets it go on.
    pub fn signal_redis(&self, name: &str) {
        let signal = format!("-{name}");
        let done = Command::new("kill").args([&signal, &self.redis_process]).status().unwrap();
        assert!(done.success());
    }

    pub fn admin(&self) -> SocketAddr {
        self.nodes[0].admin()
    }

    pub fn json(&self, path: &str) -> Value {
        let (status, text) = get(self.admin(), path);
        assert_eq!(status, 200, "{path}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// What becomes of something that is to be done.
    pub fn post(&self, path: &str, body: &Value) -> (u16, String) {
        post(self.admin(), path, &body.to_string(), "Content-Type: application/json\r\n")
    }
}

pub fn post(admin: SocketAddr, path: &str, body: &str, headers: &str) -> (u16, String) {
    let headers = format!("{headers}Content-Length: {}\r\n", body.len());
    // The body goes where another header would.
    ask(admin, &format!("POST {path}"), &format!("{headers}\r\n{body}"))
}

#[test]
fn any_node_tells_of_all_nodes() {
    let mut fleet = Fleet::start(&[]);
    let _clients: Vec<_> = (0..5).map(|client| fleet.connect(client + 1, None)).collect();
    // The status is as old as the lease's last renewal.
    let open = |seen: &Value| -> Vec<i64> {
        let nodes = seen["nodes"].as_array().unwrap();
        nodes.iter().map(|node| node["status"]["connections"].as_i64().unwrap_or(-1)).collect()
    };
    eventually("all connections", || open(&fleet.json("/cluster")) == [1, 2, 2]);
    let seen = fleet.json("/cluster");
    assert_eq!(seen["node"], "im-0");
    assert_eq!(
        (&seen["nodes"][2]["server"], &seen["nodes"][2]["index"]),
        (&json!("im-2"), &json!(2))
    );
    assert_eq!(seen["nodes"][1]["status"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(seen["nodes"][1]["status"]["not_ready"], Value::Null);
    fleet.nodes[1].signal("KILL");
    eventually("one is silent", || fleet.json("/cluster")["nodes"][1]["status"].is_null());

    fleet.redis.stop();
    eventually("it says so", || {
        let seen = fleet.json("/cluster");
        seen["trouble"].as_str().is_some_and(|why| why.starts_with("broker unavailable: "))
    });
    // This node is there all the time; of the others is told what was heard last.
    let seen = fleet.json("/cluster");
    assert_eq!(seen["nodes"][0]["status"]["connections"], 1, "{seen}");
    assert!(seen["nodes"][2]["status"].is_null(), "{seen}");
    assert_eq!(seen["nodes"][2]["last"]["connections"], 2, "{seen}");
    assert_eq!(get(fleet.admin(), "/clients/1").0, 503);
    fleet.redis.start_again();
    eventually("it goes on", || fleet.json("/cluster")["trouble"].is_null());
    let told = events(&fleet);
    for part in [
        "im-1 fell silent; it had 2 connections; every client whose remainder by 3 nodes is 1",
        "broker unavailable",
        "the broker answers again",
    ] {
        assert!(told.iter().any(|what| what.contains(part)), "{part}: {told:?}");
    }
}

/// What the node remembers.
fn events(fleet: &Fleet) -> Vec<String> {
    let history = fleet.json("/history");
    let events = history["events"].as_array().unwrap().iter();
    events.map(|event| event["what"].as_str().unwrap().to_owned()).collect()
}

/// A Redis that takes everything and answers nothing.
#[test]
fn a_hanging_broker_keeps_nobody_waiting() {
    let fleet = Fleet::start(&[]);
    let _client = fleet.connect(3, None);
    let one = |seen: &Value| seen["nodes"][0]["status"]["connections"] == 1;
    eventually("the connection", || one(&fleet.json("/cluster")));
    fleet.signal_redis("STOP");
    eventually("it says so", || {
        // Every answer is one, and this node is in all of them.
        let seen = fleet.json("/cluster");
        assert!(one(&seen), "{seen}");
        seen["trouble"].is_string()
    });
    assert_eq!(get(fleet.admin(), "/health/live").0, 200);
    fleet.signal_redis("CONT");
    eventually("it goes on", || fleet.json("/cluster")["trouble"].is_null());
    let points = fleet.json("/history")["points"].as_array().unwrap().len();
    assert!(points > 0);
}

#[test]
fn the_members_of_a_channel_are_listed() {
    let fleet = Fleet::start(&[]);
    let _client = fleet.connect(3, None);
    fleet.im.join([3, 4], ["a/b"]).unwrap();
    eventually("one is online", || {
        let seen = fleet.json("/channels/a%2Fb");
        assert_eq!((&seen["name"], &seen["count"]), (&json!("a/b"), &json!(2)));
        let members = seen["members"].as_array().unwrap();
        assert_eq!(members.len(), 2);
        members.contains(&json!({ "client": "3", "online": true }))
            && members.contains(&json!({ "client": "4", "online": false }))
    });
    assert_eq!(fleet.json("/channels/nobody")["count"], 0);
}

#[test]
fn a_message_to_nobody_is_told_as_that() {
    let fleet = Fleet::start(&[]);
    let _client = fleet.connect(3, None);
    let online = |client: u64| {
        let sent = fleet.post("/send", &json!({ "client": client, "message": "x" }));
        assert_eq!(sent.0, 200, "{}", sent.1);
        serde_json::from_str::<Value>(&sent.1).unwrap()["online"].clone()
    };
    eventually("3 is there", || online(3) == true);
    assert_eq!(online(4), false);
}

#[test]
fn the_largest_channels_come_first() {
    let fleet = Fleet::start(&[]);
    let members = |count: i64| 1..=count;
    for room in 0..60 {
        let name = format!("room {room:02}");
        fleet.im.join(members(room + 1), [&name]).unwrap();
    }
    fleet.im.join(members(100), ["<b>\"largest\"</b>"]).unwrap();
    eventually("all channels", || fleet.json("/channels")["count"] == 61);
    let channels = fleet.json("/channels");
    assert_eq!(channels["members"], 60 * 61 / 2 + 100);
    let largest = channels["largest"].as_array().unwrap();
    assert_eq!(largest.len(), 50);
    assert_eq!(largest[0], json!({ "name": "<b>\"largest\"</b>", "members": 100 }));
    assert_eq!(largest[1], json!({ "name": "room 59", "members": 60 }));
    assert_eq!(largest[49], json!({ "name": "room 11", "members": 12 }));
}

#[test]
fn the_page_of_its_node_says_which_connections_of_a_client_are_away() {
    let fleet = Fleet::start(&[]);
    let client = ClientId::from(7);
    let owner = NAMES.iter().position(|name| *name == fleet.im.node_of(&client).unwrap()).unwrap();
    let other = (owner + 1) % NAMES.len();
    let url = fleet.im.connect_url(&client, Some("phone")).unwrap();
    let mut phone = Client::speak(fleet.nodes[owner].address(), &url, "imcore.1").unwrap();
    let hello = phone.json()["hello"].take();
    let _laptop = fleet.connect(&client, Some("laptop"));
    let seen_by = |node: usize| {
        let answer = get(fleet.nodes[node].admin(), "/clients/7");
        let seen: Value = serde_json::from_str(&answer.1).unwrap();
        let away = |meta: &str| {
            let connections = seen["connections"].as_array().unwrap();
            connections
                .iter()
                .find(|found| found["meta"] == meta)
                .map(|found| found["away"].clone())
        };
        [away("phone"), away("laptop")]
    };
    let says = |phone: bool| [Some(json!(phone)), Some(json!(false))];
    eventually("both are here", || seen_by(owner) == says(false));
    drop(phone);
    eventually("one is away", || seen_by(owner) == says(true));
    assert_eq!(
        seen_by(other),
        [Some(Value::Null), Some(Value::Null)],
        "it says that it does not know"
    );
    let text = |name: &str| hello[name].as_str().unwrap().to_owned();
    let url = fleet.im.connect_url(client, Some("phone")).unwrap();
    let url = format!("{url}&since={}&c={}", text("p"), text("c"));
    let mut phone = Client::speak(fleet.nodes[owner].address(), &url, "imcore.1").unwrap();
    assert_eq!(phone.json()["hello"]["resumed"], true);
    assert_eq!(seen_by(owner), says(false));
}

#[test]
fn a_client_is_found_written_to_and_kicked() {
    let fleet = Fleet::start(&[]);
    // Larger than a browser's numbers, and a GUID: both stay what they are.
    let guid: ClientId = "0f8fad5b-d9cb-469f-a165-70867728950e".parse().unwrap();
    for client in [9_007_199_254_740_995_i64.into(), guid.clone()] {
        let id = client.to_string();
        let mut devices = [Some("phone"), None].map(|meta| fleet.connect(&client, meta));
        fleet.im.join([&client], ["b", "a"]).unwrap();
        let path = format!("/clients/{id}");
        eventually("both are known", || fleet.json(&path)["connections_count"] == 2);
        let seen = fleet.json(&path);
        assert_eq!((&seen["client"], &seen["online"]), (&json!(id), &json!(true)));
        assert_eq!(seen["server"], fleet.im.node_of(client).unwrap());
        assert_eq!(seen["channels"], json!(["a", "b"]));
        let metas: Vec<_> = (0..2).map(|at| seen["connections"][at]["meta"].clone()).collect();
        assert_eq!(metas, [json!("phone"), Value::Null]);

        let message = json!({ "text": "你好" });
        let sent = fleet.post("/send", &json!({ "client": id, "message": message }));
        assert_eq!(sent.0, 200, "{}", sent.1);
        fleet.post("/send", &json!({ "channel": "a", "message": "to all" }));
        for device in &mut devices {
            assert_eq!((device.json(), device.json()), (message.clone(), json!("to all")));
        }
        assert_eq!(fleet.post("/kick", &json!({ "client": id })).0, 200);
        for mut device in devices {
            assert_eq!(device.closed(), Some(4001));
        }
        eventually("offline", || fleet.json(&path)["online"] == false);
        assert_eq!(fleet.json(&path)["channels_count"], 0);
        fleet.nodes[0].says(&format!(" kicked client={id}\n"));
        fleet.nodes[0].says("admin: 127.0.0.1:");
    }
    fleet.nodes[0].says(" sent a message to channel=\"a\"\n");
    assert!(events(&fleet).iter().any(|what| what.ends_with(&format!("kicked client {guid}"))));
}

#[test]
fn what_cannot_be_done_is_refused_with_an_example() {
    let fleet = Fleet::start(&["--admin-token", TOKEN]);
    let admin = fleet.admin();
    let token = format!("Authorization: Bearer {TOKEN}\r\n");
    let json = format!("{token}Content-Type: application/json\r\n");
    let good = r#"{"client": "1", "message": 1}"#;
    for path in ["/cluster", "/channels", "/clients/1"] {
        assert_eq!(get(admin, path).0, 401, "{path}");
        assert_eq!(post(admin, path, good, &json).0, 405, "{path}");
    }
    for path in ["/kick", "/send", "/drain"] {
        assert_eq!(get(admin, path).0, 405, "{path}");
        assert_eq!(post(admin, path, good, "Content-Type: application/json\r\n").0, 401, "{path}");
        assert_eq!(post(admin, path, good, &token).0, 415, "{path}");
        let form = format!("{token}Content-Type: text/plain\r\n");
        assert_eq!(post(admin, path, good, &form).0, 415, "{path}");
        for body in ["", "x", "{}", "[]", r#"{"client": "x y", "message": 1}"#] {
            let (status, text) = post(admin, path, body, &json);
            assert!(
                status == 400 && text.contains("for example {"),
                "{path} {body}: {status} {text}"
            );
        }
    }
    for body in [r#"{"message": 1}"#, r#"{"client": 1, "channel": "a", "message": 1}"#] {
        assert_eq!(post(admin, "/send", body, &json).0, 400, "{body}");
    }
    assert_eq!(post(admin, "/send", r#"{"channel": "", "message": 1}"#, &json).0, 400);
    assert_eq!(ask(admin, "GET /clients/nobody", &token).0, 400);
    assert_eq!(ask(admin, "GET /clients/1/2", &token).0, 404);
    // A little more than may be sent.
    let large = format!(r#"{{"client": "1", "message": "{}"}}"#, "x".repeat(64 << 10));
    assert_eq!(post(admin, "/send", &large, &json).0, 413);
}

#[test]
fn who_reads_events_is_shown_and_counted() {
    let fleet = Fleet::start(&["--events", "1000", "--keep", "0"]);
    assert_eq!(fleet.json("/cluster")["groups"], json!([]));
    assert!(!get(fleet.admin(), "/metrics").1.contains("imcore_event_group"));
    let events = fleet.im.events("billing", |_| Err::<(), _>("not now")).unwrap();
    drop(fleet.connect(7, None));
    let group = || fleet.json("/cluster")["groups"][0].clone();
    let open = |seen: &Value| (seen["waiting"].as_u64(), seen["unacknowledged"].as_u64());
    eventually(
        "the handler has not dealt with the first two",
        || matches!(open(&group()), (Some(waiting), Some(given)) if given >= 2 && waiting + given == 4),
    );
    let seen = group();
    assert_eq!(seen["name"], "billing");
    assert!(seen["oldest_seconds"].as_f64().is_some(), "{seen}");
    assert_eq!(seen["readers_count"], 1, "{seen}");
    eventually("metrics have it", || {
        let text = get(fleet.admin(), "/metrics").1;
        text.contains("imcore_event_group_readers{group=\"billing\"} 1\n")
    });
    events.stop();
    fleet.im.forget_event_group("billing").unwrap();
    eventually("it is gone", || fleet.json("/cluster")["groups"] == json!([]));
}
