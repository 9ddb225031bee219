//! The form in which every helper writes a message, read in one pass over its bytes.
//!
//! These members, each in this spelling and at this place. `None` for whatever is written otherwise: the lenient reader
//! knows what it means, and must mean the same by what is read here. Pure.

use super::{
    convert::{good_trace, non_empty, usable},
    envelope::Envelope,
};
use crate::id::ClientId;

/// A direct message.
pub(super) fn direct(payload: &str) -> Option<Envelope> {
    let mut rest = Rest(payload);
    rest.member("{", "\"Item1\":")?;
    let sender = rest.id()?;
    rest.member(",", "\"Item2\":")?;
    let receivers = rest.ids()?;
    rest.member(",", "\"Item3\":")?;
    let content = rest.string()?;
    rest.member(",", "\"Item4\":")?;
    let receipt = rest.flag()?;
    let id = match rest.member(",", "\"Id\":") {
        Some(()) => usable(Some(rest.string()?)),
        None => None,
    };
    let acknowledge = rest.member(",", "\"Ack\":true").is_some();
    let about = rest.member(",", "\"Receipt\":true").is_some();
    let trace = rest.trace()?;
    rest.end()?;
    Some(Envelope::Direct { sender, receivers, content, receipt, id, acknowledge, about, trace })
}

/// What comes behind the control word of a channel message.
pub(super) fn channel(payload: &str) -> Option<Envelope> {
    let mut rest = Rest(payload);
    rest.member("{", "\"Item1\":")?;
    let sender = rest.id()?;
    rest.member(",", "\"Item2\":")?;
    let channel = match rest.skip("null") {
        Some(()) => None,
        None => non_empty(Some(rest.string()?)),
    };
    rest.member(",", "\"Item3\":")?;
    let content = rest.string()?;
    let trace = rest.trace()?;
    rest.end()?;
    Some(Envelope::Channel { sender, channel, content, trace })
}

/// What is not yet read.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    fn skip(&mut self, word: &str) -> Option<()> {
        self.0 = self.0.strip_prefix(word)?;
        Some(())
    }

    /// The last member of either, if it is there.
    fn trace(&mut self) -> Option<Option<String>> {
        match self.member(",", "\"Trace\":") {
            Some(()) => Some(good_trace(Some(self.string()?))),
            None => Some(None),
        }
    }

    /// The name of a member and what stands in front of it; some write a blank behind either.
    fn member(&mut self, sign: &str, name: &str) -> Option<()> {
        let rest = self.0.strip_prefix(sign)?.trim_start_matches(' ');
        self.0 = rest.strip_prefix(name)?.trim_start_matches(' ');
        Some(())
    }

    /// The brace behind the last member, and nothing behind it.
    fn end(&self) -> Option<()> {
        (self.0 == "}").then_some(())
    }

    /// What is left is cut in front of the byte at `at`, which is an ASCII one.
    fn take(&mut self, at: usize) -> Option<&'a str> {
        let (taken, rest) = self.0.split_at_checked(at)?;
        self.0 = rest;
        Some(taken)
    }

    fn flag(&mut self) -> Option<bool> {
        let is_true = self.skip("true").is_some();
        (is_true || self.skip("false").is_some()).then_some(is_true)
    }

    fn ids(&mut self) -> Option<Vec<ClientId>> {
        self.skip("[")?;
        let mut ids = Vec::new();
        if self.skip("]").is_some() {
            return Some(ids);
        }
        loop {
            ids.push(self.id()?);
            if self.member(",", "").is_none() {
                return self.skip("]").map(|()| ids);
            }
        }
    }

    fn id(&mut self) -> Option<ClientId> {
        if self.skip("\"").is_some() {
            let text = self.run()?;
            self.skip("\"")?;
            return ClientId::parse_text(text);
        }
        let sign = usize::from(self.0.starts_with('-'));
        let digits = self.0.bytes().skip(sign).take_while(u8::is_ascii_digit).count();
        let number = self.take(sign + digits)?;
        // A leading zero means something else to the original.
        let is_plain = !number.starts_with('0') || digits == 1;
        number.parse().ok().filter(|_| is_plain).map(ClientId::Int)
    }

    /// Up to the next sign that means something in a string.
    fn run(&mut self) -> Option<&'a str> {
        let end = special(self.0.as_bytes())?;
        self.take(end)
    }

    fn string(&mut self) -> Option<String> {
        self.skip("\"")?;
        let run = self.run()?;
        if self.skip("\"").is_some() {
            return Some(run.to_owned());
        }
        // No escape stands for more bytes than it has.
        let mut text = String::with_capacity(run.len() + self.0.len());
        text.push_str(run);
        while self.skip("\"").is_none() {
            text.push(self.escape()?);
            text.push_str(self.run()?);
        }
        Some(text)
    }

    /// One character that is written with a backslash.
    fn escape(&mut self) -> Option<char> {
        self.skip("\\")?;
        let letter = *self.0.as_bytes().first()?;
        self.take(1)?;
        Some(match letter {
            b'"' | b'\\' | b'/' => letter.into(),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => match self.unit()? {
                high @ 0xd800..0xdc00 => {
                    self.skip("\\u")?;
                    let low = self.unit().filter(|low| (0xdc00..0xe000).contains(low))?;
                    char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00))?
                }
                unit => char::from_u32(unit)?,
            },
            _ => return None,
        })
    }

    /// Four hexadecimal digits.
    fn unit(&mut self) -> Option<u32> {
        let digits = self.take(4)?;
        digits.chars().try_fold(0, |unit, digit| Some(unit << 4 | digit.to_digit(16)?))
    }
}

