//! Rosters over the loss of a node, of Redis, and of its data: who stays is not told gone, who is gone is.

use testkit::{Redis, eventually, proxy::Mode, roster::Roster};

use crate::world::World;

#[test]
fn a_roster_survives_what_nodes_and_redis_go_through() {
    let world = World::on(Redis::start(), 2);
    world.im.set_roster("room", true).unwrap();
    let come = |client: i64| {
        let (peer, roster) = (world.connect(client), Roster::of("room"));
        world.im.join([client], ["room"]).unwrap();
        (peer, roster)
    };
    // On one node, on the other, on both.
    let (mut one, mut of_one) = come(2);
    let (mut other, mut of_other) = come(3);
    of_one.hear_until(&mut one.socket, &[2, 3]);
    of_other.hear_until(&mut other.socket, &[2, 3]);

    // A node that is dead for all others, and back.
    world.links[1].set(Mode::Cut);
    of_one.hear_until(&mut one.socket, &[2]);
    world.links[1].heal();
    of_one.hear_until(&mut one.socket, &[2, 3]);
    eventually("the node is ready", || world.nodes[1].is_ready());

    // Redis is away for all: nothing is told, and what came meanwhile is.
    world.set_links(Mode::Cut);
    eventually("deaf", || world.nodes.iter().all(|node| !node.is_ready()));
    world.links.iter().for_each(|link| link.heal());
    eventually("ready", || world.nodes.iter().all(|node| node.is_ready()));
    let (mut four, mut of_four) = come(4);
    of_four.hear_until(&mut four.socket, &[2, 3, 4]);
    of_one.hear_until(&mut one.socket, &[2, 3, 4]);

    // All data is lost: the nodes bring back who is there, and that it is to be told.
    redis::cmd("FLUSHALL").exec(&mut world.redis.connect()).unwrap();
    let back = |client: i64| world.im.channels_of(client).unwrap() == ["room"];
    eventually("restored", || [2, 3, 4].into_iter().all(back));
    let (mut five, mut of_five) = come(5);
    of_five.hear_until(&mut five.socket, &[2, 3, 4, 5]);
    of_one.hear(&mut one.socket);
    assert!(of_one.members.unwrap().contains("5"), "nobody who stayed was told gone");
}
