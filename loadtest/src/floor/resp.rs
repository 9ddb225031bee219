//! As little of Redis's protocol and of the envelope as the floor needs. Pure.

/// The first whole push in `bytes` and its length; the payload if it is a message.
pub fn message(bytes: &[u8]) -> Option<(Option<&[u8]>, usize)> {
    let (count, mut at) = number(bytes, 0, b'*')?;
    let (mut kind, mut last) = (&b""[..], &b""[..]);
    for index in 0..count {
        if bytes.get(at) == Some(&b':') {
            at = number(bytes, at, b':')?.1;
            continue;
        }
        let (length, start) = number(bytes, at, b'$')?;
        let text = bytes.get(start..start + length)?;
        at = start + length + 2;
        if index == 0 {
            kind = text;
        }
        last = text;
    }
    (at <= bytes.len()).then_some(((kind == b"message").then_some(last), at))
}

/// A marked decimal number and its end of line.
fn number(bytes: &[u8], at: usize, mark: u8) -> Option<(usize, usize)> {
    if *bytes.get(at)? != mark {
        return None;
    }
    let mut value = 0;
    for (index, byte) in bytes[at + 1..].iter().enumerate() {
        match byte {
            b'0'..=b'9' => value = value * 10 + usize::from(byte - b'0'),
            _ => return bytes.get(at + index + 2).map(|_| (value, at + index + 3)),
        }
    }
    None
}

/// Reads receiver and content of an envelope with one receiver; makes a text frame of the content.
pub fn direct(payload: &[u8], frame: &mut Vec<u8>) -> Option<i64> {
    let list = payload.iter().position(|byte| *byte == b'[')? + 1;
    let digits = payload[list..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let digits = &payload[list..list + digits];
    let client = digits.iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0'));
    let rest = payload[list + digits.len()..].strip_prefix(b"],\"Item3\":\"")?;
    // Room for the longest usual header; it is put in place once the length is known.
    frame.clear();
    frame.extend_from_slice(&[0x81, 126, 0, 0]);
    let mut bytes = rest.iter();
    loop {
        match bytes.next()? {
            b'"' => break,
            b'\\' => frame.push(*bytes.next()?),
            byte => frame.push(*byte),
        }
    }
    match frame.len() - 4 {
        short @ 0..126 => {
            frame[1] = short as u8;
            frame.copy_within(4.., 2);
            frame.truncate(short + 2);
        }
        medium @ 126..=0xffff => frame[2..4].copy_from_slice(&(medium as u16).to_be_bytes()),
        _ => return None,
    }
    Some(client)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame;

    #[test]
    fn pushes_are_found_whole() {
        let push = b"*3\r\n$7\r\nmessage\r\n$1\r\nt\r\n$5\r\nhello\r\n";
        let both = [&push[..], push].concat();
        for end in 0..push.len() {
            assert_eq!(message(&both[..end]), None, "{end}");
        }
        for end in push.len()..=both.len() {
            assert_eq!(message(&both[..end]), Some((Some(&b"hello"[..]), push.len())));
        }
        let confirmed = b"*3\r\n$9\r\nsubscribe\r\n$1\r\nt\r\n:1\r\n";
        assert_eq!(message(confirmed), Some((None, confirmed.len())));
    }

    #[test]
    fn an_envelope_becomes_the_frame_that_the_server_would_send() {
        for size in [3, 100, 125, 126, 2000] {
            let content = format!("\"{}\"", "x".repeat(size - 2));
            let escaped = content.replace('"', "\\\"");
            let payload =
                format!("{{\"Item1\":0,\"Item2\":[42],\"Item3\":\"{escaped}\",\"Item4\":false}}");
            let mut made = Vec::new();
            assert_eq!(direct(payload.as_bytes(), &mut made), Some(42));
            assert_eq!(made, frame::text(content.as_bytes()));
        }
    }
}
