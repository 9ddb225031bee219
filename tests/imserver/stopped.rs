//! A node that is stopped and continued, as by a debugger, a freezer or a suspended machine: its system calls are
//! interrupted, and nothing is lost by that.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use imcore::{ImClient, Message};
use testkit::{Imserver, PATIENCE, Redis, ws::Client};

/// How long the node is stopped, each time. A stop is met by a blocked read or not, as chance has it.
fn short_stops() -> Vec<Duration> {
    vec![Duration::from_millis(20); 30]
}

const CLIENTS: i64 = 4;

fn post(api: SocketAddr, body: &str) -> String {
    let mut socket = TcpStream::connect(api).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    let head = "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
    let head = format!("{head}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n");
    socket.write_all((head + body).as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

/// Sends from a helper and through the API of a node that is stopped again and again; all arrives, in order.
fn stopped_again_and_again(
    mut launch: impl FnMut(&[&str]) -> Imserver,
    url: &str,
    im: &ImClient,
    stops: &[Duration],
) {
    let args = ["--listen", "127.0.0.1:0", "--servers", "node-0", "--server", "node-0"];
    let api = ["--api", "127.0.0.1:0", "--redis", url];
    let node = launch(&[&args[..], &api].concat());
    let address = node.address();
    node.wait_ready();
    let log = node.log();
    let api = log.split("API at http://").nth(1).unwrap();
    let api: SocketAddr = api.split('/').next().unwrap().parse().unwrap();
    let mut clients: Vec<_> = (1..=CLIENTS)
        .map(|id| Client::connect(address, &im.connect_url(id, None).unwrap()).unwrap())
        .collect();
    im.join(1..=CLIENTS, ["room"]).unwrap();
    let done = AtomicBool::new(false);
    let (direct, through_api) = thread::scope(|scope| {
        let helper = scope.spawn(|| {
            let mut sent = 0;
            while !done.load(Ordering::Acquire) {
                im.send(Message::to(1..=CLIENTS), &format!("direct {sent}")).unwrap();
                im.send(Message::to_channel("room"), &format!("room {sent}")).unwrap();
                sent += 1;
                thread::sleep(Duration::from_millis(1));
            }
            sent
        });
        let caller = scope.spawn(|| {
            let mut sent = 0;
            while !done.load(Ordering::Acquire) {
                let body =
                    format!(r#"{{"receivers": ["1", "2", "3", "4"], "message": "api {sent}"}}"#);
                let answer = post(api, &body);
                assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
                sent += 1;
            }
            sent
        });
        for stop in stops {
            thread::sleep(Duration::from_millis(20));
            node.signal("STOP");
            thread::sleep(*stop);
            node.signal("CONT");
        }
        done.store(true, Ordering::Release);
        (helper.join().unwrap(), caller.join().unwrap())
    });
    for client in &mut clients {
        let mut next = [0, 0, 0];
        while next != [direct, direct, through_api] {
            let text: String = serde_json::from_str(&client.text()).unwrap();
            let (kind, number) = text.split_once(' ').unwrap();
            let kind = ["direct", "room", "api"].iter().position(|word| *word == kind).unwrap();
            assert_eq!(number.parse::<usize>().unwrap(), next[kind], "{text}");
            next[kind] += 1;
        }
    }
    assert!(!node.log().contains("hears nothing"), "{}", node.log());
}

#[test]
fn a_node_that_is_stopped_and_continued_loses_nothing() {
    let redis = Redis::start();
    let im = ImClient::builder().servers(["node-0"]).redis(redis.url()).build().unwrap();
    stopped_again_and_again(Imserver::start, &redis.url(), &im, &short_stops());
}

/// Longer than any call may take, and than a probe may be under way: a node that was stopped has not waited.
#[test]
fn nor_does_one_that_was_stopped_for_long() {
    let redis = Redis::start();
    let im = ImClient::builder().servers(["node-0"]).redis(redis.url()).build().unwrap();
    let stops = [Duration::from_millis(5_500); 3];
    stopped_again_and_again(Imserver::start, &redis.url(), &im, &stops);
}

#[test]
fn nor_does_one_over_a_socket_path() {
    let redis = Redis::start();
    let im = ImClient::builder().servers(["node-0"]).redis(redis.url()).build().unwrap();
    let url = format!("redis+unix://{}", redis.socket().display());
    stopped_again_and_again(Imserver::start, &url, &im, &short_stops());
}

#[test]
fn nor_does_one_whose_redis_speaks_tls() {
    let folder = std::env::temp_dir().join(format!("imcore-stopped-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let identity = testkit::tls::Identity::new();
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&cert, identity.cert).unwrap();
    std::fs::write(&key, identity.key).unwrap();
    let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let port = testkit::port().to_string();
    let redis = Redis::start_with(&[
        "--tls-port",
        &port,
        "--tls-cert-file",
        cert,
        "--tls-key-file",
        key,
        "--tls-ca-cert-file",
        cert,
        "--tls-auth-clients",
        "no",
    ]);
    let im = ImClient::builder().servers(["node-0"]).redis(redis.url()).build().unwrap();
    let launch = |args: &[&str]| Imserver::start_with_env(&[("SSL_CERT_FILE", cert)], args);
    stopped_again_and_again(launch, &format!("rediss://localhost:{port}"), &im, &short_stops());
    std::fs::remove_dir_all(&folder).unwrap();
}
