//! Who may ask at a listener: whoever knows its secret, or, where it has none, this machine alone.

use std::{
    hint::black_box,
    net::{IpAddr, SocketAddr},
    sync::{PoisonError, RwLock},
};

use super::message::Request;

/// The header that goes with 401.
pub(crate) const CHALLENGE: (&str, &str) = ("WWW-Authenticate", "Bearer realm=\"imserver\"");

/// The secret of one listener, which can change while it runs.
pub(crate) struct Access {
    /// The setting that has it.
    setting: &'static str,
    secret: RwLock<Option<String>>,
    /// Whether only this machine can reach the listener.
    loopback: bool,
}

/// Why somebody may not ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Denied {
    pub(crate) status: u16,
    pub(crate) why: String,
}

impl Access {
    /// For a listener at `address`, whose secret the setting called `setting` gives.
    pub(crate) fn new(
        setting: &'static str,
        secret: Option<String>,
        address: Option<SocketAddr>,
    ) -> Access {
        let loopback = address.is_some_and(|address| address.ip().is_loopback());
        Access { setting, secret: RwLock::new(secret), loopback }
    }

    /// Asks for another secret from now on; for none only where nobody else can ask.
    pub(crate) fn set_secret(&self, secret: Option<String>) {
        if secret.is_some() || self.loopback {
            *self.secret.write().unwrap_or_else(PoisonError::into_inner) = secret;
        }
    }

    /// Whether this request may be answered.
    ///
    /// Without a secret it must be one that no page from elsewhere can have had a browser of this
    /// machine send. Such a page can lead a name of its own here and read the answers: hence the check of
    /// the name. And it can send a form without asking; before a browser sends JSON for it, it asks
    /// whether it may, and no listener here ever says so.
    pub(crate) fn check(&self, request: &Request) -> Result<(), Denied> {
        let denied = |status, why| Err(Denied { status, why });
        match &*self.secret.read().unwrap_or_else(PoisonError::into_inner) {
            Some(secret) => {
                let given = request.bearer().unwrap_or_default();
                match same(secret.as_bytes(), given.as_bytes()) {
                    true => Ok(()),
                    false => {
                        let setting = self.setting;
                        denied(401, format!("give the {setting} as Authorization: Bearer"))
                    }
                }
            }
            None if request.header("Host").is_some_and(|host| !is_local(host)) => {
                let setting = self.setting;
                denied(403, format!("without {setting} only under a name of this machine; set it"))
            }
            None if request.method == "POST"
                && request.media_type().as_deref() != Some("application/json") =>
            {
                denied(415, "send JSON, as Content-Type: application/json".into())
            }
            None => Ok(()),
        }
    }
}

/// Whether two secrets are the same, in a time that does not tell how much of them is.
fn same(secret: &[u8], given: &[u8]) -> bool {
    let differing = secret.iter().enumerate().fold(0u8, |found, (at, byte)| {
        black_box(found | (byte ^ given.get(at).copied().unwrap_or(!byte)))
    });
    black_box(differing) == 0 && secret.len() == given.len()
}

/// Whether a `Host` header names this machine as only itself does.
fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost") || bare.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef";

    fn asked(method: &str, headers: &[(&str, &str)]) -> Request {
        let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        Request { method: method.into(), headers: headers.collect(), ..Request::default() }
    }

    fn access(secret: Option<&str>, address: &str) -> Access {
        Access::new("admin_token", secret.map(str::to_owned), Some(address.parse().unwrap()))
    }

    fn status(access: &Access, request: &Request) -> u16 {
        access.check(request).err().map_or(200, |denied| denied.status)
    }

    #[test]
    fn a_secret_is_asked_for_and_can_change() {
        let access = access(Some(SECRET), "10.0.0.1:1");
        let with = |secret: &str| asked("POST", &[("Authorization", &format!("Bearer {secret}"))]);
        assert_eq!(status(&access, &with(SECRET)), 200);
        assert_eq!(status(&access, &asked("GET", &[])), 401);
        access.set_secret(Some("another-0123456789".into()));
        assert_eq!(status(&access, &with(SECRET)), 401);
        assert_eq!(status(&access, &with("another-0123456789")), 200);
        access.set_secret(None);
        assert_eq!(status(&access, &asked("GET", &[])), 401, "others can reach it");
    }

    #[test]
    fn without_a_secret_no_page_from_elsewhere_can_ask() {
        let access = access(None, "127.0.0.1:1");
        let json = ("Content-Type", "application/json");
        for (method, headers, expected) in [
            ("GET", &[("Host", "localhost:9001")][..], 200),
            ("GET", &[("Host", "evil.example")], 403),
            ("POST", &[("Host", "localhost"), json], 200),
            ("POST", &[("Host", "localhost")], 415),
            ("POST", &[("Host", "localhost"), ("Content-Type", "text/plain")], 415),
            ("POST", &[("Host", "evil.example"), json], 403),
            // Browsers ask before they send one of these.
            ("DELETE", &[("Host", "localhost")], 200),
        ] {
            assert_eq!(status(&access, &asked(method, headers)), expected, "{method} {headers:?}");
        }
    }

    #[test]
    fn secrets_are_the_same_or_not() {
        assert!(same(b"0123456789abcdef", b"0123456789abcdef"));
        for given in [&b""[..], b"0123456789abcdeg", b"0123456789abcde", b"0123456789abcdef0"] {
            assert!(!same(b"0123456789abcdef", given));
        }
    }

    #[test]
    fn names_of_this_machine() {
        for host in
            ["localhost", "LOCALHOST:9001", "127.0.0.1:9001", "127.9.9.9", "[::1]:9001", "[::1]"]
        {
            assert!(is_local(host), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example:80", "10.0.0.1", "", "0.0.0.0:9001"] {
            assert!(!is_local(host), "{host}");
        }
    }
}
