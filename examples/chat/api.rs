//! The routes: what a business does with imcore. Runs on the threads of `web`; knows no HTTP beyond
//! methods and statuses.
//!
//! Routes and fields are those of the original's demo, so that a page written for it works here. The
//! sockets only push; whatever a client does comes in through these routes.

use imcore::{ClientId, ImClient};
use serde_json::{Value, json};

use crate::{
    form::{Fields, MAX_SAFE_ID},
    message::{ChatMessage, Kind, Posted},
    people::{Meta, Roll},
    refusal::Refusal,
};

const LONGEST_NICK: usize = 32;
const LONGEST_CHANNEL: usize = 48;
const LONGEST_MESSAGE_ID: usize = 64;
/// Most people in one answer; `total` tells how many there are.
const MOST_LISTED: usize = 500;

/// The answer's members besides `code`, which the caller sets to 0.
pub(crate) type Answer = Result<Value, Refusal>;

/// One route: where, whether a plain link may call it, and what it does.
struct Route {
    path: &'static str,
    get: bool,
    run: fn(&Api, &Fields, &Caller) -> Answer,
}

const ROUTES: &[Route] = &[
    // The original's.
    Route { path: "/ws/pre-connect", get: false, run: Api::pre_connect },
    Route { path: "/ws/offline", get: true, run: Api::offline },
    Route { path: "/ws/get-channels", get: false, run: Api::get_channels },
    Route { path: "/ws/subscr-channel", get: false, run: Api::subscr_channel },
    Route { path: "/ws/send-channelmsg", get: false, run: Api::send_channelmsg },
    Route { path: "/ws/send-broadcast", get: false, run: Api::send_broadcast },
    Route { path: "/ws/send-msg", get: false, run: Api::send_msg },
    // Ours, for the page.
    Route { path: "/ws/leave-channel", get: false, run: Api::leave_channel },
    Route { path: "/ws/get-members", get: false, run: Api::get_members },
    Route { path: "/ws/get-people", get: false, run: Api::get_people },
];

/// What HTTP knows about the caller.
#[derive(Debug, Default)]
pub(crate) struct Caller {
    pub(crate) ip: Option<String>,
}

/// The business side: imcore and the names.
pub(crate) struct Api {
    im: ImClient,
    roll: Roll,
}

impl Api {
    pub(crate) fn new(im: ImClient, roll: Roll) -> Self {
        Api { im, roll }
    }

    /// Whether `path` belongs to the API rather than to the page.
    pub(crate) fn owns(path: &str) -> bool {
        path.starts_with("/ws/")
    }

    /// Whether a request to `path` may be served at all; asked before its body is read.
    pub(crate) fn admit(method: &str, path: &str) -> Result<(), Refusal> {
        let route = find(path)?;
        match method {
            "POST" => Ok(()),
            "GET" if route.get => Ok(()),
            other => Err(Refusal::new(
                405,
                format!("{path} does not take {other}; send a POST request."),
            )),
        }
    }

    /// Serves an admitted request.
    pub(crate) fn call(&self, path: &str, fields: &Fields, caller: &Caller) -> Answer {
        let mut answer = (find(path)?.run)(self, fields, caller)?;
        answer["code"] = 0.into();
        Ok(answer)
    }

    // --- Connecting ------------------------------------------------------------------------------

    fn pre_connect(&self, fields: &Fields, caller: &Caller) -> Answer {
        let client = match fields.client("websocketId")? {
            Some(client) => client,
            None => random_id()?,
        };
        let nick = fields.label("nick", LONGEST_NICK)?.map(str::to_owned);
        let meta = Meta { nick, ip: caller.ip.clone() };
        let meta = serde_json::to_string(&meta).map_err(|error| Refusal::bad(error.to_string()))?;
        let server = self.im.prev_connect_server(client, Some(&meta))?;
        Ok(json!({ "server": server, "websocketId": client }))
    }

    fn offline(&self, fields: &Fields, _: &Caller) -> Answer {
        self.im.force_offline(fields.required_client("websocketId")?)?;
        Ok(json!({}))
    }

    // --- Rooms -----------------------------------------------------------------------------------

    fn get_channels(&self, _: &Fields, _: &Caller) -> Answer {
        let mut channels = self.im.get_chan_list()?;
        channels.sort();
        let channels: Vec<_> = channels
            .into_iter()
            .map(|(chan, online)| json!({ "chan": chan, "online": online }))
            .collect();
        Ok(json!({ "channels": channels }))
    }

