//! Single parts of the server, opened for `benches/parts.rs`. Behind the feature `bench`; not part of the API.

use std::io::{self, Write};

use mio::{Poll, Token};

use crate::{
    server::{
        connection::{
            frame::Frame,
            outbox::{Flushed, Outbox, Tally},
            prepared::{Dialect, Prepared},
        },
        inbox::{Inbox, InboxSender, inbox},
        reactor::hub::{Hub, Key},
    },
    wire::{Envelope, Position},
};

/// Decodes a payload from the bus; whether it was an envelope.
pub fn decode(payload: &str) -> bool {
    Envelope::decode(payload).is_ok()
}

fn message(content: &str) -> Frame {
    Prepared::text(content, Position::default()).frame(Dialect::Plain, "").clone()
}

/// Encodes the frame of a message; its length.
pub fn encode(content: &str) -> usize {
    message(content).bytes().len()
}

/// The index of one reactor with one channel of which every client is a member.
#[derive(Debug)]
pub struct Room {
    hub: Hub,
}

impl Room {
    /// A channel of `members` clients, 1 and up, with one connection each.
    pub fn new(members: i64) -> Self {
        let mut hub = Hub::default();
        for client in 1..=members {
            hub.insert(client.into(), client as Key);
            hub.set_channels(&client.into(), vec!["room".into()]);
        }
        Room { hub }
    }

    /// Connections of one client.
    pub fn look_up(&self, client: i64) -> usize {
        self.hub.connections(&client.into()).len()
    }

    /// Connections that a message to the channel goes to.
    pub fn plan(&mut self) -> usize {
        self.hub.plan(&0.into(), "room").map_or(0, |plan| plan.len())
    }

    /// One client joins and leaves another channel.
    pub fn join_and_leave(&mut self, client: i64) {
        self.hub.set_channels(&client.into(), vec!["room".into(), "other".into()]);
        self.hub.set_channels(&client.into(), vec!["room".into()]);
    }
}

/// What one connection has to write.
#[derive(Debug, Default)]
pub struct Queue(Outbox);

impl Queue {
    /// Queues the frame of each message.
    pub fn push(&mut self, contents: &[&str]) {
        for content in contents {
            self.0.push_message(message(content), None);
        }
    }

    /// Writes what `stream` takes; whether that was all.
    pub fn flush(&mut self, stream: &mut impl Write) -> io::Result<bool> {
        let flushed = self.0.flush(stream, &mut Tally::default())?;
        Ok(flushed == Flushed::All)
    }
}

/// Both ends of a loop's inbox.
#[derive(Debug)]
pub struct Mailbox {
    sender: InboxSender<u64>,
    inbox: Inbox<u64>,
    _poll: Poll,
}

impl Mailbox {
    /// An inbox of `capacity` items.
    pub fn new(capacity: usize) -> io::Result<Self> {
        let poll = Poll::new()?;
        let (sender, inbox) = inbox(&poll, Token(0), capacity)?;
        Ok(Mailbox { sender, inbox, _poll: poll })
    }

    /// Pushes `items` and pops them again; how many came out.
    pub fn pass(&self, items: u64) -> usize {
        for item in 0..items {
            let _ = self.sender.push(item);
        }
        self.inbox.open();
        std::iter::from_fn(|| self.inbox.pop()).count()
    }
}
