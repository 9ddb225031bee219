//! What each operation does: reads its input, calls the library, writes the answer.
//!
//! Ids are strings in every answer: JavaScript would round numbers above 2^53, and GUIDs are strings
//! anyway.

use std::sync::Arc;

use imcore::{
    Batch, ClientId, ConnectionInfo, ErrorKind, EventStart, ImClient, Message, NodeInfo, Page,
    Receipt,
};
use serde_json::{Value, json, value::RawValue};

use super::{
    events::Listeners,
    groups::{self, Asked, Readers},
    input::{self, BATCH, LIST, NOT_ENCODED, page},
    json::{self, Mistake, Object},
    problem::{Code, Problem},
};
use crate::following::{Follows, NotFollowed};
use crate::lookups::Lookups;
use crate::web::{Access, Request, Response};
use crate::webhook::Desk;

/// One call of an operation.
pub(super) struct Call<'a> {
    pub(super) im: &'a ImClient,
    pub(super) lookups: &'a Lookups,
    pub(super) listeners: &'a Listeners,
    pub(super) readers: &'a Readers,
    /// Whether nodes write events down, as far as this one knows.
    pub(super) keeps_events: bool,
    pub(super) webhook: &'a Desk,
    pub(super) follows: &'a Follows,
    pub(super) access: &'a Arc<Access>,
    /// The OpenAPI document.
    pub(super) document: &'static str,
    /// What stands in the path for each `{name}`, in order.
    pub(super) params: Vec<String>,
    pub(super) request: &'a Request,
}

pub(super) type Outcome = Result<Response, Problem>;

