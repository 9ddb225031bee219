//! Events that are kept, over HTTP: streams of groups, acknowledgements, lag.

use std::{
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpStream},
};

use serde_json::{Value, json};
use testkit::{Imserver, eventually};

use crate::{
    cluster::{Cluster, KEY},
    http,
};

const EVENTS: [&str; 4] = ["--events", "100000", "--keep", "0"];

/// A stream of a group.
struct Reader(BufReader<TcpStream>);

/// What it says: id, name and data.
struct Said {
    id: String,
    name: String,
    data: Value,
}

impl Reader {
    fn open(api: SocketAddr, query: &str, last: Option<&str>) -> Reader {
        let last = last.map_or_else(String::new, |id| format!("Last-Event-ID: {id}\r\n"));
        let headers = format!("Authorization: Bearer {KEY}\r\n{last}");
        let (stream, head) = http::begin(api, &format!("GET /v1/events?{query}"), &headers, None);
        assert!(head.contains("200 OK") && head.contains("text/event-stream"), "{head}");
        Reader(BufReader::new(stream))
    }

    fn next(&mut self) -> Said {
        let (mut id, mut name, mut data) = (String::new(), String::new(), Value::Null);
        loop {
            let mut line = String::new();
            assert_ne!(self.0.read_line(&mut line).unwrap(), 0, "the stream has ended");
            match line.trim_end().split_once(": ") {
                Some(("id", text)) => id = text.to_owned(),
                Some(("event", text)) => name = text.to_owned(),
                Some(("data", text)) => data = serde_json::from_str(text).unwrap(),
                _ if !name.is_empty() => return Said { id, name, data },
                _ => {}
            }
        }
    }

    /// The names of the next ones, which are about this client.
    fn words(&mut self, client: i64, count: usize) -> Vec<String> {
        let mut word = |_| {
            let said = self.next();
            assert_eq!(said.data["client"], client.to_string());
            said.name
        };
        (0..count).map(&mut word).collect()
    }
}

fn acknowledge(cluster: &Cluster, node: usize, said: &[Said]) {
    let ids: Vec<_> = said.iter().map(|said| &said.data["id"]).collect();
    let body = json!({ "group": "billing", "ids": ids });
    cluster.expect(node, "POST /v1/events/acknowledgements", Some(&body), 204);
}

/// The only group that there is.
fn group(cluster: &Cluster) -> Value {
    let groups = cluster.expect(0, "GET /v1/events/groups", None, 200).json();
    assert_eq!(groups["groups"].as_array().unwrap().len(), 1, "{groups}");
    groups["groups"][0].clone()
}

#[test]
fn a_service_goes_on_where_it_was_on_any_node() {
    let cluster = Cluster::start_with(&EVENTS);
    let mut reader = Reader::open(cluster.apis[0], "group=billing", None);
    cluster.connect(1).leave();
    let first: Vec<_> = (0..4).map(|_| reader.next()).collect();
    let names: Vec<_> = first.iter().map(|said| &*said.name).collect();
    assert_eq!(names, ["opened", "online", "ended", "offline"]);
    for said in &first {
        let data = &said.data;
        assert_eq!((&data["client"], &data["meta"]), (&json!("1"), &json!("test")));
        assert!(said.id.starts_with(data["id"].as_str().unwrap()));
        assert!(data["n"].as_u64() > Some(0) && data["ms"].as_u64() > Some(0));
    }
    assert_eq!(
        (&first[0].data["reason"], &first[3].data["reason"]),
        (&Value::Null, &json!("client_closed"))
    );
    let look = group(&cluster);
    assert_eq!((&look["waiting"], &look["unacknowledged"]), (&json!(0), &json!(4)));
    assert_eq!(look["oldest_ms"], first[0].data["ms"]);
    // The connection is lost; what it has told stands, what is acknowledged is done.
    drop(reader);
    acknowledge(&cluster, 1, &first[..2]);
    cluster.connect(2).leave();
    let mut again = Reader::open(cluster.apis[2], "group=billing", Some(&first[2].id));
    let open = again.next();
    assert_eq!((&*open.name, &open.id), ("offline", &first[3].id), "what it was not told yet");
    acknowledge(&cluster, 2, &first[2..]);
    assert_eq!(again.words(2, 4), ["opened", "online", "ended", "offline"]);
    assert_eq!(group(&cluster)["unacknowledged"], 4);
}

#[test]
fn a_channel_that_is_occupied_and_vacated_is_told() {
    let cluster = Cluster::start_with(&EVENTS);
    let mut reader = Reader::open(cluster.apis[0], "group=billing", None);
    // Nodes say with each renewal that events are kept; until then they find it out.
    cluster.expect(1, "PUT /v1/channels/a%20b/clients/7", None, 204);
    let occupied = reader.next();
    cluster.expect(2, "DELETE /v1/channels/a%20b/clients/7", None, 204);
    let vacated = reader.next();
    assert_eq!((&*occupied.name, &*vacated.name), ("occupied", "vacated"));
    for said in [&occupied, &vacated] {
        assert_eq!(said.data["channel"], "a b");
        assert!(said.data.get("node").is_none() && said.data["n"].as_u64() > Some(0));
    }
    assert_eq!(vacated.data["client"], "7");
}

