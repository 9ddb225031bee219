//! One client that can resume: what a frame means to its account. Knows no socket.

use super::account::{Receiver, Sent, Stream};
use crate::{
    clock,
    frame::{self, Reader},
    swarm::{Frame, Place},
};

/// What a client's frames are held against.
pub struct Heard<'a> {
    pub sent: &'a Sent,
    /// When they came.
    pub now: u64,
    /// Hears how long a message took that was sent while the client was in.
    pub delays: &'a mut dyn FnMut(u64),
}

pub struct Client {
    pub id: i64,
    pub place: Place,
    /// The server said hello on this connection.
    pub greeted: bool,
    /// When it did.
    since: u64,
    pub receiver: Receiver,
}

impl Client {
    pub fn new(id: i64, place: u32, room: u32) -> Self {
        let receiver = Receiver::new(place, room);
        Client { id, place: Place::default(), greeted: false, since: 0, receiver }
    }

    pub fn fault(&mut self, what: impl Into<String>) {
        *self.receiver.account.faults.entry(what.into()).or_default() += 1;
    }

    /// A text frame is here: the beginning of its payload, and its length.
    fn text(&mut self, payload: &[u8], length: u64, heard: &mut Heard) {
        let is_first = self.place.is_new();
        let frame = self.place.take(payload, length);
        match &frame {
            Some(Frame::Resumed | Frame::Resync(_)) => {
                self.greeted = true;
                self.since = heard.now;
            }
            None => self.fault("a frame of no kind"),
            Some(_) if !self.greeted => self.fault("a frame before the hello"),
            Some(_) => {}
        }
        match frame {
            Some(Frame::Resumed) if is_first => self.fault("resumed at the first connect"),
            Some(Frame::Resumed) => self.receiver.resumed(),
            // What is sent from here on has to come: nothing may be excused by it.
            Some(Frame::Resync(_)) if is_first => {}
            Some(Frame::Resync(why)) => {
                self.receiver.resync(why.as_deref().unwrap_or("no why"), heard.sent);
            }
            Some(Frame::Message(payload, _)) => {
                let message = parse(payload);
                if let Some((.., at)) = message.filter(|(.., at)| *at > self.since) {
                    (heard.delays)(heard.now.saturating_sub(at));
                }
                self.receiver.message(message.map(|(stream, number, _)| (stream, number)));
            }
            Some(Frame::Other) => self.receiver.message(None),
            Some(Frame::Nothing) | None => {}
        }
    }
}

/// The payload of a test message that is sent now.
pub fn payload(stream: Stream, number: u32) -> String {
    let (kind, whose) = match stream {
        Stream::Direct(place) => ("d", place),
        Stream::Room(room) => ("r", room),
        Stream::All => ("a", 0),
    };
    format!("{kind}.{whose}.{number}.{}.", clock::now())
}

