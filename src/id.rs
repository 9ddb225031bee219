//! `ClientId`: who a connection belongs to, in both dialects of .NET, or by a text of ours.
//!
//! Pure. Used by everything above; knows neither Redis nor sockets.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::error::Error;

mod text;

pub use text::TextId;
pub(crate) use text::fnv1a;

/// A user of the business system: a signed 64-bit integer (FreeIM 2), a GUID (ImCore, FreeIM 1), or any other text, which no
/// .NET process can have.
///
/// Calls take whatever is one: `impl Into<ClientId>`, and lists of it. That is any integer of up to 64 bits but
/// `u64`, for which there is [`TryFrom`], since the originals' ids have a sign; the 16 bytes of a GUID; and with
/// the feature `uuid` a `uuid::Uuid`. From text with [`str::parse`]: what reads as an integer or a GUID *is* that one, however
/// it is spelled (`0042` is 42), and every other text of 1 to 64 bytes is a [`TextId`]. Back with [`TryFrom`], or by a `match`.
///
/// One deployment uses one kind, see [`IdKind`]; texts are to be admitted. Zero (the integer 0 or the all-zero GUID) means "the
/// system": messages from it get no receipt, and nobody connects as it.
///
/// ```
/// use imcore::ClientId;
///
/// let number: ClientId = 42.into();
/// let guid: ClientId = "{0F8FAD5B-D9CB-469F-A165-70867728950E}".parse()?;
/// assert_eq!(number.to_string(), "42");
/// assert_eq!(guid.to_string(), "0f8fad5b-d9cb-469f-a165-70867728950e");
/// let name: ClientId = "alice@example.com".parse()?;
/// assert!(matches!(name, ClientId::Text(text) if text.as_str() == "alice@example.com"));
///
/// let row_id: u64 = 43;
/// assert_eq!(u64::try_from(ClientId::try_from(row_id)?)?, 43);
/// assert!(ClientId::try_from(u64::MAX).is_err());
/// # Ok::<(), imcore::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ClientId {
    /// A signed 64-bit integer, as FreeIM 2 uses.
    Int(i64),
    /// The 16 bytes of a GUID in the order of its text form, as ImCore and FreeIM 1 use.
    Guid([u8; 16]),
    /// Any other text; only where [`IdKind::Text`] says so.
    Text(TextId),
}

/// Which of the forms of [`ClientId`] a deployment uses.
///
/// A .NET process reads integers or GUIDs only, and an event with an id of another form ends it. So a
/// deployment has one kind, and refuses ids of the other; [`Any`](IdKind::Any) and [`Text`](IdKind::Text) are for those in
/// which no .NET process takes part.
///
/// ```
/// use imcore::IdKind;
///
/// assert_eq!("guid".parse::<IdKind>()?, IdKind::Guid);
/// assert!(!IdKind::Guid.admits(&42.into()));
/// assert_eq!(IdKind::of_prefix("im_v2"), IdKind::Int);
/// # Ok::<(), imcore::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum IdKind {
    /// Signed 64-bit integers (FreeIM 2).
    #[default]
    Int,
    /// GUIDs (ImCore, FreeIM 1).
    Guid,
    /// Integers and GUIDs; only where no .NET process takes part.
    Any,
    /// Integers, GUIDs and any other text; only where no .NET process takes part, and never by itself: whoever mistypes an id
    /// means somebody else.
    Text,
}

impl IdKind {
    /// The kind that goes with the first part of all Redis names: the originals' are constants, `im_v2`
    /// with integers and `wsim` with GUIDs, so under any other prefix there is no .NET process.
    pub fn of_prefix(prefix: &str) -> IdKind {
        match prefix {
            "im_v2" => IdKind::Int,
            "wsim" => IdKind::Guid,
            _ => IdKind::Any,
        }
    }

    /// Whether a client of this deployment may have this id.
    pub fn admits(self, client: &ClientId) -> bool {
        match self {
            IdKind::Int => matches!(client, ClientId::Int(_)),
            IdKind::Guid => matches!(client, ClientId::Guid(_)),
            IdKind::Any => !matches!(client, ClientId::Text(_)),
            IdKind::Text => true,
        }
    }

