//! Every operation: that the document and the routes say the same, and that each does what it says.

use serde_json::{Value, json};
use testkit::{Imserver, Redis, eventually};

use crate::{
    cluster::Cluster,
    http::{self},
};

#[test]
fn messages_reach_clients_on_all_nodes() {
    let cluster = Cluster::start();
    let mut clients: Vec<_> = (1..=3).map(|id| cluster.connect(id)).collect();
    let exact = "{\"b\":1.0,  \"a\":12345678901234567890123}";
    let body = format!("{{\"receivers\": [1, \"2\", 3, 1], \"message\": {exact}}}");
    let key = format!("Authorization: Bearer {}\r\n", crate::cluster::KEY);
    let answer = http::ask(cluster.apis[2], "POST /v1/messages", &key, Some(&body));
    assert_eq!((answer.status, answer.json()), (202, json!({ "id": null })));
    for client in &mut clients {
        assert_eq!(client.text(), exact, "the text of the message, byte for byte");
    }
    let large = 9_007_199_254_740_993_i64;
    let mut body = json!({
        "sender": 1, "receivers": [2, large.to_string()], "message": "hi", "receipt": true, "id": "m-1",
    });
    let answer = cluster.expect(1, "POST /v1/messages", Some(&body), 202);
    assert_eq!(answer.json(), json!({ "id": "m-1" }));
    let named = json!({ "receivers": [7], "message": "hi", "id": "m-2" });
    let answer = cluster.expect(1, "POST /v1/messages", Some(&named), 202);
    assert_eq!(answer.json(), json!({ "id": "m-2" }));
    assert_eq!(clients[1].json(), "hi");
    let mut about: Vec<_> = (0..2)
        .map(|_| clients[0].json())
        .map(|receipt| (receipt["to"].to_string(), receipt["id"].clone()))
        .collect();
    about.sort_by_key(|(to, _)| to.len());
    let id = json!("m-1");
    assert_eq!(about, [("2".into(), id.clone()), (format!("\"{large}\""), id)], "ids are whole");
    body.as_object_mut().unwrap().remove("id");
    body["receivers"] = json!([9]);
    let answer = cluster.expect(1, "POST /v1/messages", Some(&body), 202);
    let id = answer.json()["id"].clone();
    assert!(id.is_string() && clients[0].json()["id"] == id, "{answer:?}");
    cluster.expect(0, "POST /v1/broadcast", Some(&json!({ "message": "all" })), 202);
    clients.iter_mut().for_each(|client| assert_eq!(client.json(), "all"));

    let found = cluster.expect(0, "GET /v1/clients/3/connections", None, 200).json();
    let connections = found["connections"].as_array().unwrap();
    assert_eq!((&found["client"], connections.len()), (&json!("3"), 1), "{found}");
    assert_eq!((&found["server"], &connections[0]["away"]), (&json!("a"), &json!(false)));
    let found = cluster.expect(1, "GET /v1/clients/3/connections", None, 200).json();
    assert_eq!(found["connections"][0]["away"], Value::Null, "only its node knows: {found}");
    eventually("every node speaks", || {
        let nodes = cluster.expect(1, "GET /v1/nodes", None, 200).json();
        let nodes = nodes["nodes"].as_array().unwrap().clone();
        let says = |node: &Value| node["status"]["connections"] == 1;
        nodes.len() == 3 && nodes.iter().all(says)
    });
    cluster.expect(2, "DELETE /v1/clients/3/connections", None, 202);
    assert_eq!(clients[2].closed(), Some(4001));
    eventually("offline", || !cluster.is_online(3));
    let asked = json!({ "clients": [3, 2, 1] });
    let online = cluster.expect(0, "POST /v1/clients/online", Some(&asked), 200).json();
    let states: Vec<_> = online["clients"].as_array().unwrap().iter().collect();
    let state = |id: &str, online: bool| json!({ "client": id, "online": online });
    assert_eq!(states, [&state("3", false), &state("2", true), &state("1", true)]);
}

