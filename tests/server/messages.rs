//! Direct messages: who gets them, who is told about it, in which order, and what text survives.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use imcore::{ClientId, ErrorKind, ImClient, Message, Receipt};
use serde::{Serialize, Serializer, ser::Error as _};
use serde_json::{Value, json};
use testkit::{eventually, ws::Client};

use crate::world::World;

/// A GUID that the node `owner` of three owns, and that differs from others by `number`.
pub(crate) fn guid(number: u32, owner: u32) -> ClientId {
    format!("8f14e45f-ceea-467f-a9b1-{number:08x}{owner:04x}").parse().unwrap()
}

shared_behaviour!(a_message_reaches_its_receivers_on_all_nodes, |backend| {
    let world = World::new(backend, 3);
    let mut clients: Vec<_> = (1..=6).map(|id| world.connect(id)).collect();
    let mut outsider = world.connect(7);
    world.im.send(Message::to(1..=6), "hello").unwrap();
    for client in &mut clients {
        assert_eq!(client.text(), "\"hello\"");
    }
    outsider.silent();
});

behaviour!(unknown_receivers_are_no_error, |backend| {
    let world = World::new(backend, 3);
    let mut bystander = world.connect(1);
    world.im.send(Message::to([100, 101, 102]).receipt(Receipt::Sent), "not there").unwrap();
    world.im.send(Message::to([100, 1]), "there").unwrap();
    assert_eq!(bystander.text(), "\"there\"");
    bystander.silent();
});

shared_behaviour!(a_batch_goes_out_in_order, |backend| {
    let world = World::new(backend, 3);
    let mut clients: Vec<_> = (1..=3).map(|id| world.connect(id)).collect();
    world.im.join([1, 2, 3], ["room"]).unwrap();
    let mut batch = world.im.batch();
    for round in 0..500 {
        batch.add(Message::to([3, 1, 2]), &round).unwrap();
        batch.add(Message::to_channel("room"), &json!({ "room": round })).unwrap();
        batch.add(Message::to_everyone(), &json!([round])).unwrap();
    }
    batch.send().unwrap();
    for client in &mut clients {
        for round in 0..500 {
            assert_eq!(client.json(), json!(round));
            assert_eq!(client.json(), json!({ "room": round }));
            assert_eq!(client.json(), json!([round]));
        }
    }
});

behaviour!(a_batch_that_is_dropped_sends_nothing, |backend| {
    let world = World::new(backend, 1);
    let mut client = world.connect(1);
    let mut batch = world.im.batch();
    batch.add(Message::to([1]), "never").unwrap();
    drop(batch);
    let mut batch = world.im.batch();
    batch.add(Message::to([1]), "sent").unwrap();
    let error = batch.add(Message::to_channel(""), "no name").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Argument);
    batch.send().unwrap();
    world.im.batch().send().unwrap();
    assert_eq!(client.text(), "\"sent\"");
    client.silent();
});

behaviour!(a_receiver_listed_often_gets_one_message, |backend| {
    let world = World::new(backend, 3);
    let mut sender = world.connect(9);
    let mut receivers = [world.connect(1), world.connect(2)];
    world.im.send(Message::to([1, 2, 1, 1, 2]).from(9).receipt(Receipt::Sent), "once").unwrap();
    for receiver in &mut receivers {
        assert_eq!(receiver.text(), "\"once\"");
    }
    let mut about = [sender.json()["to"].clone(), sender.json()["to"].clone()];
    about.sort_by_key(Value::as_i64);
    assert_eq!(about, [json!(1), json!(2)]);
    world.im.send(Message::to([1, 2, 9]), "end").unwrap();
    for client in receivers.iter_mut().chain([&mut sender]) {
        assert_eq!(client.text(), "\"end\"");
    }
});

behaviour!(what_the_bus_cannot_carry_is_refused, |backend| {
    let world = World::new(backend, 3);
    let mut client = world.connect(1);
    let helper = || {
        let builder = ImClient::builder().servers(["node-0", "node-1", "node-2"]);
        builder.broker(Arc::clone(&world.broker))
    };
    let im = helper().build().unwrap();
    // With its quotes a byte more than the limit.
    let text = "x".repeat((1 << 20) - 1);
    let mut batch = im.batch();
    batch.add(Message::to([1]), "before").unwrap();
    let failures = [
        im.send(Message::to([1]), &text).map(drop),
        im.send(Message::to_channel("room"), &text).map(drop),
        im.send(Message::to_everyone(), &text).map(drop),
        im.send(Message::to([1]).receipt(Receipt::Sent).id("x"), &text).map(drop),
        batch.add(Message::to([1]), &text),
        batch.add(Message::to_channel("room"), &text),
        batch.add(Message::to_everyone(), &text),
    ];
    for failure in failures {
        let error = failure.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Argument, "{error}");
        assert!(error.to_string().contains("1048577 bytes"), "{error}");
    }
    batch.send().unwrap();
    assert_eq!(client.text(), "\"before\"");
    im.send(Message::to([1]), &text[1..]).unwrap();
    assert_eq!(client.text().len(), 1 << 20);
    let frugal = helper().message_bytes(3).build().unwrap();
    assert_eq!(frugal.send(Message::to([1]), "xx").unwrap_err().kind(), ErrorKind::Argument);
    frugal.send(Message::to([1]), "x").unwrap();
    assert_eq!(client.text(), "\"x\"");
});

