//! The OpenAPI 3.1 document, made of the table of operations, the problems and `schemas.json`.

use std::sync::LazyLock;

use imcore::{IdKind, TextId};
use serde_json::{Map, Value, json};

use super::{
    input,
    operations::{Kind, OPERATIONS, Operation},
    problem::Code,
};
use crate::following;

const SCHEMAS: &str = include_str!("schemas.json");

const ABOUT: &str = "\
Pushes messages to WebSocket clients, keeps channels, and says who is online.

Client ids are 64-bit integers or GUIDs, and other texts where the setting `ids` is `text`. Requests take \
them as JSON numbers or strings; answers have strings, because JavaScript rounds numbers above 2^53. Bodies are JSON of up to 1 MiB, one message up to \
256 KiB. Keys of a body that are not known are refused.

Operations with an effect take the header `Idempotency-Key`: a request that is repeated under the same key, \
to whichever node, is carried out once and answered as the first time, with `Idempotency-Replayed: true`. \
What had no effect (4xx, 503) leaves the key free.

Every refusal is a problem by RFC 9457 with a `code` for programs; besides those listed, any request can get \
404, 405, 408, 417, 431 or 501 before it reaches an operation.";

/// The document as JSON.
pub(super) fn text(ids: IdKind) -> &'static str {
    static USUAL: LazyLock<String> = LazyLock::new(|| build(false).to_string());
    static WITH_TEXTS: LazyLock<String> = LazyLock::new(|| build(true).to_string());
    if ids == IdKind::Text { &WITH_TEXTS } else { &USUAL }
}

/// `with_texts`: ids may be other texts than numbers and GUIDs.
fn build(with_texts: bool) -> Value {
    let mut paths = Map::new();
    for operation in OPERATIONS {
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        path[operation.method.to_ascii_lowercase()] = describe(operation);
    }
    // Written by hand and checked by the tests.
    let mut schemas: Value = serde_json::from_str(SCHEMAS).unwrap_or_default();
    schemas["ClientIdText"]["pattern"] = format!("^({}|{GUID})$", integer_pattern()).into();
    if with_texts {
        describe_texts(&mut schemas);
    }
    let codes = Code::ALL.map(|code| code.parts().1);
    schemas["Problem"]["properties"]["code"]["enum"] = json!(codes);
    let responses = Code::ALL.map(|code| (code.parts().1.to_owned(), problem(code)));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "imserver",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": { "name": "MIT", "identifier": "MIT" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "api_key": [] }],
        "tags": TAGS.map(|(name, about)| json!({ "name": name, "description": about })),
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": Map::from_iter(responses),
            "securitySchemes": {
                "api_key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The setting `api_key`, or what the start line of the node says.",
                },
            },
        },
    })
}

/// What an id is where it may be any text.
fn describe_texts(schemas: &mut Value) {
    let text = &mut schemas["ClientIdText"];
    text["description"] = "A client as text: a 64-bit integer, a GUID, or any other text of up to 64 bytes of UTF-8 without \
                           white space, control characters and U+FFFD, which is neither `.` nor `..`. What reads as an \
                           integer or a GUID is that one, and has one spelling."
        .into();
    text["pattern"] = r"^[^\s\u0000-\u001f\u007f-\u009f\ufffd]+$".into();
    text["minLength"] = 1.into();
    text["maxLength"] = TextId::BYTES.into();
    text["examples"] = json!(["42", "alice"]);
    let id = &mut schemas["ClientId"];
    id["description"] = "A client: a 64-bit integer, or a string with one, with a GUID or with any other text. Numbers beyond \
                         2^53 are safer as strings: many languages round them before they are sent."
        .into();
    if let Some(examples) = id["examples"].as_array_mut() {
        examples.push("alice".into());
    }
}

const GUID: &str = "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}";

/// A regular expression for the 64-bit integers, each in its one text.
fn integer_pattern() -> String {
    let largest = i64::MAX.to_string();
    let shorter = largest.len() - 2;
    let mut pattern = format!("{}|0|-?([1-9][0-9]{{0,{shorter}}}|{largest}", i64::MIN);
    // As long as the largest, the same up to one digit, and there a smaller one.
    for (index, digit) in largest.char_indices().filter(|(_, digit)| *digit != '0') {
        let (before, below) = (&largest[..index], digit as u8 - 1);
        let from = if index == 0 { '1' } else { '0' };
        let left = largest.len() - 1 - index;
        pattern += &format!("|{before}[{from}-{}][0-9]{{{left}}}", below as char);
    }
    pattern + ")"
}

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

fn describe(operation: &Operation) -> Value {
    let mut described = json!({
        "operationId": operation.id,
        "tags": [tag(operation)],
        "summary": operation.summary,
        "parameters": parameters(operation),
        "responses": responses(operation),
    });
    if !operation.description.is_empty() {
        described["description"] = operation.description.into();
    }
    if let Some(schema) = operation.body {
        described["requestBody"] = json!({
            "required": true,
            "content": { "application/json": { "schema": reference(schema) } },
        });
    }
    if operation.kind == Kind::Public {
        described["security"] = json!([]);
    }
    described
}

