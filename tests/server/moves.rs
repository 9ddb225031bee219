//! What clients that can resume are told and given while their slots move: judged by the promise alone, the sender's account
//! against each client's.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use imcore::{
    ClientId, IdKind, ImClient, Message, Receipt, SlotTable, broker::Broker, server::ServerHandle,
};
use serde_json::{Value, json};
use testkit::{eventually, ws::Client};
use tungstenite::Message as Frame;

use crate::{
    fleet::{self, Open},
    world::Backend,
};

pub(crate) const SLOTS: usize = 16;

/// What the last message to everybody says.
pub(crate) const END: u64 = u64::MAX;

/// Where nodes listen, by name.
pub(crate) type Addresses = Arc<Mutex<HashMap<String, SocketAddr>>>;

pub(crate) struct Fleet {
    open: Open,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) im: ImClient,
    pub(crate) nodes: HashMap<String, ServerHandle>,
    pub(crate) addresses: Addresses,
    grace: Duration,
}

fn helper(open: &Open) -> ImClient {
    ImClient::builder().slots().broker(open()).id_kind(IdKind::Text).build().unwrap()
}

/// Numbers, and texts that hold what separates things elsewhere.
fn one_of_each_kind(number: i64) -> ClientId {
    match number % 2 {
        0 => number.into(),
        _ => format!("u,{number}:李").parse().unwrap(),
    }
}

impl Fleet {
    fn new(backend: Backend) -> Self {
        Fleet::over(fleet::opener(backend, true))
    }

    pub(crate) fn over(open: Open) -> Self {
        let im = helper(&open);
        let (nodes, addresses, grace) = Default::default();
        Fleet { broker: open(), im, open, nodes, addresses, grace }
    }

    pub(crate) fn start(&mut self, name: &str) {
        let node = fleet::start(name, SLOTS, (self.open)(), |config| {
            config.grace = self.grace;
            config.ids = Some(IdKind::Text);
            config.limits.sweep = Duration::from_millis(200);
        });
        self.addresses.lock().unwrap().insert(name.into(), node.local_addr());
        self.nodes.insert(name.into(), node);
    }

    /// One more node beside the first two, and then one less.
    pub(crate) fn comes_and_goes(&mut self) {
        self.start("node-c");
        self.settles(&["node-a", "node-b", "node-c"]);
        self.drain("node-b");
        self.settles(&["node-a", "node-c"]);
    }

    /// Gives away what it has, and ends.
    pub(crate) fn drain(&mut self, name: &str) {
        let ended = self.nodes.remove(name).unwrap().shutdown();
        assert!(ended.stuck.is_empty() && ended.reported, "{ended:?}");
    }

    pub(crate) fn table(&self) -> SlotTable {
        self.broker.slot_table().unwrap().unwrap_or_default()
    }

    /// Waits until each of these owns its share, and nothing is on its way.
    pub(crate) fn settles(&self, names: &[&str]) {
        eventually("shares", || {
            let table = self.table();
            let owned: Vec<_> = names.iter().map(|name| table.slots_of(name).count()).collect();
            owned.iter().sum::<usize>() == SLOTS
                && owned
                    .iter()
                    .all(|count| (SLOTS / names.len()..=SLOTS / names.len() + 1).contains(count))
                && (0..SLOTS).all(|slot| table.moving_from(slot).is_none())
        });
    }
}

/// A client that goes wherever it is told to, and writes down what it is told.
pub(crate) struct Traveller {
    im: ImClient,
    addresses: Addresses,
    client: ClientId,
    /// What it had last, and proves its connection with.
    since: String,
    c: String,
    account: Account,
}

#[derive(Default, Debug)]
pub(crate) struct Account {
    pub(crate) messages: Vec<u64>,
    /// Hellos of its connections after the first.
    pub(crate) hellos: Vec<Value>,
    pub(crate) receipts: Vec<Value>,
}

impl Traveller {
    pub(crate) fn of(fleet: &Fleet, client: ClientId) -> (Self, Client) {
        let mut this = Traveller {
            im: helper(&fleet.open),
            addresses: Arc::clone(&fleet.addresses),
            client: client.clone(),
            since: String::new(),
            c: String::new(),
            account: Account::default(),
        };
        let socket = this.connect();
        this.account.hellos.clear();
        eventually("online", || this.im.is_online(&client).unwrap());
        (this, socket)
    }