    /// As [`admits`](Self::admits), with an error that says what to do.
    ///
    /// # Errors
    /// [`Argument`](crate::ErrorKind::Argument) if a client of this deployment may not have this id.
    pub fn check(self, client: &ClientId) -> Result<(), Error> {
        let what = match client {
            _ if self.admits(client) => return Ok(()),
            ClientId::Text(_) => {
                "and no other texts; if no .NET process takes part in it, set ids to text on all nodes (--ids text) and \
                 helpers (ImClientBuilder::id_kind)"
            }
            _ => "and one of another kind would end the .NET processes that hear of it",
        };
        Err(Error::argument(format!(
            "client {client}: this deployment has ids of the kind {self}, {what}"
        )))
    }

    /// The id that stands for the system in this kind: no user, no receipts. The integer 0 for all but GUIDs.
    pub fn system(self) -> ClientId {
        match self {
            IdKind::Int | IdKind::Any | IdKind::Text => ClientId::Int(0),
            IdKind::Guid => ClientId::Guid([0; 16]),
        }
    }

    /// What the kind is called in settings: `integer`, `guid`, `mixed` or `text`.
    pub fn as_str(self) -> &'static str {
        match self {
            IdKind::Int => "integer",
            IdKind::Guid => "guid",
            IdKind::Any => "mixed",
            IdKind::Text => "text",
        }
    }
}

impl fmt::Display for IdKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for IdKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "integer" | "int" => Ok(IdKind::Int),
            "guid" => Ok(IdKind::Guid),
            "mixed" | "any" => Ok(IdKind::Any),
            "text" => Ok(IdKind::Text),
            _ => Err(Error::argument(format!(
                "{text:?} is no kind of id; expected integer, guid, mixed or text"
            ))),
        }
    }
}

impl ClientId {
    /// Whether this is the system rather than a user: 0 or the all-zero GUID.
    pub fn is_system(&self) -> bool {
        match self {
            ClientId::Int(id) => *id == 0,
            ClientId::Guid(bytes) => *bytes == [0; 16],
            ClientId::Text(_) => false,
        }
    }

    /// Reads numbers and GUIDs leniently, as the original does: blanks around, a leading `+` or zeros,
    /// GUIDs in any case, with or without hyphens, braces or parentheses. Any other text is taken as it is.
    pub(crate) fn parse_text(text: &str) -> Option<ClientId> {
        ClientId::read(text).ok()
    }

    /// The error says why it is none.
    fn read(text: &str) -> Result<ClientId, &'static str> {
        if let Some(guid) = parse_guid(text.trim()) {
            return Ok(ClientId::Guid(guid));
        }
        // Around a number the original knows fewer blanks than around a GUID.
        let blank = |character| matches!(character, '\t'..='\r' | ' ');
        match text.trim_matches(blank).parse() {
            Ok(id) => Ok(ClientId::Int(id)),
            Err(_) => TextId::new(text).map(ClientId::Text),
        }
    }
}

fn parse_guid(text: &str) -> Option<[u8; 16]> {
    let bytes = text.as_bytes();
    let inner = match (bytes.first()?, bytes.last()?) {
        (b'{', b'}') | (b'(', b')') => &bytes[1..bytes.len() - 1],
        _ => bytes,
    };
    let hyphenated = match inner.len() {
        36 => true,
        32 if inner.len() == bytes.len() => false,
        _ => return None,
    };
    let mut guid = [0; 16];
    let mut digits = 0;
    for (index, &byte) in inner.iter().enumerate() {
        if hyphenated && matches!(index, 8 | 13 | 18 | 23) {
            if byte != b'-' {
                return None;
            }
            continue;
        }
        let digit = (byte as char).to_digit(16)? as u8;
        guid[digits / 2] = guid[digits / 2] << 4 | digit;
        digits += 1;
    }
    Some(guid)
}

impl fmt::Display for ClientId {
    /// The text form in Redis keys and hashes: decimal, the GUID in lower case with hyphens, or the text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        match self {
            ClientId::Int(id) => fmt::Display::fmt(id, f),
            ClientId::Guid(bytes) => {
                let mut text = [b'-'; 36];
                let mut at = 0;
                for (index, byte) in bytes.iter().enumerate() {
                    if matches!(index, 4 | 6 | 8 | 10) {
                        at += 1;
                    }
                    text[at] = HEX[usize::from(byte >> 4)];
                    text[at + 1] = HEX[usize::from(byte & 15)];
                    at += 2;
                }
                f.pad(std::str::from_utf8(&text).expect("hex digits are ASCII"))
            }
            ClientId::Text(text) => fmt::Display::fmt(text, f),
        }
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ClientId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        ClientId::read(text).map_err(|why| {
            let shown: String = text.chars().take(2 * TextId::BYTES).collect();
            Error::argument(format!(
                "{shown:?} is not a client id: {why}; expected a 64-bit integer such as 42, a GUID such as \
                 0f8fad5b-d9cb-469f-a165-70867728950e, or another text of 1 to {} bytes",
                TextId::BYTES
            ))
        })
    }
}

