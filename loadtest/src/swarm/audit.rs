//! The audit at the end of a run: what was sent against what each client has.

use std::collections::HashMap;

use super::{socket::Socket, tally::Tally};
use crate::{account::Account, orders::Sent, stamp::DIRECT};

/// Offers everything that was `sent` to the clients of this swarm.
pub fn audit(tally: &Tally, sent: &Sent, sockets: &[Socket]) -> Account {
    let mut account = tally.arrived();
    account.ended.clone_from(&tally.status.ended);
    // A client that connected again has one socket per connection.
    let mut by_client: HashMap<i64, Vec<&Socket>> = HashMap::new();
    for socket in sockets {
        by_client.entry(socket.client).or_default().push(socket);
    }
    for (client, messages) in &sent.direct {
        settle(&mut account, by_client.get(client), DIRECT, *messages);
    }
    for room in &sent.rooms {
        for client in room.first..room.first + room.count as i64 {
            settle(&mut account, by_client.get(&client), room.stream, room.messages);
        }
    }
    account
}

/// Offers `messages` to one client: what it does not have was lost, unless it hung up by order.
fn settle(account: &mut Account, sockets: Option<&Vec<&Socket>>, stream: u32, messages: u32) {
    account.offered += u64::from(messages);
    let sockets = sockets.map_or(&[][..], |sockets| sockets);
    let missing = |socket: &&Socket| {
        let found = socket.sequences.iter().find(|(own, _)| *own == stream);
        found.map_or(u64::from(messages), |(_, sequence)| sequence.missing_up_to(messages))
    };
    let Some(best) = sockets.iter().min_by_key(|socket| missing(socket)) else {
        account.lost += u64::from(messages);
        *account.ended.entry("never connected".into()).or_default() += 1;
        return;
    };
    match missing(best) {
        count if best.hung_up() => account.dropped += count,
        count => account.lost += count,
    }
}
