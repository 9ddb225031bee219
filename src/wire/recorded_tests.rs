//! The wire format against records of the real .NET client and server (`tests/fixtures/wire/`).
//!
//! A fixture line is one case: `published.jsonl` what the client published, with what it means;
//! `tolerance.jsonl` odd payloads, with the frames that the real server sent for them;
//! `token_values.jsonl` stored tickets, with the status of the handshake and the id that came online.

use std::collections::BTreeMap;

use serde::{Deserialize, de::DeserializeOwned};
use testkit::fixtures;

use super::{Envelope, Ticket, known};
use crate::id::ClientId;

#[derive(Deserialize)]
struct Published {
    n: u32,
    dialect: String,
    default_settings: bool,
    payload: String,
    kind: String,
    #[serde(flatten)]
    meaning: BTreeMap<String, serde_json::Value>,
}

impl Published {
    fn get<T: DeserializeOwned>(&self, member: &str) -> T {
        serde_json::from_value(self.meaning[member].clone()).expect(member)
    }

    fn envelope(&self) -> Envelope {
        match self.kind.as_str() {
            "direct" => Envelope::Direct {
                sender: self.get("sender"),
                receivers: self.get("receivers"),
                content: self.get("content"),
                receipt: self.get("receipt"),
                id: None,
                acknowledge: false,
                about: false,
                trace: None,
            },
            "channel" => Envelope::Channel {
                sender: self.get("sender"),
                channel: self.get::<Option<String>>("channel").filter(|name| !name.is_empty()),
                content: self.get("content"),
                trace: None,
            },
            "force" => Envelope::ForceOffline { client: self.get("client") },
            kind => panic!("{kind}"),
        }
    }
}

/// Ids that a caller's settings left out are 0, whichever kind is in use.
fn same(left: &Envelope, right: &Envelope) -> bool {
    let norm = |envelope: &Envelope| {
        let mut envelope = envelope.clone();
        if let Envelope::Direct { sender, .. } | Envelope::Channel { sender, .. } = &mut envelope
            && sender.is_system()
        {
            *sender = ClientId::Int(0);
        }
        envelope
    };
    norm(left) == norm(right)
}

#[test]
fn everything_the_client_published_is_understood() {
    for case in fixtures::<Published>("published.jsonl") {
        let decoded = Envelope::decode(&case.payload);
        let context = format!("{} {}: {}", case.dialect, case.n, case.payload);
        assert!(decoded.is_ok_and(|decoded| same(&decoded, &case.envelope())), "{context}");
    }
}

#[test]
fn what_the_client_published_by_default_is_written_the_same() {
    let mut compared = 0;
    for case in fixtures::<Published>("published.jsonl") {
        // An empty channel name and none both mean a broadcast, and we write the latter.
        if case.default_settings && case.meaning.get("channel") != Some(&"".into()) {
            assert_eq!(case.envelope().encode(), case.payload, "{} {}", case.dialect, case.n);
            compared += 1;
        }
    }
    assert!(compared > 50, "{compared}");
}

#[test]
fn the_fast_reader_knows_what_every_helper_writes() {
    let reads = |payload: &str| match payload.strip_prefix("__FreeIM__(ChanMessage)") {
        Some(body) => known::channel(body),
        None => known::direct(payload),
    };
    let cases = fixtures::<Published>("published.jsonl");
    for case in cases.iter().filter(|case| case.default_settings && case.kind != "force") {
        let envelope = reads(&case.payload);
        let context = format!("{} {}: {}", case.dialect, case.n, case.payload);
        assert!(envelope.is_some_and(|envelope| same(&envelope, &case.envelope())), "{context}");
    }
    let guid = ClientId::Guid([7; 16]);
    for receivers in [vec![], vec![0.into()], vec![guid.clone(), i64::MIN.into(), i64::MAX.into()]]
    {
        for (content, id, set) in [
            ("\"plain\"", None, false),
            ("", Some(""), true),
            ("\0\u{8}\t\n\u{c}\r\"\\/é\u{85}\u{2028}\u{2029}😀", Some("😀\\\""), true),
        ] {
            let envelope = Envelope::Direct {
                sender: guid.clone(),
                receivers: receivers.clone(),
                content: content.into(),
                receipt: set,
                id: id.map(str::to_owned),
                acknowledge: set,
                about: set,
                trace: None,
            };
            assert_eq!(reads(&envelope.encode()), Some(envelope));
        }
    }
}

#[derive(Deserialize)]
struct Tolerance {
    dialect: String,
    scenario: String,
    payload: String,
    delivered: Vec<String>,
}

