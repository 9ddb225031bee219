//! Channels: join, talk, leave, and what remains when somebody goes.
//!
//! `cargo run --example channels`

use std::{error::Error, sync::Arc, thread, time::Duration};

use imcore::{
    ImClient, Message,
    broker::MemoryBroker,
    server::{Server, ServerConfig},
};

fn main() -> Result<(), Box<dyn Error>> {
    let broker = Arc::new(MemoryBroker::new());
    let config = ServerConfig { listen: ([127, 0, 0, 1], 0).into(), ..ServerConfig::default() };
    let node = Server::start(config, broker.clone())?;
    assert!(node.wait_ready(Duration::from_secs(5)));
    let im = ImClient::builder().servers([node.server()]).broker(broker).build()?;
    let connect = |client: i64| -> Result<_, Box<dyn Error>> {
        Ok(tungstenite::connect(im.connect_url(client, None)?)?.0)
    };
    let mut clients = [connect(1)?, connect(2)?, connect(3)?];

    // Who may join is the business's decision: it is the one that calls.
    im.join([1, 2, 3], ["lobby"])?;
    im.join([1], ["staff"])?;
    let mut all = im.channels()?;
    all.sort();
    println!("lobby has {} members; all channels: {all:?}", im.channel_size("lobby")?);

    // A join counts for every message sent after it, without any wait.
    im.send(Message::to_channel("lobby").from(1), "hi from 1")?;
    im.send(Message::to_everyone(), "to everybody")?;
    for (index, client) in clients.iter_mut().enumerate() {
        let id = index + 1;
        // The sender has one connection and gets no echo of its own message.
        if id != 1 {
            println!("{id} gets {}", client.read()?);
        }
        println!("{id} gets {}", client.read()?);
    }

    im.leave([2], ["lobby"])?;
    im.send(Message::to_channel("lobby"), "2 does not see this")?;
    im.send(Message::to([2]), "but this")?;
    println!("2 gets {}", clients[1].read()?);

    // A client that has gone is taken out of its channels.
    let [one, two, three] = clients;
    drop(three);
    while im.channel_size("lobby")? > 1 {
        thread::sleep(Duration::from_millis(10));
    }
    println!("3 has gone; in the lobby: {:?}", im.channel_members("lobby")?);
    println!("1 is in {} channels", im.channels_of(1)?.len());

    drop((one, two));
    node.shutdown();
    Ok(())
}
