//! `TextId`: a client id that is neither a number nor a GUID, and the number by which it is placed.
//!
//! Pure. Made by `ClientId` alone, which knows what reads as something else.

use std::{fmt, sync::Arc};

/// A client id that is any other text than a number or a GUID: a user name, a ULID, an open id.
///
/// 1 to [64 bytes](TextId::BYTES) of UTF-8, taken as they are: no case is folded and nothing is normalised, so two texts
/// are one client exactly if their bytes are the same. Not taken: what holds white space, a control character or
/// U+FFFD (which is what text becomes that was none), and the texts `.` and `..`, which no address of a web API can end in.
///
/// Made by [`str::parse`] of a [`ClientId`](super::ClientId), so none is what reads as a number or a GUID. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TextId(Arc<str>);

impl TextId {
    /// Bytes that one has at most.
    pub const BYTES: usize = 64;

    /// Whoever calls has made sure that it reads as no number and no GUID.
    ///
    /// # Errors
    /// Why it cannot be one.
    pub(super) fn new(text: &str) -> Result<Self, &'static str> {
        let is_gap = |sign: char| sign.is_whitespace() || sign.is_control();
        match text {
            "" => Err("it is empty"),
            "." | ".." => Err("no address of a web API can end in it"),
            _ if text.len() > Self::BYTES => Err("it has more than 64 bytes"),
            _ if text.contains(is_gap) => Err("it holds white space or a control character"),
            _ if text.contains(char::REPLACEMENT_CHARACTER) => {
                Err("it holds U+FFFD, so it was made of what is no text")
            }
            _ => Ok(TextId(text.into())),
        }
    }

    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// By what it is placed among nodes, slots and reactors. Documented in docs/protocol.md: never another one.
    pub(crate) fn place(&self) -> u64 {
        fnv1a(&self.0)
    }
}

/// FNV-1a of 64 bits, which is the same in every process and language.
pub(crate) fn fnv1a(text: &str) -> u64 {
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, mix)
}

impl AsRef<str> for TextId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TextId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for TextId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}
