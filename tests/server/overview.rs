//! What an operator asks: the nodes of the cluster, and the connections of one client.

use std::time::Duration;

use imcore::{ImClient, Message};
use testkit::{eventually, ws::Client};

use crate::world::World;

behaviour!(nodes_tell_of_themselves, |backend| {
    let mut world = World::with(backend, 3, |config| {
        config.limits.lease = Duration::from_secs(1);
        config.limits.connections = 77;
    });
    let mut one = world.connect(1);
    world.im.send(Message::to([1]), "x").unwrap();
    one.text();
    let seen = |index: usize| world.im.nodes().unwrap().swap_remove(index);
    eventually("told", || seen(1).status.is_some_and(|status| status.delivered == 1));
    let node = seen(1);
    let status = node.status.unwrap();
    assert_eq!((node.name.as_str(), node.index), ("node-1", Some(1)));
    assert_eq!((status.connections, status.connections_limit, status.opened), (1, 77, 1));
    assert_eq!(status.version, env!("CARGO_PKG_VERSION"));
    eventually("ready", || seen(0).status.is_some_and(|status| status.not_ready.is_none()));
    eventually("its clock runs", || {
        seen(1).status.is_some_and(|later| later.uptime_seconds > status.uptime_seconds)
    });

    // Who has another list sees the stranger and misses nobody.
    let broker = world.broker.clone();
    let servers = ["node-1", "absent", "node-2"];
    let other = ImClient::builder().servers(servers).broker(broker).build().unwrap();
    let names: Vec<_> = other.nodes().unwrap().into_iter().map(|node| node.name).collect();
    assert_eq!(names, ["node-1", "absent", "node-2", "node-0"]);
    let nodes = other.nodes().unwrap();
    assert_eq!((nodes[1].index, &nodes[1].status), (Some(1), &None));
    assert_eq!(nodes[3].index, None);

    let gone = world.take(2);
    std::thread::spawn(|| gone.shutdown());
    eventually("silent", || world.im.nodes().unwrap()[2].status.is_none());
});

shared_behaviour!(a_client_s_connections_are_shown_with_their_notes, |backend| {
    let world = World::new(backend, 3);
    let connect = |client: i64, meta: Option<&str>| {
        let url = world.im.connect_url(client, meta).unwrap();
        Client::connect(world.node_of(client).local_addr(), &url).unwrap()
    };
    let phone = connect(4, Some("phone"));
    let _tab = connect(4, None);
    let _other = connect(7, Some("somebody else on the same node"));
    let metas = || -> Vec<_> {
        let open = world.im.connections_of(4).unwrap();
        assert!(open.iter().all(|connection| connection.node == "node-1"));
        assert!(open.is_sorted_by_key(|connection| connection.number));
        open.into_iter().map(|connection| connection.meta).collect()
    };
    eventually("both", || metas() == [Some("phone".to_owned()), None]);
    assert_eq!(world.im.node_of(4).unwrap(), "node-1");
    phone.leave();
    eventually("one", || metas() == [None]);
    assert_eq!(world.im.connections_of(5).unwrap(), []);
});
