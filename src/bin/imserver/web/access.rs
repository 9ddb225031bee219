//! Who may ask at a listener: whoever knows its secret, which is made at the start if none is set; or, where
//! the operator says `none`, this machine alone and nobody through it.
//!
//! Called by sites before they read a body. What is counted here is in `/metrics`.

use std::{
    fmt::Write as _,
    hint::black_box,
    net::SocketAddr,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use imcore::{Error, ErrorKind, throttle::Throttle};

use super::{
    message::Request,
    origin::{is_listed, is_local, is_usual, name_of, page_sign, proxy_sign},
};

/// The header that goes with 401.
pub(crate) const CHALLENGE: (&str, &str) = ("WWW-Authenticate", "Bearer realm=\"imserver\"");

/// What a listener asks for.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Secret {
    /// This, as `Authorization: Bearer`.
    Asked(String),
    /// Nothing, of requests that come from this machine itself.
    Open,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Secret::Asked(_) => "Asked",
            Secret::Open => "Open",
        })
    }
}

/// The rules of one listener, which can change while it runs.
pub(crate) struct Access {
    /// The listener's name.
    listener: &'static str,
    /// The setting that has the secret.
    setting: &'static str,
    /// What is asked for if that setting is not there: made at the start, and the same until the end.
    made: String,
    rules: RwLock<Rules>,
    /// Changes with the rules: streams that were let in before are checked again.
    version: AtomicU64,
    /// Whether only this machine can reach the listener.
    loopback: bool,
    /// Requests without the secret, or with another one.
    unauthorized: AtomicU64,
    throttle: Throttle,
}

struct Rules {
    secret: Secret,
    /// Names under which it may be asked, besides those that are always right.
    hosts: Vec<String>,
}

/// Why somebody may not ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Denied {
    pub(crate) status: u16,
    pub(crate) why: String,
}

impl Access {
    /// For the listener called `listener` at `address`, whose secret the setting called `setting` gives, or
    /// nobody; `hosts` are more names under which it may be asked.
    pub(crate) fn new(
        listener: &'static str,
        setting: &'static str,
        secret: Option<Secret>,
        address: Option<SocketAddr>,
        hosts: &[String],
    ) -> Result<Access, Error> {
        let mut made = String::with_capacity(32);
        for _ in 0..2 {
            let random = getrandom::u64().map_err(|error| {
                Error::new(ErrorKind::Io, "no random numbers for a secret").with_source(error)
            })?;
            let _ = write!(made, "{random:016x}");
        }
        let secret = secret.unwrap_or_else(|| Secret::Asked(made.clone()));
        Ok(Access {
            listener,
            setting,
            made,
            rules: RwLock::new(Rules { secret, hosts: hosts.to_vec() }),
            version: AtomicU64::new(0),
            loopback: address.is_some_and(|address| address.ip().is_loopback()),
            unauthorized: AtomicU64::new(0),
            throttle: Throttle::new(),
        })
    }

