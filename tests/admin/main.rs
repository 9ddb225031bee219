//! Running `imserver`: its settings, its admin listener and its log, as an operator meets them.

mod cluster;
mod listener;
mod page;
mod settings;
mod slots;
mod webhooks;
mod words;

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use testkit::{Imserver, PATIENCE, Redis, eventually};

const TOKEN: &str = "0123456789abcdef-token";

/// Status and body of the answer to a request with these further header lines.
fn ask(admin: SocketAddr, request: &str, headers: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(admin).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let host = if headers.contains("Host: ") { "" } else { "Host: localhost\r\n" };
    write!(stream, "{request} HTTP/1.1\r\n{host}Connection: close\r\n{headers}\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").expect("a whole head");
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

fn get(admin: SocketAddr, path: &str) -> (u16, String) {
    ask(admin, &format!("GET {path}"), "Host: localhost\r\n")
}

/// All samples of `/metrics`, each with its labels as they stand there.
fn metrics(admin: SocketAddr) -> BTreeMap<String, f64> {
    let (status, text) = get(admin, "/metrics");
    assert_eq!(status, 200, "{text}");
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let pair = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap())
    };
    samples.map(pair).collect()
}

fn stats(admin: SocketAddr) -> serde_json::Value {
    serde_json::from_str(&get(admin, "/stats").1).unwrap()
}

/// A node on `redis` with an admin listener, once it is ready.
fn node(redis: &Redis, extra: &[&str]) -> (Imserver, SocketAddr) {
    let url = redis.url();
    let args =
        ["--listen", "127.0.0.1:0", "--server", "n", "--redis", &url, "--admin", "127.0.0.1:0"];
    let process = Imserver::start(&[&args[..], extra].concat());
    let admin = process.admin();
    eventually("ready", || get(admin, "/health/ready").0 == 200);
    (process, admin)
}
