//! Invariants of what is read from bodies and paths of the API, for any bytes: called by the tests with the seed
//! corpus and mutations of it, and by `fuzz/`.

use imcore::IdKind;
use serde_json::Value;

use super::{input, json};

/// What can be refused says where, and what is taken is what stands there.
pub(crate) fn body(data: &[u8]) {
    path(&String::from_utf8_lossy(data));
    let text = match json::whole(data) {
        Ok(text) => text,
        Err(mistake) => {
            assert_eq!(mistake.pointer(), "");
            assert!(mistake.detail().starts_with("the body: "), "{}", mistake.detail());
            return;
        }
    };
    let depth = json::depth(text);
    if depth < 100 {
        // What differs is what no reader can hold: halves of characters, and numbers without end.
        let value = serde_json::from_str::<Value>(text);
        let known = ["surrogate", "number out of range"];
        let fine = |error: &serde_json::Error| {
            known.iter().any(|known| error.to_string().contains(known))
                || error.to_string().contains("hex escape")
        };
        assert!(value.as_ref().err().is_none_or(fine), "{value:?}");
    }
    if let Ok(message) = input::message(text) {
        assert_eq!((message.get(), depth <= input::DEPTH), (text, true));
    }
    [IdKind::Any, IdKind::Text].into_iter().for_each(|kind| id(text, kind));
    let _ = (input::channel(text), input::meta(text), input::message_id(text), json::boolean(text));
    let known = ["sender", "receivers", "message", "receipt", "messages"];
    match json::Object::read(text, &known) {
        Ok(object) => {
            for name in known {
                let entries = object
                    .get(name, |text| json::array(text, (1, 4), |id| input::user(id, IdKind::Any)));
                if let Err(mistake) = entries {
                    let place = mistake.pointer();
                    assert!(place == format!("/{name}") || place.starts_with(&format!("/{name}/")));
                }
            }
        }
        Err(mistake) => assert_eq!(mistake.pointer(), ""),
    }
}

/// An id is the number that stands there, digit by digit.
fn id(text: &str, kind: IdKind) {
    let Ok(id) = input::id(text, kind) else { return };
    let written = id.to_string();
    let again = input::id_text(&written, kind).map(|id| id.to_string());
    assert_eq!(again.as_deref(), Ok(&*written));
    if !text.starts_with('"') {
        // As near as floating-point numbers come.
        let (near, exact): (f64, f64) = (text.parse().unwrap(), written.parse().unwrap());
        assert_eq!(near, exact, "{text} became {written}");
        if !text.contains(['.', 'e', 'E']) && text != "-0" {
            assert_eq!(text, written);
        }
    }
}

fn path(text: &str) {
    for kind in [IdKind::Any, IdKind::Text] {
        let Ok(id) = input::id_path(text, kind) else { continue };
        let again = input::id_path(&id.to_string(), kind).map(|id| id.to_string());
        assert_eq!(again, Ok(id.to_string()), "{text:?}");
    }
    let _ = input::channel_name(text.to_owned());
}