    /// The setting that has the secret.
    pub(crate) fn setting(&self) -> &'static str {
        self.setting
    }

    /// Asks by these rules from now on. What would let others in who can reach the listener is not taken.
    pub(crate) fn change(&self, secret: Option<Secret>, hosts: &[String]) {
        let mut rules = self.rules.write().unwrap_or_else(PoisonError::into_inner);
        rules.hosts = hosts.to_vec();
        match secret {
            Some(Secret::Open) | None if !self.loopback => {}
            Some(secret) => rules.secret = secret,
            None => rules.secret = Secret::Asked(self.made.clone()),
        }
        drop(rules);
        self.version.fetch_add(1, Ordering::Release);
    }

    /// A number that is another one once the rules have changed.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The secret that was made, if it is what is asked for: the log must tell the operator.
    pub(crate) fn made(&self) -> Option<&str> {
        let rules = self.rules.read().unwrap_or_else(PoisonError::into_inner);
        (rules.secret == Secret::Asked(self.made.clone())).then_some(&self.made)
    }

    /// Whether nothing is asked for.
    pub(crate) fn is_open(&self) -> bool {
        self.rules.read().unwrap_or_else(PoisonError::into_inner).secret == Secret::Open
    }

    /// Whether this request may be answered.
    pub(crate) fn check(&self, request: &Request) -> Result<(), Denied> {
        let rules = self.rules.read().unwrap_or_else(PoisonError::into_inner);
        let Secret::Asked(secret) = &rules.secret else { return self.check_open(request, &rules) };
        let given = request.bearer().unwrap_or_default();
        if !same(secret.as_bytes(), given.as_bytes()) {
            self.count(request);
            let setting = self.setting;
            return Err(denied(401, format!("give the {setting} as Authorization: Bearer")));
        }
        // A foreign page whose name was pointed here (DNS rebinding) could try secrets and read the answers.
        let host = request.header("Host").unwrap_or_default();
        match host.is_empty() || is_usual(host) || is_listed(host, &rules.hosts) {
            true => Ok(()),
            false => Err(denied(
                403,
                format!(
                    "{:?} is no name of this listener; add it to the setting hosts",
                    name_of(host)
                ),
            )),
        }
    }

    /// Without a secret a request must be one that somebody on this machine sent here: no page from
    /// elsewhere may have had a browser send it, and no proxy may have passed it on.
    ///
    /// A page can have a name of its own pointed here and read the answers: hence the check of the name. It can
    /// send a form without asking; before a browser sends JSON for it, it asks whether it may, and no
    /// listener here ever says so.
    fn check_open(&self, request: &Request, rules: &Rules) -> Result<(), Denied> {
        let setting = self.setting;
        let host = request.header("Host").unwrap_or_default();
        if !is_local(host) && !is_listed(host, &rules.hosts) {
            let why =
                "with none only under a name of this machine; set a secret, or add it to hosts";
            return Err(denied(403, format!("{setting}: {why}")));
        }
        if let Some(sign) = proxy_sign(request) {
            let why = format!("with none no request is taken that came through a proxy ({sign})");
            return Err(denied(403, format!("{setting}: {why}; set a secret")));
        }
        if let Some(sign) = page_sign(request, host) {
            let why = format!("with none no request is taken that another page made ({sign})");
            return Err(denied(403, format!("{setting}: {why}; set a secret")));
        }
        if request.method == "POST" && request.media_type().as_deref() != Some("application/json") {
            return Err(denied(415, "send JSON, as Content-Type: application/json".into()));
        }
        Ok(())
    }

    fn count(&self, request: &Request) {
        self.unauthorized.fetch_add(1, Ordering::Relaxed);
        let missing = request.header("Authorization").is_none();
        let kind = if missing { "missing" } else { "wrong" };
        if let Some(more) = self.throttle.admit(kind) {
            let Access { listener, setting, .. } = self;
            let from = request.peer.map_or_else(|| "?".to_owned(), |peer| peer.ip().to_string());
            log::warn!("{listener}: {from} was refused: its {setting} is {kind}{more}");
        }
    }

    /// What was refused, in the text exposition format of Prometheus; `all` are the listeners there are.
    pub(crate) fn prometheus<'a>(all: impl IntoIterator<Item = &'a Access>) -> String {
        let mut page = String::from(
            "# HELP imcore_unauthorized_total Requests to the admin listener and the API without the right \
             secret.\n# TYPE imcore_unauthorized_total counter\n",
        );
        for Access { listener, unauthorized, .. } in all {
            let count = unauthorized.load(Ordering::Relaxed);
            let _ = writeln!(page, "imcore_unauthorized_total{{listener=\"{listener}\"}} {count}");
        }
        page
    }
}

fn denied(status: u16, why: String) -> Denied {
    Denied { status, why }
}

