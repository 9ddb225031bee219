//! Behaviours of every broker: the table of slots, who may change it, and who hears of that.

use std::{sync::Barrier, thread, time::Duration};

use imcore::{
    ErrorKind, ImClient, Message, SlotNode, SlotTable,
    broker::{Broker, Envelope, FeedEvent, FeedStart, Session, SlotChange, SlotOrder},
};

use crate::{
    feed::Node,
    world::{LONG, id},
};

/// A node with a session.
struct Member {
    name: &'static str,
    session: Session,
}

impl Member {
    fn of(broker: &dyn Broker, name: &'static str) -> Self {
        Member { name, session: broker.begin_session(name, LONG, true).unwrap() }
    }

    /// One that stands in the table.
    fn standing(broker: &dyn Broker, name: &'static str) -> Self {
        let member = Member::of(broker, name);
        assert!(member.stands(broker, 8).unwrap(), "{name}");
        member
    }

    fn stands(&self, broker: &dyn Broker, count: usize) -> imcore::Result<bool> {
        self.tries(broker, &SlotChange::Stand { said: &SlotNode::new(self.name), count })
    }

    /// Tries a change of the table as it is.
    fn tries(&self, broker: &dyn Broker, change: &SlotChange) -> imcore::Result<bool> {
        let version = broker.slot_table().unwrap().map_or(0, |table| table.version);
        broker.change_slots(&self.session.id, self.name, version, change)
    }

    fn changes(&self, broker: &dyn Broker, change: &SlotChange) -> bool {
        self.tries(broker, change).unwrap()
    }
}

fn table(broker: &dyn Broker) -> SlotTable {
    broker.slot_table().unwrap().unwrap()
}

told_behaviour!(the_table_is_the_same_for_all, |world| {
    let broker = world.broker();
    let elsewhere = world.broker();
    assert_eq!(broker.slot_table().unwrap(), None);
    let a = Member::standing(&*broker, "a:1");
    let b = Member::standing(&*elsewhere, "b:1");
    assert_eq!((table(&*broker).version, table(&*broker).count()), (2, 8));
    for slot in 0..8 {
        assert!(a.changes(&*broker, &SlotChange::Take { slot }));
    }
    assert!(a.changes(&*broker, &SlotChange::Give { slot: 5, to: "b:1" }));
    let now = table(&*elsewhere);
    assert_eq!(
        (now.owner(5), now.moving_from(5), now.owner(4)),
        (Some("b:1"), Some("a:1"), Some("a:1"))
    );
    assert!(!b.changes(&*elsewhere, &SlotChange::Left { slot: 5 }), "its clients are with a");
    assert!(a.changes(&*broker, &SlotChange::Left { slot: 5 }));
    assert_eq!(table(&*elsewhere).moving_from(5), None);
    assert_eq!(table(&*broker), table(&*elsewhere));
    // Somebody says anew what it says of itself; its slots stay.
    let said = SlotNode::new("im-b.example.com");
    assert!(b.changes(&*elsewhere, &SlotChange::Stand { said: &said, count: 8 }));
    let now = table(&*broker);
    assert_eq!((now.node("b:1"), now.owner(5)), (Some(&said), Some("b:1")));
});

told_behaviour!(another_number_of_slots_is_refused, |world| {
    let broker = world.broker();
    Member::standing(&*broker, "a");
    let error = Member::of(&*broker, "b").stands(&*broker, 9).unwrap_err();
    assert_eq!((error.kind(), error.setting()), (ErrorKind::Config, Some("slots")));
    assert!(error.to_string().contains("8 slots"), "{error}");
    assert!(table(&*broker).node("b").is_none());
});

told_behaviour!(of_two_changes_to_one_version_one_is_made, |world| {
    let members: Vec<_> = ["a", "b", "c", "d"]
        .map(|name| (world.broker(), name))
        .into_iter()
        .map(|(broker, name)| (Member::standing(&*broker, name), broker))
        .collect();
    for slot in 0..8 {
        let version = table(&*members[0].1).version;
        let start = Barrier::new(members.len());
        let made = thread::scope(|scope| {
            let tries = members.iter().map(|(member, broker)| {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    let take = SlotChange::Take { slot };
                    broker.change_slots(&member.session.id, member.name, version, &take).unwrap()
                })
            });
            let tries: Vec<_> = tries.collect();
            tries.into_iter().map(|tried| tried.join().unwrap()).collect::<Vec<_>>()
        });
        let winners: Vec<_> = members.iter().zip(&made).filter(|(_, made)| **made).collect();
        assert_eq!(winners.len(), 1, "{made:?}");
        assert_eq!(table(&*members[0].1).owner(slot), Some(winners[0].0.0.name));
        assert_eq!(table(&*members[0].1).version, version + 1);
    }
});

