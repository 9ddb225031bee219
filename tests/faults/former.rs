//! Nodes that are killed, stopped or paused under clients that can resume: who comes back in time was never away, and who
//! does not is offline once.

use std::{
    collections::BTreeMap,
    iter,
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Instant,
};

use imcore::{ClientId, ImClient, Message, Receipt, Ticket};
use serde_json::Value;
use testkit::{Imserver, Redis, eventually, proxy::Proxy, ws::Client};
use tungstenite::protocol::CloseFrame;

use crate::world::{EventLog, Peer, connect, names, patiently};

/// Clients of each kind.
const MANY: i64 = 200;

struct Cluster {
    nodes: Vec<Imserver>,
    keep: &'static str,
    message_log: bool,
    im: ImClient,
    log: EventLog,
    redis: Redis,
}

/// A device that can resume, and where it is.
struct Phone {
    client: ClientId,
    ticket: String,
    socket: Option<Client>,
    hello: Value,
}

impl Cluster {
    /// Two nodes that wait so many seconds for who can resume.
    fn new(keep: &'static str) -> Cluster {
        Cluster::with_log(keep, false)
    }

    /// The same, with a log of what is sent.
    fn with_log(keep: &'static str, message_log: bool) -> Cluster {
        let redis = Redis::start();
        let im = ImClient::builder().servers(names(2)).redis(redis.url()).log(message_log);
        let im = im.build().unwrap();
        let log = EventLog::start(&redis);
        let mut cluster = Cluster { nodes: Vec::new(), keep, message_log, im, log, redis };
        cluster.nodes = (0..2).map(|index| cluster.start(index)).collect();
        cluster
    }

    fn start(&self, index: usize) -> Imserver {
        self.start_behind(index, &self.redis.url())
    }

    /// A node that reaches Redis there.
    fn start_behind(&self, index: usize, url: &str) -> Imserver {
        let names = names(2);
        let place = ["--listen", "127.0.0.1:0", "--server", &names[index]];
        let rest = ["--servers", &names.join(","), "--redis", url, "--keep", self.keep];
        let log = ["--message-log", if self.message_log { "on" } else { "off" }];
        let node = Imserver::start(&[&place[..], &rest[..], &log[..]].concat());
        node.wait_ready();
        node
    }

    /// The first node dies at once, and comes back.
    fn kill_and_start(&mut self) {
        self.nodes[0].kill();
        self.nodes[0] = self.start(0);
    }

    fn address(&self) -> SocketAddr {
        self.nodes[0].address()
    }

    /// Clients of the first node that can resume, and as many that cannot.
    fn connect(&self) -> (Vec<Phone>, Vec<Peer>) {
        let ids = (1..=2 * MANY).map(|number| number * 2);
        let (phones, others): (Vec<_>, Vec<_>) = ids.partition(|id| id % 4 == 0);
        assert!(phones.iter().chain(&others).all(|id| self.im.node_of(*id).unwrap() == "node-0"));
        let phones: Vec<_> = phones.into_iter().map(|id| self.phone(id)).collect();
        let others = others.into_iter().map(|id| connect(&self.im, self.address(), id).unwrap());
        let others: Vec<_> = others.collect();
        let clients = phones.iter().map(|phone| phone.client.clone());
        self.im.join(clients, ["room"]).unwrap();
        eventually("all online", || {
            self.told(&phones, 1, 0)
                && others.iter().all(|peer| self.log.count(true, &peer.ticket) == 1)
        });
        (phones, others)
    }

    fn phone(&self, client: i64) -> Phone {
        let meta = format!("phone {client}");
        let ticket = Ticket::new(client.into(), Some(&meta)).text().to_owned();
        let mut phone = Phone { client: client.into(), ticket, socket: None, hello: Value::Null };
        phone.open(self, &meta, "");
        phone
    }

    /// How often each of them was told online and offline.
    fn told(&self, phones: &[Phone], online: usize, offline: usize) -> bool {
        phones.iter().all(|phone| {
            self.log.count(true, &phone.ticket) == online
                && self.log.count(false, &phone.ticket) == offline
        })
    }

