//! Redis fails over under traffic: nodes and helpers follow the primary, and of what was sent nothing is missing without a
//! word.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    thread,
    time::Instant,
};

use imcore::{
    ClientId, ImClient, Message, PresenceWatch, broker::RedisOptions, server::ServerHandle,
};
use redis::cmd;
use serde_json::Value;
use testkit::{PATIENCE, eventually, failover::Failover, ws::Client};

use crate::world::{impatient, names, patiently, start_node};

/// Clients that can resume: 2 and 4 of one node, 1 and 3 of the other.
const PHONES: [i64; 4] = [1, 2, 3, 4];

struct World {
    nodes: Vec<ServerHandle>,
    im: ImClient,
    events: Arc<Mutex<Vec<String>>>,
    #[expect(dead_code, reason = "ends with it")]
    watch: PresenceWatch,
    redis: Failover,
}

impl World {
    fn new(log: bool) -> World {
        let redis = Failover::start();
        let (url, servers) = (redis.url(), names(2));
        let options = RedisOptions { log, ..impatient() };
        let start = |index| start_node(&servers, index, &url, |_| {}, &options);
        let nodes = vec![start(0), start(1)];
        let im = ImClient::builder().servers(servers.clone()).redis(url).log(log).build().unwrap();
        let events = Arc::<Mutex<Vec<String>>>::default();
        let note = |what: &'static str| {
            let events = Arc::clone(&events);
            move |client: ClientId, _: Option<String>| {
                events.lock().unwrap().push(format!("{what} {client}"));
            }
        };
        let watch = im.on_presence(note("online"), note("offline")).unwrap();
        eventually("listening", || watch.is_listening());
        let world = World { nodes, im, events, watch, redis };
        world.ready();
        world
    }

    /// Waits until all have followed the primary.
    fn ready(&self) {
        let mut admin = self.redis.connect();
        let mut who = cmd("PUBSUB");
        who.arg("NUMSUB").arg("evt_im_v2_wsOnline");
        for name in names(2) {
            who.arg(format!("im_v2_wsServer{name}"));
        }
        eventually("all listen", || {
            let counts: Vec<(String, u64)> = who.query(&mut admin).unwrap();
            counts.iter().all(|(_, count)| *count == 1)
        });
        self.nodes.iter().for_each(|node| assert!(node.wait_ready(PATIENCE)));
    }

    fn address(&self, client: i64) -> SocketAddr {
        let owner = self.im.node_of(client).unwrap();
        self.nodes.iter().find(|node| node.server() == owner).unwrap().local_addr()
    }

    fn url(&self, client: i64) -> String {
        patiently(|| self.im.connect_url(client, None))
    }

    fn phone(&self, client: i64) -> Client {
        let socket = Client::speak(self.address(client), &self.url(client), "imcore.1");
        let mut socket = socket.unwrap();
        assert_eq!(socket.json()["hello"]["client"], client.to_string());
        eventually("online", || self.saw("online", client) == 1);
        socket
    }

    fn saw(&self, what: &str, client: i64) -> usize {
        let event = format!("{what} {client}");
        self.events.lock().unwrap().iter().filter(|other| **other == event).count()
    }
}

/// What a client was given.
#[derive(Default)]
struct Given {
    numbers: Vec<i64>,
    /// When it was told last that it may have missed some.
    told: Option<Instant>,
}

/// Reads until `last`.
fn read(socket: &mut Client, last: i64) -> Given {
    let mut given = Given::default();
    loop {
        let mut frame = socket.json();
        if frame["hello"]["resumed"] == false {
            given.told = Some(Instant::now());
        }
        match frame["m"].take() {
            Value::Null => {}
            number if number == last => return given,
            number => given.numbers.push(number.as_i64().unwrap()),
        }
    }
}

