//! The API's own document against what its routes do.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    cluster::Cluster,
    http::{self, begin},
};

/// A good call of every operation: its path, and the body where there is one.
fn examples() -> BTreeMap<&'static str, (&'static str, Option<Value>)> {
    [
        ("connect", "/v1/connections", Some(json!({ "client": "42", "meta": null }))),
        ("forceOffline", "/v1/clients/42/connections", None),
        ("listConnections", "/v1/clients/42/connections", None),
        ("listNodes", "/v1/nodes", None),
        ("getSlots", "/v1/slots", None),
        ("planSlots", "/v1/slots/plan", Some(json!({ "join": [{ "server": "im-4" }] }))),
        ("setDraining", "/v1/slots/draining", Some(json!({ "server": "im-3", "draining": true }))),
        ("setWeight", "/v1/slots/weight", Some(json!({ "server": "im-3", "weight": 2 }))),
        ("listOnlineClients", "/v1/clients?limit=1", None),
        ("areClientsOnline", "/v1/clients/online", Some(json!({ "clients": [1, "2"] }))),
        ("getClient", "/v1/clients/0f8fad5b-d9cb-469f-a165-70867728950e", None),
        (
            "sendMessage",
            "/v1/messages",
            Some(json!({ "receivers": [1], "message": 1, "sender": 2, "receipt": true })),
        ),
        (
            "sendBatch",
            "/v1/messages/batch",
            Some(json!({ "messages": [{ "broadcast": true, "message": 1 }] })),
        ),
        ("sendChannelMessage", "/v1/channels/a%2Fb/messages", Some(json!({ "message": null }))),
        ("broadcast", "/v1/broadcast", Some(json!({ "message": {} }))),
        ("listChannels", "/v1/channels?limit=7", None),
        ("getChannel", "/v1/channels/%20", None),
        ("listMembers", "/v1/channels/x/clients?limit=1000", None),
        ("join", "/v1/channels/x/clients/7", None),
        ("leave", "/v1/channels/x/clients/7", None),
        ("clearChannel", "/v1/channels/x/offline-clients", None),
        ("startRoster", "/v1/channels/x/roster", None),
        ("stopRoster", "/v1/channels/x/roster", None),
        ("changeMemberships", "/v1/memberships", Some(json!({ "join": [] }))),
        ("watchEvents", "/v1/events?group=g", None),
        ("follow", "/v1/follow?channel=x&seconds=1", None),
        ("acknowledgeEvents", "/v1/events/acknowledgements", Some(json!({ "group": "g" }))),
        ("listEventGroups", "/v1/events/groups", None),
        ("forgetEventGroup", "/v1/events/groups/g", None),
        ("getWebhook", "/v1/webhook", None),
        ("switchWebhook", "/v1/webhook", Some(json!({ "on": true }))),
        ("listDeadLetters", "/v1/webhook/dead-letters?limit=1", None),
        ("getDeadLetter", "/v1/webhook/dead-letters/1-1-0000000000000001", None),
        (
            "replayDeadLetters",
            "/v1/webhook/dead-letters/replay",
            Some(json!({ "letters": ["1-1-0000000000000002"] })),
        ),
        (
            "discardDeadLetters",
            "/v1/webhook/dead-letters/discard",
            Some(json!({ "letters": ["1-1-0000000000000003"] })),
        ),
        ("getDocument", "/openapi.json", None),
    ]
    .into_iter()
    .map(|(id, path, body)| (id, (path, body)))
    .collect()
}

/// Follows a reference within the document.
fn follow<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(reference) => document.pointer(&reference[1..]).unwrap(),
        None => value,
    }
}

#[test]
fn the_document_says_what_the_routes_do() {
    let hook = ["--webhook-url", "http://127.0.0.1:1/", "--webhook-allow", "http,127.0.0.1"];
    let secret = ["--webhook-secret", "whsec_QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIz"];
    let cluster = Cluster::start_with(&[&["--events", "1000"], &hook[..], &secret].concat());
    for number in 1..=3 {
        let mut letter = redis::cmd("HSET");
        letter.arg("im_v2_wsWebhookDead").arg(format!("1-1-000000000000000{number}"));
        letter
            .arg("1764304503123 2 1 1-1 2-2 status 500")
            .exec(&mut cluster.redis.connect())
            .unwrap();
    }
    // Nodes of a fixed list look at no table, but what there is can be asked for.
    let mut table = redis::cmd("HSET");
    table.arg("im_v2_wsSlots").arg("form").arg(1).arg("version").arg(1).arg("count").arg(8);
    table.arg("node:im-3").arg(r#"{"address":"im-3","weight":1}"#);
    table.exec(&mut cluster.redis.connect()).unwrap();
    let document = http::ask(cluster.apis[0], "GET /openapi.json", "", None).json();
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let mut examples = examples();
    for (template, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap();
            let (path, body) = examples.remove(id).expect(id);
            let same = template.split('/').count() == path.split('/').count();
            assert!(same, "{id}: {path} is no example of {template}");
            let call = Call { cluster: &cluster, document: &document, operation, path, method };
            call.succeeds(body.as_ref());
            call.is_refused(body.as_ref());
            let methods: Vec<_> =
                operations.as_object().unwrap().keys().map(|key| key.to_uppercase()).collect();
            call.has_no_other_methods(&methods);
        }
    }
    assert!(examples.is_empty(), "not in the document: {examples:?}");
}