    fn are_offline(&self, peers: &[Peer]) -> bool {
        peers.iter().all(|peer| self.log.count(false, &peer.ticket) == 1)
    }

    /// Exactly these are online, once each, and in the room.
    fn are_online(&self, phones: &[&[Phone]]) -> bool {
        let ids = || phones.iter().flat_map(|part| part.iter().map(|phone| phone.client.clone()));
        let all =
            |count: i64| -> BTreeMap<_, _> { ids().map(|id| (id.to_string(), count)).collect() };
        self.hash("im_v2_wsOnline") == all(1) && self.hash("im_v2_wsChanroom") == all(0)
    }

    fn hash(&self, key: &str) -> BTreeMap<String, i64> {
        redis::cmd("HGETALL").arg(key).query(&mut self.redis.connect()).unwrap()
    }

    /// Nothing is left of who could resume what, but of the sessions that stand.
    fn is_tidy(&self) -> bool {
        let mut redis = self.redis.connect();
        let mut keys = |pattern: &str| -> Vec<String> {
            redis::cmd("KEYS").arg(pattern).query(&mut redis).unwrap()
        };
        keys("im_v2_wsResume*").len() == self.nodes.len()
            && keys("im_v2_wsAway*").is_empty()
            && keys("im_v2_wsResumable*").len() <= self.nodes.len()
    }
}

impl Phone {
    fn open(&mut self, cluster: &Cluster, meta: &str, query: &str) {
        let url = patiently(|| cluster.im.connect_url(&self.client, Some(meta))) + query;
        let mut socket = Client::speak(cluster.address(), &url, "imcore.1").unwrap();
        self.hello = socket.json()["hello"].take();
        self.socket = Some(socket);
    }

    /// Comes back with what it knows of its former connection, which has been kept.
    fn back(&mut self, cluster: &Cluster) {
        self.back_in(cluster, true);
    }

    /// The same; whether it is told to be in its channels.
    fn back_in(&mut self, cluster: &Cluster, channels: bool) {
        let text = |name: &str| self.hello[name].as_str().unwrap().to_owned();
        let query = format!("&since={}&c={}", text("p"), text("c"));
        self.open(cluster, "back", &query);
        assert_eq!(self.hello["channels"], channels, "{}", self.hello);
    }

    /// Comes back with the address of its kind, however long that takes, as whoever the node takes it for.
    fn return_anyhow(&mut self, cluster: &Cluster) {
        let text = |name: &str| self.hello[name].as_str().unwrap().to_owned();
        let query = format!("&since={}&c={}", text("p"), text("c"));
        let meta = format!("phone {}", self.client);
        eventually("served again", || {
            let url = patiently(|| cluster.im.connect_url(&self.client, Some(&meta))) + &query;
            let socket = Client::speak(cluster.address(), &url, "imcore.1");
            let served = socket.ok().map(|mut socket| (socket.json()["hello"].take(), socket));
            if let Some((hello, socket)) = served {
                (self.hello, self.socket) = (hello, Some(socket));
                return true;
            }
            false
        });
    }

    fn leave(&mut self) {
        let frame = CloseFrame { code: 1000.into(), reason: "".into() };
        let mut socket = self.socket.take().unwrap();
        let _ = socket.0.close(Some(frame));
        socket.closed();
    }

    fn is_served(&mut self, text: &str) {
        let socket = self.socket.as_mut().unwrap();
        while socket.json()["m"] != *text {}
    }