/// The group that an operation stands in, by what its path is about.
fn tag(operation: &Operation) -> &'static str {
    let part = operation.path.trim_start_matches("/v1").trim_start_matches('/').split('/').next();
    match part {
        _ if operation.path.ends_with("/messages") => "messages",
        Some("events") => "events",
        Some("webhook") => "webhooks",
        Some("messages" | "broadcast") => "messages",
        Some("channels" | "memberships") => "channels",
        Some("nodes" | "slots" | "follow") => "nodes",
        Some("openapi.json" | "") | None => "document",
        _ => "clients",
    }
}

/// All groups, in the order in which a reader needs them.
const TAGS: [(&str, &str); 7] = [
    ("clients", "Who may connect, who is online, and their connections"),
    ("messages", "Sending"),
    ("channels", "Channels and their members"),
    ("events", "Who comes and goes, as it happens, or kept until a group has acknowledged it"),
    ("webhooks", "How events are posted to the business, and those that nobody took"),
    ("nodes", "The servers themselves, and what they see"),
    ("document", "This document"),
];

fn parameters(operation: &Operation) -> Vec<Value> {
    let names = operation.path.split('{').skip(1).filter_map(|rest| rest.split('}').next());
    let mut parameters: Vec<_> = names
        .map(|name| {
            let schema = match name {
                // Only users can join, not the system.
                "client" if operation.id == "join" => "User",
                "client" => "ClientId",
                // Also one of the nodes' own.
                "group" => "AnyEventGroupName",
                "letter" => "DeadLetterId",
                _ => "ChannelName",
            };
            json!({ "name": name, "in": "path", "required": true, "schema": reference(schema) })
        })
        .collect();
    match operation.kind {
        Kind::List => parameters.extend([
            json!({
                "name": "limit", "in": "query", "description": "About how many entries the answer has.",
                "schema": {
                    "type": "integer", "minimum": 1, "maximum": input::PAGE, "default": input::PAGE,
                },
            }),
            json!({
                "name": "after", "in": "query",
                "description": "`next` of the answer before, as it is: the list goes on there.",
                "schema": { "type": "string", "minLength": 1 },
            }),
        ]),
        Kind::Change(_) => parameters.push(json!({
            "name": "Idempotency-Key", "in": "header",
            "description": "Carries the request out once, however often it is sent. The answer is kept for ten \
                            minutes, or what the node is set to; `Idempotency-Life` beside it, from 1 to 86400, \
                            says another number of seconds.",
            "schema": {
                "type": "string", "minLength": 1, "maxLength": input::KEY, "pattern": "^[!-~]+$",
            },
        })),
        Kind::Stream if operation.id == "follow" => parameters.extend(following()),
        Kind::Stream => parameters.extend(reading()),
        Kind::Read | Kind::Public => {}
    }
    if tag(operation) == "messages" {
        parameters.push(json!({
            "name": "traceparent", "in": "header",
            "description": "W3C Trace Context: nodes name it in their logs of the message, and to those who follow. What is \
                            none is left out.",
            "schema": { "type": "string" },
        }));
    }
    parameters
}

/// What is followed, and for how long.
fn following() -> [Value; 4] {
    [
        json!({
            "name": "client", "in": "query", "schema": reference("ClientId"),
            "description": "The client to follow. One of `client`, `channel` and `message` is needed.",
        }),
        json!({
            "name": "channel", "in": "query", "schema": reference("ChannelName"),
            "description": "The channel to follow.",
        }),
        json!({
            "name": "message", "in": "query", "schema": reference("MessageId"),
            "description": "The `id` of messages to clients that come from now on.",
        }),
        json!({
            "name": "seconds", "in": "query",
            "description": "How long.",
            "schema": { "type": "integer", "minimum": 1, "maximum": following::LONGEST, "default": 60 },
        }),
    ]
}

/// Which events are read, and where that begins.
fn reading() -> [Value; 3] {
    [
        json!({
            "name": "group", "in": "query", "schema": reference("EventGroupName"),
            "description": "Reads events that are kept, in the name of this group.",
        }),
        json!({
            "name": "start", "in": "query",
            "description": "Where the group begins if there is none of that name: with what happens from now \
                            on, with all that is kept, or at a time in milliseconds since 1970.",
            "schema": { "type": "string", "pattern": "^(new|all|[0-9]{1,16})$", "default": "new" },
        }),
        json!({
            "name": "Last-Event-ID", "in": "header",
            "description": "The last `id` of a stream that has ended: this one is the same reader, and goes on \
                            behind that.",
            "schema": { "type": "string", "pattern": "^(0|[1-9][0-9]{0,18})-(0|[1-9][0-9]{0,18})\\.[0-9a-f]{16}$" },
        }),
    ]
}