    fn subscr_channel(&self, fields: &Fields, _: &Caller) -> Answer {
        self.im.join_chan(fields.required_client("websocketId")?, [channel(fields)?])?;
        self.roll.changed();
        Ok(json!({}))
    }

    fn leave_channel(&self, fields: &Fields, _: &Caller) -> Answer {
        self.im.leave_chan(fields.required_client("websocketId")?, [channel(fields)?])?;
        self.roll.changed();
        Ok(json!({}))
    }

    fn get_members(&self, fields: &Fields, _: &Caller) -> Answer {
        let mut members = self.im.get_chan_client_list(channel(fields)?)?;
        let total = members.len();
        members.sort();
        members.truncate(MOST_LISTED);
        let online = self.im.has_online_many(members.iter().copied())?;
        let members: Vec<_> = members
            .iter()
            .zip(self.roll.nicks(&members))
            .zip(online)
            .map(
                |((id, nick), online)| json!({ "websocketId": id, "nick": nick, "online": online }),
            )
            .collect();
        Ok(json!({ "members": members, "total": total }))
    }

    fn get_people(&self, _: &Fields, _: &Caller) -> Answer {
        let mut people = self.im.get_client_list_by_online()?;
        let total = people.len();
        people.sort();
        people.truncate(MOST_LISTED);
        let people: Vec<_> = people
            .iter()
            .zip(self.roll.nicks(&people))
            .map(|(id, nick)| json!({ "websocketId": id, "nick": nick }))
            .collect();
        Ok(json!({ "people": people, "total": total }))
    }

    // --- Messages --------------------------------------------------------------------------------

    fn send_channelmsg(&self, fields: &Fields, _: &Caller) -> Answer {
        let sender = fields.required_client("websocketId")?;
        let channel = channel(fields)?;
        let mut message = self.compose(Kind::Room, Some(sender), fields)?;
        message.chan = Some(channel.to_owned());
        self.im.send_chan_message(sender, channel, &message.text()?)?;
        Ok(json!({ "message": message }))
    }

    fn send_broadcast(&self, fields: &Fields, _: &Caller) -> Answer {
        let message = self.compose(Kind::Broadcast, fields.client("websocketId")?, fields)?;
        self.im.send_broadcast_message(&message.text()?)?;
        Ok(json!({ "message": message }))
    }

    fn send_msg(&self, fields: &Fields, _: &Caller) -> Answer {
        let sender = fields.required_client("senderWebsocketId")?;
        let receiver = fields.required_client("receiveWebsocketId")?;
        let receipt = fields.flag("isReceipt")?;
        let mut message = self.compose(Kind::Private, Some(sender), fields)?;
        message.to = Some(receiver);
        // The sender as well: imcore hands it on only if the sender has several connections, and its
        // other devices should show what it wrote.
        self.im.send_message(sender, [receiver, sender], &message.text()?, receipt)?;
        Ok(json!({ "message": message }))
    }

    /// What the sockets will receive, but for the receiver. The name comes from the sender's own
    /// connection; what a message says about it counts only if there is none.
    fn compose(
        &self,
        kind: Kind,
        sender: Option<ClientId>,
        fields: &Fields,
    ) -> Result<ChatMessage, Refusal> {
        let posted = Posted::read(fields.required("message")?)?;
        let known = sender.and_then(|sender| self.roll.nick(sender));
        let stated = || posted.nick.map(|nick| nick.chars().take(LONGEST_NICK).collect());
        let mut message = ChatMessage::new(kind);
        message.id = match fields.label("messageId", LONGEST_MESSAGE_ID)? {
            Some(id) => Some(id.to_owned()),
            None => Some(random_id()?.to_string()),
        };
        message.sender = sender;
        message.sender_nick = known.or_else(stated);
        message.msg = posted.msg;
        Ok(message)
    }
}

fn find(path: &str) -> Result<&'static Route, Refusal> {
    // The original's router ignores case.
    ROUTES
        .iter()
        .find(|route| route.path.eq_ignore_ascii_case(path))
        .ok_or_else(|| Refusal::new(404, format!("There is no {path}.")))
}

fn channel(fields: &Fields) -> Result<&str, Refusal> {
    let channel = fields.label("channel", LONGEST_CHANNEL)?;
    channel.ok_or_else(|| Refusal::bad("The field channel is missing."))
}

