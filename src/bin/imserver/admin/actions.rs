//! What an operator can do: end a client's connections, and send a message to try the way.
//!
//! Each action is logged with who asked for it, as far as a socket tells.

use std::net::SocketAddr;

use imcore::{ClientId, ImClient, Message};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    cached::{Failure, Outcome},
    happened::Happened,
    watch::Watch,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Kick {
    client: ClientId,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Send {
    client: Option<ClientId>,
    channel: Option<String>,
    /// As it was written: numbers keep their digits.
    message: Box<serde_json::value::RawValue>,
}

/// Closes all connections of a client with 4001.
pub(super) fn kick(im: &ImClient, watch: &Watch, body: &[u8], peer: Option<SocketAddr>) -> Outcome {
    let Kick { client } = read(body, r#"{"client": "42"}"#)?;
    im.kick(&client)?;
    log::info!(client:% = client, address:% = Who(peer); "admin: {} kicked client={client}", Who(peer));
    watch.note(Happened::Kicked { by: Who(peer).to_string(), client: client.to_string() });
    Ok(json!({ "kicked": client.to_string() }).to_string())
}

/// Sends a message from the system to a client or a channel. Says of a client whether it was online: to one that was
/// not, the message goes nowhere.
pub(super) fn send(im: &ImClient, body: &[u8], peer: Option<SocketAddr>) -> Outcome {
    const EXAMPLE: &str = r#"{"client": "42", "message": {"text": "hello"}}"#;
    let (to, online) = match read(body, EXAMPLE)? {
        Send { client: Some(client), channel: None, message } => {
            im.send(Message::to([&client]), &message)?;
            (format!("client={client}"), Some(im.is_online(&client)?))
        }
        Send { client: None, channel: Some(channel), message } => {
            im.send(Message::to_channel(&channel), &message)?;
            (format!("channel={channel:?}"), None)
        }
        _ => return Err(mistake("name either a client or a channel", EXAMPLE)),
    };
    log::info!(to:% = to, address:% = Who(peer); "admin: {} sent a message to {to}", Who(peer));
    Ok(json!({ "sent": to, "online": online }).to_string())
}

pub(super) fn read<T: DeserializeOwned>(body: &[u8], example: &str) -> Result<T, Failure> {
    // What lies deeper in itself than this reads is nothing for a browser either.
    let value: Result<Value, _> = serde_json::from_slice(body);
    let read = value.and_then(|_| serde_json::from_slice(body));
    read.map_err(|error| mistake(&error.to_string(), example))
}

pub(super) fn mistake(why: &str, example: &str) -> Failure {
    Failure { status: 400, why: format!("{why}; for example {example}") }
}

/// The other end of a connection, for the log.
pub(super) struct Who(pub(super) Option<SocketAddr>);

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(address) => write!(f, "{address}"),
            None => f.write_str("somebody who is gone"),
        }
    }
}
