//! Clients that are told who of their channel is online: right, whole at first, and once a second at most.

use std::time::{Duration, Instant};

use imcore::Message;
use serde_json::json;
use testkit::{eventually, roster::Roster, ws::Client};

use crate::world::{Backend, World};

const ROOM: &str = "room \u{1f600} \"é\"";

/// A client that comes into the room and waits until it knows who is there.
fn come(world: &World, client: i64, known: &[i64]) -> (Client, Roster) {
    let (mut socket, mut roster) = (world.connect(client), Roster::of(ROOM));
    world.im.join([client], [ROOM]).unwrap();
    roster.hear(&mut socket);
    assert!(roster.members.as_ref().unwrap().contains(&client.to_string()), "it finds itself");
    roster.hear_until(&mut socket, known);
    (socket, roster)
}

behaviour_in_the_clear!(everybody_in_a_channel_knows_who_is_online, |backend| {
    let world = World::new(backend, 3);
    world.im.set_roster(ROOM, true).unwrap();
    let mut elsewhere = world.connect(9);
    world.im.join([9], ["another"]).unwrap();
    // Neither who has not connected yet nor who is no member counts.
    let mut sockets = [1, 2, 3].map(|client| (world.connect(client), Roster::of(ROOM)));
    world.im.join([1, 2, 3, 7], [ROOM]).unwrap();
    for (socket, roster) in &mut sockets {
        roster.hear_until(socket, &[1, 2, 3]);
    }
    let [(mut one, mut of_one), (two, _), (mut three, mut of_three)] = sockets;
    // One that joined before it came, and another device of a client that is there, by which nothing changes.
    let (mut seven, mut of_seven) = (world.connect(7), Roster::of(ROOM));
    of_one.hear_until(&mut one, &[1, 2, 3, 7]);
    of_three.hear_until(&mut three, &[1, 2, 3, 7]);
    of_seven.hear_until(&mut seven, &[1, 2, 3, 7]);
    let (mut device, mut of_device) = (world.connect(1), Roster::of(ROOM));
    of_device.hear_until(&mut device, &[1, 2, 3, 7]);
    device.leave();
    // Who leaves hears no more, and all when it comes again.
    world.im.leave([3], [ROOM]).unwrap();
    two.leave();
    of_one.hear_until(&mut one, &[1, 7]);
    three.silent();
    world.im.join([3], [ROOM]).unwrap();
    Roster::of(ROOM).hear_until(&mut three, &[1, 3, 7]);
    of_one.hear_until(&mut one, &[1, 3, 7]);
    of_seven.hear_until(&mut seven, &[1, 3, 7]);
    // Messages go on as ever, and nothing of this is one.
    let offered = world.nodes.iter().map(|node| node.vitals().stats().offered).sum::<u64>();
    assert_eq!(offered, 0);
    world.im.set_roster(ROOM, false).unwrap();
    world.im.send(Message::to_channel(ROOM), "hello").unwrap();
    for socket in [&mut one, &mut three, &mut seven] {
        assert_eq!(socket.text(), "\"hello\"");
    }
    elsewhere.silent();
});

behaviour_in_the_clear!(who_is_there_already_is_told_once_it_is_switched_on, |backend| {
    let world = World::new(backend, 2);
    let mut sockets: Vec<_> = (1..=4).map(|client| world.connect(client)).collect();
    world.im.join(1..=4, [ROOM]).unwrap();
    world.im.set_roster(ROOM, true).unwrap();
    for socket in &mut sockets {
        Roster::of(ROOM).hear_until(socket, &[1, 2, 3, 4]);
    }
});

behaviour_in_the_clear!(
    members_that_flap_are_told_of_once_a_second_and_in_the_end_right,
    |backend| {
        let world = World::new(backend, 2);
        world.im.set_roster(ROOM, true).unwrap();
        let (mut one, mut of_one) = come(&world, 1, &[1]);
        let flapping: Vec<_> = (2..=5).map(|client| world.connect(client)).collect();
        let began = Instant::now();
        let mut rounds = 0;
        while began.elapsed() < Duration::from_secs(2) {
            world.im.join(2..=5, [ROOM]).unwrap();
            world.im.leave(2..=4, [ROOM]).unwrap();
            rounds += 1;
        }
        assert!(rounds > 10);
        of_one.hear_until(&mut one, &[1, 5]);
        world.im.leave([5], [ROOM]).unwrap();
        of_one.hear_until(&mut one, &[1]);
        drop(flapping);
    }
);

#[test]
fn two_hundred_are_counted_and_one_less_named() {
    let world = World::new(Backend::Memory, 2);
    world.im.set_roster(ROOM, true).unwrap();
    let mut crowd: Vec<_> = (1..=199).map(|client| world.try_connect(client).unwrap()).collect();
    world.im.join(1..=199, [ROOM]).unwrap();
    let all: Vec<_> = (1..=199).collect();
    let mut of_first = Roster::of(ROOM);
    of_first.hear_until(&mut crowd[0], &all);
    let (mut last, mut of_last) = (world.connect(200), Roster::of(ROOM));
    world.im.join([200], [ROOM]).unwrap();
    let count = |roster: &mut Roster, socket: &mut Client, online: usize| {
        while roster.online != online {
            roster.hear(socket);
        }
    };
    count(&mut of_first, &mut crowd[0], 200);
    assert_eq!(of_first.members, None);
    count(&mut of_last, &mut last, 200);
    crowd.pop().unwrap().leave();
    let all: Vec<_> = (1..=198).chain([200]).collect();
    of_first.hear_until(&mut crowd[0], &all);
    of_last.hear_until(&mut last, &all);
}

behaviour_in_the_clear!(a_client_that_can_resume_is_told_all_when_it_is_back, |backend| {
    let world = World::with(backend, 1, |config| config.keep = Duration::from_secs(600));
    world.im.set_roster(ROOM, true).unwrap();
    let (mut one, mut of_one) = come(&world, 1, &[1]);
    let open = |query: &str| {
        let url = world.im.connect_url(2, None).unwrap() + query;
        let mut socket = Client::speak(world.node_of(2).local_addr(), &url, "imcore.1").unwrap();
        let hello = socket.json()["hello"].take();
        (socket, hello)
    };
    let (mut phone, hello) = open("");
    world.im.join([2], [ROOM]).unwrap();
    Roster::of(ROOM).hear_until(&mut phone, &[1, 2]);
    world.im.send(Message::to([2]), "seen").unwrap();
    let message = phone.json();
    assert_eq!(message["m"], "seen");
    of_one.hear_until(&mut one, &[1, 2]);
    drop(phone);
    eventually("parked", || world.nodes[0].vitals().stats().parked == 1);
    // Who is waited for is online.
    let (mut three, mut of_three) = come(&world, 3, &[1, 2, 3]);
    of_one.hear_until(&mut one, &[1, 2, 3]);
    world.im.send(Message::to([2]), "missed").unwrap();
    let since = message["p"].as_str().unwrap();
    let (mut phone, hello) = open(&format!("&since={since}&c={}", hello["c"].as_str().unwrap()));
    // What it was told of the roster is no message, and missed by nobody.
    assert_eq!((&hello["resumed"], &hello["missed"]), (&json!(true), &json!(1)));
    assert_eq!(phone.json()["m"], "missed");
    Roster::of(ROOM).hear_until(&mut phone, &[1, 2, 3]);
    phone.leave();
    of_three.hear_until(&mut three, &[1, 2, 3]);
    eventually("it did not say that it leaves for good", || {
        world.nodes[0].vitals().stats().parked == 1
    });
});
