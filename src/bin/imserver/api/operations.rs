//! Every operation of the API as data: one entry feeds the router, the answer to a wrong method, the
//! metrics and the OpenAPI document.

use std::time::Duration;

use super::{
    calls::{self, Call, Outcome},
    problem::{Code, Problem},
    slots, webhooks,
};
use crate::web::{Request, Response};

/// One operation.
pub(super) struct Operation {
    pub(super) method: &'static str,
    /// With `{client}` and `{channel}` for what varies.
    pub(super) path: &'static str,
    /// Its name in the document and in metrics.
    pub(super) id: &'static str,
    pub(super) summary: &'static str,
    /// More about it; may be empty.
    pub(super) description: &'static str,
    pub(super) kind: Kind,
    /// The schema of the request body, where there is one.
    pub(super) body: Option<&'static str>,
    /// Status of success, and the schema of its body where there is one.
    pub(super) success: (u16, Option<&'static str>),
    pub(super) run: fn(&Call) -> Outcome,
}

/// What an operation is to its callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Changes nothing.
    Read,
    /// Changes nothing, and answers in pages.
    List,
    /// Goes on for as long as somebody listens.
    Stream,
    /// Asks for no key.
    Public,
    /// Has an effect: with an idempotency key it is carried out once, and its answer is kept, so long at most.
    Change(Duration),
}

use Kind::{Change, List, Public, Read, Stream};

const PLAIN: Operation = Operation {
    method: "GET",
    path: "",
    id: "",
    summary: "",
    description: "",
    kind: Read,
    body: None,
    success: (200, None),
    run: |_| Err(Problem::invalid("")),
};

const PAGES: &str = "In no order, page by page until `next` is null. A page has about as many entries as were asked \
                     for: some more, fewer, or none. Whoever is there all the time is on one of them; what \
                     comes or goes meanwhile may be or not, and an entry may come twice.";

