//! Where everything lies in Redis: the names of keys and topics under one prefix.
//!
//! Pure. Asked by the verbs and the feeds; nothing else builds a name, but for scripts, which get the prefix.

use super::link::{mark::Mark, tags::tag};
use crate::id::ClientId;

/// The layout of the .NET original, with keys of our own beside its.
///
/// The prefix is a constant (`im_v2` for FreeIM 2, `wsim` before) followed by the WebSocket path with
/// every `/` turned into `_`. `key_prefix` stands in front of keys but not of topics, as the `prefix=`
/// option of the original's Redis client does. Where several Redis share the nodes, the number of the share follows in
/// braces, `im_v2_ws{0}`: no share can be taken for another, nor for what one Redis alone holds. In a cluster more than that
/// stands there, by which all that is of the share lies in one slot.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    topic: String,
    key: String,
    share: Option<Share>,
    mark: String,
}

/// Which of several Redis it is.
#[derive(Debug, Clone, Copy)]
pub(in crate::broker) struct Share {
    /// Counted from 0.
    pub(in crate::broker) number: usize,
    /// How many there are.
    pub(in crate::broker) of: usize,
    /// Whether one cluster has all of them.
    pub(in crate::broker) in_cluster: bool,
}

impl Share {
    /// What stands in braces behind the prefix.
    fn tag(self) -> String {
        if self.in_cluster { tag(self.number) } else { self.number.to_string() }
    }
}

impl Layout {
    pub(super) fn new(prefix: &str, path: &str, key_prefix: &str, share: Option<Share>) -> Self {
        let base = format!("{prefix}{}", path.replace('/', "_"));
        let topic = match share {
            Some(share) => format!("{base}{{{}}}", share.tag()),
            None => base.clone(),
        };
        let key = format!("{key_prefix}{topic}");
        // In a cluster each share has one, in its slot.
        let mark = match share {
            Some(share) if share.in_cluster => format!("{key}Layout"),
            _ => format!("{key_prefix}{base}Layout"),
        };
        Layout { key, topic, share, mark }
    }

    /// What stands on a Redis that holds a share, so that nobody takes it for another, or all of it for one Redis.
    pub(super) fn mark(&self) -> Mark {
        let base = self.mark.trim_end_matches("Layout");
        let says =
            self.share.map(|Share { number, of, .. }| format!("share {} of {of}", number + 1));
        // What nodes of either make leave on one Redis alone.
        let unmarked = ["Sessions", "Online", "ListChan"].map(|end| format!("{base}{end}"));
        let in_cluster = self.share.is_some_and(|share| share.in_cluster);
        Mark::new(self.mark.clone(), says, if in_cluster { Vec::new() } else { unmarked.to_vec() })
    }

    /// What all keys begin with, for scripts that make their names themselves. Those that only scripts know,
    /// all ours:
    ///
    /// - `Closed<session>`, sorted set: connections that opened and closed within one report -> when;
    /// - `Away<session>`, text: since when, by the clock of `Grace`, its connections are held that can be resumed;
    /// - `Aside`, text: there while any `Left` may be;
    /// - `Grace`, hash: the clock of the next two;
    /// - `Coming<client>`, sorted set: tokens whose tickets are out, and `~` with the tag of those that were
    ///   taken for a connection that is not reported yet -> until when they count, tokens while the key lives;
    /// - `Leaving`, sorted set: client -> until when it may come before it leaves its channels;
    /// - `Absent`, hash: client that was joined to channels while it was not online, and is not in `Leaving`
    ///   yet -> life of these memberships in ms;
    /// - `Kept<client>`, set with that life: channels that a client in `Leaving` was joined to meanwhile;
    /// - `Left<client>`, hash: channels that it left because its node was taken for dead -> 0;
    /// - `LogHead`, hash: epoch, last number and the like of the log, and for each of its streams its last entry.
    pub(super) fn prefix(&self) -> &str {
        &self.key
    }

    /// A key of nobody, which never exists.
    pub(super) fn nobodys_key(&self) -> String {
        format!("{}?", self.key)
    }

    /// Topic that one node listens to.
    pub(super) fn node_topic(&self, node: &str) -> String {
        format!("{}Server{node}", self.topic)
    }

