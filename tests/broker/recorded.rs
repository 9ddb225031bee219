//! The commands that reach Redis against those of the .NET client (`tests/fixtures/wire/verbs.jsonl`).
//!
//! A fixture line is one recorded call: its arguments, its commands (script texts left out), their
//! replies, its result, and the hashes it changed, before and after. What the reads are to find is set
//! up from the recorded replies.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    time::Duration,
};

use imcore::{
    ClientId, Ticket,
    broker::{Bus, Directory, Envelope, NodeBroker, RedisBroker, RedisOptions},
};
use redis::{Connection, cmd};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use testkit::Redis;

use crate::world::{closed, id, opened};

#[derive(Deserialize)]
struct Case {
    n: u32,
    call: String,
    args: BTreeMap<String, Value>,
    redis: Vec<Vec<String>>,
    replies: Vec<Value>,
    result: Value,
    before: BTreeMap<String, Value>,
    after: BTreeMap<String, Value>,
}

impl Case {
    fn arg<T: DeserializeOwned>(&self, name: &str) -> T {
        serde_json::from_value(self.args[name].clone()).unwrap_or_else(|_| panic!("{}", self.n))
    }

    fn list<T: DeserializeOwned>(&self, name: &str) -> Vec<T> {
        self.arg::<Option<Vec<T>>>(name).unwrap_or_default()
    }

    /// A name that may be null, which is as good as empty.
    fn name(&self, name: &str) -> String {
        self.arg::<Option<String>>(name).unwrap_or_default()
    }
}

/// What Redis was told, seen by `MONITOR` on a connection of its own.
struct Monitor(BufReader<TcpStream>);

impl Monitor {
    fn of(server: &Redis) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(b"MONITOR\r\n").unwrap();
        let mut monitor = Monitor(BufReader::new(stream));
        let mut ok = String::new();
        monitor.0.read_line(&mut ok).unwrap();
        assert_eq!(ok, "+OK\r\n");
        monitor
    }

    /// The commands up to `ECHO mark`, without those that scripts ran.
    fn until(&mut self, mark: &str) -> Vec<Vec<String>> {
        let mut commands = Vec::new();
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).unwrap();
            let (head, words) = line.split_once("] ").expect(&line);
            let words = unquote(words.trim_end());
            if words == ["ECHO", mark] {
                return commands;
            }
            // Once by each process: whether it is one of several Redis.
            let is_look = words[0] == "GET" && words[1].ends_with("Layout");
            if !head.ends_with(" lua") && words != ["PING"] && !is_look {
                commands.push(words);
            }
        }
    }
}

/// Words as `MONITOR` writes them: in quotes, with C escapes for bytes that are not printable ASCII.
fn unquote(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut bytes = line.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'"' {
            continue;
        }
        let mut word = Vec::new();
        loop {
            match bytes.next().expect(line) {
                b'"' => break,
                b'\\' => word.push(match bytes.next().expect(line) {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'a' => 7,
                    b'b' => 8,
                    b'x' => {
                        let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
                        u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
                    }
                    other => other,
                }),
                other => word.push(other),
            }
        }
        words.push(String::from_utf8(word).unwrap());
    }
    words
}

fn stage(connection: &mut Connection, case: &Case) {
    cmd("FLUSHALL").exec(connection).unwrap();
    for (key, value) in &case.before {
        for (field, value) in value.as_object().into_iter().flatten() {
            hset(connection, key, field, value);
        }
    }
    for (command, reply) in case.redis.iter().zip(&case.replies) {
        let key = command.get(1).map_or("", String::as_str);
        let listed = reply.as_array().map_or(&[][..], Vec::as_slice);
        match command[0].as_str() {
            "HKEYS" => listed
                .iter()
                .for_each(|field| hset(connection, key, field.as_str().unwrap(), &"1".into())),
            "HGETALL" => listed
                .chunks(2)
                .for_each(|pair| hset(connection, key, pair[0].as_str().unwrap(), &pair[1])),
            "HGET" => hset(connection, key, &command[2], reply),
            "HMGET" => command[2..]
                .iter()
                .zip(listed)
                .for_each(|(field, value)| hset(connection, key, field, value)),
            _ => {}
        }
    }
}

