//! Nodes that come and go: who serves whom follows from a table of slots, and clients follow it.

use std::{sync::Arc, thread, time::Duration};

use imcore::{
    ClientId, ImClient, Message, SlotNode, SlotTable,
    broker::{Broker, SlotChange},
    server::ServerHandle,
};
use testkit::{eventually, ws::Client};

use crate::{
    fleet::{self, Open},
    world::Backend,
};

const SLOTS: usize = 64;

/// Nodes without a fixed list, and a helper that follows them.
struct Fleet {
    open: Open,
    broker: Arc<dyn Broker>,
    im: ImClient,
    nodes: Vec<ServerHandle>,
}

impl Fleet {
    fn new(backend: Backend) -> Self {
        let open = fleet::opener(backend, false);
        let im = ImClient::builder().slots().broker(open()).build().unwrap();
        Fleet { broker: open(), im, open, nodes: Vec::new() }
    }

    fn start(&mut self, name: &str) {
        let node = fleet::start(name, SLOTS, (self.open)(), |_| ());
        self.nodes.push(node);
    }

    fn table(&self) -> SlotTable {
        self.broker.slot_table().unwrap().unwrap_or_default()
    }

    /// Waits until each of these owns so many slots, and nothing is on its way.
    fn settles(&self, counts: &[(&str, usize)]) {
        eventually("shares", || {
            let table = self.table();
            counts.iter().all(|(node, count)| {
                table.slots_of(node).count() == *count && table.leaving(node).next().is_none()
            }) && counts.iter().map(|(_, count)| count).sum::<usize>() == SLOTS
                && (0..SLOTS).all(|slot| self.knows(&table, slot))
        });
    }

    /// Whether the helper knows the owner of a slot. Until then what it sends to one client is handed on, and what it sends to
    /// everybody may overtake that.
    fn knows(&self, table: &SlotTable, slot: usize) -> bool {
        let client = (SLOTS + slot) as i64;
        table.owner(slot) == Some(&*self.im.node_of(client).unwrap())
    }

    fn connect(&self, client: ClientId) -> Client {
        loop {
            let url = self.im.connect_url(&client, None).unwrap();
            let name = url.trim_start_matches("ws://").split('/').next().unwrap();
            let node = self
                .nodes
                .iter()
                .find(|node| node.server() == name)
                .unwrap_or_else(|| panic!("{name}"));
            match Client::connect(node.local_addr(), &url) {
                Ok(socket) => {
                    eventually("online", || self.im.is_online(&client).unwrap());
                    return socket;
                }
                // Its slot moves at this moment.
                Err(status) => assert_eq!(status, 421, "{url}"),
            }
        }
    }
}

behaviour_in_the_clear!(a_node_that_comes_takes_its_share_and_nobody_else_moves, |backend| {
    let mut fleet = Fleet::new(backend);
    fleet.start("node-a");
    fleet.settles(&[("node-a", SLOTS)]);
    let clients: Vec<ClientId> = (1..=40).map(ClientId::from).collect();
    let mut sockets: Vec<Client> =
        clients.iter().map(|client| fleet.connect(client.clone())).collect();
    fleet.start("node-b");
    let mut sent = 0;
    let is_even = |table: &SlotTable| table.slots_of("node-b").count() == SLOTS / 2;
    eventually("half of them, while messages are sent", || {
        fleet.im.send(Message::to(clients.clone()), &sent).unwrap();
        sent += 1;
        is_even(&fleet.table())
    });
    fleet.settles(&[("node-a", SLOTS / 2), ("node-b", SLOTS / 2)]);
    let table = fleet.table();
    let mut moved = 0;
    for (client, socket) in clients.iter().zip(&mut sockets) {
        let ClientId::Int(id) = client else { unreachable!() };
        let is_moved = table.owner(*id as usize % SLOTS) == Some("node-b");
        moved += usize::from(is_moved);
        if !is_moved {
            (0..sent).for_each(|number| assert_eq!(socket.json(), number, "{client}"));
            continue;
        }
        assert_eq!(socket.closed(), Some(4302), "{client}");
        *socket = fleet.connect(client.clone());
    }
    assert!((10..=30).contains(&moved), "{moved} of 40");
    fleet.im.send(Message::to(clients.clone()), "to all").unwrap();
    fleet.im.send(Message::to_everyone(), "to everyone").unwrap();
    for socket in &mut sockets {
        assert_eq!((socket.json(), socket.json()), ("to all".into(), "to everyone".into()));
    }
});

