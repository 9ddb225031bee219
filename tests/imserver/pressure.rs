//! Nodes under load: restarted one after the other, and out of descriptors.

use std::{
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use imcore::ImClient;
use testkit::{Imserver, PATIENCE, Redis, eventually, ws::Client};
use tungstenite::{Message, WebSocket, client::IntoClientRequest};

use crate::cluster::Cluster;

const CLIENTS: i64 = 60;
const END: &str = "\"end\"";

/// What one client saw: numbers of messages, and why its connections ended.
#[derive(Default)]
struct Seen {
    numbers: Vec<u64>,
    codes: Vec<u16>,
}

fn try_connect(im: &ImClient, id: i64, address: SocketAddr) -> Option<WebSocket<TcpStream>> {
    let url = im.connect_url(id, None).ok()?;
    let stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    tungstenite::client(url.into_client_request().ok()?, stream).ok().map(|(socket, _)| socket)
}

/// A client as an app would write it: reconnects with a fresh address until it is told to end.
fn live(im: &ImClient, id: i64, addresses: &Mutex<Vec<SocketAddr>>) -> Seen {
    let mut seen = Seen::default();
    loop {
        let address = {
            let addresses = addresses.lock().unwrap();
            addresses[id as usize % addresses.len()]
        };
        let Some(mut socket) = try_connect(im, id, address) else {
            thread::yield_now();
            continue;
        };
        loop {
            match socket.read() {
                Ok(Message::Text(text)) if text == END => return seen,
                Ok(Message::Text(text)) => seen.numbers.push(text.parse().unwrap()),
                Ok(Message::Close(frame)) => seen.codes.extend(frame.map(|f| u16::from(f.code))),
                Ok(_) => {}
                Err(_) => break,
            }
        }
    }
}

/// Sends counted messages to everybody until told to stop.
fn send_all_the_time(im: &ImClient, stop: &AtomicBool) {
    for number in 1u64.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        im.send(imcore::Message::to(1..=CLIENTS), &number).unwrap();
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_rolling_restart_under_load_leaves_everybody_connected() {
    let mut cluster = Cluster::new(3, &["--drain", "1"]);
    let addresses: Vec<_> = cluster.nodes.iter().map(Imserver::address).collect();
    let addresses = Arc::new(Mutex::new(addresses));
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (1..=CLIENTS)
        .map(|id| {
            let (im, addresses) = (cluster.im.clone(), Arc::clone(&addresses));
            thread::spawn(move || live(&im, id, &addresses))
        })
        .collect();
    let im = cluster.im.clone();
    let online = || im.are_online(1..=CLIENTS).unwrap().iter().all(|online| *online);
    eventually("all online", online);
    let sender = thread::spawn({
        let (im, stop) = (im.clone(), Arc::clone(&stop));
        move || send_all_the_time(&im, &stop)
    });
    for index in 0..3 {
        cluster.nodes[index].signal("TERM");
        assert_eq!(cluster.nodes[index].ends().code(), Some(0));
        cluster.nodes[index] = cluster.start(index);
        addresses.lock().unwrap()[index] = cluster.nodes[index].address();
        eventually("all online again", online);
    }
    stop.store(true, Ordering::Relaxed);
    sender.join().unwrap();
    eventually("everybody hears the end", || {
        im.send(imcore::Message::to(1..=CLIENTS), "end").unwrap();
        clients.iter().all(|client| client.is_finished())
    });
    for client in clients {
        let Seen { numbers, codes } = client.join().unwrap();
        assert!(numbers.is_sorted_by(|a, b| a < b), "doubled or out of order: {numbers:?}");
        assert!(numbers.len() > 1);
        assert_eq!(codes, [1012], "each is told once to come again");
    }
    eventually("nobody is left online", || im.online_clients().unwrap().is_empty());
}

/// The caps fit what the system allows, so that it never comes to an `accept` that fails.
#[test]
fn a_node_with_few_descriptors_serves_on() {
    let redis = Redis::start();
    let args = ["--listen", "127.0.0.1:0", "--server", "n", "--redis", &redis.url()];
    let node = Imserver::start_with_descriptors(300, &args);
    let address = node.address();
    let answer = || Client::connect(address, "ws://x/ws?token=none").err();
    eventually("ready", || answer() == Some(401));
    let im = ImClient::builder().servers(["n"]).redis(redis.url()).build().unwrap();
    let connect = |id: i64| {
        let url = im.connect_url(id, None).unwrap();
        Client::connect(address, &url)
    };
    let mut bystander = connect(1).unwrap();
    // The oldest of them give way to those who ask for something.
    let idle: Vec<_> = (0..400).map(|_| TcpStream::connect(address).unwrap()).collect();
    let mut newcomer = connect(2).unwrap();
    im.send(imcore::Message::to([1, 2]), "served").unwrap();
    assert_eq!((bystander.text().as_str(), newcomer.text().as_str()), ("\"served\"", "\"served\""));
    // Up to the cap, which is told.
    let mut others = Vec::new();
    let refused = (3..400).find_map(|id| match connect(id) {
        Ok(client) => {
            others.push(client);
            None
        }
        Err(status) => Some(status),
    });
    assert_eq!(refused, Some(503));
    assert!(!node.log().contains("cannot accept"), "{}", node.log());
    others.clear();
    eventually("room again", || connect(3).is_ok());
    drop(idle);
}
