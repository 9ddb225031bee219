//! What a client in a channel knows of the others, by what it is told: the promise of `docs/protocol.md`, and nothing of how
//! nodes keep it.

use std::{collections::BTreeSet, time::Instant};

use serde_json::Value;

use crate::ws::Client;

/// The roster of one channel as one connection knows it.
pub struct Roster {
    channel: String,
    /// Who is there; `None` if nobody is named.
    pub members: Option<BTreeSet<String>>,
    pub online: usize,
    told: u64,
    began: Instant,
}

impl Roster {
    /// Of a connection that is about to come into the channel.
    pub fn of(channel: &str) -> Self {
        let (members, online, told) = (None, 0, 0);
        Roster { channel: channel.into(), members, online, told, began: Instant::now() }
    }

    /// The next of all that its connection hears, which must be about it.
    pub fn hear(&mut self, client: &mut Client) {
        let mut said = client.json();
        if said.get("o").is_some() {
            assert!(said["p"].is_string(), "{said}");
            said = said["o"].take();
        }
        self.take(&said);
    }

    /// Hears until exactly these are known to be there.
    pub fn hear_until(&mut self, client: &mut Client, members: &[i64]) {
        let members: BTreeSet<_> = members.iter().map(i64::to_string).collect();
        while self.members.as_ref() != Some(&members) {
            self.hear(client);
        }
    }

    fn take(&mut self, said: &Value) {
        assert_eq!(said["channel"], self.channel, "{said}");
        self.told += 1;
        let seconds = self.began.elapsed().as_secs();
        assert!(self.told <= seconds + 1, "told {} times in {seconds} s", self.told);
        self.online = said["online"].as_u64().unwrap() as usize;
        let list = |name: &str| -> Option<BTreeSet<String>> {
            let clients = said.get(name)?.as_array().unwrap();
            Some(clients.iter().map(|client| client.as_str().unwrap().to_owned()).collect())
        };
        let (Some(joined), Some(left)) = (list("joined"), list("left")) else {
            assert_eq!(said.as_object().unwrap().len(), 2, "{said}");
            assert!(self.online >= 200);
            self.members = None;
            return;
        };
        let is_whole = joined.len() == self.online;
        let mut members = match self.members.take() {
            Some(known) if left.is_empty() && is_whole && !joined.is_disjoint(&known) => joined,
            Some(known) => {
                assert!(joined.is_disjoint(&known) && left.is_subset(&known), "{said} {known:?}");
                assert!(!joined.is_empty() || !left.is_empty(), "nothing is said: {said}");
                known.union(&joined).cloned().collect()
            }
            None => {
                assert!(is_whole && left.is_empty(), "the first names all: {said}");
                joined
            }
        };
        members.retain(|client| !left.contains(client));
        assert_eq!(members.len(), self.online, "{said}");
        assert!(self.online < 200);
        self.members = Some(members);
    }
}
