//! Who comes and goes: one event per connection, and the difference between a device and a user.
//!
//! `cargo run --example presence_events`

use std::{error::Error, sync::Arc, sync::mpsc, time::Duration};

use imcore::{
    ClientId, ImClient,
    broker::MemoryBroker,
    server::{Server, ServerConfig},
};

fn main() -> Result<(), Box<dyn Error>> {
    let broker = Arc::new(MemoryBroker::new());
    let config = ServerConfig { listen: ([127, 0, 0, 1], 0).into(), ..ServerConfig::default() };
    let node = Server::start(config, broker.clone())?;
    assert!(node.wait_ready(Duration::from_secs(5)));
    let im = ImClient::builder().servers([node.server()]).broker(broker).build()?;

    // The callbacks run on a thread of their own; a slow one delays the events behind it.
    let (sender, events) = mpsc::channel();
    let told = sender.clone();
    let bus = im.on_presence(
        move |client, meta| drop(sender.send(("online ", client, meta))),
        move |client, meta| drop(told.send(("offline", client, meta))),
    )?;
    // Whoever reacts to an event knows more than the event says: here, whether the user is still there.
    let next = |step: &str| -> Result<(), Box<dyn Error>> {
        let (what, client, meta): (_, ClientId, Option<String>) =
            events.recv_timeout(Duration::from_secs(10))?;
        let online = im.is_online(&client)?;
        println!("{step:24} {what} client={client} meta={meta:?} user online: {online}");
        Ok(())
    };

    let (mut phone, _) = tungstenite::connect(im.connect_url(42, Some("phone"))?)?;
    next("phone connects")?;
    let (mut tablet, _) = tungstenite::connect(im.connect_url(42, Some("tablet"))?)?;
    next("tablet connects")?;

    // One device leaves with a close frame: the user stays online, and in its channels.
    phone.close(None)?;
    while phone.read().is_ok() {}
    next("phone leaves")?;

    // The business throws the user out: every device is closed with a code that says "stay away".
    im.kick(42)?;
    if let tungstenite::Message::Close(Some(frame)) = tablet.read()? {
        println!("tablet is told           {} {}", u16::from(frame.code), frame.reason);
    }
    next("tablet is thrown out")?;

    bus.stop();
    node.shutdown();
    Ok(())
}
