//! Channels whose members come and go by others' commands: a node's look finds them.

use std::time::Duration;

use imcore::{
    EventStart,
    broker::{Directory, EventReader, Events, NodeBroker, RedisBroker, RedisOptions},
};
use redis::{Connection, pipe};
use testkit::Redis;

use crate::world::{LONG, id, sorted, with_events};

/// As GUID dialects of the .NET helper join: three commands.
fn join(redis: &mut Connection, names: &str, client: i64, channel: &str) {
    let mut join = pipe();
    join.cmd("HSET").arg(format!("{names}Chan{channel}")).arg(client).arg(0);
    join.cmd("HSET").arg(format!("{names}Client{client}")).arg(channel).arg(0);
    join.cmd("HINCRBY").arg(format!("{names}ListChan")).arg(channel).arg(1);
    join.exec(redis).unwrap();
}

fn told(broker: &RedisBroker) -> Vec<String> {
    let (group, consumer) = ("g".into(), "a".into());
    let reader =
        EventReader { group, consumer, start: EventStart::All, take_over: LONG, after: None };
    let events = broker.read_events(&reader, 5000, Duration::ZERO).unwrap().events;
    let ids: Vec<_> = events.iter().map(|event| event.id.clone()).collect();
    broker.acknowledge_events(&reader, 0, &ids).unwrap();
    let client =
        |event: &imcore::Event| event.client.as_ref().map_or("-".into(), |id| id.to_string());
    let of_channel = |event: &imcore::Event| event.channel.clone().unwrap();
    let line = |event| format!("{} {}", of_channel(event), client(event));
    events.iter().map(|event| format!("{} {}", event.kind.word(), line(event))).collect()
}

#[test]
fn a_look_finds_what_others_have_done() {
    let (server, options) = (Redis::shared(), with_events());
    let names = format!("{}_ws", options.prefix);
    let broker = RedisBroker::open(&server.url(), options.clone()).unwrap();
    let mut redis = server.connect();
    let empty = |channel| {
        redis::cmd("DEL").arg(format!("{names}Chan{channel}")).exec(&mut server.connect()).unwrap();
    };
    join(&mut redis, &names, 7, "");
    join(&mut redis, &names, 1, "a");
    broker.join(&[(id(2), "a"), (id(2), "b")]).unwrap();
    assert_eq!(told(&broker), [""; 0], "no node has said that events are kept");
    broker.leave_overdue().unwrap();
    assert_eq!(sorted(told(&broker)), ["occupied a -", "occupied b -"]);
    broker.leave_overdue().unwrap();
    assert_eq!(told(&broker), [""; 0], "told once");
    // The .NET helper's own way to empty a channel leaves its count.
    empty("a");
    broker.leave_overdue().unwrap();
    assert_eq!(told(&broker), ["vacated a -"]);
    broker.join(&[(id(3), "a")]).unwrap();
    assert_eq!(told(&broker), ["occupied a 3"]);
    // Between two looks nobody has seen that it was empty.
    empty("a");
    broker.join(&[(id(4), "a")]).unwrap();
    broker.leave(&[(id(4), "a")]).unwrap();
    assert_eq!(told(&broker), ["vacated a 4"]);
    // A node without events has nothing to say of them.
    let off = RedisOptions { events: 0, ..options };
    RedisBroker::open(&server.url(), off).unwrap().leave_overdue().unwrap();
    broker.join(&[(id(4), "a")]).unwrap();
    assert_eq!(told(&broker), ["occupied a 4"]);
}

#[test]
fn looks_come_round_to_all_channels() {
    let (server, options) = (Redis::shared(), with_events());
    let names = format!("{}_ws", options.prefix);
    let broker = RedisBroker::open(&server.url(), options).unwrap();
    let mut redis = server.connect();
    let channels: Vec<_> = (0..2000).map(|number| format!("c{number}")).collect();
    channels.iter().for_each(|channel| join(&mut redis, &names, 1, channel));
    let look = |what: &str| {
        let mut found = Vec::new();
        for _ in 0..20 {
            broker.leave_overdue().unwrap();
            found.extend(told(&broker));
        }
        let (words, names): (Vec<_>, Vec<_>) =
            found.iter().map(|line| line.split_once(' ').unwrap()).unzip();
        assert!(words.iter().all(|word| *word == what));
        let expected: Vec<_> = channels.iter().map(|channel| format!("{channel} -")).collect();
        assert_eq!(sorted(names), sorted(expected));
    };
    look("occupied");
    let keys: Vec<_> = channels.iter().map(|channel| format!("{names}Chan{channel}")).collect();
    redis::cmd("DEL").arg(keys).exec(&mut redis).unwrap();
    look("vacated");
}
