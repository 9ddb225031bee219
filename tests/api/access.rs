//! Who may ask, and what an operator sees of it.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use testkit::{Imserver, PATIENCE, outcome};

use crate::{cluster::KEY, http::ask};

const NODE: [&str; 4] = ["--listen", "127.0.0.1:0", "--server", "n"];

#[test]
fn a_key_is_required_off_loopback_and_asked_for() {
    let start = |more: &[&str]| outcome(&[&NODE[..], more].concat());
    let (code, message) = start(&["--api", "0.0.0.0:0"]);
    assert_eq!(code, Some(2), "{message}");
    assert!(
        message.contains("api: 0.0.0.0:0") && message.contains("IMSERVER_API_KEY="),
        "{message}"
    );
    let (code, message) = start(&["--api-key", "short-secret"]);
    assert_eq!(code, Some(2), "{message}");
    assert!(message.contains("--api-key") && !message.contains("short-secret"), "{message}");

    let more = ["--api", "0.0.0.0:0", "--api-key", KEY, "--hosts", "im.example,api.example"];
    let process = Imserver::start(&[&NODE[..], &more].concat());
    let api = SocketAddr::from(([127, 0, 0, 1], process.api().port()));
    for wrong in ["", "0123456789abcdef-kez", "0123456789abcdef-ke", "0123456789abcdef-key1"] {
        let header = format!("Authorization: Bearer {wrong}\r\n");
        let answer = ask(api, "GET /v1/clients", &header, None);
        assert_eq!((answer.status, answer.code()), (401, "unauthorized".into()), "{wrong}");
    }
    let good = format!("Host: im.example\r\nAuthorization: Bearer {KEY}\r\n");
    assert_eq!(ask(api, "GET /v1/clients", &good, None).status, 200);
    // A page that had its name led here, and was told the key.
    let rebound = format!("Host: evil.example\r\nAuthorization: Bearer {KEY}\r\n");
    let answer = ask(api, "POST /v1/broadcast", &rebound, Some("{\"message\": 1}"));
    assert_eq!((answer.status, answer.code()), (403, "forbidden".into()));
    assert!(answer.body.contains("hosts"), "{answer:?}");
    // What is not there is told only to those who may ask; the document to everybody.
    assert_eq!(ask(api, "GET /nowhere", "", None).status, 401);
    assert_eq!(ask(api, "GET /nowhere", &good, None).code(), "not_found");
    assert_eq!(ask(api, "GET /openapi.json", "", None).status, 200);
    assert!(!process.log().contains(KEY), "{}", process.log());
}

#[test]
fn without_a_setting_a_key_is_made_and_told_to_the_operator() {
    let process = Imserver::start_bare(&[&NODE[..], &["--api", "127.0.0.1:0"]].concat());
    let api = process.api();
    assert_eq!(ask(api, "GET /v1/clients", "", None).status, 401);
    // As nginx asks by default, whose requests are like anybody's.
    assert_eq!(raw(api, &format!("GET /v1/clients HTTP/1.0\r\nHost: {api}\r\n\r\n")), 401);
    let log = process.log();
    let rest = log.split("/openapi.json, key ").nth(1).expect("the key");
    let key = rest.split(' ').next().unwrap();
    assert!(key.len() >= 32, "{key}");
    let good = format!("Authorization: Bearer {key}\r\n");
    assert_eq!(ask(api, "GET /v1/clients", &good, None).status, 200);
    let another = Imserver::start_bare(&[&NODE[..], &["--api", "127.0.0.1:0"]].concat());
    assert_eq!(ask(another.api(), "GET /v1/clients", &good, None).status, 401);
    let (code, message) =
        outcome(&[&NODE[..], &["--api", "0.0.0.0:0", "--api-key", "none"]].concat());
    assert_eq!(code, Some(2), "{message}");
}

