//! What `ImClient` refuses before anything is asked of the broker.

use std::sync::Arc;

use imcore::{
    ClientId, ErrorKind, IdKind, ImClient, ImClientBuilder,
    broker::{Broker, MemoryBroker},
};

const GUID: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";

fn builder() -> ImClientBuilder {
    ImClient::builder().servers(["a", "b"])
}

/// Each call that takes a client, with its name.
fn refused(im: &ImClient, client: ClientId) -> Vec<&'static str> {
    let calls: [(&'static str, imcore::Result<()>); 7] = [
        ("connect", im.prev_connect_server(client, None).map(drop)),
        ("join", im.join_chan(client, ["room"])),
        ("join many", im.join_chan_clients("room", [client])),
        ("receiver", im.send_message(0, [client], "x", false)),
        ("sender", im.send_message(client, [good(im)], "x", false)),
        ("sender to a channel", im.send_chan_message(client, "room", "x")),
        ("kick", im.force_offline(client)),
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
    for (kind, own, other) in [(IdKind::Int, 7.into(), guid), (IdKind::Guid, guid, 7.into())] {
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
    let error = im.join_chan_clients("room", [5, 0, 6]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Argument);
    assert_eq!(im.get_chan_online("room").unwrap(), 0, "nothing of a refused call is done");
}

#[test]
fn a_message_to_nobody_is_refused() {
    let im = builder().broker(Arc::new(MemoryBroker::new())).build().unwrap();
    let error = im.send_message(1, [0i64; 0], "x", false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Argument);
    assert!(error.to_string().contains("receivers"), "{error}");
}
