//! Webhooks: events posted by nodes to targets that take them, and to those that do everything else.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::Command,
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

use imcore::ImClient;
use serde_json::Value;
use testkit::{Imserver, PATIENCE, Redis, eventually, outcome, ws::Client};

pub const SECRET: &str = "whsec_QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIz";
pub const TAKEN: &str = "HTTP/1.1 204 No Content\r\n\r\n";

/// One message as the target has it.
pub struct Post {
    pub id: String,
    timestamp: u64,
    signature: String,
    pub body: Value,
}

impl Post {
    /// The types of its events.
    pub fn words(&self) -> Vec<&str> {
        let events = self.body["data"]["events"].as_array().unwrap();
        events.iter().map(|event| event["type"].as_str().unwrap()).collect()
    }
}

/// A target that answers as it is told, and tells what it was asked.
pub struct Target {
    pub address: SocketAddr,
    answer: Arc<Mutex<Vec<u8>>>,
    /// Messages that it never answers.
    hangs: Arc<Mutex<Vec<String>>>,
    pub posts: Receiver<Post>,
}

impl Target {
    pub fn start() -> Target {
        Target::speaking(|socket| socket)
    }

    /// One that speaks something below HTTP.
    pub fn speaking<S: Read + Write>(
        speak: impl Fn(TcpStream) -> S + Clone + Send + 'static,
    ) -> Target {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answer = Arc::new(Mutex::new(TAKEN.as_bytes().to_vec()));
        let (told, posts) = channel();
        let hangs = Arc::<Mutex<Vec<String>>>::default();
        let (answers, never) = (Arc::clone(&answer), Arc::clone(&hangs));
        thread::spawn(move || {
            for socket in listener.incoming() {
                let (speak, told) = (speak.clone(), told.clone());
                let (answers, never) = (Arc::clone(&answers), Arc::clone(&never));
                let answer = move |id: &String| {
                    let answer = answers.lock().unwrap().clone();
                    if never.lock().unwrap().contains(id) { Vec::new() } else { answer }
                };
                thread::spawn(move || serve(speak(socket.unwrap()), &answer, &told));
            }
        });
        Target { address, answer, hangs, posts }
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook?key=hidden", self.address)
    }

    /// What it answers from now on; nothing: it hangs.
    pub fn answers(&self, answer: &str) {
        *self.answer.lock().unwrap() = answer.as_bytes().to_vec();
    }

    pub fn next(&self) -> Post {
        self.posts.recv_timeout(PATIENCE).expect("a message")
    }

    /// The first message whose events are of these types.
    fn told(&self, words: &[&str]) -> Post {
        loop {
            let post = self.next();
            if post.words() == words {
                return post;
            }
        }
    }
}

fn serve(socket: impl Read + Write, answer: &impl Fn(&String) -> Vec<u8>, told: &Sender<Post>) {
    let mut reader = BufReader::new(socket);
    loop {
        let (mut head, mut line) = (Vec::new(), String::new());
        while reader.read_line(&mut line).unwrap_or(0) > 2 {
            head.push(std::mem::take(&mut line));
        }
        let header = |name: &str| {
            let found = head.iter().filter_map(|line| line.split_once(':'));
            let found = found.filter(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.trim().to_owned()).next().unwrap_or_default()
        };
        let Ok(length) = header("content-length").parse() else { return };
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let post = Post {
            id: header("webhook-id"),
            timestamp: header("webhook-timestamp").parse().unwrap(),
            signature: header("webhook-signature"),
            body: serde_json::from_slice(&body).unwrap(),
        };
        let answer = answer(&post.id);
        let is_told = told.send(post).is_ok();
        if !is_told || reader.get_mut().write_all(&answer).is_err() {
            return;
        }
        if !answer.is_empty() && answer != TAKEN.as_bytes() {
            return;
        }
    }
}

/// A cluster that posts to `target`.
pub struct Cluster {
    redis: Redis,
    im: ImClient,
    pub url: String,
}

impl Cluster {
    pub fn start(target: &Target) -> Cluster {
        let redis = Redis::start();
        let im = ImClient::builder().servers(["a", "b"]).redis(redis.url()).build().unwrap();
        Cluster { redis, im, url: target.url() }
    }

