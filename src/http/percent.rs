//! Percent-encoding of paths and queries.

use std::borrow::Cow;

use percent_encoding::{percent_decode, percent_decode_str};

/// What a text stands for; a `%` that begins no escape stands for itself.
pub fn decode(text: &str) -> Cow<'_, [u8]> {
    percent_decode_str(text).into()
}

/// What a name or a value in a query stands for: as [`decode`], and a plus stands for a blank.
pub fn decode_query(text: &str) -> Cow<'_, [u8]> {
    match text.contains('+') {
        true => percent_decode(text.replace('+', " ").as_bytes()).collect::<Vec<_>>().into(),
        false => decode(text),
    }
}

/// Whether every `%` begins an escape.
pub fn is_encoded(text: &str) -> bool {
    let is_digit = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_hexdigit);
    let is_escape = |rest: &str| {
        let bytes = rest.as_bytes();
        is_digit(bytes.first()) && is_digit(bytes.get(1))
    };
    text.split('%').skip(1).all(is_escape)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_decoded_and_others_stay() {
        assert_eq!(&*decode("a%2Fb%E4%BD%A0+"), "a/b你+".as_bytes());
        assert_eq!(&*decode_query("x%26+y%"), b"x& y%");
        for (text, good) in
            [("", true), ("%41%4a", true), ("%", false), ("%4", false), ("%+1", false)]
        {
            assert_eq!(is_encoded(text), good, "{text:?}");
        }
        assert_eq!(&*decode("%zz%4"), b"%zz%4");
    }
}
