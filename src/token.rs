//! Unguessable random values: connect tokens and session names.
//!
//! Used by the helper and the brokers; the operating system's generator is the only source.

use std::fmt::Write as _;

use crate::error::{Error, ErrorKind, Result};

/// A fresh connect token: 64 random bytes as 128 lower-case hex digits, the original's form.
pub(crate) fn random_token() -> Result<String> {
    let mut bytes = [0; 64];
    fill(&mut bytes)?;
    let mut token = String::with_capacity(128);
    for byte in bytes {
        let _ = write!(token, "{byte:02x}");
    }
    Ok(token)
}

/// A fresh random number.
pub(crate) fn random_u64() -> Result<u64> {
    let mut bytes = [0; 8];
    fill(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

fn fill(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes).map_err(|error| {
        Error::new(ErrorKind::Io, "the operating system gave no random bytes").with_source(error)
    })
}
