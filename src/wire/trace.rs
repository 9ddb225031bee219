//! The W3C trace context of a message: `traceparent`, as one service gives it to the next. Pure.

/// Its length: version, trace id, parent id and flags, each in hex digits, with dashes between.
const BYTES: usize = 55;

/// A `traceparent` that can be handed on; `None` for what is none, which by that standard is as if it were not there.
pub(crate) fn traceparent(text: &str) -> Option<&str> {
    let text = text.trim();
    let parts: Vec<_> = text.split('-').collect();
    let [version, trace, parent, flags] = parts[..] else { return None };
    let is_hex = |part: &str| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let lengths = [version, trace, parent, flags].map(str::len);
    let is_some = |part: &str| part.bytes().any(|byte| byte != b'0');
    let is_good = text.len() == BYTES
        && lengths == [2, 32, 16, 2]
        && parts.iter().all(|part| is_hex(part))
        && version != "ff"
        && is_some(trace)
        && is_some(parent);
    is_good.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_trace_is_none() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(traceparent(good), Some(good));
        assert_eq!(traceparent(&format!(" {good}\t")), Some(good));
        let changed = |from: &str, to: &str| good.replacen(from, to, 1);
        for wrong in [
            String::new(),
            changed("00-", "ff-"),
            changed("4bf", "4BF"),
            changed("4bf", "4bg"),
            changed("-01", ""),
            changed("-01", "-01-00"),
            changed("00f067aa0ba902b7", "0000000000000000"),
            changed("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            changed("-01", "-1"),
            format!("{good}\"}}"),
            "é".repeat(27),
        ] {
            assert_eq!(traceparent(&wrong), None, "{wrong}");
        }
    }
}
