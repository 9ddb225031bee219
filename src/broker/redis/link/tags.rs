//! Hash slots of a Redis Cluster, and the tags that put each share of the nodes into one. Pure.
//!
//! A share must not depend on how many there are, or its mark could not refuse another number of them; and with as many shares as
//! masters, or twice as many, each master should have as much as the others. So share after share goes by the golden ratio of
//! all slots further round the circle: wherever that stops, the shares lie about evenly.

/// How many slots a cluster has.
const SLOTS: u16 = 16384;
/// Where share 0 lies. Of all beginnings the one by which 2 to 8 masters of equal ranges are served most evenly.
const FIRST: usize = 13173;
/// From one share to the next: [`SLOTS`] by the golden ratio.
const STEP: usize = 10126;
/// How far from its place a share may lie.
const NEAR: u16 = 16;

/// The tag of a share, counted from 0: its number and, behind a dot, the least number that brings it near to its place.
pub(in crate::broker::redis) fn tag(share: usize) -> String {
    let place = ((FIRST + STEP * share) % usize::from(SLOTS)) as u16;
    let is_near = |tag: &String| slot(tag.as_bytes()).abs_diff(place) <= NEAR;
    let mut tags = (0u32..).map(|number| format!("{share}.{number}"));
    tags.find(is_near).unwrap_or_default()
}

/// The slot of a key or topic: that of what stands in its first braces, if anything does.
pub(super) fn slot(name: &[u8]) -> u16 {
    let inner = name.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = &name[open + 1..];
        let close = rest.iter().position(|byte| *byte == b'}')?;
        (close > 0).then(|| &rest[..close])
    });
    crc16(inner.unwrap_or(name)) % SLOTS
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| match crc & 0x8000 {
            0 => crc << 1,
            _ => (crc << 1) ^ 0x1021,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis() {
        // From `CLUSTER KEYSLOT`.
        for (name, number) in
            [("123456789", 12739), ("x{0}a", 13907), ("{1}", 9842), ("foo{}{bar}", 8363), ("", 0)]
        {
            assert_eq!(slot(name.as_bytes()), number, "{name}");
        }
    }

    #[test]
    fn tags_are_those_of_the_protocol() {
        let tags: Vec<_> = (0..8).map(tag).collect();
        let told = ["0.781", "1.55", "2.746", "3.145", "4.100", "5.703", "6.136", "7.1349"];
        assert_eq!(tags, told);
    }

    #[test]
    fn shares_lie_evenly_on_masters() {
        let slots: Vec<_> = (0..32).map(|share| slot(tag(share).as_bytes())).collect();
        let on = |masters: usize, shares: usize| {
            let mut counts = vec![0; masters];
            for slot in &slots[..shares] {
                counts[usize::from(*slot) * masters / usize::from(SLOTS)] += 1;
            }
            counts
        };
        for masters in [2, 3, 4, 5, 8] {
            for times in [1, 2] {
                assert_eq!(on(masters, masters * times), vec![times; masters], "{masters}");
            }
        }
        assert_eq!(on(6, 6), [1; 6]);
        assert_eq!(on(7, 7), [1; 7]);
        assert_eq!(on(4, 16), [4; 4]);
    }
}