#[test]
fn what_a_dead_reader_has_not_acknowledged_another_takes_over() {
    let cluster = Cluster::start_with(&EVENTS);
    let mut dead = Reader::open(cluster.apis[0], "group=billing", None);
    cluster.connect(1).leave();
    let told: Vec<_> = (0..4).map(|_| dead.next()).collect();
    acknowledge(&cluster, 1, &told[..1]);
    drop(dead);
    let mut other = Reader::open(cluster.apis[2], "group=billing", None);
    assert_eq!(group(&cluster)["unacknowledged"], 3, "they are the dead one's");
    // The 30 s that they are kept for it, gone by at Redis.
    let mut redis = cluster.redis.connect();
    let command = |words: &str| {
        let mut command = redis::cmd(words.split(' ').next().unwrap());
        for word in words.split(' ').skip(1) {
            command.arg(word);
        }
        command
    };
    let pending: Vec<(String, String, u64, u64)> =
        command("XPENDING im_v2_wsEvents billing - + 10").query(&mut redis).unwrap();
    for (id, reader, ..) in &pending {
        let claim = format!("XCLAIM im_v2_wsEvents billing {reader} 0 {id} IDLE 30000 JUSTID");
        command(&claim).exec(&mut redis).unwrap();
    }
    let again: Vec<_> = (0..3).map(|_| other.next()).collect();
    let id = |said: &Said| said.data["id"].clone();
    assert_eq!(
        again.iter().map(id).collect::<Vec<_>>(),
        told[1..].iter().map(id).collect::<Vec<_>>()
    );
    acknowledge(&cluster, 0, &again);
    assert_eq!(group(&cluster)["unacknowledged"], 0);
}

#[test]
fn streams_of_a_group_share_its_events() {
    let cluster = Cluster::start_with(&EVENTS);
    let other = Reader::open(cluster.apis[0], "group=other", None);
    let readers: Vec<_> =
        (0..3).map(|node| Reader::open(cluster.apis[node], "group=billing", None)).collect();
    let threads: Vec<_> = readers
        .into_iter()
        .map(|mut reader| {
            std::thread::spawn(move || {
                let mut ids = Vec::new();
                loop {
                    let said = reader.next();
                    match said.data["client"].as_str() {
                        // The last ones that come.
                        Some("77") => return ids,
                        _ => ids.push(said.data["id"].as_str().unwrap().to_owned()),
                    }
                }
            })
        })
        .collect();
    for client in 1..=20 {
        cluster.connect(client).leave();
    }
    let mut done = 0;
    eventually("each stream has ended", || {
        cluster.connect(77).leave();
        done += 1;
        threads.iter().all(std::thread::JoinHandle::is_finished)
    });
    let mut ids: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!((ids.len(), count), (80, 80), "each once");
    let mut other = other;
    assert_eq!(other.words(1, 4), ["opened", "online", "ended", "offline"]);
}

#[test]
fn a_group_begins_where_it_is_told_to() {
    let cluster = Cluster::start_with(&EVENTS);
    cluster.connect(1).leave();
    eventually("both are told", || {
        let mut all = Reader::open(cluster.apis[1], "group=all&start=all", None);
        let ended = all.words(1, 4);
        cluster.expect(1, "DELETE /v1/events/groups/all", None, 204);
        ended == ["opened", "online", "ended", "offline"]
    });
    let mut new = Reader::open(cluster.apis[1], "group=new", None);
    let mut since = Reader::open(cluster.apis[1], "group=since&start=1", None);
    let mut later = Reader::open(cluster.apis[1], "group=later&start=9999999999999999", None);
    cluster.connect(2).leave();
    assert_eq!(new.words(2, 4).len(), 4);
    assert_eq!(later.words(2, 4).len(), 4, "a time that is to come is from now on");
    assert_eq!((since.words(1, 4).len(), since.words(2, 4).len()), (4, 4));
}

#[test]
fn no_more_than_a_window_is_out_and_what_was_missed_is_told() {
    let cluster = Cluster::start_with(&["--events", "64", "--keep", "0"]);
    let mut reader = Reader::open(cluster.apis[0], "group=billing", None);
    let first = {
        cluster.connect(1).leave();
        (0..4).map(|_| reader.next()).collect::<Vec<_>>()
    };
    drop(reader);
    for client in 2..40 {
        cluster.connect(client).leave();
    }
    eventually("the first ones are trimmed", || group(&cluster)["missed"].as_u64() > Some(0));
    let mut reader = Reader::open(cluster.apis[1], "group=billing", Some(&first[3].id));
    let said = reader.next();
    assert_eq!(said.name, "missed");
    let missed = said.data["missed"].as_u64().unwrap();
    let next = reader.next();
    let serial =
        |id: &Value| id.as_str().unwrap().split_once('-').unwrap().1.parse::<u64>().unwrap();
    let gap = serial(&next.data["id"]) - serial(&first[3].data["id"]) - 1;
    assert!(missed >= gap && missed <= gap + 4, "{missed} of {gap}");
    let body = json!({ "group": "billing", "missed": missed });
    cluster.expect(0, "POST /v1/events/acknowledgements", Some(&body), 204);
    assert_eq!(group(&cluster)["missed"], 0);
}

