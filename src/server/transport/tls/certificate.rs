//! From PEM to a certificate with its key: what an operator may get wrong is told here.

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{
    InconsistentKeys,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    sign::CertifiedKey,
};

use super::{Pem, TlsConfig, validity::not_after};
use crate::error::{Error, Result};

/// Warned of from this long before it ends: tools renew thirty days before.
const LAST_DAYS: Duration = Duration::from_secs(14 * 24 * 3600);

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A certificate that can be used.
#[derive(Debug)]
pub(super) struct Certificate {
    pub(super) key: Arc<CertifiedKey>,
    pub(super) expiry: Option<SystemTime>,
}

impl Certificate {
    /// Reads, puts together and checks.
    pub(super) fn load(config: &TlsConfig) -> Result<Self> {
        let cert = Part::read("tls.cert", &config.cert)?;
        let key = Part::read("tls.key", &config.key)?;
        let chain = CertificateDer::pem_slice_iter(&cert.text)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| cert.mistake(&format!("is not proper PEM ({error})")))?;
        if chain.is_empty() {
            return Err(cert.mistake("holds no certificate; expected -----BEGIN CERTIFICATE-----"));
        }
        let expiry = not_after(&chain[0]);
        let private =
            PrivateKeyDer::from_pem_slice(&key.text).map_err(|error| key.unusable(error))?;
        let key = CertifiedKey::from_der(chain, private, &ring::default_provider()).map_err(
            |error| match error {
                rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                    key.mistake(&format!(
                        "is not the key of the first certificate in {}; the server's own certificate must \
                         come first there, then those that lead to its root",
                        cert.place
                    ))
                }
                rustls::Error::InvalidCertificate(_) => {
                    cert.mistake(&format!("holds a certificate that cannot be used ({error})"))
                }
                _ => key.mistake(&format!("cannot be used ({error}); expected an RSA, ECDSA or Ed25519 key")),
            },
        )?;
        Ok(Certificate { key: Arc::new(key), expiry })
    }

    /// Warns if its time is over, or soon will be.
    pub(super) fn warn_of_end(&self) {
        let Some(expiry) = self.expiry else { return };
        match expiry.duration_since(SystemTime::now()) {
            Err(_) => log::warn!("the certificate has expired; clients refuse it"),
            Ok(left) if left < LAST_DAYS => {
                log::warn!("the certificate ends in {} days", left.as_secs() / (24 * 3600));
            }
            Ok(_) => {}
        }
    }
}

/// One of the two settings, read.
struct Part<'a> {
    setting: &'static str,
    place: String,
    text: Cow<'a, [u8]>,
}

impl<'a> Part<'a> {
    fn read(setting: &'static str, pem: &'a Pem) -> Result<Self> {
        let place = pem.path().map_or("the text given".into(), |path| path.display().to_string());
        let mut text = match pem {
            Pem::Text(text) => Cow::Borrowed(&text[..]),
            Pem::File(path) => Cow::Owned(std::fs::read(path).map_err(|error| {
                Error::config(setting, format!("{place} cannot be read")).with_source(error)
            })?),
        };
        // Some editors put it there; with it the first line is none that begins a certificate.
        if text.starts_with(BYTE_ORDER_MARK) {
            text = Cow::Owned(text[BYTE_ORDER_MARK.len()..].to_vec());
        }
        Ok(Part { setting, place, text })
    }

    fn mistake(&self, fault: &str) -> Error {
        Error::config(self.setting, format!("{} {fault}", self.place))
    }

    fn unusable(&self, error: pem::Error) -> Error {
        let encrypted = self.text.windows(9).any(|window| window == b"ENCRYPTED");
        match error {
            _ if encrypted => self.mistake(
                "is encrypted; take the password off, for example with openssl pkey -in KEY -out PLAIN",
            ),
            pem::Error::NoItemsFound => {
                self.mistake("holds no private key; expected -----BEGIN PRIVATE KEY-----")
            }
            error => self.mistake(&format!("is not proper PEM ({error})")),
        }
    }
}