fn hset(connection: &mut Connection, key: &str, field: &str, value: &Value) {
    if let Some(value) = value.as_str() {
        cmd("HSET").arg(key).arg(field).arg(value).exec(connection).unwrap();
    }
}

/// Makes the call on our broker and compares what it returns.
fn drive(broker: &RedisBroker, case: &Case) {
    let memberships = |clients: &[ClientId], channels: &[Option<String>]| {
        let mut all = Vec::new();
        for client in clients {
            all.extend(
                channels.iter().map(|name| (client.clone(), name.clone().unwrap_or_default())),
            );
        }
        all
    };
    let borrow = |all: &[(ClientId, String)]| -> Vec<(ClientId, &'static str)> {
        all.iter().map(|(client, name)| (client.clone(), &*name.clone().leak())).collect()
    };
    let result = match case.call.as_str() {
        "PrevConnectServer" => {
            let meta: Option<String> = case.arg("clientMetaData");
            let ticket = Ticket::new(case.arg("clientId"), meta.as_deref());
            let token = case.redis[0][1].strip_prefix("im_v2_wsToken").unwrap();
            broker.put_ticket(token, &ticket, Duration::from_secs(10)).unwrap();
            return;
        }
        "SendMessage" | "SendChanMessage" | "SendBroadcastMessage" | "ForceOffline" => {
            let outgoing: Vec<_> = case.redis.iter().map(|command| envelope(command)).collect();
            let outgoing: Vec<_> =
                outgoing.iter().map(|(node, envelope)| (*node, envelope.clone())).collect();
            return broker.publish(&outgoing).unwrap();
        }
        "JoinChan" => {
            let all = memberships(&[case.arg("clientId")], &case.list("chans"));
            return broker.join(&borrow(&all)).unwrap();
        }
        "LeaveChan" => {
            let all = memberships(&[case.arg("clientId")], &case.list("chans"));
            return broker.leave(&borrow(&all)).unwrap();
        }
        "LeaveChan(chan, ids)" => {
            let all = memberships(&case.list("clientIds"), &[case.arg("chan")]);
            return broker.leave(&borrow(&all)).unwrap();
        }
        "HasOnline" => broker.are_online(&[case.arg("clientId")]).unwrap()[0].into(),
        "HasOnline(many)" => broker.are_online(&case.list("clientIds")).unwrap().into(),
        "GetClientListByOnline" => ids(broker.online_clients().unwrap()),
        "GetChanClientList" => ids(broker.channel_members(&case.name("chan")).unwrap()),
        "GetChanOnline" => broker.channel_size(&case.name("chan")).unwrap().into(),
        "GetChanListByClientId" => {
            broker.channels_of(&[case.arg("clientId")]).unwrap().remove(0).into()
        }
        "GetChanList" => {
            let channels = broker.channels().unwrap().into_iter();
            channels
                .map(|(chan, online)| serde_json::json!({"chan": chan, "online": online}))
                .collect()
        }
        call => panic!("{call}"),
    };
    assert_eq!(result, case.result, "{} {}", case.n, case.call);
}

/// As a helper gives them whose deployment has no other texts than numbers and GUIDs.
fn ids(mut clients: Vec<ClientId>) -> Value {
    clients.retain(|client| !matches!(client, ClientId::Text(_)));
    serde_json::to_value(clients).unwrap()
}

/// What a recorded `PUBLISH` means.
fn envelope(command: &[String]) -> (&str, Envelope) {
    let node = command[1].strip_prefix("im_v2_wsServer").unwrap();
    let payload = &command[2];
    if let Some(client) = payload.strip_prefix("__FreeIM__(ForceOffline)") {
        return (node, Envelope::ForceOffline { client: client.parse().unwrap() });
    }
    let read = |text: &str| -> (ClientId, Value, String, Option<bool>) {
        let json: BTreeMap<String, Value> = serde_json::from_str(text).unwrap();
        let sender = serde_json::from_value(json["Item1"].clone()).unwrap();
        let content = json["Item3"].as_str().unwrap().to_string();
        (sender, json["Item2"].clone(), content, json.get("Item4").and_then(Value::as_bool))
    };
    if let Some(body) = payload.strip_prefix("__FreeIM__(ChanMessage)") {
        let (sender, channel, content, _) = read(body);
        let channel = channel.as_str().map(String::from);
        return (node, Envelope::Channel { sender, channel, content, trace: None });
    }
    let (sender, receivers, content, receipt) = read(payload);
    let receivers = serde_json::from_value(receivers).unwrap();
    (
        node,
        Envelope::Direct {
            sender,
            receivers,
            content,
            receipt: receipt.unwrap(),
            id: None,
            acknowledge: false,
            about: false,
            trace: None,
        },
    )
}

