//! Receipts: who is told what became of a message.

use std::time::Duration;

use imcore::{ErrorKind, Message, Receipt, Ticket};
use serde_json::json;
use testkit::ws::Client;

use crate::world::World;

shared_behaviour!(receipts_tell_what_became_of_a_message, |backend| {
    let world = World::new(backend, 3);
    let mut sender = world.connect(1);
    let mut receiver = world.connect(2);
    world.im.send(Message::to([2, 3]).from(1).receipt(Receipt::Sent), "hi").unwrap();
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
    // None is sent that was not asked for.
    world.im.send(Message::to([2, 3]).from(1), "no receipt").unwrap();
    assert_eq!(receiver.text(), "\"no receipt\"");
    sender.silent();
});

behaviour!(receipts_repeat_the_id_and_leave_out_long_content, |backend| {
    let world = World::new(backend, 3);
    let mut sender = world.connect(1);
    let mut receiver = world.connect(2);
    let to = |client| Message::to([client]).from(1).receipt(Receipt::Sent);
    world.im.send(to(2).id("订单 \"17\""), "hi").unwrap();
    assert_eq!(receiver.text(), "\"hi\"");
    assert_eq!(
        sender.text(),
        r#"{"content":"\"hi\"","receipt":"发送成功","to":2,"status":"sent","id":"订单 \"17\""}"#
    );
    // The limit is that of the JSON text.
    for (length, repeated) in [(4094, true), (4095, false)] {
        let text = "x".repeat(length);
        let id = Message::fresh_id().unwrap();
        world.im.send(to(2).id(&id), &text).unwrap();
        assert_eq!(receiver.json(), json!(text));
        let receipt = sender.json();
        assert_eq!(receipt["id"], json!(id));
        assert_eq!(receipt.get("content").is_some(), repeated, "{length}");
    }
    let another = Message::fresh_id().unwrap();
    world.im.send(to(3).id(&another), "hi").unwrap();
    assert_eq!(sender.json()["id"], json!(another));
    assert_ne!(another, Message::fresh_id().unwrap());
    for unusable in ["", &"x".repeat(129)] {
        let error = world.im.send(to(2).id(unusable), "hi").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Argument, "{error}");
    }
    receiver.silent();
});

// More than the queues between the threads hold, however they are made; receivers that are here and not.
shared_behaviour!(every_receipt_of_a_long_list_comes, |backend| {
    const RECEIVERS: i64 = 25_000;
    let world = World::new(backend, 2);
    let mut sender = world.connect(1);
    let mut receivers = [world.connect(2), world.connect(3)];
    world.im.send(Message::to(2..RECEIVERS + 2).from(1).receipt(Receipt::Sent), "to all").unwrap();
    let mut told: Vec<_> = (0..RECEIVERS).map(|_| sender.json()["to"].as_i64().unwrap()).collect();
    told.sort_unstable();
    assert!(told.into_iter().eq(2..RECEIVERS + 2));
    receivers.iter_mut().for_each(|receiver| assert_eq!(receiver.text(), "\"to all\""));
    assert!(world.nodes.iter().all(|node| node.vitals().stats().receipts_dropped == 0));
    sender.silent();
});

behaviour!(the_system_and_oneself_are_told_nothing, |backend| {
    let world = World::new(backend, 3);
    // As a .NET helper may have it; ours issues no address to the system.
    let ticket = Ticket::new(0.into(), None);
    world.broker.put_ticket("system", &ticket, Duration::from_secs(60)).unwrap();
    let url = "ws://x/ws?token=system";
    let mut system = Client::connect(world.nodes[0].local_addr(), url).unwrap();
    let mut phone = world.connect(1);
    let mut laptop = world.connect(1);
    let mut other = world.connect(2);
    world.im.send(Message::to([2, 3]).receipt(Receipt::Sent), "from the system").unwrap();
    assert_eq!(other.text(), "\"from the system\"");
    world.im.send(Message::to([1, 2]).from(1).receipt(Receipt::Sent), "from one").unwrap();
    assert_eq!(other.text(), "\"from one\"");
    for device in [&mut phone, &mut laptop] {
        assert_eq!(device.text(), "\"from one\"");
        // About the other, but not about oneself.
        assert_eq!(device.json()["to"], 2);
    }
    // A receipt takes the way over the broker; one that follows it shows that none was before it.
    world.im.send(Message::to([99]).from(1).receipt(Receipt::Sent), "late").unwrap();
    for device in [&mut phone, &mut laptop] {
        assert_eq!(device.json()["content"], "\"late\"");
    }
    system.silent();
});

behaviour!(receipts_are_one_per_receiver_not_per_connection, |backend| {
    let world = World::new(backend, 3);
    let mut sender = world.connect(4);
    let mut devices: Vec<_> = (0..3).map(|_| world.connect(5)).collect();
    for text in ["first", "second"] {
        world.im.send(Message::to([5]).from(4).receipt(Receipt::Sent), text).unwrap();
        for device in &mut devices {
            assert_eq!(device.json(), text);
        }
    }
    for text in ["\"first\"", "\"second\""] {
        let receipt = sender.json();
        assert_eq!((&receipt["content"], &receipt["status"]), (&json!(text), &json!("sent")));
    }
});
