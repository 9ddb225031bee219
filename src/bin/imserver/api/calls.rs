//! What each operation does: reads its input, calls the library, writes the answer.
//!
//! Ids are strings in every answer: JavaScript would round numbers above 2^53, and GUIDs are strings
//! anyway.

use imcore::{ClientId, Connection, ImClient, Node};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    events::Listeners,
    input::{self, BATCH, ChannelName, Id, LIST, List, Message, Meta, NOT_ENCODED, page, present},
    problem::Problem,
};
use crate::web::{Request, Response};

/// One call of an operation.
pub(super) struct Call<'a> {
    pub(super) im: &'a ImClient,
    pub(super) listeners: &'a Listeners,
    /// What stands in the path for each `{name}`, in order.
    pub(super) params: Vec<String>,
    pub(super) request: &'a Request,
}

pub(super) type Outcome = Result<Response, Problem>;

impl Call<'_> {
    fn param(&self, index: usize) -> Result<&str, Problem> {
        self.params.get(index).map(String::as_str).ok_or_else(|| Problem::invalid(NOT_ENCODED))
    }

    fn client(&self, index: usize) -> Result<ClientId, Problem> {
        Ok(Id::parse(self.param(index)?)?.0)
    }

    fn channel(&self, index: usize) -> Result<String, Problem> {
        Ok(ChannelName::check(self.param(index)?.to_owned())?.0)
    }

    fn body<'de, T: Deserialize<'de>>(&'de self) -> Result<T, Problem> {
        input::body(self.request)
    }

    /// The part of `clients` that is asked for.
    fn client_list(&self, clients: Vec<ClientId>) -> Outcome {
        let page = page(self.request, true)?;
        let after = page.after.as_deref().map(Id::parse).transpose()?;
        let total = clients.len();
        let (clients, more) = page.cut(clients, after.map(|id| id.0));
        let texts: Vec<_> = clients.iter().map(ClientId::to_string).collect();
        let next = texts.last().filter(|_| more);
        Ok(answer(200, &json!({ "clients": texts, "total": total, "next": next })))
    }
}

fn answer(status: u16, body: &Value) -> Response {
    Response::new(status, "application/json", body.to_string())
}

fn done(status: u16) -> Outcome {
    Ok(Response::new(status, "", ""))
}

fn system() -> Id {
    Id(0.into())
}

// --- Connecting ----------------------------------------------------------------------------------

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Connect {
    client: Id,
    meta: Option<Meta>,
}

pub(super) fn connect(call: &Call) -> Outcome {
    let Connect { client, meta } = call.body()?;
    let meta = meta.as_ref().map(|meta| meta.0.as_str());
    let url = call.im.prev_connect_server(client.0, meta)?;
    let expires_in = ImClient::TICKET_LIFE.as_secs();
    Ok(answer(201, &json!({ "url": url, "expires_in": expires_in })))
}

pub(super) fn force_offline(call: &Call) -> Outcome {
    call.im.force_offline(call.client(0)?)?;
    done(202)
}

// --- Presence ------------------------------------------------------------------------------------

