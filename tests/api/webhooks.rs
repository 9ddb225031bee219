//! Webhooks over HTTP: how delivery goes, on and off, and dead letters.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

use serde_json::{Value, json};
use testkit::{Imserver, PATIENCE, eventually};

use crate::{
    cluster::{Cluster, KEY},
    http,
};

const SECRET: &str = "whsec_QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIz";

/// Where webhooks go: answers with a status, and tells what it was asked.
struct Target {
    address: SocketAddr,
    status: Arc<AtomicU16>,
    posts: Receiver<Value>,
}

impl Target {
    fn start(status: u16) -> Target {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let status = Arc::new(AtomicU16::new(status));
        let (told, posts) = channel();
        let answers = Arc::clone(&status);
        thread::spawn(move || {
            for socket in listener.incoming() {
                serve(&socket.unwrap(), &answers, &told);
            }
        });
        Target { address, status, posts }
    }

    fn answers(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }

    /// The first message from now on that is about this client.
    fn told_of(&self, client: i64) -> Value {
        loop {
            let post = self.posts.recv_timeout(PATIENCE).expect("a message");
            if post["data"]["events"][0]["client"] == json!(client.to_string()) {
                return post;
            }
        }
    }

    /// Flags of nodes that post to it.
    fn flags<'a>(url: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let hook = ["--webhook-url", url, "--webhook-secret", SECRET];
        let allow = ["--webhook-allow", "http,127.0.0.1", "--keep", "0"];
        let times = ["--webhook-retry", "0.02", "--webhook-timeout", "1"];
        [&hook[..], &allow, &times, more].concat()
    }

    fn url(&self) -> String {
        format!("http://{}/hook?key=hidden", self.address)
    }
}

/// One request on a connection.
fn serve(socket: &TcpStream, status: &AtomicU16, told: &Sender<Value>) {
    let (mut reader, mut length) = (BufReader::new(socket), 0);
    let mut line = String::new();
    while reader.read_line(&mut line).unwrap_or(0) > 2 {
        let found = line.to_ascii_lowercase();
        if let Some(number) = found.strip_prefix("content-length:") {
            length = number.trim().parse().unwrap();
        }
        line.clear();
    }
    let mut body = vec![0; length];
    if length == 0 || reader.read_exact(&mut body).is_err() {
        return;
    }
    let status = status.load(Ordering::Relaxed);
    let answer = format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let _ = told.send(serde_json::from_slice(&body).unwrap());
    let _ = (&mut &*socket).write_all(answer.as_bytes());
}

fn webhook(cluster: &Cluster, node: usize) -> Value {
    cluster.expect(node, "GET /v1/webhook", None, 200).json()
}

/// Nodes that post to `target`, once one of them does.
fn start(target: &Target, more: &[&str]) -> Cluster {
    let url = target.url();
    let more = [&["--events", "100000"], more].concat();
    let cluster = Cluster::start_with(&Target::flags(&url, &more));
    eventually("somebody delivers what happens from now on", || {
        let groups = cluster.expect(0, "GET /v1/events/groups", None, 200).json();
        webhook(&cluster, 0)["node"].is_string() && groups["groups"] != json!([])
    });
    cluster
}

#[test]
fn delivery_is_seen_and_switched_on_any_node() {
    let target = Target::start(204);
    let cluster = start(&target, &[]);
    let _client = cluster.connect(1);
    target.told_of(1);
    let is_done = |seen: &Value| seen["waiting"] == 0 && seen["last_success_ms"].is_u64();
    eventually("all is delivered", || is_done(&webhook(&cluster, 1)));
    let seen = webhook(&cluster, 2);
    assert_eq!(seen["url"], format!("http://{}/hook?..", target.address));
    let node = seen["node"].as_str().unwrap();
    assert!(["a", "b", "c"].contains(&node), "{seen}");
    for (name, value) in [
        ("on", json!(true)),
        ("off_reason", Value::Null),
        ("off_since_ms", Value::Null),
        ("oldest_ms", Value::Null),
        ("failures", json!(0)),
        ("dead_letters", json!(0)),
    ] {
        assert_eq!(seen[name], value, "{name}");
    }

    // Its place in the stream is not lost by mistake.
    cluster.expect(1, "DELETE /v1/events/groups/@webhook", None, 400);

    cluster.expect(1, "PUT /v1/webhook", Some(&json!({ "on": false })), 204);
    let off = webhook(&cluster, 2);
    assert_eq!((&off["on"], &off["off_reason"]), (&json!(false), &json!("by an operator")));
    assert!(off["off_since_ms"].as_u64() > Some(1_700_000_000_000));
    let mut more = Vec::new();
    eventually("the node that delivers has heard of it, and events wait", || {
        more.push(cluster.connect(2));
        let seen = webhook(&cluster, 0);
        seen["waiting"].as_u64() > Some(1) && seen["oldest_ms"].is_u64()
    });
    cluster.expect(2, "PUT /v1/webhook", Some(&json!({ "on": true })), 204);
    eventually("all is delivered", || is_done(&webhook(&cluster, 1)));

    target.answers(500);
    let _third = cluster.connect(3);
    eventually("what fails is said", || {
        let seen = webhook(&cluster, 0);
        seen["failures"].as_u64() > Some(1)
            && seen["last_failure"] == "status 500"
            && seen["failing_since_ms"].as_u64() <= seen["last_failure_ms"].as_u64()
    });
    target.answers(410);
    eventually("the target has switched it off", || {
        webhook(&cluster, 0)["off_reason"] == "it answered 410"
    });
}

