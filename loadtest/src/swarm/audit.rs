//! The audit at the end of a run: what was sent against what each client has.

use std::collections::HashMap;

use super::{client::Client, tally::Tally};
use crate::{
    account::Account,
    orders::{Schedule, Sent},
    stamp::DIRECT,
};

/// Offers everything that was `sent` to the clients of this swarm.
pub fn audit(tally: &Tally, sent: &Sent, clients: &[Client]) -> Account {
    let mut account = tally.arrived();
    account.ended.clone_from(&tally.status.ended);
    account.interrupted.clone_from(&tally.status.interrupted);
    let not_back = clients.iter().filter(|client| client.is_away && client.was_ever_open()).count();
    if not_back > 0 {
        account.ended.insert("they were not back at the end".into(), not_back as u64);
    }
    let by_id: HashMap<_, _> = clients.iter().map(|client| (client.id, client)).collect();
    for part in &sent.direct {
        let client = by_id.get(&part.client).copied();
        offer(&mut account, client, DIRECT, part.messages, part.schedule.as_ref());
    }
    for room in &sent.rooms {
        for id in room.first..room.first + room.count as i64 {
            let client = by_id.get(&id).copied();
            offer(&mut account, client, room.stream, room.messages, room.schedule.as_ref());
        }
    }
    account
}

/// Offers `messages` to one client: what it does not have was lost, unless it had hung up by order or was on its way
/// back from a connection that had ended.
fn offer(
    account: &mut Account,
    client: Option<&Client>,
    stream: u32,
    messages: u32,
    schedule: Option<&Schedule>,
) {
    account.offered += u64::from(messages);
    let Some(client) = client else {
        account.lost += u64::from(messages);
        *account.ended.entry("never connected".into()).or_default() += 1;
        return;
    };
    let missing = client.missing(stream, messages);
    if client.left {
        account.dropped += missing.len() as u64;
        return;
    }
    let was_away =
        |number: &u32| schedule.is_some_and(|schedule| client.was_away(stream, *number, schedule));
    let missed = missing.iter().filter(|number| was_away(number)).count();
    account.missed += missed as u64;
    account.lost += (missing.len() - missed) as u64;
}