impl Call<'_> {
    pub(super) fn param(&self, index: usize) -> Result<&str, Problem> {
        self.params.get(index).map(String::as_str).ok_or_else(|| Problem::invalid(NOT_ENCODED))
    }

    /// The `{client}` of the path.
    fn client(&self, index: usize) -> Result<ClientId, Problem> {
        let id = input::id_path(self.param(index)?, self.im.id_kind());
        id.map_err(|mistake| in_path("client", &mistake))
    }

    /// The `{channel}` of the path.
    fn channel(&self, index: usize) -> Result<String, Problem> {
        let name = self.param(index)?.to_owned();
        input::channel_name(name).map_err(|mistake| in_path("channel", &mistake))
    }

    /// The body, with these members.
    pub(super) fn body(&self, known: &[&'static str]) -> Result<Object<'_>, Problem> {
        Ok(Object::read(json::whole(&self.request.body)?, known)?)
    }

    /// A client, or the system, whatever its kind.
    fn id(&self, text: &str) -> Result<ClientId, Mistake> {
        input::id(text, self.im.id_kind())
    }

    /// A client that is somebody, and can be one here: an id of the other kind would end .NET processes that
    /// hear of it.
    fn user(&self, text: &str) -> Result<ClientId, Mistake> {
        let kind = self.im.id_kind();
        let id = input::user(text, kind)?;
        match kind.admits(&id) {
            true => Ok(id),
            false => Err(Mistake::new(format!(
                "{id} is no client of this deployment, whose ids are of the kind {kind}"
            ))),
        }
    }

    /// Who sends, by the member `sender`. The id of the system is written in the deployment's
    /// kind, in whichever the caller gave it: nodes of one kind cannot read the other.
    fn sender(&self, object: &Object<'_>) -> Result<ClientId, Mistake> {
        let system = self.im.system();
        let given = object.get("sender", |text| self.id(text))?;
        Ok(given.filter(|sender| !sender.is_system()).unwrap_or(system))
    }
}

/// A page of clients. Pages have no order, and may hold more or less than was asked for.
fn client_list(page: Page<ClientId>) -> Outcome {
    let clients: Vec<_> = page.items.iter().map(ClientId::to_string).collect();
    Ok(answer(200, &json!({ "clients": clients, "total": page.total, "next": page.next })))
}

pub(super) fn answer(status: u16, body: &Value) -> Response {
    Response::new(status, "application/json", body.to_string())
}

pub(super) fn done(status: u16) -> Outcome {
    Ok(Response::new(status, "", ""))
}

/// A mistake in a part of the address.
pub(super) fn in_path(name: &str, mistake: &Mistake) -> Problem {
    Problem::invalid(format!("{name} in the address: {}", mistake.why()))
}

// --- Connecting ----------------------------------------------------------------------------------

pub(super) fn connect(call: &Call) -> Outcome {
    let body = call.body(&["client", "meta", "keep"])?;
    let client = body.need("client", |text| call.user(text))?;
    let meta = body.get("meta", input::meta)?.flatten();
    let url = match body.get("keep", input::keep)? {
        Some(keep) => call.im.connect_url_keeping(client, meta.as_deref(), keep)?,
        None => call.im.connect_url(client, meta.as_deref())?,
    };
    let expires_in = ImClient::TICKET_LIFE.as_secs();
    Ok(answer(201, &json!({ "url": url, "expires_in": expires_in })))
}

pub(super) fn force_offline(call: &Call) -> Outcome {
    call.im.kick(call.client(0)?)?;
    done(202)
}

// --- Presence ------------------------------------------------------------------------------------

pub(super) fn list_online(call: &Call) -> Outcome {
    let page = page(call.request)?;
    client_list(call.im.online_clients_page(page.after.as_deref(), page.limit)?)
}

pub(super) fn are_online(call: &Call) -> Outcome {
    let body = call.body(&["clients"])?;
    let clients = body.need("clients", |text| json::array(text, (0, LIST), |id| call.id(id)))?;
    let online = call.im.are_online(&clients)?;
    let entry =
        |(id, online): (&ClientId, &bool)| json!({ "client": id.to_string(), "online": online });
    let entries: Vec<_> = clients.iter().zip(&online).map(entry).collect();
    Ok(answer(200, &json!({ "clients": entries })))
}

pub(super) fn get_client(call: &Call) -> Outcome {
    let client = call.client(0)?;
    let online = call.im.is_online(&client)?;
    let mut channels = call.im.channels_of(&client)?;
    channels.sort_unstable();
    let body = json!({ "client": client.to_string(), "online": online, "channels": channels });
    Ok(answer(200, &body))
}

pub(super) fn list_connections(call: &Call) -> Outcome {
    let client = call.client(0)?;
    let open = call.lookups.connections(&client)?;
    let entry = |open: &ConnectionInfo| {
        let away = call.lookups.is_away(open);
        json!({ "number": open.number, "meta": open.meta, "away": away })
    };
    let connections: Vec<_> = open.iter().map(entry).collect();
    let server = call.im.node_of(&client)?;
    let body =
        json!({ "client": client.to_string(), "server": server, "connections": connections });
    Ok(answer(200, &body))
}

pub(super) fn list_nodes(call: &Call) -> Outcome {
    let entry = |NodeInfo { name, index, status, .. }| json!({ "server": name, "index": index, "status": status });
    let nodes: Vec<_> = call.im.nodes()?.into_iter().map(entry).collect();
    Ok(answer(200, &json!({ "nodes": nodes })))
}

// --- Events --------------------------------------------------------------------------------------

pub(super) fn follow(call: &Call) -> Outcome {
    call.follows.answer(call.request, call.access).map_err(|why| match why {
        NotFollowed::Wrong(why) => Problem::invalid(why),
        NotFollowed::Elsewhere(why) => Problem::new(Code::NotFound, why),
        NotFollowed::Failed(error) => error.into(),
    })
}

pub(super) fn watch(call: &Call) -> Outcome {
    let [group, start] = input::query(call.request, ["group", "start"])?;
    let Some(group) = group else {
        return match start {
            Some(_) => Err(Problem::invalid("start: only a group of readers begins anywhere")),
            None => call.listeners.listen(&**call.im.broker(), call.access, call.request),
        };
    };
    let in_query = |name, why: &str| Problem::invalid(format!("{name} in the query: {why}"));
    let group = input::group_name(group).map_err(|mistake| in_query("group", mistake.why()))?;
    let start = match start.as_deref() {
        Some(text) => groups::start(text).ok_or_else(|| {
            in_query("start", "expected new, all, or a time in milliseconds since 1970")
        })?,
        None => EventStart::New,
    };
    if !call.keeps_events {
        let detail = "no events are kept here: start all nodes with --events N";
        return Err(Problem::new(Code::NotFound, detail));
    }
    call.readers.read(call.im.broker(), call.access, call.request, Asked { group, start })
}

pub(super) fn acknowledge_events(call: &Call) -> Outcome {
    let body = call.body(&["group", "ids", "missed"])?;
    let group = body.need("group", |text| input::group_name(json::string(text)?))?;
    let ids = body.get("ids", input::event_ids)?.unwrap_or_default();
    let missed = body.get("missed", input::missed)?.unwrap_or_default();
    match groups::acknowledge(&**call.im.broker(), group, missed, &ids)? {
        true => done(204),
        false => Err(no_group()),
    }
}

pub(super) fn list_event_groups(call: &Call) -> Outcome {
    let groups: Vec<_> = call.im.event_groups()?.iter().map(groups::status).collect();
    Ok(answer(200, &json!({ "groups": groups })))
}

pub(super) fn forget_event_group(call: &Call) -> Outcome {
    let group = input::any_group_name(call.param(0)?.to_owned());
    let group = group.map_err(|mistake| in_path("group", &mistake))?;
    if call.webhook.reads_as(&group)? {
        let detail = "webhooks are delivered in the name of this group; it can end once no node is set to a webhook";
        return Err(Problem::invalid(detail));
    }
    call.im.forget_event_group(&group)?;
    done(204)
}

fn no_group() -> Problem {
    let detail = "there is no such group; it begins with GET /v1/events?group=..";
    Problem::new(Code::NotFound, detail)
}

// --- Messages ------------------------------------------------------------------------------------

/// A message to clients, as one call or as an entry of a batch.
struct Direct<'a> {
    sender: ClientId,
    receivers: Vec<ClientId>,
    message: &'a RawValue,
    receipt: Receipt,
    /// By which receipts name the message.
    id: Option<String>,
    volatile: bool,
}