told_behaviour!(only_who_holds_a_lease_changes_anything, |world| {
    let broker = world.broker();
    let a = Member::standing(&*broker, "a");
    let b = Member::standing(&*broker, "b");
    // Under another name.
    let version = table(&*broker).version;
    let take = SlotChange::Take { slot: 0 };
    assert!(!broker.change_slots(&a.session.id, "b", version, &take).unwrap());
    let brief = broker.begin_session("b", Duration::from_millis(1), false).unwrap();
    testkit::eventually("its lease runs out", || broker.lapsed().unwrap().contains(&brief.id));
    assert!(!broker.change_slots(&brief.id, "b", version, &take).unwrap());
    broker.end_session(&b.session).unwrap();
    assert!(!b.changes(&*broker, &take));
    assert!(a.changes(&*broker, &take));
});

told_behaviour!(only_from_the_dead_is_taken, |world| {
    let broker = world.broker();
    let a = Member::standing(&*broker, "a");
    let b = Member::standing(&*broker, "b");
    assert!(a.changes(&*broker, &SlotChange::Take { slot: 0 }));
    assert!(!b.changes(&*broker, &SlotChange::Take { slot: 0 }));
    assert!(!b.changes(&*broker, &SlotChange::Forget { node: "a" }));
    let mut living = broker.living().unwrap();
    living.sort_unstable();
    assert_eq!(living, ["a", "b"]);
    broker.end_session(&a.session).unwrap();
    assert_eq!(broker.living().unwrap(), ["b"]);
    assert!(!b.changes(&*broker, &SlotChange::Give { slot: 0, to: "a" }));
    assert!(b.changes(&*broker, &SlotChange::Take { slot: 0 }));
    assert!(!b.changes(&*broker, &SlotChange::Give { slot: 0, to: "a" }), "to the dead");
    assert_eq!(table(&*broker).moving_from(0), None, "nobody sends on");
    assert!(b.changes(&*broker, &SlotChange::Forget { node: "a" }));
    assert_eq!(table(&*broker).nodes().count(), 1);
});

told_behaviour!(a_node_is_said_to_drain, |world| {
    let broker = world.broker();
    assert!(!broker.order("a", SlotOrder::Draining(true)).unwrap());
    Member::standing(&*broker, "a");
    assert!(broker.order("a", SlotOrder::Draining(true)).unwrap());
    let version = table(&*broker).version;
    assert!(broker.order("a", SlotOrder::Draining(true)).unwrap(), "it does already");
    assert!(!broker.order("b", SlotOrder::Draining(true)).unwrap());
    let now = table(&*broker);
    assert!(now.node("a").unwrap().draining && now.version == version);
    assert!(broker.order("a", SlotOrder::Draining(false)).unwrap());
    assert!(!table(&*broker).node("a").unwrap().draining);
});

told_behaviour!(a_weight_that_is_ordered_stays_until_it_is_taken_back, |world| {
    let broker = world.broker();
    let weight = |node: &str, weight| broker.order(node, SlotOrder::Weight(weight)).unwrap();
    assert!(!weight("a", Some(3)), "there is no table");
    let a = Member::standing(&*broker, "a");
    assert!(weight("a", Some(3)) && !weight("b", Some(3)));
    let version = table(&*broker).version;
    assert!(weight("a", Some(3)), "it has it already");
    let now = table(&*broker);
    assert_eq!(
        (now.version, now.ordered_weight("a"), now.node("a").unwrap().weight),
        (version, Some(3), 3)
    );
    assert!(a.changes(&*broker, &SlotChange::Forget { node: "a" }));
    let gone = table(&*broker);
    assert_eq!((gone.node("a"), gone.ordered_weight("a")), (None, Some(3)));
    assert!(!weight("a", None), "it does not stand there");
    assert_eq!(table(&*broker).ordered_weight("a"), None);
});

told_behaviour!(nodes_hear_of_changes_in_order_with_messages, |world| {
    let broker = world.broker();
    let a = Member::standing(&*broker, "a");
    let b = Member::standing(&*broker, "b");
    assert!(a.changes(&*broker, &SlotChange::Take { slot: 3 }));
    let mut nodes = ["a", "b"].map(|name| Node::on(&*broker, name, FeedStart::Now));
    for node in &mut nodes {
        node.until("listening", |event| matches!(event, FeedEvent::Listening));
    }
    let kick = |number| Envelope::ForceOffline { client: id(number) };
    let say = |number| broker.publish(&[("a", kick(number)), ("b", kick(number))]).unwrap();
    say(1);
    assert!(a.changes(&*broker, &SlotChange::Give { slot: 3, to: "b" }));
    say(2);
    assert!(a.changes(&*broker, &SlotChange::Left { slot: 3 }));
    assert!(b.changes(&*broker, &SlotChange::Forget { node: "b" }) || table(&*broker).version == 5);
    say(3);
    let given = Envelope::Slots { version: 4, given: Some((3, "b".into())), from: None };
    let left = Envelope::Slots { version: 5, given: None, from: None };
    for node in &mut nodes {
        let heard: Vec<_> = (0..5).map(|_| node.message()).collect();
        assert_eq!(heard, [kick(1), given.clone(), kick(2), left.clone(), kick(3)]);
    }
});