/// All operations. Where two paths fit a request, the first one counts.
pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        method: "POST",
        path: "/v1/connections",
        id: "connect",
        summary: "Issue the address at which a client may connect once",
        description: "Hand the address to the client: who holds it connects as this client. It is good \
                      once, and for `expires_in` seconds; an answer to an idempotency key is kept no \
                      longer than that.",
        kind: Change(imcore::ImClient::TICKET_LIFE),
        body: Some("Connect"),
        success: (201, Some("Address")),
        run: calls::connect,
    },
    Operation {
        method: "DELETE",
        path: "/v1/clients/{client}/connections",
        id: "forceOffline",
        summary: "Close all connections of a client",
        description: "With close code 4001, which says not to reconnect. Waits for nobody.",
        kind: Change(Duration::MAX),
        success: (202, None),
        run: calls::force_offline,
        ..PLAIN
    },
    Operation {
        path: "/v1/clients",
        id: "listOnlineClients",
        summary: "List the clients that are online",
        description: PAGES,
        kind: List,
        success: (200, Some("ClientList")),
        run: calls::list_online,
        ..PLAIN
    },
    Operation {
        method: "POST",
        path: "/v1/clients/online",
        id: "areClientsOnline",
        summary: "Ask of many clients whether they are online",
        body: Some("Clients"),
        success: (200, Some("OnlineList")),
        run: calls::are_online,
        ..PLAIN
    },
    Operation {
        path: "/v1/clients/{client}",
        id: "getClient",
        summary: "Ask whether a client is online, and for its channels",
        success: (200, Some("Client")),
        run: calls::get_client,
        ..PLAIN
    },
    Operation {
        path: "/v1/clients/{client}/connections",
        id: "listConnections",
        summary: "List the open connections of a client, each with its note",
        description: "For a person's eyes, not for every message: it looks through all connections of the \
                      node that owns the client, which takes half a second for 250,000. A node does that once \
                      at a time and rests in between: answers may be some seconds old, and who would wait for \
                      long gets 503.",
        success: (200, Some("ConnectionList")),
        run: calls::list_connections,
        ..PLAIN
    },
    Operation {
        path: "/v1/nodes",
        id: "listNodes",
        summary: "List all nodes and what they last said of themselves",
        description: "A node speaks every two seconds or so. Without a status it is down, cannot reach the \
                      broker, or is a .NET node.",
        success: (200, Some("NodeList")),
        run: calls::list_nodes,
        ..PLAIN
    },
    Operation {
        path: "/v1/slots",
        id: "getSlots",
        summary: "Which node owns which slot, and what is moving",
        description: "404 where nodes are a fixed list. `leaving` are slots that the node has given away and still has \
                      clients of.",
        success: (200, Some("Slots")),
        run: slots::get_slots,
        ..PLAIN
    },
    Operation {
        method: "POST",
        path: "/v1/slots/plan",
        id: "planSlots",
        summary: "Ask what a change of the nodes would move, before it is made",
        description: "By the rules that nodes balance by, with all changes made together; changes nothing. `clients` \
                      are about as many as are connected now. 404 if no such node stands in the table.",
        body: Some("SlotChanges"),
        success: (200, Some("SlotPlan")),
        run: slots::plan_slots,
        ..PLAIN
    },
    Operation {
        method: "POST",
        path: "/v1/slots/draining",
        id: "setDraining",
        summary: "Have a node give its slots away, or take its share again",
        description: "It sends its clients on at its own pace, and goes on running. Waits for nobody; what is said \
                      so ends with the node's process. 404 if no such node stands in the table.",
        kind: Change(Duration::MAX),
        body: Some("Draining"),
        success: (202, None),
        run: slots::set_draining,
    },
    Operation {
        method: "POST",
        path: "/v1/slots/weight",
        id: "setWeight",
        summary: "Have a node take more or fewer slots than its own setting says",
        description: "The order stays in the table, also over restarts of the node; null takes it back. Slots move to fit, \
                      at the node's own pace. Waits for nobody. 404 if no such node stands in the table.",
        kind: Change(Duration::MAX),
        body: Some("Weight"),
        success: (202, None),
        run: slots::set_weight,
    },
    Operation {
        method: "POST",
        path: "/v1/messages",
        id: "sendMessage",
        summary: "Send a message to clients",
        description: "Each receiver's sockets get the JSON of `message` as it stands in the request. Who \
                      is offline misses it. With `receipt` the sender's own sockets are told of each \
                      receiver what became of it; the answer has the id by which these receipts name the \
                      message.",
        kind: Change(Duration::MAX),
        body: Some("DirectMessage"),
        success: (202, Some("Sent")),
        run: calls::send,
    },
    Operation {
        method: "POST",
        path: "/v1/messages/batch",
        id: "sendBatch",
        summary: "Send many messages of any kind, in order",
        description: "All are checked before the first is sent. They travel together, in one round trip \
                      per thousand messages and nodes.",
        kind: Change(Duration::MAX),
        body: Some("Batch"),
        success: (202, Some("SentBatch")),
        run: calls::send_batch,
    },
    Operation {
        method: "POST",
        path: "/v1/channels/{channel}/messages",
        id: "sendChannelMessage",
        summary: "Send a message to all members of a channel",
        description: "A sender with one connection does not get its own message.",
        kind: Change(Duration::MAX),
        body: Some("ChannelMessage"),
        success: (202, None),
        run: calls::send_to_channel,
    },
    Operation {
        method: "POST",
        path: "/v1/broadcast",
        id: "broadcast",
        summary: "Send a message to everybody who is connected",
        kind: Change(Duration::MAX),
        body: Some("Broadcast"),
        success: (202, None),
        run: calls::broadcast,
        ..PLAIN
    },
    Operation {
        path: "/v1/channels",
        id: "listChannels",
        summary: "List all channels that have members",
        description: PAGES,
        kind: List,
        success: (200, Some("ChannelList")),
        run: calls::list_channels,
        ..PLAIN
    },
    Operation {
        path: "/v1/channels/{channel}",
        id: "getChannel",
        summary: "Ask for the number of members of a channel",
        description: "A channel is there as long as it has members; of any other the number is 0.",
        success: (200, Some("Channel")),
        run: calls::get_channel,
        ..PLAIN
    },
    Operation {
        path: "/v1/channels/{channel}/clients",
        id: "listMembers",
        summary: "List the members of a channel, online or not",
        description: PAGES,
        kind: List,
        success: (200, Some("ClientList")),
        run: calls::list_members,
        ..PLAIN
    },
    Operation {
        method: "PUT",
        path: "/v1/channels/{channel}/clients/{client}",
        id: "join",
        summary: "Make a client a member of a channel",
        description: "Of no effect if it is one. A client leaves its channels when its last connection \
                      ends.",
        kind: Change(Duration::MAX),
        success: (204, None),
        run: calls::join,
        ..PLAIN
    },
    Operation {
        method: "DELETE",
        path: "/v1/channels/{channel}/clients/{client}",
        id: "leave",
        summary: "End the membership of a client in a channel",
        description: "Of no effect if there is none.",
        kind: Change(Duration::MAX),
        success: (204, None),
        run: calls::leave,
        ..PLAIN
    },
    Operation {
        method: "DELETE",
        path: "/v1/channels/{channel}/offline-clients",
        id: "clearChannel",
        summary: "End the membership of all members of a channel that are not online",
        kind: Change(Duration::MAX),
        success: (204, None),
        run: calls::clear_channel,
        ..PLAIN
    },
    Operation {
        method: "PUT",
        path: "/v1/channels/{channel}/roster",
        id: "startRoster",
        summary: "Have the clients of a channel told who of its members is online",
        description: "All of them when a client comes, then what changes, once a second at most: \
                      `{\"channel\":\"r\",\"online\":2,\"joined\":[\"42\",\"43\"],\"left\":[]}`. With 200 \
                      online or more the number alone. Of no effect if it is so. Also while the channel \
                      has no members; ends by itself when it had none for a day.",
        kind: Change(Duration::MAX),
        success: (204, None),
        run: calls::start_roster,
        ..PLAIN
    },
    Operation {
        method: "DELETE",
        path: "/v1/channels/{channel}/roster",
        id: "stopRoster",
        summary: "Have the clients of a channel told no more who is online",
        description: "Of no effect if they are not.",
        kind: Change(Duration::MAX),
        success: (204, None),
        run: calls::stop_roster,
        ..PLAIN
    },
    Operation {
        method: "POST",
        path: "/v1/memberships",
        id: "changeMemberships",
        summary: "Let many clients leave and join many channels",
        description: "First all leave, then all join. Joining or leaving twice has no effect, so this may \
                      be repeated after any failure.",
        kind: Change(Duration::MAX),
        body: Some("Memberships"),
        success: (204, None),
        run: calls::change_memberships,
    },
    Operation {
        path: "/v1/events",
        id: "watchEvents",
        summary: "Watch connections open and end, on all nodes",
        description: "Server-sent events. `listening` says that all events from here on will come; \
                      `online` and `offline` carry `{\"client\": \"42\", \"meta\": \"...\"}` and come once \
                      for each connection; `missed` says that some were lost since the last one: ask for \
                      the state anew. Comments in between keep the connection alive. 32 listeners at a \
                      time on each node.\n\n\
                      With `group`, the events that are kept, each for one stream of the group until it is \
                      acknowledged: `opened`, `online`, `ended`, `offline`, `node_died`, `occupied`, \
                      `vacated` and `undelivered` carry an `Event`, \
                      `missed` the number of those that were trimmed unread, or `null` if the broker has lost \
                      all. What is not acknowledged within 30 s comes again, to any stream of the group; 1000 \
                      events at a time are out to one stream. 404 where nodes keep none. 32 streams at a time \
                      on each node.",
        kind: Stream,
        run: calls::watch,
        ..PLAIN
    },
    Operation {
        path: "/v1/follow",
        id: "follow",
        summary: "Follow a client, a channel or a message live, as this node sees it",
        description: "Server-sent events, for `seconds` at most; then `ended`. First `following`, with the name of the \
                      node. Then, each with a `Sighting`: `connected`, `resumed` (`count`: messages that it missed), \
                      `parked` (it is waited for, for `count` seconds), `closed` (`code` is what the client was sent), \
                      `joined`, `left`, `received` (from the broker), `written` (the operating system has its last \
                      byte), `acknowledged` (all up to `position`; without one, what was written before), `dropped`, \
                      and `skipped` where `count` were left out: 500 a second are told, and 1000 or 1 MiB wait. A client is \
                      followed on the node that it lives on, all else on each node by itself. 8 streams at a time on \
                      each node, those of the admin page included. 404 names the node that the client lives on.",
        kind: Stream,
        run: calls::follow,
        ..PLAIN
    },
    Operation {
        method: "POST",
        path: "/v1/events/acknowledgements",
        id: "acknowledgeEvents",
        summary: "Acknowledge events in the name of a group",
        description: "They do not come again. Of no effect on those that are acknowledged already.",
        kind: Change(Duration::MAX),
        body: Some("Acknowledgement"),
        success: (204, None),
        run: calls::acknowledge_events,
    },
    Operation {
        path: "/v1/events/groups",
        id: "listEventGroups",
        summary: "List the groups of readers of events, and how far each is",
        success: (200, Some("EventGroupList")),
        run: calls::list_event_groups,
        ..PLAIN
    },
    Operation {
        method: "DELETE",
        path: "/v1/events/groups/{group}",
        id: "forgetEventGroup",
        summary: "End a group of readers of events",
        description: "Of no effect if there is none. A stream that reads in its name makes it anew. `@webhook` cannot end \
                      while a node delivers in its name.",
        kind: Change(Duration::MAX),
        success: (204, None),
        run: calls::forget_event_group,
        ..PLAIN
    },
    Operation {
        path: "/v1/webhook",
        id: "getWebhook",
        summary: "How delivery by webhooks goes",
        description: "The same on all nodes, but for `url`, which is what the node that answers is set to. 404 where no \
                      webhook is set.",
        success: (200, Some("Webhook")),
        run: webhooks::get,
        ..PLAIN
    },
    Operation {
        method: "PUT",
        path: "/v1/webhook",
        id: "switchWebhook",
        summary: "Switch delivery by webhooks on or off, on all nodes",
        description: "It stays so until it is said otherwise; a target that answers 410 switches it off as well. Events \
                      wait meanwhile, as long as they are kept.",
        kind: Change(Duration::MAX),
        body: Some("WebhookSwitch"),
        success: (204, None),
        run: webhooks::switch,
    },
    Operation {
        path: "/v1/webhook/dead-letters",
        id: "listDeadLetters",
        summary: "List the messages that no target took in time",
        description: "Oldest events first, page by page until `next` is null. The last 1000 are kept.",
        kind: List,
        success: (200, Some("DeadLetterList")),
        run: webhooks::list_letters,
        ..PLAIN
    },
    Operation {
        method: "POST",
        path: "/v1/webhook/dead-letters/replay",
        id: "replayDeadLetters",
        summary: "Have dead letters delivered once more",
        description: "Each is tried once, in order, beside what is new, as soon as the target takes what is sent; it is \
                      gone once it was taken. Waits for nobody. 404 if there is none of those that are named.",
        kind: Change(Duration::MAX),
        body: Some("LetterChoice"),
        success: (202, Some("LetterCount")),
        run: webhooks::replay_letters,
    },
    Operation {
        method: "POST",
        path: "/v1/webhook/dead-letters/discard",
        id: "discardDeadLetters",
        summary: "Throw dead letters away",
        description: "404 if there is none of those that are named.",
        kind: Change(Duration::MAX),
        body: Some("LetterChoice"),
        success: (200, Some("LetterCount")),
        run: webhooks::discard_letters,
    },
    Operation {
        path: "/v1/webhook/dead-letters/{letter}",
        id: "getDeadLetter",
        summary: "One dead letter, with the message as it was to be sent",
        success: (200, Some("WholeDeadLetter")),
        run: webhooks::get_letter,
        ..PLAIN
    },
    Operation {
        path: "/openapi.json",
        id: "getDocument",
        summary: "This document",
        kind: Public,
        success: (200, Some("Document")),
        run: |call| Ok(Response::new(200, "application/json", call.document)),
        ..PLAIN
    },
];