#[test]
fn addresses_and_system_ids_follow_the_settings() {
    let redis = Redis::start();
    let url = redis.url();
    let node = ["--listen", "127.0.0.1:0", "--server", "im-1", "--servers", "im-0,im-1"];
    let template = ["--public-url", "wss://{server}.example/{index}{path}", "--path", "/chat"];
    let api = ["--api", "127.0.0.1:0", "--redis", &url, "--prefix", "wsim"];
    let process = Imserver::start(&[&node[..], &template, &api].concat());
    const GUID: &str = "8f14e45f-ceea-467f-a9b1-000000000008";
    let api = process.api();
    let answer =
        http::ask(api, "POST /v1/connections", "", Some(&format!("{{\"client\": \"{GUID}\"}}")));
    let text = answer.json()["url"].as_str().unwrap().to_owned();
    assert!(text.starts_with("wss://im-0.example/0/chat?token="), "{text}");

    let mut connection = redis.connect();
    let mut listener = connection.as_pubsub();
    listener.subscribe("wsim_chatServerim-0").unwrap();
    assert_eq!(http::ask(api, "POST /v1/broadcast", "", Some("{\"message\": 1}")).status, 202);
    let payload: String = listener.get_message().unwrap().get_payload().unwrap();
    assert!(payload.contains("\"00000000-0000-0000-0000-000000000000\""), "{payload}");
}

#[test]
fn channels_are_joined_asked_about_and_left() {
    let cluster = Cluster::start();
    let mut clients: Vec<_> = (1..=3).map(|id| cluster.connect(id)).collect();
    cluster.expect(0, "PUT /v1/channels/a%2F%E5%A5%BD/clients/1", None, 204);
    let pair = |client: i64, channel: &str| json!({ "client": client, "channel": channel });
    let both = json!({
        "leave": [pair(1, "room")],
        "join": [pair(1, "room"), pair(2, "room"), pair(99, "room"), pair(2, "other")],
    });
    cluster.expect(1, "POST /v1/memberships", Some(&both), 204);
    let body = json!({ "sender": 2, "message": { "n": 1 } });
    cluster.expect(2, "POST /v1/channels/room/messages", Some(&body), 202);
    assert_eq!(clients[0].json(), json!({ "n": 1 }));
    cluster.expect(
        0,
        "POST /v1/channels/a%2F%E5%A5%BD/messages",
        Some(&json!({ "message": "好" })),
        202,
    );
    assert_eq!(clients[0].json(), "好");

    let client = cluster.expect(0, "GET /v1/clients/1", None, 200).json();
    assert_eq!(client["channels"], json!(["a/好", "room"]));
    let get = |path: &str| cluster.expect(1, &format!("GET {path}"), None, 200).json();
    assert_eq!(get("/v1/channels/room"), json!({ "channel": "room", "size": 3 }));
    let page = get("/v1/channels/room/clients");
    assert_eq!((&page["total"], &page["next"]), (&json!(3), &Value::Null));
    assert_eq!(sorted(&page["clients"]), [json!("1"), json!("2"), json!("99")]);
    let channels = sorted(&get("/v1/channels")["channels"]);
    assert_eq!(channels.len(), 3);
    assert!(channels.contains(&json!({ "channel": "other", "size": 1 })), "{channels:?}");
    assert_eq!(sorted(&get("/v1/clients")["clients"]), [json!("1"), json!("2"), json!("3")]);

    cluster.expect(2, "DELETE /v1/channels/room/offline-clients", None, 204);
    let members = sorted(&get("/v1/channels/room/clients")["clients"]);
    assert_eq!(members, [json!("1"), json!("2")]);
    cluster.expect(2, "DELETE /v1/channels/room/clients/2", None, 204);
    cluster.expect(0, "POST /v1/channels/room/messages", Some(&json!({ "message": "end" })), 202);
    assert_eq!(clients[0].json(), "end");
    clients[1].silent();
}

