//! `ClientId`: who a connection belongs to, in both dialects.
//!
//! Pure. Used by everything above; knows neither Redis nor sockets.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::error::Error;

/// A user of the business system: a signed 64-bit integer (FreeIM 2) or a GUID (ImCore, FreeIM 1).
///
/// Calls take whatever is one: `impl Into<ClientId>`, and lists of it. That is any integer of up to 64 bits but
/// `u64`, for which there is [`TryFrom`], since the originals' ids have a sign; the 16 bytes of a GUID; and with
/// the feature `uuid` a `uuid::Uuid`. From text with [`str::parse`]. Back with [`TryFrom`], or by a `match`.
///
/// One deployment uses one kind, see [`IdKind`]. Zero (the integer 0 or the all-zero GUID) means "the
/// system": messages from it get no receipt, and nobody connects as it.
///
/// ```
/// use imcore::ClientId;
///
/// let number: ClientId = 42.into();
/// let guid: ClientId = "{0F8FAD5B-D9CB-469F-A165-70867728950E}".parse()?;
/// assert_eq!(number.to_string(), "42");
/// assert_eq!(guid.to_string(), "0f8fad5b-d9cb-469f-a165-70867728950e");
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
}

/// Which of the two forms of [`ClientId`] a deployment uses.
///
/// A .NET process reads one of them only, and an event with an id of the other form ends it. So a
/// deployment has one kind, and refuses ids of the other; [`Any`](IdKind::Any) is for those in which no
/// .NET process takes part.
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
    /// Both; only where no .NET process takes part.
    Any,
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
            IdKind::Any => true,
        }
    }

    /// The id that stands for the system in this kind: no user, no receipts. The integer 0 for
    /// [`Any`](IdKind::Any).
    pub fn system(self) -> ClientId {
        match self {
            IdKind::Int | IdKind::Any => ClientId::Int(0),
            IdKind::Guid => ClientId::Guid([0; 16]),
        }
    }

    /// What the kind is called in settings: `integer`, `guid` or `mixed`.
    pub fn as_str(self) -> &'static str {
        match self {
            IdKind::Int => "integer",
            IdKind::Guid => "guid",
            IdKind::Any => "mixed",
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
            _ => Err(Error::argument(format!(
                "{text:?} is no kind of id; expected integer, guid or mixed"
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
        }
    }

    /// Reads the text form leniently, as the original does: blanks around, a leading `+` or zeros,
    /// GUIDs in any case, with or without hyphens, braces or parentheses.
    pub(crate) fn parse_text(text: &str) -> Option<ClientId> {
        if let Some(guid) = parse_guid(text.trim()) {
            return Some(ClientId::Guid(guid));
        }
        // Around a number the original knows fewer blanks than around a GUID.
        let blank = |character| matches!(character, '\t'..='\r' | ' ');
        text.trim_matches(blank).parse().ok().map(ClientId::Int)
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
    /// The text form in Redis keys and hashes: decimal, or the GUID in lower case with hyphens.
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
        ClientId::parse_text(text).ok_or_else(|| {
            Error::argument(format!(
                "{text:?} is not a client id; expected a 64-bit integer such as 42 or a GUID such \
                 as 0f8fad5b-d9cb-469f-a165-70867728950e"
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
    /// [`Argument`](crate::ErrorKind::Argument) for a GUID.
    fn try_from(client: ClientId) -> Result<Self, Error> {
        match client {
            ClientId::Int(id) => Ok(id),
            ClientId::Guid(_) => Err(other_kind(&client, "an integer")),
        }
    }
}

impl TryFrom<ClientId> for u64 {
    type Error = Error;

    /// # Errors
    /// [`Argument`](crate::ErrorKind::Argument) for a GUID and for a negative id.
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
    /// [`Argument`](crate::ErrorKind::Argument) for an integer.
    fn try_from(client: ClientId) -> Result<Self, Error> {
        match client {
            ClientId::Guid(bytes) => Ok(uuid::Uuid::from_bytes(bytes)),
            ClientId::Int(_) => Err(other_kind(&client, "a GUID")),
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
    /// A JSON number, or the GUID as a JSON string.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            ClientId::Int(id) => serializer.serialize_i64(*id),
            ClientId::Guid(_) => serializer.collect_str(self),
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
                f.write_str("a 64-bit integer or a GUID")
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
