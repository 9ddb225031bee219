//! HTTP as programs of others speak it: Node, Python, and nginx with nothing set. Each test needs one of them, which
//! its mark says.

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use testkit::{Imserver, PATIENCE, eventually, ws::Client};

use crate::{cluster::KEY, http::ask};

const NODE: [&str; 6] = ["--listen", "127.0.0.1:0", "--server", "n", "--api", "127.0.0.1:0"];

/// Runs a program that prints one status a line.
fn statuses(program: &str, args: &[&str], script: &str, api: SocketAddr) -> Vec<String> {
    let output = Command::new(program)
        .args(args)
        .arg(script)
        .arg(format!("http://{api}"))
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let (out, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{errors}");
    out.lines().map(str::to_owned).collect()
}

/// Sends bodies that are too large, most of them before it looks for an answer.
const FETCH: &str = r#"
const base = process.argv[1];
for (let round = 0; round < 12; round++) {
    for (const size of [1.1e6, 2e6, 6e6, 30e6]) {
        const headers = { "Content-Type": "application/json" };
        try {
            const answer = await fetch(base + "/v1/messages", { method: "POST", headers, body: "x".repeat(size) });
            console.log(answer.status);
        } catch (error) {
            console.log(size + " " + (error.cause?.code ?? error));
        }
    }
}
"#;

const URLLIB: &str = r#"
import sys, urllib.request, urllib.error
for round in range(12):
    for size in (1_100_000, 2_000_000, 6_000_000, 30_000_000):
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(sys.argv[1] + "/v1/messages", b"x" * size, headers, method="POST")
        try:
            urllib.request.urlopen(request, timeout=60)
        except urllib.error.HTTPError as error:
            print(error.code)
        except Exception as error:
            print(size, repr(error))
"#;

fn all_are_told_413(program: &str, args: &[&str], script: &str) {
    let process = Imserver::start(&NODE);
    let seen = statuses(program, args, script, process.api());
    assert_eq!(seen.len(), 48);
    assert!(seen.iter().all(|status| status == "413"), "{seen:?}");
}

#[test]
#[ignore = "needs node; .ci/run runs it"]
fn fetch_reads_that_its_body_is_too_large() {
    all_are_told_413("node", &["--input-type=module", "-e"], FETCH);
}

#[test]
#[ignore = "needs python3; .ci/run runs it"]
fn urllib_reads_that_its_body_is_too_large() {
    all_are_told_413("python3", &["-c"], URLLIB);
}

/// nginx with nothing set but where it listens and whom it asks. Dropped: ended.
struct Nginx(Child, SocketAddr, PathBuf);

impl Nginx {
    fn start(upstream: SocketAddr) -> Nginx {
        let port = testkit::port();
        let folder = env::temp_dir().join(format!("imcore-nginx-{port}"));
        fs::create_dir_all(&folder).unwrap();
        let shown = folder.to_str().unwrap();
        let folders = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {shown}/{name};"));
        let config = format!(
            "pid {shown}/pid; events {{}} http {{ access_log off; {} server {{ listen 127.0.0.1:{port}; \
             location / {{ proxy_pass http://{upstream}; }} }} }}",
            folders.concat()
        );
        let file = folder.join("nginx.conf");
        fs::write(&file, config).unwrap();
        let path = env::var("PATH").unwrap_or_default() + ":/usr/sbin:/usr/local/sbin";
        let child = Command::new("nginx")
            .args(["-p", shown, "-e", "errors", "-g", "daemon off; master_process off;", "-c"])
            .arg(&file)
            .env("PATH", path)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("nginx: {error}"));
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        eventually("nginx listens", || TcpStream::connect(address).is_ok());
        Nginx(child, address, folder)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        let _ = fs::remove_dir_all(&self.2);
    }
}

#[test]
#[ignore = "needs nginx; .ci/run runs it"]
fn events_come_at_once_through_nginx_as_it_comes() {
    let process = Imserver::start(&[&NODE[..], &["--api-key", KEY]].concat());
    let api = process.api();
    let nginx = Nginx::start(api);
    let key = format!("Authorization: Bearer {KEY}\r\n");
    let mut stream = TcpStream::connect(nginx.1).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET /v1/events HTTP/1.1\r\nHost: localhost\r\n{key}\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    lines.find(|line| line.contains("event: listening")).expect("the first event");
    let answer = ask(api, "POST /v1/connections", &key, Some("{\"client\": 7}"));
    let url = answer.json()["url"].as_str().unwrap().to_owned();
    let client = Client::connect(process.address(), &url).unwrap();
    lines.find(|line| line.contains("event: online")).expect("the connection opens");
    drop(client);
}

#[test]
#[ignore = "needs nginx; .ci/run runs it"]
fn without_a_secret_nobody_asks_through_nginx_as_it_comes() {
    for args in [&["--api-key", "none"][..], &[]] {
        let process = Imserver::start_bare(&[&NODE[..], args].concat());
        let nginx = Nginx::start(process.api());
        for request in ["GET /v1/clients", "GET /v1/events", "DELETE /v1/clients/7/connections"] {
            let answer = ask(nginx.1, request, "Host: im.example.com\r\n", None);
            assert!(matches!(answer.status, 401 | 403), "{args:?} {request}: {answer:?}");
        }
    }
}
