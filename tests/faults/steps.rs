//! A move of slots that a `kill -9` of the giver or of the taker interrupts, at each of its steps: real processes, clients that can
//! resume on all slots. Everybody ends at one node with all that was said, once and in order, or is told that it cannot be proven;
//! nobody heard that they were away, and nobody is a ghost.

use std::{collections::HashSet, sync::OnceLock};

use imcore::{ClientId, Message, SlotTable, Ticket};
use serde_json::Value;
use testkit::{eventually, ws::Client};
use tungstenite::protocol::{CloseFrame, frame::coding::CloseCode};

use crate::{
    heirs::{Cluster, SLOTS},
    world::patiently,
};

/// Clients, some on each slot.
const CLIENTS: i64 = 64;
const ROOM: &str = "room";
/// Who gives slots away here besides node-0, and who takes them.
const GIVER: &str = "node-1";
const TAKER: &str = "node-2";

/// How far a move has come when it is interrupted.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// The taker stands in the table and owns nothing yet.
    Stands,
    /// The table has flipped for a slot, whose clients are sent on.
    Flipped,
    /// Slots have moved as a whole, and their clients are at the taker; others are to follow.
    Half,
    /// The last has moved.
    Done,
}

impl Step {
    fn is_reached(self, table: &SlotTable) -> bool {
        let slots = || (0..SLOTS).filter(|slot| table.owner(*slot) == Some(TAKER));
        let moving = |slot: usize| table.moving_from(slot);
        match self {
            Step::Stands => table.node(TAKER).is_some(),
            Step::Flipped => slots().any(|slot| moving(slot) == Some(GIVER)),
            Step::Half => slots().filter(|slot| moving(*slot).is_none()).count() >= 2,
            Step::Done => slots().filter(|slot| moving(*slot).is_none()).count() >= SLOTS / 3,
        }
    }
}

/// A client that comes back as often as it has to.
struct Walker {
    client: i64,
    socket: Client,
    /// Its position, and its connection.
    p: String,
    c: String,
    /// What came over all of its connections, and over the present one by position.
    heard: Vec<String>,
    positions: HashSet<String>,
    /// Whether it was told once that something may be missing.
    is_told: bool,
}

impl Walker {
    fn new(cluster: &Cluster, client: i64) -> Walker {
        let (socket, hello) = connected(cluster, client, "");
        let [p, c] = ["p", "c"].map(|name| hello[name].as_str().unwrap().to_owned());
        let (heard, positions) = (Vec::new(), HashSet::new());
        Walker { client, socket, p, c, heard, positions, is_told: false }
    }

    fn comes_back(&mut self, cluster: &Cluster) {
        let known = format!("&since={}&c={}", self.p, self.c);
        let (socket, hello) = connected(cluster, self.client, &known);
        self.is_told |= hello["resumed"] != true;
        [self.p, self.c] = ["p", "c"].map(|name| hello[name].as_str().unwrap().to_owned());
        (self.socket, self.positions) = (socket, HashSet::new());
    }

    /// The next message; none if the connection has ended.
    fn next(&mut self) -> Option<String> {
        while let Ok(tungstenite::Message::Text(text)) = self.socket.0.read() {
            let frame: Value = serde_json::from_str(&text).unwrap();
            let Some(p) = frame["p"].as_str() else { continue };
            self.p = p.to_owned();
            if let Some(text) = frame["m"].as_str() {
                assert!(self.positions.insert(p.to_owned()), "{p} came twice to {}", self.client);
                self.heard.push(text.to_owned());
                return Some(text.to_owned());
            }
        }
        None
    }

    /// Up to this message, over as many connections as it takes; or up to where it is told that something may be missing.
    fn hears(&mut self, cluster: &Cluster, last: &str) {
        loop {
            match self.next() {
                Some(text) if text == last => return,
                Some(_) => {}
                None => self.comes_back(cluster),
            }
            if self.is_told {
                return;
            }
        }
    }

    /// It is sent on, and follows.
    fn follows(&mut self, cluster: &Cluster) {
        while self.next().is_some() {}
        self.comes_back(cluster);
    }
}

/// A new connection, by an address that leads to whoever serves the client, and its hello.
fn connected(cluster: &Cluster, client: i64, known: &str) -> (Client, Value) {
    let mut found = None;
    eventually("served", || {
        let url = patiently(|| cluster.im.connect_url(client, None)) + known;
        let Ok(mut socket) = Client::speak(cluster.address(&url), &url, "imcore.1") else {
            return false;
        };
        // A node that has just lost the slot sends it on without a hello.
        let Ok(tungstenite::Message::Text(text)) = socket.0.read() else { return false };
        let mut hello: Value = serde_json::from_str(&text).unwrap();
        found = Some((socket, hello["hello"].take()));
        true
    });
    found.unwrap()
}