    fn acknowledge(&mut self) {
        let word = format!(r#"{{"a":{}}}"#, self.hello["p"]);
        self.socket.as_mut().unwrap().0.send(word.into()).unwrap();
    }

    /// The next message, which it handles.
    fn message(&mut self) -> Value {
        let mut frame = self.socket.as_mut().unwrap().json();
        self.hello["p"] = frame["p"].take();
        assert!(frame.get("m").is_some(), "{frame}");
        frame["m"].take()
    }
}

#[test]
fn who_comes_back_to_a_killed_node_was_never_away() {
    let mut cluster = Cluster::new("6");
    let (mut phones, others) = cluster.connect();
    let first = phones[0].hello["c"].clone();
    let mut lost = phones.split_off(phones.len() / 2);
    cluster.kill_and_start();
    let (half, rest) = phones.split_at_mut(MANY as usize / 4);
    half.iter_mut().for_each(|phone| phone.back(&cluster));
    assert_eq!(half[0].hello["c"], first, "a connection like the one before");
    // Again, while most are still waited for.
    cluster.kill_and_start();
    half.iter_mut().chain(rest).for_each(|phone| phone.back(&cluster));
    patiently(|| cluster.im.send(Message::to_channel("room"), "here"));
    phones.iter_mut().for_each(|phone| phone.is_served("here"));
    eventually("who could not resume is offline", || cluster.are_offline(&others));
    eventually("who did not come back is offline", || cluster.told(&lost, 1, 1));
    eventually("who came back is here", || cluster.are_online(&[&phones]));
    assert!(cluster.told(&phones, 1, 0), "{:?}", cluster.log.histogram(false));
    // Too late: as if it were new.
    lost[0].open(&cluster, "anew", &format!("&since=k.1&c={}", first.as_str().unwrap()));
    assert_eq!(
        (&lost[0].hello["why"], &lost[0].hello["channels"]),
        (&"expired".into(), &false.into())
    );
    assert!(cluster.is_tidy());
}

#[test]
fn a_node_that_stays_away_is_cleared_away_in_two_steps() {
    let mut cluster = Cluster::new("8");
    let (phones, others) = cluster.connect();
    let killed = Instant::now();
    cluster.nodes[0].kill();
    eventually("who cannot resume is offline", || cluster.are_offline(&others));
    let known = killed.elapsed();
    assert!(cluster.told(&phones, 1, 0), "{:?}", cluster.log.histogram(false));
    eventually("and then the others", || cluster.told(&phones, 1, 1));
    println!("told after {known:?} and {:?}", killed.elapsed());
    eventually("the books are right", || cluster.are_online(&[]));
    cluster.nodes.remove(0);
    eventually("nothing is left", || cluster.is_tidy());
}

#[test]
fn a_node_that_comes_back_late_takes_over_what_nobody_was_told_of() {
    let mut cluster = Cluster::new("60");
    let (mut phones, others) = cluster.connect();
    cluster.nodes[0].kill();
    eventually("it is taken for dead", || cluster.are_offline(&others));
    cluster.nodes[0] = cluster.start(0);
    phones.iter_mut().for_each(|phone| phone.back(&cluster));
    assert!(cluster.told(&phones, 1, 0) && cluster.are_online(&[&phones]));
    assert!(cluster.is_tidy());
    // Stopped as it should be, and started again.
    cluster.nodes[0].signal("TERM");
    assert!(cluster.nodes[0].ends().success());
    cluster.nodes[0] = cluster.start(0);
    phones.iter_mut().for_each(|phone| phone.back(&cluster));
    assert!(cluster.told(&phones, 1, 0) && cluster.are_online(&[&phones]));
    assert!(cluster.is_tidy());
}

#[test]
fn a_node_that_was_paused_goes_on_with_who_can_resume() {
    let cluster = Cluster::new("60");
    let (mut phones, others) = cluster.connect();
    cluster.nodes[0].signal("STOP");
    eventually("taken for dead", || cluster.are_offline(&others));
    // Some leave meanwhile; they are waited for, as they may come back.
    let mut left = phones.split_off(phones.len() / 2);
    left.iter_mut().for_each(|phone| phone.socket = None);
    cluster.nodes[0].signal("CONT");
    eventually("the others are online again", || {
        others.iter().all(|peer| cluster.log.count(true, &peer.ticket) == 2)
    });
    patiently(|| cluster.im.send(Message::to_channel("room"), "here"));
    phones.iter_mut().for_each(|phone| phone.is_served("here"));
    left.iter_mut().for_each(|phone| phone.back(&cluster));
    assert!(cluster.told(&phones, 1, 0) && cluster.told(&left, 1, 0));
    assert!(cluster.is_tidy());
}

#[test]
fn a_former_process_that_wakes_up_takes_nothing_back() {
    let mut cluster = Cluster::new("6");
    let (mut phones, _others) = cluster.connect();
    cluster.nodes[0].signal("STOP");
    let new = cluster.start(0);
    let mut former = std::mem::replace(&mut cluster.nodes[0], new);
    phones.iter_mut().for_each(|phone| phone.back(&cluster));
    assert!(cluster.told(&phones, 1, 0));
    former.signal("CONT");
    former.says("this node was taken for dead");
    // Two processes of one name: it waits for them too, under a session of its own.
    eventually("reported anew", || cluster.told(&phones, 2, 0));
    former.kill();
    eventually("told in pairs", || cluster.told(&phones, 2, 1));
    assert!(!cluster.nodes[0].log().contains("taken for dead"), "{}", cluster.nodes[0].log());
    eventually("the new process has them all", || cluster.are_online(&[&phones]));
    patiently(|| cluster.im.send(Message::to_channel("room"), "here"));
    phones.iter_mut().for_each(|phone| phone.is_served("here"));
}

#[test]
fn who_is_waited_for_outlives_a_loss_of_data() {
    let mut cluster = Cluster::new("60");
    let (mut phones, others) = cluster.connect();
    // So that the node knows who is in the room.
    patiently(|| cluster.im.send(Message::to_channel("room"), "before"));
    phones.iter_mut().for_each(|phone| phone.is_served("before"));
    let away = MANY as usize / 2;
    phones[..away].iter_mut().for_each(|phone| phone.socket = None);
    crate::outages::close(others);
    eventually("half are waited for", || {
        cluster.are_online(&[&phones])
            && cluster.log.histogram(false) == BTreeMap::from([(1, away * 2)])
    });
    redis::cmd("FLUSHALL").exec(&mut cluster.redis.connect()).unwrap();
    eventually("all are restored", || cluster.are_online(&[&phones]));
    // Nobody knows what the business had done just before.
    phones[..away / 2].iter_mut().for_each(|phone| phone.back_in(&cluster, false));
    for phone in &mut phones[away..] {
        let socket = phone.socket.as_mut().unwrap();
        let hello = iter::repeat_with(|| socket.json()["hello"].take())
            .find(|hello| !hello.is_null())
            .unwrap();
        assert_eq!(
            (&hello["why"], &hello["channels"]),
            (&"epoch".into(), &false.into()),
            "{hello}"
        );
        phone.hello = hello;
    }
    // Who has heard it is in the channels that it is in now.
    for phone in phones.iter_mut().step_by(away) {
        phone.back(&cluster);
        assert_eq!(phone.hello["resumed"], true, "{}", phone.hello);
    }
    cluster.kill_and_start();
    phones.iter_mut().for_each(|phone| phone.back(&cluster));
    patiently(|| cluster.im.send(Message::to_channel("room"), "here"));
    phones.iter_mut().for_each(|phone| phone.is_served("here"));
    assert!(cluster.told(&phones, 1, 0) && cluster.are_online(&[&phones]));
    // Both at once: nobody knows who was here, and all are new.
    cluster.nodes[0].kill();
    redis::cmd("FLUSHALL").exec(&mut cluster.redis.connect()).unwrap();
    cluster.nodes[0] = cluster.start(0);
    let c = phones[0].hello["c"].as_str().unwrap().to_owned();
    phones[0].open(&cluster, "anew", &format!("&since=k.1&c={c}"));
    assert_eq!(
        (&phones[0].hello["why"], &phones[0].hello["channels"]),
        (&"expired".into(), &false.into())
    );
    eventually("all of it is as it is", || {
        cluster.hash("im_v2_wsOnline") == BTreeMap::from([(phones[0].client.to_string(), 1)])
    });
    let anew = Ticket::new(phones[0].client.clone(), Some("anew"));
    eventually("told", || cluster.log.count(true, anew.text()) == 1);
    assert!(cluster.told(&phones, 1, 0), "nobody knows that they were here");
    eventually("nothing is left", || cluster.is_tidy());
}

#[test]
fn events_are_exact_while_a_node_dies_and_its_link_flaps() {
    let mut cluster = Cluster::new("20");
    let link = Proxy::start(cluster.redis.port);
    cluster.nodes[0].kill();
    cluster.nodes[0] = cluster.start_behind(0, &link.url());
    let (mut phones, others) = cluster.connect();
    let done = AtomicBool::new(false);
    let mut left = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| crate::presence::flap(&link, 7, &done));
        for _ in 0..3 {
            for _ in 0..10 {
                let mut leaving = phones.swap_remove(phones.len() / 3);
                leaving.leave();
                left.push(leaving);
            }
            let some = phones.len() / 2;
            phones[..some].iter_mut().for_each(|phone| phone.return_anyhow(&cluster));
            cluster.nodes[0].kill();
            cluster.nodes[0] = cluster.start_behind(0, &link.url());
            phones.iter_mut().for_each(|phone| phone.return_anyhow(&cluster));
        }
        done.store(true, Ordering::Release);
    });
    link.heal();
    eventually("who could not resume is offline", || cluster.are_offline(&others));
    eventually("who left is offline", || cluster.told(&left, 1, 1));
    eventually("who came back is here", || cluster.are_online(&[&phones]));
    assert!(cluster.told(&phones, 1, 0), "{:?}", cluster.log.histogram(true));
}

