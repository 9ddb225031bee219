//! No channel is lost by somebody who is connected, and nobody stays who is gone.
//!
//! The oracle knows the order of what the business and the client did, and the 10 s that a client has who
//! is known to be coming; not how a node keeps that promise.

use std::{thread, time::Duration};

use imcore::ClientId;
use redis::{cmd, pipe};
use testkit::{Redis, eventually, proxy::Mode};

use crate::{
    outages::close,
    world::{Peer, World, connect, connect_once_ready},
};

/// What a killed node leaves in Redis: connections of the clients 1 to `count`, of which those in
/// `members` are in the room.
fn remains_of(redis: &Redis, node: &str, count: i64, members: std::ops::RangeInclusive<i64>) {
    let mut admin = redis.connect();
    let session = format!("{node}#dead");
    let mut pipeline = pipe();
    pipeline.hset("im_v2_wsSessions", &session, format!("5 {node}")).ignore();
    pipeline.cmd("SET").arg(format!("im_v2_wsLease{session}")).arg(1).arg("PX").arg(7000).ignore();
    for id in 1..=count {
        let record = format!("{id} {{\"Item1\":{id},\"Item2\":\"former\"}}");
        pipeline.hset(format!("im_v2_wsConnections{session}"), id, record).ignore();
        pipeline.cmd("HINCRBY").arg("im_v2_wsOnline").arg(id).arg(1).ignore();
    }
    for id in members {
        pipeline.hset("im_v2_wsChanroom", id, 0).ignore();
        pipeline.hset(format!("im_v2_wsClient{id}"), "room", 0).ignore();
        pipeline.cmd("HINCRBY").arg("im_v2_wsListChan").arg("room").arg(1).ignore();
    }
    pipeline.exec(&mut admin).unwrap();
}

fn left_of(world: &World, node: &str) -> i64 {
    let key = format!("im_v2_wsConnections{node}#dead");
    cmd("HLEN").arg(key).query(&mut world.redis.connect()).unwrap()
}

/// Each client joins right after its 101, as a page does that joins again when its socket opens.
fn come_and_join(world: &World, ids: impl Iterator<Item = i64>) -> Vec<Peer> {
    let address = world.nodes[0].local_addr();
    ids.map(|id| {
        let peer = connect_once_ready(&world.im, address, id);
        world.im.join([id], ["room"]).unwrap();
        peer
    })
    .collect()
}

#[test]
fn joins_right_after_the_101_survive_the_reaping_of_former_connections() {
    const FORMER: i64 = 30_000;
    let redis = Redis::start();
    // Those above 200 were in the room as well, and do not come back.
    remains_of(&redis, "node-0", FORMER, 100..=300);
    let world = World::on(redis, 1);
    let first = come_and_join(&world, 1..=1);
    eventually("online", || world.log.count(true, &first[0].ticket) == 1);
    assert!(left_of(&world, "node-0") > 0, "presence waited until everything was cleared away");
    let rest = come_and_join(&world, 2..=200);
    let here: Vec<_> = first.iter().chain(&rest).collect();
    eventually("the former connections are gone", || left_of(&world, "node-0") == 0);
    eventually("the room is right", || world.has_members("room", &here));
    world.told_once(&here, &[]);
}

/// What is done with one client, besides that its first connection is there.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    Issue,
    Close,
    Join,
    Connect,
}

fn orders() -> Vec<Vec<Step>> {
    fn extend(done: Vec<Step>, all: &mut Vec<Vec<Step>>) {
        const STEPS: [Step; 4] = [Step::Issue, Step::Close, Step::Join, Step::Connect];
        if done.len() == STEPS.len() {
            return all.push(done);
        }
        for step in STEPS.into_iter().filter(|step| !done.contains(step)) {
            if step != Step::Connect || done.contains(&Step::Issue) {
                extend([&done[..], &[step]].concat(), all);
            }
        }
    }
    let mut all = Vec::new();
    extend(Vec::new(), &mut all);
    all
}

