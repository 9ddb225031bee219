//! Reads JSON as tolerantly as the .NET original's parser (Newtonsoft.Json) does.
//!
//! Business code in the field relies on what that parser lets pass: names without quotes or in single
//! quotes, comments, trailing commas, repeated members, lone surrogates. Only payloads in another form than that
//! which helpers write (`known`) come here, so clarity wins over speed. Pure; knows nothing of envelopes.

/// Nesting beyond this is refused: the reader recurses, and its thread must survive any input.
const MAX_DEPTH: u32 = 64;
/// Longest whole number that the original reads, in characters.
const MAX_WHOLE: usize = 380;

/// A JSON value as written: numbers keep their text, objects keep every member in order.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    Number(String),
    String(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Parses the whole of `text`; `None` if anything but blanks or comments follows the value.
    pub(super) fn parse(text: &str) -> Option<Json> {
        Json::read(Reader { bytes: text.as_bytes(), at: 0, plain_members: false })
    }

    /// As [`parse`](Self::parse), but refuses a comment in front of a member's value: where the original
    /// does not know the member, it takes the comment for its value and stumbles over what follows.
    pub(super) fn parse_plain(text: &str) -> Option<Json> {
        Json::read(Reader { bytes: text.as_bytes(), at: 0, plain_members: true })
    }

    fn read(mut reader: Reader<'_>) -> Option<Json> {
        let value = reader.value(0)?;
        reader.skip_blank()?;
        (reader.at == reader.bytes.len()).then_some(value)
    }

    /// The member called `name` in any case; the last one where it is repeated.
    pub(super) fn member(&self, name: &str) -> Option<&Json> {
        match self {
            Json::Object(members) => members
                .iter()
                .rev()
                .find(|(key, _)| key.eq_ignore_ascii_case(name))
                .map(|(_, value)| value),
            _ => None,
        }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Whether comments in front of a member's value are refused.
    plain_members: bool,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn rest(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    fn skip_white(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// Skips blanks and comments; `None` for a comment that does not end.
    fn skip_blank(&mut self) -> Option<()> {
        loop {
            self.skip_white();
            match self.peek() {
                Some(b'/') if self.rest().starts_with(b"/*") => {
                    let end = self.rest()[2..].windows(2).position(|pair| pair == b"*/")?;
                    self.at += end + 4;
                }
                Some(b'/') if self.rest().starts_with(b"//") => {
                    let rest = self.rest();
                    let end = rest.iter().position(|&byte| matches!(byte, b'\n' | b'\r'));
                    self.at += end.unwrap_or(rest.len());
                }
                _ => return Some(()),
            }
        }
    }

    fn value(&mut self, depth: u32) -> Option<Json> {
        self.skip_blank()?;
        match self.peek()? {
            b'{' | b'[' if depth == MAX_DEPTH => None,
            b'{' => self.object(depth),
            b'[' => self.array(depth),
            quote @ (b'"' | b'\'') => self.string(quote).map(Json::String),
            b'-' | b'0'..=b'9' => self.number(),
            _ => match self.word() {
                b"null" => Some(Json::Null),
                b"true" => Some(Json::Bool(true)),
                b"false" => Some(Json::Bool(false)),
                _ => None,
            },
        }
    }

    fn object(&mut self, depth: u32) -> Option<Json> {
        self.at += 1;
        let mut members = Vec::new();
        loop {
            self.skip_blank()?;
            if self.eat(b'}') {
                return Some(Json::Object(members));
            }
            let name = match self.peek()? {
                quote @ (b'"' | b'\'') => self.string(quote)?,
                _ => {
                    let word = self.word();
                    if word.is_empty() {
                        return None;
                    }
                    String::from_utf8(word.to_vec()).ok()?
                }
            };
            // The original knows no comment here.
            self.skip_white();
            if !self.eat(b':') {
                return None;
            }
            self.skip_white();
            if self.plain_members && self.peek() == Some(b'/') {
                return None;
            }
            members.push((name, self.value(depth + 1)?));
            self.skip_blank()?;
            if !self.eat(b',') && self.peek() != Some(b'}') {
                return None;
            }
        }
    }

    fn array(&mut self, depth: u32) -> Option<Json> {
        self.at += 1;
        let mut items = Vec::new();
        loop {
            self.skip_blank()?;
            if self.eat(b']') {
                return Some(Json::Array(items));
            }
            items.push(self.value(depth + 1)?);
            self.skip_blank()?;
            if !self.eat(b',') && self.peek() != Some(b']') {
                return None;
            }
        }
    }

    fn word(&mut self) -> &[u8] {
        let start = self.at;
        while matches!(self.peek(), Some(b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'$')) {
            self.at += 1;
        }
        &self.bytes[start..self.at]
    }

    fn number(&mut self) -> Option<Json> {
        let start = self.at;
        while matches!(self.peek(), Some(b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9')) {
            self.at += 1;
        }
        let text = std::str::from_utf8(&self.bytes[start..self.at]).ok()?;
        // The original takes a leading zero for octal: read as decimal, the number would be another.
        if let [b'0', b'0'..=b'9', ..] = text.as_bytes() {
            return None;
        }
        text.parse::<f64>().ok()?;
        // The original reads whole numbers digit by digit, and no longer ones.
        if text.len() > MAX_WHOLE && !text.contains(['.', 'e', 'E']) {
            return None;
        }
        Some(Json::Number(text.to_owned()))
    }

    fn string(&mut self, quote: u8) -> Option<String> {
        self.at += 1;
        let mut text = Vec::new();
        loop {
            let byte = self.peek()?;
            self.at += 1;
            match byte {
                b'\\' => self.escape(&mut text)?,
                byte if byte == quote => return String::from_utf8(text).ok(),
                byte => text.push(byte),
            }
        }
    }

    fn escape(&mut self, text: &mut Vec<u8>) -> Option<()> {
        let byte = self.peek()?;
        self.at += 1;
        let character = match byte {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => self.unicode_escape()?,
            b'"' | b'\'' | b'\\' | b'/' => byte as char,
            _ => return None,
        };
        text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        Some(())
    }

    /// One `\u` escape or a surrogate pair of them; a lone surrogate becomes U+FFFD.
    fn unicode_escape(&mut self) -> Option<char> {
        let unit = self.hex4()?;
        if (0xd800..0xdc00).contains(&unit) && self.rest().starts_with(b"\\u") {
            let before_second = self.at;
            self.at += 2;
            let second = self.hex4()?;
            if (0xdc00..0xe000).contains(&second) {
                return char::from_u32(0x10000 + ((unit - 0xd800) << 10) + (second - 0xdc00));
            }
            self.at = before_second;
        }
        Some(char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn hex4(&mut self) -> Option<u32> {
        let digits = self.rest().get(..4)?;
        let value = digits
            .iter()
            .try_fold(0, |value, &digit| Some(value << 4 | (digit as char).to_digit(16)?))?;
        self.at += 4;
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tolerates_what_the_original_tolerates() {
        for text in [
            r#"{"a":[1]}"#,
            "{'a':[1]}",
            "{a:[1]}",
            r#"{"a":[1,],}"#,
            r#"{/*c*/"a":[1]//x"#.to_owned().as_str().replace("//x", "}//x").as_str(),
            " {\n\"a\" : [ 1 ] }\n",
        ] {
            let json = Json::parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(json.member("A"), Some(&Json::Array(vec![Json::Number("1".into())])));
        }
    }

    #[test]
    fn repeated_members_take_the_last() {
        let json = Json::parse(r#"{"a":1,"A":2}"#).unwrap();
        assert_eq!(json.member("a"), Some(&Json::Number("2".into())));
    }

    #[test]
    fn surrogates() {
        let parse = |text: &str| Json::parse(text).unwrap();
        assert_eq!(parse(r#""\ud83d\ude00""#), Json::String("😀".into()));
        assert_eq!(parse(r#""a\ud83db""#), Json::String("a\u{fffd}b".into()));
        assert_eq!(parse(r#""\ud83d\u0041""#), Json::String("\u{fffd}A".into()));
    }

    #[test]
    fn refuses_what_is_not_json() {
        let deep = "[".repeat(100_000);
        for text in [
            "", "{", "[", "hello", "{}x", "{\"a\"}", "{\"a\":}", "\"a", "1e", "--", "/*", "{:1}",
            "010", &deep,
        ] {
            assert_eq!(Json::parse(text), None, "{:.20}", text);
        }
    }
}