/// What was sent is there, in order and once, but for what the client was told of afterwards. Returns how much that is.
fn is_whole(given: &Given, sent: &BTreeMap<i64, Instant>) -> usize {
    let Given { numbers, told } = given;
    assert!(
        numbers.is_sorted_by(|one, other| one < other),
        "repeated or out of order: {numbers:?}"
    );
    let told = told.expect("a failover may have lost something");
    let missing = sent.iter().filter(|(number, _)| numbers.binary_search(number).is_err());
    missing
        .inspect(|(number, at)| assert!(told > **at, "{number} is missing without a word"))
        .count()
}

/// Traffic to each phone and to their channel until a failover is over, and whether it all came.
fn follows(world: &mut World, phones: &mut [Client], fail_over: impl FnOnce(&mut Failover)) {
    static ROUND: AtomicI64 = AtomicI64::new(0);
    let base = ROUND.fetch_add(1, Ordering::Relaxed) * 1_000_000;
    let last = base + 999_999;
    let (im, stop) = (world.im.clone(), AtomicBool::new(false));
    let offered = |world: &World| world.nodes[0].vitals().stats().offered;
    thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let mut accepted = BTreeMap::new();
            for number in base.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let message = match number % 2 {
                    0 => Message::to(PHONES),
                    _ => Message::to_channel("room"),
                };
                // By when it may have been lost at the earliest: this thread can be held up behind the call.
                let at = Instant::now();
                // What is not accepted is not sent again.
                match im.send(message, &number) {
                    Ok(_) => drop(accepted.insert(number, at)),
                    Err(error) => assert!(error.is_retryable(), "{error}"),
                }
            }
            patiently(|| im.send(Message::to(PHONES), &last));
            accepted
        });
        let reading: Vec<_> =
            phones.iter_mut().map(|socket| scope.spawn(move || read(socket, last))).collect();
        let before = offered(world);
        eventually("traffic", || offered(world) > before + 500);
        fail_over(&mut world.redis);
        let since = Instant::now();
        world.ready();
        let ready = since.elapsed();
        let after = offered(world);
        eventually("traffic goes on", || offered(world) > after + 500);
        stop.store(true, Ordering::Relaxed);
        let accepted = sending.join().unwrap();
        for given in reading {
            let missing = is_whole(&given.join().unwrap(), &accepted);
            let of = accepted.len();
            println!("ready {ready:?} after the failover; told of {missing} missing of {of}");
        }
    });
}

/// A failover, and what is to be done before there can be another.
struct Cause {
    strikes: fn(&mut Failover),
    heals: fn(&mut Failover),
}

const KILLED: Cause = Cause { strikes: Failover::kill_primary, heals: Failover::revive };
const SWITCHED: Cause = Cause { strikes: |redis| redis.switch(), heals: |_| {} };

fn survive(log: bool, cause: Cause) {
    let mut world = World::new(log);
    let mut phones: Vec<_> = PHONES.map(|client| world.phone(client)).into();
    world.im.join(PHONES, ["room"]).unwrap();
    // There, and back again.
    for _ in 0..2 {
        follows(&mut world, &mut phones, cause.strikes);
        // Presence and channels are what they were, and go on.
        let newcomer = Client::connect(world.address(6), &world.url(6)).unwrap();
        eventually("online", || world.saw("online", 6) == 1);
        let online = patiently(|| world.im.are_online([1, 2, 3, 4, 5, 6]));
        assert_eq!(online, [true, true, true, true, false, true]);
        eventually("the channel is whole", || {
            patiently(|| world.im.channel_members("room")).len() == PHONES.len()
        });
        newcomer.leave();
        eventually("offline", || world.saw("offline", 6) == 1);
        for client in PHONES {
            assert_eq!((world.saw("online", client), world.saw("offline", client)), (1, 0));
        }
        world.events.lock().unwrap().retain(|event| !event.ends_with(" 6"));
        (cause.heals)(&mut world.redis);
        world.redis.settles();
    }
}

#[test]
fn a_primary_is_killed_with_a_log() {
    survive(true, KILLED);
}

#[test]
fn a_primary_is_killed_without_a_log() {
    survive(false, KILLED);
}

#[test]
fn primary_and_replica_change_places() {
    survive(true, SWITCHED);
}