/// The status of the answer to these bytes.
fn raw(address: SocketAddr, text: &str) -> u16 {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn with_none_nothing_passes_that_came_through_a_proxy_or_from_a_page() {
    let none = ["--api", "127.0.0.1:0", "--api-key", "none"];
    let process = Imserver::start_bare(&[&NODE[..], &none].concat());
    let api = process.api();
    process.says("open to everybody with an account on this machine");
    let body = Some("{\"message\": 1}");
    for sign in [
        "X-Forwarded-For: 192.0.2.1",
        "X-Forwarded-Host: im.example",
        "Forwarded: for=192.0.2.1",
        "Via: 1.1 proxy",
        "X-Real-IP: 192.0.2.1",
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: same-site",
        "Origin: https://evil.example",
        "Origin: null",
        "Referer: https://evil.example/page",
    ] {
        let header = format!("{sign}\r\n");
        for (request, body) in [
            ("GET /v1/clients/7/connections", None),
            ("GET /v1/events", None),
            ("DELETE /v1/clients/7/connections", None),
            ("POST /v1/broadcast", body),
        ] {
            let answer = ask(api, request, &header, body);
            assert_eq!((answer.status, answer.code()), (403, "forbidden".into()), "{sign}");
        }
    }
    assert_eq!(raw(api, &format!("GET /v1/clients HTTP/1.0\r\nHost: {api}\r\n\r\n")), 403);
    let own = format!("Host: {api}\r\nOrigin: http://{api}\r\nSec-Fetch-Site: same-origin\r\n");
    assert_eq!(ask(api, "POST /v1/broadcast", &own, body).status, 202);
}

#[test]
fn without_a_key_no_page_from_elsewhere_gets_in() {
    let process = Imserver::start(&[&NODE[..], &["--api", "127.0.0.1:0"]].concat());
    let api = process.api();
    let body = Some("{\"message\": 1}");
    assert_eq!(ask(api, "POST /v1/broadcast", "", body).status, 202);
    // A name of its own that leads here; a form; what a browser asks before it sends JSON.
    assert_eq!(ask(api, "POST /v1/broadcast", "Host: evil.example\r\n", body).code(), "forbidden");
    for form in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
        let header = format!("Content-Type: {form}\r\n");
        let answer = ask(api, "POST /v1/broadcast", &header, body);
        assert_eq!(answer.code(), "unsupported_media_type");
    }
    let preflight = "Origin: https://evil.example\r\nAccess-Control-Request-Method: POST\r\n";
    let answer = ask(api, "OPTIONS /v1/broadcast", preflight, None);
    assert_eq!(answer.status, 403);
    assert!(answer.header("Access-Control-Allow-Origin").is_none());
}

#[test]
fn refusals_are_problems_whoever_finds_them() {
    let process = Imserver::start(&[&NODE[..], &["--api", "127.0.0.1:0"]].concat());
    let api = process.api();
    let both = "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n";
    assert_eq!(ask(api, "POST /v1/broadcast", both, None).code(), "invalid_request");
    let long = format!("X: {}\r\n", "x".repeat(40_000));
    assert_eq!(ask(api, "GET /v1/clients", &long, None).status, 431);
    let large = "Content-Type: application/json\r\nContent-Length: 1048577\r\n";
    assert_eq!(ask(api, "POST /v1/broadcast", large, None).code(), "too_large");
}

#[test]
fn sighup_changes_the_key_and_metrics_count_requests() {
    let path = std::env::temp_dir().join(format!("imcore-api-{}.json", std::process::id()));
    let settings = |key: &str| {
        let text = format!(
            r#"{{"listen": "127.0.0.1:0", "api": "127.0.0.1:0", "api_key": "{key}",
                "admin": "127.0.0.1:0", "admin_token": "none"}}"#
        );
        std::fs::write(&path, text).unwrap();
    };
    settings(KEY);
    let process = Imserver::start(&["--config", path.to_str().unwrap()]);
    let api = process.api();
    let status = |key: &str| {
        ask(api, "GET /v1/clients", &format!("Authorization: Bearer {key}\r\n"), None).status
    };
    assert_eq!(status(KEY), 200);
    let next = "another-key-0123456789";
    settings(next);
    process.signal("HUP");
    process.says("settings read again; changed: api_key");
    assert_eq!((status(KEY), status(next)), (401, 200));
    let log = process.log();
    let rest = &log[log.find("admin at http://").unwrap() + "admin at http://".len()..];
    let admin = rest.split('/').next().unwrap().parse().unwrap();
    let metrics = ask(admin, "GET /metrics", "", None).body;
    let sample = "imcore_api_requests_total{operation=\"listOnlineClients\",status=\"200\"} 2\n";
    assert!(metrics.contains(sample), "{metrics}");
    let refused = "imcore_api_requests_total{operation=\"listOnlineClients\",status=\"401\"} 1\n";
    assert!(metrics.contains(refused), "{metrics}");
    std::fs::remove_file(&path).unwrap();
}