/// The other way, from the JSON that it came as: which message it is, and when it was sent.
fn parse(json: &[u8]) -> Option<(Stream, u32, u64)> {
    let mut parts = std::str::from_utf8(json).ok()?.strip_prefix('"')?.split('.');
    let (kind, whose, number) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?);
    let stream = match kind {
        "d" => Stream::Direct(whose),
        "r" => Stream::Room(whose),
        "a" => Stream::All,
        _ => return None,
    };
    Some((stream, number.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Frames of a connection, and whether it was closed, with which code and reason.
pub fn feed(
    reader: &mut Reader,
    bytes: &[u8],
    client: &mut Client,
    heard: &mut Heard,
    answer: &mut Vec<u8>,
) -> Option<Vec<u8>> {
    let mut closed = None;
    let fed = reader.feed(bytes, |opcode, payload, length| match opcode {
        frame::TEXT => client.text(payload, length, heard),
        frame::PING => answer.extend(frame::control(frame::PONG, payload)),
        frame::CLOSE => closed = Some(payload.to_vec()),
        _ => {}
    });
    if fed.is_err() {
        client.fault("bytes that are no frame");
        closed = Some(vec![]);
    }
    closed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{holes::account::Account, swarm::asking};

    fn server(frames: &[&str]) -> Vec<u8> {
        frames.iter().flat_map(|text| frame::text(text.as_bytes())).collect()
    }

    /// A client that is sent these frames of one connection each, of three messages to it.
    fn run(connections: &[&[&str]]) -> (Client, Sent) {
        let sent = Sent::new(1, 1);
        let mut client = Client::new(7, 0, 0);
        for _ in 0..3 {
            sent.next(Stream::Direct(0));
        }
        for frames in connections {
            client.greeted = false;
            let heard = &mut Heard { sent: &sent, now: 5, delays: &mut |_| {} };
            let closed =
                feed(&mut Reader::default(), &server(frames), &mut client, heard, &mut vec![]);
            assert_eq!(closed, None);
        }
        (client, sent)
    }

    const FIRST: &str = r#"{"hello":{"p":"k.1","c":"x","client":"7","resumed":false,"keep":60}}"#;
    const AGAIN: &str = r#"{"hello":{"p":"k.9","c":"y","client":"7","resumed":true,"missed":1}}"#;
    const LOST: &str = r#"{"hello":{"p":"k.9","c":"y","resumed":false,"why":"epoch"}}"#;

    #[test]
    fn it_comes_back_with_what_it_handled_last() {
        let one = r#"{"p":"k.2","m":"d.0.1.0."}"#;
        let two = r#"{"p":"k.3","m":"d.0.2.0."}"#;
        let (mut client, sent) =
            run(&[&[FIRST, one], &[AGAIN, two, r#"{"p":"k.4","m":"d.0.3.0."}"#, r#"{"p":"k.5"}"#]]);
        assert_eq!(client.place.acknowledge(1 << 40).unwrap(), r#"{"a":"k.5"}"#);
        let request = asking(b"GET /ws?token=x HTTP/1.1\r\n\r\n", Some(&client.place));
        assert!(request.starts_with(b"GET /ws?token=x&since=k.5&c=y HTTP/1.1\r\n"));
        let account = client.receiver.close(&sent);
        assert_eq!(account, Account { delivered: 3, resumed: 1, ..Account::default() });
    }

    #[test]
    fn what_a_lying_server_does_is_seen() {
        let last = r#"{"p":"k.4","m":"d.0.3.0."}"#;
        let lie = |connections: &[&[&str]]| {
            let (client, sent) = run(connections);
            client.receiver.close(&sent)
        };
        let hole = lie(&[&[FIRST], &[AGAIN, last]]);
        assert_eq!((hole.silent, hole.told), (2, 0));
        let told = lie(&[&[FIRST], &[LOST, last]]);
        assert_eq!((told.silent, told.told, told.why["epoch"]), (0, 2, 1));
        let again = lie(&[&[FIRST, LOST, last]]);
        assert_eq!((again.missing, again.told), (0, 2));
        let early = lie(&[&[last, FIRST]]);
        assert_eq!(early.faults["a frame before the hello"], 1);
        let stray = lie(&[&[FIRST, r#"{"p":"k.4","m":"d.1.3.0."}"#, r#"{"p":"k.5","t":"x"}"#]]);
        assert_eq!(stray.misdelivered, 2);
    }

    #[test]
    fn what_was_sent_while_it_was_away_says_nothing_of_how_long_messages_take() {
        let (sent, mut took) = (Sent::new(1, 1), vec![]);
        let mut client = Client::new(7, 0, 0);
        let before = r#"{"p":"k.2","m":"d.0.1.20."}"#;
        let after = r#"{"p":"k.3","m":"d.0.2.31."}"#;
        for (now, text) in [(30, FIRST), (40, before), (50, after)] {
            let heard = &mut Heard { sent: &sent, now, delays: &mut |delay| took.push(delay) };
            feed(&mut Reader::default(), &server(&[text]), &mut client, heard, &mut vec![]);
        }
        assert_eq!(took, [19]);
    }
}