pub(super) fn list_online(call: &Call) -> Outcome {
    call.client_list(call.im.get_client_list_by_online()?)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Clients {
    clients: List<Id, LIST>,
}

pub(super) fn are_online(call: &Call) -> Outcome {
    let Clients { clients } = call.body()?;
    let online = call.im.has_online_many(clients.0.iter().map(|id| id.0))?;
    let entry =
        |(id, online): (&Id, &bool)| json!({ "client": id.0.to_string(), "online": online });
    let entries: Vec<_> = clients.0.iter().zip(&online).map(entry).collect();
    Ok(answer(200, &json!({ "clients": entries })))
}

pub(super) fn get_client(call: &Call) -> Outcome {
    let client = call.client(0)?;
    let online = call.im.has_online(client)?;
    let mut channels = call.im.get_chan_list_by_client_id(client)?;
    channels.sort_unstable();
    let body = json!({ "client": client.to_string(), "online": online, "channels": channels });
    Ok(answer(200, &body))
}

pub(super) fn list_connections(call: &Call) -> Outcome {
    let client = call.client(0)?;
    let open = call.im.connections_of(client)?;
    let entry = |open: &Connection| json!({ "number": open.number, "meta": open.meta });
    let connections: Vec<_> = open.iter().map(entry).collect();
    let server = call.im.server_of(client);
    let body =
        json!({ "client": client.to_string(), "server": server, "connections": connections });
    Ok(answer(200, &body))
}

pub(super) fn list_nodes(call: &Call) -> Outcome {
    let entry = |Node { server, index, status, .. }| json!({ "server": server, "index": index, "status": status });
    let nodes: Vec<_> = call.im.nodes()?.into_iter().map(entry).collect();
    Ok(answer(200, &json!({ "nodes": nodes })))
}

pub(super) fn watch(call: &Call) -> Outcome {
    call.listeners.listen(&**call.im.broker())
}

// --- Messages ------------------------------------------------------------------------------------

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Direct {
    #[serde(default = "system")]
    sender: Id,
    receivers: List<Id, LIST>,
    message: Message,
    #[serde(default)]
    receipt: bool,
}

pub(super) fn send(call: &Call) -> Outcome {
    let Direct { sender, receivers, message, receipt } = call.body()?;
    message.check()?;
    let receivers = receivers.0.iter().map(|id| id.0);
    call.im.send_message(sender.0, receivers, &message.0, receipt)?;
    done(202)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ToChannel {
    #[serde(default = "system")]
    sender: Id,
    message: Message,
}

pub(super) fn send_to_channel(call: &Call) -> Outcome {
    let ToChannel { sender, message } = call.body()?;
    message.check()?;
    call.im.send_chan_message(sender.0, &call.channel(0)?, &message.0)?;
    done(202)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ToAll {
    message: Message,
}

pub(super) fn broadcast(call: &Call) -> Outcome {
    let ToAll { message } = call.body()?;
    message.check()?;
    call.im.send_broadcast_message(&message.0)?;
    done(202)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch {
    messages: List<Item, BATCH>,
}

/// One message of a batch, of any of the three kinds.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    #[serde(default, deserialize_with = "present")]
    sender: Option<Id>,
    #[serde(default, deserialize_with = "present")]
    receivers: Option<List<Id, LIST>>,
    #[serde(default, deserialize_with = "present")]
    channel: Option<ChannelName>,
    #[serde(default)]
    broadcast: bool,
    message: Message,
    #[serde(default, deserialize_with = "present")]
    receipt: Option<bool>,
}

pub(super) fn send_batch(call: &Call) -> Outcome {
    let Batch { messages } = call.body()?;
    let mut batch = call.im.batch();
    for (index, item) in messages.0.iter().enumerate() {
        add(&mut batch, item).map_err(|problem| {
            let detail = format!("messages[{index}]: {}; nothing was sent", problem.detail);
            Problem { detail, ..problem }
        })?;
    }
    batch.send()?;
    done(202)
}

fn add(batch: &mut imcore::Batch, item: &Item) -> Result<(), Problem> {
    let Item { sender, receivers, channel, broadcast, message, receipt } = item;
    message.check()?;
    let content = &message.0;
    let from = sender.unwrap_or_else(system).0;
    match (receivers, channel, broadcast) {
        (Some(List(receivers)), None, false) => {
            let receivers = receivers.iter().map(|id| id.0);
            batch.message(from, receivers, content, receipt.unwrap_or_default())?;
        }
        (None, Some(channel), false) if receipt.is_none() => {
            batch.chan_message(from, &channel.0, content)?;
        }
        (None, None, true) if sender.is_none() && receipt.is_none() => {
            batch.broadcast_message(content)?;
        }
        _ => return Err(Problem::invalid(ONE_KIND)),
    }
    Ok(())
}

const ONE_KIND: &str = "give receivers (with sender and receipt if wanted), or channel (with sender if \
                        wanted), or \"broadcast\": true";

// --- Channels ------------------------------------------------------------------------------------

pub(super) fn list_channels(call: &Call) -> Outcome {
    let page = page(call.request, true)?;
    let channels = call.im.get_chan_list()?;
    let total = channels.len();
    let (channels, more) = page.cut(channels, page.after.clone().map(|name| (name, i64::MAX)));
    let next = channels.last().filter(|_| more).map(|(name, _)| name);
    let entry = |(name, size): &(String, i64)| json!({ "channel": name, "size": size });
    let entries: Vec<_> = channels.iter().map(entry).collect();
    Ok(answer(200, &json!({ "channels": entries, "total": total, "next": next })))
}

pub(super) fn get_channel(call: &Call) -> Outcome {
    let channel = call.channel(0)?;
    let size = call.im.get_chan_online(&channel)?;
    Ok(answer(200, &json!({ "channel": channel, "size": size })))
}

pub(super) fn list_members(call: &Call) -> Outcome {
    call.client_list(call.im.get_chan_client_list(&call.channel(0)?)?)
}

pub(super) fn join(call: &Call) -> Outcome {
    call.im.join_chan(call.client(1)?, [call.channel(0)?])?;
    done(204)
}

pub(super) fn leave(call: &Call) -> Outcome {
    call.im.leave_chan(call.client(1)?, [call.channel(0)?])?;
    done(204)
}

pub(super) fn clear_channel(call: &Call) -> Outcome {
    call.im.clear_chan_client(&call.channel(0)?)?;
    done(204)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Memberships {
    #[serde(default)]
    join: List<Membership, LIST>,
    #[serde(default)]
    leave: List<Membership, LIST>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Membership {
    client: Id,
    channel: ChannelName,
}

pub(super) fn change_memberships(call: &Call) -> Outcome {
    let Memberships { join, leave } = call.body()?;
    fn pairs(list: &[Membership]) -> Vec<(ClientId, &str)> {
        list.iter().map(|member| (member.client.0, member.channel.0.as_str())).collect()
    }
    let broker = call.im.broker();
    if !leave.0.is_empty() {
        broker.leave(&pairs(&leave.0))?;
    }
    if !join.0.is_empty() {
        broker.join(&pairs(&join.0))?;
    }
    done(204)
}