#[test]
fn what_is_sent_while_a_node_is_dead_is_given_once_it_is_back() {
    let mut cluster = Cluster::with_log("60", true);
    let (mut phones, _others) = cluster.connect();
    let clients: Vec<_> = phones.iter().map(|phone| phone.client.clone()).collect();
    let send = |cluster: &Cluster, message: Message, number: u32| {
        patiently(|| cluster.im.send(message.clone(), &number));
    };
    let to_each = || Message::to(&clients);
    send(&cluster, to_each(), 1);
    phones.iter_mut().for_each(|phone| assert_eq!(phone.message(), 1));
    // Written to sockets, and not known to have been handled.
    send(&cluster, to_each(), 2);
    phones[..10].iter_mut().for_each(|phone| assert_eq!(phone.message(), 2));
    cluster.nodes[0].kill();
    send(&cluster, Message::to_channel("room"), 3);
    cluster.nodes[0] = cluster.start(0);
    send(&cluster, Message::to_everyone(), 4);
    // Again, before anybody is back.
    cluster.nodes[0].kill();
    send(&cluster, to_each(), 5);
    cluster.nodes[0] = cluster.start(0);
    for (index, phone) in phones.iter_mut().enumerate() {
        phone.back(&cluster);
        let from = if index < 10 { 3 } else { 2 };
        assert_eq!(
            (&phone.hello["resumed"], &phone.hello["missed"]),
            (&true.into(), &(6 - from).into())
        );
        (from..=5).for_each(|number| assert_eq!(phone.message(), number));
    }
    // A stop as it should be, with messages on the way.
    send(&cluster, to_each(), 6);
    cluster.nodes[0].signal("TERM");
    send(&cluster, Message::to_channel("room"), 7);
    assert!(cluster.nodes[0].ends().success());
    send(&cluster, Message::to_everyone(), 8);
    cluster.nodes[0] = cluster.start(0);
    for phone in &mut phones {
        phone.back(&cluster);
        assert_eq!((&phone.hello["resumed"], &phone.hello["missed"]), (&true.into(), &3.into()));
        (6..=8).for_each(|number| assert_eq!(phone.message(), number));
    }
    send(&cluster, to_each(), 9);
    for phone in &mut phones {
        assert_eq!(phone.message(), 9);
        phone.socket.as_mut().unwrap().silent();
    }
    assert!(cluster.told(&phones, 1, 0) && cluster.are_online(&[&phones]));
}

