//! The routes: what a business does with imcore. Runs on the threads of `web`; knows no HTTP beyond
//! methods and statuses.
//!
//! Routes and fields are those of the original's demo, with one field more: `session`, which `pre-connect`
//! hands out with an id and which everything done under that id has to bring. The sockets only push; whatever
//! a client does comes in through these routes, and each is a POST.
//!
//! What a business has and this demo leaves out: logins, who may read and write where, and a history.

use std::net::IpAddr;

use imcore::{ClientId, ImClient, Message, Receipt};
use serde_json::{Value, json};

use crate::{
    form::{Fields, MAX_SAFE_ID},
    message::{ChatMessage, Kind, Posted},
    pace::Pace,
    people::{Meta, Roll},
    refusal::Refusal,
    rooms::{MOST_ROOMS, Rooms},
    session::Sessions,
};

const LONGEST_NICK: usize = 32;
const LONGEST_CHANNEL: usize = 48;
const LONGEST_MESSAGE_ID: usize = 64;
/// Most people, members or rooms in one answer; `total` tells how many there are.
const MOST_LISTED: usize = 500;
/// Rooms of all users together.
const MOST_CHANNELS: usize = 2000;

/// The answer's members besides `code`, which the caller sets to 0.
pub(crate) type Answer = Result<Value, Refusal>;

/// One route: where, and what it does.
struct Route {
    path: &'static str,
    run: fn(&Api, &Fields, &Caller) -> Answer,
}

const ROUTES: &[Route] = &[
    // The original's.
    Route { path: "/ws/pre-connect", run: Api::pre_connect },
    Route { path: "/ws/offline", run: Api::offline },
    Route { path: "/ws/get-channels", run: Api::get_channels },
    Route { path: "/ws/subscr-channel", run: Api::subscr_channel },
    Route { path: "/ws/send-channelmsg", run: Api::send_channelmsg },
    Route { path: "/ws/send-broadcast", run: Api::send_broadcast },
    Route { path: "/ws/send-msg", run: Api::send_msg },
    // Ours, for the page.
    Route { path: "/ws/leave-channel", run: Api::leave_channel },
    Route { path: "/ws/rejoin", run: Api::rejoin },
    Route { path: "/ws/check", run: Api::check },
    Route { path: "/ws/get-members", run: Api::get_members },
    Route { path: "/ws/get-people", run: Api::get_people },
];

/// What the connection itself tells of the caller.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) ip: IpAddr,
}

/// The business side: imcore, and what it knows of users.
pub(crate) struct Api {
    im: ImClient,
    roll: Roll,
    sessions: Sessions,
    rooms: Rooms,
    /// All requests of one address; a page asks three questions after each change.
    requests: Pace<IpAddr>,
    /// New ids for one address.
    arrivals: Pace<IpAddr>,
    /// What one user does.
    actions: Pace<ClientId>,
}

impl Api {
    pub(crate) fn new(im: ImClient, roll: Roll, sessions: Sessions) -> Self {
        Api {
            im,
            roll,
            sessions,
            rooms: Rooms::default(),
            requests: Pace::new(1000, 200),
            arrivals: Pace::new(60, 1),
            actions: Pace::new(40, 10),
        }
    }

    /// Whether `path` belongs to the API rather than to the page.
    pub(crate) fn owns(path: &str) -> bool {
        path.starts_with("/ws/")
    }

    /// Whether there is such a route, by such a method.
    pub(crate) fn admit(method: &str, path: &str) -> Result<(), Refusal> {
        find(path)?;
        if method == "POST" {
            return Ok(());
        }
        let why = format!("{path} does not take {method}; send a POST request.");
        Err(Refusal::new(405, why))
    }

    /// Serves an admitted request.
    pub(crate) fn call(&self, path: &str, fields: &Fields, caller: &Caller) -> Answer {
        self.requests.take(caller.ip)?;
        let mut answer = (find(path)?.run)(self, fields, caller)?;
        answer["code"] = 0.into();
        Ok(answer)
    }

