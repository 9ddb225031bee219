//! Clients that cannot resume, of a node that gives them a grace: who comes back in time was never away.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use imcore::{Message, PresenceWatch, Receipt};
use serde_json::json;
use testkit::{eventually, ws::Client};
use tungstenite::protocol::CloseFrame;

use crate::world::{Backend, World};

const LONG: Duration = Duration::from_secs(3600);

fn world(backend: Backend, grace: Duration) -> World {
    World::with(backend, 1, move |config| config.grace = grace)
}

/// All presence events of a world, as words.
fn events(world: &World) -> (PresenceWatch, Arc<Mutex<Vec<String>>>) {
    let seen = Arc::<Mutex<Vec<String>>>::default();
    let note = |what: &'static str| {
        let seen = Arc::clone(&seen);
        move |client, _| seen.lock().unwrap().push(format!("{what} {client}"))
    };
    let watch = world.im.on_presence(note("online"), note("offline")).unwrap();
    eventually("listening", || watch.is_listening());
    (watch, seen)
}

fn parked(world: &World) -> u64 {
    world.nodes[0].vitals().stats().parked
}

/// The network of a client breaks.
fn cut(world: &World, client: Client) {
    let before = parked(world);
    drop(client);
    eventually("its place is kept", || parked(world) == before + 1);
}

fn close(mut client: Client, code: Option<u16>) {
    let frame = code.map(|code| CloseFrame { code: code.into(), reason: "".into() });
    client.0.close(frame).unwrap();
    client.closed();
}

behaviour!(who_comes_back_in_time_was_never_away, |backend| {
    let world = world(backend, LONG);
    let (_watch, seen) = events(&world);
    let client = world.connect(1);
    let mut sender = world.connect(2);
    world.im.join([1], ["room"]).unwrap();
    cut(&world, client);
    assert!(world.im.is_online(1).unwrap());
    assert_eq!(world.im.channel_members("room").unwrap(), [1.into()]);
    // Nobody gets it, and its sender is told so.
    world.im.send(Message::to([1]).from(2).receipt(Receipt::Sent).id("m"), "missed").unwrap();
    assert_eq!(sender.json()["status"], "offline");
    world.im.send(Message::to_channel("room"), "missed too").unwrap();
    world.im.send(Message::to_everyone(), "heard by the other").unwrap();
    assert_eq!(sender.json(), json!("heard by the other"));
    let mut client = world.connect(1);
    eventually("its place is taken", || parked(&world) == 0);
    world.im.send(Message::to_channel("room"), "live").unwrap();
    assert_eq!(client.json(), json!("live"));
    client.silent();
    // A second connection is one more.
    let other = world.connect(1);
    close(other, Some(1000));
    close(client, Some(1000));
    eventually("offline", || !world.im.is_online(1).unwrap());
    eventually("all are told", || seen.lock().unwrap().len() == 5);
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen, ["online 1", "online 2", "online 1", "offline 1", "offline 1"]);
});

behaviour!(who_does_not_is_offline_once, |backend| {
    let world = world(backend, Duration::from_secs(2));
    let (_watch, seen) = events(&world);
    let client = world.connect(1);
    world.im.join([1], ["room"]).unwrap();
    cut(&world, client);
    eventually("offline", || !world.im.is_online(1).unwrap());
    eventually("told", || seen.lock().unwrap().len() == 2);
    assert!(world.im.channel_members("room").unwrap().is_empty());
    let _again = world.connect(1);
    eventually("told anew", || seen.lock().unwrap().len() == 3);
    assert_eq!(*seen.lock().unwrap(), ["online 1", "offline 1", "online 1"]);
    assert_eq!(parked(&world), 0);
});

behaviour!(who_says_that_it_leaves_has_left, |backend| {
    let world = world(backend, LONG);
    let gone = || world.nodes[0].vitals().stats().connections == 0;
    // A page of the original's kind closes without a code; browsers send 1001 for a reload.
    for (code, kept) in [(Some(1000), 0), (None, 0), (Some(4000), 0), (Some(1001), 1)] {
        close(world.connect(1), code);
        eventually("closed", gone);
        assert_eq!(parked(&world), kept, "{code:?}");
    }
    let back = world.connect(1);
    eventually("its place is taken", || parked(&world) == 0);
    cut(&world, back);
    // A kick ends it at once.
    world.im.kick(1).unwrap();
    eventually("offline", || !world.im.is_online(1).unwrap());
    assert_eq!(parked(&world), 0);
});

behaviour!(places_count_among_the_connections_of_a_client, |backend| {
    let world = World::with(backend, 1, |config| {
        config.grace = LONG;
        config.limits.connections_per_client = 2;
    });
    let (_watch, seen) = events(&world);
    let (first, second) = (world.connect(1), world.connect(1));
    cut(&world, first);
    cut(&world, second);
    // Both come back, in any order, and one more.
    let (_first, _second) = (world.connect(1), world.connect(1));
    eventually("their places are taken", || parked(&world) == 0);
    let third = world.connect(1);
    eventually("the oldest gives way", || seen.lock().unwrap().len() == 4);
    cut(&world, third);
    let told = seen.lock().unwrap().clone();
    assert_eq!(told.iter().filter(|event| *event == "online 1").count(), 3);
});

behaviour_in_the_clear!(a_place_is_not_kept_over_a_stop, |backend| {
    let mut world = world(backend, LONG);
    let (_watch, seen) = events(&world);
    let (client, _open) = (world.connect(1), world.connect(2));
    cut(&world, client);
    world.restart(|config| config.grace = LONG);
    eventually("all are told", || seen.lock().unwrap().len() == 4);
    assert!(world.im.online_clients().unwrap().is_empty());
    assert_eq!(parked(&world), 0);
});
