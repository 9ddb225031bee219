//! The fields of a request, wherever they came: query string, form body or JSON body. Pure.

use imcore::ClientId;
use serde_json::{Map, Value};

use crate::refusal::Refusal;

/// Integers beyond this are not exact in JavaScript, so a page could not name such a client.
pub(crate) const MAX_SAFE_ID: i64 = (1 << 53) - 1;
/// No route has more than a handful of fields.
const MAX_FIELDS: usize = 32;

/// Named values of one request. Names ignore case, because the original's API does and its page
/// relies on that. A later value of the same name wins; the body comes after the query.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Fields(Vec<(String, String)>);

impl Fields {
    /// Reads the query of the URL and the body.
    pub(crate) fn read(query: &str, content_type: &str, body: &[u8]) -> Result<Self, Refusal> {
        let mut fields = Fields::default();
        fields.add_form(query.as_bytes())?;
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        if body.is_empty() {
            return Ok(fields);
        }
        match media_type.to_ascii_lowercase().as_str() {
            "application/json" => fields.add_json(body)?,
            "application/x-www-form-urlencoded" | "" => fields.add_form(body)?,
            other => {
                return Err(Refusal::new(
                    415,
                    format!(
                        "Content-Type {other:?} is not understood; send \
                         application/x-www-form-urlencoded or application/json."
                    ),
                ));
            }
        }
        Ok(fields)
    }

    fn add_form(&mut self, form: &[u8]) -> Result<(), Refusal> {
        for (name, value) in form_urlencoded::parse(form) {
            self.add(&name, value.into_owned())?;
        }
        Ok(())
    }

    fn add_json(&mut self, body: &[u8]) -> Result<(), Refusal> {
        let members: Map<String, Value> = serde_json::from_slice(body)
            .map_err(|error| Refusal::bad(format!("The body is not a JSON object: {error}.")))?;
        for (name, value) in members {
            match value {
                Value::Null => {}
                Value::String(text) => self.add(&name, text)?,
                // A nested value stays JSON: `message` may be given as an object.
                other => self.add(&name, other.to_string())?,
            }
        }
        Ok(())
    }

    fn add(&mut self, name: &str, value: String) -> Result<(), Refusal> {
        if self.0.len() == MAX_FIELDS {
            return Err(Refusal::bad(format!("More than {MAX_FIELDS} fields.")));
        }
        self.0.push((name.to_lowercase(), value));
        Ok(())
    }

    /// The value of `name`; `None` if it is absent or blank.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().rev().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        (!value.trim().is_empty()).then_some(value.as_str())
    }

    /// The value of `name`, which the route cannot do without.
    pub(crate) fn required(&self, name: &str) -> Result<&str, Refusal> {
        self.text(name).ok_or_else(|| Refusal::bad(format!("The field {name} is missing.")))
    }

    /// A short name for people to read: a channel, a nickname.
    pub(crate) fn label(&self, name: &str, longest: usize) -> Result<Option<&str>, Refusal> {
        let Some(label) = self.text(name).map(str::trim) else { return Ok(None) };
        if label.chars().count() > longest || label.chars().any(char::is_control) {
            return Err(Refusal::bad(format!(
                "The field {name} must be at most {longest} characters on one line."
            )));
        }
        Ok(Some(label))
    }

    /// A client's id; `None` if it is absent.
    pub(crate) fn client(&self, name: &str) -> Result<Option<ClientId>, Refusal> {
        let Some(text) = self.text(name) else { return Ok(None) };
        match text.parse() {
            Ok(ClientId::Int(id)) if id.unsigned_abs() > MAX_SAFE_ID as u64 => {}
            Ok(ClientId::Text(_)) => {}
            Ok(id) if !id.is_system() => return Ok(Some(id)),
            _ => {}
        }
        Err(Refusal::bad(format!(
            "The field {name} must be a GUID or an integer other than 0 between -{MAX_SAFE_ID} \
             and {MAX_SAFE_ID}."
        )))
    }

    /// A client's id, which the route cannot do without.
    pub(crate) fn required_client(&self, name: &str) -> Result<ClientId, Refusal> {
        self.required(name)?;
        self.client(name)?.ok_or_else(|| Refusal::bad(format!("The field {name} is missing.")))
    }

    /// A yes or no; no if it is absent.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, Refusal> {
        match self.text(name).map(|text| text.trim().to_ascii_lowercase()).as_deref() {
            None | Some("false" | "0" | "no" | "off") => Ok(false),
            Some("true" | "1" | "yes" | "on") => Ok(true),
            Some(_) => Err(Refusal::bad(format!("The field {name} must be true or false."))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(body: &str) -> Fields {
        Fields::read("", "application/x-www-form-urlencoded; charset=UTF-8", body.as_bytes())
            .unwrap()
    }

    #[test]
    fn form_fields_are_decoded_and_names_ignore_case() {
        let fields = form("websocketid=7&Channel=a%26b+%E4%BD%A0&message=");
        assert_eq!(fields.client("websocketId"), Ok(Some(7.into())));
        assert_eq!(fields.text("channel"), Some("a&b 你"));
        assert_eq!(fields.text("message"), None);
    }

    #[test]
    fn the_body_wins_over_the_query() {
        let fields = Fields::read("a=1&b=2", "", b"b=3").unwrap();
        assert_eq!((fields.text("a"), fields.text("b")), (Some("1"), Some("3")));
    }

    #[test]
    fn json_bodies_may_hold_numbers_flags_and_objects() {
        let body = br#"{"websocketId":9,"isReceipt":true,"message":{"msg":{}},"channel":null}"#;
        let fields = Fields::read("", "Application/JSON", body).unwrap();
        assert_eq!(fields.client("websocketId"), Ok(Some(9.into())));
        assert_eq!(fields.flag("isReceipt"), Ok(true));
        assert_eq!(fields.text("message"), Some(r#"{"msg":{}}"#));
        assert_eq!(fields.text("channel"), None);
    }

    #[test]
    fn unusable_bodies_are_refused_with_a_status() {
        let status = |kind: &str, body: &[u8]| Fields::read("", kind, body).unwrap_err().status;
        assert_eq!(status("application/json", b"[1]"), 400);
        assert_eq!(status("application/json", b"{"), 400);
        assert_eq!(status("multipart/form-data; boundary=x", b"--x"), 415);
        assert_eq!(status("", "a=1&".repeat(40).as_bytes()), 400);
    }

    #[test]
    fn ids_are_guids_or_integers_that_javascript_can_hold() {
        let guid = "0F8FAD5B-D9CB-469F-A165-70867728950E";
        for good in ["1", "9007199254740991", "-5", guid] {
            assert!(form(&format!("id={good}")).client("id").unwrap().is_some(), "{good}");
        }
        let zero = "00000000-0000-0000-0000-000000000000";
        for bad in ["0", "9007199254740992", "-9223372036854775808", "x", "1.5", zero] {
            assert_eq!(form(&format!("id={bad}")).client("id").unwrap_err().status, 400, "{bad}");
        }
        assert_eq!(form("").required_client("id").unwrap_err().status, 400);
    }

    #[test]
    fn labels_are_short_and_on_one_line() {
        assert_eq!(form("c=+lobby+").label("c", 5), Ok(Some("lobby")));
        assert!(form("c=lobbies").label("c", 5).is_err());
        assert!(form("c=a%0Ab").label("c", 5).is_err());
        assert_eq!(form("c=%E4%BD%A0%E5%A5%BD").label("c", 2), Ok(Some("你好")));
    }
}