#[test]
fn a_join_survives_whatever_the_order_of_issue_close_and_connect() {
    let world = World::new(1);
    let address = world.nodes[0].local_addr();
    let mut open = Vec::new();
    for (order, client) in orders().into_iter().zip(1..) {
        let mut former = Some(world.connect(client));
        let (mut url, mut now) = (None, None);
        for step in &order {
            match step {
                Step::Issue => url = Some(world.im.connect_url(client, None).unwrap()),
                Step::Join => world.im.join([client], ["room"]).unwrap(),
                Step::Connect => {
                    now = testkit::ws::Client::connect(address, &url.take().unwrap()).ok();
                }
                Step::Close => {
                    let gone = close(former.take().into_iter().collect());
                    eventually("offline", || world.log.count(false, &gone[0].ticket) == 1);
                }
            }
        }
        let place = |step| order.iter().position(|other| *other == step).unwrap();
        let former_membership =
            place(Step::Join) < place(Step::Close) && place(Step::Close) < place(Step::Issue);
        open.push((client, former_membership, order, now.unwrap(), former));
    }
    // A client in the same situation that does not come is out when all graces are over.
    let absent = close(vec![world.connect(1000)]).pop().unwrap();
    eventually("offline", || world.log.count(false, &absent.ticket) == 1);
    let absent = world.connect(1000);
    world.im.join([1000], ["room"]).unwrap();
    world.im.connect_url(1000, None).unwrap();
    let absent = close(vec![absent]).pop().unwrap();
    eventually("offline", || world.log.count(false, &absent.ticket) == 1);
    let in_room = |client: i64| {
        world.im.channels_of(client).unwrap() == ["room"]
            && world.im.channel_members("room").unwrap().contains(&client.into())
    };
    assert!(in_room(1000), "it was coming");
    eventually("the absent one is out", || !in_room(1000));
    for (client, former_membership, order, ..) in &open {
        assert_eq!(in_room(*client), !former_membership, "{order:?}");
    }
}

#[test]
fn who_is_not_known_to_come_is_out_at_once() {
    let world = World::new(1);
    for client in 1..=20 {
        let peer = world.connect(client);
        world.im.join([client], ["room", "other"]).unwrap();
        let gone = close(vec![peer]);
        eventually("offline", || world.log.count(false, &gone[0].ticket) == 1);
        assert_eq!(world.im.channels().unwrap(), []);
    }
}

#[test]
fn a_join_in_the_grace_outlasts_it() {
    let world = World::new(1);
    let peer = world.connect(1);
    world.im.join([1], ["before", "both"]).unwrap();
    world.im.connect_url(1, None).unwrap();
    let gone = close(vec![peer]);
    eventually("offline", || world.log.count(false, &gone[0].ticket) == 1);
    // It did not come with that address, but the business wants it in these, whenever it comes.
    world.im.join([1], ["after", "both"]).unwrap();
    let channels = |client: i64| {
        let mut channels = world.im.channels_of(client).unwrap();
        channels.sort();
        channels
    };
    assert_eq!(channels(1), ["after", "before", "both"]);
    eventually("the grace is over", || channels(1) == ["after", "both"]);
    let _back = world.connect(1);
    assert_eq!(channels(1), ["after", "both"]);
}

#[test]
fn leases_that_expire_in_one_step_cost_nobody_anything() {
    let world = World::new(3);
    let peers: Vec<_> = (1..=6).map(|client| world.connect(client)).collect();
    world.im.join(1..=6, ["room"]).unwrap();
    let open: Vec<_> = peers.iter().collect();
    // Once somebody was reaped, nodes are past the time after their start in which they spare all.
    world.witness();
    for expire in ["PEXPIRE", "DEL"] {
        let mut admin = world.redis.connect();
        for key in world.keys("im_v2_wsLease*") {
            let mut command = cmd(expire);
            command.arg(key);
            if expire == "PEXPIRE" {
                command.arg(1);
            }
            command.exec(&mut admin).unwrap();
        }
        world.witness();
        world.told_once(&open, &[]);
        assert!(world.has_members("room", &open));
    }
}

