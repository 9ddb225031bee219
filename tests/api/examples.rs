//! The examples in other languages, and the commands of their README, as they stand there.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};
use testkit::eventually;

use crate::{
    cluster::{Cluster, KEY},
    http::{self, Answer},
};

fn folder() -> std::path::PathBuf {
    testkit::root().join("examples/api")
}

/// An example at work. Dropped: killed.
struct App(Child, SocketAddr);

impl App {
    fn start(language: &str, file: &str, cluster: &Cluster) -> App {
        let mut command = Command::new(language);
        command.arg(folder().join(file)).arg("0").stdout(Stdio::piped());
        command.env("IMSERVER_API", format!("http://{}", cluster.apis[0]));
        let mut child = command.env("IMSERVER_API_KEY", KEY).spawn().expect(language);
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("http://").expect("an address").parse().unwrap();
        App(child, address)
    }

    /// Asks with further lines in the head.
    fn post(&self, path: &str, lines: &str, body: &Value) -> Answer {
        http::ask(self.1, &format!("POST {path}"), lines, Some(&body.to_string()))
    }

    /// The line that says who asks.
    fn login(&self, user: i64) -> String {
        let answer = self.post("/login", "", &json!({ "user": user }));
        assert_eq!(answer.status, 200, "{answer:?}");
        format!("Authorization: Bearer {}\r\n", answer.json()["session"].as_str().unwrap())
    }

