//! One attempt to deliver: a POST over HTTP/1.1, with bounds on time and on what is read. Follows nothing, and dials only addresses
//! that are allowed.

use std::{fmt, io, net::IpAddr, sync::Arc, time::Duration};

use imcore::{Error, ErrorKind};
use rustls::crypto::ring::default_provider;
use ureq::{
    Agent,
    http::Uri,
    tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem},
    unversioned::{
        resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver},
        transport::{DefaultConnector, NextTimeout},
    },
};

use super::{Allowed, Hook, message::Message};

/// How long it may take until a connection stands, unless the whole attempt is shorter.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer's body is waited for: the connection may be used again if it comes.
const BODY: Duration = Duration::from_secs(1);
/// Bytes of it that are read for that.
const BODY_BYTES: u64 = 64 << 10;
/// Bytes of an answer's head.
const HEAD_BYTES: usize = 64 << 10;
const GONE: u16 = 410;

/// What came of an attempt.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Delivered,
    /// The target wants no more, ever.
    Gone,
    /// Why, in one line without anything secret.
    Failed(String),
}

/// Posts to one target, over a connection that it keeps.
pub(super) struct Poster {
    hook: Arc<Hook>,
    agent: Agent,
}

impl Poster {
    /// # Errors
    /// [`Config`](ErrorKind::Config) if there are no authorities to trust.
    pub(super) fn new(hook: &Arc<Hook>) -> Result<Poster, Error> {
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::Specific(Arc::new(authorities(hook)?)))
            .unversioned_rustls_crypto_provider(Arc::new(default_provider()))
            .build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .https_only(!hook.allowed.http)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            // None of the environment: it would be what dials.
            .proxy(None)
            .timeout_global(Some(hook.timeout))
            .timeout_connect(Some(CONNECT.min(hook.timeout)))
            .timeout_recv_body(Some(BODY.min(hook.timeout)))
            .max_response_header_size(HEAD_BYTES)
            .max_idle_connections(1)
            .user_agent(concat!("imserver/", env!("CARGO_PKG_VERSION")))
            .accept("*/*")
            .build();
        let allowed = hook.allowed.clone();
        let resolver = Guard { allowed, inner: DefaultResolver::default() };
        let agent = Agent::with_parts(config, DefaultConnector::new(), resolver);
        Ok(Poster { hook: Arc::clone(hook), agent })
    }

    pub(super) fn hook(&self) -> &Arc<Hook> {
        &self.hook
    }

    /// Posts a message; `now` is the time in milliseconds since 1970.
    pub(super) fn post(&self, Message { id, body, .. }: &Message, now: u64) -> Outcome {
        let timestamp = now / 1000;
        let answer = self
            .agent
            .post(self.hook.target.uri())
            .header("content-type", "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp.to_string())
            .header("webhook-signature", self.hook.secrets.sign(id, timestamp, body))
            .send(body);
        match answer {
            Ok(answer) => {
                let status = answer.status().as_u16();
                // What its head says counts, whatever comes behind.
                let body = answer.into_body().into_with_config().limit(BODY_BYTES);
                let _ = io::copy(&mut body.reader(), &mut io::sink());
                judge(status)
            }
            Err(error) => Outcome::Failed(explain(&error)),
        }
    }
}

fn judge(status: u16) -> Outcome {
    match status {
        200..=299 => Outcome::Delivered,
        GONE => Outcome::Gone,
        300..=399 => Outcome::Failed(format!("status {status}; redirects are not followed")),
        _ => Outcome::Failed(format!("status {status}")),
    }
}

/// In words of our own: texts of errors may name what is secret, as the query of the target.
fn explain(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Timeout(_) => String::from("no answer in time"),
        ureq::Error::HostNotFound => String::from("its name is not known"),
        ureq::Error::Io(error) if error.kind() == io::ErrorKind::TimedOut => {
            String::from("no answer in time")
        }
        ureq::Error::Io(error) => match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(error) => tls(error),
            None => error.kind().to_string(),
        },
        ureq::Error::Rustls(error) => tls(error),
        ureq::Error::Other(error) => match error.downcast_ref::<NotAllowed>() {
            Some(error) => error.to_string(),
            None => String::from("it cannot be reached"),
        },
        ureq::Error::Protocol(_) | ureq::Error::Http(_) => String::from("its answer is not HTTP"),
        ureq::Error::LargeResponseHeader(..) => String::from("the head of its answer is too long"),
        _ => String::from("it cannot be reached"),
    }
}

fn tls(error: &rustls::Error) -> String {
    use rustls::{
        CertificateError::{BadSignature, UnknownIssuer},
        Error::InvalidCertificate,
    };

    match error {
        // Or by somebody of that name, with another key.
        InvalidCertificate(UnknownIssuer | BadSignature) => String::from(
            "TLS: its certificate is from nobody who is trusted; webhook_ca can name who signed it",
        ),
        error => format!("TLS: {error}"),
    }
}

/// Those whom the certificate of the target may be from.
fn authorities(hook: &Hook) -> Result<Vec<Certificate<'static>>, Error> {
    if !hook.target.is_encrypted() {
        return Ok(Vec::new());
    }
    let found: Vec<_> = match &hook.authorities {
        Some(pem) => certificates(pem),
        None => {
            let native = rustls_native_certs::load_native_certs().certs;
            native.iter().map(|der| Certificate::from_der(der).to_owned()).collect()
        }
    };
    if found.is_empty() {
        let detail = "no certificates of authorities are known by which the target could be trusted; \
                      install those of the system (ca-certificates), or name a file";
        return Err(Error::new(ErrorKind::Config, detail).with_setting("webhook_ca"));
    }
    Ok(found)
}

fn certificates(pem: &[u8]) -> Vec<Certificate<'static>> {
    let items = parse_pem(pem).filter_map(Result::ok);
    let certificate = |item| match item {
        PemItem::Certificate(certificate) => Some(certificate),
        _ => None,
    };
    items.filter_map(certificate).collect()
}

/// Looks names up, and passes on only addresses that are allowed: what is dialled is what was judged.
#[derive(Debug)]
struct Guard {
    allowed: Allowed,
    inner: DefaultResolver,
}

impl Resolver for Guard {
    fn resolve(
        &self,
        uri: &Uri,
        config: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = self.inner.resolve(uri, config, timeout).map_err(|error| match error {
            // Of the system, which has no kind for it.
            ureq::Error::Io(_) => ureq::Error::HostNotFound,
            error => error,
        })?;
        let mut admitted = self.empty();
        for address in found.iter().filter(|address| self.allowed.admits(address.ip())) {
            admitted.push(*address);
        }
        match (found.first(), admitted.is_empty()) {
            (Some(first), true) => Err(ureq::Error::Other(Box::new(NotAllowed(first.ip())))),
            _ => Ok(admitted),
        }
    }
}

#[derive(Debug)]
struct NotAllowed(IpAddr);

impl fmt::Display for NotAllowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "its address {} is not allowed; webhook_allow can name it", self.0)
    }
}

impl std::error::Error for NotAllowed {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_judged_by_its_status() {
        assert_eq!(
            [200, 204, 299, 410].map(judge)[..3],
            [Outcome::Delivered, Outcome::Delivered, Outcome::Delivered]
        );
        assert_eq!(judge(410), Outcome::Gone);
        for status in [100, 301, 307, 400, 404, 429, 500, 503] {
            assert!(
                matches!(judge(status), Outcome::Failed(why) if why.contains(&status.to_string()))
            );
        }
    }
}