fn say(cluster: &Cluster, said: &mut Vec<String>, text: &str) {
    let (direct, all) = (format!("{text} to each"), format!("{text} to all"));
    let message = Message::to((1..=CLIENTS).collect::<Vec<_>>());
    patiently(|| cluster.im.send(message.clone(), &direct));
    patiently(|| cluster.im.send(Message::to_channel(ROOM), &all));
    said.extend([direct, all]);
}

/// A short lease, and moves slow enough to be seen.
fn settings() -> &'static str {
    static FILE: OnceLock<String> = OnceLock::new();
    FILE.get_or_init(|| {
        let file = std::env::temp_dir().join(format!("imcore-steps-{}.json", std::process::id()));
        std::fs::write(&file, r#"{"limits": {"lease": 2, "moves_per_second": 20}}"#).unwrap();
        file.into_os_string().into_string().unwrap()
    })
}

/// Kills `victim` once a move has come to `step`, and the table was read so often again.
fn is_borne(step: Step, victim: usize, later: usize) {
    let mut cluster = Cluster::with(true, &["--config", settings()]);
    let mut walkers: Vec<_> = (1..=CLIENTS).map(|client| Walker::new(&cluster, client)).collect();
    cluster.im.join((1..=CLIENTS).map(ClientId::from), [ROOM]).unwrap();
    let mut said = Vec::new();
    say(&cluster, &mut said, "before");
    cluster.start();
    eventually("the step", || step.is_reached(&cluster.table()));
    say(&cluster, &mut said, "meanwhile");
    if matches!(step, Step::Half | Step::Done) {
        let table = cluster.table();
        let is_there = |slot| table.owner(slot) == Some(TAKER) && table.moving_from(slot).is_none();
        let moved = walkers.iter_mut().filter(|walker| is_there(walker.client as usize % SLOTS));
        moved.for_each(|walker| walker.follows(&cluster));
    }
    (0..later).for_each(|_| drop(cluster.table()));
    cluster.nodes[victim].kill();
    say(&cluster, &mut said, "after");
    cluster.taken_from(&format!("node-{victim}"));
    eventually("nothing moves", || {
        let table = cluster.table();
        (0..SLOTS).all(|slot| table.moving_from(slot).is_none())
    });
    say(&cluster, &mut said, "at last");
    for walker in &mut walkers {
        walker.hears(&cluster, said.last().unwrap());
    }
    // Whoever was told is at one node like the others, and hears what comes now.
    say(&cluster, &mut said, "end");
    for walker in &mut walkers {
        while walker.next().expect("it is open") != *said.last().unwrap() {}
    }
    for walker in &walkers {
        let (client, heard) = (walker.client, &walker.heard);
        assert!(walker.is_told || heard == &said, "{step:?}, {client}: {heard:?}");
        let ticket = Ticket::new(client.into(), None);
        let told = [true, false].map(|online| cluster.events.count(online, ticket.text()));
        assert_eq!(told, [1, 0], "{step:?}: events of {client}");
    }
    let told = walkers.iter().filter(|walker| walker.is_told).count();
    println!("{step:?}, node-{victim} killed: {told} of {CLIENTS} were told to load their state");
    let online = || -> Vec<(String, i64)> {
        redis::cmd("HGETALL").arg("im_v2_wsOnline").query(&mut cluster.redis.connect()).unwrap()
    };
    assert_eq!(online().len(), CLIENTS as usize);
    assert!(online().iter().all(|(_, count)| *count == 1), "{:?}", online());
    for walker in &mut walkers {
        // For good.
        let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        walker.socket.0.close(Some(frame)).unwrap();
    }
    eventually("no ghosts", || online().is_empty());
}

#[test]
fn a_giver_that_dies_amid_a_move() {
    for (later, step) in
        [Step::Stands, Step::Flipped, Step::Half, Step::Done].into_iter().enumerate()
    {
        is_borne(step, 1, later * 40);
    }
}

#[test]
fn a_taker_that_dies_amid_a_move() {
    for (later, step) in
        [Step::Stands, Step::Flipped, Step::Half, Step::Done].into_iter().enumerate()
    {
        is_borne(step, 2, later * 40);
    }
}