#[test]
fn dead_letters_are_read_replayed_and_thrown_away() {
    let target = Target::start(503);
    let cluster = start(&target, &["--webhook-give-up", "0"]);
    const LIST: &str = "GET /v1/webhook/dead-letters";
    let list = |query: &str| cluster.expect(0, &format!("{LIST}{query}"), None, 200).json();
    let _clients = [1, 2, 3].map(|client| {
        let socket = cluster.connect(client);
        eventually("it is put aside", || webhook(&cluster, 0)["dead_letters"] == client);
        socket
    });
    let all = list("");
    assert_eq!((&all["total"], &all["next"]), (&json!(3), &Value::Null));
    let letters = all["letters"].as_array().unwrap();
    let ids: Vec<_> = letters.iter().map(|letter| letter["letter"].as_str().unwrap()).collect();
    let first = &letters[0];
    assert_eq!((&first["events"], &first["reason"]), (&json!(2), &json!("status 503")));
    assert_eq!((&first["attempts"], &first["replaying"]), (&json!(1), &json!(false)));
    assert!(first["ms"].as_u64() > Some(1_700_000_000_000));
    // Page by page.
    let page = list("?limit=2");
    assert_eq!((&page["letters"][1]["letter"], &page["total"]), (&json!(ids[1]), &json!(3)));
    let rest = list(&format!("?limit=2&after={}", page["next"].as_str().unwrap()));
    assert_eq!((&rest["letters"], &rest["next"]), (&json!([letters[2]]), &Value::Null));
    // One, with what it says.
    let one = format!("{LIST}/{}", ids[0]);
    let mut whole = cluster.expect(1, &one, None, 200).json();
    let message = whole["message"].take();
    let events = message["data"]["events"].as_array().unwrap();
    assert_eq!((&events[0]["id"], &events[1]["id"]), (&first["first_event"], &first["last_event"]));
    assert_eq!((&events[0]["type"], &events[0]["client"]), (&json!("opened"), &json!("1")));
    assert_eq!(target.told_of(1), message);

    target.answers(204);
    let replay = "POST /v1/webhook/dead-letters/replay";
    let some = json!({ "letters": [ids[0], "1-1-00000000000000ff"] });
    let answer = cluster.expect(2, replay, Some(&some), 202).json();
    assert_eq!(answer, json!({ "letters": 1 }), "one of them is there");
    assert_eq!(target.told_of(1), message);
    eventually("it is gone", || list("")["total"] == 2);
    cluster.expect(0, &one, None, 404);

    let discard = "POST /v1/webhook/dead-letters/discard";
    let answer = cluster.expect(0, discard, Some(&json!({ "letters": [ids[1]] })), 200).json();
    assert_eq!(answer, json!({ "letters": 1 }));
    for request in [replay, discard] {
        for gone in [ids[1], "1-1-00000000000000ff"] {
            let answer = cluster.ask(0, request, Some(&json!({ "letters": [gone] })));
            assert_eq!((answer.status, answer.code()), (404, "not_found".into()));
        }
    }
    let all = json!({ "all": true });
    assert_eq!(cluster.expect(0, replay, Some(&all), 202).json(), json!({ "letters": 1 }));
    target.told_of(3);
    eventually("nothing is left", || list("")["total"] == 0);
    assert_eq!(cluster.expect(0, discard, Some(&all), 200).json(), json!({ "letters": 0 }));
}

