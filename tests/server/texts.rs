//! Clients whose ids are neither numbers nor GUIDs, through real sockets; and deployments that have none.

use std::sync::mpsc::channel;

use imcore::{ClientId, IdKind, Message, Receipt, Ticket, broker::Envelope};
use serde_json::{Value, json};
use testkit::{PATIENCE, eventually, ws::Client};

use crate::world::{Backend, World};

const TEXTS: [&str; 6] =
    ["alice", "Alice", "O'Hara,bob:1/2?c#d%20&=", "\"q\\\"", "李雷@例子", "9223372036854775808"];

fn text(text: &str) -> ClientId {
    text.parse().unwrap()
}

fn world(backend: Backend, nodes: usize) -> World {
    World::with(backend, nodes, |config| config.ids = Some(IdKind::Text))
}

shared_behaviour!(texts_numbers_and_guids_live_on_one_node, |backend| {
    let world = world(backend, 3);
    let (told, events) = channel();
    let note = |what: &'static str, told: std::sync::mpsc::Sender<(&'static str, ClientId)>| {
        move |client: ClientId, _: Option<String>| drop(told.send((what, client)))
    };
    let watch = world.im.on_presence(note("online", told.clone()), note("offline", told)).unwrap();
    eventually("listening", || watch.is_listening());
    let mut ids: Vec<ClientId> = TEXTS.map(text).to_vec();
    ids.extend([7.into(), text("8f14e45f-ceea-467f-a9b1-000000000001")]);
    let mut clients: Vec<_> = ids.iter().map(|id| world.connect(id)).collect();
    for id in &ids {
        assert_eq!(events.recv_timeout(PATIENCE).unwrap(), ("online", id.clone()));
    }
    // From a text to all, each on its own node; none to itself.
    let to = Message::to(&ids).from(&ids[3]).receipt(Receipt::Sent).id("m");
    world.im.send(to, "direct").unwrap();
    let mut about = Vec::new();
    for (place, client) in clients.iter_mut().enumerate() {
        match place {
            3 => about.extend((1..ids.len()).map(|_| client.json()["to"].take())),
            _ => assert_eq!(client.text(), "\"direct\"", "{}", ids[place]),
        }
    }
    let expected = ids.iter().filter(|id| **id != ids[3]).map(|id| json!(id));
    let sorted = |mut all: Vec<Value>| {
        all.sort_by_key(Value::to_string);
        all
    };
    assert_eq!(sorted(about), sorted(expected.collect()));
    // To a channel, but for its author; and to everyone.
    world.im.join(&ids, ["room"]).unwrap();
    world.im.send(Message::to_channel("room").from(&ids[1]), "room").unwrap();
    world.im.send(Message::to_everyone(), "all").unwrap();
    for (place, client) in clients.iter_mut().enumerate() {
        if place != 1 {
            assert_eq!(client.text(), "\"room\"", "{}", ids[place]);
        }
        assert_eq!(client.text(), "\"all\"");
    }
    let mut online = world.im.online_clients().unwrap();
    let mut members = world.im.channel_members("room").unwrap();
    online.sort();
    members.sort();
    let mut all = ids.clone();
    all.sort();
    assert_eq!((&online, &members), (&all, &all));
    for id in &ids {
        assert_eq!(world.im.connections_of(id).unwrap().len(), 1, "{id}");
        assert_eq!(world.im.channels_of(id).unwrap(), ["room"]);
    }
    // A kick is for one text alone.
    world.im.kick(&ids[0]).unwrap();
    assert_eq!(clients.remove(0).closed(), Some(4001));
    assert_eq!(events.recv_timeout(PATIENCE).unwrap(), ("offline", ids[0].clone()));
    eventually("it has left", || world.im.channels_of(&ids[0]).unwrap().is_empty());
    assert!(world.im.is_online(&ids[1]).unwrap());
    clients.iter_mut().for_each(Client::silent);
});

behaviour!(a_text_goes_on_from_its_former_connection, |backend| {
    let world = world(backend, 2);
    for id in TEXTS.map(text) {
        let open = |query: &str| {
            let url = world.im.connect_url(&id, None).unwrap() + query;
            let mut phone =
                Client::speak(world.node_of(&id).local_addr(), &url, "imcore.1").unwrap();
            let hello = phone.json()["hello"].take();
            assert_eq!(hello["client"], id.to_string());
            (phone, hello)
        };
        let (phone, hello) = open("");
        eventually("online", || world.im.is_online(&id).unwrap());
        world.im.join([&id], ["room"]).unwrap();
        drop(phone);
        world.im.send(Message::to([&id]).from(&id), "to myself").unwrap();
        world.im.send(Message::to([&id]), "missed").unwrap();
        let word = |name: &str| hello[name].as_str().unwrap();
        let (mut phone, hello) = open(&format!("&since={}&c={}", word("p"), word("c")));
        assert_eq!((&hello["resumed"], &hello["channels"]), (&json!(true), &json!(true)));
        assert_eq!(phone.json()["m"], "missed");
        // Nobody else's `c` is good.
        let other = text("mallory");
        let url = world.im.connect_url(&other, None).unwrap();
        let url = format!("{url}&since={}&c={}", word("p"), word("c"));
        let node = world.node_of(&other).local_addr();
        let mut mallory = Client::speak(node, &url, "imcore.1").unwrap();
        assert_eq!(mallory.json()["hello"]["why"], "expired");
        phone.leave();
        mallory.leave();
    }
});

behaviour!(a_deployment_without_texts_refuses_them, |backend| {
    for kind in [IdKind::Int, IdKind::Any] {
        let world = World::with(backend, 1, |config| config.ids = Some(kind));
        let alice = text("alice");
        let error = world.im.connect_url(&alice, None).unwrap_err().to_string();
        assert!(error.contains("--ids text"), "{error}");
        assert!(world.im.join([&alice], ["room"]).is_err());
        assert!(world.im.send(Message::to([&alice]), "x").is_err());
        // Whatever others write.
        let ticket = Ticket::new(alice.clone(), None);
        world.broker.put_ticket("token", &ticket, Ticket::LONGEST_KEEP).unwrap();
        let node = &world.nodes[0];
        let refused = Client::connect(node.local_addr(), "ws://x/ws?token=token").err();
        assert_eq!(refused, Some(401));
        let mut client = world.connect(7);
        let before = node.vitals().stats().malformed;
        let direct = |receivers: Vec<ClientId>| Envelope::Direct {
            sender: 0.into(),
            receivers,
            content: "1".into(),
            receipt: false,
            id: None,
            acknowledge: false,
            about: false,
            trace: None,
        };
        let kick = Envelope::ForceOffline { client: alice.clone() };
        for envelope in [direct(vec![7.into(), alice.clone()]), kick] {
            world.broker.publish(&[("node-0", envelope)]).unwrap();
        }
        world.broker.publish(&[("node-0", direct(vec![7.into()]))]).unwrap();
        assert_eq!(client.text(), "1");
        client.silent();
        assert_eq!(node.vitals().stats().malformed - before, 2, "as with .NET");
        world.broker.join(&[(alice, "room"), (7.into(), "room")]).unwrap();
        assert_eq!(world.im.channel_members("room").unwrap(), [7.into()]);
        assert_eq!(world.im.channel_members_page("room", None, 9).unwrap().items, [7.into()]);
    }
});
