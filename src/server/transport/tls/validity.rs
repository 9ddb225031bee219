//! Until when a certificate holds. Pure; reads just as much of its DER as that takes.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// The version, which stands first and may be absent.
const VERSION: u8 = 0xa0;

/// The end of a certificate's validity; `None` if it is not where X.509 has it (RFC 5280, section 4.1).
pub(super) fn not_after(certificate: &[u8]) -> Option<SystemTime> {
    let (certificate, _) = value(certificate, SEQUENCE)?;
    let (mut rest, _) = value(certificate, SEQUENCE)?;
    if rest.first() == Some(&VERSION) {
        rest = value(rest, VERSION)?.1;
    }
    // Serial number, signature algorithm, issuer; then validity.
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        rest = value(rest, tag)?.1;
    }
    let (validity, _) = value(rest, SEQUENCE)?;
    let (_, after_not_before) = value(validity, *validity.first()?)?;
    let tag = *after_not_before.first()?;
    let (digits, _) = value(after_not_before, tag)?;
    time(tag, digits)
}

/// The value of the element at the start of `bytes`, which has to be a `tag`, and what follows it.
fn value(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let [found, length, rest @ ..] = bytes else { return None };
    if *found != tag {
        return None;
    }
    let (length, rest) = match usize::from(*length) {
        short @ 0..0x80 => (short, rest),
        long => {
            let (digits, rest) = rest.split_at_checked(long - 0x80)?;
            let add = |sum: usize, digit: &u8| sum.checked_mul(256)?.checked_add((*digit).into());
            (digits.iter().try_fold(0, add)?, rest)
        }
    };
    rest.split_at_checked(length)
}

/// `YYMMDDhhmmssZ` or `YYYYMMDDhhmmssZ`, the forms that certificates may use.
fn time(tag: u8, text: &[u8]) -> Option<SystemTime> {
    let digits = text.strip_suffix(b"Z")?;
    let number = |digits: &[u8]| std::str::from_utf8(digits).ok()?.parse::<u64>().ok();
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = digits.split_at_checked(2)?;
            let year = number(year)?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = digits.split_at_checked(4)?;
            (number(year)?, rest)
        }
        _ => return None,
    };
    let parts = rest.chunks_exact(2).map(number).collect::<Option<Vec<_>>>()?;
    let [month, day, hour, minute, second] = parts[..] else { return None };
    let days = days_from_epoch(year, month, day)?;
    let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// Days from 1970-01-01 to a day of the Gregorian calendar.
fn days_from_epoch(year: u64, month: u64, day: u64) -> Option<u64> {
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Years that begin in March have their leap day at their end.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    let before_month = (153 * month + 2) / 5;
    Some(365 * year + leap_days + before_month + day - 1 - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(tag: u8, text: &str) -> Option<u64> {
        let time = time(tag, text.as_bytes())?;
        Some(time.duration_since(UNIX_EPOCH).unwrap().as_secs())
    }

    #[test]
    fn times_are_read_in_both_forms() {
        assert_eq!(at(UTC_TIME, "700101000000Z"), Some(0));
        assert_eq!(at(UTC_TIME, "260315235959Z"), Some(1_773_619_199));
        assert_eq!(at(UTC_TIME, "000229120000Z"), Some(951_825_600));
        assert_eq!(at(GENERALIZED_TIME, "20991231235959Z"), Some(4_102_444_799));
        for text in
            ["", "Z", "20991231235959", "209912312359Z", "20991331235959Z", "aaaaaaaaaaaaaaZ"]
        {
            assert_eq!(at(GENERALIZED_TIME, text), None, "{text}");
        }
    }

    #[test]
    fn what_is_cut_short_or_broken_has_no_end() {
        let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
        let der = made.cert.der();
        assert!(not_after(der).is_some());
        // The end of the validity lies before the key, which is the second half.
        for len in 0..60 {
            assert_eq!(not_after(&der[..len]), None, "{len}");
        }
        for index in 0..der.len() {
            let mut broken = der.to_vec();
            broken[index] ^= 0xff;
            not_after(&broken);
        }
    }
}
