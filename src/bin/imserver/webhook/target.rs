//! Where a webhook may go: its URL, and the addresses that it may be dialled at. Pure.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use http::Uri;

/// What is expected of a URL.
pub(crate) const URL: &str =
    "an address as https://hooks.example.com/im, without user and fragment";
/// What is expected of further targets.
const ALLOWED: &str = "addresses, networks such as 10.0.0.0/8, and the word http";

/// A URL, which may hold secrets in its query: shown without it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Target(Uri);

impl Target {
    pub(crate) fn uri(&self) -> &Uri {
        &self.0
    }

    pub(crate) fn is_encrypted(&self) -> bool {
        self.0.scheme_str() == Some("https")
    }

    /// The address, if it is written and not a name.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.0.host()?.trim_matches(['[', ']']).parse().ok()
    }
}

impl FromStr for Target {
    type Err = ();

    fn from_str(text: &str) -> Result<Target, ()> {
        let uri: Uri = text.parse().map_err(drop)?;
        let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
        let authority = uri.authority().map_or("@", |authority| authority.as_str());
        let host = uri.host().unwrap_or_default();
        // A port that is none would be taken for the one of the scheme.
        let has_port = authority != host;
        let is_there = !has_port || uri.port_u16().is_some_and(|port| port > 0);
        // A fragment would be taken away without a word.
        let is_plain = !authority.contains('@') && !authority.is_empty() && !text.contains('#');
        if is_http && is_plain && is_there && !host.is_empty() { Ok(Target(uri)) } else { Err(()) }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, authority) = (self.0.scheme_str(), self.0.authority());
        let authority = authority.map_or("", |authority| authority.as_str());
        write!(f, "{}://{authority}{}", scheme.unwrap_or_default(), self.0.path())?;
        if self.0.query().is_some() { f.write_str("?..") } else { Ok(()) }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Which targets there may be: any public address over TLS, and what is named here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Allowed {
    /// Whether without TLS.
    pub(crate) http: bool,
    networks: Vec<Network>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    bits: u32,
}

impl Allowed {
    pub(crate) fn read(words: &[String]) -> Result<Allowed, &'static str> {
        let mut allowed = Allowed::default();
        for word in words.iter().map(|word| word.trim()) {
            match word {
                "http" => allowed.http = true,
                _ => allowed.networks.push(network(word).ok_or(ALLOWED)?),
            }
        }
        Ok(allowed)
    }

    /// Whether a connection may go to this address.
    pub(crate) fn admits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        is_public(address) || self.networks.iter().any(|network| network.holds(address))
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let http = self.http.then(|| String::from("http"));
        let networks = self.networks.iter().map(|of| format!("{}/{}", of.address, of.bits));
        f.write_str(&http.into_iter().chain(networks).collect::<Vec<_>>().join(","))
    }
}

fn network(word: &str) -> Option<Network> {
    let (address, bits) = word.split_once('/').unwrap_or((word, ""));
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = if bits.is_empty() && !word.contains('/') { most } else { bits.parse().ok()? };
    (bits <= most).then_some(Network { address, bits })
}

impl Network {
    fn holds(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let mask = u32::MAX.checked_shl(32 - self.bits).unwrap_or(0);
                own.to_bits() & mask == other.to_bits() & mask
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let mask = u128::MAX.checked_shl(128 - self.bits).unwrap_or(0);
                own.to_bits() & mask == other.to_bits() & mask
            }
            _ => false,
        }
    }
}

/// Whether an address is one of the internet: by IANA's registers of special addresses, of which nothing is let in.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    // This network, private, shared by carriers, loopback, link, protocols, documentation, 6to4, measurement, multicast and above.
    const SPECIAL: [([u8; 4], u32); 14] = [
        ([0, 0, 0, 0], 8),
        ([10, 0, 0, 0], 8),
        ([100, 64, 0, 0], 10),
        ([127, 0, 0, 0], 8),
        ([169, 254, 0, 0], 16),
        ([172, 16, 0, 0], 12),
        ([192, 0, 0, 0], 24),
        ([192, 0, 2, 0], 24),
        ([192, 88, 99, 0], 24),
        ([192, 168, 0, 0], 16),
        ([198, 18, 0, 0], 15),
        ([198, 51, 100, 0], 24),
        ([203, 0, 113, 0], 24),
        ([224, 0, 0, 0], 3),
    ];
    let network = |(address, bits): ([u8; 4], u32)| Network { address: address.into(), bits };
    !SPECIAL.map(network).iter().any(|special| special.holds(address.into()))
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    // Only 2000::/3 is given to hosts; of it, what carries addresses of IPv4 inside, protocols and documentation are not.
    first >> 13 == 1
        && !(first == 0x2001 && (second < 0x200 || second == 0xdb8))
        && first != 0x2002
        && !(first == 0x3fff && second < 0x1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_dialled_unless_a_network_is_named() {
        let admits = |allowed: &[&str], address: &str| {
            let words: Vec<_> = allowed.iter().map(|word| (*word).to_owned()).collect();
            Allowed::read(&words).unwrap().admits(address.parse().unwrap())
        };
        for public in ["1.1.1.1", "172.32.0.1", "100.63.0.1", "2606:4700::1", "::ffff:1.1.1.1"] {
            assert!(admits(&[], public), "{public}");
        }
        for special in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.8.8.8",
            "169.254.169.254",
            "172.31.0.1",
            "192.0.0.8",
            "192.0.2.1",
            "192.168.0.1",
            "198.19.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::7f00:1",
            "64:ff9b::7f00:1",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
        ] {
            assert!(!admits(&["http"], special), "{special}");
        }
        assert!(admits(&["127.0.0.1"], "::ffff:127.0.0.1"));
        assert!(!admits(&["127.0.0.1"], "127.0.0.2"));
        assert!(admits(&["10.0.0.0/8", "fd00::/8"], "10.255.0.1"));
        assert!(admits(&["10.0.0.0/8", "fd00::/8"], "fd12::1"));
        assert!(!admits(&["10.0.0.0/8", "fd00::/8"], "fe80::1"));
        assert!(admits(&["0.0.0.0/0"], "127.0.0.1") && !admits(&["0.0.0.0/0"], "::1"));
        for bad in ["", "all", "10.0.0.0/33", "10.0.0.0/", "::/129", "https"] {
            assert!(Allowed::read(&[bad.to_owned()]).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_url_is_shown_without_what_may_be_secret() {
        let target: Target = "https://a.example:8443/hook/x?key=7".parse().unwrap();
        assert_eq!(
            format!("{target} {target:?}"),
            ["https://a.example:8443/hook/x?.."; 2].join(" ")
        );
        assert_eq!(target.address(), None);
        let literal: Target = "http://[::1]:80".parse().unwrap();
        assert_eq!(
            (literal.address(), literal.is_encrypted()),
            (Some(Ipv6Addr::LOCALHOST.into()), false)
        );
        for bad in [
            "",
            "/hook",
            "a.example/hook",
            "ftp://a.example",
            "https://",
            "https://u:p@a.example",
            "https://a.example/#x",
            "https:///x",
            "https://a b/",
            "https://a.example:0/",
            "https://a.example:65536/",
            "https://a.example:/",
            "https://[::1]:99999/",
        ] {
            assert_eq!(bad.parse::<Target>(), Err(()), "{bad}");
        }
    }
}