#[test]
fn commands_and_effects_equal_the_recorded_ones() {
    let server = Redis::start();
    let mut admin = server.connect();
    let broker = RedisBroker::open(&server.url(), RedisOptions::default()).unwrap();
    let mut monitor = Monitor::of(&server);
    for case in testkit::fixtures::<Case>("verbs.jsonl") {
        stage(&mut admin, &case);
        cmd("ECHO").arg("begin").exec(&mut admin).unwrap();
        monitor.until("begin");
        drive(&broker, &case);
        cmd("ECHO").arg("end").exec(&mut admin).unwrap();
        let mut commands = monitor.until("end");
        // Ours alone: how many messages were sent to a node, and that a client is known to be coming. .NET code
        // never looks at these keys.
        commands.retain(|command| command[0] != "HINCRBY" || command[1] != "im_v2_wsPublished");
        commands.retain(|command| command[0] != "EVAL" || command[2] != "0");
        // What is noted beside a ticket is under a key of our own.
        commands.retain(|command| !command.get(1).is_some_and(|key| key.contains("Coming")));
        // Nor whether anybody serves the node that nobody heard.
        commands.retain(|command| command[0] != "HGETALL" || command[1] != "im_v2_wsSessions");
        // What it has in its cache, it is not sent again.
        commands.retain(|command| command[0] != "SCRIPT");
        for command in commands.iter_mut().filter(|command| command[0].starts_with("EVAL")) {
            command[0] = "EVAL".into();
            command[1] = "<script omitted>".into();
            // Behind the keys, id and channel: what our script does beside the original's.
            command.truncate(3 + 3 + 2);
        }
        // Where the original reads a hash at once, we read it in steps, so that Redis serves others between.
        for (own, recorded) in commands.iter_mut().zip(&case.redis) {
            let whole = matches!(&*recorded[0], "HKEYS" | "HGETALL") && own[1] == recorded[1];
            if whole && own[0] == "HSCAN" && own[2] == "0" {
                own.clone_from(recorded);
            }
        }
        assert_eq!(commands, case.redis, "{} {}", case.n, case.call);
        for (key, expected) in &case.after {
            let Some(expected) = expected.as_object().filter(|hash| !hash.contains_key("ttl"))
            else {
                continue;
            };
            let hash: BTreeMap<String, String> = cmd("HGETALL").arg(key).query(&mut admin).unwrap();
            let expected = serde_json::from_value(expected.clone().into()).unwrap();
            assert_eq!(hash, expected, "{} {key}", case.n);
        }
    }
}

/// A report that timed out may still be on its way, and arrive after its repetition and what came then.
#[test]
fn a_report_that_arrives_late_has_no_effect() {
    let server = Redis::start();
    let mut admin = server.connect();
    let broker = RedisBroker::open(&server.url(), RedisOptions::default()).unwrap();
    let mut session = broker.begin_session("n1", Duration::from_secs(60), true).unwrap();
    let mut monitor = Monitor::of(&server);
    broker.report(&mut session, &[opened(1, id(7))]).unwrap();
    cmd("ECHO").arg("sent").exec(&mut admin).unwrap();
    let sent = monitor.until("sent");
    let [.., late] = &sent[..] else { panic!("{sent:?}") };
    broker.report(&mut session, &[closed(1)]).unwrap();
    let mut again = redis::Cmd::new();
    late.iter().for_each(|word| {
        again.arg(word);
    });
    assert_eq!(again.query::<i64>(&mut admin).unwrap(), 1);
    assert_eq!(broker.online_clients().unwrap(), []);
}