/// Every integer that fits is an id; one of 64 bits without a sign may not, see below.
macro_rules! from_integers {
    ($($integer:ty),*) => {$(
        impl From<$integer> for ClientId {
            fn from(id: $integer) -> Self {
                ClientId::Int(id.into())
            }
        }
    )*};
}

from_integers!(i8, i16, i32, i64, u8, u16, u32);

impl TryFrom<u64> for ClientId {
    type Error = Error;

    /// # Errors
    /// [`Argument`](crate::ErrorKind::Argument) above 9,223,372,036,854,775,807 (2^63 - 1): the originals' ids
    /// have a sign, and a larger one would be another client there.
    fn try_from(id: u64) -> Result<Self, Error> {
        i64::try_from(id).map(ClientId::Int).map_err(|_| {
            Error::argument(format!(
                "{id} is not a client id; integers go up to {}, the largest signed one of 64 bits",
                i64::MAX
            ))
        })
    }
}

impl TryFrom<ClientId> for i64 {
    type Error = Error;

    /// # Errors
    /// [`Argument`](crate::ErrorKind::Argument) for a GUID or a text.
    fn try_from(client: ClientId) -> Result<Self, Error> {
        match client {
            ClientId::Int(id) => Ok(id),
            ClientId::Guid(_) | ClientId::Text(_) => Err(other_kind(&client, "an integer")),
        }
    }
}

impl TryFrom<ClientId> for u64 {
    type Error = Error;

    /// # Errors
    /// [`Argument`](crate::ErrorKind::Argument) for a GUID or a text, and for a negative id.
    fn try_from(client: ClientId) -> Result<Self, Error> {
        let id = i64::try_from(client)?;
        id.try_into().map_err(|_| other_kind(&id.into(), "an integer without a sign"))
    }
}

#[cfg(feature = "uuid")]
impl From<uuid::Uuid> for ClientId {
    /// A GUID with the same text form.
    fn from(uuid: uuid::Uuid) -> Self {
        ClientId::Guid(uuid.into_bytes())
    }
}

#[cfg(feature = "uuid")]
impl TryFrom<ClientId> for uuid::Uuid {
    type Error = Error;

    /// # Errors
    /// [`Argument`](crate::ErrorKind::Argument) for an integer or a text.
    fn try_from(client: ClientId) -> Result<Self, Error> {
        match client {
            ClientId::Guid(bytes) => Ok(uuid::Uuid::from_bytes(bytes)),
            ClientId::Int(_) | ClientId::Text(_) => Err(other_kind(&client, "a GUID")),
        }
    }
}

fn other_kind(client: &ClientId, wanted: &str) -> Error {
    Error::argument(format!("client {client} is not {wanted}"))
}

/// So that calls take an id that the caller keeps.
impl From<&ClientId> for ClientId {
    fn from(client: &ClientId) -> Self {
        client.clone()
    }
}

impl From<[u8; 16]> for ClientId {
    fn from(guid: [u8; 16]) -> Self {
        ClientId::Guid(guid)
    }
}

impl Serialize for ClientId {
    /// A JSON number, or the GUID or the text as a JSON string.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            ClientId::Int(id) => serializer.serialize_i64(*id),
            ClientId::Guid(_) => serializer.collect_str(self),
            ClientId::Text(text) => serializer.serialize_str(text.as_str()),
        }
    }
}

impl<'de> Deserialize<'de> for ClientId {
    /// From a JSON integer, or a string in any form that [`FromStr`] reads.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IdVisitor;

        impl de::Visitor<'_> for IdVisitor {
            type Value = ClientId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a 64-bit integer, a GUID or another text of 1 to 64 bytes")
            }

            fn visit_i64<E: de::Error>(self, id: i64) -> Result<ClientId, E> {
                Ok(ClientId::Int(id))
            }

            fn visit_u64<E: de::Error>(self, id: u64) -> Result<ClientId, E> {
                i64::try_from(id)
                    .map(ClientId::Int)
                    .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(id), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ClientId, E> {
                ClientId::parse_text(text)
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }

        deserializer.deserialize_any(IdVisitor)
    }
}

#[cfg(test)]
mod tests;
