//! What travels to a node: direct messages, channel messages, commands, probes.

use std::fmt::Write as _;

use super::convert::{push_id, push_string};
use crate::id::ClientId;

/// Control words in front of a payload, as the original writes them.
pub(super) const FORCE_OFFLINE: &str = "__FreeIM__(ForceOffline)";
pub(super) const CHAN_MESSAGE: &str = "__FreeIM__(ChanMessage)";
/// Ours: a node's message to itself, see [`Envelope::Probe`].
pub(super) const PROBE: &str = "__FreeIM__(Probe)";
pub(super) const SLOTS: &str = "__FreeIM__(Slots)";
pub(super) const FORWARDED: &str = "__FreeIM__(Forwarded)";
/// Longest id of a message.
pub(crate) const MESSAGE_ID_BYTES: usize = 128;

/// What travels to a node through the broker.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Envelope {
    /// A message for some clients of the node.
    Direct {
        /// Who sends it; the system's messages get no receipts.
        sender: ClientId,
        /// Receivers, in order; one listed twice gets it twice.
        receivers: Vec<ClientId>,
        /// The text that each receiver's socket gets: the JSON of the message value.
        content: String,
        /// Whether the sender wants to be told what became of it, per receiver.
        receipt: bool,
        /// The sender's own name for the message, which its receipts repeat. Not the original's.
        id: Option<String>,
        /// Whether the receipt is to wait until the receiver says that it has the message. Not the original's.
        acknowledge: bool,
        /// Whether it is itself a receipt, by which a node says what became of another message. Not the original's.
        about: bool,
        /// The W3C `traceparent` of the request that it was sent by. Not the original's.
        trace: Option<String>,
    },
    /// A message for all members of a channel on the node, or for everybody on it.
    Channel {
        /// Who sends it.
        sender: ClientId,
        /// The channel; `None` is a broadcast.
        channel: Option<String>,
        /// The text that each receiver's socket gets.
        content: String,
        /// The W3C `traceparent` of the request that it was sent by. Not the original's.
        trace: Option<String>,
    },
    /// Close all connections of a client.
    ForceOffline {
        /// The client to cut.
        client: ClientId,
    },
    /// A message that no log keeps, as it is worth nothing a moment later. Only ever published: a feed hands on what
    /// is inside.
    Volatile(Box<Envelope>),
    /// What a node hands on that got it, because the client is, or may be, another one's: whoever gets it does not hand it
    /// on again. Not in any log.
    Forwarded(Box<Envelope>),
    /// The table of slots has changed, in the step in which this was published.
    Slots {
        /// Its version.
        version: u64,
        /// The slot that its owner has given away, and to whom, if that is what has changed.
        given: Option<(u64, String)>,
        /// That owner, if it was dead and the new one has taken it.
        from: Option<String>,
    },
    /// A node's message to itself: proof that its subscription hears, and a barrier in the feed.
    Probe {
        /// Tells the node's own probes from those of a second process under the same name.
        origin: u64,
        /// Counts up by one.
        number: u64,
    },
}

impl Envelope {
    /// The message itself, and whether no log is to keep it.
    pub(crate) fn message(&self) -> (&Envelope, bool) {
        match self {
            Envelope::Volatile(message) => (message.message().0, true),
            Envelope::Forwarded(_) => (self, true),
            message => (message, false),
        }
    }

    /// Whether it names a client by a text that is neither a number nor a GUID, as no .NET process reads it.
    #[cfg(any(test, feature = "server"))]
    pub(crate) fn names_texts(&self) -> bool {
        let is_text = |client: &ClientId| matches!(client, ClientId::Text(_));
        match self {
            Envelope::Direct { sender, receivers, .. } => {
                is_text(sender) || receivers.iter().any(is_text)
            }
            Envelope::Channel { sender, .. } => is_text(sender),
            Envelope::ForceOffline { client } => is_text(client),
            Envelope::Volatile(message) | Envelope::Forwarded(message) => message.names_texts(),
            Envelope::Slots { .. } | Envelope::Probe { .. } => false,
        }
    }

    /// The same for these receivers; what has none in it stays as it is.
    pub(crate) fn to(&self, receivers: Vec<ClientId>) -> Envelope {
        match self {
            Envelope::Volatile(message) => Envelope::Volatile(Box::new(message.to(receivers))),
            Envelope::Direct {
                sender, content, receipt, id, acknowledge, about, trace, ..
            } => Envelope::Direct {
                sender: sender.clone(),
                receivers,
                content: content.clone(),
                receipt: *receipt,
                id: id.clone(),
                acknowledge: *acknowledge,
                about: *about,
                trace: trace.clone(),
            },
            other => other.clone(),
        }
    }

