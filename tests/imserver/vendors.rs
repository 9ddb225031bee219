//! Nodes on what people rent: a Redis that refuses what each vendor says that it refuses.

use imcore::{ImClient, Message};
use testkit::{
    Imserver, Redis, eventually, outcome,
    poor::{Poor, Rule, without_publish},
    ws::Client,
};

/// A service, what of it was read where, and what becomes of a node there.
struct Vendor {
    name: &'static str,
    #[expect(dead_code, reason = "for whoever reads the table")]
    document: &'static str,
    refuses: Rule,
    /// Whether a script may publish.
    scripts_publish: bool,
    /// Whether keyspace notifications are on, which its users may choose.
    notifies: bool,
    /// How joins become known, or what is said instead.
    outcome: Result<&'static str, &'static [&'static str]>,
}

const VENDORS: [Vendor; 8] = [
    Vendor {
        name: "Redis, Valkey",
        document: "https://valkey.io/commands/client-tracking",
        refuses: |_| None,
        scripts_publish: true,
        notifies: true,
        outcome: Ok("CLIENT TRACKING"),
    },
    Vendor {
        name: "Redis Cloud, Redis Software",
        document: "https://redis.io/docs/latest/operate/rs/references/compatibility/client-side-caching",
        refuses: |words| {
            is(words, "CLIENT TRACKING")
                .then_some("ERR CLIENT TRACKING with REDIRECT is not supported")
        },
        scripts_publish: true,
        notifies: true,
        outcome: Ok("keyspace notifications"),
    },
    Vendor {
        name: "Tencent Cloud",
        document: "https://cloud.tencent.com/document/product/239/122188",
        refuses: tencent,
        scripts_publish: true,
        notifies: true,
        outcome: Ok("keyspace notifications"),
    },
    Vendor {
        name: "Tencent Cloud, as it comes",
        document: "https://cloud.tencent.com/document/product/239/122188",
        refuses: tencent,
        scripts_publish: true,
        notifies: false,
        outcome: Ok("notices of helpers"),
    },
    Vendor {
        name: "Alibaba Cloud, cluster",
        document: "https://www.alibabacloud.com/help/zh/doc-detail/145968.htm",
        refuses: |words| match () {
            () if is(words, "CLIENT ID") => Some("ERR unknown command 'CLIENT'"),
            () if has_undeclared_keys(words) => Some(
                "ERR bad lua script for redis cluster, all the keys that the script uses should be \
                 passed using the KEYS array",
            ),
            () => None,
        },
        scripts_publish: true,
        notifies: true,
        outcome: Err(&["keys that a script does not declare", "script_check_enable 0"]),
    },
    Vendor {
        name: "Alibaba Cloud, cluster, script_check_enable 0",
        document: "https://www.alibabacloud.com/help/en/redis/support/usage-of-lua-scripts",
        refuses: |words| is(words, "CLIENT ID").then_some("ERR unknown command 'CLIENT'"),
        scripts_publish: false,
        notifies: false,
        outcome: Ok("notices of helpers"),
    },
    Vendor {
        name: "Dragonfly",
        document: "https://www.dragonflydb.io/docs/managing-dragonfly/scripting, \
                   https://www.dragonflydb.io/docs/command-reference/server-management/client-trackinginfo",
        refuses: |words| match () {
            () if is(words, "CLIENT TRACKING") => Some("ERR syntax error"),
            () if has_undeclared_keys(words) => Some("ERR script tried accessing undeclared key"),
            () => None,
        },
        scripts_publish: true,
        notifies: false,
        outcome: Err(&["keys that a script does not declare", "--default_lua_flags"]),
    },
    Vendor {
        name: "Dragonfly, as it is told to be",
        document: "https://www.dragonflydb.io/docs/managing-dragonfly/scripting",
        refuses: |words| is(words, "CLIENT TRACKING").then_some("ERR syntax error"),
        scripts_publish: true,
        notifies: false,
        outcome: Ok("notices of helpers"),
    },
];

fn tencent(words: &[String]) -> Option<&'static str> {
    match () {
        () if is(words, "CLIENT TRACKING") => Some("ERR unknown command 'CLIENT'"),
        () if is(words, "HELLO") || is(words, "ACL") => Some("ERR unknown command"),
        () => None,
    }
}

