//! The wire format against records of the real .NET client and server (`tests/fixtures/wire/`).
//!
//! A fixture line is one case: `published.jsonl` what the client published, with what it means;
//! `tolerance.jsonl` odd payloads, with the frames that the real server sent for them;
//! `token_values.jsonl` stored tickets, with the status of the handshake and the id that came online.

use std::{collections::BTreeMap, fs, path::Path};

use serde::{Deserialize, de::DeserializeOwned};

use super::{Envelope, Ticket};
use crate::id::ClientId;

fn fixtures<T: DeserializeOwned>(name: &str) -> Vec<T> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/wire").join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

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
            },
            "channel" => Envelope::Channel {
                sender: self.get("sender"),
                channel: self.get::<Option<String>>("channel").filter(|name| !name.is_empty()),
                content: self.get("content"),
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
        let client = Ticket::parse(&case.value).map(|ticket| ticket.client());
        // More lenient on purpose: a GUID server's numbers are ids to us.
        let number = case.dialect == "guid" && matches!(client, Some(ClientId::Int(_)));
        let expected = case.client.as_deref().and_then(ClientId::parse_text);
        let zero =
            client.is_some_and(ClientId::is_system) && expected.is_some_and(ClientId::is_system);
        assert!(
            client == expected || number || zero,
            "{} {} ({}): {client:?}",
            case.dialect,
            case.scenario,
            case.status
        );
    }
}