told_behaviour!(nodes_hear_that_a_slot_was_taken_from_the_dead, |world| {
    let broker = world.broker();
    let a = Member::standing(&*broker, "a");
    let b = Member::standing(&*broker, "b");
    let mut node = Node::on(&*broker, "b", FeedStart::Now);
    node.until("listening", |event| matches!(event, FeedEvent::Listening));
    assert!(a.changes(&*broker, &SlotChange::Take { slot: 3 }));
    broker.end_session(&a.session).unwrap();
    assert!(b.changes(&*broker, &SlotChange::Take { slot: 3 }));
    let notice = |version, given, from| Envelope::Slots { version, given, from };
    assert_eq!(node.message(), notice(3, None, None), "nobody had it");
    assert_eq!(node.message(), notice(4, Some((3, "b".into())), Some("a".into())));
});

/// A helper that follows the table, on a broker of its own.
fn helper(world: &crate::world::World) -> ImClient {
    ImClient::builder().slots().broker(world.broker()).build().unwrap()
}

/// Two nodes that own all eight slots, four each, and what they hear.
fn two_owners(broker: &dyn Broker) -> ([Member; 2], [Node; 2]) {
    let members = ["n-1", "n-2"].map(|name| Member::standing(broker, name));
    for slot in 0..8 {
        assert!(members[slot % 2].changes(broker, &SlotChange::Take { slot }));
    }
    let nodes = ["n-1", "n-2"].map(|name| {
        let mut node = Node::on(broker, name, FeedStart::Now);
        node.until("listening", |event| matches!(event, FeedEvent::Listening));
        node
    });
    (members, nodes)
}

/// The next message that is no notice: its receivers and content, or its channel.
fn heard(node: &mut Node) -> String {
    loop {
        match node.message() {
            Envelope::Slots { .. } => {}
            Envelope::Direct { receivers, content, .. } => {
                return format!("{receivers:?} {content}");
            }
            Envelope::Channel { channel, content, .. } => return format!("{channel:?} {content}"),
            Envelope::ForceOffline { client } => return format!("kick {client}"),
            other => panic!("{other:?}"),
        }
    }
}

told_behaviour!(a_helper_follows_the_table, |world| {
    let broker = world.broker();
    let im = helper(world);
    let error = im.connect_url(1, None).unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains("slots"), "{error}");
    let (_, mut nodes) = two_owners(&*broker);
    assert!(im.connect_url(2, None).unwrap().starts_with("ws://n-1/ws?token="));
    assert!(im.connect_url(9, None).unwrap().starts_with("ws://n-2/ws?token="));
    assert_eq!(im.node_of(11).unwrap(), "n-2");
    im.send(Message::to([1, 2, 3, 12]), "a").unwrap();
    im.send(Message::to_channel("room"), "b").unwrap();
    im.send(Message::to_everyone(), "c").unwrap();
    im.kick(4).unwrap();
    let lines = [
        ["[2, 12] \"a\"", "Some(\"room\") \"b\"", "None \"c\"", "kick 4"].as_slice(),
        &["[1, 3] \"a\"", "Some(\"room\") \"b\"", "None \"c\""],
    ];
    for (node, lines) in nodes.iter_mut().zip(lines) {
        lines.iter().for_each(|line| assert_eq!(heard(node), *line));
    }
    let mut names: Vec<_> = im.nodes().unwrap().into_iter().map(|node| node.name).collect();
    names.dedup();
    assert_eq!(names, ["n-1", "n-2"]);
});

