//! Whether text that comes in pieces is UTF-8. Pure; keeps no more than the beginning of one character.

/// How far a text is checked.
#[derive(Debug, Default)]
pub(crate) struct Utf8 {
    /// The beginning of a character whose rest has not come yet.
    begun: [u8; 4],
    have: u8,
}

impl Utf8 {
    /// Whether the text is still UTF-8 with `bytes` behind it, or can become so.
    pub(crate) fn check(&mut self, mut bytes: &[u8]) -> bool {
        while self.have > 0 {
            let Some((first, rest)) = bytes.split_first() else { return true };
            self.begun[usize::from(self.have)] = *first;
            self.have += 1;
            bytes = rest;
            match std::str::from_utf8(&self.begun[..usize::from(self.have)]) {
                Ok(_) => self.have = 0,
                Err(error) if error.error_len().is_some() => return false,
                Err(_) => {}
            }
        }
        match std::str::from_utf8(bytes) {
            Ok(_) => true,
            Err(error) if error.error_len().is_some() => false,
            Err(error) => {
                let rest = &bytes[error.valid_up_to()..];
                self.begun[..rest.len()].copy_from_slice(rest);
                self.have = rest.len() as u8;
                true
            }
        }
    }

    /// Whether the text may end here.
    pub(crate) fn is_whole(&self) -> bool {
        self.have == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_make_no_difference() {
        let texts: [&[u8]; 9] = [
            "aé你😀\u{10ffff}".as_bytes(),
            b"\xff",
            b"a\xc3\x28",
            b"\xed\xa0\x80",
            b"\xf4\x90\x80\x80",
            b"\xc0\x80",
            b"\xe4\xbd",
            b"\xf0\x9f\x98",
            b"",
        ];
        for text in texts {
            let whole = std::str::from_utf8(text).is_ok();
            for size in 1..=text.len().max(1) {
                let mut utf8 = Utf8::default();
                let checked = text.chunks(size).all(|piece| utf8.check(piece));
                assert_eq!(checked && utf8.is_whole(), whole, "{text:02x?} by {size}");
            }
        }
    }

    #[test]
    fn a_fault_is_found_with_its_first_byte() {
        let mut utf8 = Utf8::default();
        assert!(utf8.check(b"ok \xed"));
        assert!(!utf8.check(b"\xa0"), "no character begins so");
    }
}
