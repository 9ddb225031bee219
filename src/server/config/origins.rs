//! What an entry of `origins` may look like: what a browser can send as `Origin`, and nothing else. An entry
//! of another form would never match, and keep every page out without a word.

use crate::error::{Error, Result};

/// Ports that a browser leaves out.
const DEFAULT_PORTS: [(&str, &str); 2] = [("https", "443"), ("http", "80")];

/// Refuses an entry that no browser can send, and says which form was probably meant.
pub(crate) fn check(origin: &str) -> Result<()> {
    let nothing = match origin {
        // Of sandboxed frames, and of files.
        "null" | "file://" => return Ok(()),
        "" => Some("an entry is empty"),
        "*" => Some("\"*\" is no origin"),
        _ => None,
    };
    if let Some(what) = nothing {
        let detail = format!("{what}; leave origins out to let pages of any origin in");
        return Err(Error::config("origins", detail));
    }
    let Some(why) = fault(origin) else { return Ok(()) };
    let detail = format!(
        "{origin:?} {why}; an origin is a scheme, a host, and a port if it is not the default one, \
         for example {}",
        meant(origin)
    );
    Err(Error::config("origins", detail))
}

/// Why no browser sends this; `None` if one may.
fn fault(origin: &str) -> Option<&'static str> {
    if origin.trim() != origin {
        return Some("has a blank around it; separate entries with commas alone");
    }
    let Some((scheme, rest)) = origin.split_once("://") else {
        return Some("has no scheme, which every browser sends");
    };
    let lower = scheme.to_ascii_lowercase();
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    if !is_scheme || matches!(lower.as_str(), "ws" | "wss") {
        return Some("has a scheme that no page has");
    }
    if rest.contains(['/', '?', '#', '\\']) {
        return Some("goes on behind the host: browsers send no path, not even a slash");
    }
    if rest.contains('*') {
        return Some("has a wildcard, which is taken literally; list each origin");
    }
    if !rest.is_ascii() || rest.contains(|c: char| c.is_whitespace() || "@;,".contains(c)) {
        return Some(
            "has a host with signs that browsers do not send (names beyond ASCII are sent as xn--...)",
        );
    }
    let (host, port) = split_port(rest);
    if host.trim_matches(['[', ']']).is_empty() {
        return Some("names no host");
    }
    let port = port?;
    if DEFAULT_PORTS.contains(&(lower.as_str(), port)) {
        return Some("names the default port, which browsers leave out");
    }
    let is_port = port.parse::<u16>().is_ok_and(|number| number > 0 && number.to_string() == port);
    (!is_port).then_some("has a port that is no number between 1 and 65535")
}

/// Host and port of `host:port`, of which the first may have colons in brackets.
fn split_port(rest: &str) -> (&str, Option<&str>) {
    match rest.rfind(':') {
        Some(colon) if !rest[colon..].contains(']') => (&rest[..colon], Some(&rest[colon + 1..])),
        _ => (rest, None),
    }
}

/// The origin that was most likely meant.
fn meant(origin: &str) -> String {
    let origin = origin.trim();
    let (scheme, rest) =
        origin.split_once("://").or(origin.split_once(":")).unwrap_or(("", origin));
    // What stands before a colon may be the host as well.
    let (scheme, rest) = match scheme.contains('.') {
        true => ("", origin),
        false => (scheme, rest.trim_start_matches('/')),
    };
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "ws" | "http" => "http",
        _ => "https",
    };
    let authority = rest.split(['/', '?', '#', '\\', ';', ',', ' ']).next().unwrap_or_default();
    let (host, port) = split_port(authority.rsplit('@').next().unwrap_or_default());
    let is_host = |c: char| c.is_ascii_alphanumeric() || ".-_[]:".contains(c);
    if host.is_empty() || !host.chars().all(is_host) {
        return format!("{scheme}://www.example.com");
    }
    match port.filter(|port| port.parse::<u16>().is_ok_and(|number| number > 0)) {
        Some(port) if !DEFAULT_PORTS.contains(&(scheme, port)) => {
            format!("{scheme}://{host}:{port}")
        }
        _ => format!("{scheme}://{host}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_browsers_send_is_taken() {
        for origin in [
            "https://www.example.com",
            "HTTPS://WWW.example.com",
            "http://localhost:3000",
            "https://www.example.com:8443",
            "https://www.example.com:80",
            "http://[::1]:8080",
            "https://[::1]",
            "https://xn--bcher-kva.example",
            "capacitor://localhost",
            "chrome-extension://abcdefghijklmnop",
            "null",
            "file://",
        ] {
            assert!(check(origin).is_ok(), "{origin}: {:?}", check(origin));
        }
    }

    #[test]
    fn what_no_browser_sends_is_refused_with_what_was_meant() {
        for (origin, meant) in [
            ("https://www.example.com/", "https://www.example.com"),
            ("https://www.example.com/chat", "https://www.example.com"),
            ("https://www.example.com?x", "https://www.example.com"),
            ("https://www.example.com:443", "https://www.example.com"),
            ("http://www.example.com:80", "http://www.example.com"),
            ("https://www.example.com:08443", "https://www.example.com:08443"),
            ("www.example.com", "https://www.example.com"),
            ("www.example.com:8443", "https://www.example.com:8443"),
            ("//www.example.com", "https://www.example.com"),
            ("https:www.example.com", "https://www.example.com"),
            ("wss://www.example.com", "https://www.example.com"),
            ("ws://localhost:3000", "http://localhost:3000"),
            ("https://*.example.com", "https://www.example.com"),
            (" https://www.example.com", "https://www.example.com"),
            ("https://www.example.com ", "https://www.example.com"),
            ("https://a.example;https://b.example", "https://a.example"),
            ("https://user@www.example.com", "https://www.example.com"),
            ("https://bücher.example", "https://www.example.com"),
            ("https://", "https://www.example.com"),
            ("https://:8443", "https://www.example.com"),
            ("https://a:b", "https://a"),
        ] {
            let text =
                check(origin).err().unwrap_or_else(|| panic!("{origin} is taken")).to_string();
            assert!(text.contains("origins: "), "{text}");
            assert!(text.ends_with(&format!("for example {meant}")), "{origin}: {text}");
        }
        for origin in ["", "*"] {
            assert!(check(origin).unwrap_err().to_string().contains("leave origins out"));
        }
    }
}
