//! A node in place of the .NET original: recorded scenarios (`tests/fixtures/wire/`), staged and
//! published with raw Redis commands, compared by frames and by keys.
//!
//! Where we mean to differ, the fixture holds our outcome: a kick closes with 4001 instead of 1001 and
//! waits for nobody; channels are left with the last connection only; receipts say more (`to` and
//! `status` are not compared); membership is what the `Client` hash says, which every .NET helper
//! writes together with the `Chan` hash, so both are staged. Status codes of refused tickets are ours:
//! see `handshakes`.

use std::{io::Write, sync::Arc, time::Duration};

use imcore::{
    ClientId, Message, Ticket,
    server::{Limits, Server, ServerConfig},
};
use serde::Deserialize;
use serde_json::Value;
use testkit::{
    PATIENCE, Redis, eventually, fixtures,
    ws::{Client, frame},
};

use crate::stage::{Keys, NAMES, Stage};

#[derive(Deserialize)]
struct Scenario {
    dialect: String,
    scenario: String,
    nodes: usize,
    redis: Vec<Vec<String>>,
    clients: Vec<Visitor>,
    keys: Keys,
}

#[derive(Deserialize)]
struct Visitor {
    node: usize,
    ticket: String,
    frames: Vec<String>,
    /// The node closes it: kicked, or with this code after the client sent bad text.
    #[serde(default)]
    kick: bool,
    code: Option<u16>,
    /// The client leaves in the end.
    #[serde(default)]
    leaves: bool,
}

/// Whether a frame says what the original's did; our receipts say more.
fn same(recorded: &str, ours: &str) -> bool {
    let receipt = |text: &str| -> Option<Value> {
        let value: Value = serde_json::from_str(text).ok()?;
        let member = |name| value.get(name).cloned();
        Some(Value::from([member("content")?, member("receipt")?].to_vec()))
    };
    recorded == ours || receipt(recorded).is_some() && receipt(recorded) == receipt(ours)
}

fn play(stage: &mut Stage, scenario: &Scenario) {
    let name = format!("{} {}", scenario.dialect, scenario.scenario);
    // Shown if it fails.
    println!("{name}");
    let mut clients: Vec<_> = scenario
        .clients
        .iter()
        .map(|visitor| stage.enter(visitor.node, &visitor.ticket).unwrap())
        .collect();
    eventually("all online", || {
        let online = stage.keys().remove(&format!("{}Online", stage.recorded)).unwrap_or_default();
        online.values().map(|count| count.parse::<usize>().unwrap()).sum::<usize>() == clients.len()
    });
    scenario.redis.iter().for_each(|command| stage.run(command));
    stage.await_receipts();
    for (visitor, client) in scenario.clients.iter().zip(&mut clients) {
        if let Some(code) = visitor.code {
            client.raw().write_all(&frame(0x81, b"\xff")).unwrap();
            assert_eq!(client.closed(), Some(code), "{name}");
            continue;
        }
        let id = Ticket::parse(&visitor.ticket).unwrap().client().clone();
        if !visitor.kick {
            stage.mark(visitor.node, id.clone(), "end of the scenario");
        }
        for recorded in &visitor.frames {
            let ours = client.text();
            assert!(same(recorded, &ours), "{name}\n{id} got {ours}\nrecorded {recorded}");
        }
        match visitor.kick {
            true => assert_eq!(client.closed(), Some(4001), "{name}"),
            false => assert_eq!(client.text(), "end of the scenario", "{name}: {id}"),
        }
    }
    let mut stay = Vec::new();
    for (visitor, client) in scenario.clients.iter().zip(clients) {
        if visitor.leaves || visitor.kick || visitor.code.is_some() {
            drop(client);
        } else {
            stay.push(client);
        }
    }
    let mut keys = Keys::new();
    eventually(&format!("{name}: the keys are {:?}", scenario.keys), || {
        keys = stage.keys();
        keys == scenario.keys
    });
    drop(stay);
    stage.clear();
}