#[test]
fn odd_payloads_are_read_as_the_original_server_reads_them() {
    for case in fixtures::<Tolerance>("tolerance.jsonl") {
        let contents = match Envelope::decode(&case.payload) {
            // Which nodes skip where other texts are no ids, as with .NET.
            Ok(envelope) if envelope.names_texts() => Vec::new(),
            Ok(Envelope::Direct { receivers, content, .. }) => vec![content; receivers.len()],
            Ok(other) => panic!("{}: {other:?}", case.scenario),
            Err(_) => Vec::new(),
        };
        // More lenient on purpose: the GUID server's library did not know `$values`.
        let lenient = case.dialect == "guid" && case.scenario.contains("$values");
        assert!(
            contents == case.delivered || lenient,
            "{} {}: {contents:?}",
            case.dialect,
            case.scenario
        );
    }
}

#[derive(Deserialize)]
struct TokenValue {
    dialect: String,
    scenario: String,
    value: String,
    status: u16,
    client: Option<String>,
}

#[test]
fn stored_tickets_are_read_as_the_original_server_reads_them() {
    for case in fixtures::<TokenValue>("token_values.jsonl") {
        let client = Ticket::parse(&case.value).map(|ticket| ticket.client().clone());
        // Refused by its kind.
        let client = client.filter(|client| !matches!(client, ClientId::Text(_)));
        // More lenient on purpose: a GUID server's numbers are ids to us.
        let number = case.dialect == "guid" && matches!(client, Some(ClientId::Int(_)));
        let expected = case.client.as_deref().and_then(ClientId::parse_text);
        let zero =
            [&client, &expected].iter().all(|id| id.as_ref().is_some_and(ClientId::is_system));
        assert!(
            client == expected || number || zero,
            "{} {} ({}): {client:?}",
            case.dialect,
            case.scenario,
            case.status
        );
    }
}

/// Every spelling of the members that somebody may write: odd ones, missing ones, ones that come twice.
fn respelled(payload: &str) -> Vec<String> {
    let Some(start) = payload.find('{') else { return Vec::new() };
    let (front, body) = payload.split_at(start);
    let Ok(serde_json::Value::Object(members)) = serde_json::from_str(body) else {
        return Vec::new();
    };
    let written = |members: &[(String, String)]| {
        let members: Vec<_> =
            members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        format!("{front}{{{}}}", members.join(","))
    };
    let whole: Vec<_> =
        members.iter().map(|(name, value)| (name.clone(), value.to_string())).collect();
    let values = ["null", "0", "9", "true", "\"x\"", "\"5\"", "[7]", "{}", "1.5", "\"\""];
    let mut all = vec![written(&whole)];
    for (at, (name, value)) in whole.iter().enumerate() {
        let mut less = whole.clone();
        less.remove(at);
        all.push(written(&less));
        for odd in [name.to_lowercase(), name.to_uppercase(), format!("{name} "), name.clone()] {
            let mut renamed = whole.clone();
            renamed[at].0.clone_from(&odd);
            all.push(written(&renamed));
            for other in values.iter().map(|text| (*text).to_owned()).chain([value.clone()]) {
                let again = [&whole[..], &[(odd.clone(), other.clone())]].concat();
                all.push(written(&again));
                let before = [&[(odd.clone(), other.clone())], &whole[..]].concat();
                all.push(written(&before));
                let mut instead = whole.clone();
                instead[at].1 = other;
                all.push(written(&instead));
            }
        }
    }
    all
}

#[test]
fn the_fast_reader_means_what_the_lenient_one_means() {
    let mut compared = 0;
    let published = fixtures::<Published>("published.jsonl").into_iter().map(|case| case.payload);
    let odd = fixtures::<Tolerance>("tolerance.jsonl").into_iter().map(|case| case.payload);
    for payload in published.chain(odd) {
        for payload in respelled(&payload) {
            assert_eq!(
                Envelope::decode(&payload).ok(),
                Envelope::decode_leniently(&payload),
                "{payload}"
            );
            compared += 1;
        }
    }
    assert!(compared > 10_000, "{compared}");
}

#[test]
fn a_channel_message_in_odd_spelling_stays_in_its_channel() {
    let payload = "__FreeIM__(ChanMessage){\"Item1\":8,\"item2\":\"c\",\"Item3\":\"x\"}";
    let Ok(Envelope::Channel { channel, .. }) = Envelope::decode(payload) else { panic!() };
    assert_eq!(channel.as_deref(), Some("c"));
    let payload = "{\"Item1\":8,\"ITEM1\":9,\"Item2\":[1],\"Item3\":\"x\",\"Item4\":false}";
    let Ok(Envelope::Direct { sender, .. }) = Envelope::decode(payload) else { panic!() };
    assert_eq!(sender, ClientId::Int(9), "the last one of a name");
}
