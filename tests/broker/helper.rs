//! What `ImClient` refuses before anything is asked of the broker, the addresses it makes, and its event bus.

use std::{
    sync::{
        Arc,
        mpsc::{channel, sync_channel},
    },
    time::Duration,
};

use imcore::{
    ClientId, ErrorKind, IdKind, ImClient, ImClientBuilder, Message,
    broker::{Broker, MemoryBroker, NodeBroker, PresenceEvent},
};
use testkit::PATIENCE;

use crate::world::{closed, opened};

const GUID: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";

fn builder() -> ImClientBuilder {
    ImClient::builder().servers(["a", "b"])
}

/// Each call that takes a client, with its name.
fn refused(im: &ImClient, client: ClientId) -> Vec<&'static str> {
    let calls: [(&'static str, imcore::Result<()>); 7] = [
        ("connect", im.connect_url(&client, None).map(drop)),
        ("join", im.join([&client], ["room"])),
        ("join many", im.join([&client], ["room"])),
        ("receiver", im.send(Message::to([&client]), "x").map(drop)),
        ("sender", im.send(Message::to([good(im)]).from(&client), "x").map(drop)),
        ("sender to a channel", im.send(Message::to_channel("room").from(&client), "x").map(drop)),
        ("kick", im.kick(client)),
    ];
    let refused = calls.into_iter().filter_map(|(name, result)| {
        let error = result.err()?;
        assert_eq!(error.kind(), ErrorKind::Argument, "{name}: {error}");
        Some(name)
    });
    refused.collect()
}

/// A client as this deployment has them.
fn good(im: &ImClient) -> ClientId {
    match im.id_kind() {
        IdKind::Guid => GUID.parse().unwrap(),
        _ => 7.into(),
    }
}

#[test]
fn a_deployment_has_one_kind_of_id() {
    let guid: ClientId = GUID.parse().unwrap();
    let broker: Arc<dyn Broker> = Arc::new(MemoryBroker::new());
    let of = |kind| builder().broker(Arc::clone(&broker)).id_kind(kind).build().unwrap();
    let all = ["connect", "join", "join many", "receiver", "sender", "sender to a channel", "kick"];
    for (kind, own, other) in
        [(IdKind::Int, 7.into(), guid.clone()), (IdKind::Guid, guid.clone(), 7.into())]
    {
        let im = of(kind);
        assert_eq!(refused(&im, own), [""; 0], "{kind}");
        assert_eq!(refused(&im, other), all, "{kind}");
    }
    for client in [7.into(), guid] {
        assert_eq!(refused(&of(IdKind::Any), client), [""; 0]);
    }
    let im = builder().broker(broker).build().unwrap();
    assert_eq!(im.id_kind(), IdKind::Any, "no .NET process is within this one");
}

#[cfg(feature = "redis")]
#[test]
fn the_prefix_says_which_kind() {
    // Connects to nothing.
    for (prefix, kind) in [("im_v2", IdKind::Int), ("wsim", IdKind::Guid), ("own", IdKind::Any)] {
        let im = builder().redis("redis://127.0.0.1:1").prefix(prefix).build().unwrap();
        assert_eq!(im.id_kind(), kind);
    }
    let im = builder().redis("redis://127.0.0.1:1").build().unwrap();
    assert_eq!(im.id_kind(), IdKind::Int);
}

#[test]
fn nobody_connects_or_joins_as_the_system() {
    let im = builder().broker(Arc::new(MemoryBroker::new())).build().unwrap();
    for system in [ClientId::Int(0), ClientId::Guid([0; 16])] {
        assert_eq!(refused(&im, system), ["connect", "join", "join many"]);
    }
    let error = im.join([5, 0, 6], ["room"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Argument);
    assert_eq!(im.channel_size("room").unwrap(), 0, "nothing of a refused call is done");
}

#[test]
fn a_message_to_nobody_is_refused() {
    let im = builder().broker(Arc::new(MemoryBroker::new())).build().unwrap();
    let error = im.send(Message::to([0i64; 0]).from(1), "x").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Argument);
    assert!(error.to_string().contains("receivers"), "{error}");
}

#[test]
fn a_token_is_joined_to_whatever_query_the_address_has() {
    let address = |template: &str| {
        let broker = Arc::new(MemoryBroker::new());
        let im = builder().public_url(template).broker(broker).build().unwrap();
        im.connect_url(1, None).unwrap()
    };
    for (template, start) in [
        ("ws://{server}{path}", "ws://b/ws?token="),
        ("ws://x/ws?node={index}", "ws://x/ws?node=1&token="),
        ("ws://x/{index}?", "ws://x/1?token="),
        ("ws://x/ws?node={index}&", "ws://x/ws?node=1&token="),
        ("wss://x/ws?a=b&node={index}", "wss://x/ws?a=b&node=1&token="),
    ] {
        let url = address(template);
        let token = url.strip_prefix(start).unwrap_or_else(|| panic!("{template}: {url}"));
        assert!(token.chars().all(|c| c.is_ascii_alphanumeric()), "{url}");
    }
}

/// What a bus told, in order: `listening`, or the client and whether it came.
fn told(event: PresenceEvent) -> String {
    match event {
        PresenceEvent::Listening => "listening".into(),
        PresenceEvent::Online(ticket) => format!("{} came", ticket.client()),
        PresenceEvent::Offline(ticket) => format!("{} went", ticket.client()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_event_bus_tells_where_a_gap_may_have_been() {
    let broker = Arc::new(MemoryBroker::new());
    let im = builder().broker(Arc::clone(&broker) as _).build().unwrap();
    let (tell, hear) = sync_channel(0);
    let bus = im.watch_presence(move |event| drop(tell.send(told(event)))).unwrap();
    let mut session = broker.begin_session("a", Duration::from_secs(60), true).unwrap();
    assert_eq!(hear.recv_timeout(PATIENCE).unwrap(), "listening");
    broker.report(&mut session, &[opened(1, 7.into()), closed(1)]).unwrap();
    assert_eq!(hear.recv_timeout(PATIENCE).unwrap(), "7 came");
    // The callback takes its time: more happens than is kept for it.
    for number in 2..5_000 {
        broker.report(&mut session, &[opened(number, 8.into()), closed(number)]).unwrap();
    }
    let mut listening = 0;
    while listening == 0 {
        listening += usize::from(hear.recv_timeout(PATIENCE).unwrap() == "listening");
    }
    drop(hear);
    bus.stop();
}

#[cfg(feature = "redis")]
#[test]
fn an_event_bus_that_was_cut_tells_so() {
    use testkit::Redis;

    let server = Redis::start();
    let im = builder().redis(server.url()).build().unwrap();
    let (tell, hear) = channel();
    let _bus = im.watch_presence(move |event| drop(tell.send(told(event)))).unwrap();
    for _ in 0..3 {
        assert_eq!(hear.recv_timeout(PATIENCE).unwrap(), "listening");
        let mut kill = redis::cmd("CLIENT");
        kill.arg("KILL").arg("TYPE").arg("pubsub");
        kill.exec(&mut server.connect()).unwrap();
    }
}