    pub fn node(&self, name: &str, more: &[&str]) -> Imserver {
        let redis = self.redis.url();
        let args = [
            "--listen",
            "127.0.0.1:0",
            "--servers",
            "a,b",
            "--server",
            name,
            "--redis",
            &redis,
            "--keep",
            "0",
            "--events",
            "1000",
            "--webhook-url",
            &self.url,
            "--webhook-secret",
            SECRET,
            "--webhook-timeout",
            "0.5",
        ];
        let usual = [["--webhook-allow", "http,127.0.0.1"], ["--webhook-retry", "0.02"]];
        let usual = usual.into_iter().filter(|[name, _]| !more.contains(name));
        let usual: Vec<_> = usual.flatten().collect();
        let node = Imserver::start(&[&args[..], &usual, more].concat());
        node.wait_ready();
        eventually("somebody delivers what happens from now on", || {
            let groups = self.im.event_groups().unwrap();
            self.holder().is_some() && groups.iter().any(|group| group.name == "@webhook")
        });
        node
    }

    /// Who has the turn.
    fn holder(&self) -> Option<String> {
        self.im.broker().webhook_state().unwrap()?.holder
    }

    pub fn connect(&self, client: i64, node: &Imserver) -> Client {
        let url = self.im.connect_url(client, Some("note")).unwrap();
        Client::connect(node.address(), &url).unwrap()
    }