    fn done(&self, who: &str, path: &str, body: &Value) -> Value {
        let answer = self.post(path, who, body);
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
    let app = App::start(language, file, &cluster);
    let who: Vec<_> =
        (0..=3).map(|user| if user == 0 { String::new() } else { app.login(user) }).collect();
    let mut users: Vec<_> = (1..=3)
        .map(|user| {
            let address = app.done(&who[user], "/address", &json!({}));
            cluster.open(address["url"].as_str().unwrap())
        })
        .collect();
    eventually("all are there", || (1..=3).all(|user| cluster.is_online(user)));
    let room = "/rooms/the%20lobby%2F%E5%A5%BD";
    for user in [1, 2] {
        app.done(&who[user], &format!("{room}/join"), &json!({}));
    }
    app.done(&who[1], &format!("{room}/say"), &json!({ "text": "hello, all" }));
    let expected = json!({ "room": "the lobby/好", "from": 1, "text": "hello, all" });
    assert_eq!(users[1].json(), expected);
    let outsider = app.post(&format!("{room}/say"), &who[3], &json!({ "text": "let me in" }));
    assert_eq!(outsider.status, 403, "{outsider:?}");
    app.done(&who[3], "/say", &json!({ "to": 1, "text": "psst" }));
    assert_eq!(users[0].json(), json!({ "from": 3, "text": "psst" }));
    assert_eq!(users[2].json()["status"], "sent");
    for (path, body, status) in [
        ("/say", json!({ "to": "x", "text": "" }), 400),
        ("/say", json!({ "to": 0, "text": "" }), 400),
        ("/say", json!({ "to": 1 }), 400),
        ("/say", json!([]), 400),
        ("/kick", json!({ "user": 1 }), 403),
        ("/nowhere", json!({}), 404),
    ] {
        assert_eq!(app.post(path, &who[3], &body).status, status, "{path} {body}");
    }
    for (path, status, kind) in [
        ("/?user=1", 200, "text/html; charset=utf-8"),
        ("/im.js", 200, "text/javascript; charset=utf-8"),
        ("/im/socket.js", 200, "text/javascript; charset=utf-8"),
        ("/im/nothing.js", 404, "application/json"),
        ("/app.py", 404, "application/json"),
        ("/__proto__", 404, "application/json"),
    ] {
        let answer = http::ask(app.1, &format!("GET {path}"), "", None);
        assert_eq!((answer.status, answer.header("Content-Type")), (status, Some(kind)), "{path}");
    }
    app.done(&who[1], "/kick", &json!({ "user": 2 }));
    assert_eq!(users[1].closed(), Some(4001));
    users[0].silent();
    // A chat leaves nothing behind that would have to be kept for a day.
    let mut redis = cluster.redis.connect();
    let keys: Vec<String> = redis::cmd("KEYS").arg("*Request*").query(&mut redis).unwrap();
    assert_eq!(keys, [""; 0]);
}

/// What strangers, other people's pages and large requests get.
fn it_can_be_copied(language: &str, file: &str) {
    let cluster = Cluster::start();
    let app = App::start(language, file, &cluster);
    let one = app.login(1);
    let status = |path: &str, lines: &str, body: &str| {
        http::ask(app.1, &format!("POST {path}"), lines, Some(body)).status
    };
    for stranger in ["", "Authorization: Bearer 1.00\r\n", "Authorization: Bearer \r\n"] {
        for path in ["/address", "/rooms/a/join", "/rooms/a/say", "/say", "/kick"] {
            let body = r#"{"user": 1, "to": 2, "text": "x"}"#;
            assert_eq!(status(path, stranger, body), 401, "{path} {stranger}");
        }
    }
    // What a form or a plain request of another site's page would send.
    for lines in [
        "Origin: http://evil.example\r\n",
        "Origin: null\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-site\r\n",
    ] {
        assert_eq!(status("/address", &format!("{one}{lines}"), "{}"), 403, "{lines}");
    }
    let own =
        "Host: localhost:81\r\nOrigin: http://localhost:81\r\nSec-Fetch-Site: same-origin\r\n";
    assert_eq!(status("/address", &format!("{one}{own}"), "{}"), 200);
    for kind in ["text/plain", "application/x-www-form-urlencoded"] {
        let lines = format!("{one}Content-Type: {kind}\r\n");
        assert_eq!(status("/address", &lines, "{}"), 415, "{kind}");
    }
    assert_eq!(status("/login", "Host: evil.example\r\n", r#"{"user": 1}"#), 421);
    assert_eq!(http::ask(app.1, "GET /", "Host: evil.example\r\n", None).status, 421);
    assert_ne!(http::ask(app.1, "GET /kick", &one, None).status, 200);

    let large = format!(r#"{{"text": "{}"}}"#, "x".repeat(70_000));
    assert_eq!(status("/login", "", &large), 413);
    assert_eq!(status("/login", "", &large.repeat(8)), 413);
    for length in ["-1", "x"] {
        let lines = format!("Content-Type: application/json\r\nContent-Length: {length}\r\n");
        let answer = http::ask(app.1, "POST /login", &lines, None);
        assert!([400, 411].contains(&answer.status), "{length}: {answer:?}");
    }
    assert_eq!(status("/login", "", &"[".repeat(60_000)), 400);

    let nine = app.login(9);
    let join = |room: u32| status(&format!("/rooms/{room}/join"), &nine, "{}");
    let mut patient = 0;
    for room in 0..20 {
        eventually("it may go on", || {
            patient = join(room);
            patient != 429
        });
        assert_eq!(patient, 200, "room {room}");
    }
    eventually("there are enough rooms", || join(20) == 409);
    assert_ne!(join(0), 409, "it is in there");
    let burst: Vec<_> = (0..60).map(|_| status("/rooms/0/join", &one, "{}")).collect();
    assert!(burst[0] == 200 && burst.contains(&429), "{burst:?}");
}

/// A port that is taken is one line and an end, not a traceback.
fn a_taken_port_is_told(language: &str, file: &str) {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = Command::new(language).arg(folder().join(file)).arg(&port).output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && errors.lines().count() == 1, "{errors}");
    assert!(errors.contains(&port) && errors.contains("another port"), "{errors}");
}

/// Both programs, each where its language is.
macro_rules! programs {
    ($($name:ident $language:literal $file:literal),*) => {$(
        mod $name {
            #[test]
            #[ignore = concat!("needs ", $language, "; .ci/run runs it")]
            fn a_day_at_the_chat() {
                super::a_day_at_the_chat($language, $file);
            }

            #[test]
            #[ignore = concat!("needs ", $language, "; .ci/run runs it")]
            fn it_can_be_copied() {
                super::it_can_be_copied($language, $file);
            }

            #[test]
            #[ignore = concat!("needs ", $language, "; .ci/run runs it")]
            fn a_taken_port_is_told() {
                super::a_taken_port_is_told($language, $file);
            }
        }
    )*};
}

programs!(python "python3" "app.py", node "node" "app.mjs");

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