/// Whether a command begins with these words.
fn is(words: &[String], command: &str) -> bool {
    let mut words = words.iter();
    command
        .split(' ')
        .all(|word| words.next().is_some_and(|other| other.eq_ignore_ascii_case(word)))
}

/// Whether a script has keys that are not among its `KEYS`.
fn has_undeclared_keys(words: &[String]) -> bool {
    let declares_all = |text: &str| {
        text.split("redis.call(").skip(1).all(|call| {
            let key = call.split_once(", ").map_or("", |(_, key)| key);
            key.starts_with("KEYS[") || call.starts_with("'PUBLISH'")
        })
    };
    is(words, "EVAL") && words.get(1).is_some_and(|text| !declares_all(text))
}

#[test]
fn what_can_work_works_and_what_cannot_is_said_in_one_sentence() {
    for Vendor { name, refuses, scripts_publish, notifies, outcome: expected, .. } in VENDORS {
        let events = if notifies { "Kgh" } else { "" };
        let redis = Redis::start_with(&["--notify-keyspace-events", events]);
        let poor = match scripts_publish {
            true => Poor::start(redis.port, refuses),
            false => Poor::start_with(redis.port, refuses, without_publish),
        };
        let url = poor.url();
        match expected {
            Ok(way) => works(name, &redis, &url, way),
            Err(parts) => {
                let (code, said) = outcome(&["--check", "--dial", "--redis", &url]);
                assert_eq!(code, Some(2), "{name}: {said}");
                assert!(parts.iter().all(|part| said.contains(part)), "{name}: {said}");
                assert_eq!(said.lines().count(), 1, "{name}: {said}");
                // A node may be started before its Redis, and goes on asking: that is set right while it runs.
                let node = Imserver::start(&["--listen", "127.0.0.1:0", "--redis", &url]);
                parts.iter().for_each(|part| node.says(part));
            }
        }
    }
}

/// A life on it: clients come and go, join and are sent to; and Redis loses its data.
fn works(name: &str, redis: &Redis, url: &str, way: &str) {
    let report = std::process::Command::new(testkit::imserver::program())
        .args(["--check", "--dial", "--redis", url])
        .output()
        .unwrap();
    let report = String::from_utf8([report.stdout, report.stderr].concat()).unwrap();
    assert!(report.contains(&format!("become known by {way}\nvalid\n")), "{name}: {report}");
    let node = Imserver::start(&["--listen", "127.0.0.1:0", "--server", "a", "--redis", url]);
    let _address = node.address();
    node.wait_ready();
    let im = ImClient::builder().servers(["a"]).redis(url).build().unwrap();
    let connect = |client: i64| {
        let client = Client::connect(node.address(), &im.connect_url(client, None).unwrap());
        client.unwrap()
    };
    let (mut one, mut two) = (connect(1), connect(2));
    eventually("online", || im.are_online([1, 2]).unwrap() == [true, true]);
    for round in 0..50 {
        let channel = format!("room {round}");
        im.join([1, 2], [&channel]).unwrap();
        im.send(Message::to_channel(&channel), &round).unwrap();
        assert_eq!((one.text(), two.text()), (round.to_string(), round.to_string()), "{name}");
        im.leave([2], [&channel]).unwrap();
        im.send(Message::to_channel(&channel), "one").unwrap();
        assert_eq!(one.text(), "\"one\"", "{name}");
    }
    two.silent();
    redis::cmd("FLUSHALL").exec(&mut redis.connect()).unwrap();
    eventually("the rooms are back", || im.channel_members("room 7").unwrap() == [1.into()]);
    eventually("presence is back", || im.are_online([1, 2]).unwrap() == [true, true]);
    two.leave();
    eventually("offline", || im.are_online([1, 2]).unwrap() == [true, false]);
}
