//! What must hold behind every proxy.

use std::{net::Ipv4Addr, thread, time::Duration};

use imcore::{Message, Receipt};
use testkit::eventually;

use crate::{
    edge::{BY_HOST, BY_PATH, Edge, NAMES, node_of},
    proxy::Kind,
    wss::{Client, head, send, status},
};

/// Handshakes under way that a node allows one address, see `Limits::handshakes_per_address`.
const PER_ADDRESS: usize = 512;

/// Two addresses that differ from the proxy's own.
const CROWD: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const SINGLE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// Identity, listen address and public URL: three settings, three values.
pub fn three_names_for_one_node(kind: Kind) {
    let edge = Edge::start(kind);
    let im = edge.helper(BY_PATH);
    for client in 1..=6 {
        let index = node_of(client);
        let (name, listen) = (NAMES[index], edge.nodes[index].address());
        let url = im.connect_url(client, None).unwrap();
        let public = format!("wss://im.example.com/{index}/ws");
        assert!(url.starts_with(&format!("{public}?token=")), "{url}");
        assert!(!url.contains(name) && !url.contains(&listen.to_string()), "{url}");
        edge.nodes[index].says(&format!("node {name} listens on {listen}, path /ws"));
        edge.nodes[index].says(&format!("clients connect to {public}"));
        let mut socket = edge.connect(&url).unwrap();
        im.send(Message::to([client]), "found").unwrap();
        assert_eq!(socket.text(), "\"found\"");
    }
    // A name for each node does as well.
    let im = edge.helper(BY_HOST);
    for client in 11..=13 {
        let url = im.connect_url(client, None).unwrap();
        let index = node_of(client);
        assert!(url.starts_with(&format!("wss://node-{index}.im.example.com/ws?token=")), "{url}");
        let mut socket = edge.connect(&url).unwrap();
        im.send(Message::to([client]), "by host").unwrap();
        assert_eq!(socket.text(), "\"by host\"");
    }
}

/// Messages, receipts, rooms and broadcasts, also large ones and from node to node.
pub fn everything_arrives(kind: Kind) {
    let edge = Edge::start(kind);
    let im = edge.helper(BY_PATH);
    let mut clients: Vec<Client> =
        (1..=6).map(|id| edge.connect(&im.connect_url(id, Some("元")).unwrap()).unwrap()).collect();
    im.send(Message::to([2]).from(1).receipt(Receipt::Sent), "hi").unwrap();
    assert_eq!(clients[1].text(), "\"hi\"");
    let receipt = clients[0].text();
    assert!(receipt.contains("\"to\":2") && receipt.contains("\"status\":\"sent\""), "{receipt}");
    let large = "元".repeat(100_000);
    im.join([1, 2, 3], ["room"]).unwrap();
    im.send(Message::to_channel("room"), &large).unwrap();
    im.send(Message::to_everyone(), "to all").unwrap();
    for (index, client) in clients.iter_mut().enumerate() {
        if index < 3 {
            assert_eq!(client.text(), format!("\"{large}\""));
        }
        assert_eq!(client.text(), "\"to all\"");
    }
}

/// A client's page sees the node's words, not the proxy's.
pub fn refusals_and_ends_pass_through(kind: Kind) {
    let edge = Edge::start(kind);
    let im = edge.helper(BY_PATH);
    let url = |client: i64| im.connect_url(client, None).unwrap();
    let refused = |url: &str| edge.connect(url).err();
    // 2 belongs to another node than 1.
    let (wrong, right) = (format!("/{}/", node_of(2)), format!("/{}/", node_of(1)));
    assert_ne!(wrong, right);
    assert_eq!(refused(&url(1).replace(&right, &wrong)), Some(421));
    assert_eq!(refused("wss://im.example.com/0/ws"), Some(401), "no token");
    let used = url(1);
    let mut kicked = edge.connect(&used).unwrap();
    assert_eq!(refused(&used), Some(401));
    for nowhere in ["/ws?token=x", "/3/ws?token=x", "/00/ws?token=x", "/0/wsx?token=x", "/"] {
        assert_eq!(refused(&format!("wss://im.example.com{nowhere}")), Some(404), "{nowhere}");
    }
    im.kick(1).unwrap();
    assert_eq!(kicked.closed(), 4001);
    // A node stops: its clients are told, the others notice nothing.
    let (mut leaves, mut stays) = (edge.connect(&url(2)).unwrap(), edge.connect(&url(1)).unwrap());
    edge.nodes[node_of(2)].signal("TERM");
    assert_eq!(leaves.closed(), 1001);
    eventually("the node is gone", || matches!(refused(&url(2)), Some(502 | 503)));
    im.send(Message::to([1]), "still here").unwrap();
    assert_eq!(stays.text(), "\"still here\"");
    // Lines are written when connections end, and about those that failed.
    drop((kicked, leaves, stays));
    eventually("it logs", || edge.proxy.logs().contains("/ws"));
    assert!(!edge.proxy.logs().contains("token="), "connect tokens are secrets");
}

/// The node counts handshakes by the client's address, not by the proxy's, and not by what a client says.
pub fn the_client_s_address_is_seen(kind: Kind) {
    let edge = Edge::start(kind);
    let url = "wss://im.example.com/0/ws?token=none";
    let ask = |source| {
        let mut stream = edge.dial(source, url);
        send(&mut stream, head(url).as_bytes());
        status(&mut stream)
    };
    assert_eq!(ask(SINGLE), 401);
    edge.nodes[0].says("address=127.0.0.3 refused: 401");
    // More handshakes than one address may have under way: Redis holds their tickets back.
    let mut crowd: Vec<_> = (0..PER_ADDRESS + 10).map(|_| edge.dial(CROWD, url)).collect();
    for stream in &mut crowd {
        // Also the TLS handshake is over, and the time below is for requests alone.
        stream.conn.complete_io(&mut stream.sock).unwrap();
    }
    let pause = || redis::cmd("CLIENT").arg("PAUSE").arg(2000).exec(&mut edge.redis.connect());
    pause().unwrap();
    for stream in &mut crowd {
        send(stream, head(url).as_bytes());
    }
    edge.nodes[0].says("address=127.0.0.2 refused: 429");
    assert_eq!(ask(SINGLE), 401, "another address is not concerned");
    let answers: Vec<_> = crowd.iter_mut().map(status).collect();
    let busy = answers.iter().filter(|status| **status == 429).count();
    let known = answers.iter().all(|status| matches!(status, 429 | 401 | 503));
    assert!((1..=10).contains(&busy) && known, "{busy} times 429 in {answers:?}");
    let log = edge.nodes[0].log();
    assert!(!log.contains("address=6.6.6.6"), "a client's own word is believed");
}

/// Longer than the time-outs in the files: the node's pings keep the connection up.
pub fn a_silent_connection_outlives_every_time_out(kind: Kind) {
    let edge = Edge::start(kind);
    let im = edge.helper(BY_PATH);
    let mut client = edge.connect(&im.connect_url(1, None).unwrap()).unwrap();
    client.be_patient(Duration::from_secs(120));
    let later = thread::spawn(move || {
        thread::sleep(Duration::from_secs(100));
        im.send(Message::to([1]), "still here").unwrap();
    });
    // Pings are answered while this waits, as a browser does by itself.
    assert_eq!(client.text(), "\"still here\"");
    later.join().unwrap();
}