behaviour!(own_messages_come_back_only_to_several_connections, |backend| {
    let world = World::new(backend, 3);
    let mut phone = world.connect(1);
    world.im.send(Message::to([1]).from(1).receipt(Receipt::Sent), "to myself").unwrap();
    world.im.send(Message::to([1]), "mark").unwrap();
    assert_eq!(phone.text(), "\"mark\"");
    let mut laptop = world.connect(1);
    laptop.silent();
    world.im.send(Message::to([1]).from(1).receipt(Receipt::Sent), "to my devices").unwrap();
    assert_eq!(phone.text(), "\"to my devices\"");
    assert_eq!(laptop.text(), "\"to my devices\"");
    laptop.leave();
    world.wait_for_connections(1);
    world.im.send(Message::to([1]).from(1).receipt(Receipt::Sent), "alone again").unwrap();
    world.im.send(Message::to([1]), "mark").unwrap();
    assert_eq!(phone.text(), "\"mark\"");
});

shared_behaviour!(guids_and_integers_live_on_one_node, |backend| {
    let world = World::new(backend, 3);
    let ids = [guid(1, 0), guid(2, 1), guid(3, 0xffff), 3.into(), (-3).into(), i64::MIN.into()];
    let mut clients: Vec<_> = ids.iter().map(|id| world.connect(id)).collect();
    world.im.send(Message::to(&ids).from(guid(1, 0)).receipt(Receipt::Sent), "mixed").unwrap();
    for (id, client) in ids.iter().zip(&mut clients).skip(1) {
        assert_eq!(client.text(), "\"mixed\"", "{id}");
    }
    let mut about: Vec<ClientId> = (1..ids.len())
        .map(|_| serde_json::from_value(clients[0].json()["to"].clone()).unwrap())
        .collect();
    about.sort_unstable();
    let mut others = ids[1..].to_vec();
    others.sort_unstable();
    assert_eq!(about, others);
    let mut online = world.im.online_clients().unwrap();
    online.sort_unstable();
    let mut all = ids.to_vec();
    all.sort_unstable();
    assert_eq!(online, all);
});

behaviour!(text_of_any_kind_survives, |backend| {
    let world = World::new(backend, 1);
    let mut sender = world.connect(1);
    let mut receiver = world.connect(2);
    let nested = serde_json::to_string(&json!({ "a": "\"b\"" })).unwrap();
    let controls: String = (0..0x20_u8).map(char::from).chain(['\u{7f}', '\u{85}']).collect();
    let messages = [
        json!("你好，世界"),
        json!("😀 👩‍👩‍👧 e\u{301}"),
        json!("\"quotes\" 'single' \\back/slash <b>&amp;"),
        json!("line\u{2028}and\u{2029}paragraph"),
        json!(nested),
        json!(controls),
        json!(null),
        json!(""),
        json!([1.5, -0.0, u64::MAX, i64::MIN, 1e300, true]),
        json!({ "deep": { "list": [null, [], {}], "键": "值" } }),
        json!("\u{feff}bom \u{10ffff}"),
        json!("__FreeIM__(ForceOffline)2"),
    ];
    for message in &messages {
        world.im.send(Message::to([2]).from(1).receipt(Receipt::Sent), message).unwrap();
        let text = receiver.text();
        assert_eq!(&serde_json::from_str::<Value>(&text).unwrap(), message);
        assert_eq!(sender.json()["content"], json!(text), "the receipt holds the text as sent");
    }
});

behaviour!(large_messages_arrive_whole, |backend| {
    let world = World::new(backend, 2);
    let mut sender = world.connect(1);
    let mut receiver = world.connect(2);
    for size in [125, 126, 65_535, 65_536, 64 << 10, 1 << 20, 3 << 20] {
        let text = "x\u{4f60}".repeat(size / 4);
        world.im.send(Message::to([2]).from(1).receipt(Receipt::Sent), &text).unwrap();
        assert!(receiver.json() == json!(text), "{size} bytes");
        assert_eq!(sender.json()["status"], "sent");
    }
});

struct NoJson;

impl Serialize for NoJson {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(S::Error::custom("has no JSON form"))
    }
}