/// An id that nobody can guess: it is all that stands for a user in this demo.
fn random_id() -> Result<ClientId, Refusal> {
    loop {
        let random = getrandom::u64().map_err(|error| {
            log::error!("no random number from the operating system: {error}");
            Refusal::new(503, "The service cannot make an id for the moment; try again soon.")
        })?;
        // The top 53 bits; 0 is the system.
        let id = (random >> 11) as i64;
        debug_assert!(id <= MAX_SAFE_ID);
        if id != 0 {
            return Ok(id.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use imcore::broker::MemoryBroker;

    use super::*;
    use crate::people::People;

    fn api() -> Api {
        let broker = Arc::new(MemoryBroker::new());
        let im = ImClient::builder().servers(["n:1"]).broker(broker).build().unwrap();
        let roll = People::watch(&im).unwrap().roll();
        Api::new(im, roll)
    }

    fn call(api: &Api, path: &str, form: &str) -> Answer {
        Api::admit("POST", path)?;
        api.call(path, &Fields::read("", "", form.as_bytes())?, &Caller::default())
    }

    #[test]
    fn pre_connect_makes_an_id_or_keeps_the_given_one() {
        let api = api();
        let made = call(&api, "/ws/pre-connect", "nick=fox").unwrap();
        assert_eq!(made["code"], 0);
        assert!(made["server"].as_str().unwrap().starts_with("ws://n:1/ws?token="));
        assert!((1..=MAX_SAFE_ID).contains(&made["websocketId"].as_i64().unwrap()));
        let kept = call(&api, "/ws/pre-connect", "websocketId=77").unwrap();
        assert_eq!(kept["websocketId"], 77);
        let guid = "0f8fad5b-d9cb-469f-a165-70867728950e";
        let kept = call(&api, "/ws/pre-connect", &format!("websocketId={guid}")).unwrap();
        assert_eq!(kept["websocketId"], guid);
    }

    #[test]
    fn rooms_are_joined_counted_and_left() {
        let api = api();
        for (id, room) in [(1, "b"), (2, "b"), (2, "a")] {
            let form = format!("websocketid={id}&channel={room}");
            call(&api, "/ws/subscr-channel", &form).unwrap();
        }
        let rooms = call(&api, "/ws/get-channels", "").unwrap();
        let expected = json!([{ "chan": "a", "online": 1 }, { "chan": "b", "online": 2 }]);
        assert_eq!(rooms["channels"], expected);
        let members = call(&api, "/ws/get-members", "channel=b").unwrap();
        assert_eq!(
            members["members"][1],
            json!({ "websocketId": 2, "nick": null, "online": false })
        );
        call(&api, "/ws/leave-channel", "websocketId=2&channel=b").unwrap();
        assert_eq!(call(&api, "/ws/get-members", "channel=b").unwrap()["total"], 1);
    }

    #[test]
    fn the_sender_cannot_pass_for_another() {
        let message =
            r#"{"sender":9,"senderNick":"N","time":1,"msg":{"type":"text","content":"x"}}"#;
        let encoded: String = form_urlencoded::byte_serialize(message.as_bytes()).collect();
        let form = format!("websocketId=1&channel=a&messageId=m1&message={encoded}");
        let sent = call(&api(), "/ws/send-channelmsg", &form).unwrap();
        let message = &sent["message"];
        assert_eq!((&message["sender"], &message["senderNick"]), (&json!(1), &json!("N")));
        assert_eq!((&message["id"], &message["chan"]), (&json!("m1"), &json!("a")));
        assert_ne!(message["time"], 1);
    }

    #[test]
    fn unusable_requests_are_refused_with_a_status() {
        let api = api();
        for (path, form, status) in [
            ("/ws/nothing", "", 404),
            ("/ws/subscr-channel", "websocketId=1", 400),
            ("/ws/subscr-channel", "websocketId=zero&channel=a", 400),
            ("/ws/send-channelmsg", "websocketId=1&channel=a", 400),
            ("/ws/send-msg", "senderWebsocketId=1&receiveWebsocketId=2&message=x&isReceipt=?", 400),
            ("/ws/pre-connect", "nick=a%0Ab", 400),
            ("/ws/offline", "", 400),
        ] {
            let refusal = call(&api, path, form).unwrap_err();
            assert_eq!(refusal.status, status, "{path}: {}", refusal.message);
        }
        assert_eq!(Api::admit("GET", "/ws/pre-connect").unwrap_err().status, 405);
        assert_eq!(Api::admit("GET", "/ws/Offline"), Ok(()));
    }
}
