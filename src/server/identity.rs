//! Which connection a client means when it comes back: the `c` of `imcore.1`.
//!
//! Pure. A `c` is the number of the connection and a proof of it that only nodes can make, so nobody takes over a
//! connection that is not its own by guessing. It counts only together with a ticket of the same client.

use std::fmt::Write as _;

use tungstenite::handshake::derive_accept_key;

use crate::id::{ClientId, TextId};

/// What a node makes its proofs with; whoever takes its session over needs it too.
pub(crate) type ResumeKey = [u8; 16];

/// Characters of a proof: 96 bits.
const PROOF: usize = 16;

/// A key of two random numbers.
pub(crate) fn key(random: [u64; 2]) -> ResumeKey {
    let mut key = ResumeKey::default();
    key.copy_from_slice(random.map(u64::to_be_bytes).as_flattened());
    key
}

/// The `c` of a connection of `client`.
pub(crate) fn write(key: &ResumeKey, client: &ClientId, connection: u64) -> String {
    let mut text = format!("{connection:x}-");
    text.push_str(&proof(key, client, connection));
    text
}

/// The number of the connection that a `c` names; `None` unless a node with this key has made it for this client.
pub(crate) fn read(key: &ResumeKey, client: &ClientId, text: &str) -> Option<u64> {
    let (number, claimed) = text.split_once('-')?;
    let connection = u64::from_str_radix(number, 16).ok()?;
    let proof = proof(key, client, connection);
    // All of it is compared: how long that takes says nothing of where they differ.
    let differ = proof.bytes().zip(claimed.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b));
    (claimed.len() == PROOF && differ == 0).then_some(connection)
}

/// A keyed hash over input of one length for each kind of id: the protocol library's SHA-1, which is all that a proof of a
/// few minutes' use needs, in characters that an address takes as they are.
fn proof(key: &ResumeKey, client: &ClientId, connection: u64) -> String {
    let mut input = [0; 16 + 8 + 2 + TextId::BYTES];
    input[..16].copy_from_slice(key);
    input[16..24].copy_from_slice(&connection.to_be_bytes());
    let length = match client {
        ClientId::Int(id) => {
            input[25..33].copy_from_slice(&id.to_be_bytes());
            16 + 8 + 17
        }
        ClientId::Guid(guid) => {
            input[24] = 1;
            input[25..41].copy_from_slice(guid);
            16 + 8 + 17
        }
        ClientId::Text(text) => {
            let text = text.as_str().as_bytes();
            (input[24], input[25]) = (2, text.len() as u8);
            input[26..26 + text.len()].copy_from_slice(text);
            input.len()
        }
    };
    let mut proof = derive_accept_key(&input[..length]).replace('+', "_").replace('/', "~");
    proof.truncate(PROOF);
    proof
}

/// The name of an epoch of its own, for a node whose broker keeps no log.
pub(crate) fn epoch(random: u64) -> String {
    let mut text = String::from("n");
    let _ = write!(text, "{random:x}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_c_is_good_for_its_client_and_key_alone() {
        let (key, other) = ([7; 16], [8; 16]);
        let guid = "8f14e45f-ceea-467f-a9b1-0000000003e9".parse().unwrap();
        for client in &[ClientId::Int(42), guid, "alice".parse().unwrap()] {
            let c = write(&key, client, 300);
            assert_eq!(read(&key, client, &c), Some(300));
            assert_eq!(read(&other, client, &c), None);
            assert_eq!(read(&key, &43.into(), &c), None);
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_~".contains(&byte);
            assert!(c.bytes().all(plain), "{c} needs no escape in an address");
            for text in
                [&c[..c.len() - 1], &format!("{c}x"), &c.replacen("12c", "12d", 1), "", "-", "12c-"]
            {
                assert_eq!(read(&key, client, text), None, "{text}");
            }
        }
    }
}
