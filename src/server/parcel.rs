//! What a node hands over to another with a slot: what the slot's clients go on from.
//!
//! Pure: what reactors gather, its form on the way, and what the reactors of the other node are given. Texts of messages that
//! many clients have still to acknowledge travel once a parcel.

use std::{collections::HashMap, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::connection::{
    frame::Frame,
    receipt::{Inquiry, PackedInquiry},
};
use crate::{id::ClientId, wire::Position};

/// Accounts in one parcel: moving them takes the broker a few milliseconds.
const ACCOUNTS: usize = 200;
/// Bytes of messages in one parcel, give or take the last account.
const BYTES: usize = 4 << 20;

/// What a client goes on from, of one connection.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) client: ClientId,
    /// Number of the connection.
    pub(crate) number: u64,
    /// Of a client of the original's kind, which is given its place back and nothing else.
    pub(crate) is_place: bool,
    /// How long it is waited for from here on.
    pub(crate) left: Duration,
    /// Everything behind this is in `kept`.
    pub(crate) floor: Position,
    /// How many of those were written.
    pub(crate) written: usize,
    /// Messages, and who waits to hear of them.
    pub(crate) kept: Vec<(Frame, Option<Arc<Inquiry>>)>,
    /// Channels that the client is in.
    pub(crate) channels: Vec<String>,
}

/// What one reactor hands over of a slot, all that it has.
#[derive(Debug)]
pub(crate) struct Freight {
    pub(crate) slot: usize,
    /// Of the table in which the slot has its new owner.
    pub(crate) version: u64,
    pub(crate) to: Arc<str>,
    /// Which reactor it is from, and how many there are.
    pub(crate) part: usize,
    pub(crate) parts: usize,
    /// Whether it is all up to the change of the table, and nothing behind that.
    pub(crate) is_whole: bool,
    /// What the positions belong to.
    pub(crate) epoch: Arc<str>,
    /// Where the change is in the order of messages; behind all of them if that is not known.
    pub(crate) at: u64,
    pub(crate) accounts: Vec<Account>,
}

/// What a reactor of the other node is given.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) slot: usize,
    pub(crate) is_whole: bool,
    pub(crate) epoch: Arc<str>,
    pub(crate) accounts: Vec<Account>,
}

/// A part of a freight, on its way.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Parcel {
    /// By which it is known if it is read twice; given by whoever sends it.
    pub(crate) id: u64,
    pub(crate) slot: usize,
    pub(crate) version: u64,
    pub(crate) part: usize,
    pub(crate) parts: usize,
    /// Whether no other of this part follows.
    pub(crate) is_last: bool,
    pub(crate) is_whole: bool,
    pub(crate) epoch: String,
    messages: Vec<Message>,
    inquiries: Vec<PackedInquiry>,
    pub(crate) accounts: Vec<Packed>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Message {
    number: u64,
    sub: u32,
    is_receipt: bool,
    text: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Packed {
    pub(crate) client: ClientId,
    pub(crate) number: u64,
    /// The ticket that it came with.
    pub(crate) ticket: String,
    pub(crate) is_place: bool,
    left: u64,
    floor: (u64, u32),
    written: usize,
    /// Places among messages and inquiries.
    kept: Vec<(usize, Option<usize>)>,
    channels: Vec<String>,
}

impl Freight {
    /// The first of what is left, up to the size of a parcel: how many accounts.
    pub(crate) fn next(&self) -> usize {
        let mut bytes = 0;
        let fits = |account: &&Account| {
            let fits = bytes < BYTES;
            bytes += account.kept.iter().map(|(frame, _)| frame.bytes().len()).sum::<usize>();
            fits
        };
        self.accounts.iter().take(ACCOUNTS).take_while(fits).count()
    }

    /// The first `count` accounts as a parcel; those of which `ticket` knows none are not in the broker, and stay out of it.
    pub(crate) fn pack<'a>(
        &self,
        count: usize,
        ticket: impl Fn(u64) -> Option<&'a str>,
    ) -> (Parcel, Vec<u64>) {
        let mut parcel = Parcel {
            id: 0,
            slot: self.slot,
            version: self.version,
            part: self.part,
            parts: self.parts,
            is_last: count == self.accounts.len(),
            is_whole: self.is_whole,
            epoch: self.epoch.to_string(),
            messages: Vec::new(),
            inquiries: Vec::new(),
            accounts: Vec::new(),
        };
        let (mut messages, mut inquiries) = (HashMap::new(), HashMap::new());
        for account in &self.accounts[..count] {
            let Some(ticket) = ticket(account.number) else { continue };
            let kept = account.kept.iter().map(|(frame, inquiry)| {
                let Position { number, sub } = frame.position();
                let message = *messages.entry((number, sub)).or_insert_with(|| {
                    let (is_receipt, text) = (frame.is_receipt(), frame.content().to_owned());
                    parcel.messages.push(Message { number, sub, is_receipt, text });
                    parcel.messages.len() - 1
                });
                let inquiry = inquiry.as_ref().map(|inquiry| {
                    *inquiries.entry(Arc::as_ptr(inquiry)).or_insert_with(|| {
                        parcel.inquiries.push(inquiry.pack());
                        parcel.inquiries.len() - 1
                    })
                });
                (message, inquiry)
            });
            let kept = kept.collect();
            parcel.accounts.push(Packed {
                client: account.client.clone(),
                number: account.number,
                ticket: ticket.to_owned(),
                is_place: account.is_place,
                left: account.left.as_millis() as u64,
                floor: (account.floor.number, account.floor.sub),
                written: account.written,
                kept,
                channels: account.channels.clone(),
            });
        }
        let numbers = parcel.accounts.iter().map(|account| account.number).collect();
        (parcel, numbers)
    }
}

