//! What clients of a dead node go on from, made of what the broker and the log know of them.
//!
//! Pure. Filled by `failover`, message by message, in the order of the log: the same that the node itself would have read,
//! had its process come back.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use ahash::AHashMap;

use crate::{
    broker::{FeedEvent, FormerConnection},
    id::ClientId,
    server::{
        connection::{
            frame::Frame,
            outbox::FRAME_COST,
            prepared::{Dialect, Prepared},
            receipt::Inquiry,
        },
        parcel::{Account, Arrival},
    },
    wire::{Envelope, Position},
};

/// Who wants to be told what becomes of a message with this number.
pub(super) trait Inquire: Fn(&Envelope, u64) -> Option<Arc<Inquiry>> {}
impl<F: Fn(&Envelope, u64) -> Option<Arc<Inquiry>>> Inquire for F {}

/// A connection that is to be waited for.
pub(super) struct Left {
    pub(super) connection: FormerConnection,
    pub(super) slot: usize,
    /// How long.
    pub(super) left: Duration,
    /// Where the order of messages goes on at this node; `None` if that was not heard.
    pub(super) at: Option<u64>,
}

struct Estate {
    left: Left,
    channels: Vec<String>,
    floor: u64,
    kept: VecDeque<(Frame, Option<Arc<Inquiry>>)>,
    bytes: usize,
    is_kicked: bool,
}

/// All that are waited for of one session.
pub(super) struct Estates {
    all: Vec<Estate>,
    of_client: AHashMap<ClientId, Vec<usize>>,
    of_channel: HashMap<String, Vec<usize>>,
    /// Messages of the log whose senders know what became of them at whom.
    settled: HashSet<(u64, ClientId)>,
    epoch: Option<String>,
    /// Bytes that are kept for one.
    limit: usize,
}

impl Estates {
    /// `channels` of each of `left`, in their order.
    pub(super) fn new(
        left: Vec<Left>,
        channels: Vec<Vec<String>>,
        settled: HashSet<(u64, ClientId)>,
        limit: usize,
    ) -> Self {
        let mut of_client: AHashMap<ClientId, Vec<usize>> = AHashMap::new();
        let mut of_channel: HashMap<String, Vec<usize>> = HashMap::new();
        let all = left.into_iter().zip(channels).enumerate().map(|(place, (left, channels))| {
            of_client.entry(left.connection.ticket.client().clone()).or_default().push(place);
            for channel in &channels {
                of_channel.entry(channel.clone()).or_default().push(place);
            }
            let floor = left.connection.from;
            let (kept, bytes, is_kicked) = (VecDeque::new(), 0, false);
            Estate { left, channels, floor, kept, bytes, is_kicked }
        });
        let all = all.collect();
        Estates { all, of_client, of_channel, settled, epoch: None, limit }
    }

    /// Takes note of what the log says next; whether it is one log still.
    pub(super) fn read(&mut self, event: FeedEvent, inquire: &impl Inquire) -> bool {
        match event {
            FeedEvent::Log { epoch, from } => {
                for estate in &mut self.all {
                    estate.floor = estate.floor.max(from);
                    (estate.kept, estate.bytes) = (VecDeque::new(), 0);
                }
                return *self.epoch.get_or_insert_with(|| epoch.clone()) == epoch;
            }
            FeedEvent::Message { envelope, number: Some(number) } => {
                self.message(envelope, number, inquire)
            }
            _ => {}
        }
        true
    }

