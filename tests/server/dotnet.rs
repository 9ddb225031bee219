//! Helpers of the .NET original beside nodes that come and go: their servers list has the names of slots.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use imcore::{ClientId, broker::RedisOptions};
use testkit::{Dotnet, Redis, eventually, ws::Client};

use crate::{
    moves::{END, Fleet, SLOTS, Traveller, events_of},
    world::{fresh_prefix, open_redis_with},
};

const NAMES: &str = "im.example.com/s{slot}";

/// Nodes that hear the names of slots, and a .NET helper that has them in its list.
fn fleet() -> (Fleet, Dotnet) {
    let prefix = fresh_prefix();
    let names = format!("{prefix}_ws");
    let options =
        RedisOptions { prefix, log: true, slot_names: NAMES.into(), ..RedisOptions::default() };
    let fleet = Fleet::over(Box::new(move || open_redis_with(options.clone())));
    let list = Dotnet::slots(SLOTS, NAMES);
    (fleet, Dotnet::new(Redis::shared().connect(), &names, list))
}

fn int(client: &ClientId) -> i64 {
    let ClientId::Int(client) = client else { panic!("{client}") };
    *client
}

impl Fleet {
    /// Connects by an address of the .NET helper, as a proxy leads it by the map of slots.
    fn visits(&self, dotnet: &mut Dotnet, client: i64) -> Client {
        let url = dotnet.address(client);
        let slot = url.split("/s").nth(1).unwrap().split('/').next().unwrap().parse().unwrap();
        let node = self.table().owner(slot).unwrap().to_owned();
        let target = url.replacen(&format!("im.example.com/s{slot:02}"), &node, 1);
        let socket = Client::connect(self.addresses.lock().unwrap()[&node], &target).unwrap();
        eventually("online", || self.im.is_online(client).unwrap());
        socket
    }
}

#[test]
fn what_a_net_helper_does_works_by_the_names_of_slots() {
    let (mut fleet, mut dotnet) = fleet();
    fleet.start("node-a");
    fleet.start("node-b");
    fleet.settles(&["node-a", "node-b"]);
    eventually("all are heard", || (0..SLOTS).all(|slot| dotnet.is_heard(slot)));
    let mut clients: Vec<Client> =
        (1..=16).map(|client| fleet.visits(&mut dotnet, client)).collect();
    // To clients of many slots, twice the same text, and with receipts for whoever sends it.
    dotnet.send(1, &(2..=16).collect::<Vec<_>>(), "\"all\"", true);
    for client in &mut clients[1..] {
        assert_eq!(client.json(), "all");
    }
    let mut told: Vec<_> = (2..=16).map(|_| clients[0].json()["to"].to_string()).collect();
    told.sort_by_key(|to| to.trim_matches('"').parse::<u64>().ok());
    let all: Vec<_> = (2..=16).map(|to| to.to_string()).collect();
    assert_eq!(told.iter().map(|to| to.trim_matches('"')).collect::<Vec<_>>(), all);
    // To everybody, and to a channel that it joined others to a moment before.
    for _ in 0..2 {
        dotnet.send_to_all(0, None, "\"again\"");
    }
    dotnet.join("room", 3);
    dotnet.join("room", 4);
    dotnet.send_to_all(0, Some("room"), "\"room\"");
    dotnet.send(0, &(1..=16).collect::<Vec<_>>(), "\"end\"", false);
    for (client, place) in clients.iter_mut().zip(1..) {
        let room: &[&str] = if [3, 4].contains(&place) { &["room"] } else { &[] };
        for text in ["again", "again"].iter().chain(room).chain(&["end"]) {
            assert_eq!(client.json(), *text, "{place}");
        }
    }
    dotnet.kick(7);
    assert_eq!(clients[6].closed(), Some(4001));
    eventually("offline", || !fleet.im.is_online(7).unwrap());
}

#[test]
fn nobody_misses_what_a_net_helper_sends_while_nodes_come_and_go() {
    let (mut fleet, mut dotnet) = fleet();
    fleet.start("node-a");
    fleet.start("node-b");
    fleet.settles(&["node-a", "node-b"]);
    eventually("all are heard", || (0..SLOTS).all(|slot| dotnet.is_heard(slot)));
    let clients: Vec<ClientId> = (1..=32).map(ClientId::from).collect();
    let travellers: Vec<_> =
        clients.iter().map(|client| Traveller::of(&fleet, client.clone())).collect();
    clients.iter().filter(|client| int(client) % 3 > 0).for_each(|c| dotnet.join("room", int(c)));
    let (events, _watch) = events_of(&fleet.im);
    let (stop, sent) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
    let sender = thread::spawn({
        let (stop, number, clients) = (Arc::clone(&stop), Arc::clone(&sent), clients.clone());
        move || sends(&mut dotnet, &clients, &number, &stop)
    });
    let travellers = Traveller::set_out(travellers);
    fleet.comes_and_goes();
    // Nothing of what was handed on is still under way behind these.
    let goes_on = sent.load(Ordering::Relaxed) + 100;
    eventually("sent", || sent.load(Ordering::Relaxed) > goes_on);
    stop.store(true, Ordering::Relaxed);
    let sent = sender.join().unwrap();
    let mut moves = 0;
    for (client, traveller) in clients.iter().zip(travellers) {
        let account = traveller.join().unwrap();
        for hello in &account.hellos {
            assert_eq!(hello["resumed"], true, "{client}: {hello}");
        }
        moves += account.hellos.len();
        let (mut came, expected) = (account.messages, &sent[client]);
        // What is handed on may be overtaken.
        came.sort_unstable();
        let missing: Vec<_> = expected.iter().filter(|number| !came.contains(number)).collect();
        assert_eq!(missing, Vec::<&u64>::new(), "{client} misses some of {}", expected.len());
        assert_eq!(&came, expected, "{client} has some twice");
    }
    assert!(moves >= clients.len(), "{moves} came back");
    assert_eq!(*events.lock().unwrap(), Vec::<String>::new());
}

/// Sends until it is told to stop, in each of its ways; who is to get what.
fn sends(
    dotnet: &mut Dotnet,
    clients: &[ClientId],
    last: &AtomicU64,
    stop: &AtomicBool,
) -> HashMap<ClientId, Vec<u64>> {
    let mut sent: HashMap<ClientId, Vec<u64>> = HashMap::new();
    let all: Vec<i64> = clients.iter().map(int).collect();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let (one, text) = (all[number as usize % all.len()], number.to_string());
        let to: Vec<i64> = match number % 5 {
            0 => {
                dotnet.send_to_all(0, Some("room"), &text);
                all.iter().copied().filter(|client| client % 3 > 0).collect()
            }
            1 => {
                dotnet.send(0, &all, &text, false);
                all.clone()
            }
            2 => {
                dotnet.send_to_all(0, None, &text);
                all.clone()
            }
            _ => {
                dotnet.send(0, &[one], &text, false);
                vec![one]
            }
        };
        to.into_iter().for_each(|client| sent.entry(client.into()).or_default().push(number));
        number += 1;
        last.store(number, Ordering::Relaxed);
        thread::sleep(Duration::from_millis(1));
    }
    dotnet.send(0, &all, &END.to_string(), false);
    all.iter().for_each(|client| sent.entry((*client).into()).or_default().push(END));
    sent
}
