//! What the broker is asked for: channels by size, who is in one, one client.
//!
//! Everything a person could have written (names, notes) goes out as JSON text; ids are strings, since a
//! browser's numbers end at 2^53.

use std::{cmp::Reverse, sync::Arc, time::Duration};

use imcore::{ClientId, ConnectionInfo, ImClient};
use serde_json::{Value, json};

use super::cached::{Cached, Outcome};
use crate::lookups::Lookups;

/// Channels that are shown, the largest.
const CHANNELS: usize = 50;
/// Connections and channels of one client, and members of one channel, that are shown.
const CLIENT_ITEMS: usize = 100;
/// Characters of a note that are shown.
const NOTE: usize = 2000;
/// How old an answer may be that is shared by all pages.
const CHANNELS_LIFE: Duration = Duration::from_secs(4);

/// What can be asked of the broker.
pub(super) struct Cluster {
    pub(super) im: ImClient,
    lookups: Arc<Lookups>,
    channels: Cached,
}

impl Cluster {
    pub(super) fn new(lookups: Arc<Lookups>) -> Cluster {
        Cluster { im: lookups.im().clone(), lookups, channels: Cached::new(CHANNELS_LIFE) }
    }

    /// The largest channels.
    pub(super) fn channels(&self) -> Outcome {
        self.channels.get(|| {
            let mut channels = self.im.channels()?;
            let count = channels.len();
            let members = channels.iter().fold(0_i64, |sum, (_, size)| sum.saturating_add(*size));
            if channels.len() > CHANNELS {
                channels.select_nth_unstable_by_key(CHANNELS, |(_, size)| Reverse(*size));
                channels.truncate(CHANNELS);
            }
            channels.sort_unstable_by(|(a, size_a), (b, size_b)| (size_b, a).cmp(&(size_a, b)));
            let largest =
                channels.into_iter().map(|(name, size)| json!({ "name": name, "members": size }));
            let largest = largest.collect::<Value>();
            Ok(json!({ "count": count, "members": members, "largest": largest }).to_string())
        })
    }

    /// Some members of a channel.
    pub(super) fn channel(&self, name: &str) -> Outcome {
        let mut page = self.im.channel_members_page(name, None, CLIENT_ITEMS)?;
        // A page may hold more than it was asked for.
        page.items.truncate(CLIENT_ITEMS);
        let online = self.im.are_online(&page.items)?;
        let member = |(client, online): (&ClientId, bool)| json!({ "client": client.to_string(), "online": online });
        let members = page.items.iter().zip(online).map(member).collect::<Value>();
        Ok(json!({ "name": name, "count": page.total, "members": members }).to_string())
    }

    /// Where a client lives, its connections and its channels.
    pub(super) fn client(&self, id: &str) -> Outcome {
        let client: ClientId = id.parse()?;
        self.im.id_kind().check(&client)?;
        let open = self.lookups.connections(&client)?;
        let mut channels = self.im.channels_of(&client)?;
        channels.sort_unstable();
        // Connections may be on nodes of another list, or not be told of by .NET nodes.
        let online = !open.is_empty() || self.im.is_online(&client)?;
        let shown = |connection: &ConnectionInfo| {
            let meta = connection.meta.as_deref().map(cut);
            let away = self.lookups.is_away(connection);
            json!({ "number": connection.number, "meta": meta, "away": away })
        };
        let text = json!({
            "client": client.to_string(),
            "server": self.im.node_of(&client)?,
            "online": online,
            "connections": open.iter().take(CLIENT_ITEMS).map(shown).collect::<Value>(),
            "connections_count": open.len(),
            "channels": channels.iter().take(CLIENT_ITEMS).collect::<Vec<_>>(),
            "channels_count": channels.len(),
        });
        Ok(text.to_string())
    }
}

/// The beginning of a note, which may be of any length.
fn cut(note: &str) -> String {
    match note.char_indices().nth(NOTE) {
        Some((end, _)) => format!("{} …", &note[..end]),
        None => note.to_owned(),
    }
}