    fn message(&mut self, envelope: Envelope, number: u64, inquire: &impl Inquire) {
        let none = Vec::new();
        let (sender, content, about, places) = match &envelope {
            Envelope::Direct { sender, receivers, content, about, .. } => {
                let places = receivers.iter().filter_map(|client| self.of_client.get(client));
                let places: Vec<usize> = places.flatten().copied().collect();
                (sender, content, *about, places)
            }
            Envelope::Channel { sender, channel, content, .. } => {
                let places = match channel {
                    Some(channel) => self.of_channel.get(channel).unwrap_or(&none).clone(),
                    None => (0..self.all.len()).collect(),
                };
                (sender, content, false, places)
            }
            Envelope::ForceOffline { client } => {
                for place in self.of_client.get(client).unwrap_or(&none) {
                    let estate = &mut self.all[*place];
                    estate.is_kicked |= estate.left.at.is_some_and(|at| number < at);
                }
                return;
            }
            _ => return,
        };
        let (mut frame, mut inquiry) = (None, None);
        for place in places {
            let estate = &mut self.all[place];
            let client = estate.left.connection.ticket.client();
            let is_before = estate.left.at.is_some_and(|at| number < at);
            // Nobody hears itself but on another connection.
            let is_own = client == sender && self.of_client[client].len() == 1;
            if !estate.left.connection.resumable || !is_before || number <= estate.floor || is_own {
                continue;
            }
            let at = Position { number, sub: 0 };
            let frame = frame.get_or_insert_with(|| {
                let message = match about {
                    true => Prepared::receipt(content, at),
                    false => Prepared::text(content, at),
                };
                message.frame(Dialect::Stamped, self.epoch.as_deref().unwrap_or_default()).clone()
            });
            let inquiry = inquiry.get_or_insert_with(|| inquire(&envelope, number));
            let is_settled = self.settled.contains(&(number, client.clone()));
            let inquiry = inquiry.clone().filter(|_| !is_settled);
            estate.add(frame.clone(), inquiry, self.limit);
        }
    }

    /// Numbers of connections that were to be closed, and are waited for no longer.
    pub(super) fn kicked(&self) -> impl Iterator<Item = u64> {
        self.all
            .iter()
            .filter(|estate| estate.is_kicked)
            .map(|estate| estate.left.connection.number)
    }

    /// What reactors are given, with who is to be known as this node's: by slot and by reactor, which `reactor` says of a
    /// client. `is_whole`: all that there was has been read.
    pub(super) fn arrivals(
        self,
        is_whole: bool,
        reactor: impl Fn(&ClientId) -> usize,
    ) -> (Vec<FormerConnection>, HashMap<(usize, usize), Arrival>) {
        let epoch: Arc<str> = self.epoch.unwrap_or_default().into();
        let (mut connections, mut arrivals) = (Vec::new(), HashMap::new());
        for estate in self.all.into_iter().filter(|estate| !estate.is_kicked) {
            let Estate { left: Left { connection, slot, left, at }, channels, floor, kept, .. } =
                estate;
            let client = connection.ticket.client();
            let account = Account {
                client: client.clone(),
                number: connection.number,
                is_place: !connection.resumable,
                left,
                floor: Position { number: floor, sub: 0 },
                written: 0,
                kept: kept.into(),
                channels,
            };
            let arrival: &mut Arrival =
                arrivals.entry((slot, reactor(client))).or_insert_with(|| Arrival {
                    slot,
                    is_whole: is_whole && at.is_some(),
                    epoch: Arc::clone(&epoch),
                    accounts: Vec::new(),
                });
            arrival.accounts.push(account);
            connections.push(connection);
        }
        (connections, arrivals)
    }
}