impl Parcel {
    pub(crate) fn encode(&self) -> String {
        serde_json::to_string(self).expect("texts and numbers are always valid JSON")
    }

    /// Reads what another node has written; the error says what is wrong with it.
    pub(crate) fn decode(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    /// The accounts, for reactors.
    pub(crate) fn unpack(&mut self) -> Vec<Account> {
        let frames = std::mem::take(&mut self.messages).into_iter().map(|message| {
            let Message { number, sub, is_receipt, text } = message;
            Frame::handed_over(&text, is_receipt, Position { number, sub })
        });
        let frames: Vec<_> = frames.collect();
        let inquiries = std::mem::take(&mut self.inquiries).into_iter();
        let inquiries = inquiries.map(|packed| Arc::new(Inquiry::unpack(packed)));
        let inquiries: Vec<_> = inquiries.collect();
        let accounts = std::mem::take(&mut self.accounts).into_iter().map(|packed| {
            let kept = packed.kept.into_iter().filter_map(|(message, inquiry)| {
                let inquiry = inquiry.and_then(|place| inquiries.get(place).cloned());
                Some((frames.get(message)?.clone(), inquiry))
            });
            Account {
                client: packed.client,
                number: packed.number,
                is_place: packed.is_place,
                left: Duration::from_millis(packed.left),
                floor: Position { number: packed.floor.0, sub: packed.floor.1 },
                written: packed.written,
                kept: kept.collect(),
                channels: packed.channels,
            }
        });
        accounts.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ReceiptText;

    fn freight(accounts: Vec<Account>) -> Freight {
        let (to, epoch) = ("b".into(), "k3".into());
        Freight {
            slot: 7,
            version: 9,
            to,
            part: 0,
            parts: 2,
            is_whole: true,
            epoch,
            at: 5,
            accounts,
        }
    }

    fn account(number: u64, kept: Vec<(Frame, Option<Arc<Inquiry>>)>) -> Account {
        Account {
            client: format!("client,\"{number}").parse().unwrap(),
            number,
            is_place: false,
            left: Duration::from_secs(60),
            floor: Position { number: 3, sub: 1 },
            written: 1,
            kept,
            channels: vec!["room".into()],
        }
    }

    #[test]
    fn what_is_packed_is_unpacked_and_what_is_shared_travels_once() {
        let frame = Frame::handed_over("\"x\"", false, Position { number: 4, sub: 0 });
        let text = ReceiptText::new("\"x\"", Some("id"), 100);
        let inquiry = Arc::new(Inquiry::new(2.into(), text, true, Some(4)));
        let kept = || vec![(frame.clone(), Some(Arc::clone(&inquiry)))];
        let freight = freight(vec![account(1, kept()), account(2, kept()), account(3, kept())]);
        assert_eq!(freight.next(), 3);
        let (parcel, numbers) = freight.pack(3, |number| (number != 2).then_some("ticket"));
        assert_eq!((numbers, parcel.is_last), (vec![1, 3], true));
        assert_eq!((parcel.messages.len(), parcel.inquiries.len()), (1, 1));
        let mut parcel = Parcel::decode(&parcel.encode()).unwrap();
        let accounts = parcel.unpack();
        assert_eq!(accounts.len(), 2);
        assert_eq!(accounts[1].client, account(3, Vec::new()).client);
        let (first, asked) = &accounts[1].kept[0];
        assert_eq!((first.bytes(), first.position()), (frame.bytes(), frame.position()));
        let (asked, was) = (asked.as_ref().unwrap().pack(), inquiry.pack());
        assert_eq!(format!("{asked:?}"), format!("{was:?}"));
        assert_eq!((&accounts[0].channels[..], accounts[0].floor.sub), (&["room".into()][..], 1));
        assert!(Parcel::decode("{}").is_err());
    }

    #[test]
    fn parcels_are_bounded() {
        let large = Frame::handed_over(&"x".repeat(BYTES / 2), false, Position::default());
        let many = (0..9).map(|number| account(number, vec![(large.clone(), None)])).collect();
        assert_eq!(freight(many).next(), 2);
        let many = (0..999).map(|number| account(number, Vec::new())).collect();
        assert_eq!(freight(many).next(), ACCOUNTS);
        assert_eq!(freight(Vec::new()).next(), 0);
    }
}
