//! One story for every kind of outage: who stays, stays; who leaves meanwhile, is told once.

use std::time::Duration;

use imcore::Message;
use redis::cmd;
use testkit::{eventually, proxy::Mode};

use crate::world::{Peer, World, connect_once_ready, patiently};

/// How a fault begins and ends.
struct Fault {
    strikes: fn(&mut World, &mut Kept),
    heals: fn(&mut World, &mut Kept),
    /// Whether nodes can serve nobody new meanwhile.
    denies: bool,
    /// Whether it goes on until all leases have run out.
    outlasts_leases: bool,
}

/// What a fault keeps for its end.
#[derive(Default)]
struct Kept {
    snapshot: Vec<u8>,
    admin: Option<redis::Connection>,
    stall: Option<std::thread::JoinHandle<()>>,
}

const NOTHING: fn(&mut World, &mut Kept) = |_, _| {};

impl Default for Fault {
    fn default() -> Self {
        Fault {
            strikes: NOTHING,
            heals: |world, _| world.set_links(Mode::Pass),
            denies: true,
            outlasts_leases: false,
        }
    }
}

fn survive(fault: Fault) {
    let mut world = World::new(2);
    let mut stay: Vec<_> = [1, 2, 3, 3].map(|client| world.connect(client)).into();
    let leave: Vec<_> = [4, 5, 3].map(|client| world.connect(client)).into();
    world.im.join([1, 2, 3, 4, 5], ["room"]).unwrap();
    world.im.join([2], ["own"]).unwrap();
    hear(&world, &mut stay, "before");

    let mut kept = Kept::default();
    (fault.strikes)(&mut world, &mut kept);
    if fault.denies {
        for node in 0..2 {
            eventually("nobody new is served", || world.refusal(node) == 503);
            eventually("it is known", || !world.nodes[node].is_ready());
        }
        // At once: a broker that is away is not asked again for each.
        let asked = tickets_asked(&world);
        (0..20).for_each(|_| assert_eq!(world.refusal(0), 503));
        assert_eq!(tickets_asked(&world), asked);
    }
    let leave = close(leave);
    if fault.outlasts_leases {
        eventually("all leases have run out", || world.keys("im_v2_wsLease*").is_empty());
    }
    (fault.heals)(&mut world, &mut kept);

    let newcomer = connect_once_ready(&world.im, world.nodes[0].local_addr(), 10);
    let open: Vec<_> = stay.iter().chain([&newcomer]).collect();
    let closed: Vec<_> = leave.iter().collect();
    world.settles(&open, &closed);
    world.told_once(&open, &closed);
    eventually("the room is right", || world.has_members("room", &[&stay[0], &stay[1], &stay[2]]));
    assert!(world.has_members("own", &[&stay[1]]));
    hear(&world, &mut stay, "after");
}

/// How often the first node has asked its broker for tickets.
fn tickets_asked(world: &World) -> u64 {
    let calls = world.nodes[0].vitals().stats().calls;
    calls.iter().find(|call| call.call == "tickets").unwrap().count
}

/// Ends the connections from the client's side.
pub fn close(peers: Vec<Peer>) -> Vec<Peer> {
    let mut peers = peers;
    peers.iter_mut().for_each(|peer| {
        let _ = peer.socket.raw().shutdown(std::net::Shutdown::Both);
    });
    peers
}

/// Each socket is still open: it gets a message to its client and one to its room.
fn hear(world: &World, peers: &mut [Peer], text: &str) {
    let to_room = format!("{text} to the room");
    // A node may not listen yet, and membership follows; messages of before are skipped.
    for peer in peers {
        eventually("heard", || {
            patiently(|| world.im.send(Message::to([peer.client]), text));
            patiently(|| world.im.send(Message::to_channel("room"), &to_room));
            let wanted = [format!("\"{text}\""), format!("\"{to_room}\"")];
            let mut heard = [false; 2];
            peer.socket.texts(Duration::from_millis(100), |got| {
                heard.iter_mut().zip(&wanted).for_each(|(heard, wanted)| *heard |= got == wanted);
            });
            heard == [true; 2]
        });
    }
}

#[test]
fn connections_are_cut() {
    survive(Fault { strikes: |world, _| world.set_links(Mode::Cut), ..Fault::default() });
}

#[test]
fn the_cut_outlasts_the_leases() {
    survive(Fault {
        strikes: |world, _| world.set_links(Mode::Cut),
        outlasts_leases: true,
        ..Fault::default()
    });
}

#[test]
fn the_link_stalls() {
    survive(Fault {
        strikes: |world, _| world.set_links(Mode::Stall),
        outlasts_leases: true,
        ..Fault::default()
    });
}

#[test]
fn the_link_swallows_everything() {
    survive(Fault {
        strikes: |world, _| world.set_links(Mode::Swallow),
        outlasts_leases: true,
        ..Fault::default()
    });
}

