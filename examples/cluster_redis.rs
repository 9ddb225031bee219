//! Two nodes on one Redis, and a helper that reaches clients on both.
//!
//! `cargo run --example cluster_redis -- redis://127.0.0.1:6379`
//!
//! Uses the ports 6101 and 6102, and Redis names that start with `im_example`. In production each node is
//! an `imserver` process; here both are in this one, so that a single command shows it all.

use std::{error::Error, net::SocketAddr, sync::Arc, time::Duration};

use imcore::{
    ImClient, Message, Receipt,
    broker::{RedisBroker, RedisOptions},
    server::{Server, ServerConfig},
};

const PREFIX: &str = "im_example";

fn main() -> Result<(), Box<dyn Error>> {
    let redis = std::env::args().nth(1).unwrap_or_else(|| "redis://127.0.0.1:6379".into());
    // One list in one order for every node and every helper: it says who owns whom.
    let servers = ["127.0.0.1:6101", "127.0.0.1:6102"];
    let mut nodes = Vec::new();
    for server in servers {
        let listen: SocketAddr = server.parse()?;
        let servers = servers.map(String::from).to_vec();
        let config = ServerConfig { listen, servers, ..ServerConfig::default() };
        let options = RedisOptions { prefix: PREFIX.into(), ..RedisOptions::default() };
        nodes.push(Server::start(config, Arc::new(RedisBroker::open(&redis, options)?))?);
    }
    for node in &nodes {
        if !node.wait_ready(Duration::from_secs(5)) {
            return Err(format!("no Redis at {redis}; start one or name another").into());
        }
    }
    let im = ImClient::builder().servers(servers).redis(&redis).prefix(PREFIX).build()?;

    let mut clients = Vec::new();
    for id in 1..=4 {
        let url = im.connect_url(id, None)?;
        println!("client {id} belongs to node {}", im.node_of(id)?);
        clients.push(tungstenite::connect(url)?.0);
    }
    im.join([1, 2, 3], ["room"])?;

    im.send(Message::to([2]).from(1).receipt(Receipt::Sent), "to the other node")?;
    println!("2 gets {}", clients[1].read()?);
    println!("1 gets {}", clients[0].read()?);
    im.send(Message::to_channel("room").from(1), "across all nodes")?;
    println!("2 gets {}, 3 gets {}", clients[1].read()?, clients[2].read()?);
    im.send(Message::to_everyone(), "to everybody")?;
    for (index, client) in clients.iter_mut().enumerate() {
        println!("{} gets {}", index + 1, client.read()?);
    }

    // The nodes stop in good order: nothing is left in Redis.
    drop(clients);
    for node in nodes {
        node.shutdown();
    }
    println!("online after the stop: {:?}", im.online_clients()?);
    Ok(())
}