    /// The payload as the .NET helper would write it.
    pub(crate) fn encode(&self) -> String {
        let mut out = String::with_capacity(64);
        match self {
            Envelope::Direct {
                sender,
                receivers,
                content,
                receipt,
                id,
                acknowledge,
                about,
                trace,
            } => {
                out.push_str("{\"Item1\":");
                push_id(&mut out, sender);
                out.push_str(",\"Item2\":[");
                push_ids(&mut out, receivers);
                out.push_str("],\"Item3\":");
                push_string(&mut out, content);
                out.push_str(",\"Item4\":");
                out.push_str(if *receipt { "true" } else { "false" });
                if let Some(id) = id {
                    out.push_str(",\"Id\":");
                    push_string(&mut out, id);
                }
                for (name, set) in [("Ack", acknowledge), ("Receipt", about)] {
                    if *set {
                        let _ = write!(out, ",\"{name}\":true");
                    }
                }
                push_trace(&mut out, trace.as_deref());
                out.push('}');
            }
            Envelope::Channel { sender, channel, content, trace } => {
                out.push_str(CHAN_MESSAGE);
                out.push_str("{\"Item1\":");
                push_id(&mut out, sender);
                out.push_str(",\"Item2\":");
                push_optional(&mut out, channel.as_deref());
                out.push_str(",\"Item3\":");
                push_string(&mut out, content);
                push_trace(&mut out, trace.as_deref());
                out.push('}');
            }
            Envelope::ForceOffline { client } => {
                let _ = write!(out, "{FORCE_OFFLINE}{client}");
            }
            Envelope::Volatile(message) => out = message.encode(),
            Envelope::Forwarded(message) => out = format!("{FORWARDED}{}", message.encode()),
            Envelope::Slots { version, given, from } => {
                push_slots(&mut out, *version, given.as_ref(), from.as_deref());
            }
            Envelope::Probe { origin, number } => {
                let _ = write!(out, "{PROBE}{origin}:{number}");
            }
        }
        out
    }
}

fn push_slots(out: &mut String, version: u64, given: Option<&(u64, String)>, from: Option<&str>) {
    let _ = match (given, from) {
        (None, _) => write!(out, "{SLOTS}{version}"),
        (Some((slot, to)), None) => write!(out, "{SLOTS}{version}:{slot}:{to}"),
        (Some((slot, to)), Some(from)) => write!(out, "{SLOTS}{version}!{slot}:{to} {from}"),
    };
}

fn push_ids(out: &mut String, ids: &[ClientId]) {
    for (index, id) in ids.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        push_id(out, id);
    }
}

fn push_optional(out: &mut String, text: Option<&str>) {
    match text {
        Some(text) => push_string(out, text),
        None => out.push_str("null"),
    }
}

