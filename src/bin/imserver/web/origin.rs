//! Where a request comes from, as far as it tells: from this machine itself, through a proxy, or from a page in
//! a browser; and which names of a listener no other machine can have. For `access`. Pure.

use std::net::IpAddr;

use super::message::Request;

/// Headers that proxies, and nobody else, put into requests.
const PROXY: [&str; 9] = [
    "Forwarded",
    "Via",
    "X-Real-IP",
    "X-ProxyUser-IP",
    "CDN-Loop",
    "Max-Forwards",
    "Proxy-Connection",
    "X-Request-Start",
    "X-Azure-Ref",
];
/// Beginnings of such names, in lower case.
const PROXY_FAMILIES: [&str; 4] = ["x-forwarded", "x-original-", "x-envoy-", "cf-"];
/// What names in which proxies put a client's address end with: `Client-IP`, `True-Client-IP`, `Fastly-Client-IP`.
const CLIENT_ADDRESS: &str = "client-ip";

/// What shows that a proxy has passed a request on.
pub(super) fn proxy_sign(request: &Request) -> Option<String> {
    if request.is_http10 {
        // What nginx before 1.29.7 says unless it is told otherwise, and no browser or current client.
        return Some("HTTP/1.0".into());
    }
    if request.peer.is_some_and(|peer| !peer.ip().to_canonical().is_loopback()) {
        return Some("from another machine".into());
    }
    let is_sign = |name: &str| {
        let lower = name.to_ascii_lowercase();
        PROXY.iter().any(|known| known.eq_ignore_ascii_case(name))
            || PROXY_FAMILIES.iter().any(|family| lower.starts_with(family))
            || lower.ends_with(CLIENT_ADDRESS)
    };
    request.headers.iter().find(|(name, _)| is_sign(name)).map(|(name, _)| name.clone())
}

/// What shows that a page from elsewhere has had a browser send a request to the listener at `host`.
pub(super) fn page_sign(request: &Request, host: &str) -> Option<&'static str> {
    let own = format!("http://{host}");
    let is_own = |url: &str| {
        let origin = url.get(..own.len()).is_some_and(|origin| origin.eq_ignore_ascii_case(&own));
        origin && matches!(url.as_bytes().get(own.len()), None | Some(b'/'))
    };
    let fetched = request.headers_of("Sec-Fetch-Site");
    let mut fetched = fetched.filter(|site| !matches!(*site, "same-origin" | "none"));
    if fetched.next().is_some() {
        return Some("Sec-Fetch-Site");
    }
    if request.headers_of("Origin").any(|origin| !is_own(origin)) {
        return Some("Origin");
    }
    request.headers_of("Referer").any(|referer| !is_own(referer)).then_some("Referer")
}

/// The name in a `Host` header, without the port.
pub(super) fn name_of(host: &str) -> &str {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    name.trim_start_matches('[').trim_end_matches(']')
}

/// Whether a `Host` header names this machine as only itself does.
pub(super) fn is_local(host: &str) -> bool {
    let name = name_of(host);
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

/// Whether no page of the internet can have this `Host`, as by a name that was pointed here (DNS rebinding): it is an
/// address, or a name without a dot, as containers and machines of the own network have.
pub(super) fn is_usual(host: &str) -> bool {
    let name = name_of(host);
    !name.contains('.') || name.parse::<IpAddr>().is_ok()
}

pub(super) fn is_listed(host: &str, hosts: &[String]) -> bool {
    let name = name_of(host);
    hosts.iter().any(|known| known == "*" || known.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_this_machine() {
        for host in
            ["localhost", "LOCALHOST:9001", "127.0.0.1:9001", "127.9.9.9", "[::1]:9001", "[::1]"]
        {
            assert!(is_local(host), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example:80", "10.0.0.1", "", "0.0.0.0:9001"] {
            assert!(!is_local(host), "{host}");
        }
    }
}
