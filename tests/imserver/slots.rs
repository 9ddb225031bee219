//! Growing, shrinking, replacing a machine and losing one, as docs/operating.md says it: its lines are carried out as they stand there,
//! with clients that have to stay served.

use std::{collections::BTreeMap, fs, process::Command, time::Instant};

use imcore::{ClientId, ImClient, Message};
use testkit::{Imserver, Redis, eventually, ws::Client};

const SECTION: &str = "### Growing, shrinking, replacing, losing";

/// The blocks of commands of the section, in order.
fn blocks() -> Vec<Vec<String>> {
    let page = fs::read_to_string(testkit::root().join("docs/operating.md")).unwrap();
    let section = page.split_once(&format!("{SECTION}\n")).expect(SECTION).1;
    let section = section.split("\n#").next().unwrap();
    let blocks = section.split("```sh\n").skip(1);
    let lines =
        |block: &str| block.split("```").next().unwrap().lines().map(str::to_owned).collect();
    blocks.map(lines).collect()
}

/// How the command ends, and what it prints: what is wrong, if it fails.
fn asked(redis: &Redis, args: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(testkit::imserver::program());
    let output = command.args(args).env("IMSERVER_REDIS", redis.url()).output().unwrap();
    let text = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.code(), String::from_utf8(text).unwrap())
}

/// What a reader of the page has before it begins.
struct Fleet {
    redis: Redis,
    nodes: BTreeMap<String, Imserver>,
    im: ImClient,
    clients: Vec<(ClientId, String, Client)>,
}

impl Fleet {
    fn start() -> Fleet {
        let redis = Redis::start();
        let im = ImClient::builder().slots().redis(redis.url()).build().unwrap();
        let mut fleet = Fleet { redis, nodes: BTreeMap::new(), im, clients: Vec::new() };
        for name in ["im-0", "im-1", "im-2"] {
            let address = format!("{name}.example.com");
            fleet.node(name, &["--slots", "64", "--server", name, "--address", &address]);
        }
        fleet.settles();
        for id in 1..=12 {
            let (node, socket) = fleet.connect(id.into());
            fleet.clients.push((id.into(), node, socket));
        }
        fleet
    }