fn responses(operation: &Operation) -> Value {
    let (status, schema) = operation.success;
    let mut success = json!({ "description": phrase(status) });
    if let Some(schema) = schema {
        success["content"] = json!({ "application/json": { "schema": reference(schema) } });
    }
    if operation.kind == Kind::Stream {
        success["content"] = json!({ "text/event-stream": { "schema": { "type": "string" } } });
    }
    if let Kind::Change(_) = operation.kind {
        success["headers"] = json!({
            "Idempotency-Replayed": {
                "description": "Present, and true, if this answer was given before.",
                "schema": { "const": "true" },
            },
        });
    }
    let mut responses = json!({ status.to_string(): success });
    for code in problems(operation) {
        let (status, name, _) = code.parts();
        responses[status.to_string()] = json!({ "$ref": format!("#/components/responses/{name}") });
    }
    responses
}

/// The problems that an operation itself can have.
fn problems(operation: &Operation) -> Vec<Code> {
    if operation.kind == Kind::Public {
        return vec![Code::InvalidRequest];
    }
    let mut problems = vec![
        Code::InvalidRequest,
        Code::Unauthorized,
        Code::Forbidden,
        Code::Internal,
        Code::Unavailable,
        Code::UnknownEffect,
    ];
    if operation.path.contains('{')
        || ["/v1/events", "/v1/follow", "/v1/slots", "/v1/webhook"]
            .iter()
            .any(|path| operation.path.starts_with(path))
    {
        problems.push(Code::NotFound);
    }
    if operation.body.is_some() {
        problems.extend([Code::TooLarge, Code::UnsupportedMediaType, Code::RequestTimeout]);
    }
    if let Kind::Change(_) = operation.kind {
        problems.extend([Code::InProgress, Code::KeyReused]);
    }
    problems
}

fn problem(code: Code) -> Value {
    let (_, _, title) = code.parts();
    let mut response = json!({
        "description": title,
        "content": { "application/problem+json": { "schema": reference("Problem") } },
    });
    let header = match code {
        Code::Unauthorized => Some(("WWW-Authenticate", json!({ "type": "string" }))),
        Code::MethodNotAllowed => Some(("Allow", json!({ "type": "string" }))),
        Code::InProgress | Code::Unavailable => {
            Some(("Retry-After", json!({ "type": "integer", "minimum": 0 })))
        }
        _ => None,
    };
    if let Some((name, schema)) = header {
        response["headers"] = json!({ name: { "required": true, "schema": schema } });
    }
    response
}

fn phrase(status: u16) -> &'static str {
    match status {
        201 => "Issued",
        202 => "Handed to the nodes",
        204 => "Done",
        _ => "The answer",
    }
}

#[cfg(test)]
mod tests {
    use imcore::broker::DEAD_LETTERS;

    use super::{super::groups, *};

    #[test]
    fn references_lead_somewhere() {
        fn walk(root: &Value, value: &Value) {
            if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
                let pointer = reference.strip_prefix('#').unwrap();
                assert!(root.pointer(pointer).is_some(), "{reference}");
            }
            let children: Vec<_> = match value {
                Value::Object(map) => map.values().collect(),
                Value::Array(items) => items.iter().collect(),
                _ => Vec::new(),
            };
            children.into_iter().for_each(|child| walk(root, child));
        }
        for document in [build(false), build(true)] {
            walk(&document, &document);
        }
    }

    #[test]
    fn stated_limits_are_those_that_hold() {
        let schemas: Value = serde_json::from_str(SCHEMAS).unwrap();
        for (pointer, limit) in [
            ("/ChannelName/maxLength", input::CHANNEL),
            ("/Connect/properties/meta/maxLength", input::META),
            ("/Clients/properties/clients/maxItems", input::LIST),
            ("/DirectMessage/properties/receivers/maxItems", input::LIST),
            ("/Batch/properties/messages/maxItems", input::BATCH),
            ("/Memberships/properties/join/maxItems", input::LIST),
            ("/Memberships/properties/leave/maxItems", input::LIST),
            ("/MessageId/maxLength", input::MESSAGE_ID),
            ("/EventGroupName/maxLength", input::GROUP),
            ("/SlotChanges/properties/join/maxItems", input::NODES),
            ("/SlotChanges/properties/drain/maxItems", input::NODES),
            ("/SlotChanges/properties/lose/maxItems", input::NODES),
            ("/ServerName/maxLength", input::SERVER),
            ("/Joining/properties/weight/maximum", input::WEIGHT as usize),
            ("/Weight/properties/weight/maximum", input::WEIGHT as usize),
            ("/AnyEventGroupName/maxLength", input::GROUP),
            ("/Acknowledgement/properties/ids/maxItems", input::IDS),
            ("/LetterChoice/oneOf/0/properties/letters/maxItems", DEAD_LETTERS),
            ("/Address/properties/expires_in/const", 10),
        ] {
            assert_eq!(schemas.pointer(pointer), Some(&json!(limit)), "{pointer}");
        }
        assert_eq!((input::BODY, input::MESSAGE), (1 << 20, 256 << 10), "as ABOUT says");
        assert_eq!(super::super::events::LISTENERS, 32, "as the operation says");
        assert_eq!((groups::READERS, groups::WINDOW), (32, 1000), "as the operation says");
        assert_eq!(groups::TAKE_OVER.as_secs(), 30, "as the operation says");
    }
}