/// Where the first quote or backslash is. Looks at eight bytes at once, as most of a message is neither.
fn special(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    // The highest bit of every byte that is zero; of those behind the first it may be wrong.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & (ONES << 7);
    let mut at = 0;
    while let Some(eight) = bytes[at..].first_chunk() {
        let word = u64::from_le_bytes(*eight);
        let quote = zeros(word ^ (ONES * u64::from(b'"')));
        let found = quote | zeros(word ^ (ONES * u64::from(b'\\')));
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    let last = bytes[at..].iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
    Some(at + last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_special_byte_is_found_wherever_it_is() {
        for byte in [b'"', b'\\'] {
            for before in 0..20 {
                // Bytes that differ from it by little, and others behind it.
                let mut bytes = vec![byte ^ 1; before];
                assert_eq!(special(&bytes), None);
                bytes.extend([byte, byte ^ 1, b'"', b'\\', 0, 255, 255, byte]);
                assert_eq!(special(&bytes), Some(before));
            }
        }
    }

    #[test]
    fn what_is_written_otherwise_is_not_read() {
        let usual = r#"{"Item1":1,"Item2":[2,-3],"Item3":"\"\u0041\"","Item4":true,"Id":"x"}"#;
        let content = |payload: &str| match direct(payload) {
            Some(Envelope::Direct { content, .. }) => Some(content),
            _ => None,
        };
        assert_eq!(content(usual).as_deref(), Some("\"A\""));
        assert_eq!(content(&usual.replace(':', ": ").replace(',', ", ")), content(usual));
        for (from, to) in [
            ("Item4", "item4"),
            ("{", " {"),
            ("}", "},"),
            ("}", "} "),
            ("}", ""),
            ("[2", "[02"),
            ("[2", "["),
            ("[2", "[2.0"),
            ("[2", "[99999999999999999999"),
            ("[2", "[\"x y\""),
            ("[2", r#"["\u0061""#),
            ("[2", "[2,"),
            ("[2,-3]", "2"),
            ("true", "1"),
            ("\\u0041", "\\ud800"),
            ("\\u0041", "\\ud800\\u0041"),
            ("\\u0041", "\\u004"),
            ("\\u0041", "\\u+041"),
            ("\\u0041", "\\'"),
            ("\\\"\",", ","),
            (",\"Id", ",\"Item4\":true,\"Id"),
        ] {
            let other = usual.replacen(from, to, 1);
            assert!(other != usual && direct(&other).is_none(), "{other}");
        }
    }
}
