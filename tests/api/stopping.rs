//! SIGTERM: what callers have begun is answered.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
};

use testkit::{Imserver, PATIENCE, Redis, eventually, ws::Client};

use crate::http::{ask, begin};

fn node(name: &str, redis: &Redis, more: &[&str]) -> Imserver {
    let url = redis.url();
    let args = ["--listen", "127.0.0.1:0", "--server", name, "--api", "127.0.0.1:0"];
    let process = Imserver::start(&[&args[..], &["--redis", &url], more].concat());
    process.wait_ready();
    process
}

fn keep(api: SocketAddr) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(api).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    BufReader::new(stream)
}

fn post(connection: &mut BufReader<TcpStream>, key: &str) {
    post_with(connection, key, "", |_| {});
}

/// Posts what the server is known to have begun to read: it asks for the body.
fn post_when_asked(connection: &mut BufReader<TcpStream>, key: &str) {
    post_with(connection, key, "Expect: 100-continue\r\n", |connection| {
        assert!(head(connection).starts_with("HTTP/1.1 100 "));
    });
}

fn post_with(
    connection: &mut BufReader<TcpStream>,
    key: &str,
    header: &str,
    before_body: impl FnOnce(&mut BufReader<TcpStream>),
) {
    let body = "{\"message\": 1}";
    let length = body.len();
    let text = format!(
        "POST /v1/broadcast HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         {header}Idempotency-Key: {key}\r\nContent-Length: {length}\r\n\r\n"
    );
    connection.get_mut().write_all(text.as_bytes()).unwrap();
    before_body(connection);
    connection.get_mut().write_all(body.as_bytes()).unwrap();
}

/// The head of the next answer, which has no body.
fn head(connection: &mut BufReader<TcpStream>) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(connection.read_line(&mut head).unwrap(), 0, "no answer: {head:?}");
    }
    head
}

#[test]
fn requests_under_way_are_answered_and_their_keys_settled() {
    let redis = Redis::start();
    let mut process = node("a", &redis, &[]);
    let api = process.api();
    let mut connections: Vec<_> = (0..4).map(|_| keep(api)).collect();
    for (number, connection) in connections.iter_mut().enumerate() {
        post(connection, &format!("before-{number}"));
        assert!(head(connection).starts_with("HTTP/1.1 202"));
    }
    let mut idle = keep(api);
    // Redis takes its time over the next ones.
    let mut control = redis.connect();
    redis::cmd("CLIENT").arg("PAUSE").arg(1000).arg("ALL").exec(&mut control).unwrap();
    for (number, connection) in connections.iter_mut().enumerate() {
        post(connection, &format!("under-way-{number}"));
    }
    process.signal("TERM");
    for connection in &mut connections {
        let head = head(connection);
        assert!(head.starts_with("HTTP/1.1 202"), "{head}");
        assert!(head.contains("Connection: close"), "{head}");
    }
    assert_eq!(idle.read(&mut [0]).unwrap_or_default(), 0, "nobody is kept who asks nothing");
    assert_eq!(process.ends().code(), Some(0));
    let other = node("b", &redis, &[]);
    let mut connection = keep(other.api());
    for number in 0..4 {
        post(&mut connection, &format!("under-way-{number}"));
        let head = head(&mut connection);
        assert!(head.starts_with("HTTP/1.1 202") && head.contains("Replayed"), "{head}");
    }
}

#[test]
fn a_stop_takes_no_more_requests_and_ends_streams() {
    let redis = Redis::start();
    let process = node("a", &redis, &["--drain", "600"]);
    let api = process.api();
    let url = ask(api, "POST /v1/connections", "", Some("{\"client\": 1}")).json()["url"].clone();
    let _one = Client::connect(process.address(), url.as_str().unwrap()).unwrap();
    let url = ask(api, "POST /v1/connections", "", Some("{\"client\": 1}")).json()["url"].clone();
    let _two = Client::connect(process.address(), url.as_str().unwrap()).unwrap();
    let (mut events, _) = begin(api, "GET /v1/events", "", None);
    let mut first = [0; 16];
    events.read_exact(&mut first).unwrap();
    process.signal("TERM");
    let mut rest = String::new();
    events.read_to_string(&mut rest).expect("the stream ends in good order");
    assert!(rest.starts_with("\ndata: {}"), "{rest:?} after {first:?}");
    eventually("nobody is taken", || TcpStream::connect(api).is_err());
}

#[test]
fn a_stop_ends_while_redis_hangs_and_callers_hear_something() {
    let redis = Redis::start();
    let mut process = node("a", &redis, &[]);
    let mut connection = keep(process.api());
    let mut control = redis.connect();
    redis::cmd("CLIENT").arg("PAUSE").arg(600_000).arg("ALL").exec(&mut control).unwrap();
    post_when_asked(&mut connection, "hanging");
    process.signal("TERM");
    let head = head(&mut connection);
    assert!(head.starts_with("HTTP/1.1 50"), "{head}");
    assert_eq!(process.ends().code(), Some(0));
}