    /// Topic, ours, on which scripts name clients whose channels they have changed; no node can be called that. It goes with
    /// the keys of clients, so it has their prefix.
    pub(super) fn changed_topic(&self) -> String {
        format!("{}Server?", self.key)
    }

    /// List, ours: topics and what is to be published on them, in turn, where no script may publish.
    pub(super) fn untold_key(&self) -> String {
        format!("{}Untold", self.key)
    }

    /// Hash, ours: the table of slots, in the form of [`SlotTable`](crate::slots::SlotTable).
    pub(super) fn slots_key(&self) -> String {
        format!("{}Slots", self.key)
    }

    /// Number, ours: how often something of [`untold_key`](Self::untold_key) was published, and taken from there.
    pub(super) fn told_key(&self) -> String {
        format!("{}Told", self.key)
    }

    /// Topic of "a connection opened".
    pub(super) fn online_topic(&self) -> String {
        format!("evt_{}Online", self.topic)
    }

    /// Topic of "a connection ended".
    pub(super) fn offline_topic(&self) -> String {
        format!("evt_{}Offline", self.topic)
    }

    /// String with a short life: what a connect token stands for.
    pub(super) fn token_key(&self, token: &str) -> String {
        format!("{}Token{token}", self.key)
    }

    /// String with a life, ours: who carries out the request with this idempotency key, or what came of it.
    pub(super) fn request_key(&self, key: &str) -> String {
        format!("{}Request{key}", self.key)
    }

    /// Hash: client -> number of its open connections.
    pub(super) fn online_key(&self) -> String {
        format!("{}Online", self.key)
    }

    /// Hash: member of the channel -> 0.
    pub(super) fn channel_key(&self, channel: &str) -> String {
        format!("{}Chan{channel}", self.key)
    }

    /// Hash: channel of the client -> 0.
    pub(super) fn client_key(&self, client: &ClientId) -> String {
        format!("{}{client}", self.client_key_prefix())
    }

    /// Who of this client is known to be coming, see [`prefix`](Self::prefix).
    pub(super) fn coming_key(&self, client: &ClientId) -> String {
        format!("{}Coming{client}", self.key)
    }

    /// What every [`client_key`](Self::client_key) starts with.
    pub(super) fn client_key_prefix(&self) -> String {
        format!("{}Client", self.key)
    }

    /// Hash with a life, ours: what the node changes itself, among the hashes of clients, to see whether it is told. No client is
    /// called that: an id holds no blank.
    pub(super) fn touched_key(&self, node: &str) -> String {
        format!("{} {node}", self.client_key_prefix())
    }

    /// Hash: channel -> number of its members.
    pub(super) fn channel_list_key(&self) -> String {
        format!("{}ListChan", self.key)
    }

    /// Hash, ours: presence session -> number of its last report, a blank, name of its node.
    pub(super) fn sessions_key(&self) -> String {
        format!("{}Sessions", self.key)
    }

    /// String with a life, ours: exists as long as the session's node renews its lease; what the node said
    /// of itself when it last did.
    pub(super) fn lease_key(&self, session: &str) -> String {
        format!("{}Lease{session}", self.key)
    }

    /// String with a long life, ours: exists once the session was ended, also after it is forgotten. Its
    /// connections go without events (`quiet`) or with them: it was ended by its node (`loud`), its lease has
    /// `lapsed`, or its node is `back` since.
    pub(super) fn ended_key(&self, session: &str) -> String {
        format!("{}Ended{session}", self.key)
    }

    /// Hash, ours: node -> messages that were ever published to it.
    pub(super) fn published_key(&self) -> String {
        format!("{}Published", self.key)
    }

    /// Sorted set, ours: connection of the session that can be resumed -> for how many seconds it is held once the session
    /// has ended.
    pub(super) fn resumable_key(&self, session: &str) -> String {
        format!("{}Resumable{session}", self.key)
    }

    /// String, ours: 32 hex digits of the key by which clients prove which connection of the session is theirs, a blank, and
    /// for how many seconds those are held whose tickets say nothing of it.
    pub(super) fn resume_key(&self, session: &str) -> String {
        format!("{}Resume{session}", self.key)
    }

