//! Who may ask, and what an operator sees of it.

use std::net::SocketAddr;

use crate::{
    cluster::{KEY, api_of},
    http::ask,
    process::{Process, outcome},
};

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

    let process = Process::start(&[&NODE[..], &["--api", "0.0.0.0:0", "--api-key", KEY]].concat());
    let api = SocketAddr::from(([127, 0, 0, 1], api_of(&process).port()));
    for wrong in ["", "0123456789abcdef-kez", "0123456789abcdef-ke", "0123456789abcdef-key1"] {
        let header = format!("Authorization: Bearer {wrong}\r\n");
        let answer = ask(api, "GET /v1/clients", &header, None);
        assert_eq!((answer.status, answer.code()), (401, "unauthorized".into()), "{wrong}");
    }
    let good = format!("Host: im.example\r\nAuthorization: Bearer {KEY}\r\n");
    assert_eq!(ask(api, "GET /v1/clients", &good, None).status, 200);
    // What is not there is told only to those who may ask; the document to everybody.
    assert_eq!(ask(api, "GET /nowhere", "", None).status, 401);
    assert_eq!(ask(api, "GET /nowhere", &good, None).code(), "not_found");
    assert_eq!(ask(api, "GET /openapi.json", "", None).status, 200);
    assert!(!process.log().contains(KEY), "{}", process.log());
}

#[test]
fn without_a_key_no_page_from_elsewhere_gets_in() {
    let process = Process::start(&[&NODE[..], &["--api", "127.0.0.1:0"]].concat());
    let api = api_of(&process);
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
    assert_eq!(answer.status, 405);
    assert!(answer.header("Access-Control-Allow-Origin").is_none());
}

#[test]
fn refusals_are_problems_whoever_finds_them() {
    let process = Process::start(&[&NODE[..], &["--api", "127.0.0.1:0"]].concat());
    let api = api_of(&process);
    let both = "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n";
    assert_eq!(ask(api, "POST /v1/broadcast", both, None).code(), "invalid_request");
    let long = format!("X: {}\r\n", "x".repeat(20_000));
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
                "admin": "127.0.0.1:0"}}"#
        );
        std::fs::write(&path, text).unwrap();
    };
    settings(KEY);
    let process = Process::start(&["--config", path.to_str().unwrap()]);
    let api = api_of(&process);
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