    /// Connects where its slot is, as often as it is sent on before it is greeted.
    pub(crate) fn connect(&mut self) -> Client {
        loop {
            let mut url = self.im.connect_url(&self.client, None).unwrap();
            let name = url.trim_start_matches("ws://").split('/').next().unwrap().to_owned();
            if !self.c.is_empty() {
                url += &format!("&since={}&c={}", self.since, self.c);
            }
            let address = self.addresses.lock().unwrap()[&name];
            let mut socket = match Client::speak(address, &url, "imcore.1") {
                Ok(socket) => socket,
                // Its slot moves at this moment.
                Err(status) => {
                    assert_eq!(status, 421, "{url}");
                    continue;
                }
            };
            match socket.0.read() {
                Ok(Frame::Text(text)) => {
                    let mut frame: Value = serde_json::from_str(&text).unwrap();
                    let hello = frame["hello"].take();
                    if self.since.is_empty() || hello["resumed"] == false {
                        self.since = hello["p"].as_str().unwrap().into();
                    }
                    self.c = hello["c"].as_str().unwrap().into();
                    self.account.hellos.push(hello);
                    return socket;
                }
                Ok(Frame::Close(Some(close))) => assert_eq!(u16::from(close.code), 4302),
                other => panic!("{other:?}"),
            }
        }
    }

    /// All of them, at the same time: half of them acknowledge, and a quarter sleep now and then.
    pub(crate) fn set_out(all: Vec<(Traveller, Client)>) -> Vec<JoinHandle<Account>> {
        let all = all.into_iter().zip(0..).map(|((traveller, socket), place)| {
            thread::spawn(move || traveller.travel(socket, place % 2 == 0, place % 4 == 1))
        });
        all.collect()
    }

    /// Until the last message has come; `sleeps` now and then.
    pub(crate) fn travel(
        mut self,
        mut socket: Client,
        acknowledges: bool,
        sleeps: bool,
    ) -> Account {
        loop {
            match socket.0.read() {
                Ok(Frame::Text(text)) => {
                    let mut frame: Value = serde_json::from_str(&text).unwrap();
                    self.since = frame["p"].as_str().unwrap().into();
                    if frame.get("r").is_some() {
                        self.account.receipts.push(frame["r"].take());
                    }
                    let Some(number) = frame["m"].as_u64() else { continue };
                    self.account.messages.push(number);
                    if number == END {
                        return self.account;
                    }
                    if acknowledges {
                        let word = json!({ "a": self.since }).to_string();
                        let _ = socket.0.send(Frame::Text(word.into()));
                    }
                    if sleeps && number % 16 == 5 {
                        // Its socket is gone without a word, and it comes back soon.
                        drop(socket);
                        thread::sleep(Duration::from_millis(number % 150));
                        socket = self.connect();
                    }
                }
                Ok(Frame::Close(Some(close))) => {
                    assert_eq!(u16::from(close.code), 4302, "{}", close.reason);
                    socket = self.connect();
                }
                Ok(_) => {}
                Err(error) => panic!("{}: {error}", self.client),
            }
        }
    }
}

/// Sends all the time, and knows who is to get what.
struct Sender {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<HashMap<ClientId, Vec<u64>>>,
}

impl Sender {
    fn to(fleet: &Fleet, clients: Vec<ClientId>) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let im = helper(&fleet.open);
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut sent: HashMap<ClientId, Vec<u64>> = HashMap::new();
            let mut number = 0;
            while !stopped.load(Ordering::Relaxed) {
                let one = &clients[number as usize % clients.len()];
                let to: Vec<ClientId> = match number % 5 {
                    0 => {
                        im.send(Message::to_channel("room"), &number).unwrap();
                        clients.iter().filter(|client| is_in_room(client)).cloned().collect()
                    }
                    1 => {
                        im.send(Message::to(clients.clone()), &number).unwrap();
                        clients.clone()
                    }
                    2 => {
                        im.send(Message::to_everyone(), &number).unwrap();
                        clients.clone()
                    }
                    _ => {
                        im.send(Message::to([one]), &number).unwrap();
                        vec![one.clone()]
                    }
                };
                to.into_iter().for_each(|client| sent.entry(client).or_default().push(number));
                number += 1;
                thread::sleep(Duration::from_millis(1));
            }
            im.send(Message::to(clients.clone()), &END).unwrap();
            clients.iter().for_each(|client| sent.entry(client.clone()).or_default().push(END));
            sent
        });
        Sender { stop, thread }
    }

    fn stop(self) -> HashMap<ClientId, Vec<u64>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

pub(crate) fn is_in_room(client: &ClientId) -> bool {
    !matches!(client, ClientId::Int(id) if *id % 3 == 0)
}

/// Presence events since it was made.
pub(crate) fn events_of(im: &ImClient) -> (Arc<Mutex<Vec<String>>>, imcore::PresenceWatch) {
    let seen = Arc::<Mutex<Vec<String>>>::default();
    let note = |what: &'static str| {
        let seen = Arc::clone(&seen);
        move |client: ClientId, _: Option<String>| {
            seen.lock().unwrap().push(format!("{what} {client}"));
        }
    };
    let watch = im.on_presence(note("online"), note("offline")).unwrap();
    eventually("listening", || watch.is_listening());
    (seen, watch)
}