#[test]
fn answers_are_lost() {
    survive(Fault { strikes: |world, _| world.set_links(Mode::CutAnswers), ..Fault::default() });
}

#[test]
fn the_link_is_slow() {
    survive(Fault {
        strikes: |world, _| world.set_links(Mode::Delay(Duration::from_millis(50))),
        denies: false,
        ..Fault::default()
    });
}

#[test]
fn the_link_is_narrow() {
    survive(Fault {
        strikes: |world, _| world.set_links(Mode::Throttle(20_000)),
        denies: false,
        ..Fault::default()
    });
}

#[test]
fn redis_stalls() {
    survive(Fault {
        strikes: |world, kept| {
            let mut admin = world.redis.connect();
            kept.stall = Some(std::thread::spawn(move || {
                cmd("DEBUG").arg("SLEEP").arg(4).exec(&mut admin).unwrap();
            }));
        },
        heals: |_, kept| kept.stall.take().unwrap().join().unwrap(),
        ..Fault::default()
    });
}

#[test]
fn redis_restarts_with_its_data() {
    survive(Fault {
        strikes: |world, kept| {
            world.set_links(Mode::Cut);
            kept.snapshot = world.redis.snapshot();
            world.redis.stop();
        },
        heals: |world, kept| {
            world.redis.start_again_from(&kept.snapshot);
            world.log.listens();
            world.set_links(Mode::Pass);
        },
        ..Fault::default()
    });
}

#[test]
fn redis_restarts_without_its_data() {
    survive(Fault {
        strikes: |world, _| {
            world.set_links(Mode::Cut);
            world.redis.stop();
        },
        heals: |world, _| {
            world.redis.start_again();
            world.log.listens();
            world.set_links(Mode::Pass);
        },
        ..Fault::default()
    });
}

#[test]
fn the_data_is_flushed() {
    survive(Fault {
        strikes: |world, _| cmd("FLUSHALL").exec(&mut world.redis.connect()).unwrap(),
        denies: false,
        ..Fault::default()
    });
}

#[test]
fn the_password_changes() {
    survive(Fault {
        strikes: |world, kept| {
            let mut admin = world.redis.connect();
            let set = |word| {
                let mut set = cmd("CONFIG");
                set.arg("SET").arg("requirepass").arg(word);
                set
            };
            set("other").exec(&mut admin).unwrap();
            world.set_links(Mode::Cut);
            world.set_links(Mode::Pass);
            kept.admin = Some(admin);
        },
        heals: |_, kept| {
            let admin = kept.admin.as_mut().unwrap();
            cmd("CONFIG").arg("SET").arg("requirepass").arg("").exec(admin).unwrap();
        },
        ..Fault::default()
    });
}

#[test]
fn redis_is_out_of_memory() {
    survive(Fault {
        strikes: |world, _| {
            set(world, "maxmemory", "1");
            let refused = world.im.join([1], ["more"]).unwrap_err();
            assert!(refused.is_retryable(), "{refused}");
            let refused = world.im.connect_url(1, None).unwrap_err();
            assert!(refused.is_retryable(), "{refused}");
            // Messages need no memory.
            world.im.send(Message::to([1]), "in need").unwrap();
        },
        heals: |world, _| set(world, "maxmemory", "0"),
        denies: false,
        ..Fault::default()
    });
}

#[test]
fn redis_has_become_a_replica() {
    survive(Fault {
        strikes: |world, _| {
            cmd("REPLICAOF").arg("127.0.0.1").arg(1).exec(&mut world.redis.connect()).unwrap();
            let refused = world.im.join([1], ["more"]).unwrap_err();
            assert!(refused.is_retryable(), "{refused}");
        },
        heals: |world, _| {
            cmd("REPLICAOF").arg("NO").arg("ONE").exec(&mut world.redis.connect()).unwrap();
        },
        outlasts_leases: true,
        ..Fault::default()
    });
}

#[test]
fn scripts_and_connections_are_thrown_out() {
    survive(Fault {
        strikes: |world, _| {
            let mut admin = world.redis.connect();
            let own: i64 = cmd("CLIENT").arg("ID").query(&mut admin).unwrap();
            let spared = [own, world.log.listens()].map(|id| format!("id={id} "));
            cmd("SCRIPT").arg("FLUSH").exec(&mut admin).unwrap();
            let list: String = cmd("CLIENT").arg("LIST").query(&mut admin).unwrap();
            for line in list.lines().filter(|line| !spared.iter().any(|id| line.starts_with(id))) {
                let id = line.split([' ', '=']).nth(1).unwrap();
                let _: i64 = cmd("CLIENT").arg("KILL").arg("ID").arg(id).query(&mut admin).unwrap();
            }
        },
        denies: false,
        ..Fault::default()
    });
}

fn set(world: &World, name: &str, value: &str) {
    cmd("CONFIG").arg("SET").arg(name).arg(value).exec(&mut world.redis.connect()).unwrap();
}