    /// Hash, ours: connection of the session that came from another node -> number in the log behind which that of this node
    /// has all that is for its client.
    pub(super) fn moved_key(&self, session: &str) -> String {
        format!("{}Moved{session}", self.key)
    }

    /// List, ours: what other nodes have left for the session, in a form of theirs.
    pub(super) fn parcels_key(&self, session: &str) -> String {
        format!("{}Parcels{session}", self.key)
    }

    /// String, ours: the key by which clients prove which connection is theirs, where nodes share one, as in
    /// [`resume_key`](Self::resume_key).
    pub(super) fn common_key(&self) -> String {
        format!("{}ResumeAll", self.key)
    }

    /// Stream, ours: what was logged for one node.
    pub(super) fn log_key(&self, node: &str) -> String {
        format!("{}LogOf{node}", self.key)
    }

    /// Stream, ours: which messages of [`log_key`](Self::log_key) are settled with which receiver. Each entry has in `last`
    /// the highest number of those in it, and in `all` a word for each message: `number:client,client`.
    pub(super) fn settled_key(&self, node: &str) -> String {
        format!("{}Settled{node}", self.key)
    }

    /// Stream, ours: what was logged for all nodes.
    pub(super) fn log_of_all_key(&self) -> String {
        format!("{}LogAll", self.key)
    }

    /// Stream, ours: events that are kept, see `event.lua`. `EventsMissed`, hash: group -> how many were trimmed before it
    /// was given them; `EventsTeller<group>`, text with a life: who of the group is told so. `EventsKept`, text with a
    /// life: how many events nodes keep. `Occupied`, set: channels of which was told that they have members.
    pub(super) fn events_key(&self) -> String {
        format!("{}Events", self.key)
    }

    /// What webhooks have, ours, by the end of the name: none, a hash, how delivery goes; `Turn`, text with a life: who delivers;
    /// `Dead`, hash: id of a letter -> when, how many events, why; `Bodies`, hash: the same id -> what is sent; `Replay`,
    /// sorted set: ids of those that are to be delivered once more -> 0.
    pub(super) fn webhook_key(&self, end: &str) -> String {
        format!("{}Webhook{end}", self.key)
    }

    /// Hash, ours: connection of the session -> client, a blank, ticket text.
    pub(super) fn connections_key(&self, session: &str) -> String {
        format!("{}Connections{session}", self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_path() {
        for (path, prefix) in
            [("/ws", "im_v2_ws"), ("/im/ws", "im_v2_im_ws"), ("/", "im_v2_"), ("", "im_v2")]
        {
            let layout = Layout::new("im_v2", path, "", None);
            assert_eq!(layout.online_key(), format!("{prefix}Online"));
        }
        let layout = Layout::new("im_v2", "/ws", "app1:", None);
        assert_eq!(layout.client_key(&7.into()), "app1:im_v2_wsClient7");
        assert_eq!(layout.node_topic("n:1"), "im_v2_wsServern:1");
        assert_eq!(layout.online_topic(), "evt_im_v2_wsOnline");
    }

    #[test]
    fn names_of_a_share_have_its_number() {
        let layout = Layout::new(
            "im_v2",
            "/ws",
            "app1:",
            Some(Share { number: 1, of: 2, in_cluster: false }),
        );
        assert_eq!(layout.client_key(&7.into()), "app1:im_v2_ws{1}Client7");
        assert_eq!(layout.node_topic("n:1"), "im_v2_ws{1}Servern:1");
        assert_eq!(layout.online_topic(), "evt_im_v2_ws{1}Online");
        let mark = layout.mark();
        assert_eq!(
            (&*mark.key, &*mark.unmarked[0]),
            ("app1:im_v2_wsLayout", "app1:im_v2_wsSessions")
        );
        assert_eq!(mark.says.as_deref(), Some("share 2 of 2"));
        let share = Share { number: 1, of: 2, in_cluster: true };
        let layout = Layout::new("im_v2", "/ws", "app1:", Some(share));
        assert_eq!(layout.node_topic("n:1"), format!("im_v2_ws{{{}}}Servern:1", tag(1)));
        assert_eq!(layout.mark().key, format!("app1:im_v2_ws{{{}}}Layout", tag(1)));
    }
}
