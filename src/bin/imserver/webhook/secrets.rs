//! The secrets of a webhook, and what is signed with them, by the rules of Standard Webhooks. Pure.

use std::fmt;

use base64::{Engine, prelude::BASE64_STANDARD};
use ring::hmac::{self, HMAC_SHA256, Key};

/// What each begins with.
const MARK: &str = "whsec_";
/// Bytes of a secret.
const LENGTH: std::ops::RangeInclusive<usize> = 24..=64;
/// How many there may be: the next and the last, while they are exchanged.
const MOST: usize = 2;

/// What is expected where there is none.
pub(crate) const SECRETS: &str =
    "one secret or two: whsec_ and the base64 of 24 to 64 random bytes (openssl rand -base64 32)";

/// One secret or two; all of them sign.
#[derive(Clone)]
pub(crate) struct Secrets(Vec<Key>);

impl Secrets {
    /// Reads secrets that are separated by commas, blanks or lines.
    pub(crate) fn read(text: &str) -> Result<Secrets, &'static str> {
        let words = text.split([',', ' ', '\t', '\r', '\n']).filter(|word| !word.is_empty());
        let keys: Option<Vec<_>> = words.map(key).collect();
        match keys {
            Some(keys) if (1..=MOST).contains(&keys.len()) => Ok(Secrets(keys)),
            _ => Err(SECRETS),
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Whether they sign as others do.
    pub(crate) fn are(&self, others: &Secrets) -> bool {
        self.sign("", 0, "") == others.sign("", 0, "")
    }

    /// The header `webhook-signature`.
    pub(crate) fn sign(&self, id: &str, timestamp: u64, body: &str) -> String {
        let signed = format!("{id}.{timestamp}.{body}");
        let sign = |key| BASE64_STANDARD.encode(hmac::sign(key, signed.as_bytes()));
        let signatures: Vec<_> = self.0.iter().map(|key| format!("v1,{}", sign(key))).collect();
        signatures.join(" ")
    }
}

fn key(word: &str) -> Option<Key> {
    let bytes = BASE64_STANDARD.decode(word.strip_prefix(MARK)?).ok()?;
    LENGTH.contains(&bytes.len()).then(|| Key::new(HMAC_SHA256, &bytes))
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} secrets", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn it_signs_as_the_specification_does() {
        let secrets = Secrets::read(SECRET).unwrap();
        let (id, body) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", r#"{"test": 2432232314}"#);
        let signature = secrets.sign(id, 1_614_265_330, body);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let two = Secrets::read(&format!("whsec_{},\n{SECRET}", "A".repeat(32))).unwrap();
        let both = two.sign(id, 1_614_265_330, body);
        assert_eq!(both.split(' ').count(), 2);
        assert!(both.ends_with(&signature));
    }

    #[test]
    fn what_is_no_secret_is_refused_and_none_is_shown() {
        let short = format!("whsec_{}", "A".repeat(28));
        let three = [SECRET; 3].join(",");
        for bad in ["", "secret", "whsec_", "whsec_%%%%", &short, &three, &SECRET[6..]] {
            assert!(Secrets::read(bad).is_err(), "{bad}");
        }
        assert_eq!(format!("{:?}", Secrets::read(SECRET).unwrap()), "1 secrets");
    }
}
