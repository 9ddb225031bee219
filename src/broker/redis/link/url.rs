//! What is wrong with a Redis URL, before it is read: forms that the client library would take and not obey, or
//! refuse without saying what to write instead. Pure; no text repeats the URL, which holds the password.

use redis::{ConnectionAddr, ConnectionInfo};

use crate::error::{Error, Result};

/// What a URL looks like.
const FORM: &str = "expected redis://user:password@host:6379/0, rediss://... or \
                    redis+unix:///path?db=0&user=..&pass=..";
/// Parameters of the query of a URL with a socket's path, which has no other place for them.
const UNIX: [&str; 3] = ["db", "user", "pass"];

/// Refuses a URL that would not do what it says.
pub(crate) fn check(url: &str) -> Result<()> {
    let refuse = |why: String| Err(Error::config("redis", format!("the URL {why}; {FORM}")));
    let Some((scheme, rest)) = url.split_once("://") else {
        return match url.contains(',') || url.contains("password=") {
            true => refuse("is a .NET connection string".into()),
            false => refuse("has no scheme".into()),
        };
    };
    if let Some(at) = rest.rfind('@')
        && let Some(sign) = rest[..at].chars().find(|sign| "/?#".contains(*sign))
        && !scheme.contains("unix")
    {
        let escaped = format!("%{:02X}", u32::from(sign));
        return refuse(format!(
            "has the sign {sign} in its user or password, where it must be written {escaped}"
        ));
    }
    if url.ends_with("#insecure") {
        return refuse(
            "ends with #insecure, which is not supported: add the server's certificate authority to the \
             system's store, or name it in SSL_CERT_FILE"
                .into(),
        );
    }
    if rest.contains('#') {
        return refuse("has a # in it, which must be written %23".into());
    }
    let Some((_, query)) = rest.split_once('?') else { return Ok(()) };
    for name in query.split('&').map(|pair| pair.split('=').next().unwrap_or_default()) {
        let is_known = scheme.contains("unix") && UNIX.contains(&name);
        if !is_known && !name.is_empty() {
            return refuse(format!(
                "has the parameter {name:?}, which would have no effect: user, password and database have \
                 places of their own"
            ));
        }
    }
    Ok(())
}

/// The address for people: scheme, host, port and database, without secrets.
pub(crate) fn describe(scheme: &str, info: &ConnectionInfo) -> String {
    let address = match info.addr() {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. }
            if host.contains(':') =>
        {
            format!("[{host}]:{port}")
        }
        address => address.to_string(),
    };
    format!("{scheme}://{address}/{}", info.redis_settings().db())
}

/// That the URL cannot be read, for another reason than those above.
pub(crate) fn unreadable() -> Error {
    Error::config("redis", format!("the URL cannot be read; {FORM}"))
}

#[cfg(test)]
mod tests {
    use redis::IntoConnectionInfo;

    use super::*;

    #[test]
    fn urls_that_would_not_do_what_they_say_are_refused() {
        for url in [
            "redis://127.0.0.1",
            "redis://127.0.0.1:6379/2",
            "redis://user:p%23%2F%3F@h:1/0",
            "rediss://:p@ss@h/0",
            "redis+unix:///run/redis?db=1&user=u&pass=p",
            "redis://h:1/0?",
        ] {
            assert!(check(url).is_ok(), "{url}: {:?}", check(url));
        }
        for (url, why) in [
            ("redis://h:6379?password=secret", "the parameter \"password\""),
            ("redis://h:6379/0?db=3", "the parameter \"db\""),
            ("redis+unix:///run/redis?password=secret", "the parameter \"password\""),
            ("redis://:sec#ret@h:6379/0", "written %23"),
            ("redis://:sec/ret@h:6379/0", "written %2F"),
            ("redis://:sec?ret@h:6379/0", "written %3F"),
            ("redis://h:6379/0#secret", "written %23"),
            ("rediss://h:6379/0#insecure", "SSL_CERT_FILE"),
            ("127.0.0.1:6379,password=secret,defaultDatabase=3", ".NET connection string"),
            ("127.0.0.1:6379", "has no scheme"),
            ("", "has no scheme"),
        ] {
            let text = check(url).err().unwrap_or_else(|| panic!("{url} is taken")).to_string();
            assert!(text.contains(why) && text.contains("redis://user:password@host"), "{text}");
            assert!(!text.contains("secret"), "{text}");
        }
    }

    #[test]
    fn addresses_have_brackets_where_they_need_them() {
        let described = |url: &str| describe("redis", &url.into_connection_info().unwrap());
        assert_eq!(described("redis://[::1]:6379/1"), "redis://[::1]:6379/1");
        assert_eq!(described("redis://u:p@h"), "redis://h:6379/0");
    }
}