#[test]
fn receipts_come_once_whatever_happens_to_the_node() {
    let mut cluster = Cluster::with_log("60", true);
    let mut phone = cluster.phone(2);
    let url = cluster.im.connect_url(1, None).unwrap();
    let mut sender = Client::connect(cluster.nodes[1].address(), &url).unwrap();
    eventually("both online", || {
        cluster.im.are_online([1, 2]).is_ok_and(|online| online == [true, true])
    });
    let send = |cluster: &Cluster, receivers: &[i64], id: &str| {
        let message = Message::to(receivers.iter().copied()).from(1).id(id);
        let message = message.receipt(Receipt::Acknowledged);
        patiently(|| cluster.im.send(message.clone(), id));
    };
    let mut receipts = |count: usize| {
        let mut told: Vec<_> = (0..count)
            .map(|_| {
                let receipt = sender.json();
                format!("{} {} {}", receipt["id"], receipt["to"], receipt["status"])
            })
            .collect();
        told.sort_unstable();
        told.join(", ").replace('"', "")
    };
    send(&cluster, &[2, 4], "had");
    assert_eq!(phone.message(), "had");
    phone.acknowledge();
    assert_eq!(receipts(2), "had 2 acknowledged, had 4 offline");
    for (how, other) in [("KILL", 4), ("TERM", 8)] {
        send(&cluster, &[2], "written");
        cluster.nodes[0].signal(how);
        cluster.nodes[0].ends();
        send(&cluster, &[2, other], "meanwhile");
        cluster.nodes[0] = cluster.start(0);
        // Somebody who was never there before.
        let newcomer = cluster.phone(other);
        phone.back(&cluster);
        assert_eq!((&phone.hello["resumed"], &phone.hello["missed"]), (&true.into(), &2.into()));
        assert_eq!([phone.message(), phone.message()], ["written", "meanwhile"]);
        phone.acknowledge();
        let told =
            format!("meanwhile 2 acknowledged, meanwhile {other} offline, written 2 acknowledged");
        assert_eq!(receipts(3), told);
        drop(newcomer);
        // Once more, with nothing to tell: the newcomer does not come back, and never had any of it.
        cluster.kill_and_start();
        phone.back(&cluster);
        phone.acknowledge();
        send(&cluster, &[6], "last");
        assert_eq!(receipts(1), "last 6 offline", "after {how}");
    }
}

