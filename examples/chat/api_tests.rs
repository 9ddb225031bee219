//! What the routes do and refuse, without a socket.

use std::{net::Ipv4Addr, sync::Arc};

use imcore::broker::MemoryBroker;

use super::*;
use crate::people::People;

fn api() -> Api {
    let broker = Arc::new(MemoryBroker::new());
    let im = ImClient::builder().servers(["n:1"]).broker(broker).build().unwrap();
    let roll = People::watch(&im).unwrap().roll();
    Api::new(im, roll, Sessions::new(b"the secret of the tests"))
}

fn call(api: &Api, path: &str, form: &str) -> Answer {
    Api::admit("POST", path)?;
    let caller = Caller { ip: Ipv4Addr::LOCALHOST.into() };
    api.call(path, &Fields::read("", "", form.as_bytes())?, &caller)
}

/// Calls `path` with the session of `client`.
fn call_as(api: &Api, client: i64, path: &str, form: &str) -> Answer {
    let session = api.sessions.of(&client.into());
    call(api, path, &format!("websocketId={client}&session={session}&{form}"))
}

fn status(answer: Answer) -> u16 {
    answer.unwrap_err().status
}

#[test]
fn pre_connect_makes_an_id_or_keeps_the_one_it_made() {
    let api = api();
    let made = call(&api, "/ws/pre-connect", "nick=fox").unwrap();
    assert_eq!(made["code"], 0);
    assert!(made["server"].as_str().unwrap().starts_with("ws://n:1/ws?token="));
    let (id, session) = (made["websocketId"].as_i64().unwrap(), made["session"].as_str().unwrap());
    assert!((1..=MAX_SAFE_ID).contains(&id));
    let kept = call(&api, "/ws/pre-connect", &format!("websocketId={id}&session={session}"));
    assert_eq!(kept.unwrap()["websocketId"], id);
}

#[test]
fn nobody_acts_under_an_id_that_was_not_issued_to_it() {
    let api = api();
    let session = api.sessions.of(&9.into());
    for proof in ["", "&session=", "&session=00", &format!("&session={session}")] {
        for (path, form) in [
            ("/ws/pre-connect", "websocketId=1"),
            ("/ws/offline", "websocketId=1"),
            ("/ws/check", "websocketId=1"),
            ("/ws/rejoin", "websocketId=1"),
            ("/ws/subscr-channel", "websocketId=1&channel=a"),
            ("/ws/leave-channel", "websocketId=1&channel=a"),
            ("/ws/send-channelmsg", "websocketId=1&channel=a&message=x"),
            ("/ws/send-broadcast", "websocketId=1&message=x"),
            ("/ws/send-msg", "senderWebsocketId=1&websocketId=9&receiveWebsocketId=2&message=x"),
        ] {
            assert_eq!(status(call(&api, path, &format!("{form}{proof}"))), 403, "{path} {proof}");
        }
    }
    // Nor without any id.
    assert_eq!(status(call(&api, "/ws/send-broadcast", "message=x&senderNick=Admin")), 400);
}

#[test]
fn rooms_are_joined_counted_and_left() {
    let api = api();
    for (id, room) in [(1, "b"), (2, "b"), (2, "a")] {
        call_as(&api, id, "/ws/subscr-channel", &format!("channel={room}")).unwrap();
    }
    let rooms = call(&api, "/ws/get-channels", "").unwrap();
    let expected = json!([{ "chan": "a", "online": 1 }, { "chan": "b", "online": 2 }]);
    assert_eq!((&rooms["channels"], &rooms["total"]), (&expected, &json!(2)));
    let members = call(&api, "/ws/get-members", "channel=b").unwrap();
    let expected = json!({ "websocketId": 2, "nick": null, "online": false });
    assert_eq!(members["members"][1], expected);
    call_as(&api, 2, "/ws/leave-channel", "channel=b").unwrap();
    assert_eq!(call(&api, "/ws/get-members", "channel=b").unwrap()["total"], 1);
}

