//! `ImHelper`, the process-wide facade: a test program of its own, as it can be set only once.

use std::sync::{Arc, mpsc::channel};

use imcore::{
    ClientId, ErrorKind, ImClient, ImHelper, Message,
    broker::MemoryBroker,
    server::{Server, ServerConfig},
};
use testkit::{PATIENCE, ws::Client};

#[test]
fn the_facade_does_what_the_client_does() {
    let error = ImHelper::send_message(0, [1], "too early", false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("initialization"), "{error}");
    assert!(ImHelper::client().is_err());

    let broker = Arc::new(MemoryBroker::new());
    let config = ServerConfig { listen: ([127, 0, 0, 1], 0).into(), ..ServerConfig::default() };
    let node = Server::start(config, broker.clone()).unwrap();
    assert!(node.wait_ready(PATIENCE));
    let build = || ImClient::builder().servers([node.server()]).broker(broker.clone()).build();
    ImHelper::initialization(build().unwrap()).unwrap();
    let error = ImHelper::initialization(build().unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "a second initialization must be noticed");

    let (sender, events) = channel();
    let other = sender.clone();
    let bus = ImHelper::event_bus(
        move |client, meta| sender.send((true, client, meta)).unwrap(),
        move |client, meta| other.send((false, client, meta)).unwrap(),
    )
    .unwrap();
    assert!(bus.is_listening());
    let url = ImHelper::prev_connect_server(1, Some("note")).unwrap();
    let mut client = Client::connect(node.local_addr(), &url).unwrap();
    let one = ClientId::from(1);
    assert_eq!(events.recv_timeout(PATIENCE), Ok((true, one.clone(), Some("note".into()))));
    assert!(ImHelper::has_online(1).unwrap());
    assert_eq!(ImHelper::has_online_many([2, 1]).unwrap(), [false, true]);
    assert_eq!(ImHelper::get_client_list_by_online().unwrap(), [ClientId::from(1)]);

    ImHelper::join_chan(1, ["a"]).unwrap();
    ImHelper::join_chan_clients("b", [1, 2]).unwrap();
    assert_eq!(ImHelper::get_chan_online("b").unwrap(), 2);
    assert_eq!(ImHelper::get_chan_list().unwrap().len(), 2);
    assert_eq!(ImHelper::get_chan_list_by_client_id(2).unwrap(), ["b"]);
    ImHelper::clear_chan_client("b").unwrap();
    assert_eq!(ImHelper::get_chan_client_list("b").unwrap(), [ClientId::from(1)]);

    ImHelper::send_message(2, [1], "direct", false).unwrap();
    ImHelper::send_chan_message(2, "b", "channel").unwrap();
    ImHelper::send_broadcast_message("broadcast").unwrap();
    let mut batch = ImHelper::client().unwrap().batch();
    batch.add(Message::to([1]).from(2), "batched").unwrap();
    batch.send().unwrap();
    assert_eq!(client.text(), "\"direct\"");
    assert_eq!(client.text(), "\"channel\"");
    assert_eq!(client.text(), "\"broadcast\"");
    assert_eq!(client.text(), "\"batched\"");
    ImHelper::leave_chan(1, ["a"]).unwrap();
    ImHelper::leave_chan_clients("b", [1]).unwrap();
    assert!(ImHelper::get_chan_list().unwrap().is_empty());

    ImHelper::force_offline(1).unwrap();
    assert_eq!(client.closed(), Some(4001));
    assert_eq!(events.recv_timeout(PATIENCE), Ok((false, one, Some("note".into()))));
}
