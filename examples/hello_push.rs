//! The smallest whole: one node, one helper, two clients, a message and its receipt.
//!
//! `cargo run --example hello_push`
//!
//! Everything is in this process. With Redis only the broker differs: see `cluster_redis`.

use std::{error::Error, sync::Arc, time::Duration};

use imcore::{
    ImClient, Message, Receipt,
    broker::MemoryBroker,
    server::{Server, ServerConfig},
};
use serde_json::json;

fn main() -> Result<(), Box<dyn Error>> {
    let broker = Arc::new(MemoryBroker::new());
    let config = ServerConfig { listen: ([127, 0, 0, 1], 0).into(), ..ServerConfig::default() };
    let node = Server::start(config, broker.clone())?;
    assert!(node.wait_ready(Duration::from_secs(5)));
    let im = ImClient::builder().servers([node.server()]).broker(broker).build()?;

    // What a web API does for a user who has logged in: it answers with this address.
    let url = im.connect_url(2, Some("Bob's browser"))?;
    println!("Bob connects to {}...", &url[..url.len().min(50)]);
    // What the browser does with it.
    let (mut bob, _) = tungstenite::connect(url)?;
    let (mut alice, _) = tungstenite::connect(im.connect_url(1, None)?)?;

    // Alice (1) writes to Bob (2) and to somebody who is not there (3), and wants receipts.
    im.send(Message::to([2, 3]).from(1).receipt(Receipt::Sent), &json!({ "text": "hello" }))?;
    println!("Bob gets   {}", bob.read()?);
    println!("Alice gets {}", alice.read()?);
    println!("Alice gets {}", alice.read()?);

    // The token was good once.
    let used = im.connect_url(2, None)?;
    let (second, _) = tungstenite::connect(&used)?;
    let refusal = tungstenite::connect(&used).expect_err("a used token is refused");
    println!("again with a used token: {refusal}");

    drop((alice, bob, second));
    node.shutdown();
    Ok(())
}
