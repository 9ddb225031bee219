//! `Sessions`: the proof that a websocketId was issued to whoever states it. Pure.
//!
//! It stands for what a real business has: the session of a login. `pre-connect` hands it out with the id, the
//! page keeps it in its tab and posts it with everything it does. It is not a cookie, so no other page's
//! request can carry it, and two tabs are two people.

use std::fmt::Write;

use imcore::ClientId;
use ring::hmac;

/// Makes and checks sessions, all with one secret.
pub(crate) struct Sessions(hmac::Key);

impl Sessions {
    /// With the same secret the sessions outlive a restart.
    pub(crate) fn new(secret: &[u8]) -> Self {
        Sessions(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The session of `client`, as the page posts it.
    pub(crate) fn of(&self, client: &ClientId) -> String {
        let tag = hmac::sign(&self.0, client.to_string().as_bytes());
        tag.as_ref().iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    /// Whether `session` was issued for `client`; takes as long for any guess.
    pub(crate) fn fits(&self, client: &ClientId, session: &str) -> bool {
        let pairs = session.as_bytes().chunks(2);
        let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let Some(tag) = pairs.map(byte).collect::<Option<Vec<u8>>>() else { return false };
        hmac::verify(&self.0, client.to_string().as_bytes(), &tag).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_fits_its_own_client_under_its_own_secret() {
        let sessions = Sessions::new(b"one secret");
        let session = sessions.of(&7.into());
        assert_eq!(session.len(), 64);
        assert!(sessions.fits(&7.into(), &session));
        assert!(!sessions.fits(&8.into(), &session));
        assert!(!Sessions::new(b"another").fits(&7.into(), &session));
        for guess in ["", "7", "zz", "é", &session[1..], &format!("{session}00")] {
            assert!(!sessions.fits(&7.into(), guess), "{guess}");
        }
    }
}