#[test]
fn a_node_cut_off_alone_brings_its_clients_back_into_their_rooms() {
    for mode in [Mode::Swallow, Mode::Cut] {
        let world = World::new(2);
        // Even ids live on node 0.
        let stay: Vec<_> = [2, 4, 4].map(|client| world.connect(client)).into();
        let leave: Vec<_> = [6, 8].map(|client| world.connect(client)).into();
        let other = world.connect(1);
        world.im.join([1, 2, 4, 6, 8], ["room"]).unwrap();
        world.links[0].set(mode);
        world.im.join([2, 6], ["early"]).unwrap();
        world.im.leave([8], ["room"]).unwrap();
        let leave = close(leave);
        for peer in stay.iter().chain(&leave) {
            eventually("reaped", || world.log.count(false, &peer.ticket) == 1);
        }
        eventually("out", || world.has_members("room", &[&other]));
        world.im.join([4], ["late"]).unwrap();
        world.links[0].heal();
        let (two, four) = (&stay[0], &stay[1]);
        eventually("the rooms are right", || {
            world.has_members("room", &[&other, two, four])
                && world.has_members("early", &[two])
                && world.has_members("late", &[four])
        });
        let open: Vec<_> = stay.iter().chain([&other]).collect();
        world.settles(&open, &leave.iter().collect::<Vec<_>>());
        assert!(world.has_members("room", &[&other, two, four]));
    }
}

#[test]
fn early_returners_after_an_outage_keep_their_rooms() {
    let world = World::new(1);
    let address = world.nodes[0].local_addr();
    let peers: Vec<_> =
        (1..=2500).map(|client| connect(&world.im, address, client).unwrap()).collect();
    eventually("all online", || world.im.online_clients().unwrap().len() == 2500);
    world.im.join(1..=2500, ["room"]).unwrap();
    world.set_links(Mode::Cut);
    eventually("noticed", || !world.nodes[0].is_ready());
    let gone = close(peers);
    eventually("closed", || world.nodes[0].vitals().stats().connections == 0);
    world.set_links(Mode::Delay(Duration::from_millis(20)));
    let back = come_and_join(&world, 2301..=2500);
    let here: Vec<_> = back.iter().collect();
    world.set_links(Mode::Pass);
    eventually("the room is right", || world.has_members("room", &here));
    world.told_once(&here, &gone.iter().collect::<Vec<_>>());
    assert!(here.iter().all(|peer| world.im.is_online(ClientId::from(peer.client)).unwrap()));
}

/// An address that a .NET helper has issued tells nobody that it is out; once it is used, its connection counts.
/// Close, connect and join come as close to each other as they can, over a link that holds each step up.
#[test]
fn a_join_after_the_101_survives_a_close_under_way_whoever_issued_the_address() {
    let world = World::new(1);
    let address = world.nodes[0].local_addr();
    let former: Vec<_> = (1..=40).map(|client| world.connect(client)).collect();
    world.set_links(Mode::Delay(Duration::from_millis(15)));
    let mut admin = world.redis.connect();
    let mut here = Vec::new();
    for former in former {
        let client = former.client;
        let ticket = format!("{{\"Item1\":{client},\"Item2\":\"net {client}\"}}");
        let token = format!("net{client}");
        cmd("SET")
            .arg(format!("im_v2_wsToken{token}"))
            .arg(&ticket)
            .arg("EX")
            .arg(10)
            .exec(&mut admin)
            .unwrap();
        let url = format!("ws://x/ws?token={token}");
        let (socket, gone) = thread::scope(|scope| {
            let connecting = scope.spawn(|| testkit::ws::Client::connect(address, &url).unwrap());
            // Somewhere between the taking of the ticket and the report of its connection.
            thread::sleep(Duration::from_millis((client as u64 * 7) % 60));
            let gone = close(vec![former]);
            (connecting.join().unwrap(), gone)
        });
        world.im.join([client], ["room"]).unwrap();
        here.push((Peer { client, ticket, socket }, gone));
    }
    world.set_links(Mode::Pass);
    for (peer, gone) in &here {
        eventually("offline", || world.log.count(false, &gone[0].ticket) == 1);
        eventually("online", || world.log.count(true, &peer.ticket) == 1);
    }
    let here: Vec<_> = here.iter().map(|(peer, _)| peer).collect();
    assert!(world.has_members("room", &here));
}