/// Somebody who knows of no log, as a helper without that setting, and the original's.
#[test]
fn what_no_log_has_is_never_missing_in_silence() {
    let mut cluster = Cluster::with_log("60", true);
    let mut phone = cluster.phone(2);
    eventually("online", || cluster.im.is_online(2).is_ok_and(|is| is));
    let other = ImClient::builder().servers(names(2)).redis(cluster.redis.url()).build().unwrap();
    let send = |text: &str| patiently(|| other.send(Message::to([2]), text));
    let logged =
        |cluster: &Cluster, text: &str| patiently(|| cluster.im.send(Message::to([2]), text));
    let noted = |cluster: &Cluster| {
        let mut get = redis::cmd("HGET");
        get.arg("im_v2_wsLogHead").arg("Plainnode-0");
        let text: Option<String> = get.query(&mut cluster.redis.connect()).unwrap();
        let words: Vec<u64> =
            text.unwrap_or_default().split(' ').filter_map(|word| word.parse().ok()).collect();
        (words.first().copied(), words.last().is_some_and(|strange| *strange > 0))
    };
    // While nobody serves it.
    cluster.nodes[0].kill();
    send("dead");
    cluster.nodes[0] = cluster.start(0);
    phone.back(&cluster);
    assert_eq!(phone.hello["why"], "epoch", "{}", phone.hello);
    // While the client is away: by the node that dies then, at once and later.
    for later in [false, true] {
        phone.socket = None;
        let before = noted(&cluster).0;
        send("away");
        eventually("heard", || !later || noted(&cluster).0 > before);
        cluster.kill_and_start();
        phone.back(&cluster);
        assert_eq!(phone.hello["why"], "epoch", "later: {later}, {}", phone.hello);
    }
    // What came before the last of the log is behind everybody.
    send("heard");
    assert_eq!(phone.message(), "heard");
    eventually("noted", || noted(&cluster).0 == Some(4));
    logged(&cluster, "and logged");
    assert_eq!(phone.message(), "and logged");
    cluster.kill_and_start();
    phone.back(&cluster);
    assert_eq!(phone.hello["resumed"], true, "{}", phone.hello);
    // Of senders that do not even count it is known that there are such.
    let uncounted = || {
        let envelope = r#"{"Item1":0,"Item2":[2],"Item3":"\"strange\"","Item4":false}"#;
        let mut publish = redis::cmd("PUBLISH");
        publish
            .arg("im_v2_wsServernode-0")
            .arg(envelope)
            .exec(&mut cluster.redis.connect())
            .unwrap();
    };
    uncounted();
    assert_eq!(phone.message(), "strange");
    // However much else there is to do.
    eventually("noticed", || {
        let _ = cluster.im.send(Message::to_channel("somebody else's"), "busy");
        noted(&cluster).1
    });
    logged(&cluster, "and logged");
    assert_eq!(phone.message(), "and logged");
    cluster.nodes[0].kill();
    uncounted();
    cluster.nodes[0] = cluster.start(0);
    phone.back(&cluster);
    assert_eq!(phone.hello["why"], "epoch", "{}", phone.hello);
}

