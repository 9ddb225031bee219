//! From a fixed list of nodes to slots while everybody is served, as docs/operating.md says it: real processes, clients that can
//! resume and clients of the original's kind, a helper of ours and one of .NET that send all the time.

use std::{
    collections::{BTreeMap, HashMap},
    net::{SocketAddr, TcpStream},
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use imcore::{ClientId, ImClient, Message};
use serde_json::{Value, json};
use testkit::{Dotnet, Imserver, PATIENCE, Redis, eventually};
use tungstenite::{Message as Frame, WebSocket, client::IntoClientRequest};

const LIST: [&str; 3] = ["im-0", "im-1", "im-2"];
const SLOTS: usize = 63;
const NAMES: &str = "im.example.com/s{slot}";
/// What the last message says.
const END: u64 = u64::MAX;
const CUSTOMERS: i64 = 36;

/// Those of the original's kind.
fn is_plain(client: i64) -> bool {
    client % 4 == 0
}

/// What everybody shares.
struct Shared {
    /// Where nodes listen that run.
    addresses: Mutex<HashMap<String, SocketAddr>>,
    /// The helper of the business as it is deployed now.
    im: Mutex<ImClient>,
    dotnet: Mutex<Dotnet>,
    /// Whether a node is away.
    restarts: AtomicBool,
    /// Whether the .NET helper sends.
    dotnet_sends: AtomicBool,
    stop: AtomicBool,
    sent: AtomicU64,
    sent_by_dotnet: AtomicU64,
}

impl Shared {
    fn im(&self) -> ImClient {
        self.im.lock().unwrap().clone()
    }
}

/// The last numbers that ours and the .NET helper sent.
type Numbers = (u64, u64);

/// What one client was told.
#[derive(Default)]
struct Account {
    messages: Vec<u64>,
    hellos: Vec<Value>,
    /// The last that may have been sent before it was told to load its state anew.
    told: Numbers,
    codes: Vec<u16>,
    /// The node of each of its connections.
    nodes: Vec<String>,
}

struct Customer {
    shared: Arc<Shared>,
    client: i64,
    since: String,
    c: String,
    account: Arc<Mutex<Account>>,
}

impl Customer {
    /// Connects where its address leads, until it is served.
    fn connect(&mut self) -> WebSocket<TcpStream> {
        loop {
            if let Some(socket) = self.try_connect() {
                return socket;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn try_connect(&mut self) -> Option<WebSocket<TcpStream>> {
        let mut url = self.shared.im().connect_url(self.client, None).ok()?;
        let name = url.trim_start_matches("ws://").split('/').next()?.to_owned();
        let address = *self.shared.addresses.lock().unwrap().get(&name)?;
        let stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        if is_plain(self.client) {
            let (socket, _) = tungstenite::client(&url, stream).ok()?;
            self.account.lock().unwrap().nodes.push(name);
            return Some(socket);
        }
        if !self.c.is_empty() {
            url += &format!("&since={}&c={}", self.since, self.c);
        }
        let mut request = url.into_client_request().unwrap();
        request.headers_mut().insert("Sec-WebSocket-Protocol", "imcore.1".parse().unwrap());
        let (mut socket, _) = tungstenite::client(request, stream).ok()?;
        let Ok(Frame::Text(text)) = socket.read() else { return None };
        let hello = serde_json::from_str::<Value>(&text).unwrap()["hello"].take();
        let is_new = self.since.is_empty();
        if hello["resumed"] == false {
            self.since = hello["p"].as_str().unwrap().into();
        }
        self.c = hello["c"].as_str().unwrap().into();
        let mut account = self.account.lock().unwrap();
        account.nodes.push(name);
        if !is_new && hello["resumed"] == false {
            let last = |sent: &AtomicU64| sent.load(Ordering::Relaxed) + 2;
            account.told = (last(&self.shared.sent), last(&self.shared.sent_by_dotnet));
        }
        account.hellos.push(hello);
        Some(socket)
    }

    /// Listens until the last message has come.
    fn listens(mut self) {
        let mut socket = self.connect();
        loop {
            let text = match socket.read() {
                Ok(Frame::Text(text)) => text,
                Ok(Frame::Close(frame)) => {
                    let code = frame.map_or(0, |frame| frame.code.into());
                    self.account.lock().unwrap().codes.push(code);
                    socket = self.connect();
                    continue;
                }
                Ok(_) => continue,
                Err(_) => {
                    socket = self.connect();
                    continue;
                }
            };
            let frame: Value = serde_json::from_str(&text).unwrap();
            let mut number = frame.as_u64();
            if !is_plain(self.client) {
                self.since = frame["p"].as_str().unwrap().into();
                number = frame["m"].as_u64();
                let _ = socket.send(Frame::Text(json!({ "a": self.since }).to_string().into()));
            }
            let Some(number) = number else { continue };
            self.account.lock().unwrap().messages.push(number);
            if number == END {
                return;
            }
        }
    }
}

/// Who is to get what.
type Sent = HashMap<i64, Vec<u64>>;

fn room() -> Vec<i64> {
    (1..=CUSTOMERS).filter(|client| client % 3 > 0).collect()
}

/// Sends even numbers, as ours.
fn sends(shared: &Shared) -> Sent {
    let mut sent = Sent::new();
    let all: Vec<i64> = (1..=CUSTOMERS).collect();
    let mut number = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        let im = shared.im();
        let one = all[(number / 2) as usize % all.len()];
        let to: Vec<i64> = match number / 2 % 4 {
            0 => {
                im.send(Message::to_channel("room"), &number).unwrap();
                room()
            }
            1 => {
                im.send(Message::to_everyone(), &number).unwrap();
                all.clone()
            }
            _ => {
                im.send(Message::to([one]), &number).unwrap();
                vec![one]
            }
        };
        to.into_iter().for_each(|client| sent.entry(client).or_default().push(number));
        number += 2;
        shared.sent.store(number, Ordering::Relaxed);
        thread::sleep(Duration::from_millis(3));
    }
    sent
}

/// Sends odd numbers, as .NET. What it sends while a node is away that node never hears.
fn sends_as_dotnet(shared: &Shared) -> Sent {
    let mut sent = Sent::new();
    let all: Vec<i64> = (1..=CUSTOMERS).collect();
    let mut number = 1;
    while !shared.stop.load(Ordering::Relaxed) {
        if !shared.dotnet_sends.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(3));
            continue;
        }
        let was_away = shared.restarts.load(Ordering::SeqCst);
        let (one, text) = (all[number as usize % all.len()], number.to_string());
        let mut dotnet = shared.dotnet.lock().unwrap();
        let to: Vec<i64> = match number / 2 % 4 {
            0 => {
                dotnet.send_to_all(0, Some("room"), &text);
                room()
            }
            1 => {
                dotnet.send_to_all(0, None, &text);
                all.clone()
            }
            _ => {
                dotnet.send(0, &[one], &text, false);
                vec![one]
            }
        };
        drop(dotnet);
        if !was_away && !shared.restarts.load(Ordering::SeqCst) {
            to.into_iter().for_each(|client| sent.entry(client).or_default().push(number));
        }
        number += 2;
        shared.sent_by_dotnet.store(number, Ordering::Relaxed);
        thread::sleep(Duration::from_millis(3));
    }
    sent
}

struct Fleet {
    redis: Redis,
    nodes: BTreeMap<String, Imserver>,
    shared: Arc<Shared>,
}

impl Fleet {
    fn start() -> Fleet {
        let redis = Redis::start();
        let im = ImClient::builder().servers(LIST).redis(redis.url()).log(true).build().unwrap();
        let list = LIST.map(str::to_owned).to_vec();
        let shared = Arc::new(Shared {
            addresses: Mutex::default(),
            im: Mutex::new(im),
            dotnet: Mutex::new(Dotnet::new(redis.connect(), "im_v2_ws", list)),
            restarts: AtomicBool::new(false),
            dotnet_sends: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            sent: AtomicU64::new(0),
            sent_by_dotnet: AtomicU64::new(0),
        });
        let mut fleet = Fleet { redis, nodes: BTreeMap::new(), shared };
        LIST.iter().for_each(|name| fleet.node(name, &["--servers", &LIST.join(",")]));
        fleet
    }

    fn node(&mut self, name: &str, args: &[&str]) {
        let url = self.redis.url();
        let given = ["--listen", "127.0.0.1:0", "--redis", &url, "--server", name];
        let node = Imserver::start(&[&given, &["--message-log", "on"][..], args].concat());
        node.wait_ready();
        self.shared.addresses.lock().unwrap().insert(name.to_owned(), node.address());
        self.nodes.insert(name.to_owned(), node);
    }

    fn slots_node(&mut self, name: &str) {
        self.node(name, &["--slots", &SLOTS.to_string(), "--slot-names", NAMES]);
    }

    fn stop(&mut self, name: &str) {
        self.shared.addresses.lock().unwrap().remove(name);
        let mut node = self.nodes.remove(name).unwrap();
        node.signal("TERM");
        assert!(node.ends().success(), "{name}: {}", node.log());
    }

    /// How the command ends, and what it prints.
    fn command(&self, words: &str) -> (Option<i32>, String) {
        let mut command = Command::new(testkit::imserver::program());
        command.args(words.split_whitespace()).env("IMSERVER_REDIS", self.redis.url());
        let output = command.output().unwrap();
        let text = if output.status.success() { output.stdout } else { output.stderr };
        (output.status.code(), String::from_utf8(text).unwrap())
    }

    /// Waits until so many further messages were sent.
    fn goes_on(&self, count: u64) {
        let from = self.shared.sent.load(Ordering::Relaxed);
        eventually("sent", || self.shared.sent.load(Ordering::Relaxed) > from + 2 * count);
    }

    fn settles(&self, nodes: usize) {
        eventually("nothing moves", || {
            let (_, text) = self.command("--slot-table");
            text.ends_with("\nnothing moves\n")
                && text.lines().filter(|line| line.contains("serves")).count() == nodes
        });
    }

    /// Ours, and that of .NET.
    fn gives_helpers_slots(&self) {
        let im = ImClient::builder().slots().redis(self.redis.url()).log(true).build().unwrap();
        *self.shared.im.lock().unwrap() = im;
        let names = Dotnet::slots(SLOTS, NAMES);
        let dotnet = Dotnet::new(self.redis.connect(), "im_v2_ws", names);
        *self.shared.dotnet.lock().unwrap() = dotnet;
        self.shared.dotnet_sends.store(true, Ordering::Relaxed);
    }

    /// Waits until all nodes have noted that they hear what no log has, by which their successors know.
    fn is_known_to_hear_it(&self) {
        let mut redis = self.redis.connect();
        eventually("noted", || {
            LIST.iter().all(|name| {
                let mut get = redis::cmd("HGET");
                get.arg("im_v2_wsLogHead").arg(format!("Plain{name}"));
                let noted: Option<String> = get.query(&mut redis).unwrap();
                noted.is_some_and(|noted| !noted.ends_with(" 0"))
            })
        });
    }

    /// The first table, with what cannot be it.
    fn begins(&self) {
        for (words, why) in [
            ("64 im-0,im-1,im-2", "a multiple of 3, as 63 or 66"),
            ("63 im-0,im-1,im-7", "no node \"im-7\" lives"),
            ("x im-0", "no number of slots"),
        ] {
            let (code, said) = self.command(&format!("--slot-table begin {words}"));
            assert!(code == Some(2) && said.contains(why), "{words}: {said}");
        }
        let (code, said) = self.command("--slot-table begin 63 im-0,im-1,im-2");
        assert_eq!(code, Some(0), "{said}");
        let (code, said) = self.command("--slot-table begin 63 im-0,im-1,im-2");
        assert!(code == Some(2) && said.contains("there is a table already"), "{said}");
    }

    /// All nodes of the list, one after the other; one that comes before they are through gets nothing.
    fn restarts(&mut self) {
        for name in LIST {
            self.shared.restarts.store(true, Ordering::SeqCst);
            self.stop(name);
            self.slots_node(name);
            self.shared.restarts.store(false, Ordering::SeqCst);
            self.goes_on(100);
            if name == "im-1" {
                self.slots_node("early");
                self.nodes["early"].says("gets no slots before these");
                let end =
                    "nothing moves before these are started anew with --slots 63: im-2; then 15\n";
                eventually("it waits", || self.command("--slot-table").1.ends_with(end));
                self.stop("early");
            }
        }
    }
}

#[test]
fn a_list_becomes_slots_and_nobody_moves_before_nodes_join() {
    for hello in becomes_slots(false) {
        assert_eq!(hello["resumed"], true, "{hello}");
    }
}

/// A node that is started anew tells its clients that something may be missing: what the helper has sent is in no log.
#[test]
fn a_list_becomes_slots_while_a_net_helper_sends() {
    for hello in becomes_slots(true) {
        assert!(hello["resumed"] == true || hello["why"] == "epoch", "{hello}");
    }
}

/// What clients that can resume were told when they came back. `early`: whether the .NET helper sends before all nodes
/// serve slots.
fn becomes_slots(early: bool) -> Vec<Value> {
    let mut fleet = Fleet::start();
    let shared = Arc::clone(&fleet.shared);
    let accounts: Vec<(i64, Arc<Mutex<Account>>)> =
        (1..=CUSTOMERS).map(|client| (client, Arc::default())).collect();
    let customer = |(client, account): &(i64, Arc<Mutex<Account>>)| {
        let (shared, account) = (Arc::clone(&shared), Arc::clone(account));
        let (since, c) = Default::default();
        let customer = Customer { shared, client: *client, since, c, account };
        thread::spawn(move || customer.listens())
    };
    let customers: Vec<_> = accounts.iter().map(customer).collect();
    let everybody: Vec<ClientId> = (1..=CUSTOMERS).map(ClientId::from).collect();
    eventually("online", || {
        shared.im().are_online(everybody.clone()).unwrap().iter().all(|is| *is)
    });
    shared.im().join(room(), ["room"]).unwrap();
    let ours = thread::spawn({
        let shared = Arc::clone(&shared);
        move || sends(&shared)
    });
    shared.dotnet_sends.store(early, Ordering::Relaxed);
    let theirs = thread::spawn({
        let shared = Arc::clone(&shared);
        move || sends_as_dotnet(&shared)
    });
    fleet.goes_on(50);
    if early {
        fleet.is_known_to_hear_it();
    }
    fleet.begins();
    fleet.goes_on(50);
    fleet.restarts();
    fleet.settles(3);
    fleet.gives_helpers_slots();
    fleet.goes_on(100);
    accounts.iter().for_each(|(client, account)| has_not_moved(*client, &account.lock().unwrap()));
    fleet.slots_node("im-3");
    fleet.slots_node("im-4");
    fleet.settles(5);
    fleet.goes_on(200);
    shared.stop.store(true, Ordering::Relaxed);
    let (ours, theirs) = (ours.join().unwrap(), theirs.join().unwrap());
    shared.im().send(Message::to(everybody), &END).unwrap();
    customers.into_iter().for_each(|customer| customer.join().unwrap());
    let mut hellos = Vec::new();
    let mut moved = 0;
    for (client, account) in &accounts {
        let mut account = account.lock().unwrap();
        moved += usize::from(account.codes.contains(&4302));
        if !is_plain(*client) {
            has_missed_nothing(*client, &account, &ours[client], &theirs[client]);
            hellos.extend(account.hellos.drain(1..));
        }
    }
    assert!(moved > 0, "nobody has moved to those that joined");
    hellos
}

fn has_not_moved(client: i64, account: &Account) {
    let node = LIST[(client % 3) as usize];
    assert!(account.nodes.iter().all(|name| name == node), "{client}: {:?}", account.nodes);
    assert!(!account.codes.contains(&4302), "{client}: {:?}", account.codes);
}

/// A client that can resume: each message once, but for what it was told of.
fn has_missed_nothing(client: i64, account: &Account, ours: &[u64], theirs: &[u64]) {
    let mut came = account.messages.clone();
    came.sort_unstable();
    let ours = ours.iter().filter(|number| **number > account.told.0);
    let theirs = theirs.iter().filter(|number| **number > account.told.1);
    let missing: Vec<_> =
        ours.chain(theirs).filter(|number| came.binary_search(number).is_err()).collect();
    assert_eq!(missing, Vec::<&u64>::new(), "{client} misses some of {}", came.len());
    let twice: Vec<_> = came.windows(2).filter(|two| two[0] == two[1]).collect();
    assert_eq!(twice, Vec::<&[u64]>::new(), "{client} has some twice");
}