#[test]
fn a_redis_that_has_lost_all_is_told() {
    let cluster = Cluster::start_with(&EVENTS);
    let mut reader = Reader::open(cluster.apis[0], "group=billing", None);
    redis::cmd("FLUSHALL").exec(&mut cluster.redis.connect()).unwrap();
    let said = reader.next();
    assert_eq!((&*said.name, said.data), ("missed", json!({ "missed": null })));
}

#[test]
fn what_is_wrong_is_said() {
    let cluster = Cluster::start_with(&EVENTS);
    let long = "g".repeat(129);
    for query in [
        "group=",
        "group=a%20b",
        "group=@webhook",
        &format!("group={long}"),
        "start=all",
        "group=g&start=yesterday",
        "group=g&start=-1",
        "group=g&group=h",
        "group=g&more=1",
    ] {
        let answer = cluster.ask(0, &format!("GET /v1/events?{query}"), None);
        assert_eq!((answer.status, answer.code()), (400, "invalid_request".into()), "{query}");
    }
    for last in ["1-1", "x", "1-1.short"] {
        let last = format!("Last-Event-ID: {last}\r\n");
        let answer = cluster.ask_with(0, "GET /v1/events?group=g", &last, None);
        assert_eq!((answer.status, answer.code()), (400, "invalid_request".into()), "{last}");
    }
    let _reader = Reader::open(cluster.apis[0], "group=g", None);
    let too_many = vec!["1-1"; 1001];
    for body in [
        json!({}),
        json!({ "group": 1 }),
        json!({ "group": "@webhook", "ids": ["1-1"] }),
        json!({ "group": "g", "ids": ["x"] }),
        json!({ "group": "g", "ids": ["01-1"] }),
        json!({ "group": "g", "ids": too_many }),
        json!({ "group": "g", "missed": -1 }),
    ] {
        let answer = cluster.ask(0, "POST /v1/events/acknowledgements", Some(&body));
        assert_eq!((answer.status, answer.code()), (400, "invalid_request".into()), "{body}");
    }
    // That of webhooks, which are not set any more.
    cluster.expect(0, "DELETE /v1/events/groups/@webhook", None, 204);
    cluster.expect(0, "DELETE /v1/events/groups/a%20b", None, 400);
    let unknown = json!({ "group": "nobody", "ids": ["1-1"] });
    let answer = cluster.ask(0, "POST /v1/events/acknowledgements", Some(&unknown));
    assert_eq!((answer.status, answer.code()), (404, "not_found".into()));
    let no_such_event = json!({ "group": "g", "ids": ["1-1"] });
    cluster.expect(0, "POST /v1/events/acknowledgements", Some(&no_such_event), 204);
    // Asked for its head alone, nothing is given to anybody.
    assert_eq!(cluster.ask(0, "HEAD /v1/events?group=h", None).status, 200);
    assert_eq!(group(&cluster)["group"], "g");
}

#[test]
fn where_no_events_are_kept_that_is_said() {
    let cluster = Cluster::start();
    let answer = cluster.ask(0, "GET /v1/events?group=g", None);
    assert_eq!((answer.status, answer.code()), (404, "not_found".into()));
    assert!(answer.json()["detail"].as_str().unwrap().contains("--events"), "{answer:?}");
}

#[test]
fn a_node_alone_keeps_events_as_well() {
    let node = Imserver::start(&[
        "--listen",
        "127.0.0.1:0",
        "--api",
        "127.0.0.1:0",
        "--api-key",
        KEY,
        "--keep",
        "0",
    ]);
    let api = node.api();
    let key = format!("Authorization: Bearer {KEY}\r\n");
    let mut reader = Reader::open(api, "group=billing", None);
    let connect = http::ask(api, "POST /v1/connections", &key, Some(r#"{"client": 7}"#)).json();
    let url = connect["url"].as_str().unwrap();
    testkit::ws::Client::connect(node.address(), url).unwrap().leave();
    let said: Vec<_> = (0..4).map(|_| reader.next()).collect();
    assert_eq!(said[3].name, "offline");
    let ids: Vec<_> = said.iter().map(|said| &said.data["id"]).collect();
    let body = json!({ "group": "billing", "ids": ids }).to_string();
    assert_eq!(http::ask(api, "POST /v1/events/acknowledgements", &key, Some(&body)).status, 204);
    let groups = http::ask(api, "GET /v1/events/groups", &key, None).json();
    assert_eq!(groups["groups"][0]["unacknowledged"], 0);
    drop(reader);
    eventually("its reader is gone", || {
        let groups = http::ask(api, "GET /v1/events/groups", &key, None).json();
        groups["groups"][0]["readers"] == json!([])
    });
}