#[test]
fn a_roster_is_switched_on_and_off() {
    let cluster = Cluster::start();
    let path = "/v1/channels/a%2F%E5%A5%BD/roster";
    cluster.expect(0, &format!("PUT {path}"), None, 204);
    cluster.expect(1, &format!("PUT {path}"), None, 204);
    cluster.expect(1, "PUT /v1/channels/a%2F%E5%A5%BD/clients/1", None, 204);
    let mut client = cluster.connect(1);
    let all = json!({ "channel": "a/好", "online": 1, "joined": ["1"], "left": [] });
    assert_eq!(client.json(), all);
    cluster.expect(2, &format!("DELETE {path}"), None, 204);
    cluster.expect(2, &format!("DELETE {path}"), None, 204);
    cluster.expect(0, &format!("GET {path}"), None, 405);
    let long = format!("PUT /v1/channels/{}/roster", "x".repeat(2000));
    cluster.expect(0, &long, None, 400);
}

fn sorted(list: &Value) -> Vec<Value> {
    let mut list = list.as_array().unwrap().clone();
    list.sort_by_key(Value::to_string);
    list
}

/// Whoever is there all the time is on one of the pages, each of which costs no more than it holds.
#[test]
fn long_lists_come_page_by_page() {
    let cluster = Cluster::start();
    let ids: Vec<_> = (1..=5000).collect();
    let join: Vec<_> = ids.iter().map(|id| json!({ "client": id, "channel": "room" })).collect();
    cluster.expect(0, "POST /v1/memberships", Some(&json!({ "join": join })), 204);
    let mut redis = cluster.redis.connect();
    let fields: Vec<_> = ids.iter().map(|id| (id.to_string(), 1)).collect();
    redis::cmd("HSET").arg("im_v2_wsOnline").arg(&fields).exec(&mut redis).unwrap();
    for (path, key) in [("/v1/channels/room/clients", "clients"), ("/v1/clients", "clients")] {
        let (mut seen, mut after, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let page = cluster
                .expect(pages % 3, &format!("GET {path}?limit=500{after}"), None, 200)
                .json();
            let items = page[key].as_array().unwrap();
            assert!(items.len() < 2000, "{} on a page of 500", items.len());
            assert_eq!(page["total"], 5000);
            seen.extend(items.iter().map(|id| id.as_str().unwrap().parse::<i64>().unwrap()));
            pages += 1;
            let Some(next) = page["next"].as_str() else { break };
            after = format!("&after={next}");
        }
        seen.sort_unstable();
        seen.dedup();
        assert_eq!((seen == ids, pages > 3), (true, true), "{path}: {} on {pages}", seen.len());
    }
    let answer = cluster.ask(0, "GET /v1/clients?after=no%20page", None);
    assert_eq!((answer.status, answer.code()), (400, "invalid_request".into()));
}