told_behaviour!(an_address_leads_where_clients_can_go, |world| {
    let broker = world.broker();
    let (members, _) = two_owners(&*broker);
    let said = SlotNode::new("two.example.com:8443");
    assert!(members[1].changes(&*broker, &SlotChange::Stand { said: &said, count: 8 }));
    let template = "wss://{server}/s{index}{path}";
    let im =
        ImClient::builder().slots().broker(world.broker()).public_url(template).build().unwrap();
    let url = im.connect_url(13, None).unwrap();
    assert!(url.starts_with("wss://two.example.com:8443/s5/ws?token="), "{url}");
    let one = "wss://im.example.com/ws";
    let error =
        ImClient::builder().slots().broker(world.broker()).public_url(one).build().unwrap_err();
    assert_eq!(error.setting(), Some("public_url"), "{error}");
    let both = ImClient::builder().slots().servers(["a"]).broker(world.broker()).build();
    assert_eq!(both.unwrap_err().setting(), Some("servers"));
});

// A table that has changed without the helper's knowing is noticed in the step in which it sends.
log_behaviour!(a_helper_behind_sends_nothing_astray, |world| {
    let broker = world.broker();
    let im = helper(world);
    let (members, mut nodes) = two_owners(&*broker);
    im.send(Message::to([1]), "first").unwrap();
    assert_eq!(heard(&mut nodes[1]), "[1] \"first\"");
    for number in 0..20 {
        let (from, to) = if number % 2 == 0 { (1, 0) } else { (0, 1) };
        assert!(
            members[from].changes(&*broker, &SlotChange::Give { slot: 1, to: members[to].name })
        );
        // A slot that is on its way is given to nobody else.
        assert!(members[from].changes(&*broker, &SlotChange::Left { slot: 1 }));
        let mut batch = im.batch();
        batch.add(Message::to([1]), &number).unwrap();
        batch.add(Message::to_channel("room"), &number).unwrap();
        batch.add(Message::to([2, 9]).volatile(), &number).unwrap();
        batch.send().unwrap();
        assert_eq!(heard(&mut nodes[to]), format!("[1] {number}"));
        nodes.iter_mut().for_each(|node| {
            assert_eq!(heard(node), format!("Some(\"room\") {number}"));
        });
        assert_eq!(heard(&mut nodes[0]), format!("[2] {number}"));
        assert_eq!(heard(&mut nodes[to]), format!("[9] {number}"));
    }
});

log_behaviour!(a_long_batch_is_sent_once_across_a_change, |world| {
    let broker = world.broker();
    let im = helper(world);
    let (members, mut nodes) = two_owners(&*broker);
    im.send(Message::to([1]), "first").unwrap();
    assert_eq!(heard(&mut nodes[1]), "[1] \"first\"");
    let give = SlotChange::Give { slot: 1, to: "n-1" };
    let mut batch = im.batch();
    (0..4000).for_each(|number| batch.add(Message::to([1]), &number).unwrap());
    thread::scope(|scope| {
        let given = scope.spawn(|| members[1].changes(&*broker, &give));
        batch.send().unwrap();
        assert!(given.join().unwrap());
    });
    im.send(Message::to_channel("end"), "").unwrap();
    let [mut by_new, mut by_old] = [0, 1].map(|node: usize| {
        let node = &mut nodes[node];
        let mut lines = Vec::new();
        loop {
            match heard(node) {
                end if end.starts_with("Some") => break lines,
                line => lines.push(line),
            }
        }
    });
    // The former owner has the beginning, the new one the rest.
    by_old.append(&mut by_new);
    assert!(by_old.into_iter().eq((0..4000).map(|number| format!("[1] {number}"))));
});

told_behaviour!(a_list_becomes_the_first_table, |world| {
    let broker = world.broker();
    let im = ImClient::builder().servers(["a:1", "b:1"]).broker(world.broker()).build().unwrap();
    let list = ["a:1", "b:1"];
    let a = Member::of(&*broker, "a:1");
    let error = im.begin_slots(8, &list).unwrap_err();
    assert!(error.to_string().contains("\"b:1\" lives"), "{error}");
    let _b = Member::of(&*broker, "b:1");
    let mut node = Node::on(&*broker, "a:1", FeedStart::Now);
    node.until("listening", |event| matches!(event, FeedEvent::Listening));
    assert!(im.begin_slots(8, &list).unwrap());
    assert!(!im.begin_slots(6, &list).unwrap(), "there is one");
    let now = table(&*broker);
    assert_eq!(now.slots_of("b:1").collect::<Vec<_>>(), [1, 3, 5, 7]);
    assert_eq!(now.listed().collect::<Vec<_>>(), list);
    node.until("told", |event| {
        matches!(event, FeedEvent::Message { envelope: Envelope::Slots { given: None, .. }, .. })
    });
    assert!(!a.changes(&*broker, &SlotChange::Take { slot: 1 }), "its owner lives");
    assert!(a.stands(&*broker, 8).unwrap());
    let now = table(&*broker);
    assert_eq!(now.listed().collect::<Vec<_>>(), ["b:1"]);
    assert_eq!(now.slots_of("a:1").count(), 4);
});