/// Whether two secrets are the same, in a time that does not tell how much of them is.
fn same(secret: &[u8], given: &[u8]) -> bool {
    let differing = secret.iter().enumerate().fold(0u8, |found, (at, byte)| {
        black_box(found | (byte ^ given.get(at).copied().unwrap_or(!byte)))
    });
    black_box(differing) == 0 && secret.len() == given.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef";

    fn asked(method: &str, headers: &[(&str, &str)]) -> Request {
        let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        Request { method: method.into(), headers: headers.collect(), ..Request::default() }
    }

    fn given(text: &str) -> Option<Secret> {
        Some(Secret::Asked(text.to_owned()))
    }

    fn access(secret: Option<Secret>, address: &str) -> Access {
        let hosts = ["im.example.com".to_owned()];
        Access::new("admin", "admin_token", secret, Some(address.parse().unwrap()), &hosts).unwrap()
    }

    fn status(access: &Access, request: &Request) -> u16 {
        access.check(request).err().map_or(200, |denied| denied.status)
    }

    fn with(secret: &str) -> Request {
        asked("POST", &[("Authorization", &format!("Bearer {secret}"))])
    }

    #[test]
    fn a_secret_is_asked_for_and_can_change() {
        let access = access(given(SECRET), "10.0.0.1:1");
        assert_eq!((status(&access, &with(SECRET)), access.made()), (200, None));
        assert_eq!(status(&access, &asked("GET", &[])), 401);
        access.change(given("another-0123456789"), &[]);
        assert_eq!(status(&access, &with(SECRET)), 401);
        assert_eq!(status(&access, &with("another-0123456789")), 200);
        for less in [None, Some(Secret::Open)] {
            access.change(less, &[]);
            assert_eq!(status(&access, &asked("GET", &[])), 401, "others can reach it");
            assert_eq!(status(&access, &with("another-0123456789")), 200);
        }
        assert_eq!(access.version(), 3);
        let counted = Access::prometheus([&access]);
        assert!(counted.ends_with("{listener=\"admin\"} 4\n"), "{counted}");
    }

    #[test]
    fn without_a_setting_the_secret_is_made() {
        let access = access(None, "127.0.0.1:1");
        let made = access.made().unwrap().to_owned();
        assert_eq!((made.len(), status(&access, &with(&made))), (32, 200));
        assert_eq!(status(&access, &asked("GET", &[("Host", "localhost")])), 401);
        access.change(given(SECRET), &[]);
        assert_eq!((status(&access, &with(&made)), access.made()), (401, None));
        access.change(None, &[]);
        assert_eq!(status(&access, &with(&made)), 200);
    }

    #[test]
    fn the_name_is_looked_at_with_a_secret_too() {
        let access = access(given(SECRET), "10.0.0.1:1");
        let bearer = format!("Bearer {SECRET}");
        for (host, expected) in [
            ("10.0.0.1:9001", 200),
            ("[fd00::1]:9001", 200),
            ("localhost", 200),
            ("im-0:7010", 200),
            ("IM.example.com", 200),
            ("im.example.com:443", 200),
            ("evil.example", 403),
            ("im.example.com.evil.example", 403),
            ("10.0.0.1.evil.example:7001", 403),
        ] {
            let request = asked("GET", &[("Host", host), ("Authorization", &bearer)]);
            assert_eq!(status(&access, &request), expected, "{host}");
        }
        access.change(given(SECRET), &["*".to_owned()]);
        let request = asked("GET", &[("Host", "any.example"), ("Authorization", &bearer)]);
        assert_eq!(status(&access, &request), 200);
    }

    #[test]
    fn with_none_only_this_machine_itself_can_ask() {
        let access = access(Some(Secret::Open), "127.0.0.1:1");
        let json = ("Content-Type", "application/json");
        let local = ("Host", "localhost:9001");
        for (method, headers, expected) in [
            ("GET", &[local][..], 200),
            ("GET", &[("Host", "im.example.com")], 200),
            ("GET", &[("Host", "evil.example")], 403),
            ("GET", &[("Host", "im-0")], 403),
            ("GET", &[], 403),
            ("POST", &[local, json], 200),
            ("POST", &[local], 415),
            ("POST", &[local, ("Content-Type", "text/plain")], 415),
            ("POST", &[("Host", "evil.example"), json], 403),
            ("DELETE", &[local], 200),
            // The listener's own page, and an address that was typed.
            ("GET", &[local, ("Sec-Fetch-Site", "same-origin")], 200),
            ("GET", &[local, ("Sec-Fetch-Site", "none")], 200),
            ("POST", &[local, json, ("Origin", "http://LOCALHOST:9001")], 200),
            ("GET", &[local, ("Referer", "http://localhost:9001/page")], 200),
            // Other pages.
            ("GET", &[local, ("sec-fetch-site", "cross-site")], 403),
            ("GET", &[local, ("Sec-Fetch-Site", "same-site")], 403),
            ("POST", &[local, json, ("Origin", "http://localhost:8080")], 403),
            ("DELETE", &[local, ("Origin", "https://localhost:9001")], 403),
            ("GET", &[local, ("Origin", "null")], 403),
            ("GET", &[local, ("Referer", "http://localhost:9001.evil.example/")], 403),
            // Proxies.
            ("GET", &[local, ("x-forwarded-for", "192.0.2.1")], 403),
            ("GET", &[local, ("X-Forwarded-Proto", "https")], 403),
            ("GET", &[local, ("Forwarded", "for=192.0.2.1")], 403),
            ("GET", &[local, ("Via", "1.1 proxy")], 403),
            ("GET", &[local, ("X-Real-IP", "192.0.2.1")], 403),
        ] {
            assert_eq!(status(&access, &asked(method, headers)), expected, "{method} {headers:?}");
        }
        let old = Request { is_http10: true, ..asked("GET", &[local]) };
        assert_eq!(status(&access, &old), 403, "as nginx asks by default");
        let peer = Some("10.0.0.1:5".parse().unwrap());
        assert_eq!(status(&access, &Request { peer, ..asked("GET", &[local]) }), 403);
    }

    #[test]
    fn secrets_are_the_same_or_not() {
        assert!(same(b"0123456789abcdef", b"0123456789abcdef"));
        for given in [&b""[..], b"0123456789abcdeg", b"0123456789abcde", b"0123456789abcdef0"] {
            assert!(!same(b"0123456789abcdef", given));
        }
    }
}
