//! The examples in other languages, and the commands of their README, as they stand there.

use std::{
    fs,
    io::{self, BufRead, BufReader, Write},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};

use crate::{
    cluster::{Cluster, KEY},
    http::{self, Answer},
    process::eventually,
};

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/api")
}

/// An example at work. Dropped: killed.
struct App(Child, SocketAddr);

impl App {
    /// Starts it, unless its language is not installed.
    fn start(language: &str, file: &str, cluster: &Cluster) -> Option<App> {
        let mut command = Command::new(language);
        command.arg(folder().join(file)).arg("0").stdout(Stdio::piped());
        command.env("IMSERVER_API", format!("http://{}", cluster.apis[0]));
        let Ok(mut child) = command.env("IMSERVER_API_KEY", KEY).spawn() else {
            // Past the test harness, which hides the output of tests that pass.
            let _ = writeln!(io::stderr(), "skipped: {file}: {language} is not installed");
            return None;
        };
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("http://").expect("an address").parse().unwrap();
        Some(App(child, address))
    }

    fn post(&self, path: &str, body: &Value) -> Answer {
        http::ask(self.1, &format!("POST {path}"), "", Some(&body.to_string()))
    }

    fn done(&self, path: &str, body: &Value) -> Value {
        let answer = self.post(path, body);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.json()
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What both programs do for their users.
fn a_day_at_the_chat(language: &str, file: &str) {
    let cluster = Cluster::start();
    let Some(app) = App::start(language, file, &cluster) else { return };
    let mut users: Vec<_> = (1..=3)
        .map(|user| {
            let login = app.done("/login", &json!({ "user": user }));
            cluster.open(login["url"].as_str().unwrap())
        })
        .collect();
    eventually("all are there", || (1..=3).all(|user| cluster.is_online(user)));
    let room = "/rooms/the%20lobby%2F%E5%A5%BD";
    for user in [1, 2] {
        app.done(&format!("{room}/join"), &json!({ "user": user }));
    }
    app.done(&format!("{room}/say"), &json!({ "user": 1, "text": "hello, all" }));
    let expected = json!({ "room": "the lobby/好", "from": 1, "text": "hello, all" });
    assert_eq!(users[1].json(), expected);
    let outsider = app.post(&format!("{room}/say"), &json!({ "user": 3, "text": "let me in" }));
    assert_eq!(outsider.status, 403, "{outsider:?}");
    app.done("/say", &json!({ "user": 3, "to": 1, "text": "psst" }));
    assert_eq!(users[0].json(), json!({ "from": 3, "text": "psst" }));
    assert_eq!(users[2].json()["status"], "sent");
    assert_eq!(app.post("/say", &json!({ "user": "x" })).status, 400);
    assert_eq!(app.post("/nowhere", &json!({ "user": 1 })).status, 404);
    for (path, status, kind) in [
        ("/?user=1", 200, "text/html; charset=utf-8"),
        ("/im.js", 200, "text/javascript; charset=utf-8"),
        ("/im/socket.js", 200, "text/javascript; charset=utf-8"),
        ("/im/nothing.js", 404, "application/json"),
        ("/app.py", 404, "application/json"),
    ] {
        let answer = http::ask(app.1, &format!("GET {path}"), "", None);
        assert_eq!((answer.status, answer.header("Content-Type")), (status, Some(kind)), "{path}");
    }
    app.done("/kick", &json!({ "user": 2 }));
    assert_eq!(users[1].closed(), Some(4001));
    users[0].silent();
}

#[test]
fn python() {
    a_day_at_the_chat("python3", "app.py");
}

#[test]
fn node() {
    a_day_at_the_chat("node", "app.mjs");
}

#[test]
fn the_commands_of_the_readme_do_what_it_says() {
    let text = fs::read_to_string(folder().join("README.md")).unwrap();
    let blocks: Vec<_> = text
        .split("```sh\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap().to_owned())
        .collect();
    let cluster = Cluster::start();
    let mut client = cluster.connect(42);
    let output = Command::new("bash")
        .args(["-eu", "-o", "pipefail", "-c", &blocks.join("\n")])
        .env("API", format!("http://{}", cluster.apis[1]))
        .env("KEY", KEY)
        .output()
        .unwrap();
    let (out, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{errors}");
    // What the comments show is what comes, one answer after the other.
    let shown = blocks.iter().flat_map(|block| block.lines());
    let shown = shown.filter_map(|line| line.strip_prefix("# "));
    let mut rest = &out[..];
    let mut count = 0;
    for line in shown {
        let start = line.split("...").next().unwrap().trim_end();
        let start = start.replace("ws://127.0.0.1:6001", "ws://a");
        let at = rest.find(&start).unwrap_or_else(|| panic!("{start} is not in {rest}"));
        rest = &rest[at + start.len()..];
        count += 1;
    }
    assert!(count >= 9, "{count} answers are shown");
    for expected in [
        json!({ "text": "your order is on its way" }),
        json!("hello, lobby"),
        json!("42 and 43 came in"),
        json!({ "text": "the usual?" }),
        json!("last orders"),
        json!("we close"),
    ] {
        assert_eq!(client.json(), expected);
    }
    assert_eq!(client.closed(), Some(4001));
}