behaviour!(what_has_no_json_form_is_not_sent, |backend| {
    let world = World::new(backend, 3);
    let mut receiver = world.connect(1);
    world.im.join([1], ["room"]).unwrap();
    let failures = [
        world.im.send(Message::to([1]).receipt(Receipt::Sent), &NoJson),
        world.im.send(Message::to([1]).receipt(Receipt::Sent), &HashMap::from([([1, 2], 3)])),
        world.im.send(Message::to_channel("room"), &NoJson),
        world.im.send(Message::to_everyone(), &NoJson),
    ];
    for failure in failures {
        let error = failure.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Encode, "{error}");
        assert!(!error.is_retryable());
    }
    world.im.send(Message::to([1]), "mark").unwrap();
    assert_eq!(receiver.text(), "\"mark\"");
});

behaviour!(the_send_hook_sees_every_send, |backend| {
    let world = World::new(backend, 3);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let im = ImClient::builder()
        .servers(["node-0", "node-1", "node-2"])
        .broker(Arc::clone(&world.broker))
        .on_send({
            let seen = Arc::clone(&seen);
            move |event| {
                seen.lock().unwrap().push(format!(
                    "{} {} {:?} {:?} {} {}",
                    event.node,
                    event.sender,
                    event.receivers.iter().map(ToString::to_string).collect::<Vec<_>>(),
                    event.channel,
                    event.message,
                    event.receipt == Receipt::Sent
                ));
            }
        })
        .build()
        .unwrap();
    let take = || std::mem::take(&mut *seen.lock().unwrap());
    im.send(Message::to([4, 1, 3, 4]).from(9).receipt(Receipt::Sent), "a").unwrap();
    assert_eq!(
        take(),
        [
            "node-1 9 [\"4\", \"1\"] None \"a\" true".to_owned(),
            "node-0 9 [\"3\"] None \"a\" true".to_owned()
        ]
    );
    im.send(Message::to_channel("room").from(9), "b").unwrap();
    im.send(Message::to_everyone(), "c").unwrap();
    let expected = [("9", "Some(\"room\")", "\"b\""), ("0", "None", "\"c\"")].map(
        |(sender, channel, message)| {
            [0, 1, 2].map(|node| format!("node-{node} {sender} [] {channel} {message} false"))
        },
    );
    assert_eq!(take(), expected.concat());
    im.send(Message::to([1]).from(9).receipt(Receipt::Sent), &NoJson).unwrap_err();
    im.send(Message::to(Vec::<i64>::new()).from(9).receipt(Receipt::Sent), "nobody").unwrap_err();
    im.join([1], ["room"]).unwrap();
    assert!(take().is_empty());
});

shared_behaviour!(order_holds_per_thread_and_receiver_under_load, |backend| {
    const THREADS: usize = 4;
    const MESSAGES: usize = 400;
    let world = World::new(backend, 3);
    let clients: Vec<Client> = (1..=6).map(|id| world.connect(id)).collect();
    world.im.join(1..=6, ["room"]).unwrap();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let im = &world.im;
            scope.spawn(move || {
                for number in 0..MESSAGES {
                    // Messages to a client and to its channel share one order.
                    match number % 3 {
                        0 => im.send(Message::to_channel("room"), &[thread, number]),
                        1 => im.send(Message::to(1..=6), &[thread, number]),
                        _ => im.send(Message::to_everyone(), &[thread, number]),
                    }
                    .unwrap();
                }
            });
        }
        for mut client in clients {
            scope.spawn(move || {
                let mut next = [0; THREADS];
                for _ in 0..THREADS * MESSAGES {
                    let [thread, number]: [usize; 2] =
                        serde_json::from_str(&client.text()).unwrap();
                    assert_eq!(number, next[thread], "of thread {thread}");
                    next[thread] += 1;
                }
                client.silent();
            });
        }
    });
});

behaviour!(how_long_messages_take_is_counted_once_a_connection, |backend| {
    let world = World::new(backend, 1);
    let mut clients: Vec<_> = (1..=3).map(|client| world.connect(client)).collect();
    for _ in 0..4 {
        world.im.send(Message::to_everyone(), "x").unwrap();
    }
    world.im.send(Message::to([1, 9]), "y").unwrap();
    clients.iter_mut().for_each(|client| (0..4).for_each(|_| drop(client.text())));
    let stats = || world.nodes[0].vitals().stats();
    eventually("all are counted", || stats().arrival_to_written.count == 13);
    let times = stats().arrival_to_written;
    let (_, within) = times.buckets.last().copied().unwrap();
    assert!(within <= times.count && times.total > Duration::ZERO, "{times:?}");
    assert_eq!(stats().publish_to_written.count, 0, "no log says when");
});