#[test]
fn what_the_service_knows_is_joined_again() {
    let api = api();
    let members = |room: &str| {
        call(&api, "/ws/get-members", &format!("channel={room}")).unwrap()["total"].clone()
    };
    // A new process knows nothing; it believes the page once.
    let rejoined = call_as(&api, 1, "/ws/rejoin", r#"channels=["a","b"]"#).unwrap();
    assert_eq!(rejoined["channels"], json!(["a", "b"]));
    call_as(&api, 1, "/ws/leave-channel", "channel=b").unwrap();
    // The node forgot everything, and the page is behind.
    api.im.leave([1], ["a"]).unwrap();
    let rejoined = call_as(&api, 1, "/ws/rejoin", r#"channels=["a","b","c"]"#).unwrap();
    assert_eq!(rejoined["channels"], json!(["a"]));
    assert_eq!((members("a"), members("b"), members("c")), (json!(1), json!(0), json!(0)));
    let many: Vec<_> = (0..=MOST_ROOMS).map(|number| number.to_string()).collect();
    for channels in ["x", "[1]", r#"[""]"#, &json!(many).to_string()] {
        let form = format!("channels={channels}");
        assert_eq!(status(call_as(&api, 3, "/ws/rejoin", &form)), 400, "{channels}");
    }
}

#[test]
fn nobody_makes_rooms_or_messages_without_end() {
    let api = api();
    for number in 0..MOST_ROOMS {
        call_as(&api, 1, "/ws/subscr-channel", &format!("channel={number}")).unwrap();
    }
    assert_eq!(status(call_as(&api, 1, "/ws/subscr-channel", "channel=more")), 409);
    let mut last = Ok(json!({}));
    for _ in 0..100 {
        last = call_as(&api, 1, "/ws/send-broadcast", "message=x");
    }
    assert_eq!(status(last), 429);
    assert!(call_as(&api, 2, "/ws/send-broadcast", "message=x").is_ok(), "others are not held up");
    let many: Vec<_> = (0..100).map(|_| call(&api, "/ws/pre-connect", "")).collect();
    assert!(many[0].is_ok() && many[99].is_err());

    for number in 0..MOST_CHANNELS {
        // Spread, since a client may be in so many only.
        api.im.join([5 + number as i64 / 500], [format!("room {number}")]).unwrap();
    }
    assert_eq!(status(call_as(&api, 3, "/ws/subscr-channel", "channel=one+more")), 409);
    assert!(call_as(&api, 3, "/ws/subscr-channel", "channel=room+7").is_ok());
    let rooms = call(&api, "/ws/get-channels", "").unwrap();
    assert_eq!(rooms["channels"].as_array().unwrap().len(), MOST_LISTED);
    assert_eq!(rooms["total"], MOST_CHANNELS + MOST_ROOMS);
}

#[test]
fn what_a_message_says_of_its_sender_does_not_count() {
    let message = r#"{"sender":9,"senderNick":"N","time":1,"msg":{"type":"text","content":"x"}}"#;
    let encoded: String = form_urlencoded::byte_serialize(message.as_bytes()).collect();
    let form = format!("channel=a&messageId=m1&message={encoded}");
    let sent = call_as(&api(), 1, "/ws/send-channelmsg", &form).unwrap();
    let message = &sent["message"];
    assert_eq!((&message["sender"], &message["senderNick"]), (&json!(1), &json!("N")));
    assert_eq!((&message["id"], &message["chan"]), (&json!("m1"), &json!("a")));
    assert_ne!(message["time"], 1);
}

#[test]
fn unusable_requests_are_refused_with_a_status() {
    let api = api();
    assert_eq!(status(call(&api, "/ws/nothing", "")), 404);
    for (path, form) in [
        ("/ws/subscr-channel", "websocketId=zero&channel=a"),
        ("/ws/pre-connect", "nick=a%0Ab"),
        ("/ws/offline", ""),
    ] {
        assert_eq!(status(call(&api, path, form)), 400, "{path}");
    }
    for (path, form) in [
        ("/ws/subscr-channel", ""),
        ("/ws/send-channelmsg", "channel=a"),
        ("/ws/send-msg", "senderWebsocketId=1&receiveWebsocketId=2&message=x&isReceipt=?"),
    ] {
        assert_eq!(status(call_as(&api, 1, path, form)), 400, "{path}");
    }
    for path in ["/ws/pre-connect", "/ws/offline", "/ws/send-msg"] {
        assert_eq!(Api::admit("GET", path).unwrap_err().status, 405, "{path}");
    }
    assert_eq!(Api::admit("POST", "/ws/Offline"), Ok(()));
}