fn push_trace(out: &mut String, trace: Option<&str>) {
    if let Some(trace) = trace {
        out.push_str(",\"Trace\":");
        push_string(out, trace);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_are_escaped_as_the_original_does() {
        let envelope = Envelope::Direct {
            sender: 1.into(),
            receivers: vec![2.into()],
            content: "\"a\u{2028}\u{85}\u{7f}<\"".into(),
            receipt: false,
            id: None,
            acknowledge: false,
            about: false,
            trace: None,
        };
        let payload = envelope.encode();
        assert_eq!(
            payload,
            "{\"Item1\":1,\"Item2\":[2],\"Item3\":\"\\\"a\\u2028\\u0085\u{7f}<\\\"\",\"Item4\":false}"
        );
        assert_eq!(Envelope::decode(&payload), Ok(envelope));
    }

    #[test]
    fn what_nodes_tell_each_other_is_read_again() {
        let kick = || Box::new(Envelope::ForceOffline { client: 7.into() });
        for (envelope, payload) in [
            (Envelope::Slots { version: 12, given: None, from: None }, "__FreeIM__(Slots)12"),
            (
                Envelope::Slots { version: 12, given: Some((7, "im:1".into())), from: None },
                "__FreeIM__(Slots)12:7:im:1",
            ),
            (
                Envelope::Slots {
                    version: 12,
                    given: Some((7, "im:1".into())),
                    from: Some("im:2".into()),
                },
                "__FreeIM__(Slots)12!7:im:1 im:2",
            ),
            (Envelope::Forwarded(kick()), "__FreeIM__(Forwarded)__FreeIM__(ForceOffline)7"),
        ] {
            assert_eq!(envelope.encode(), payload);
            assert_eq!(Envelope::decode(payload), Ok(envelope));
        }
        for wrong in [
            "(Slots)",
            "(Slots)x",
            "(Slots)1:2",
            "(Slots)1!2:im:1",
            "(Forwarded)",
            "(Forwarded){",
            "(Forwarded)__FreeIM__(Slots)1",
        ] {
            assert!(Envelope::decode(&format!("__FreeIM__{wrong}")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ids_that_are_other_texts_are_strings() {
        let text = |text: &str| text.parse::<ClientId>().unwrap();
        let envelope = Envelope::Direct {
            sender: text("alice"),
            receivers: vec![text("a\"\\/é"), 2.into()],
            content: "3".into(),
            receipt: true,
            id: None,
            acknowledge: false,
            about: false,
            trace: None,
        };
        let payload = envelope.encode();
        assert!(payload.starts_with(r#"{"Item1":"alice","Item2":["a\"\\/é",2],"#), "{payload}");
        for payload in [payload.clone(), payload.replace("Item4", "item4")] {
            assert_eq!(Envelope::decode(&payload), Ok(envelope.clone()));
        }
        let kick = Envelope::ForceOffline { client: text("__FreeIM__(Probe)1:2") };
        let forwarded = Envelope::Forwarded(Box::new(kick.clone()));
        for envelope in [envelope, kick, forwarded] {
            assert_eq!(Envelope::decode(&envelope.encode()), Ok(envelope.clone()));
            assert!(envelope.names_texts());
        }
        assert!(!Envelope::ForceOffline { client: 1.into() }.names_texts());
        assert!(
            Envelope::decode("{\"Item1\":\"a\\ud800\",\"Item2\":[2],\"Item3\":\"x\"}").is_err()
        );
    }

    #[test]
    fn an_id_stands_behind_the_original_members() {
        let envelope = |id: Option<&str>| Envelope::Direct {
            sender: 1.into(),
            receivers: vec![2.into()],
            content: "3".into(),
            receipt: true,
            id: id.map(str::to_owned),
            acknowledge: false,
            about: false,
            trace: None,
        };
        let payload = r#"{"Item1":1,"Item2":[2],"Item3":"3","Item4":true,"Id":"order 17"}"#;
        assert_eq!(envelope(Some("order 17")).encode(), payload);
        assert_eq!(Envelope::decode(payload), Ok(envelope(Some("order 17"))));
        // As leniently as the other members; what no receipt could repeat is none.
        for (written, id) in [
            ("'order 17'", Some("order 17")),
            ("17", Some("17")),
            ("null", None),
            ("[1]", None),
            (&format!("\"{}\"", "x".repeat(129)), None),
        ] {
            let payload = payload.replace("\"order 17\"", written).replace("Item4", "item4");
            assert_eq!(Envelope::decode(&payload), Ok(envelope(id)), "{payload}");
        }
    }

    #[test]
    fn what_is_ours_is_written_only_where_it_says_something() {
        for (acknowledge, about, tail) in [
            (false, false, "}"),
            (true, false, ",\"Ack\":true}"),
            (false, true, ",\"Receipt\":true}"),
        ] {
            let (sender, receivers, content) = (1.into(), vec![2.into()], "3".to_owned());
            let receipt = acknowledge;
            let envelope = Envelope::Direct {
                sender,
                receivers,
                content,
                receipt,
                id: None,
                acknowledge,
                about,
                trace: None,
            };
            let payload = envelope.encode();
            assert!(payload.ends_with(tail), "{payload}");
            assert_eq!(Envelope::decode(&payload), Ok(envelope.clone()));
            assert_eq!(Envelope::decode(&payload.replace("Item4", "item4")), Ok(envelope));
        }
    }

    #[test]
    fn a_trace_stands_behind_everything() {
        const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let direct = |trace: Option<&str>| Envelope::Direct {
            sender: 1.into(),
            receivers: vec![2.into()],
            content: "3".into(),
            receipt: true,
            id: Some("a".into()),
            acknowledge: true,
            about: false,
            trace: trace.map(str::to_owned),
        };
        let channel = |trace: Option<&str>| Envelope::Channel {
            sender: 1.into(),
            channel: None,
            content: "3".into(),
            trace: trace.map(str::to_owned),
        };
        for (envelope, plain) in
            [(direct(Some(TRACE)), direct(None)), (channel(Some(TRACE)), channel(None))]
        {
            let payload = envelope.encode();
            assert!(payload.ends_with(&format!(",\"Trace\":\"{TRACE}\"}}")), "{payload}");
            assert_eq!(Envelope::decode(&payload), Ok(envelope.clone()));
            assert_eq!(Envelope::decode(&payload.replace("Item3", "item3")), Ok(envelope));
            // What is no trace is as if it were not there.
            for wrong in ["x", "", &TRACE.replace("00-", "ff-")] {
                let payload = payload.replace(TRACE, wrong);
                assert_eq!(Envelope::decode(&payload), Ok(plain.clone()), "{payload}");
            }
        }
    }
}
