//! Requests that are repeated: by impatient callers, to several nodes, and over an outage of Redis.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use serde_json::json;
use testkit::{Imserver, PATIENCE, Redis, eventually, ws::Client};

use crate::{cluster::Cluster, http};

#[test]
fn a_request_is_carried_out_once_whichever_nodes_hear_it() {
    let cluster = Cluster::start();
    let mut client = cluster.connect(1);
    let body = json!({ "receivers": [1], "message": "once" });
    let ask = |node| {
        cluster.ask_with(node, "POST /v1/messages", "Idempotency-Key: \"k 1\"\r\n", Some(&body))
    };
    assert_eq!(ask(0).code(), "invalid_request", "a blank in the key");
    let ask =
        |node| cluster.ask_with(node, "POST /v1/messages", "Idempotency-Key: k-1\r\n", Some(&body));
    let answers: Vec<_> = thread::scope(|scope| {
        let calls: Vec<_> = (0..12).map(|index| scope.spawn(move || ask(index % 3))).collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    let replayed = |answer: &crate::http::Answer| answer.header("Idempotency-Replayed").is_some();
    let first = answers.iter().filter(|answer| answer.status == 202 && !replayed(answer)).count();
    assert_eq!(first, 1, "{answers:?}");
    for answer in answers.iter().filter(|answer| answer.status != 202) {
        assert_eq!((answer.status, answer.code()), (409, "in_progress".into()));
        assert!(answer.header("Retry-After").is_some());
    }
    for node in 0..3 {
        let again = ask(node);
        assert_eq!((again.status, replayed(&again)), (202, true), "{again:?}");
    }
    assert_eq!(client.text(), "\"once\"");
    client.silent();
    let other = json!({ "receivers": [1], "message": "twice" });
    let answer = cluster.ask_with(1, "POST /v1/messages", "Idempotency-Key: k-1\r\n", Some(&other));
    assert_eq!((answer.status, answer.code()), (422, "key_reused".into()));
    client.silent();
}

#[test]
fn what_was_refused_leaves_the_key_free() {
    let cluster = Cluster::start();
    let ask =
        |body| cluster.ask_with(0, "POST /v1/connections", "Idempotency-Key: k-2\r\n", Some(&body));
    assert_eq!(ask(json!({ "client": "nobody" })).status, 400);
    let first = ask(json!({ "client": 1 }));
    assert_eq!(first.status, 201, "{first:?}");
    let again = ask(json!({ "client": 1 }));
    assert_eq!((again.status, &again.body), (201, &first.body));
    assert_eq!(again.header("Idempotency-Replayed"), Some("true"));
    assert_eq!(again.header("Content-Type"), Some("application/json"));
}

#[test]
fn without_redis_nothing_is_done_and_later_the_same_request_is() {
    let mut cluster = Cluster::start();
    let body = json!({ "client": 1 });
    let ask = |cluster: &Cluster, key: &str| {
        let header = format!("Idempotency-Key: {key}\r\n");
        cluster.ask_with(0, "POST /v1/connections", &header, Some(&body))
    };
    assert_eq!(ask(&cluster, "before").status, 201);
    cluster.redis.stop();
    let answer = ask(&cluster, "during");
    assert_eq!((answer.status, answer.code()), (503, "unavailable".into()));
    assert!(answer.header("Retry-After").is_some());
    // The first call after the loss may find that its connection broke: that one cannot know.
    let plain = cluster.ask(0, "GET /v1/clients", None);
    assert!(matches!(plain.status, 503 | 504), "{plain:?}");
    cluster.redis.start_again();
    eventually("done", || ask(&cluster, "during").status == 201);
    assert_eq!(ask(&cluster, "during").header("Idempotency-Replayed"), Some("true"));
}

#[test]
fn keys_have_a_life_and_a_bound() {
    let redis = Redis::start();
    let node = ["--listen", "127.0.0.1:0", "--server", "n", "--api", "127.0.0.1:0"];
    let url = redis.url();
    let more = ["--redis", &url, "--admin", "127.0.0.1:0", "--idempotency-keys", "3"];
    let process = Imserver::start(&[&node[..], &more].concat());
    let api = process.api();
    let send =
        |headers: &str| http::ask(api, "POST /v1/broadcast", headers, Some("{\"message\": 1}"));
    eventually("ready", || send("").status == 202);
    assert_eq!(send("Idempotency-Key: a\r\n").status, 202);
    assert_eq!(send("Idempotency-Key: b\r\nIdempotency-Life: 7200\r\n").status, 202);
    let mut connection = redis.connect();
    let mut life = |key: &str| -> i64 {
        redis::cmd("TTL").arg(format!("im_v2_wsRequest{key}")).query(&mut connection).unwrap()
    };
    let (usual, asked) = (life("a"), life("b"));
    assert!((500..=600).contains(&usual) && (7000..=7200).contains(&asked), "{usual}, {asked}");
    for headers in ["Idempotency-Life: 60\r\n", "Idempotency-Key: c\r\nIdempotency-Life: x\r\n"] {
        assert_eq!(send(headers).code(), "invalid_request", "{headers}");
    }
    assert_eq!(send("Idempotency-Key: c\r\n").status, 202);
    let full = send("Idempotency-Key: d\r\n");
    assert_eq!((full.status, full.code()), (503, "unavailable".into()));
    assert!(full.body.contains("nothing was done"), "{full:?}");
    assert_eq!((send("").status, life("d")), (202, -2), "without a key it goes on");
    let log = process.log();
    let admin = log.split("admin at http://").nth(1).unwrap().split('/').next().unwrap();
    let metrics = http::ask(admin.parse().unwrap(), "GET /metrics", "", None).body;
    assert!(metrics.contains("\nimcore_idempotency_keys 3\n"), "{metrics}");
}

/// A way to `port` on which a connection breaks at the answer to what holds `mark`: what was asked is done,
/// and nobody hears of it.
fn breaking_proxy(port: u16, mark: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let pump = |mut from: TcpStream, mut to: TcpStream, pass: &dyn Fn(&[u8]) -> bool| {
        let mut chunk = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut chunk) {
            if !pass(&chunk[..count]) || to.write_all(&chunk[..count]).is_err() {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    };
    thread::spawn(move || {
        for client in listener.incoming() {
            let (Ok(client), Ok(server)) = (client, TcpStream::connect(("127.0.0.1", port))) else {
                continue;
            };
            let (back, forth) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            let asked = Arc::new(AtomicBool::default());
            let answered = Arc::clone(&asked);
            thread::spawn(move || {
                pump(client, server, &|bytes| {
                    asked.fetch_or(String::from_utf8_lossy(bytes).contains(mark), Ordering::SeqCst);
                    true
                });
            });
            thread::spawn(move || pump(forth, back, &|_| !answered.load(Ordering::SeqCst)));
        }
    });
    address
}

#[test]
fn what_may_have_been_done_is_not_done_again() {
    let redis = Redis::start();
    let proxy = format!("redis://{}", breaking_proxy(redis.port, "once at most"));
    let node = ["--listen", "127.0.0.1:0", "--server", "n", "--api", "127.0.0.1:0"];
    let process = Imserver::start(&[&node[..], &["--redis", &proxy]].concat());
    let (api, address) = (process.api(), process.address());
    process.wait_ready();
    let answer = http::ask(api, "POST /v1/connections", "", Some("{\"client\": 1}"));
    let mut client = Client::connect(address, answer.json()["url"].as_str().unwrap()).unwrap();
    client.raw().set_read_timeout(Some(PATIENCE)).unwrap();
    let send = || {
        let body = "{\"receivers\": [1], \"message\": \"once at most\"}";
        http::ask(api, "POST /v1/messages", "Idempotency-Key: k-3\r\n", Some(body))
    };
    let first = send();
    assert_eq!((first.status, first.code()), (504, "unknown_effect".into()));
    assert!(first.header("Idempotency-Replayed").is_none());
    assert_eq!(client.text(), "\"once at most\"");
    let again = send();
    assert_eq!((again.status, again.code()), (504, "unknown_effect".into()));
    assert_eq!(again.header("Idempotency-Replayed"), Some("true"));
    client.silent();
}

#[test]
fn a_claim_that_broke_off_leaves_the_key_free() {
    let redis = Redis::start();
    let start = |name: &str, url: &str| {
        let node = ["--listen", "127.0.0.1:0", "--server", name, "--api", "127.0.0.1:0"];
        Imserver::start(&[&node[..], &["--redis", url]].concat())
    };
    let claimed = start("a", &format!("redis://{}", breaking_proxy(redis.port, "k-4")));
    let other = start("b", &format!("redis://127.0.0.1:{}", redis.port));
    let ask = |node: &Imserver| {
        http::ask(node.api(), "PUT /v1/channels/c/clients/1", "Idempotency-Key: k-4\r\n", None)
    };
    eventually("the broker is there", || {
        http::ask(claimed.api(), "GET /v1/clients", "", None).status == 200
    });
    assert_eq!(ask(&claimed).code(), "unavailable");
    eventually("carried out", || ask(&other).status == 204);
    assert!(ask(&other).header("Idempotency-Replayed").is_some());
}