#[test]
fn what_is_wrong_is_said() {
    let target = Target::start(204);
    let cluster = start(&target, &[]);
    let id = "1-1-00000000000000ff";
    let too_many = vec![id; 1001];
    for body in [
        json!({}),
        json!({ "all": false }),
        json!({ "all": 1 }),
        json!({ "letters": [] }),
        json!({ "letters": id }),
        json!({ "letters": ["x"] }),
        json!({ "letters": ["1-1"] }),
        json!({ "letters": ["1-1-00000000000000FF"] }),
        json!({ "letters": [id], "all": true }),
        json!({ "letters": [id], "all": false }),
        json!({ "letters": too_many }),
    ] {
        for verb in ["replay", "discard"] {
            let request = format!("POST /v1/webhook/dead-letters/{verb}");
            let answer = cluster.ask(0, &request, Some(&body));
            assert_eq!((answer.status, answer.code()), (400, "invalid_request".into()), "{body}");
        }
    }
    for body in [json!({}), json!({ "on": "no" }), json!({ "on": null }), json!({ "off": true })] {
        let answer = cluster.ask(0, "PUT /v1/webhook", Some(&body));
        assert_eq!((answer.status, answer.code()), (400, "invalid_request".into()), "{body}");
    }
    for (request, status) in [
        ("GET /v1/webhook?x=1", 400),
        ("GET /v1/webhook/dead-letters?limit=0", 400),
        ("GET /v1/webhook/dead-letters?limit=1001", 400),
        ("GET /v1/webhook/dead-letters?after=", 400),
        ("GET /v1/webhook/dead-letters/x", 400),
        ("GET /v1/webhook/dead-letters/1-1-00000000000000fg", 400),
        ("GET /v1/webhook/dead-letters/1-1-00000000000000ff", 404),
        ("GET /v1/webhook/dead-letters/%ff", 400),
        ("DELETE /v1/webhook", 405),
    ] {
        cluster.expect(0, request, None, status);
    }
    assert_eq!(webhook(&cluster, 0)["on"], true);
}

/// Also where it is the broker of one process.
fn alone(more: &[&str]) -> Imserver {
    let node = ["--listen", "127.0.0.1:0", "--api", "127.0.0.1:0", "--api-key", KEY];
    Imserver::start(&[&node[..], more].concat())
}

fn ask(node: &Imserver, request: &str, body: Option<&str>) -> http::Answer {
    http::ask(node.api(), request, &format!("Authorization: Bearer {KEY}\r\n"), body)
}

#[test]
fn where_no_webhook_is_set_that_is_said() {
    let node = alone(&[]);
    let letters = "/v1/webhook/dead-letters";
    for (request, body) in [
        ("GET /v1/webhook".to_owned(), None),
        ("PUT /v1/webhook".to_owned(), Some(r#"{"on": false}"#)),
        (format!("GET {letters}"), None),
        (format!("GET {letters}/1-1-00000000000000ff"), None),
        (format!("POST {letters}/replay"), Some(r#"{"all": true}"#)),
        (format!("POST {letters}/discard"), Some(r#"{"all": true}"#)),
    ] {
        let answer = ask(&node, &request, body);
        assert_eq!((answer.status, answer.code()), (404, "not_found".into()), "{request}");
        let detail = answer.json()["detail"].to_string();
        assert!(detail.contains("--webhook-url"), "{detail}");
    }
}

#[test]
fn what_is_left_of_webhooks_that_are_not_set_any_more_is_seen() {
    let cluster = Cluster::start_with(&["--events", "1000"]);
    let store = |key: &str, field: &str, value: &str| {
        let mut redis = cluster.redis.connect();
        redis::cmd("HSET").arg(key).arg(field).arg(value).exec(&mut redis).unwrap();
    };
    store("im_v2_wsWebhook", "failures", "7");
    cluster.expect(0, "GET /v1/webhook", None, 404);
    store("im_v2_wsWebhookDead", "1-1-00000000000000ff", "1764304503123 0 9 - - status 500");
    let seen = webhook(&cluster, 0);
    assert_eq!((&seen["url"], &seen["node"]), (&Value::Null, &Value::Null));
    let letters = cluster.expect(1, "GET /v1/webhook/dead-letters", None, 200).json();
    let letter = &letters["letters"][0];
    assert_eq!((&letter["first_event"], &letter["attempts"]), (&Value::Null, &json!(9)));
    let discard = "POST /v1/webhook/dead-letters/discard";
    cluster.expect(2, discard, Some(&json!({ "all": true })), 200);
    cluster.expect(0, "GET /v1/webhook", None, 404);
}

#[test]
fn a_node_alone_is_steered_as_well() {
    let target = Target::start(204);
    let url = target.url();
    let node = alone(&Target::flags(&url, &[]));
    eventually("it delivers what happens from now on", || {
        ask(&node, "GET /v1/events/groups", None).json()["groups"] != json!([])
    });
    let switch = |on: bool| {
        let body = json!({ "on": on }).to_string();
        assert_eq!(ask(&node, "PUT /v1/webhook", Some(&body)).status, 204);
    };
    switch(false);
    eventually("its thread has heard of it, and events wait", || {
        for method in ["PUT", "DELETE"] {
            let request = format!("{method} /v1/channels/a/clients/1");
            assert_eq!(ask(&node, &request, None).status, 204);
        }
        let seen = ask(&node, "GET /v1/webhook", None).json();
        assert_eq!((&seen["on"], &seen["node"].is_string()), (&json!(false), &true), "{seen}");
        seen["waiting"].as_u64() > Some(2)
    });
    switch(true);
    eventually("all is delivered", || ask(&node, "GET /v1/webhook", None).json()["waiting"] == 0);
    target.told_of(1);
}