/// Why there is no operation for a request.
pub(super) enum NoOperation {
    Path(Problem),
    /// The path has other methods, in the form of the header `Allow`.
    Method(String),
}

/// The operation that a request asks for, and what stands for each name in its path. HEAD is GET without
/// the body, which [`crate::web`] leaves out.
pub(super) fn find(request: &Request) -> Result<(&'static Operation, Vec<String>), NoOperation> {
    let segments = request.segments();
    let segments =
        segments.ok_or_else(|| NoOperation::Path(Problem::invalid(super::input::NOT_ENCODED)))?;
    let fitting = OPERATIONS.iter().find_map(|operation| {
        params(operation.path, &segments).map(|params| (operation.path, params))
    });
    let Some((path, params)) = fitting else {
        let detail = "GET /openapi.json lists what there is";
        return Err(NoOperation::Path(Problem::new(Code::NotFound, detail)));
    };
    let method = if request.method == "HEAD" { "GET" } else { &request.method };
    let mut here = OPERATIONS.iter().filter(|operation| operation.path == path);
    match here.clone().find(|operation| operation.method == method) {
        Some(operation) => Ok((operation, params)),
        None => {
            let first = here.next().map(allowed).unwrap_or_default();
            let all = here.fold(first, |all, next| format!("{all}, {}", allowed(next)));
            Err(NoOperation::Method(all))
        }
    }
}

