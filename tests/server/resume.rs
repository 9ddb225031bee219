//! Clients that speak `imcore.1`: what they are told, what they are given when they come back, and who hears of it.
//!
//! From outside, by docs/protocol.md alone.

use std::{
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use imcore::{ClientId, Message, Receipt};
use serde_json::{Value, json};
use testkit::{eventually, ws::Client};
use tungstenite::{Message as Frame, protocol::CloseFrame};

use crate::world::{Backend, World};

/// A client of `imcore.1`, and what it knows.
pub(crate) struct Phone {
    client: ClientId,
    pub(crate) socket: Client,
    /// The hello of its last connection.
    pub(crate) hello: Value,
    /// The position up to which it has handled everything.
    pub(crate) since: String,
}

impl Phone {
    pub(crate) fn new(world: &World, client: impl Into<ClientId>) -> Self {
        let client = client.into();
        let phone = Phone::open(world, client.clone(), "").unwrap();
        eventually("online", || world.im.is_online(&client).unwrap());
        phone
    }

    fn open(world: &World, client: ClientId, query: &str) -> Result<Self, u16> {
        let url = world.im.connect_url(&client, Some("phone")).unwrap() + query;
        let mut socket = Client::speak(world.node_of(&client).local_addr(), &url, "imcore.1")?;
        let hello = socket.json()["hello"].take();
        assert_eq!(hello["client"], client.to_string());
        let since = hello["p"].as_str().unwrap().to_owned();
        Ok(Phone { client, socket, hello, since })
    }

    /// Comes back from where it was.
    fn back(self, world: &World) -> Self {
        let Phone { client, hello, since, .. } = self;
        Phone::return_to(world, client, &hello, since)
    }

    pub(crate) fn return_to(world: &World, client: ClientId, hello: &Value, since: String) -> Self {
        let query = format!("&since={since}&c={}", hello["c"].as_str().unwrap());
        let mut phone = Phone::open(world, client, &query).unwrap();
        if phone.hello["resumed"] == true {
            phone.since = since;
        }
        phone
    }

    /// The next message, which it handles.
    pub(crate) fn message(&mut self) -> Value {
        let mut frame = self.socket.json();
        self.since = frame["p"].as_str().unwrap().to_owned();
        let content = frame.as_object_mut().unwrap();
        content.remove("m").or_else(|| content.remove("r")).unwrap_or_else(|| panic!("{content:?}"))
    }

    fn say(&mut self, word: Value) {
        self.socket.0.send(Frame::Text(word.to_string().into())).unwrap();
    }

    /// Leaves for good, or not, as the code says.
    fn close(mut self, code: Option<u16>) {
        let reason = "".into();
        let frame = code.map(|code| CloseFrame { code: code.into(), reason });
        self.socket.0.close(frame).unwrap();
        self.socket.closed();
    }

    pub(crate) fn acknowledge(&mut self) {
        self.say(json!({ "a": self.since }));
    }
}

/// All presence events of a world.
struct Events(
    Arc<Mutex<Vec<String>>>,
    #[expect(dead_code, reason = "ends with it")] imcore::PresenceWatch,
);

impl Events {
    fn of(world: &World) -> Self {
        let seen = Arc::<Mutex<Vec<String>>>::default();
        let note = |what: &'static str| {
            let seen = Arc::clone(&seen);
            move |client: ClientId, _: Option<String>| {
                seen.lock().unwrap().push(format!("{what} {client}"));
            }
        };
        let watch = world.im.on_presence(note("online"), note("offline")).unwrap();
        eventually("listening", || watch.is_listening());
        Events(seen, watch)
    }

    fn seen(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

behaviour!(a_client_is_greeted_and_told_positions, |backend| {
    let world = World::new(backend, 2);
    let mut phone = Phone::new(&world, 4);
    assert_eq!(phone.hello["resumed"], false);
    assert_eq!(phone.hello.get("why"), None);
    assert_eq!((&phone.hello["keep"], &phone.hello["channels"]), (&json!(60), &json!(false)));
    let mut legacy = world.connect(4);
    let before = phone.since.clone();
    world.im.send(Message::to([4]).from(1), &json!({ "a": [1, "x"] })).unwrap();
    assert_eq!(phone.message(), json!({ "a": [1, "x"] }));
    assert_ne!(phone.since, before);
    assert_eq!(legacy.text(), r#"{"a":[1,"x"]}"#, "as ever");
    // A probe is answered with the position of what came last.
    phone.say(json!({ "q": 1 }));
    assert_eq!(phone.socket.json(), json!({ "p": phone.since }));
    for garbage in ["", "hello", "{}", "[]", r#"{"a":7}"#, r#"{"a":"x"}"#, r#"{"a":"k9.9"}"#] {
        phone.socket.0.send(Frame::Text(garbage.into())).unwrap();
    }
    phone.socket.silent();
    legacy.silent();
});

behaviour!(what_was_missed_is_given_once_and_in_order_and_nobody_hears_of_it, |backend| {
    let world = World::new(backend, 2);
    let events = Events::of(&world);
    let mut phone = Phone::new(&world, 4);
    let mut friend = Phone::new(&world, 6);
    world.im.join([4], ["room"]).unwrap();
    world.im.send(Message::to([4]), &1).unwrap();
    assert_eq!(phone.message(), 1);
    // Written to a socket that nobody reads any more.
    world.im.send(Message::to([4]), &2).unwrap();
    eventually("written", || world.node_of(4).vitals().stats().delivered >= 2);
    let (client, hello, since) = (phone.client, phone.hello, phone.since);
    drop(phone.socket);
    eventually("parked", || world.node_of(4).vitals().stats().parked == 1);
    world.im.send(Message::to([4, 6]), &3).unwrap();
    world.im.send(Message::to_channel("room"), &4).unwrap();
    world.im.send(Message::to_everyone(), &5).unwrap();
    assert!(world.im.is_online(4).unwrap());
    assert_eq!((friend.message(), friend.message()), (json!(3), json!(5)));
    let mut phone = Phone::return_to(&world, client, &hello, since);
    assert_eq!(phone.hello["resumed"], true, "{}", phone.hello);
    assert_eq!(phone.hello["channels"], true);
    let missed = phone.hello["missed"].as_u64().unwrap();
    for expected in 2..=5 {
        assert_eq!(phone.message(), expected);
    }
    assert_eq!(missed, 4);
    world.im.send(Message::to_channel("room"), &6).unwrap();
    assert_eq!(phone.message(), 6);
    phone.socket.silent();
    assert_eq!(world.node_of(4).vitals().stats().parked, 0);
    phone.close(Some(1000));
    eventually("offline", || events.seen().len() == 3);
    assert_eq!(events.seen(), ["online 4", "online 6", "offline 4"]);
});

behaviour!(what_is_acknowledged_is_not_given_again, |backend| {
    let world = World::new(backend, 1);
    let mut phone = Phone::new(&world, 1);
    for number in 1..=3 {
        world.im.send(Message::to([1]), &number).unwrap();
        assert_eq!(phone.message(), number);
    }
    let first = phone.hello["p"].as_str().unwrap().to_owned();
    let handled = phone.since.clone();
    phone.acknowledge();
    // The answer to a probe says that the word before it was heard.
    phone.say(json!({ "q": 1 }));
    assert_eq!(phone.socket.json(), json!({ "p": handled }));
    let (client, hello) = (phone.client, phone.hello);
    drop(phone.socket);
    // From before what was acknowledged nothing can be proven complete.
    let phone = Phone::return_to(&world, client, &hello, first);
    assert_eq!((&phone.hello["resumed"], &phone.hello["why"]), (&json!(false), &json!("too_much")));
    assert_eq!(phone.hello["channels"], true);
    let mut phone = phone.back(&world);
    assert_eq!((&phone.hello["resumed"], &phone.hello["missed"]), (&json!(true), &json!(0)));
    phone.socket.silent();
});

behaviour!(a_newer_connection_supersedes_the_older, |backend| {
    let world = World::new(backend, 1);
    let events = Events::of(&world);
    let phone = Phone::new(&world, 1);
    let (hello, since) = (phone.hello.clone(), phone.since.clone());
    let mut older = phone;
    world.im.send(Message::to([1]), "x").unwrap();
    assert_eq!(older.message(), "x");
    let mut newer = Phone::return_to(&world, 1.into(), &hello, since);
    assert_eq!((&newer.hello["resumed"], &newer.hello["missed"]), (&json!(true), &json!(1)));
    assert_eq!(newer.message(), "x");
    assert_eq!(older.socket.closed(), Some(4002));
    world.im.send(Message::to([1]), "y").unwrap();
    assert_eq!(newer.message(), "y");
    newer.socket.silent();
    eventually("one connection", || world.node_of(1).vitals().stats().connections == 1);
    assert_eq!(events.seen(), ["online 1"]);
});

behaviour!(who_cannot_prove_its_past_begins_anew, |backend| {
    let world = World::new(backend, 1);
    let phone = Phone::new(&world, 1);
    let other = Phone::new(&world, 2);
    let (c, p) = (phone.hello["c"].as_str().unwrap(), &phone.since);
    let theirs = other.hello["c"].as_str().unwrap();
    let long = "x".repeat(5000);
    let (epoch, _) = p.split_once('.').unwrap();
    for (query, why) in [
        (format!("&since={p}&c={theirs}"), "expired"),
        (format!("&since={p}&c=garbage"), "expired"),
        (format!("&since={p}&c={long}"), "expired"),
        (format!("&since={p}"), "expired"),
        (format!("&c={c}"), "expired"),
        (format!("&since=garbage&c={c}"), "expired"),
        (format!("&since={long}&c={c}"), "expired"),
        (format!("&since=zz.1&c={c}"), "epoch"),
        (format!("&since={epoch}.9999999999999999&c={c}"), "ahead"),
    ] {
        let new = Phone::open(&world, 1.into(), &query).unwrap();
        assert_eq!(new.hello["resumed"], false, "{query}");
        assert_eq!(new.hello["why"], why, "{query}");
    }
    assert!(world.im.is_online(2).unwrap(), "nobody else is touched");
});

behaviour!(close_codes_say_what_is_kept, |backend| {
    let world = World::with(backend, 1, |config| config.keep = Duration::from_secs(30));
    let parked = || world.node_of(1).vitals().stats().parked;
    for (code, kept) in
        [(Some(1000), 0), (Some(3001), 1), (None, 1), (Some(1001), 1), (Some(3000), 0)]
    {
        let phone = Phone::new(&world, 1);
        let (hello, since) = (phone.hello.clone(), phone.since.clone());
        phone.close(code);
        eventually("closed", || world.node_of(1).vitals().stats().connections == 0);
        assert_eq!(parked(), kept, "{code:?}");
        let again = Phone::return_to(&world, 1.into(), &hello, since);
        assert_eq!(again.hello["resumed"], kept == 1, "{code:?}");
        assert_eq!(again.hello["keep"], 30);
        again.close(Some(1000));
        eventually("gone", || world.node_of(1).vitals().stats().connections == 0);
    }
});

behaviour!(who_does_not_come_back_is_offline_once, |backend| {
    let world = World::with(backend, 1, |config| config.keep = Duration::from_secs(2));
    let events = Events::of(&world);
    let phone = Phone::new(&world, 1);
    world.im.join([1], ["room"]).unwrap();
    let mut sender = world.connect(2);
    drop(phone.socket);
    eventually("parked", || world.node_of(1).vitals().stats().parked == 1);
    world.im.send(Message::to([1]).from(2).receipt(Receipt::Sent).id("m"), "x").unwrap();
    let receipt = sender.json();
    assert_eq!((&receipt["status"], &receipt["id"]), (&json!("expired"), &json!("m")));
    eventually("offline", || !world.im.is_online(1).unwrap());
    eventually("told", || events.seen().iter().any(|event| event == "offline 1"));
    assert_eq!(events.seen(), ["online 1", "online 2", "offline 1"]);
    assert!(world.im.channel_members("room").unwrap().is_empty());
});

behaviour!(receipts_wait_for_the_acknowledgement, |backend| {
    let world = World::new(backend, 2);
    let mut phone = Phone::new(&world, 4);
    let mut sender = Phone::new(&world, 6);
    let message = |id: &str| Message::to([4]).from(6).receipt(Receipt::Acknowledged).id(id);
    world.im.send(message("one"), "x").unwrap();
    assert_eq!(phone.message(), "x");
    sender.socket.silent();
    phone.acknowledge();
    let receipt = sender.message();
    assert_eq!(
        receipt,
        json!({ "to": "4", "status": "acknowledged", "id": "one", "content": "\"x\"" })
    );
    // Over a cut: once.
    world.im.send(message("two"), "y").unwrap();
    assert_eq!(phone.message(), "y");
    let mut phone = phone.back(&world);
    assert_eq!(phone.hello["resumed"], true);
    assert_eq!(sender.message()["id"], "two");
    // A legacy client proves it by its library's pong.
    let mut legacy = world.connect(8);
    let to_legacy = Message::to([8]).from(6).receipt(Receipt::Acknowledged).id("three");
    world.im.send(to_legacy, "z").unwrap();
    assert_eq!(legacy.text(), "\"z\"");
    legacy.silent();
    assert_eq!(sender.message()["status"], "acknowledged");
    sender.socket.silent();
    phone.socket.silent();
    let told: Vec<_> = world.nodes.iter().flat_map(|node| node.vitals().stats().receipts).collect();
    let of = |label: &str| -> u64 {
        told.iter().filter(|(status, _)| status.label() == label).map(|(_, count)| count).sum()
    };
    assert_eq!(["sent", "acknowledged", "offline", "expired"].map(of), [0, 3, 0, 0]);
});

behaviour!(a_kick_ends_what_was_kept, |backend| {
    let world = World::new(backend, 1);
    let phone = Phone::new(&world, 1);
    let (hello, since) = (phone.hello.clone(), phone.since.clone());
    drop(phone.socket);
    eventually("parked", || world.node_of(1).vitals().stats().parked == 1);
    world.im.kick(1).unwrap();
    eventually("offline", || !world.im.is_online(1).unwrap());
    // An address that was issued after the kick is good, but there is nothing to go on from.
    eventually("let in", || {
        let url = world.im.connect_url(1, None).unwrap();
        let query = format!("&since={since}&c={}", hello["c"].as_str().unwrap());
        match Client::speak(world.node_of(1).local_addr(), &(url + &query), "imcore.1") {
            Ok(mut socket) => socket.json()["hello"]["why"] == "expired",
            Err(_) => false,
        }
    });
});

behaviour!(more_than_is_kept_is_said_and_not_half_given, |backend| {
    let world = World::with(backend, 1, |config| config.limits.outbox_bytes = 16 << 10);
    let phone = Phone::new(&world, 1);
    let (hello, since) = (phone.hello.clone(), phone.since.clone());
    drop(phone.socket);
    eventually("parked", || world.node_of(1).vitals().stats().parked == 1);
    for _ in 0..40 {
        world.im.send(Message::to([1]), &"x".repeat(1000)).unwrap();
    }
    eventually("all came", || world.node_of(1).vitals().stats().offered == 40);
    let mut phone = Phone::return_to(&world, 1.into(), &hello, since);
    assert_eq!((&phone.hello["resumed"], &phone.hello["why"]), (&json!(false), &json!("too_much")));
    phone.socket.silent();
    world.im.send(Message::to([1]), "live").unwrap();
    assert_eq!(phone.message(), "live");
});

behaviour_in_the_clear!(a_node_that_comes_back_takes_its_clients_over, |backend| {
    let mut world = World::new(backend, 1);
    let events = Events::of(&world);
    let phone = Phone::new(&world, 1);
    let _tablet = Phone::new(&world, 2);
    let legacy = world.connect(3);
    world.im.join([1, 2, 3], ["room"]).unwrap();
    world.restart(|config| config.keep = Duration::from_secs(5));
    drop(legacy);
    assert_eq!(world.im.are_online([1, 2, 3]).unwrap(), [true, true, false]);
    eventually("both are waited for", || world.node_of(1).vitals().stats().parked == 2);
    let mut phone = phone.back(&world);
    assert_eq!(phone.hello["channels"], true, "{}", phone.hello);
    world.im.send(Message::to_channel("room"), &"after").unwrap();
    while phone.message() != "after" {}
    // The other does not come back, and is offline once.
    eventually("offline", || !world.im.is_online(2).unwrap());
    eventually("told", || events.seen().len() == 5);
    let mut seen = events.seen();
    seen.sort();
    assert_eq!(seen, ["offline 2", "offline 3", "online 1", "online 2", "online 3"]);
    assert!(world.im.is_online(1).unwrap());
    assert_eq!(world.im.channel_members("room").unwrap(), [1.into()]);
});

behaviour!(
    who_is_told_to_come_back_waits_for_the_node_and_not_for_those_who_do_not_go,
    |backend| {
        for (over, code) in [(0, 1001), (1, 1012)] {
            let mut world = World::with(backend, 1, |config| {
                config.limits.drain_over = Duration::from_secs(over);
                config.limits.drain_grace = Duration::from_secs(10);
            });
            let mut phone = Phone::new(&world, 1);
            let node = world.take(0);
            let reason = thread::scope(|scope| {
                scope.spawn(|| node.shutdown());
                let (closed, reason) = phone.socket.dismissed().unwrap();
                assert_eq!(closed, code);
                serde_json::from_str::<Value>(&reason).unwrap()
            });
            let after = reason["after"].as_u64().unwrap();
            assert!((1000..=1000 + over * 1000).contains(&after), "{reason}");
            assert_eq!(reason["spread"], 2500);
        }
    }
);

#[test]
fn what_became_of_a_message_is_told_once_whatever_restarts() {
    let mut world = World::new(Backend::Memory, 1);
    let mut sender = Phone::new(&world, 1);
    let send = |world: &World, receiver: i64, id: &str| {
        let message = Message::to([receiver]).from(1).receipt(Receipt::Acknowledged).id(id);
        world.im.send(message, &id).unwrap();
    };
    let receipt = |sender: &mut Phone| {
        let told = sender.message();
        let text = |name: &str| told[name].as_str().unwrap().to_owned();
        sender.acknowledge();
        (text("id"), text("to"), text("status"))
    };
    let told = |id: &str, to: &str, status: &str| (id.to_owned(), to.to_owned(), status.to_owned());
    send(&world, 2, "before it came");
    assert_eq!(receipt(&mut sender), told("before it came", "2", "offline"));
    let mut receiver = Phone::new(&world, 2);
    send(&world, 2, "had");
    assert_eq!(receiver.message(), "had");
    receiver.acknowledge();
    assert_eq!(receipt(&mut sender), told("had", "2", "acknowledged"));
    let mut slow = Phone::new(&world, 3);
    let since = slow.since.clone();
    send(&world, 3, "under way");
    assert_eq!(slow.message(), "under way");
    slow.since = since;
    for restart in 0..3 {
        world.restart(|config| config.keep = Duration::from_secs(600));
        (sender, receiver, slow) = (sender.back(&world), receiver.back(&world), slow.back(&world));
        assert_eq!(
            (&sender.hello["resumed"], &receiver.hello["resumed"]),
            (&true.into(), &true.into())
        );
        receiver.acknowledge();
        if restart == 1 {
            assert_eq!(slow.message(), "under way");
            slow.acknowledge();
            assert_eq!(receipt(&mut sender), told("under way", "3", "acknowledged"));
        }
        let id = format!("after restart {restart}");
        send(&world, 9, &id);
        assert_eq!(receipt(&mut sender), told(&id, "9", "offline"), "nothing else comes first");
    }
}

behaviour!(an_address_says_how_long_its_client_is_kept, |backend| {
    let world = World::new(backend, 1);
    for (keep, parked) in [(0, 0), (600, 1)] {
        let time = Duration::from_secs(keep);
        let url = world.im.connect_url_keeping(1, None, time).unwrap();
        let mut socket = Client::speak(world.node_of(1).local_addr(), &url, "imcore.1").unwrap();
        assert_eq!(socket.json()["hello"]["keep"], keep);
        eventually("online", || world.im.is_online(1).unwrap());
        drop(socket);
        eventually("closed", || world.node_of(1).vitals().stats().connections == 0);
        assert_eq!(world.node_of(1).vitals().stats().parked, parked, "{keep}");
        eventually("as promised", || world.im.is_online(1).unwrap() == (parked == 1));
    }
});