#[test]
fn what_a_full_redis_kept_of_nothing_is_not_missing_in_silence() {
    let mut cluster = Cluster::with_log("60", true);
    let mut phone = cluster.phone(2);
    eventually("online", || cluster.im.is_online(2).is_ok_and(|is| is));
    let send =
        |cluster: &Cluster, text: &str| patiently(|| cluster.im.send(Message::to([2]), text));
    let limit = |cluster: &Cluster, bytes: u32| {
        let mut set = redis::cmd("CONFIG");
        set.arg("SET").arg("maxmemory").arg(bytes).exec(&mut cluster.redis.connect()).unwrap();
    };
    for logged_first in [false, true] {
        send(&cluster, "kept");
        assert_eq!(phone.message(), "kept");
        cluster.nodes[0].kill();
        limit(&cluster, 1);
        send(&cluster, "not kept");
        limit(&cluster, 0);
        if logged_first {
            patiently(|| cluster.im.send(Message::to([4]), "to somebody else"));
        }
        cluster.nodes[0] = cluster.start(0);
        phone.back(&cluster);
        assert_eq!(phone.hello["why"], "epoch", "{logged_first}: {}", phone.hello);
    }
    // And from there on everything is whole again.
    send(&cluster, "kept");
    assert_eq!(phone.message(), "kept");
    cluster.kill_and_start();
    phone.back(&cluster);
    assert_eq!(phone.hello["resumed"], true, "{}", phone.hello);
}

/// Longer than its lease and `keep`: its clients were offline, and out of their channels.
#[test]
fn who_was_out_of_its_channels_for_a_while_is_told_so() {
    let cluster = Cluster::with_log("2", true);
    let mut phones = [cluster.phone(2)];
    eventually("online", || cluster.told(&phones, 1, 0));
    patiently(|| cluster.im.join([2], ["room"]));
    patiently(|| cluster.im.send(Message::to_channel("room"), "before"));
    assert_eq!(phones[0].message(), "before");
    cluster.nodes[0].signal("STOP");
    eventually("taken for dead", || cluster.told(&phones, 1, 1));
    patiently(|| cluster.im.send(Message::to_channel("room"), "meanwhile"));
    cluster.nodes[0].signal("CONT");
    // Behind it nothing else comes for 25 s, and that would be a position.
    let mut frame = phones[0].socket.as_mut().unwrap().json();
    let hello = frame["hello"].take();
    assert_eq!((&hello["why"], &hello["channels"]), (&"epoch".into(), &true.into()), "{hello}");
    assert_eq!(cluster.im.channel_members("room").unwrap(), [2.into()]);
    patiently(|| cluster.im.send(Message::to_channel("room"), "after"));
    phones[0].is_served("after");
}
