//! HTTP itself, as real clients, proxies and strange peers speak it.

use std::{
    env, fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use crate::{
    cluster::{KEY, api_of},
    http::ask,
    process::{LONG, Process, eventually},
    ws::Client,
};

const NODE: [&str; 6] = ["--listen", "127.0.0.1:0", "--server", "n", "--api", "127.0.0.1:0"];

/// All that comes back for these bytes, to the end of the connection.
fn raw(address: SocketAddr, text: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or(answer)
}

#[test]
fn request_targets_come_as_paths_or_whole_addresses() {
    let process = Process::start(&[&NODE[..], &["--admin", "127.0.0.1:0"]].concat());
    let api = api_of(&process);
    let log = process.log();
    let admin = log.split("admin at http://").nth(1).unwrap().split('/').next().unwrap();
    let admin: SocketAddr = admin.parse().unwrap();
    for (address, path) in [(api, "/v1/clients?limit=1"), (admin, "/stats")] {
        for (target, host, expected) in [
            (format!("http://{address}{path}"), "localhost", "200"),
            (format!("HTTP://localhost{path}"), "localhost", "200"),
            // The target says who is asked, whatever the header says.
            (format!("http://{address}{path}"), "evil.example", "200"),
            (format!("http://evil.example{path}"), "localhost", "403"),
            (format!("ftp://localhost{path}"), "localhost", "400"),
            (path.to_owned(), "a b", "400"),
            (path.to_owned(), "localhost/x", "400"),
            (path.to_owned(), "a@localhost", "400"),
            (path.to_owned(), "localhost, evil", "400"),
            (path.to_owned(), "", "400"),
        ] {
            let text =
                format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            assert_eq!(status(&raw(address, &text)), expected, "{text}");
        }
        let none = format!("GET {path} HTTP/1.1\r\nConnection: close\r\n\r\n");
        assert_eq!(status(&raw(address, &none)), "400");
    }
    // HEAD is GET without the content, also where there is a mistake.
    for (target, expected) in [("/openapi.json", "200"), ("/nowhere", "404")] {
        let text =
            format!("HEAD {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let answer = raw(api, &text);
        assert_eq!(status(&answer), expected);
        assert!(answer.ends_with("\r\n\r\n") && answer.contains("Content-Length: "), "{answer}");
    }
}

/// Runs a program that prints one status a line, unless its language is not installed.
fn statuses(program: &str, args: &[&str], script: &str, api: SocketAddr) -> Option<Vec<String>> {
    let output = Command::new(program)
        .args(args)
        .arg(script)
        .arg(format!("http://{api}"))
        .stdin(Stdio::null())
        .output();
    let Ok(output) = output else {
        let _ = writeln!(io::stderr(), "SKIPPED: {program} is not installed");
        return None;
    };
    let (out, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{errors}");
    Some(out.lines().map(str::to_owned).collect())
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

#[test]
fn what_is_too_large_is_told_to_those_who_send_all_of_it_first() {
    let process = Process::start(&NODE);
    let api = api_of(&process);
    for (program, args, script) in
        [("node", &["--input-type=module", "-e"][..], FETCH), ("python3", &["-c"], URLLIB)]
    {
        let Some(seen) = statuses(program, args, script, api) else { continue };
        assert_eq!(seen.len(), 48);
        assert!(seen.iter().all(|status| status == "413"), "{program}: {seen:?}");
    }
    // A refusal that comes before the body, to somebody who sends it all the same.
    let large = "x".repeat(8 << 20);
    let head = "Host: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n";
    for (path, expected) in [("/nowhere", "404"), ("/v1/clients", "405")] {
        let length = large.len();
        let text = format!("POST {path} HTTP/1.1\r\n{head}Content-Length: {length}\r\n\r\n{large}");
        assert_eq!(status(&raw(api, &text)), expected, "{path}");
    }
}

/// nginx with nothing set but where it listens and whom it asks. Dropped: ended.
struct Nginx(Child, SocketAddr, PathBuf);

impl Nginx {
    fn start(upstream: SocketAddr) -> Option<Nginx> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
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
            .spawn();
        let Ok(child) = child else {
            let _ = writeln!(io::stderr(), "SKIPPED: nginx is not installed");
            return None;
        };
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        eventually("nginx listens", || TcpStream::connect(address).is_ok());
        Some(Nginx(child, address, folder))
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
fn events_come_at_once_through_nginx_as_it_comes() {
    let process = Process::start(&[&NODE[..], &["--api-key", KEY]].concat());
    let api = api_of(&process);
    let Some(nginx) = Nginx::start(api) else { return };
    let key = format!("Authorization: Bearer {KEY}\r\n");
    let mut stream = TcpStream::connect(nginx.1).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
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
fn without_a_secret_nobody_asks_through_nginx_as_it_comes() {
    for args in [&["--api-key", "none"][..], &[]] {
        let process = Process::start_bare(&[&NODE[..], args].concat());
        let Some(nginx) = Nginx::start(api_of(&process)) else { return };
        for request in ["GET /v1/clients", "GET /v1/events", "DELETE /v1/clients/7/connections"] {
            let answer = ask(nginx.1, request, "Host: im.example.com\r\n", None);
            assert!(matches!(answer.status, 401 | 403), "{args:?} {request}: {answer:?}");
        }
    }
}