    /// The user who acts: the id in the field `name`, if the session that came with it is that id's.
    fn user(&self, fields: &Fields, name: &str) -> Result<ClientId, Refusal> {
        let client = fields.required_client(name)?;
        self.check_session(&client, fields)?;
        self.actions.take(client.clone())?;
        Ok(client)
    }

    fn check_session(&self, client: &ClientId, fields: &Fields) -> Result<(), Refusal> {
        if self.sessions.fits(client, fields.text("session").unwrap_or_default()) {
            return Ok(());
        }
        let why = format!("The field session is not the one that came with {client}.");
        Err(Refusal::new(403, why))
    }

    // --- Connecting ------------------------------------------------------------------------------

    fn pre_connect(&self, fields: &Fields, caller: &Caller) -> Answer {
        let client = match fields.client("websocketId")? {
            Some(client) => {
                self.check_session(&client, fields)?;
                self.actions.take(client.clone())?;
                client
            }
            None => {
                self.arrivals.take(caller.ip)?;
                random_id()?
            }
        };
        let nick = fields.label("nick", LONGEST_NICK)?.map(str::to_owned);
        let meta = Meta { nick, ip: Some(caller.ip.to_string()) };
        let meta = serde_json::to_string(&meta).map_err(|error| Refusal::bad(error.to_string()))?;
        let server = self.im.connect_url(&client, Some(&meta))?;
        let session = self.sessions.of(&client);
        Ok(json!({ "server": server, "websocketId": client, "session": session }))
    }

    /// Ends all connections of the caller; of nobody else, for want of somebody with that right.
    fn offline(&self, fields: &Fields, _: &Caller) -> Answer {
        self.im.kick(self.user(fields, "websocketId")?)?;
        Ok(json!({}))
    }

    /// Sends the caller a message without meaning: that it arrives proves its socket. It comes from the system,
    /// because nobody's own message goes to their only connection.
    fn check(&self, fields: &Fields, _: &Caller) -> Answer {
        let client = self.user(fields, "websocketId")?;
        self.im.send(Message::to([client]), &ChatMessage::new(Kind::Check).text()?)?;
        Ok(json!({}))
    }

    // --- Rooms -----------------------------------------------------------------------------------

    fn get_channels(&self, _: &Fields, _: &Caller) -> Answer {
        let mut channels = self.im.channels()?;
        let total = channels.len();
        // The largest, by name.
        channels.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        channels.truncate(MOST_LISTED);
        channels.sort();
        let channels: Vec<_> = channels
            .into_iter()
            .map(|(chan, online)| json!({ "chan": chan, "online": online }))
            .collect();
        Ok(json!({ "channels": channels, "total": total }))
    }

    fn subscr_channel(&self, fields: &Fields, _: &Caller) -> Answer {
        let (client, channel) = (self.user(fields, "websocketId")?, channel(fields)?);
        let channels = self.im.channels()?;
        if channels.len() >= MOST_CHANNELS && !channels.iter().any(|(name, _)| name == channel) {
            return Err(Refusal::new(409, "There are too many rooms; join one of them."));
        }
        self.rooms.tidy(|| self.im.online_clients().unwrap_or_default());
        self.rooms.enter(&client, channel)?;
        self.im.join([client], [channel])?;
        self.roll.changed();
        Ok(json!({}))
    }

    fn leave_channel(&self, fields: &Fields, _: &Caller) -> Answer {
        let (client, channel) = (self.user(fields, "websocketId")?, channel(fields)?);
        self.rooms.leave(&client, channel);
        self.im.leave([client], [channel])?;
        self.roll.changed();
        Ok(json!({}))
    }