/// Looking through all connections of a node costs the broker: however many ask, it has a budget.
#[test]
fn looking_for_connections_has_a_budget() {
    let cluster = Cluster::start();
    let _clients: Vec<_> = (1..=3).map(|id| cluster.connect(id)).collect();
    let mut redis = cluster.redis.connect();
    let mut walks = || {
        let stats: String = redis::cmd("INFO").arg("commandstats").query(&mut redis).unwrap();
        let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_hscan:calls="));
        line.map_or(0, |rest| rest.split(',').next().unwrap().parse::<u64>().unwrap())
    };
    let before = walks();
    let answers: Vec<_> = std::thread::scope(|scope| {
        let ask = || cluster.ask(0, "GET /v1/clients/2/connections", None);
        let calls: Vec<_> = (0..40).map(|_| scope.spawn(ask)).collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    let cost = walks() - before;
    for answer in &answers {
        assert!(matches!(answer.status, 200 | 503), "{answer:?}");
        if answer.status == 200 {
            assert_eq!(answer.json()["connections"].as_array().unwrap().len(), 1);
        }
    }
    assert!(answers.iter().any(|answer| answer.status == 200));
    assert!(cost < 20, "40 questions about one client cost {cost} walks");
    let none = walks();
    for id in 100..120 {
        let path = format!("GET /v1/clients/{id}/connections");
        assert_eq!(cluster.expect(0, &path, None, 200).json()["connections"], json!([]));
    }
    assert_eq!(walks(), none, "who is not online is not looked for");
}

#[test]
fn volatile_messages_arrive_and_are_in_no_log() {
    let cluster = Cluster::start_with(&["--message-log", "on"]);
    cluster.expect(0, "PUT /v1/channels/room/clients/1", None, 204);
    let mut client = cluster.connect(1);
    let mut redis = cluster.redis.connect();
    let mut logged = || -> usize {
        let keys: Vec<String> = redis::cmd("KEYS").arg("im_v2_wsLog*").query(&mut redis).unwrap();
        let streams = keys.iter().filter(|key| !key.ends_with("Head"));
        streams.map(|key| redis::cmd("XLEN").arg(key).query::<usize>(&mut redis).unwrap()).sum()
    };
    for volatile in [true, false] {
        let direct = json!({ "receivers": [1], "message": 1, "volatile": volatile });
        let channel = json!({ "message": 2, "volatile": volatile });
        let everyone = json!({ "message": 3, "volatile": volatile });
        cluster.expect(0, "POST /v1/messages", Some(&direct), 202);
        cluster.expect(0, "POST /v1/channels/room/messages", Some(&channel), 202);
        cluster.expect(0, "POST /v1/broadcast", Some(&everyone), 202);
        let batch = json!({ "messages": [
            direct,
            { "channel": "room", "message": 2, "volatile": volatile },
            { "broadcast": true, "message": 3, "volatile": volatile },
        ] });
        cluster.expect(0, "POST /v1/messages/batch", Some(&batch), 202);
        for text in ["1", "2", "3", "1", "2", "3"] {
            assert_eq!(client.text(), text);
        }
        assert_eq!(logged() == 0, volatile, "{} in the log", logged());
    }
}

#[test]
fn a_batch_is_sent_whole_or_not_at_all() {
    let cluster = Cluster::start();
    let mut clients: Vec<_> = (1..=2).map(|id| cluster.connect(id)).collect();
    cluster.expect(0, "PUT /v1/channels/room/clients/1", None, 204);
    let good = [
        json!({ "receivers": [1, 2], "message": 1, "sender": 0, "receipt": false }),
        json!({ "channel": "room", "message": 2 }),
        json!({ "broadcast": true, "message": 3 }),
    ];
    for bad in [
        json!({ "message": 4 }),
        json!({ "receivers": [1], "channel": "room", "message": 4 }),
        json!({ "channel": "room", "receipt": true, "message": 4 }),
        json!({ "broadcast": false, "message": 4 }),
        json!({ "broadcast": true, "sender": 1, "message": 4 }),
        json!({ "channel": "", "message": 4 }),
        json!({ "receivers": null, "broadcast": true, "message": 4 }),
        json!({ "broadcast": true }),
        json!({ "channel": "room", "message": 4, "id": "x" }),
    ] {
        let messages = json!({ "messages": [&good[0], &good[1], &good[2], &bad] });
        let answer = cluster.ask(1, "POST /v1/messages/batch", Some(&messages));
        assert_eq!((answer.status, answer.code()), (400, "invalid_request".into()), "{bad}");
    }
    let large = json!({ "broadcast": true, "message": "x".repeat(256 << 10) });
    let messages = json!({ "messages": [&good[0], &large] });
    let answer = cluster.ask(1, "POST /v1/messages/batch", Some(&messages));
    assert_eq!((answer.status, answer.code()), (413, "too_large".into()));
    clients.iter_mut().for_each(testkit::ws::Client::silent);
    let answer =
        cluster.expect(1, "POST /v1/messages/batch", Some(&json!({ "messages": good })), 202);
    assert_eq!(answer.json(), json!({ "ids": [null, null, null] }));
    for expected in [1, 2, 3] {
        assert_eq!(clients[0].json(), expected);
    }
    assert_eq!((clients[1].json(), clients[1].json()), (json!(1), json!(3)));
}

#[test]
fn limits_are_those_of_the_document() {
    let cluster = Cluster::start();
    let ids: Vec<_> = (0..10_001).collect();
    let answer = cluster.ask(0, "POST /v1/clients/online", Some(&json!({ "clients": ids })));
    assert_eq!(answer.status, 400, "{answer:?}");
    let answer = cluster.ask(0, "POST /v1/clients/online", Some(&json!({ "clients": ids[1..] })));
    assert_eq!(answer.json()["clients"].as_array().unwrap().len(), 10_000);
    let name = |length: usize| format!("PUT /v1/channels/{}/clients/1", "%C3%A9".repeat(length));
    cluster.expect(0, &name(256), None, 204);
    cluster.expect(0, &name(257), None, 400);
    let meta = |length: usize| json!({ "client": 1, "meta": "é".repeat(length) });
    cluster.expect(0, "POST /v1/connections", Some(&meta(1024)), 201);
    cluster.expect(0, "POST /v1/connections", Some(&meta(1025)), 400);
    let message = |length: usize| json!({ "message": "x".repeat(length - 2) });
    cluster.expect(0, "POST /v1/broadcast", Some(&message(256 << 10)), 202);
    cluster.expect(0, "POST /v1/broadcast", Some(&message((256 << 10) + 1)), 413);
    let huge = cluster.expect(0, "POST /v1/broadcast", Some(&message(1 << 20)), 413);
    assert_eq!(huge.code(), "too_large");
}

#[test]
fn no_call_joins_a_client_to_more_channels_than_it_may_be_in() {
    let cluster = Cluster::start();
    let many = |client: i64, from: usize, count: usize| -> Vec<Value> {
        (from..from + count)
            .map(|n| json!({ "client": client, "channel": format!("c{n}") }))
            .collect()
    };
    let channels = |client: i64| {
        let answer = cluster.expect(1, &format!("GET /v1/clients/{client}"), None, 200).json();
        answer["channels"].as_array().unwrap().len()
    };
    cluster.expect(0, "POST /v1/memberships", Some(&json!({ "join": many(1, 0, 1000) })), 204);
    let joins = [many(1, 1000, 500), many(2, 0, 10)].concat();
    let both = json!({ "join": joins });
    let refused = cluster.expect(0, "POST /v1/memberships", Some(&both), 400);
    assert!(refused.json()["detail"].as_str().unwrap().contains("channels_per_client"));
    cluster.expect(0, "PUT /v1/channels/one-more/clients/1", None, 400);
    // Who has room is joined all the same.
    assert_eq!((channels(1), channels(2)), (1000, 10));
    // Repeated under its key, what was done of it is not done again.
    let body = json!({
        "leave": [{ "client": 2, "channel": "c0" }],
        "join": many(1, 1000, 1),
    });
    let header = "Idempotency-Key: half\r\n";
    let ask = |node| cluster.ask_with(node, "POST /v1/memberships", header, Some(&body));
    let first = ask(0);
    assert_eq!((first.status, channels(2)), (400, 9));
    cluster.expect(0, "PUT /v1/channels/c0/clients/2", None, 204);
    let again = ask(1);
    assert_eq!((again.status, again.json()), (400, first.json()));
    assert_eq!(again.header("Idempotency-Replayed"), Some("true"));
    assert_eq!(channels(2), 10);
    // Being in it already is no new one.
    cluster.expect(0, "POST /v1/memberships", Some(&json!({ "join": many(1, 0, 1000) })), 204);
}

/// However often callers try again: one line for what is wrong, and the next within a minute only if it changes.
#[test]
fn an_outage_is_said_once_however_often_callers_try() {
    let mut redis = Redis::start();
    let process = Imserver::start(&[
        "--listen",
        "127.0.0.1:0",
        "--server",
        "n",
        "--redis",
        &redis.url(),
        "--api",
        "127.0.0.1:0",
    ]);
    let api = process.api();
    redis.stop();
    for _ in 0..100 {
        let body = r#"{"receivers": [1], "message": "x"}"#;
        assert_eq!(http::ask(api, "POST /v1/messages", "", Some(body)).status, 503);
    }
    process.says("API: ");
    let lines = process.log().lines().filter(|line| line.contains(" API: ")).count();
    assert!(lines <= 5, "{lines} lines: {}", process.log());
}
