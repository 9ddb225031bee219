//! Client ids as text, as JSON and from the integers of Rust.

use super::*;

fn guid(text: &str) -> ClientId {
    text.parse().unwrap()
}

#[test]
fn text_is_read_leniently_and_written_canonically() {
    for text in [" 42", "42\n", "+42", "0042"] {
        assert_eq!(text.parse::<ClientId>().unwrap(), ClientId::Int(42), "{text:?}");
    }
    let canonical = "8f14e45f-ceea-467f-a9b1-000000000002";
    for text in [
        "8F14E45F-CEEA-467F-A9B1-000000000002",
        "{8f14e45f-ceea-467f-a9b1-000000000002}",
        "8f14e45fceea467fa9b1000000000002",
        " 8f14e45f-ceea-467f-a9b1-000000000002 ",
    ] {
        assert_eq!(guid(text).to_string(), canonical, "{text:?}");
    }
    for text in ["7\u{a0}", "\u{2003}7", "", " ", "\n"] {
        assert!(text.parse::<ClientId>().is_err(), "{text:?}");
    }
}

#[test]
fn any_other_text_is_an_id_as_it_is() {
    let longest = "é".repeat(TextId::BYTES / 2);
    for text in [
        "alice",
        "Alice",
        "01J9Z3K4M5N6P7Q8R9S0T1V2W3",
        "oZ0-a_b4Y",
        "o'hara,bob;x|y:z/?#%&=\"\\*[]",
        "李雷",
        "e\u{301}",
        "\u{202e}x",
        "1.0",
        "9223372036854775808",
        "8f14e45f",
        "{42}",
        "-",
        "{}",
        "...",
        "~1",
        "?n:1",
        &longest,
    ] {
        let id: ClientId = text.parse().unwrap();
        assert!(matches!(&id, ClientId::Text(read) if read.as_str() == text), "{text:?}");
        assert_eq!(id.to_string(), text);
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(serde_json::from_str::<ClientId>(&json).unwrap(), id, "{json}");
        assert!(!id.is_system());
        assert!(i64::try_from(id.clone()).is_err() && u64::try_from(id).is_err());
    }
    assert_ne!(guid("e\u{301}"), guid("é"), "nothing is normalised");
    for (text, why) in [
        ("", "is empty"),
        (&*(longest.clone() + "x"), "more than 64 bytes"),
        ("a b", "white space"),
        (" a", "white space"),
        ("a\t", "white space"),
        ("a\u{3000}b", "white space"),
        ("a\u{2028}", "white space"),
        ("a\0", "control character"),
        ("a\u{9f}", "control character"),
        ("a\u{fffd}", "no text"),
        (".", "no address"),
        ("..", "no address"),
    ] {
        let error = text.parse::<ClientId>().unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Argument);
        assert!(error.to_string().contains(why), "{error}");
    }
}

/// What is written of an id is read as that id, by all readers; and one text is one id.
#[test]
fn ids_survive_being_written() {
    let mut chance = testkit::seeded::Seeded::new(14);
    let signs: Vec<char> =
        "0123456789abcdefABCDEF-+{}()., ~?:=\"\\/%éß李😀\u{a0}\u{85}\u{301}\u{fffd}x"
            .chars()
            .collect();
    let (mut texts, mut numbers) = (0, 0);
    for round in 0..20_000 {
        let most = if round % 2 == 0 { 3 } else { 40 };
        let text: String =
            (0..chance.below(most)).map(|_| signs[chance.below(signs.len())]).collect();
        let Ok(id) = text.parse::<ClientId>() else { continue };
        let written = id.to_string();
        assert_eq!(written.parse::<ClientId>().unwrap(), id, "{text:?}");
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(serde_json::from_str::<ClientId>(&json).unwrap(), id, "{text:?}");
        assert!(slot_of(&id) < 7);
        match &id {
            ClientId::Text(_) => {
                assert_eq!(written, text);
                texts += 1;
            }
            _ => numbers += 1,
        }
    }
    assert!(texts > 1000 && numbers > 500, "{texts} {numbers}");
}

fn slot_of(id: &ClientId) -> usize {
    crate::slots::slot(id, 7)
}

/// A text, its FNV-1a of 64 bits, and the remainders of that by 3 and by 64.
const VECTORS: [(&str, u64, usize, usize); 7] = [
    ("a", 0xaf63_dc4c_8601_ec8c, 1, 12),
    ("alice", 0x508b_2abb_65a0_3907, 2, 7),
    ("Alice", 0x1239_09cb_9f15_d167, 2, 39),
    ("foobar", 0x8594_4171_f739_67e8, 0, 40),
    ("01J9Z3K4M5N6P7Q8R9S0T1V2W3", 0x228d_342b_ee4a_b092, 1, 18),
    ("李雷", 0xc269_2eff_0423_bb9f, 1, 31),
    ("a,b", 0xe616_9119_0460_25e6, 0, 38),
];

#[test]
fn texts_are_placed_by_a_hash_that_every_language_has() {
    // The same in docs/protocol.md.
    for (text, hash, by_3, by_64) in VECTORS {
        let id: ClientId = text.parse().unwrap();
        let ClientId::Text(read) = &id else { panic!("{text}") };
        assert_eq!(read.place(), hash, "{text} {:#x}", read.place());
        let slots = [3, 64].map(|count| crate::slots::slot(&id, count));
        assert_eq!(slots, [by_3, by_64], "{text}");
    }
    assert_eq!(fnv1a(""), 0xcbf2_9ce4_8422_2325);
}

#[test]
fn an_integer_takes_no_more_room_for_them() {
    assert_eq!(size_of::<ClientId>(), 24);
    assert_eq!(size_of::<Option<ClientId>>(), 24);
}

#[test]
fn integers_that_are_no_ids_are_refused() {
    assert_eq!(ClientId::try_from(i64::MAX as u64).unwrap(), ClientId::Int(i64::MAX));
    for id in [i64::MAX as u64 + 1, u64::MAX] {
        let error = ClientId::try_from(id).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Argument);
        assert!(error.to_string().contains(&id.to_string()), "{error}");
    }
    assert_eq!(i64::try_from(ClientId::Int(-1)).unwrap(), -1);
    assert!(u64::try_from(ClientId::Int(-1)).is_err());
    assert!(i64::try_from(ClientId::Guid([1; 16])).is_err());
}

#[cfg(feature = "uuid")]
#[test]
fn a_uuid_keeps_its_text() {
    let text = "0f8fad5b-d9cb-469f-a165-70867728950e";
    let uuid: uuid::Uuid = text.parse().unwrap();
    assert_eq!(ClientId::from(uuid).to_string(), text);
    assert_eq!(uuid::Uuid::try_from(ClientId::from(uuid)).unwrap(), uuid);
    assert!(uuid::Uuid::try_from(ClientId::Int(1)).is_err());
}

#[test]
fn json_is_a_number_or_a_string() {
    assert_eq!(serde_json::to_string(&ClientId::Int(-7)).unwrap(), "-7");
    let id = guid("8f14e45f-ceea-467f-a9b1-000000000002");
    let json = serde_json::to_string(&id).unwrap();
    assert_eq!(json, "\"8f14e45f-ceea-467f-a9b1-000000000002\"");
    assert_eq!(serde_json::from_str::<ClientId>(&json).unwrap(), id);
    assert_eq!(serde_json::from_str::<ClientId>("\"5\"").unwrap(), ClientId::Int(5));
}