    /// What the command says.
    pub fn command(&self, verb: &str) -> String {
        let args = ["--redis", &self.redis.url(), "--webhook", verb];
        let output = Command::new(testkit::imserver::program()).args(args).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

#[test]
fn events_are_posted_signed_and_in_order() {
    let target = Target::start();
    let cluster = Cluster::start(&target);
    let node = cluster.node("a", &["--webhook-events", "online,offline"]);
    let client = cluster.connect(42, &node);
    let online = target.next();
    assert_eq!(online.words(), ["online"]);
    assert_eq!(online.body["type"], "events");
    let event = &online.body["data"]["events"][0];
    assert_eq!(
        (&event["client"], &event["meta"], &event["node"]),
        (&"42".into(), &"note".into(), &"a".into())
    );
    assert!(online.body["timestamp"].as_str().unwrap().ends_with('Z'));
    assert!(online.signature.starts_with("v1,") && online.timestamp > 1_700_000_000);
    drop(client);
    assert_eq!(target.next().words(), ["offline"]);
    assert!(!node.log().contains("hidden") && !node.log().contains("whsec"), "{}", node.log());
}

#[test]
fn whatever_a_target_answers_the_same_message_comes_again_until_it_is_taken() {
    let target = Target::start();
    let cluster = Cluster::start(&target);
    let node = cluster.node("a", &[]);
    let megabytes =
        format!("HTTP/1.1 500 No\r\nContent-Length: 90000000\r\n\r\n{}", "x".repeat(4 << 20));
    let long_head = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
    target.answers("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n");
    let _client = cluster.connect(42, &node);
    let first = target.next();
    assert_eq!(first.words(), ["opened", "online"]);
    for answer in [
        "HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 307 Moved\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n",
        "garbage\r\n\r\n",
        &megabytes,
        &long_head,
        "",
    ] {
        target.answers(answer);
        let again = target.next();
        assert_eq!((&again.id, &again.body), (&first.id, &first.body));
    }
    target.answers(TAKEN);
    eventually("it is taken", || {
        cluster.im.broker().webhook_state().unwrap().unwrap().failures == 0
    });
    while let Ok(again) = target.posts.try_recv() {
        assert_eq!(again.id, first.id);
    }
    let _other = cluster.connect(44, &node);
    assert_ne!(target.next().id, first.id);
}

#[test]
fn a_target_that_answers_410_is_left_alone_until_an_operator_says_otherwise() {
    let target = Target::start();
    let cluster = Cluster::start(&target);
    let node = cluster.node("a", &[]);
    target.answers("HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n");
    let client = cluster.connect(42, &node);
    let first = target.next();
    node.says("Delivery is OFF on all nodes");
    drop(client);
    let status = cluster.command("status");
    assert!(status.contains("it answered 410") && status.contains("status 410"), "{status}");
    target.answers(TAKEN);
    assert_eq!(cluster.command("on"), "on\n");
    assert_eq!(target.next().id, first.id);
    assert_eq!(target.next().words(), ["ended", "offline"]);
}

#[test]
fn what_is_not_taken_in_time_is_put_aside_and_can_be_replayed() {
    let target = Target::start();
    let cluster = Cluster::start(&target);
    let node = cluster.node("a", &["--webhook-give-up", "1"]);
    target.answers("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
    let _client = cluster.connect(42, &node);
    let first = target.next();
    eventually("it is put aside", || cluster.command("dead").contains(&first.id));
    assert!(
        cluster.command("dead").contains(" 2 events ")
            && cluster.command("dead").contains("attempts: status 503"),
        "{}",
        cluster.command("dead")
    );
    let ends = |post: &Post| {
        let events = post.body["data"]["events"].as_array().unwrap();
        let id = |at: usize| events[at]["id"].as_str().unwrap().to_owned();
        format!("2 events {} to {}, ", id(0), id(1))
    };
    assert!(cluster.command("dead").contains(&ends(&first)), "{}", cluster.command("dead"));
    assert!(cluster.command("status").contains("last_success_ms  -"), "nothing was taken yet");
    // What comes later is not held up by it.
    target.answers(TAKEN);
    let _other = cluster.connect(44, &node);
    target.told(&["opened", "online"]);
    assert!(cluster.command("replay").starts_with('1'));
    let again = target.next();
    assert_eq!((again.id, again.body), (first.id, first.body));
    eventually("nothing is left", || cluster.command("dead").is_empty());
    let status = cluster.command("status");
    assert!(!status.contains("last_success_ms  -"), "{status}");
}

#[test]
fn letters_that_hang_leave_room_for_what_is_new() {
    let target = Target::start();
    let cluster = Cluster::start(&target);
    let node = cluster.node("a", &["--webhook-give-up", "0"]);
    target.answers("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
    let letters = || cluster.command("dead").lines().count();
    let mut clients = Vec::new();
    for client in 0..3 {
        clients.push(cluster.connect(40 + 2 * client, &node));
        eventually("one letter more", || letters() > client as usize);
    }
    target.answers(TAKEN);
    let dead = cluster.command("dead");
    let name = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    let dead: Vec<_> = dead.lines().map(name).collect();
    while target.posts.try_recv().is_ok() {}
    target.hangs.lock().unwrap().clone_from(&dead);
    cluster.command("replay");
    for client in 0..2 {
        while !dead.contains(&target.next().id) {}
        clients.push(cluster.connect(50 + 2 * client, &node));
        assert_eq!(target.next().words(), ["opened", "online"], "no other letter goes first");
    }
    eventually("each was tried once", || cluster.command("status").contains("replaying        0"));
    assert_eq!(letters(), 3);
}

#[test]
fn what_grows_too_old_waits_for_no_attempt_of_its_own() {
    let target = Target::start();
    let cluster = Cluster::start(&target);
    // No second attempt comes while this test lives.
    let node = cluster.node("a", &["--webhook-give-up", "1", "--webhook-retry", "300"]);
    target.answers("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
    let _client = cluster.connect(42, &node);
    let first = target.next();
    let _other = cluster.connect(44, &node);
    let dead = || cluster.command("dead");
    eventually("both are put aside", || {
        let events = |line: &str| -> u32 {
            let (before, _) = line.split_once(" events").unwrap_or_default();
            before.rsplit(' ').next().and_then(|count| count.parse().ok()).unwrap_or_default()
        };
        dead().lines().map(events).sum::<u32>() == 4
    });
    assert!(dead().contains("1 attempts: status 503"), "{}", dead());
    assert!(target.posts.try_recv().is_err(), "nothing but {} was tried", first.id);
}

#[test]
fn a_replay_that_is_answered_410_switches_it_off_as_well() {
    let target = Target::start();
    let cluster = Cluster::start(&target);
    let node = cluster.node("a", &["--webhook-give-up", "0"]);
    target.answers("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
    // One after the other, or their events may be one letter.
    let letters = || cluster.command("dead").lines().count();
    let _one = cluster.connect(42, &node);
    eventually("a letter", || letters() > 0);
    let _other = cluster.connect(44, &node);
    eventually("two letters", || letters() > 1);
    target.answers("HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n");
    while target.posts.try_recv().is_ok() {}
    let all = letters();
    assert!(cluster.command("replay").starts_with(&all.to_string()));
    node.says("Delivery is OFF on all nodes");
    target.next();
    assert_eq!(letters(), all);
    target.answers(TAKEN);
    cluster.command("on");
    // The others were not tried, and are next.
    target.next();
    eventually("the first is left", || letters() == 1);
}

#[test]
fn a_node_that_only_stood_by_tells_that_all_was_lost() {
    let target = Target::start();
    let cluster = Cluster::start(&target);
    let mut nodes = ["a", "b"].map(|name| cluster.node(name, &[]));
    let holder = cluster.holder().unwrap();
    let victim = if holder.starts_with('a') { 0 } else { 1 };
    // Its thread asks whose turn it is as soon as it runs, and then every eighth of a second; nothing shows that it has.
    thread::sleep(std::time::Duration::from_millis(500));
    nodes[victim].kill();
    redis::cmd("FLUSHALL").exec(&mut cluster.redis.connect()).unwrap();
    loop {
        let post = target.next();
        if post.body["type"] == "missed" {
            assert!(post.body["data"]["missed"].is_null(), "{}", post.body);
            return;
        }
    }
}

#[test]
fn another_node_goes_on_where_one_was_killed() {
    let target = Target::start();
    let cluster = Cluster::start(&target);
    let mut nodes = ["a", "b"].map(|name| cluster.node(name, &[]));
    let holder = cluster.holder().unwrap();
    let (victim, other) = if holder.starts_with('a') { (0, 1) } else { (1, 0) };
    // It is killed in the middle of an attempt: nobody knows whether the target took it.
    target.answers("");
    let client = (0..).find(|id| cluster.im.node_of(*id).unwrap() == ["a", "b"][other]).unwrap();
    let _client = cluster.connect(client, &nodes[other]);
    let first = target.next();
    nodes[victim].kill();
    target.answers(TAKEN);
    assert_eq!(target.next().id, first.id);
    eventually("it is the turn of the other", || {
        cluster.holder().is_some_and(|now| now.starts_with(["a", "b"][other]))
    });
}

#[test]
fn a_target_may_be_away_for_a_while() {
    let target = Target::start();
    let cluster =
        Cluster { url: String::from("http://127.0.0.1:1/hook"), ..Cluster::start(&target) };
    let mut node = cluster.node("a", &[]);
    let _client = cluster.connect(42, &node);
    eventually("nobody is there", || {
        cluster.im.broker().webhook_state().unwrap().unwrap().failures > 2
    });
    node.kill();
    let cluster = Cluster { url: target.url(), ..cluster };
    let _node = cluster.node("a", &[]);
    assert_eq!(target.next().words(), ["opened", "online"]);
}

#[test]
fn an_address_that_is_not_public_is_not_dialled() {
    let target = Target::start();
    let port = target.address.port();
    let cluster = Cluster { url: format!("http://localhost:{port}/"), ..Cluster::start(&target) };
    let node = cluster.node("a", &["--webhook-allow", "http,10.0.0.0/8"]);
    let _client = cluster.connect(42, &node);
    node.says("is not allowed; webhook_allow can name it");
    assert!(target.posts.try_recv().is_err());
}

#[test]
fn settings_that_cannot_work_say_what_to_change() {
    let secret = ["--webhook-secret", SECRET];
    let of = |args: &[&str]| {
        let (code, message) = outcome(&[&["--check"], args].concat());
        assert_eq!(code, Some(2), "{message}");
        assert!(!message.contains("hidden") && !message.contains("QUJD"), "{message}");
        message
    };
    let url = ["--webhook-url", "https://hooks.example.com/?key=hidden"];
    for (args, named) in [
        (&url[..], "webhook_secret: webhook_url needs it"),
        (&secret[..], "--webhook-secret needs --webhook-url"),
        (
            &[url[0], "hooks.example.com/hidden", secret[0], SECRET],
            "--webhook-url: its value is not usable",
        ),
        (&[url[0], "http://hooks.example.com", secret[0], SECRET], "add http to webhook_allow"),
        (&[url[0], "https://10.0.0.1/", secret[0], SECRET], "10.0.0.1 is not a public address"),
        (&[url[0], url[1], secret[0], "hidden"], "whsec_"),
        (
            &[url[0], url[1], "--webhook-secret-file", "/nonexistent"],
            "\"/nonexistent\" cannot be read",
        ),
        (
            &[url[0], url[1], secret[0], SECRET, "--webhook-events", "online,ofline"],
            "types of events: opened, ended, online, offline,",
        ),
        (&[url[0], url[1], secret[0], SECRET, "--webhook-allow", "lan"], "--webhook-allow"),
        (&[url[0], url[1], secret[0], SECRET, "--webhook-ca", "/dev/null"], "expected PEM"),
        (
            &[url[0], url[1], secret[0], SECRET, "--redis", "redis://127.0.0.1:1"],
            "--events 1000000",
        ),
    ] {
        let message = of(args);
        assert!(message.contains(named), "{args:?}: {message}");
    }
}