#[test]
fn recorded_scenarios_have_the_same_outcome() {
    let scenarios: Vec<Scenario> = fixtures("server.jsonl");
    assert!(scenarios.len() > 100);
    for dialect in ["long", "guid"] {
        for nodes in [1, 2] {
            let mut stage = Stage::new(dialect, nodes);
            for scenario in &scenarios {
                if scenario.dialect == dialect && scenario.nodes == nodes {
                    play(&mut stage, scenario);
                }
            }
        }
    }
}

#[derive(Deserialize)]
struct Tolerance {
    dialect: String,
    scenario: String,
    payload: String,
    delivered: Vec<String>,
}

fn second(dialect: &str) -> ClientId {
    match dialect {
        "long" => 2.into(),
        _ => "8f14e45f-ceea-467f-a9b1-000000000002".parse().unwrap(),
    }
}

#[test]
fn odd_payloads_are_delivered_or_skipped_like_the_original() {
    for dialect in ["long", "guid"] {
        let mut stage = Stage::new(dialect, 1);
        let id = second(dialect);
        let mut client = stage.enter(0, Ticket::new(id.clone(), None).text()).unwrap();
        let cases: Vec<Tolerance> = fixtures("tolerance.jsonl");
        for case in cases.iter().filter(|case| case.dialect == dialect) {
            stage.publish(0, &case.payload);
            stage.mark(0, id.clone(), "next");
            let mut frames = Vec::new();
            loop {
                let text = client.text();
                if text == "next" {
                    break;
                }
                frames.push(text);
            }
            // The original's GUID dialect did not know `$values`; it does no harm to understand it.
            let more = case.dialect == "guid" && case.scenario.contains("$values");
            let expected = if more { &vec!["\"x\"".to_owned()] } else { &case.delivered };
            assert_eq!(&frames, expected, "{dialect} {}: {}", case.scenario, case.payload);
        }
        assert!(stage.nodes[0].vitals().stats().malformed > 0);
    }
}

#[derive(Deserialize)]
struct TokenValue {
    dialect: String,
    scenario: String,
    value: String,
    status: u16,
    client: Option<String>,
}

#[test]
fn stored_tokens_are_read_like_the_original_and_told_on_unchanged() {
    for dialect in ["long", "guid"] {
        let mut stage = Stage::new(dialect, 1);
        let cases: Vec<TokenValue> = fixtures("token_values.jsonl");
        for case in cases.iter().filter(|case| case.dialect == dialect) {
            let mut events = Redis::shared().connect();
            let mut pubsub = events.as_pubsub();
            pubsub.set_read_timeout(Some(PATIENCE)).unwrap();
            pubsub.subscribe(format!("evt_{}Online", stage.prefix)).unwrap();
            pubsub.subscribe(format!("evt_{}Offline", stage.prefix)).unwrap();
            match stage.enter(0, &case.value) {
                // A node takes both kinds of id at once.
                Ok(client) if case.scenario == "id is a number" => {
                    pubsub.get_message().unwrap();
                    drop(client);
                    pubsub.get_message().unwrap();
                }
                Ok(client) => {
                    assert_eq!(case.status, 101, "{}", case.scenario);
                    let online: String = pubsub.get_message().unwrap().get_payload().unwrap();
                    assert_eq!(online, case.value, "{}", case.scenario);
                    let key = format!("{}Online", stage.recorded);
                    // An id that is left out is the system's; which kind of zero, a node cannot know.
                    let system = ["0", "00000000-0000-0000-0000-000000000000"];
                    let expected = case.client.as_deref().unwrap();
                    let expected = if system.contains(&expected) { system } else { [expected; 2] };
                    let online = &stage.keys()[&key];
                    assert!(
                        expected.iter().any(|id| online.contains_key(*id)),
                        "{}",
                        case.scenario
                    );
                    drop(client);
                    let offline = pubsub.get_message().unwrap();
                    assert!(offline.get_channel_name().ends_with("Offline"));
                    assert_eq!(offline.get_payload::<String>().unwrap(), case.value);
                }
                Err(status) => {
                    // The original answers 500; to us it is a token that is not worth anything.
                    assert_eq!((status, case.status), (401, 500), "{}", case.scenario);
                }
            }
        }
    }
}