    /// Joins the rooms that the caller was in, after its connection was lost. What this process knows counts;
    /// what the caller says only if nothing is known, because the process is a new one.
    fn rejoin(&self, fields: &Fields, _: &Caller) -> Answer {
        let client = self.user(fields, "websocketId")?;
        if self.rooms.of(&client).is_none() {
            for room in rooms_of_caller(fields)? {
                self.rooms.enter(&client, &room)?;
            }
        }
        let rooms = self.rooms.of(&client).unwrap_or_default();
        if !rooms.is_empty() {
            self.im.join([&client], &rooms)?;
        }
        // Whoever left one meanwhile is not to be back in it.
        let now = self.rooms.of(&client).unwrap_or_default();
        let left: Vec<_> = rooms.iter().filter(|room| !now.contains(room)).collect();
        if !left.is_empty() {
            self.im.leave([client], left)?;
        }
        self.roll.changed();
        Ok(json!({ "channels": now }))
    }

    fn get_members(&self, fields: &Fields, _: &Caller) -> Answer {
        let mut members = self.im.channel_members(channel(fields)?)?;
        let total = members.len();
        members.sort();
        members.truncate(MOST_LISTED);
        let online = self.im.are_online(&members)?;
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
        let mut people = self.im.online_clients()?;
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
        let (sender, channel) = (self.user(fields, "websocketId")?, channel(fields)?);
        let mut message = self.compose(Kind::Room, &sender, fields)?;
        message.chan = Some(channel.to_owned());
        self.im.send(Message::to_channel(channel).from(sender), &message.text()?)?;
        Ok(json!({ "message": message }))
    }

    fn send_broadcast(&self, fields: &Fields, _: &Caller) -> Answer {
        let sender = self.user(fields, "websocketId")?;
        let message = self.compose(Kind::Broadcast, &sender, fields)?;
        self.im.send(Message::to_everyone(), &message.text()?)?;
        Ok(json!({ "message": message }))
    }

    fn send_msg(&self, fields: &Fields, _: &Caller) -> Answer {
        let sender = self.user(fields, "senderWebsocketId")?;
        let receiver = fields.required_client("receiveWebsocketId")?;
        let receipt = fields.flag("isReceipt")?;
        let mut message = self.compose(Kind::Private, &sender, fields)?;
        message.to = Some(receiver.clone());
        // The sender as well: imcore hands it on only if the sender has several connections, and its
        // other devices should show what it wrote.
        self.im.send(
            Message::to([&receiver, &sender]).from(&sender).receipt(if receipt {
                Receipt::Sent
            } else {
                Receipt::None
            }),
            &message.text()?,
        )?;
        Ok(json!({ "message": message }))
    }

    /// What the sockets will receive, but for the receiver. The name comes from the sender's own
    /// connection; what a message says about it counts only if there is none.
    fn compose(
        &self,
        kind: Kind,
        sender: &ClientId,
        fields: &Fields,
    ) -> Result<ChatMessage, Refusal> {
        let posted = Posted::read(fields.required("message")?)?;
        let known = self.roll.nick(sender);
        let stated = || posted.nick.map(|nick| nick.chars().take(LONGEST_NICK).collect());
        let mut message = ChatMessage::new(kind);
        message.id = match fields.label("messageId", LONGEST_MESSAGE_ID)? {
            Some(id) => Some(id.to_owned()),
            None => Some(random_id()?.to_string()),
        };
        message.sender = Some(sender.clone());
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

/// What the caller says it was in: a JSON list of names.
fn rooms_of_caller(fields: &Fields) -> Result<Vec<String>, Refusal> {
    let Some(text) = fields.text("channels") else { return Ok(Vec::new()) };
    let rooms: Vec<String> = serde_json::from_str(text)
        .map_err(|_| Refusal::bad("The field channels must be a JSON list of names."))?;
    let usable = |room: &String| {
        let length = room.chars().count();
        (1..=LONGEST_CHANNEL).contains(&length) && !room.chars().any(char::is_control)
    };
    if rooms.len() > MOST_ROOMS || !rooms.iter().all(usable) {
        return Err(Refusal::bad(format!(
            "The field channels must be at most {MOST_ROOMS} names of 1 to {LONGEST_CHANNEL} characters."
        )));
    }
    Ok(rooms)
}

/// An id that was given to nobody else.
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
#[path = "api_tests.rs"]
mod tests;