    fn node(&mut self, name: &str, args: &[&str]) {
        // Who is lost is to be missed soon.
        let config = std::env::temp_dir().join(format!("imcore-slots-{}.json", std::process::id()));
        fs::write(&config, r#"{"limits": {"lease": 2}}"#).unwrap();
        let given = ["--listen", "127.0.0.1:0", "--redis", &self.redis.url(), "--config"];
        let args = [args, &given, &[config.to_str().unwrap()]].concat();
        let node = Imserver::start(&args);
        node.wait_ready();
        self.nodes.insert(name.to_owned(), node);
    }

    /// The node that the client's address names, and a connection to it.
    fn connect(&self, client: ClientId) -> (String, Client) {
        let mut found = None;
        eventually("served", || {
            let Ok(url) = self.im.connect_url(&client, None) else { return false };
            let host = url.trim_start_matches("ws://").split('/').next().unwrap();
            let name = host.strip_suffix(".example.com").unwrap().to_owned();
            let node = self.nodes.get(&name).filter(|_| self.im.node_of(&client).is_ok());
            let socket = node.and_then(|node| Client::connect(node.address(), &url).ok());
            found = socket.map(|socket| (name, socket));
            found.is_some()
        });
        eventually("online", || self.im.is_online(&client).unwrap());
        found.unwrap()
    }

    /// What the command prints.
    fn command(&self, words: &str) -> String {
        let args: Vec<_> = words.split_whitespace().collect();
        let (code, text) = asked(&self.redis, &args);
        assert_eq!(code, Some(0), "{words}: {text}");
        text
    }

    /// How many slots each node owns, as the command says once nothing moves.
    fn settles(&self) -> BTreeMap<String, usize> {
        let mut shares = BTreeMap::new();
        eventually("nothing moves", || {
            let text = self.command("--slot-table");
            let rows = text.lines().skip(2).take_while(|line| line.contains(".example.com"));
            let row = |line: &str| {
                let cells: Vec<_> = line.split_whitespace().collect();
                (cells[0].to_owned(), cells[1].parse().unwrap())
            };
            shares = rows.map(row).collect();
            text.ends_with("\nnothing moves\n") && shares.len() == self.nodes.len()
        });
        shares
    }

    /// Carries a block out, and gives what its plan said.
    fn plays(&mut self, block: &[String]) -> String {
        let mut plan = String::new();
        for line in block {
            let (line, place) = line.split_once('#').unwrap_or((line, ""));
            let line = line.trim();
            if line == "systemctl stop imserver" {
                let mut node = self.nodes.remove(place.trim().trim_start_matches("on ")).unwrap();
                node.signal("TERM");
                assert!(node.ends().success());
            } else if let Some(plan_words) = line.strip_prefix("imserver --slot-table plan") {
                plan = self.command(&format!("--slot-table plan{plan_words}"));
            } else if line == "imserver --slot-table" {
                self.settles();
            } else if let Some(words) = line.strip_prefix("imserver --slot-table ") {
                self.command(&format!("--slot-table {words}"));
            } else if let Some(words) = line.strip_prefix("imserver ") {
                let args: Vec<_> = words.split_whitespace().collect();
                let server = args.iter().position(|arg| *arg == "--server").unwrap();
                self.node(args[server + 1], &args);
            } else {
                assert!(line.starts_with("export IMSERVER_REDIS="), "{line}");
            }
        }
        plan
    }

    /// Whoever was sent on, or has lost its node, connects again; then all are served.
    fn all_are_served(&mut self, lost: Option<&str>) {
        let mut clients = std::mem::take(&mut self.clients);
        for (client, node, socket) in &mut clients {
            if self.im.node_of(&*client).unwrap() != *node {
                let code = socket.closed();
                assert_eq!(code, if lost == Some(node) { None } else { Some(4302) }, "{client}");
                (*node, *socket) = self.connect(client.clone());
            }
        }
        let ids: Vec<_> = clients.iter().map(|(client, ..)| client.clone()).collect();
        self.im.send(Message::to(ids), "served").unwrap();
        clients.iter_mut().for_each(|(.., socket)| assert_eq!(socket.json(), "served"));
        self.clients = clients;
    }
}

fn shares<const N: usize>(shares: [(&str, usize); N]) -> BTreeMap<String, usize> {
    shares.into_iter().map(|(name, slots)| (name.to_owned(), slots)).collect()
}

#[test]
fn nodes_come_and_go_as_the_page_says() {
    let blocks = blocks();
    let [look, grow, shrink, replace, lose] = &blocks[..] else { panic!("{blocks:?}") };
    let mut fleet = Fleet::start();
    fleet.plays(look);
    let plan = fleet.plays(grow);
    assert!(plan.contains("im-3  0      16"), "{plan}");
    assert!(plan.contains("16 slots and about ") && plan.contains("25.0 % of the slots"), "{plan}");
    let of_four = shares([("im-0", 16), ("im-1", 16), ("im-2", 16), ("im-3", 16)]);
    assert_eq!(fleet.settles(), of_four);
    fleet.all_are_served(None);

    let plan = fleet.plays(shrink);
    assert!(plan.contains("im-1  16     0") && plan.contains("16 slots and about "), "{plan}");
    fleet.all_are_served(None);
    let of_three = fleet.settles();
    assert!(of_three.values().all(|slots| [21, 22].contains(slots)), "{of_three:?}");

    let had = of_three["im-2"];
    let plan = fleet.plays(replace);
    assert!(plan.contains(&format!("im-2  {had}     0")), "{plan}");
    fleet.all_are_served(None);
    let replaced = fleet.settles();
    assert_eq!(replaced.keys().collect::<Vec<_>>(), ["im-0", "im-3", "im-4"]);

    let plan = fleet.command("--slot-table plan lose=im-0 lose=im-3 lose=im-4");
    assert!(plan.contains("nobody would serve 64 slots"), "{plan}");
    let plan = fleet.plays(&lose[..1]);
    assert!(plan.contains(&format!("im-0  {}     0", replaced["im-0"])), "{plan}");
    fleet.nodes.remove("im-0").unwrap().kill();
    fleet.plays(&lose[1..]);
    assert_eq!(fleet.settles(), shares([("im-3", 32), ("im-4", 32)]));
    fleet.all_are_served(Some("im-0"));
}

#[test]
fn what_cannot_be_done_is_said() {
    let redis = Redis::start();
    for (words, why) in [
        (&["status"][..], "no table of slots"),
        (&["plan"], "expected status, nginx"),
        (&["plan", "join=a"], "no table of slots"),
        (&["drain"], "expected status, nginx"),
        (&["weight", "im-1"], "expected status, nginx"),
        (&["weight", "im-1", "2"], "no table of slots"),
        (&["weight", "im-1", "1001"], "a whole number from 0 to 1000"),
    ] {
        let (code, said) = asked(&redis, &[&["--slot-table"], words].concat());
        assert!(code == Some(2) && said.contains(why), "{words:?}: {said}");
    }
}

#[test]
fn a_weight_is_ordered_and_taken_back() {
    let redis = Redis::start();
    let mut table = redis::cmd("HSET");
    table.arg("im_v2_wsSlots").arg(&["form", "1", "version", "7", "count", "8"]);
    table.arg(&["node:a", r#"{"address":"a.example.com","weight":1}"#]);
    table.exec(&mut redis.connect()).unwrap();
    let command = |words: &[&str]| asked(&redis, &[&["--slot-table"], words].concat());
    let row = || {
        let text = command(&["status"]).1;
        let row = text.lines().find(|line| line.starts_with("a ")).unwrap();
        row.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(row(), "a 0 0 1 - silent a.example.com");
    assert!(command(&["weight", "a", "2"]).1.contains("a has the weight 2"));
    assert_eq!(row(), "a 0 0 2 ordered - silent a.example.com");
    assert_eq!(command(&["weight", "b", "2"]).0, Some(2));
    assert!(command(&["weight", "a", "own"]).1.contains("its own setting"));
    assert_eq!(row(), "a 0 0 2 - silent a.example.com", "the node will say it itself");
    assert_eq!(command(&["weight", "b", "own"]).0, Some(2));
}

#[test]
fn slots_that_nobody_takes_are_named() {
    let redis = Redis::start();
    let mut table = redis::cmd("HSET");
    table.arg("im_v2_wsSlots").arg(&["form", "1", "version", "7", "count", "2", "0", "a"]);
    table.arg(&["1", "a", "node:a", r#"{"address":"a.example.com","weight":1}"#]);
    table.exec(&mut redis.connect()).unwrap();
    let (_, text) = asked(&redis, &["--slot-table"]);
    assert!(text.contains("nobody serves 2 slots, and nobody takes any"), "{text}");
}

#[test]
fn twins_do_not_wear_the_table_out() {
    let redis = Redis::start();
    let twin = |address: &str| {
        let args = ["--listen", "127.0.0.1:0", "--slots", "8", "--server", "a", "--redis"];
        Imserver::start(&[&args[..], &[&redis.url(), "--address", address]].concat())
    };
    let _twins = [twin("one.example.com"), twin("two.example.com")];
    let version = || -> u64 {
        let mut version = redis::cmd("HGET");
        version.arg("im_v2_wsSlots").arg("version");
        version.query::<Option<u64>>(&mut redis.connect()).unwrap().unwrap_or(0)
    };
    // Each says its own address once a second, and nobody more often.
    let begun = Instant::now();
    eventually("both have said theirs a few times", || version() >= 16);
    let (changes, seconds) = (version() - 10, begun.elapsed().as_secs() + 1);
    assert!(changes <= 3 * seconds, "{changes} changes within {seconds} s");
}

#[test]
fn a_map_names_every_slot() {
    let redis = Redis::start();
    let mut table = redis::cmd("HSET");
    table
        .arg("im_v2_wsSlots")
        .arg(&["form", "1", "version", "7", "count", "11", "3", "a", "10", "b"]);
    table.arg(&["node:a", r#"{"address":"10.0.0.1:6001","weight":1}"#]);
    table.arg(&["node:b", r#"{"address":"[::1]:6001","weight":1}"#]);
    table.exec(&mut redis.connect()).unwrap();
    let map = |form| asked(&redis, &["--slot-table", form]);
    let lines = "# 11 slots, version 7\ns03 10.0.0.1:6001\ns3 10.0.0.1:6001\ns10 [::1]:6001\n";
    for form in ["haproxy", "caddy"] {
        assert_eq!(map(form), (Some(0), lines.to_owned()), "{form}");
    }
    let with_ends = lines.replace(":6001\n", ":6001;\n");
    assert_eq!(map("nginx"), (Some(0), with_ends));
    let mut evil = redis::cmd("HSET");
    evil.arg("im_v2_wsSlots").arg(&["node:b", r#"{"address":"x; } evil {","weight":1}"#]);
    evil.exec(&mut redis.connect()).unwrap();
    let (code, said) = map("nginx");
    assert!(code == Some(2) && said.contains("no host and port"), "{said}");
}
