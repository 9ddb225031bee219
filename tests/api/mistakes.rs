//! What callers get wrong, and whether the answer helps them: in the words of JSON, with the place.

use testkit::Imserver;

use crate::http::{Answer, ask};

fn node() -> Imserver {
    Imserver::start(&["--listen", "127.0.0.1:0", "--server", "n", "--api", "127.0.0.1:0"])
}

/// Words of the program's own language, which callers do not know.
const FOREIGN: [&str; 7] = ["sequence", "invalid type", "map", "struct", "newtype", "EOF", "u64"];

/// Request, body, where the mistake is, and words of what is said of it.
const MISTAKES: &[(&str, &str, &str, &str)] = &[
    ("POST /v1/messages", "", "", "empty"),
    ("POST /v1/messages", "  ", "", "empty"),
    ("POST /v1/messages", "[]", "", "an array; expected an object"),
    ("POST /v1/messages", "{\"receivers\": [1], ", "", "ends in the middle"),
    ("POST /v1/messages", "{\"receivers\": 42, \"message\": 1}", "/receivers", "a number"),
    ("POST /v1/messages", "{\"receivers\": {}, \"message\": 1}", "/receivers", "an object"),
    ("POST /v1/messages", "{\"receivers\": [], \"message\": 1}", "/receivers", "0 entries"),
    ("POST /v1/messages", "{\"receivers\": [[1]], \"message\": 1}", "/receivers/0", "[1]"),
    ("POST /v1/messages", "{\"receivers\": [1]}", "", "\"message\" is missing"),
    ("POST /v1/messages", "{\"receivers\": [1], \"text\": 1}", "", "\"text\" is not known"),
    (
        "POST /v1/messages",
        "{\"receivers\": [1], \"message\": 1, \"receipt\": \"yes\"}",
        "/receipt",
        "expected true, false, \"sent\" or \"acknowledged\"",
    ),
    ("POST /v1/broadcast", "{\"message\": 1, \"volatile\": 1}", "/volatile", "true or false"),
    (
        "POST /v1/connections",
        "{\"client\": 1, \"keep\": 86401}",
        "/keep",
        "a whole number of seconds from 0 to 86400",
    ),
    (
        "POST /v1/messages",
        "{\"receivers\": [1], \"message\": 1, \"receipt\": true}",
        "/receipt",
        "the system gets no receipts",
    ),
    (
        "POST /v1/messages",
        "{\"sender\": 0, \"receivers\": [1], \"message\": 1, \"receipt\": true}",
        "/receipt",
        "the system gets no receipts",
    ),
    (
        "POST /v1/messages/batch",
        "{\"messages\": [{\"broadcast\": true, \"message\": 1}, {\"receivers\": [1, \"x\"], \
             \"message\": 1}]}",
        "/messages/1/receivers/1",
        "messages[1].receivers[1]: x is not a client id",
    ),
    ("POST /v1/messages/batch", "{\"messages\": []}", "/messages", "0 entries"),
    ("POST /v1/connections", "{\"client\": 1, \"meta\": {}}", "/meta", "meta: it is an object"),
    (
        "POST /v1/memberships",
        "{\"join\": [{\"client\": 1, \"channel\": \"\"}]}",
        "/join/0/channel",
        "join[0].channel: it has 0 characters",
    ),
    ("POST /v1/broadcast", "{\"message\": 1} {}", "", "not JSON"),
    ("POST /v1/broadcast", "\u{feff}{\"message\": 1}", "", "byte order mark"),
];

#[test]
fn mistakes_are_told_in_the_words_of_json_and_with_their_place() {
    let process = node();
    let api = process.api();
    for (request, body, pointer, words) in MISTAKES {
        let answer = ask(api, request, "", Some(body));
        assert_eq!((answer.status, answer.code()), (400, "invalid_request".into()), "{body}");
        let problem = answer.json();
        let detail = problem["detail"].as_str().unwrap();
        assert_eq!(problem["pointer"], *pointer, "{body}: {answer:?}");
        assert!(detail.contains(words), "{body}: {detail}");
        assert!(!FOREIGN.iter().any(|word| detail.contains(word)), "{body}: {detail}");
    }
    let long = format!("PUT /v1/channels/{}/clients/1", "x".repeat(300));
    let answer = ask(api, &long, "", None);
    assert!(answer.body.contains("channel in the address: it has 300 characters"), "{answer:?}");
}

#[test]
fn bodies_in_a_coding_are_refused_by_name() {
    let process = node();
    let api = process.api();
    let send = |coding: &str| -> Answer {
        let header = format!("Content-Encoding: {coding}\r\n");
        ask(api, "POST /v1/broadcast", &header, Some("{\"message\": 1}"))
    };
    for coding in ["gzip", "br", "deflate, gzip"] {
        let answer = send(coding);
        assert_eq!((answer.status, answer.code()), (415, "unsupported_media_type".into()));
        assert!(answer.body.contains(coding), "{answer:?}");
    }
    assert_eq!(send("identity").status, 202);
}

#[test]
fn messages_that_browsers_cannot_read_are_refused() {
    let process = node();
    let api = process.api();
    let send = |depth: usize| {
        let message = ["[".repeat(depth), "]".repeat(depth)].concat();
        let one = ask(api, "POST /v1/broadcast", "", Some(&format!("{{\"message\": {message}}}")));
        let item = format!("{{\"broadcast\": true, \"message\": {message}}}");
        let body = format!("{{\"messages\": [{item}]}}");
        (one.status, ask(api, "POST /v1/messages/batch", "", Some(&body)).status)
    };
    assert_eq!(send(128), (202, 202));
    assert_eq!(send(129), (400, 400));
    assert_eq!(send(100_000), (400, 400));
}