fn allowed(operation: &Operation) -> String {
    match operation.method {
        "GET" => "GET, HEAD".to_owned(),
        method => method.to_owned(),
    }
}

/// What stands for each name in the template, if the segments fit it.
fn params(template: &str, segments: &[String]) -> Option<Vec<String>> {
    let parts: Vec<_> = template.split('/').skip(1).collect();
    if parts.len() != segments.len() {
        return None;
    }
    let mut params = Vec::new();
    for (part, segment) in parts.into_iter().zip(segments) {
        match part.starts_with('{') {
            true if !segment.is_empty() => params.push(segment.clone()),
            false if part == segment => {}
            _ => return None,
        }
    }
    Some(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(method: &str, path: &str) -> Result<(&'static str, Vec<String>), String> {
        let request = Request { method: method.into(), path: path.into(), ..Request::default() };
        match super::find(&request) {
            Ok((operation, params)) => Ok((operation.id, params)),
            Err(NoOperation::Method(allow)) => Err(allow),
            Err(NoOperation::Path(problem)) => Err(problem.code.parts().0.to_string()),
        }
    }

    #[test]
    fn requests_find_their_operation() {
        let params = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        assert_eq!(find("GET", "/v1/clients/7"), Ok(("getClient", params(&["7"]))));
        assert_eq!(find("POST", "/v1/clients/online"), Ok(("areClientsOnline", params(&[]))));
        let path = "/v1/channels/a%2Fb%20/clients/7";
        assert_eq!(find("PUT", path), Ok(("join", params(&["a/b ", "7"]))));
        assert_eq!(find("HEAD", "/v1/channels"), Ok(("listChannels", params(&[]))));
        for (method, path, answer) in [
            ("PATCH", path, "PUT, DELETE"),
            ("POST", "/v1/clients", "GET, HEAD"),
            ("GET", "/v1/clients/online", "POST"),
            ("GET", "/v1", "404"),
            ("GET", "/v1/clients/", "404"),
            ("GET", "/v1/channels//clients", "404"),
            ("GET", "/v1/channels/%ff", "400"),
        ] {
            assert_eq!(find(method, path), Err(answer.into()), "{method} {path}");
        }
    }

    #[test]
    fn operations_are_told_apart() {
        for (index, operation) in OPERATIONS.iter().enumerate() {
            for other in &OPERATIONS[..index] {
                assert_ne!(operation.id, other.id);
                assert_ne!((operation.method, operation.path), (other.method, other.path));
            }
        }
    }
}
