//! A node and its API on a Redis that fails over, with all that there can be in between: TLS, and users and passwords of Redis
//! and of the Sentinels.

use std::{fs, process::Command};

use serde_json::json;
use testkit::{
    Imserver, Redis, eventually, failover::Failover, imserver::program, tls::Identity, ws::Client,
};

use crate::{cluster::KEY, http};

/// A primary, a replica and three Sentinels that speak TLS; the URL that leads there, and its certificate.
fn secure_failover(folder: &std::path::Path) -> (Failover, String, String) {
    fs::create_dir_all(folder).unwrap();
    let identity = Identity::new();
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| folder.join(name).display().to_string());
    fs::write(&cert, identity.cert).unwrap();
    fs::write(&key, identity.key).unwrap();
    let ports = [(); 5].map(|()| testkit::port());
    let settings = |index: usize| {
        let files = ["--tls-cert-file", &cert, "--tls-key-file", &key, "--tls-ca-cert-file", &cert];
        let how = ["--tls-auth-clients", "no", "--tls-replication", "yes", "--tls-port"];
        let port = ports[index].to_string();
        files.iter().chain(&how).copied().chain([&*port]).map(str::to_owned).collect::<Vec<_>>()
    };
    let server = |index: usize, more: &[&str]| {
        let settings = settings(index);
        let mut words: Vec<_> = settings.iter().map(String::as_str).collect();
        words.extend(["--user", "imcore", "on", ">of-redis", "~*", "&*", "+@all"]);
        words.extend(more);
        Redis::start_with(&words)
    };
    let port = ports[0].to_string();
    let servers = [server(0, &[]), server(1, &["--replicaof", "127.0.0.1", &port])];
    let sentinels = [settings(2), settings(3), settings(4)];
    let user = "user imcore on >of-sentinel -@all +auth +subscribe &+switch-master \
                +sentinel|get-master-addr-by-name\n";
    let failover = Failover::watch(servers, [ports[0], ports[1]], sentinels, user);
    let hosts = ports[2..].iter().map(|port| format!("localhost:{port}")).collect::<Vec<_>>();
    let url = format!(
        "rediss+sentinel://imcore:of-redis@{}/main/0?sentinel_username=imcore&\
         sentinel_password=of-sentinel",
        hosts.join(",")
    );
    (failover, url, cert)
}

#[test]
fn node_and_api_follow_the_primary_under_tls_with_passwords_of_both() {
    let folder = std::env::temp_dir().join(format!("imcore-failover-{}", std::process::id()));
    let (mut failover, url, cert) = secure_failover(&folder);
    let trust = [("SSL_CERT_FILE", &*cert)];
    let check = Command::new(program())
        .args(["--check", "--dial", "--redis", &url])
        .envs(trust)
        .output()
        .unwrap();
    let report = String::from_utf8(check.stdout).unwrap();
    assert!(report.contains("/main/0 has all that a node needs"), "{report}");
    assert!(report.contains("rediss+sentinel://localhost:"), "{report}");

    let place = ["--listen", "127.0.0.1:0", "--server", "a", "--redis", &url];
    let api = ["--api", "127.0.0.1:0", "--api-key", KEY, "--message-log", "on"];
    let node = Imserver::start_with_env(&trust, &[&place[..], &api].concat());
    let ask = |request: &str, body: &serde_json::Value| {
        let key = format!("Authorization: Bearer {KEY}\r\n");
        http::ask(node.api(), request, &key, Some(&body.to_string()))
    };
    let connect = |client: i64| {
        let issued = ask("POST /v1/connections", &json!({ "client": client }));
        assert_eq!(issued.status, 201, "{issued:?}");
        Client::connect(node.address(), issued.json()["url"].as_str().unwrap()).unwrap()
    };
    node.wait_ready();
    let mut first = connect(1);
    for number in 0..2 {
        // What is accepted before the node has followed it reads from the log.
        let message = json!({ "receivers": [1], "message": number });
        eventually("accepted", || ask("POST /v1/messages", &message).status == 202);
        assert_eq!(first.text(), number.to_string());
        failover.kill_primary();
        failover.revive();
        failover.settles();
    }
    node.wait_ready();
    connect(2).leave();
    for secret in ["of-redis", "of-sentinel"] {
        assert!(!report.contains(secret) && !node.log().contains(secret));
    }
    fs::remove_dir_all(&folder).unwrap();
}
