//! The Redis rights that the documents name are all that nodes and helpers need.

use std::fs;

use imcore::{ImClient, Message, Receipt};
use testkit::{Cluster, Imserver, Redis, eventually, ws::Client};

/// Below it stand the rights for one Redis.
const MAIN: &str = "## Size, settings, rights";

/// The words of the `ACL SETUSER` of one user below a heading of `docs/redis.md`.
fn documented(heading: &str, user: &str) -> Vec<String> {
    let path = testkit::root().join("docs/redis.md");
    let text = fs::read_to_string(path).unwrap();
    let (_, text) = text.split_once(&format!("\n{heading}\n")).expect("documented");
    let (_, after) = text.split_once(&format!("\nACL SETUSER {user} ")).expect("documented");
    let (rights, _) = after.split_once("\n```").unwrap();
    ["SETUSER", user].into_iter().chain(rights.split_whitespace()).map(str::to_owned).collect()
}

/// A Sentinel with the documented user, and the URL that leads over it to that of Redis.
fn watched(redis: &Redis) -> (Redis, String) {
    let lines = format!("sentinel monitor main 127.0.0.1 {} 1", redis.port);
    let sentinel = Redis::start_sentinel(&[], &lines);
    let rights = documented("## Sentinel", "imcore");
    redis::cmd("ACL").arg(rights).exec(&mut sentinel.connect()).unwrap();
    let url = format!(
        "redis+sentinel://imcore:secret@127.0.0.1:{}/main\
         ?sentinel_username=imcore&sentinel_password=secret",
        sentinel.port
    );
    (sentinel, url)
}

/// The last rights that readers of events need.
fn end_group(events: imcore::EventStream, im: &ImClient) {
    assert_eq!(im.event_groups().unwrap()[0].name, "g");
    events.stop();
    assert!(im.forget_event_group("g").unwrap());
}

/// Client 2 is told who is with it in a room.
fn show_roster(im: &ImClient, client: &mut Client) {
    im.set_roster("another room", true).unwrap();
    im.join([2], ["another room"]).unwrap();
    assert_eq!(client.json()["joined"], serde_json::json!(["2"]));
    im.leave([2], ["another room"]).unwrap();
    im.set_roster("another room", false).unwrap();
}

#[test]
fn the_documented_rights_suffice() {
    let redis = Redis::start();
    let mut admin = redis.connect();
    for user in ["imcore", "imhelper"] {
        redis::cmd("ACL").arg(documented(MAIN, user)).exec(&mut admin).unwrap();
    }
    let (sentinel, url) = watched(&redis);
    let start = |name| {
        let args = ["--listen", "127.0.0.1:0", "--servers", "a,b", "--redis", &url];
        let node = Imserver::start(
            &[&args[..], &["--server", name, "--keep", "2", "--events", "1000"]].concat(),
        );
        let _address = node.address();
        node.wait_ready();
        node
    };
    let mut nodes = [start("a"), start("b")];
    let helper = url.replace("imcore:secret@", "imhelper:other@");
    let im = ImClient::builder().servers(["a", "b"]).redis(helper).build().unwrap();
    let bus = im.on_presence(|_, _| {}, |_, _| {}).unwrap();
    let (told, heard) = std::sync::mpsc::channel();
    let events = im.events("g", move |event| told.send(event.id.clone())).unwrap();
    let connect = |client: i64| {
        let url = im.connect_url(client, Some("note")).unwrap();
        Client::connect(nodes[client as usize % 2].address(), &url).unwrap()
    };
    let (mut one, mut two) = (connect(1), connect(2));
    eventually("online", || im.are_online([1, 2]).unwrap() == [true, true]);
    im.join([1, 2], ["room"]).unwrap();
    show_roster(&im, &mut two);
    im.send(Message::to_channel("room"), "to the room").unwrap();
    im.send(Message::to([2]).from(1).receipt(Receipt::Sent), "to two").unwrap();
    assert_eq!((one.text(), two.text()), ("\"to the room\"".into(), "\"to the room\"".into()));
    assert_eq!((two.text(), one.json()["status"].clone()), ("\"to two\"".into(), "sent".into()));
    assert_eq!(im.connections_of(2).unwrap().len(), 1);
    assert!(im.nodes().unwrap().iter().all(|node| node.status.is_some()));
    assert_eq!(im.channels().unwrap(), [("room".to_owned(), 2)]);
    let total = im.online_clients_page(None, 10).unwrap().total;
    assert_eq!((total, im.channels_page(None, 10).unwrap().items.len()), (2, 1));
    assert_eq!(im.channel_members_page("room", None, 10).unwrap().items.len(), 2);
    im.prune_channel("room").unwrap();
    im.leave([1], ["room"]).unwrap();
    im.kick(9).unwrap();
    // A killed node goes on when it is started again, with those who can resume.
    let url = im.connect_url(3, None).unwrap();
    let _phone = Client::speak(nodes[1].address(), &url, "imcore.1").unwrap();
    eventually("online", || im.is_online(3).unwrap());
    nodes[1].kill();
    nodes[1] = start("b");
    nodes[1].says("waits for 1 client");
    // One that is not is reaped by the other.
    nodes[1].kill();
    eventually("offline", || im.online_clients().unwrap() == [2.into()]);
    two.leave();
    eventually("offline", || im.online_clients().unwrap().is_empty());
    assert!(bus.is_listening());
    // Four of each client that came and went, two rooms that had members, and the death of a node.
    (0..17).for_each(|_| drop(heard.recv_timeout(testkit::PATIENCE).expect("an event")));
    end_group(events, &im);
    for server in [&redis, &sentinel] {
        let mut log = redis::cmd("ACL");
        let refused: Vec<redis::Value> = log.arg("LOG").query(&mut server.connect()).unwrap();
        assert!(refused.is_empty(), "{refused:?}");
    }
}

