//! Nodes that die, freeze and come back: one offline event per connection, whoever sends it.

use imcore::Message;
use testkit::{PATIENCE, eventually};

use crate::cluster::{Cluster, ticket};

#[test]
fn a_survivor_reaps_a_killed_node() {
    let mut cluster = Cluster::new(2, &[]);
    // 2 and 4 live on node 0 (4 twice), 1 on node 1.
    let lost = [(2, "a"), (4, "b \\\" 元"), (4, "c")];
    let _lost: Vec<_> = lost.iter().map(|(id, meta)| connect(&cluster, *id, meta)).collect();
    let mut stays = cluster.connect_and_see(1, "stays");
    cluster.im.join([1, 2, 4], ["room"]).unwrap();
    cluster.im.join([4], ["own"]).unwrap();
    cluster.nodes[0].signal("KILL");
    cluster.nodes[0].ends();
    let mut expected = lost.map(|(id, meta)| ticket(id, meta));
    expected.sort();
    assert_eq!(cluster.offline_events(3), expected);
    eventually("books", || cluster.hash("im_v2_wsOnline").len() == 1);
    assert_eq!(cluster.hash("im_v2_wsOnline"), [("1".into(), "1".into())].into());
    assert_eq!(cluster.hash("im_v2_wsListChan"), [("room".into(), "1".into())].into());
    assert_eq!(cluster.hash("im_v2_wsChanroom"), [("1".into(), "0".into())].into());
    assert!(cluster.hash("im_v2_wsClient4").is_empty());
    cluster.im.send(Message::to_channel("room"), "still here").unwrap();
    assert_eq!(stays.text(), "\"still here\"");
    // It comes back and finds nothing left to reap.
    cluster.nodes[0] = cluster.start(0);
    let _back = cluster.connect_and_see(2, "back");
    cluster.no_more_events();
}

/// Connects with a note that holds JSON escapes already.
fn connect(cluster: &Cluster, id: i64, meta: &str) -> testkit::ws::Client {
    let plain: String = serde_json::from_str(&format!("\"{meta}\"")).unwrap();
    let client = cluster.connect(id, &plain);
    assert_eq!(cluster.event(), ("Online".to_owned(), ticket(id, meta)));
    client
}

#[test]
fn a_restarted_node_reaps_its_former_self() {
    let mut cluster = Cluster::new(1, &[]);
    let clients: Vec<_> = (1..=3).map(|id| cluster.connect_and_see(id, "before")).collect();
    cluster.im.join([1], ["room"]).unwrap();
    for round in 0..3 {
        cluster.nodes[0].signal("KILL");
        cluster.nodes[0].ends();
        cluster.nodes[0] = cluster.start(0);
        // It does not wait for its former lease to end.
        let mut redis = cluster.redis.connect();
        let leases: Vec<String> =
            redis::cmd("KEYS").arg("im_v2_wsLease*").query(&mut redis).unwrap();
        assert_eq!(leases.len(), 1, "{leases:?}");
        let expected: Vec<_> = match round {
            0 => (1..=3).map(|id| ticket(id, "before")).collect(),
            _ => vec![ticket(1, "again")],
        };
        assert_eq!(cluster.offline_events(expected.len()), expected);
        let _client = cluster.connect_and_see(1, "again");
        assert_eq!(cluster.hash("im_v2_wsOnline"), [("1".into(), "1".into())].into());
        // Whoever comes back to a node that has just started is still in its channels.
        assert_eq!(cluster.hash("im_v2_wsListChan"), [("room".into(), "1".into())].into());
        // Left connected: the next round kills it.
        std::mem::forget(_client);
    }
    drop(clients);
}

#[test]
fn a_frozen_node_is_reaped_and_comes_back() {
    let cluster = Cluster::new(2, &[]);
    let mut frozen = cluster.connect_and_see(2, "frozen");
    let mut other = cluster.connect_and_see(1, "other");
    cluster.nodes[0].signal("STOP");
    assert_eq!(cluster.event(), ("Offline".to_owned(), ticket(2, "frozen")));
    assert_eq!(cluster.im.are_online([2, 1]).unwrap(), [false, true]);
    cluster.nodes[0].signal("CONT");
    // Its client was never gone, so it is online again, with the same ticket.
    assert_eq!(cluster.event(), ("Online".to_owned(), ticket(2, "frozen")));
    cluster.nodes[0].says("taken for dead");
    eventually("served", || {
        cluster.im.send(Message::to([2]), "thawed").unwrap();
        frozen.0.get_ref().set_read_timeout(Some(std::time::Duration::from_millis(300))).unwrap();
        frozen.0.read().is_ok_and(|message| message.is_text())
    });
    frozen.0.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
    cluster.im.send(Message::to([1]), "all the time").unwrap();
    assert_eq!(other.text(), "\"all the time\"");
    drop(frozen);
    assert_eq!(cluster.offline_events(1), [ticket(2, "frozen")]);
    cluster.no_more_events();
}
