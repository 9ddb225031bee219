//! One kind of id per deployment: an event with an id of the other kind ends a .NET subscriber's process, so
//! none must ever be published, whoever wrote the ticket and in whatever form.

use std::time::Duration;

use testkit::{Imserver, Redis, ws::Client};

const GUID: &str = "8f14e45f-ceea-467f-a9b1-000000000007";

/// Prefix, flags beside it, tickets that are taken, tickets that are not.
type Fleet = (&'static str, &'static [&'static str], Vec<String>, Vec<String>);

fn fleets() -> [Fleet; 4] {
    let item = |id: &str| format!("{{\"Item1\":{id},\"Item2\":null}}");
    let integers =
        vec![item("7"), item("\"7\""), item("7.0"), item("-3"), "{item1:'9'}".to_owned()];
    let guids = vec![
        item(&format!("\"{GUID}\"")),
        item(&format!("\"{{{}}}\"", GUID.to_uppercase())),
        item(&format!("\"{}\"", GUID.replace('-', ""))),
        format!("{{'item1':'{GUID}'}}"),
    ];
    let none = [item("null"), item("\"x\""), item("[7]"), "7".to_owned()];
    let with = |wrong: &[String]| [wrong, &none[..], &[]].concat();
    let zeros = [item("0"), "{\"Item2\":\"a\"}".to_owned(), item("true")];
    [
        ("im_v2", &[], integers.clone(), with(&guids)),
        ("wsim", &[], guids.clone(), [with(&integers), zeros.to_vec()].concat()),
        ("wsim", &["--ids", "integer"], integers.clone(), with(&guids)),
        ("own", &[], [integers, guids].concat(), with(&[])),
    ]
}

#[test]
fn nothing_of_another_kind_is_ever_published() {
    for (prefix, flags, good, bad) in fleets() {
        let redis = Redis::start();
        let base = ["--listen", "127.0.0.1:0", "--redis", &redis.url(), "--prefix", prefix];
        let node = Imserver::start(&[&base[..], flags].concat());
        let address = node.address();
        node.wait_ready();
        let mut listener = redis.connect();
        let mut events = listener.as_pubsub();
        for what in ["Online", "Offline"] {
            events.subscribe(format!("evt_{prefix}_ws{what}")).unwrap();
        }
        events.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        let mut connection = redis.connect();
        let mut enter = |ticket: &str| {
            let key = format!("{prefix}_wsTokenT");
            redis::cmd("SET").arg(key).arg(ticket).arg("EX").arg(10).exec(&mut connection).unwrap();
            Client::connect(address, "ws://x/ws?token=T")
        };
        for ticket in &bad {
            assert_eq!(enter(ticket).err(), Some(401), "{prefix} {flags:?} {ticket}");
        }
        for ticket in &good {
            let client =
                enter(ticket).unwrap_or_else(|status| panic!("{prefix} {ticket}: {status}"));
            client.leave();
            // Nothing else came before.
            for _ in ["online", "offline"] {
                assert_eq!(events.get_message().unwrap().get_payload::<String>().unwrap(), *ticket);
            }
        }
        let warned = node.log().matches("has ids of the kind").count();
        assert_eq!(warned, 1, "said once a minute: {}", node.log());
    }
}
