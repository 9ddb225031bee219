//! What clients and business see of a cluster, whatever the broker.

use serde_json::json;

use crate::world::{Backend, World, eventually};

pub fn a_message_reaches_its_receivers_on_all_nodes(backend: Backend) {
    let world = World::new(backend, 3);
    let mut clients: Vec<_> = (1..=6).map(|id| world.connect(id)).collect();
    let text = json!({ "text": "你好 😀 \"quoted\" \u{2028}", "nested": [null, { "a": 1.5 }] });
    world.im.send_message(0, 1..=6, &text, false).unwrap();
    for client in &mut clients {
        assert_eq!(client.json(), text);
    }
}

pub fn receipts_tell_what_became_of_a_message(backend: Backend) {
    let world = World::new(backend, 3);
    let mut sender = world.connect(1);
    let mut receiver = world.connect(2);
    world.im.send_message(1, [2, 3], "hi", true).unwrap();
    assert_eq!(receiver.text(), "\"hi\"");
    let mut receipts = [sender.json(), sender.json()];
    receipts.sort_by_key(|receipt| receipt["to"].as_i64());
    assert_eq!(
        receipts,
        [
            json!({ "content": "\"hi\"", "receipt": "发送成功", "to": 2, "status": "sent" }),
            json!({ "content": "\"hi\"", "receipt": "用户不在线", "to": 3, "status": "offline" }),
        ]
    );
}

pub fn channel_messages_reach_members_on_all_nodes(backend: Backend) {
    let world = World::new(backend, 3);
    let mut members: Vec<_> = (1..=6).map(|id| world.connect(id)).collect();
    let mut outsider = world.connect(7);
    world.im.join_chan_clients("room", 1..=6).unwrap();
    world.im.send_chan_message(1, "room", "hello").unwrap();
    for member in &mut members[1..] {
        assert_eq!(member.text(), "\"hello\"");
    }
    world.im.leave_chan(2, ["room"]).unwrap();
    world.im.send_chan_message(0, "room", "again").unwrap();
    for (index, member) in members.iter_mut().enumerate() {
        match index {
            1 => member.silent(),
            _ => assert_eq!(member.text(), "\"again\""),
        }
    }
    outsider.silent();
}

pub fn force_offline_closes_every_connection(backend: Backend) {
    let world = World::new(backend, 3);
    let mut first = world.connect(5);
    let mut second = world.connect(5);
    world.im.force_offline(5).unwrap();
    assert_eq!(first.closed(), Some(4001));
    assert_eq!(second.closed(), Some(4001));
    eventually("offline", || !world.im.has_online(5).unwrap());
}
