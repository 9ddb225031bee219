//! Messages that do not reach a client: told as events, for a push to its phone.

use std::{
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use imcore::{Event, EventKind, EventStream, Message, Receipt};
use serde_json::json;
use testkit::{PATIENCE, eventually, ws::Client};

use crate::world::World;

/// What is told of messages, from here on.
struct Told(Receiver<Event>, #[allow(dead_code)] EventStream);

impl Told {
    fn of(world: &World) -> Told {
        let (told, heard) = channel();
        let events = world.im.events("push", move |event: &Event| match event.kind {
            EventKind::Undelivered => told.send(event.clone()).map_err(|_| "nobody listens"),
            _ => Ok(()),
        });
        Told(heard, events.unwrap())
    }

    /// Client, id and reason of the next.
    fn next(&self) -> (String, String, String) {
        let event = self.0.recv_timeout(PATIENCE).expect("an event");
        assert!(event.ticket.is_none() && event.connection.is_none(), "{event:?}");
        let client = event.client.unwrap().to_string();
        (client, event.message.unwrap(), event.reason)
    }
}

fn missed(client: &str, id: &str, reason: &str) -> (String, String, String) {
    (client.into(), id.into(), reason.into())
}

behaviour!(what_does_not_reach_a_client_is_told, |backend| {
    let world = World::with(backend, 2, |config| config.undelivered = true);
    let told = Told::of(&world);
    let mut here = world.connect(1);
    let mut sender = world.connect(4);
    let to = || Message::to([1, 2, 3]);
    // Without an id, to a channel, and to everyone: told of none.
    world.im.join([2], ["room"]).unwrap();
    world.im.send(to(), "no id").unwrap();
    world.im.send(Message::to_channel("room"), "copies").unwrap();
    world.im.send(Message::to_everyone(), "all").unwrap();
    world.im.send(to().id("a \"b\"").volatile(), "by the system").unwrap();
    let mut all = [told.next(), told.next()];
    all.sort();
    assert_eq!(all, [("2", "a \"b\""), ("3", "a \"b\"")].map(|(to, id)| missed(to, id, "offline")));
    // Who asks for receipts gets them as ever.
    world.im.send(Message::to([3, 4, 1]).from(4).receipt(Receipt::Sent).id("m"), "x").unwrap();
    assert_eq!(told.next(), missed("3", "m", "offline"));
    assert_eq!(sender.text(), "\"all\"");
    let mut statuses = [(); 2].map(|()| sender.json()["status"].clone());
    statuses.sort_by_key(|status| status.to_string());
    assert_eq!(statuses, [json!("offline"), json!("sent")]);
    world.im.send(Message::to([5]).id("last"), "x").unwrap();
    assert_eq!(told.next(), missed("5", "last", "offline"));
    let texts = ["no id", "all", "by the system", "x"].map(|text| format!("\"{text}\""));
    assert_eq!([(); 4].map(|()| here.text()), texts);
});

behaviour!(who_does_not_come_back_has_missed_what_was_sent, |backend| {
    let world = World::with(backend, 1, |config| {
        config.undelivered = true;
        config.keep = Duration::from_secs(2);
    });
    let told = Told::of(&world);
    let url = world.im.connect_url(1, None).unwrap();
    let phone = Client::speak(world.node_of(1).local_addr(), &url, "imcore.1").unwrap();
    eventually("online", || world.im.is_online(1).unwrap());
    drop(phone);
    eventually("parked", || world.node_of(1).vitals().stats().parked == 1);
    world.im.send(Message::to([1]).id("m"), "x").unwrap();
    assert_eq!(told.next(), missed("1", "m", "expired"));
});

behaviour_in_the_clear!(a_flood_to_one_client_is_not_a_flood_of_events, |backend| {
    let world = World::with(backend, 1, |config| config.undelivered = true);
    let told = Told::of(&world);
    let mut batch = world.im.batch();
    for number in 0..1000 {
        batch.add(Message::to([1]).id(number.to_string()), "x").unwrap();
    }
    batch.add(Message::to([2]).id("other"), "x").unwrap();
    batch.send().unwrap();
    let firsts: Vec<_> = (0..20).map(|_| told.next().1).collect();
    assert_eq!(firsts, (0..20).map(|number| number.to_string()).collect::<Vec<_>>());
    assert_eq!(told.next(), missed("2", "other", "offline"));
});

behaviour_in_the_clear!(nothing_is_told_where_nobody_asks, |backend| {
    let world = World::new(backend, 1);
    let told = Told::of(&world);
    world.im.send(Message::to([1]).id("m"), "x").unwrap();
    // Events that come later are told behind it.
    let mut client = world.connect(2);
    world.im.send(Message::to([2]).id("n"), "y").unwrap();
    assert_eq!(client.text(), "\"y\"");
    client.leave();
    eventually("offline", || !world.im.is_online(2).unwrap());
    let group = || world.im.event_groups().unwrap().remove(0);
    eventually("all is read", || (group().waiting, group().unacknowledged) == (0, 0));
    assert!(told.0.try_recv().is_err());
});
