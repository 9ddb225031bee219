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
    for text in [
        "7\u{a0}",
        "\u{2003}7",
        "",
        "abc",
        "1.0",
        "9223372036854775808",
        "8f14e45f",
        "{42}",
        "-",
        "{",
        "{}",
    ] {
        assert!(text.parse::<ClientId>().is_err(), "{text:?}");
    }
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
