//! Whose connection it is: the real address behind a proxy.
//!
//! Pure. Used by the acceptor to limit handshakes per address and to name peers in logs. A proxy is
//! believed only where the settings say so; anybody could send these headers otherwise.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What the first bytes of a connection say about the PROXY protocol.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ProxyHeader {
    /// More bytes are needed.
    Incomplete,
    /// Version 1, a line of text.
    Version1,
    /// Something else, as far as one can tell no header at all.
    Missing,
    /// A header of version 2 that cannot be read.
    Invalid,
    /// A header of `len` bytes; no address if the proxy speaks for itself (a health check).
    Complete { len: usize, address: Option<IpAddr> },
}

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// What no request begins with.
const SIGNATURE_START: &[u8] = b"\r\n\r\n\0";
const VERSION_1: &[u8] = b"PROXY ";
/// Longest header that is taken: addresses are short, extensions may follow them.
const MAX_HEADER: usize = 1024;

/// Reads the header at the start of `bytes` (HAProxy's `proxy-protocol.txt`, section 2.2).
pub(crate) fn proxy_header(bytes: &[u8]) -> ProxyHeader {
    if bytes.starts_with(VERSION_1) {
        return ProxyHeader::Version1;
    }
    let known = bytes.len().min(SIGNATURE.len());
    if bytes[..known] != SIGNATURE[..known] {
        let more = VERSION_1.starts_with(bytes);
        return if more { ProxyHeader::Incomplete } else { ProxyHeader::Missing };
    }
    let Some([command, family, high, low]) = bytes.get(12..16) else {
        return ProxyHeader::Incomplete;
    };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    if length > MAX_HEADER || !matches!(command, 0x20 | 0x21) {
        return ProxyHeader::Invalid;
    }
    let Some(body) = bytes.get(16..16 + length) else { return ProxyHeader::Incomplete };
    let address = match (command, family >> 4) {
        (0x21, 1) => body.first_chunk::<4>().map(|source| IpAddr::V4(Ipv4Addr::from(*source))),
        (0x21, 2) => body.first_chunk::<16>().map(|source| IpAddr::V6(Ipv6Addr::from(*source))),
        _ => None,
    };
    ProxyHeader::Complete { len: 16 + length, address }
}

/// Whether `bytes`, which should be a request, begin with a header of the PROXY protocol of any version.
pub(crate) fn is_proxy_header(bytes: &[u8]) -> bool {
    bytes.starts_with(SIGNATURE_START) || bytes.starts_with(VERSION_1)
}

/// The last address of an `X-Forwarded-For` value, in any form that gateways write: with a port, in brackets,
/// in quotes, with a zone.
pub(crate) fn last_forwarded(value: &[u8]) -> Option<IpAddr> {
    let last = value.rsplit(|byte| *byte == b',').next()?;
    let text = std::str::from_utf8(last).ok()?.trim();
    let text =
        text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text).trim();
    let host = match text.strip_prefix('[') {
        Some(inner) => inner.split_once(']')?.0,
        // One colon is in front of a port, more are an IPv6 address.
        None if text.matches(':').count() == 1 => text.split_once(':')?.0,
        None => text,
    };
    host.split('%').next()?.parse().ok()
}

/// Whom limits per address count: an IPv4 address, or the network of 64 bits that one IPv6 host has for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct AddressBlock(IpAddr);

impl From<IpAddr> for AddressBlock {
    fn from(address: IpAddr) -> Self {
        AddressBlock(match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
            address => address,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = (body.len() as u16).to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, body].concat()
    }

    #[test]
    fn reads_both_families_and_the_proxys_own_checks() {
        let v4 = header(0x21, 0x11, &[10, 0, 0, 7, 10, 0, 0, 1, 1, 2, 3, 4]);
        let address = Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7)));
        assert_eq!(proxy_header(&v4), ProxyHeader::Complete { len: 28, address });
        let v6 = header(0x21, 0x21, &[1; 36]);
        let address = Some(IpAddr::V6(Ipv6Addr::from([1; 16])));
        assert_eq!(proxy_header(&v6), ProxyHeader::Complete { len: 52, address });
        let check = header(0x20, 0, &[]);
        assert_eq!(proxy_header(&check), ProxyHeader::Complete { len: 16, address: None });
        for len in 0..v4.len() {
            assert_eq!(proxy_header(&v4[..len]), ProxyHeader::Incomplete, "{len}");
        }
    }

    #[test]
    fn refuses_anything_else() {
        assert_eq!(proxy_header(b"GET / HTTP/1.1"), ProxyHeader::Missing);
        assert_eq!(proxy_header(b"PROXY TCP4 1.2.3.4"), ProxyHeader::Version1);
        assert_eq!(proxy_header(b"PRO"), ProxyHeader::Incomplete);
        assert_eq!(proxy_header(b"POST"), ProxyHeader::Missing);
        assert_eq!(proxy_header(&header(0x31, 0x11, &[0; 12])), ProxyHeader::Invalid);
        assert_eq!(proxy_header(&header(0x21, 0x11, &[0; 2000])), ProxyHeader::Invalid);
    }

    #[test]
    fn the_last_forwarded_address_is_the_proxys_word() {
        let last = |value: &str| last_forwarded(value.as_bytes()).map(|ip| ip.to_string());
        assert_eq!(last("6.6.6.6, 10.0.0.7").as_deref(), Some("10.0.0.7"));
        assert_eq!(last("::1").as_deref(), Some("::1"));
        for (value, address) in [
            ("6.6.6.6, 203.0.113.9:51123", "203.0.113.9"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("\"203.0.113.9\"", "203.0.113.9"),
            ("\"[2001:db8::1]:80\"", "2001:db8::1"),
            ("fe80::1%eth0", "fe80::1"),
            ("[fe80::1%25eth0]:1", "fe80::1"),
        ] {
            assert_eq!(last(value).as_deref(), Some(address), "{value}");
        }
        for value in ["unknown", "", "1.2.3.4,", "_hidden", "1.2.3", "[::1", ":80", "\""] {
            assert_eq!(last(value), None, "{value}");
        }
    }

    #[test]
    fn one_host_is_one_block() {
        let block = |text: &str| AddressBlock::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(block("2001:db8::1"), block("2001:db8::ffff:0:0:9"));
        assert_ne!(block("2001:db8::1"), block("2001:db8:0:1::1"));
        assert_eq!(block("::ffff:10.0.0.7"), block("10.0.0.7"));
        assert_ne!(block("10.0.0.7"), block("10.0.0.8"));
    }
}