/// One operation of the document with an example.
struct Call<'a> {
    cluster: &'a Cluster,
    document: &'a Value,
    operation: &'a Value,
    path: &'a str,
    method: &'a str,
}

impl Call<'_> {
    fn line(&self) -> String {
        format!("{} {}", self.method.to_uppercase(), self.path)
    }

    fn succeeds(&self, body: Option<&Value>) {
        let responses = self.operation["responses"].as_object().unwrap();
        let (status, success) =
            responses.iter().find(|(status, _)| status.starts_with('2')).unwrap();
        let media = success["content"].as_object().and_then(|content| content.iter().next());
        if media.is_some_and(|(media, _)| media == "text/event-stream") {
            let key = format!("Authorization: Bearer {}\r\n", crate::cluster::KEY);
            let (_, head) = begin(self.cluster.apis[0], &self.line(), &key, None);
            assert!(head.contains("200 OK") && head.contains("text/event-stream"), "{head}");
            return;
        }
        let answer = self.cluster.ask(0, &self.line(), body);
        assert_eq!(answer.status.to_string(), *status, "{}: {answer:?}", self.line());
        let Some((media, content)) = media else {
            assert!(answer.body.is_empty() && answer.header("Content-Type").is_none());
            return;
        };
        assert_eq!(answer.header("Content-Type"), Some(media.as_str()));
        let schema = follow(self.document, &content["schema"]);
        if let Some(required) = schema["required"].as_array() {
            let json = answer.json();
            let keys: Vec<_> = json.as_object().unwrap().keys().collect();
            let mut expected: Vec<_> =
                required.iter().map(|key| key.as_str().unwrap().to_owned()).collect();
            expected.sort();
            assert_eq!(keys, expected.iter().collect::<Vec<_>>(), "{}", self.line());
        }
    }

    fn is_refused(&self, body: Option<&Value>) {
        let responses = &self.operation["responses"];
        let strange = self.cluster.ask(0, &format!("{}&strange=1", self.line_with_query()), body);
        assert_eq!((strange.status, strange.code()), (400, "invalid_request".into()));
        if self.operation["security"] != json!([]) {
            let text = body.map(Value::to_string);
            let answer = http::ask(self.cluster.apis[0], &self.line(), "", text.as_deref());
            assert_eq!((answer.status, answer.code()), (401, "unauthorized".into()));
            assert!(answer.header("WWW-Authenticate").is_some());
            assert!(responses["401"].is_object());
        }
        if let Some(body) = body {
            let mut more = body.clone();
            more["unknown"] = 1.into();
            let answer = self.cluster.ask(0, &self.line(), Some(&more));
            assert_eq!((answer.status, answer.code()), (400, "invalid_request".into()));
            let answer =
                self.cluster.ask_with(0, &self.line(), "Content-Type: text/plain\r\n", Some(body));
            assert_eq!((answer.status, answer.code()), (415, "unsupported_media_type".into()));
            assert!(responses["413"].is_object() && responses["415"].is_object());
        }
    }

    fn line_with_query(&self) -> String {
        let line = self.line();
        if line.contains('?') { line } else { line + "?" }
    }

    fn has_no_other_methods(&self, methods: &[String]) {
        for method in ["GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "TRACE"] {
            if methods.iter().any(|known| known == method) {
                continue;
            }
            let answer = self.cluster.ask(0, &format!("{method} {}", self.path), None);
            assert_eq!((answer.status, answer.code()), (405, "method_not_allowed".into()));
            let allowed = answer.header("Allow").unwrap();
            for known in methods {
                assert!(allowed.contains(known.as_str()), "{allowed} lacks {known}");
            }
            // No page from elsewhere may do anything here, whatever it asks first.
            assert!(answer.header("Access-Control-Allow-Origin").is_none());
        }
    }
}
