//! A request and its answer, as sites see them. Pure.

use std::net::SocketAddr;

use imcore::http;

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Without the query, still percent-encoded; begins with `/`.
    pub(crate) path: String,
    /// What follows the first `?`, still percent-encoded.
    pub(crate) query: Option<String>,
    /// Names as they were sent, in order.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Whether it came in HTTP/1.0.
    pub(crate) is_http10: bool,
    /// The other end of the connection, which may be a proxy; `None` once it is gone.
    pub(crate) peer: Option<SocketAddr>,
}

impl Request {
    /// The first header of that name, in any case, without blanks around it.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let named = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str())
    }

    /// All headers of that name.
    pub(crate) fn headers_of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let named = self.headers.iter().filter(move |(key, _)| key.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str())
    }

    /// What follows `Bearer` in `Authorization`.
    pub(crate) fn bearer(&self) -> Option<&str> {
        let (scheme, token) = self.header("Authorization")?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("Bearer").then(|| token.trim())
    }

    /// The media type of the body, without parameters, in lower case.
    pub(crate) fn media_type(&self) -> Option<String> {
        let value = self.header("Content-Type")?;
        Some(value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
    }

    /// The parts of the path between slashes, decoded; `None` if one is no percent-encoded UTF-8. A
    /// slash within a part was sent as `%2F`.
    pub(crate) fn segments(&self) -> Option<Vec<String>> {
        let path = self.path.strip_prefix('/').unwrap_or(&self.path);
        path.split('/').map(decode).collect()
    }

    /// Names and values of the query, decoded, in order; `None` if one is no percent-encoded UTF-8.
    pub(crate) fn query_pairs(&self) -> Option<Vec<(String, String)>> {
        let query = self.query.as_deref().unwrap_or_default();
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode_query(name)?, decode_query(value)?))
        };
        pairs.map(pair).collect()
    }
}

/// What a percent-encoded text stands for; `None` if it is none.
fn decode(text: &str) -> Option<String> {
    http::is_encoded(text).then(|| String::from_utf8(http::decode(text).into()).ok())?
}

/// What a name or a value in a query stands for, where a plus is a blank; `None` if it is not percent-encoded.
fn decode_query(text: &str) -> Option<String> {
    http::is_encoded(text).then(|| String::from_utf8(http::decode_query(text).into()).ok())?
}

/// What is answered.
pub(crate) struct Response {
    pub(crate) status: u16,
    /// Empty: there is no body.
    pub(crate) content_type: &'static str,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Body,
}

/// What follows the head of an answer.
pub(crate) enum Body {
    Whole(Vec<u8>),
    /// Pieces that are sent as they come; the connection ends with the last. The thread of the
    /// connection waits in `next`, which should give something every now and then, if only an empty piece:
    /// between pieces a stop ends the stream, and a peer that has ended its side.
    Stream(Box<dyn Iterator<Item = Vec<u8>> + Send>),
}

impl Response {
    pub(crate) fn new(
        status: u16,
        content_type: &'static str,
        body: impl Into<Vec<u8>>,
    ) -> Response {
        Response { status, content_type, headers: Vec::new(), body: Body::Whole(body.into()) }
    }

    /// One line for a person, or a program that looks at the status.
    pub(crate) fn line(status: u16, text: &str) -> Response {
        Response::new(status, "text/plain; charset=utf-8", format!("{text}\n"))
    }

    /// This answer with one more header.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Response {
        self.headers.push((name, value.into()));
        self
    }

    /// This answer with the seconds after which it is worth asking again.
    pub(crate) fn retry_after(self, seconds: u32) -> Response {
        self.with("Retry-After", seconds.to_string())
    }

    /// The status line and all headers; `last` if the connection ends with this answer.
    pub(super) fn head(&self, last: bool) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, http::phrase(self.status));
        let mut add = |name: &str, value: &str| {
            // A line break would begin a header that nobody meant.
            let value = value.replace(|c: char| c.is_control(), " ");
            head.push_str(&format!("{name}: {value}\r\n"));
        };
        if !self.content_type.is_empty() {
            add("Content-Type", self.content_type);
        }
        if let Body::Whole(body) = &self.body
            && self.status != 204
        {
            add("Content-Length", &body.len().to_string());
        }
        add("Cache-Control", "no-store");
        add("X-Content-Type-Options", "nosniff");
        for (name, value) in &self.headers {
            add(name, value);
        }
        if last {
            add("Connection", "close");
        }
        head.push_str("\r\n");
        head.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(path: &str, query: &str) -> Request {
        Request { path: path.into(), query: Some(query.into()), ..Request::default() }
    }

    #[test]
    fn paths_are_taken_apart_before_they_are_decoded() {
        let segments = |path: &str| asked(path, "").segments();
        let is = |parts: &[&str]| Some(parts.iter().map(|part| (*part).to_owned()).collect());
        assert_eq!(segments("/"), is(&[""]));
        assert_eq!(segments("/v1/a%2Fb/%E4%BD%A0+"), is(&["v1", "a/b", "你+"]));
        assert_eq!(segments("/a//b/"), is(&["a", "", "b", ""]));
        for path in ["/%", "/%4", "/%zz", "/%ff", "/%+1"] {
            assert_eq!(segments(path), None, "{path}");
        }
    }

    #[test]
    fn queries_are_pairs() {
        let pairs = asked("/", "a=1&b&&c=x%26+y&a=2").query_pairs().unwrap();
        let pairs: Vec<_> = pairs.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        assert_eq!(pairs, [("a", "1"), ("b", ""), ("c", "x& y"), ("a", "2")]);
        assert_eq!(asked("/", "a=%f").query_pairs(), None);
    }

    #[test]
    fn headers_are_found_in_any_case() {
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let request = Request {
            headers: vec![
                header("AUTHORIZATION", "bearer  secret"),
                header("content-type", "Application/JSON ; charset=utf-8"),
            ],
            ..Request::default()
        };
        assert_eq!(request.bearer(), Some("secret"));
        assert_eq!(request.media_type().as_deref(), Some("application/json"));
    }

    #[test]
    fn a_header_stays_one_line() {
        let head = Response::line(200, "x").with("X", "a\r\nY: b").head(true);
        let text = String::from_utf8(head).unwrap();
        assert!(text.contains("X: a  Y: b\r\nConnection: close\r\n\r\n"), "{text}");
    }
}