behaviour_in_the_clear!(nobody_misses_anything_while_nodes_come_and_go, |backend| {
    let mut fleet = Fleet::new(backend);
    fleet.start("node-a");
    fleet.start("node-b");
    fleet.settles(&["node-a", "node-b"]);
    let clients: Vec<ClientId> = (1..=32).map(one_of_each_kind).collect();
    let travellers: Vec<_> =
        clients.iter().map(|client| Traveller::of(&fleet, client.clone())).collect();
    let members = clients.iter().filter(|client| is_in_room(client));
    fleet.im.join(members.collect::<Vec<_>>(), ["room"]).unwrap();
    let (events, _watch) = events_of(&fleet.im);
    let sender = Sender::to(&fleet, clients.clone());
    let travellers = Traveller::set_out(travellers);
    fleet.comes_and_goes();
    let sent = sender.stop();
    let mut moves = 0;
    for (client, traveller) in clients.iter().zip(travellers) {
        let Account { messages, hellos, .. } = traveller.join().unwrap();
        for hello in &hellos {
            assert_eq!(hello["resumed"], true, "{client}: {hello}");
            assert_eq!(hello["channels"], true, "{client}: {hello}");
        }
        let expected = &sent[client];
        let missing: Vec<_> = expected.iter().filter(|number| !messages.contains(number)).collect();
        assert_eq!(missing, Vec::<&u64>::new(), "{client} misses some of {}", expected.len());
        assert_eq!(&messages, expected, "{client} has some twice, or out of order");
        moves += hellos.len();
    }
    assert!(moves >= clients.len(), "{moves} came back");
    assert_eq!(*events.lock().unwrap(), Vec::<String>::new());
});

impl Fleet {
    /// A client of the original's kind.
    pub(crate) fn connect(&self, client: ClientId) -> Client {
        loop {
            let url = self.im.connect_url(&client, None).unwrap();
            let name = url.trim_start_matches("ws://").split('/').next().unwrap();
            let address = self.addresses.lock().unwrap()[name];
            match Client::connect(address, &url) {
                Ok(socket) => return socket,
                Err(status) => assert_eq!(status, 421, "{url}"),
            }
        }
    }
}

// Who is away at that moment, who is of the original's kind and has a grace, and who waits to hear of its messages.
behaviour_in_the_clear!(who_is_away_moves_too, |backend| {
    let mut fleet = Fleet::new(backend);
    fleet.grace = Duration::from_secs(60);
    fleet.start("node-a");
    fleet.settles(&["node-a"]);
    let clients: Vec<ClientId> = (1..=16).map(one_of_each_kind).collect();
    let away = clients.iter().map(|client| Traveller::of(&fleet, client.clone()).0);
    let away: Vec<Traveller> = away.collect();
    let others: Vec<ClientId> = (17..=32).map(one_of_each_kind).collect();
    let mut sockets: Vec<_> = others.iter().map(|client| fleet.connect(client.clone())).collect();
    eventually("online", || fleet.im.are_online(others.clone()).unwrap().iter().all(|is| *is));
    let (sender, socket) = Traveller::of(&fleet, 1001.into());
    let sender = thread::spawn(move || sender.travel(socket, true, false));
    let (events, _watch) = events_of(&fleet.im);
    let send = |fleet: &Fleet, number: u64| {
        let message = Message::to(clients.clone()).from(1001).receipt(Receipt::Sent);
        fleet.im.send(message.id(number.to_string()), &number).unwrap();
    };
    send(&fleet, 1);
    fleet.start("node-b");
    fleet.settles(&["node-a", "node-b"]);
    send(&fleet, 2);
    for mut traveller in away {
        let mut socket = traveller.connect();
        let hello = traveller.account.hellos.last().unwrap();
        assert_eq!((&hello["resumed"], &hello["missed"]), (&json!(true), &json!(2)), "{hello}");
        assert_eq!((&socket.json()["m"], &socket.json()["m"]), (&json!(1), &json!(2)));
    }
    for (client, socket) in others.iter().zip(&mut sockets) {
        if fleet.im.node_of(client.clone()).unwrap() == "node-b" {
            assert_eq!(socket.closed(), Some(4302), "{client}");
            *socket = fleet.connect(client.clone());
        }
    }
    fleet.im.send(Message::to(others), "here").unwrap();
    sockets.iter_mut().for_each(|socket| assert_eq!(socket.json(), "here"));
    eventually("nobody is waited for", || {
        fleet.nodes.values().map(|node| node.vitals().stats().parked).sum::<u64>() == 16
    });
    fleet.im.send(Message::to([1001]), &END).unwrap();
    let told = sender.join().unwrap().receipts;
    let mut told: Vec<_> =
        told.iter().map(|r| format!("{} {} {}", r["id"], r["to"], r["status"])).collect();
    told.sort_unstable();
    let all = clients.iter().flat_map(|to| [1, 2].map(|id| format!("\"{id}\" \"{to}\" \"sent\"")));
    let mut all: Vec<_> = all.collect();
    all.sort_unstable();
    assert_eq!(told, all);
    assert_eq!(*events.lock().unwrap(), Vec::<String>::new());
});
