//! What connections are told of a channel's roster: all of it when they come, then what has changed. Pure.
//!
//! Made once, by the thread of rosters, for all reactors. It is no message: it has no place in the order of these, nobody
//! keeps it for a client that is away, and who comes back is told all of it anew.

use std::{collections::BTreeSet, sync::Arc};

use serde::Serialize;

use super::{frame::Frame, prepared::Dialect};
use crate::{broker::Roster, id::ClientId, wire::Position};

/// A roster, and what is new in it.
#[derive(Debug)]
pub(crate) struct Rostered {
    pub(crate) channel: Arc<str>,
    /// Who is there, in order, if they are named.
    members: Option<Arc<[ClientId]>>,
    /// For those who know nothing of it.
    pub(crate) whole: Arc<Told>,
    /// For those who know the one before; `None` if there was none.
    pub(crate) change: Option<Arc<Told>>,
}

impl Rostered {
    /// The roster of a channel, and the one that was told before; `None` if that was the same.
    pub(crate) fn new(channel: &Arc<str>, before: Option<&Roster>, now: &Roster) -> Option<Self> {
        if before == Some(now) {
            return None;
        }
        let told = |joined, left| Arc::new(Told::new(channel, now.online, joined, left));
        let whole = match &now.members {
            Some(all) => told(Some(texts(all.iter())), Some(Vec::new())),
            None => told(None, None),
        };
        let change = before.map(|before| match (&before.members, &now.members) {
            (Some(before), Some(now)) => {
                let (was, is): (BTreeSet<_>, BTreeSet<_>) =
                    (before.iter().collect(), now.iter().collect());
                let (joined, left) = (is.difference(&was).copied(), was.difference(&is).copied());
                told(Some(texts(joined)), Some(texts(left)))
            }
            // Who has heard no names is told all of them.
            _ => Arc::clone(&whole),
        });
        let (channel, members) = (Arc::clone(channel), now.members.clone());
        Some(Rostered { channel, members, whole, change })
    }

    /// Whether the client finds itself in it.
    pub(crate) fn has(&self, client: &ClientId) -> bool {
        self.members.as_ref().is_none_or(|members| members.binary_search(client).is_ok())
    }
}

fn texts<'a>(clients: impl Iterator<Item = &'a ClientId>) -> Vec<String> {
    clients.map(ClientId::to_string).collect()
}

/// The text of one telling.
#[derive(Debug)]
pub(crate) struct Told {
    text: String,
    plain: Frame,
}

#[derive(Serialize)]
struct Text<'a> {
    channel: &'a str,
    online: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    joined: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    left: Option<Vec<String>>,
}

impl Told {
    fn new(
        channel: &str,
        online: u64,
        joined: Option<Vec<String>>,
        left: Option<Vec<String>>,
    ) -> Self {
        let text = serde_json::to_string(&Text { channel, online, joined, left })
            .expect("texts and numbers are always valid JSON");
        Told { plain: Frame::word(&text), text }
    }

    /// What a connection of `dialect` gets that was told everything up to `position`.
    pub(crate) fn frame(&self, dialect: Dialect, epoch: &str, position: Position) -> Frame {
        match dialect {
            Dialect::Plain => self.plain.clone(),
            Dialect::Stamped => {
                let mut text = String::with_capacity(self.text.len() + 64);
                text.push_str("{\"p\":\"");
                position.push(epoch, &mut text);
                text.push_str("\",\"o\":");
                text.push_str(&self.text);
                text.push('}');
                Frame::word(&text)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roster(ids: impl IntoIterator<Item = i64>) -> Roster {
        Roster::of(ids.into_iter().map(ClientId::from).collect())
    }

    fn said(before: Option<&Roster>, now: &Roster) -> (String, Option<String>) {
        let rostered = Rostered::new(&"r".into(), before, now).unwrap();
        (rostered.whole.text.clone(), rostered.change.map(|change| change.text.clone()))
    }

    #[test]
    fn who_comes_is_told_all_and_the_others_what_is_new() {
        let (one, two) = (roster([9, 10]), roster([10, 2]));
        let whole = r#"{"channel":"r","online":2,"joined":["9","10"],"left":[]}"#;
        assert_eq!(said(None, &one), (whole.into(), None));
        let change = r#"{"channel":"r","online":2,"joined":["2"],"left":["9"]}"#;
        assert_eq!(said(Some(&one), &two).1.unwrap(), change);
        assert!(Rostered::new(&"r".into(), Some(&one), &roster([10, 9])).is_none());
        let gone = r#"{"channel":"r","online":0,"joined":[],"left":["2","10"]}"#;
        assert_eq!(said(Some(&two), &roster([])).1.unwrap(), gone);
    }

    #[test]
    fn many_are_not_named_and_named_again_once_they_are_fewer() {
        let (few, many, more) = (roster(1..200), roster(1..201), roster(1..202));
        let alone = r#"{"channel":"r","online":200}"#;
        assert_eq!(said(Some(&few), &many), (alone.into(), Some(alone.into())));
        assert_eq!(said(Some(&many), &more).1.unwrap(), r#"{"channel":"r","online":201}"#);
        let (whole, change) = said(Some(&many), &few);
        assert!(whole.contains(r#""online":199,"joined":["1","2","#) && change == Some(whole));
    }

    #[test]
    fn a_client_that_can_resume_is_told_where_it_is_as_well() {
        let rostered = Rostered::new(&"a \"\u{2028}é".into(), None, &roster([])).unwrap();
        let at = Position { number: 7, sub: 0 };
        let frame = rostered.whole.frame(Dialect::Stamped, "k3", at);
        let text = "{\"channel\":\"a \\\"\u{2028}é\",\"online\":0,\"joined\":[],\"left\":[]}";
        assert_eq!(frame.content(), format!("{{\"p\":\"k3.7\",\"o\":{text}}}"));
        assert_eq!(rostered.whole.frame(Dialect::Plain, "k3", at).content(), text);
        assert!(!frame.is_message());
    }
}
