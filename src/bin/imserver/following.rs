//! Following a client, a channel or a message live, for the API and the admin listener alike: what is asked for, and the stream that
//! answers it.

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use imcore::{
    ClientId, Error, ImClient,
    server::{Following, Sighting, Target, Vitals},
};
use serde_json::{Map, Value, json};

use crate::{
    logging::timestamp,
    sse::{self, LOOK, Listener},
    web::{Access, Request, Response},
};

/// Seconds that somebody follows, unless it is said otherwise, and at most.
const USUAL: u64 = 60;
pub(crate) const LONGEST: u64 = 600;
/// Characters of the longest name of a channel, and id of a message, that are asked for.
const NAME: usize = 256;

/// What can be followed on this node.
pub(crate) struct Follows {
    node: String,
    vitals: Vitals,
    im: ImClient,
    /// Whether what messages say is shown.
    texts: bool,
}

/// Why nothing is followed.
pub(crate) enum NotFollowed {
    /// What was asked for is nothing that can be.
    Wrong(String),
    /// It is to be asked of another node.
    Elsewhere(String),
    Failed(Error),
}

impl From<Error> for NotFollowed {
    fn from(error: Error) -> Self {
        NotFollowed::Failed(error)
    }
}

impl Follows {
    /// On the node called `node`, which `vitals` tells of; `im` knows where clients live.
    pub(crate) fn new(node: &str, vitals: Vitals, im: ImClient, texts: bool) -> Follows {
        Follows { node: node.to_owned(), vitals, im, texts }
    }

    /// The stream that a request asks for by its query: `client`, `channel` or `message`, and `seconds`.
    pub(crate) fn answer(
        &self,
        request: &Request,
        access: &Arc<Access>,
    ) -> Result<Response, NotFollowed> {
        let (target, seconds) = read(request).map_err(NotFollowed::Wrong)?;
        if let Target::Client(client) = &target {
            self.im.id_kind().check(client)?;
            let owner = self.im.node_of(client)?;
            if owner != self.node {
                let why = format!("client {client} lives on node {owner}: follow it there");
                return Err(NotFollowed::Elsewhere(why));
            }
        }
        if request.method == "HEAD" {
            return Ok(sse::answer(std::iter::empty()));
        }
        let following = self.vitals.follow(target, Duration::from_secs(seconds), self.texts)?;
        let begins = json!({ "node": self.node, "seconds": seconds, "texts": self.texts });
        Ok(sse::answer(Stream {
            begins: Some(piece("following", &begins)),
            is_over: false,
            following,
            listener: Listener::new(access, request),
        }))
    }
}

/// What is to be followed, and for how many seconds.
fn read(request: &Request) -> Result<(Target, u64), String> {
    let pairs = request.query_pairs().ok_or("the address is not percent-encoded UTF-8")?;
    let (mut target, mut seconds) = (None, USUAL);
    for (name, value) in pairs {
        let new = match name.as_str() {
            "seconds" => {
                let number = value.parse().ok().filter(|number| (1..=LONGEST).contains(number));
                seconds = number.ok_or(format!("seconds: expected 1 to {LONGEST}"))?;
                continue;
            }
            _ if value.is_empty() || value.chars().count() > NAME => {
                return Err(format!("{name}: expected 1 to {NAME} characters"));
            }
            "client" => Target::Client(client(&value)?),
            "channel" => Target::Channel(value),
            "message" => Target::Message(value),
            _ => return Err(format!("{name} cannot be used in this query")),
        };
        if target.replace(new).is_some() {
            return Err("name one of client, channel and message".into());
        }
    }
    Ok((target.ok_or("name a client, a channel or the id of a message")?, seconds))
}

/// A client by its text as it stands in answers, as everywhere in the API.
fn client(text: &str) -> Result<ClientId, String> {
    let client: ClientId = text.parse().map_err(|error: Error| error.to_string())?;
    if client.is_system() {
        return Err(format!("client: {text} is the system, and no client"));
    }
    // The case of a GUID says nothing.
    match client.to_string().eq_ignore_ascii_case(text) {
        true => Ok(client),
        false => Err(format!("client: {text} is no way to write a client; write {client}")),
    }
}

fn piece(name: &str, data: &Value) -> Vec<u8> {
    format!("event: {name}\ndata: {data}\n\n").into_bytes()
}

/// Ids are strings: a browser's numbers end at 2^53.
fn told(sighting: &Sighting) -> Value {
    let mut told = Map::new();
    let at = sighting.at.duration_since(UNIX_EPOCH).unwrap_or_default();
    told.insert("at".into(), timestamp(at).into());
    let mut add = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            told.insert(name.into(), value);
        }
    };
    add("client", sighting.client.as_ref().map(|client| client.to_string().into()));
    add("connection", sighting.connection.map(Into::into));
    add("channel", sighting.channel.as_deref().map(Into::into));
    add("id", sighting.id.as_deref().map(Into::into));
    add("position", sighting.position().map(Into::into));
    add("bytes", sighting.bytes.map(Into::into));
    add("code", sighting.code.map(Into::into));
    add("reason", sighting.reason.map(Into::into));
    add("count", sighting.count.map(Into::into));
    add("traceparent", sighting.traceparent.as_deref().map(Into::into));
    add("text", sighting.text.as_deref().map(Into::into));
    Value::Object(told)
}

struct Stream {
    begins: Option<Vec<u8>>,
    is_over: bool,
    following: Following,
    listener: Listener,
}

impl Iterator for Stream {
    type Item = Vec<u8>;

    /// The next sighting, a sign of life, or nothing for now; at the end of its time `ended`.
    fn next(&mut self) -> Option<Vec<u8>> {
        if self.is_over {
            return None;
        }
        if let Some(begins) = self.begins.take() {
            return self.listener.send(Some(begins));
        }
        let seen = self.following.next(LOOK);
        self.is_over = seen.is_none() && self.following.is_over();
        let piece = match seen {
            Some(sighting) => Some(piece(sighting.what.as_str(), &told(&sighting))),
            None if self.is_over => Some(piece("ended", &json!({}))),
            None => None,
        };
        self.listener.send(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_is_followed_for_a_while() {
        let asked = |query: &str| {
            read(&Request { query: Some(query.into()), path: "/".into(), ..Request::default() })
        };
        assert_eq!(asked("client=42"), Ok((Target::Client(42.into()), 60)));
        let lobby = Target::Channel("a b".into());
        assert_eq!(asked("channel=a%20b&seconds=600"), Ok((lobby, 600)));
        assert_eq!(asked("message=order+17"), Ok((Target::Message("order 17".into()), 60)));
        let long = Target::Channel("群".repeat(256));
        assert_eq!(asked(&format!("channel={}", "%E7%BE%A4".repeat(256))), Ok((long, 60)));
        let guid = "0F8FAD5B-D9CB-469F-A165-70867728950E";
        assert!(asked(&format!("client={guid}")).is_ok() && asked("client=Alice").is_ok());
        for wrong in [
            "",
            "client=",
            "client=x%20y",
            "client=0",
            "client=0042",
            "client=%2B42",
            "client=1&channel=a",
            "seconds=9",
            "channel=a&seconds=601",
            "channel=a&seconds=0",
            "channel=a&b=1",
            "channel=%ff",
            &format!("channel={}", "%E7%BE%A4".repeat(257)),
        ] {
            assert!(asked(wrong).is_err(), "{wrong}");
        }
    }
}