impl<'a> Direct<'a> {
    fn read(call: &Call, object: &Object<'a>) -> Result<Direct<'a>, Mistake> {
        let direct = Direct {
            sender: call.sender(object)?,
            receivers: object
                .need("receivers", |text| json::array(text, (1, LIST), |id| call.user(id)))?,
            message: object.need("message", input::message)?,
            receipt: object.get("receipt", input::receipt)?.unwrap_or_default(),
            id: object.get("id", input::message_id)?,
            volatile: is_volatile(object)?,
        };
        let wants_receipt = direct.receipt != Receipt::None;
        if wants_receipt && direct.sender.is_system() {
            let why = "the system gets no receipts; name the sender that wants them";
            return Err(Mistake::new(why).in_member("receipt"));
        }
        Ok(direct)
    }

    /// Puts it into a batch. Returns the id by which receipts name it.
    fn add(self, batch: &mut Batch, request: &Request) -> Result<Option<String>, imcore::Error> {
        let Direct { sender, receivers, message, receipt, id, volatile } = self;
        let to = traced(lasting(Message::to(receivers).from(sender), volatile), request);
        if receipt != Receipt::None {
            let id = id.map_or_else(Message::fresh_id, Ok)?;
            batch.add(to.receipt(receipt).id(&id), message)?;
            return Ok(Some(id));
        }
        batch.add(id.iter().fold(to, Message::id), message)?;
        Ok(id)
    }
}

/// With the trace of the request, if it has one.
fn traced(message: Message, request: &Request) -> Message {
    match request.header("traceparent") {
        Some(trace) => message.traceparent(trace),
        None => message,
    }
}

/// Whether no log is to keep the message.
fn is_volatile(object: &Object<'_>) -> Result<bool, Mistake> {
    Ok(object.get("volatile", json::boolean)?.unwrap_or_default())
}

fn lasting(message: Message, volatile: bool) -> Message {
    if volatile { message.volatile() } else { message }
}

pub(super) fn send(call: &Call) -> Outcome {
    let body = call.body(&["sender", "receivers", "message", "receipt", "id", "volatile"])?;
    let mut batch = call.im.batch();
    let id = Direct::read(call, &body)?.add(&mut batch, call.request)?;
    batch.send()?;
    Ok(answer(202, &json!({ "id": id })))
}

pub(super) fn send_to_channel(call: &Call) -> Outcome {
    let body = call.body(&["sender", "message", "volatile"])?;
    let message = body.need("message", input::message)?;
    let to = Message::to_channel(&call.channel(0)?).from(call.sender(&body)?);
    call.im.send(traced(lasting(to, is_volatile(&body)?), call.request), message)?;
    done(202)
}

pub(super) fn broadcast(call: &Call) -> Outcome {
    let body = call.body(&["message", "volatile"])?;
    let message = body.need("message", input::message)?;
    let to = lasting(Message::to_everyone(), is_volatile(&body)?);
    call.im.send(traced(to, call.request), message)?;
    done(202)
}

pub(super) fn send_batch(call: &Call) -> Outcome {
    let body = call.body(&["messages"])?;
    let mut batch = call.im.batch();
    // Adding is not sending: all are checked before the first goes out.
    let entry = |text| add(call, &mut batch, text);
    let all = body.need("messages", |text| json::array(text, (1, BATCH), entry));
    let ids = all.map_err(|mistake| {
        let problem = Problem::from(mistake);
        Problem { detail: format!("{}; nothing was sent", problem.detail), ..problem }
    })?;
    batch.send()?;
    Ok(answer(202, &json!({ "ids": ids })))
}

/// One message of a batch, of any of the three kinds. Returns the id by which receipts name it.
fn add(call: &Call, batch: &mut Batch, text: &str) -> Result<Option<String>, Mistake> {
    let known =
        ["sender", "receivers", "channel", "broadcast", "message", "receipt", "id", "volatile"];
    let item = Object::read(text, &known)?;
    let has = |name| item.get(name, |_| Ok(())).is_ok_and(|found| found.is_some());
    let broadcast = item.get("broadcast", json::boolean)?.unwrap_or_default();
    let volatile = is_volatile(&item)?;
    let added = match (has("receivers"), has("channel"), broadcast) {
        (true, false, false) => Direct::read(call, &item)?.add(batch, call.request),
        (false, true, false) if !has("receipt") && !has("id") => {
            let channel = item.need("channel", input::channel)?;
            let message = item.need("message", input::message)?;
            let to = Message::to_channel(channel).from(call.sender(&item)?);
            batch.add(traced(lasting(to, volatile), call.request), message).map(|()| None)
        }
        (false, false, true) if !has("sender") && !has("receipt") && !has("id") => {
            let message = item.need("message", input::message)?;
            let to = lasting(Message::to_everyone(), volatile);
            batch.add(traced(to, call.request), message).map(|()| None)
        }
        _ => return Err(Mistake::new(ONE_KIND)),
    };
    added.map_err(|error| Mistake::new(error.to_string()))
}

const ONE_KIND: &str = "give receivers (with sender, receipt and id if wanted), or channel (with sender if \
                        wanted), or \"broadcast\": true";

// --- Channels ------------------------------------------------------------------------------------

pub(super) fn list_channels(call: &Call) -> Outcome {
    let page = page(call.request)?;
    let page = call.im.channels_page(page.after.as_deref(), page.limit)?;
    let entry = |(name, size): &(String, i64)| json!({ "channel": name, "size": size });
    let entries: Vec<_> = page.items.iter().map(entry).collect();
    Ok(answer(200, &json!({ "channels": entries, "total": page.total, "next": page.next })))
}

pub(super) fn get_channel(call: &Call) -> Outcome {
    let channel = call.channel(0)?;
    let size = call.im.channel_size(&channel)?;
    Ok(answer(200, &json!({ "channel": channel, "size": size })))
}

pub(super) fn list_members(call: &Call) -> Outcome {
    let page = page(call.request)?;
    let channel = call.channel(0)?;
    client_list(call.im.channel_members_page(&channel, page.after.as_deref(), page.limit)?)
}

pub(super) fn join(call: &Call) -> Outcome {
    let client = input::somebody(call.client(1)?).map_err(|mistake| in_path("client", &mistake))?;
    call.im.join([client], [call.channel(0)?])?;
    done(204)
}

pub(super) fn leave(call: &Call) -> Outcome {
    call.im.leave([call.client(1)?], [call.channel(0)?])?;
    done(204)
}

pub(super) fn clear_channel(call: &Call) -> Outcome {
    call.im.prune_channel(&call.channel(0)?)?;
    done(204)
}

pub(super) fn start_roster(call: &Call) -> Outcome {
    call.im.set_roster(&call.channel(0)?, true)?;
    done(204)
}

pub(super) fn stop_roster(call: &Call) -> Outcome {
    call.im.set_roster(&call.channel(0)?, false)?;
    done(204)
}

pub(super) fn change_memberships(call: &Call) -> Outcome {
    let body = call.body(&["leave", "join"])?;
    let leave = body.get("leave", |text| memberships(text, |id| call.id(id)))?.unwrap_or_default();
    let join = body.get("join", |text| memberships(text, |id| call.user(id)))?.unwrap_or_default();
    fn pairs(list: &[(ClientId, String)]) -> Vec<(&ClientId, &str)> {
        list.iter().map(|(client, channel)| (client, channel.as_str())).collect()
    }
    if !leave.is_empty() {
        call.im.leave_pairs(pairs(&leave))?;
    }
    if !join.is_empty() {
        call.im.join_pairs(pairs(&join)).map_err(|error| {
            match error.kind() {
                // A limit of one client: it says itself what was done of the others.
                ErrorKind::Argument => Problem::in_part(error),
                _ if leave.is_empty() => Problem::from(error),
                // The first half has been done.
                _ => Problem::half_done(error),
            }
        })?;
    }
    done(204)
}

fn memberships(
    text: &str,
    client: impl Fn(&str) -> Result<ClientId, Mistake>,
) -> Result<Vec<(ClientId, String)>, Mistake> {
    json::array(text, (0, LIST), |entry| {
        let entry = Object::read(entry, &["client", "channel"])?;
        Ok((entry.need("client", &client)?, entry.need("channel", input::channel)?))
    })
}