behaviour_in_the_clear!(a_node_that_drains_leaves_nobody_behind, |backend| {
    let mut fleet = Fleet::new(backend);
    fleet.start("node-a");
    fleet.start("node-b");
    fleet.settles(&[("node-a", SLOTS / 2), ("node-b", SLOTS / 2)]);
    let clients: Vec<ClientId> = (1..=40).map(ClientId::from).collect();
    let mut sockets: Vec<Client> =
        clients.iter().map(|client| fleet.connect(client.clone())).collect();
    let of_b: Vec<bool> = clients
        .iter()
        .map(|client| fleet.im.node_of(client.clone()).unwrap() == "node-b")
        .collect();
    let leaving = fleet.nodes.pop().unwrap();
    let stopped = thread::spawn(move || leaving.shutdown());
    for ((client, socket), of_b) in clients.iter().zip(&mut sockets).zip(&of_b) {
        if *of_b {
            assert_eq!(socket.closed(), Some(4302), "{client}");
            *socket = fleet.connect(client.clone());
        }
    }
    assert!(stopped.join().unwrap().stuck.is_empty());
    fleet.settles(&[("node-a", SLOTS)]);
    eventually("it stands there no more", || fleet.table().node("node-b").is_none());
    fleet.im.send(Message::to(clients), "still here").unwrap();
    sockets.iter_mut().for_each(|socket| assert_eq!(socket.json(), "still here"));
    // Nobody is left to give anything to: the last stops as a node does.
    let last = fleet.nodes.pop().unwrap();
    assert!(last.shutdown().stuck.is_empty());
});

behaviour_in_the_clear!(what_a_dead_node_owned_is_taken, |backend| {
    let mut fleet = Fleet::new(backend);
    // It renews nothing.
    let ghost = fleet.broker.begin_session("ghost", Duration::from_millis(500), true).unwrap();
    let change = |change: &SlotChange| {
        let version = fleet.table().version;
        assert!(fleet.broker.change_slots(&ghost.id, "ghost", version, change).unwrap());
    };
    change(&SlotChange::Stand { said: &SlotNode::new("ghost"), count: SLOTS });
    (0..SLOTS).for_each(|slot| {
        fleet.broker.renew(&ghost, &Default::default()).unwrap();
        change(&SlotChange::Take { slot });
    });
    fleet.start("node-a");
    fleet.settles(&[("node-a", SLOTS)]);
    eventually("the dead stand there no more", || fleet.table().node("ghost").is_none());
    let mut socket = fleet.connect(7.into());
    fleet.im.send(Message::to([7]), "served").unwrap();
    assert_eq!(socket.json(), "served");
});

behaviour_in_the_clear!(a_message_to_a_node_that_has_no_such_client_finds_its_way, |backend| {
    let mut fleet = Fleet::new(backend);
    fleet.start("node-a");
    fleet.start("node-b");
    fleet.settles(&[("node-a", SLOTS / 2), ("node-b", SLOTS / 2)]);
    let mut sockets: Vec<_> = (1..=20).map(|id| (id, fleet.connect(id.into()))).collect();
    for (id, socket) in &mut sockets {
        // As a sender does that knows an old table and keeps no log.
        let other = match &*fleet.im.node_of(*id).unwrap() {
            "node-a" => "node-b",
            _ => "node-a",
        };
        let astray = imcore::broker::Envelope::Direct {
            sender: 0.into(),
            receivers: vec![(*id).into()],
            content: format!("{id}"),
            receipt: false,
            id: None,
            acknowledge: false,
            about: false,
            trace: None,
        };
        fleet.broker.publish(&[(other, astray)]).unwrap();
        assert_eq!(socket.json(), *id);
    }
});

// Who can resume is waited for, and so counts as online and in its channels while it moves.
behaviour_in_the_clear!(a_client_that_can_resume_is_never_away, |backend| {
    let mut fleet = Fleet::new(backend);
    fleet.start("node-a");
    fleet.settles(&[("node-a", SLOTS)]);
    let clients: Vec<ClientId> = (1..=20).map(ClientId::from).collect();
    let open = |fleet: &Fleet, client: ClientId| {
        let url = fleet.im.connect_url(client, None).unwrap();
        let name = url.trim_start_matches("ws://").split('/').next().unwrap();
        let node = fleet.nodes.iter().find(|node| node.server() == name).unwrap();
        let mut socket = Client::speak(node.local_addr(), &url, "imcore.1").unwrap();
        (socket.json()["hello"].take(), socket)
    };
    let mut phones: Vec<_> = clients.iter().map(|client| open(&fleet, client.clone())).collect();
    eventually("online", || fleet.im.are_online(clients.clone()).unwrap().iter().all(|is| *is));
    fleet.im.join(clients.clone(), ["room"]).unwrap();
    fleet.start("node-b");
    fleet.settles(&[("node-a", SLOTS / 2), ("node-b", SLOTS / 2)]);
    for (client, (_, socket)) in clients.iter().zip(&mut phones) {
        if fleet.im.node_of(client.clone()).unwrap() == "node-b" {
            let (code, reason) = socket.dismissed().unwrap();
            assert_eq!((code, &*reason), (4302, r#"{"after":0,"spread":0}"#));
            assert!(fleet.im.is_online(client).unwrap());
            let (hello, new) = open(&fleet, client.clone());
            assert_eq!(hello["resumed"], false);
            *socket = new;
        }
        assert!(fleet.im.is_online(client).unwrap());
        assert_eq!(fleet.im.channels_of(client.clone()).unwrap(), ["room"]);
    }
    fleet.im.send(Message::to_channel("room"), "all").unwrap();
    for (_, socket) in &mut phones {
        let message = loop {
            let frame = socket.json();
            if frame.get("m").is_some() {
                break frame;
            }
        };
        assert_eq!(message["m"], "all");
    }
});