#[test]
fn in_a_cluster_they_suffice_with_a_few_more() {
    let cluster = Cluster::start(3);
    for server in &cluster.servers {
        for user in ["imcore", "imhelper"] {
            let mut rights = documented(MAIN, user);
            rights.extend(documented("## Redis Cluster", user).split_off(2));
            redis::cmd("ACL").arg(rights).exec(&mut server.connect()).unwrap();
        }
    }
    let url = cluster.url().replace("://", "://imcore:secret@");
    let start = |name| {
        let args = ["--listen", "127.0.0.1:0", "--servers", "a,b", "--redis", &url];
        let node =
            Imserver::start(&[&args[..], &["--server", name, "--message-log", "on"]].concat());
        let _address = node.address();
        node.wait_ready();
        node
    };
    let nodes = [start("a"), start("b")];
    let helper = url.replace("imcore:secret@", "imhelper:other@");
    let im = ImClient::builder().servers(["a", "b"]).redis(helper).log(true).build().unwrap();
    let connect = |client: i64| {
        let url = im.connect_url(client, None).unwrap();
        Client::connect(nodes[client as usize % 2].address(), &url).unwrap()
    };
    let (mut one, mut two) = (connect(1), connect(2));
    eventually("online", || im.are_online([1, 2]).unwrap() == [true, true]);
    im.join([1, 2], ["room"]).unwrap();
    im.send(Message::to_channel("room"), "to the room").unwrap();
    im.send(Message::to([2]).from(1).receipt(Receipt::Sent), "to two").unwrap();
    assert_eq!((one.text(), two.text()), ("\"to the room\"".into(), "\"to the room\"".into()));
    assert_eq!((two.text(), one.json()["status"].clone()), ("\"to two\"".into(), "sent".into()));
    two.leave();
    eventually("offline", || im.online_clients().unwrap() == [1.into()]);
    for server in &cluster.servers {
        let mut log = redis::cmd("ACL");
        let refused: Vec<redis::Value> = log.arg("LOG").query(&mut server.connect()).unwrap();
        assert!(refused.is_empty(), "{refused:?}");
    }
}

/// Other policies than `noeviction` drop presence and rooms without a word.
#[test]
fn a_redis_that_drops_keys_is_warned_of() {
    for (settings, warns) in [
        (["--maxmemory", "200mb", "--maxmemory-policy", "allkeys-lru"], true),
        (["--maxmemory", "200mb", "--maxmemory-policy", "noeviction"], false),
        (["--maxmemory", "0", "--maxmemory-policy", "allkeys-lru"], false),
    ] {
        let redis = Redis::start_with(&settings);
        let node = Imserver::start(&["--listen", "127.0.0.1:0", "--redis", &redis.url()]);
        let _address = node.address();
        node.wait_ready();
        let warning = "maxmemory-policy allkeys-lru: when its memory is full";
        if warns {
            node.says(warning);
        }
        assert_eq!(node.log().contains(warning), warns, "{settings:?}");
    }
}