impl Estate {
    /// The oldest give way if all weigh too much.
    fn add(&mut self, frame: Frame, inquiry: Option<Arc<Inquiry>>, limit: usize) {
        self.bytes += frame.bytes().len() + FRAME_COST;
        self.kept.push_back((frame, inquiry));
        while self.bytes > limit
            && self.kept.len() > 1
            && let Some((frame, _)) = self.kept.pop_front()
        {
            self.bytes -= frame.bytes().len() + FRAME_COST;
            self.floor = frame.position().number;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Ticket;

    const HERE: Option<u64> = Some(100);

    fn left(number: u64, client: i64, from: u64, at: Option<u64>) -> Left {
        let (ticket, left) = (Ticket::new(client.into(), None), Duration::from_secs(9));
        let connection = FormerConnection { number, ticket, resumable: true, from };
        Left { connection, slot: client as usize, left, at }
    }

    fn estates(left: Vec<Left>, limit: usize) -> Estates {
        let channels = left.iter().map(|left| match left.slot {
            1 => vec!["room".to_owned()],
            _ => Vec::new(),
        });
        let channels = channels.collect();
        let mut estates = Estates::new(left, channels, HashSet::new(), limit);
        assert!(estates.read(FeedEvent::Log { epoch: "e".into(), from: 10 }, &nobody));
        estates
    }

    fn nobody(_: &Envelope, _: u64) -> Option<Arc<Inquiry>> {
        None
    }

    fn direct(sender: i64, to: i64) -> Envelope {
        Envelope::Direct {
            sender: sender.into(),
            receivers: vec![to.into()],
            content: "1".into(),
            receipt: false,
            id: None,
            acknowledge: false,
            about: false,
            trace: None,
        }
    }

    fn say(estates: &mut Estates, envelope: Envelope, number: u64) {
        assert!(estates.read(FeedEvent::Message { envelope, number: Some(number) }, &nobody));
    }

    /// Of each connection where what is known of it begins, and the numbers of what it is given.
    fn given(estates: Estates) -> Vec<(u64, u64, Vec<u64>, bool)> {
        let (_, arrivals) = estates.arrivals(true, |_| 0);
        let accounts = arrivals.into_values().flat_map(|arrival| {
            let whole = arrival.is_whole;
            arrival.accounts.into_iter().map(move |account| (account, whole))
        });
        let mut all: Vec<_> = accounts
            .map(|(account, is_whole)| {
                let kept = account.kept.iter().map(|(frame, _)| frame.position().number);
                (account.number, account.floor.number, kept.collect(), is_whole)
            })
            .collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn each_is_given_what_was_for_it_before_the_slot_changed_owners() {
        let all = vec![left(7, 1, 0, HERE), left(8, 2, 0, HERE), left(9, 3, 40, HERE)];
        let mut estates = estates(all, 1 << 20);
        let to = |channel: Option<&str>, sender: i64| Envelope::Channel {
            sender: sender.into(),
            channel: channel.map(str::to_owned),
            content: "2".into(),
            trace: None,
        };
        say(&mut estates, direct(0, 1), 11);
        say(&mut estates, direct(1, 1), 12);
        say(&mut estates, to(Some("room"), 0), 13);
        say(&mut estates, to(None, 2), 14);
        say(&mut estates, direct(0, 3), 40);
        say(&mut estates, direct(0, 3), 41);
        say(&mut estates, direct(0, 2), 100);
        let expected =
            [(7, 10, vec![11, 13, 14], true), (8, 10, vec![], true), (9, 40, vec![41], true)];
        assert_eq!(given(estates), expected);
    }

    #[test]
    fn of_two_connections_both_hear_what_the_client_says() {
        let mut estates = estates(vec![left(7, 1, 0, HERE), left(8, 1, 0, HERE)], 1 << 20);
        say(&mut estates, direct(1, 1), 12);
        assert_eq!(given(estates), [(7, 10, vec![12], true), (8, 10, vec![12], true)]);
    }

    #[test]
    fn what_is_not_proven_is_not_given() {
        // One whose slot came unheard, a hole in the log, and more than fits.
        let all = vec![left(7, 1, 0, None), left(8, 2, 0, HERE), left(9, 3, 0, HERE)];
        let mut estates = estates(all, 2 * (FRAME_COST + 10));
        say(&mut estates, direct(0, 1), 11);
        say(&mut estates, direct(0, 2), 12);
        assert!(estates.read(FeedEvent::Log { epoch: "e".into(), from: 20 }, &nobody));
        (21..30).for_each(|number| say(&mut estates, direct(0, 3), number));
        assert!(!estates.read(FeedEvent::Log { epoch: "other".into(), from: 30 }, &nobody));
        let given = given(estates);
        assert_eq!(given[..2], [(7, 30, vec![], false), (8, 30, vec![], true)]);
    }

    #[test]
    fn the_oldest_give_way() {
        let mut estates = estates(vec![left(9, 3, 0, HERE)], 3 * (FRAME_COST + 40));
        (21..30).for_each(|number| say(&mut estates, direct(0, 3), number));
        let (_, mut arrivals) = estates.arrivals(true, |_| 0);
        let account = arrivals.remove(&(3, 0)).unwrap().accounts.remove(0);
        let (last, _) = account.kept.last().unwrap();
        assert_eq!(last.content(), r#"{"p":"e.29","m":1}"#);
        let kept: Vec<_> = account.kept.iter().map(|(frame, _)| frame.position().number).collect();
        let floor = account.floor.number;
        assert_eq!(floor + 1, kept[0]);
        assert!(floor > 21);
    }

    #[test]
    fn who_was_to_be_closed_is_not_waited_for() {
        let mut estates = estates(vec![left(7, 1, 0, HERE), left(8, 2, 0, HERE)], 1 << 20);
        say(&mut estates, Envelope::ForceOffline { client: 1.into() }, 50);
        say(&mut estates, Envelope::ForceOffline { client: 2.into() }, 150);
        assert_eq!(estates.kicked().collect::<Vec<_>>(), [7]);
        assert_eq!(given(estates).len(), 1);
    }
}
