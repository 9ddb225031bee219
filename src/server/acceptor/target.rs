//! The target of a request: what path it asks for, with which token, and of whom.
//!
//! Pure; called by the reader of heads. Targets come as a path, as they mostly do, or as a whole address (RFC
//! 9112, section 3.2.2), which some libraries and proxies send.

use std::borrow::Cow;

use crate::http::{decode, decode_query};

/// A request target, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target<'a> {
    /// Host and port of a whole address.
    pub(crate) authority: Option<&'a str>,
    path: &'a str,
    query: &'a str,
}

impl<'a> Target<'a> {
    /// `None` for a scheme that is no way to a WebSocket.
    pub(crate) fn parse(target: &'a str) -> Option<Self> {
        let (authority, rest) = match target.split_once("://") {
            Some((scheme, rest)) if !target.starts_with('/') => {
                let known = ["http", "https", "ws", "wss"];
                known.iter().find(|known| scheme.eq_ignore_ascii_case(known))?;
                let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
                (Some(authority), rest)
            }
            _ => (None, target),
        };
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        // An address may leave the slash out.
        let path = if path.is_empty() && authority.is_some() { "/" } else { path };
        Some(Target { authority, path, query })
    }

    /// Whether it asks for the endpoint itself or anything below it, as the original's route matches: by whole
    /// segments, without regard to case.
    pub(crate) fn is_below(&self, endpoint: &str) -> bool {
        // Taken apart before they are decoded: an escaped slash is part of its segment.
        let mut segments = self.path.split('/').map(|segment| text(decode(segment)));
        let mut endpoint = endpoint.trim_end_matches('/').split('/');
        endpoint.all(|name| segments.next().is_some_and(|found| found.eq_ignore_ascii_case(name)))
    }

    /// The value of a query parameter, whose name is found in any case; one given twice is joined with a comma, hence
    /// unknown, as in the original.
    pub(crate) fn parameter(&self, wanted: &str) -> Option<String> {
        let mut values = self.query.split('&').filter_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let is_wanted = text(decode_query(name)).eq_ignore_ascii_case(wanted);
            is_wanted.then(|| text(decode_query(value)))
        });
        let first = values.next()?.into_owned();
        Some(values.fold(first, |joined, value| format!("{joined},{value}")))
    }
}

/// Whether `text` may name a host, with or without a port (RFC 3986, section 3.2.2). An empty one may not.
pub(crate) fn is_host(text: &[u8]) -> bool {
    let (host, port) = match text {
        [b'[', inner @ ..] => {
            let Some(end) = inner.iter().position(|byte| *byte == b']') else { return false };
            let (address, rest) = inner.split_at(end);
            let known = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
            if address.is_empty() || !address.iter().all(known) {
                return false;
            }
            (&text[..end + 2], &rest[1..])
        }
        _ => text.split_at(text.iter().position(|byte| *byte == b':').unwrap_or(text.len())),
    };
    let named = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%".contains(byte);
    let is_name = !host.is_empty() && (host[0] == b'[' || host.iter().all(named));
    let is_port = |port: &[u8]| match port {
        [] => true,
        [b':', digits @ ..] => digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    is_name && is_port(port)
}

/// What is no UTF-8 becomes a replacement sign, which no path or token has.
fn text(bytes: Cow<'_, [u8]>) -> Cow<'_, str> {
    match bytes {
        Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes),
        Cow::Owned(bytes) => String::from_utf8_lossy(&bytes).into_owned().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_and_its_path_ask_for_the_same() {
        for target in [
            "/ws?token=abc",
            "http://h/ws?token=abc",
            "HTTPS://h:443/ws?token=abc",
            "ws://[::1]:6001/ws/?token=abc",
            "wss://h/%77S?token=%61bc",
            "http://h/ws/room/1?x=http://y/?&token=abc",
        ] {
            let parsed = Target::parse(target).unwrap();
            assert!(parsed.is_below("/ws"), "{target}");
            assert_eq!(parsed.parameter("token").as_deref(), Some("abc"), "{target}");
        }
        for target in
            ["http://h", "http://h?token=abc", "*", "h:80", "/ws%2froom", "//ws", "/w%73x"]
        {
            assert!(!Target::parse(target).unwrap().is_below("/ws"), "{target}");
        }
        assert!(Target::parse("http://h?token=abc").unwrap().is_below("/"));
        assert!(Target::parse("/%E8%81%8A?token=abc").unwrap().is_below("/聊"));
        assert_eq!(Target::parse("ftp://h/ws"), None);
        assert_eq!(Target::parse("/ws?to=ws://x").unwrap().authority, None);
    }

    #[test]
    fn hosts_are_told_from_what_is_none() {
        for host in ["h", "im.example.com", "127.0.0.1:6001", "[::1]", "[::1]:80", "a_b-c:", "h%20"]
        {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        for text in [
            "", ":80", "a b", "a/x", "u@h", "h:8x", "h:1:2", "[", "[]", "[::1", "[::1]x", "[h]",
            "h\"", "聊",
        ] {
            assert!(!is_host(text.as_bytes()), "{text}");
        }
    }
}