#[test]
fn bad_envelopes_are_counted_and_skipped() {
    let mut stage = Stage::new("long", 1);
    let mut client = stage.enter(0, Ticket::new(2.into(), None).text()).unwrap();
    let before = stage.nodes[0].vitals().stats().malformed;
    let bad: [&[u8]; 10] = [
        b"",
        b"not json",
        b"null",
        b"[]",
        b"{",
        b"\xff\xfe\x00",
        b"__FreeIM__(Unknown)x",
        b"__FreeIM__(ForceOffline)everybody",
        b"{\"Item1\":0,\"Item2\":[2,\"x\"],\"Item3\":\"lost\"}",
        "\u{feff}{\"Item1\":0,\"Item2\":[2],\"Item3\":\"bom\"}".as_bytes(),
    ];
    let topic = format!("{}Server{}", stage.prefix, NAMES[0]);
    for payload in bad {
        redis::cmd("PUBLISH").arg(&topic).arg(payload).exec(&mut stage.redis).unwrap();
        stage.mark(0, 2.into(), "next");
        assert_eq!(client.text(), "next", "{}", String::from_utf8_lossy(payload));
    }
    assert_eq!(stage.nodes[0].vitals().stats().malformed - before, bad.len() as u64);
    // Deep nesting and size alone are no reason to fall over.
    let deep = format!("{{\"Item2\":{}", "[".repeat(100_000));
    stage.publish(0, &deep);
    stage.publish(0, &"x".repeat(4 << 20));
    stage.mark(0, 2.into(), "after");
    assert_eq!(client.text(), "after");
    // CSRedis numbers its messages and says `0` now and then.
    stage.publish(0, "0\r\n");
    stage.publish(0, "17|{\"Item1\":0,\"Item2\":[2],\"Item3\":\"numbered\",\"Item4\":false}");
    assert_eq!(client.text(), "numbered");
}

#[test]
fn a_broker_that_went_away_is_found_again() {
    use imcore::{
        ImClient,
        broker::{Broker, RedisBroker, RedisOptions},
    };

    let mut server = Redis::start();
    let broker: Arc<dyn Broker> =
        Arc::new(RedisBroker::open(&server.url(), RedisOptions::default()).unwrap());
    let config = ServerConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        server: Some("node-0".into()),
        servers: vec!["node-0".into()],
        limits: Limits { lease: Duration::from_millis(600), ..Limits::default() },
        ..ServerConfig::default()
    };
    let node = Server::start(config, Arc::clone(&broker)).unwrap();
    assert!(node.wait_ready(PATIENCE));
    let im = ImClient::builder().servers(["node-0"]).broker(broker).build().unwrap();
    let connect = || {
        let url = im.connect_url(1, None).ok()?;
        Client::connect(node.local_addr(), &url).ok()
    };
    let mut client = connect().unwrap();
    client.silent();
    server.stop();
    eventually("not ready", || !node.is_ready());
    assert_eq!(Client::connect(node.local_addr(), "ws://x/ws?token=x").err(), Some(503));
    assert!(im.send(Message::to([1]), "x").unwrap_err().is_retryable());
    client.silent();
    server.start_again();
    // Its data is gone; the node says again whom it holds.
    eventually("online again", || im.is_online(1).unwrap_or(false));
    eventually("ready", || node.is_ready());
    im.send(Message::to([1]), "back").unwrap();
    assert_eq!(client.text(), "\"back\"");
    assert!(connect().is_some());
}
