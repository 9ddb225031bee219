//! One client that can resume: what it remembers over its connections, and what a frame means to it. Knows no socket.

use serde::Deserialize;

use super::account::{Receiver, Sent, Stream};
use crate::frame::{self, Reader};

pub struct Client {
    pub id: i64,
    /// The newest position that it has handled, and the `c` of its latest connection.
    position: String,
    c: String,
    /// Something was handled that is not acknowledged.
    pub owes: bool,
    /// The server said hello on this connection.
    pub greeted: bool,
    pub receiver: Receiver,
}

#[derive(Deserialize)]
struct Hello<'a> {
    p: &'a str,
    c: &'a str,
    resumed: bool,
    #[serde(default)]
    why: Option<&'a str>,
}

#[derive(Deserialize)]
struct Greeting<'a> {
    #[serde(borrow)]
    hello: Hello<'a>,
}

impl Client {
    pub fn new(id: i64, place: u32, room: u32) -> Self {
        let (position, c) = (String::new(), String::new());
        let receiver = Receiver::new(place, room);
        Client { id, position, c, owes: false, greeted: false, receiver }
    }

    /// What its address gets behind the token.
    pub fn query(&self) -> String {
        match self.c.is_empty() {
            true => String::new(),
            false => format!("&since={}&c={}", self.position, self.c),
        }
    }

    pub fn acknowledgement(&mut self) -> Vec<u8> {
        self.owes = false;
        frame::control(frame::TEXT, format!("{{\"a\":\"{}\"}}", self.position).as_bytes())
    }

    pub fn fault(&mut self, what: impl Into<String>) {
        *self.receiver.account.faults.entry(what.into()).or_default() += 1;
    }

    /// A text frame is here.
    pub fn text(&mut self, text: &[u8], sent: &Sent) {
        let Ok(text) = std::str::from_utf8(text) else { return self.fault("text is no UTF-8") };
        if text.starts_with("{\"hello\":") {
            return match serde_json::from_str::<Greeting>(text) {
                Ok(Greeting { hello }) => self.hello(&hello, sent),
                Err(_) => self.fault("a hello that is none"),
            };
        }
        if !self.greeted {
            self.fault("a frame before the hello");
        }
        let parts = text.strip_prefix("{\"p\":\"").and_then(|rest| rest.split_once('"'));
        let Some((position, rest)) = parts else { return self.fault("a frame of no kind") };
        if rest != "}" {
            let message = rest.strip_prefix(",\"m\":\"").and_then(parse);
            self.receiver.message(message);
        }
        self.position.clear();
        self.position.push_str(position);
        self.owes = true;
    }

    fn hello(&mut self, hello: &Hello, sent: &Sent) {
        match (hello.resumed, self.c.is_empty()) {
            (true, false) => self.receiver.resumed(),
            (true, true) => self.fault("resumed at the first connect"),
            // What is sent from here on has to come: nothing may be excused by it.
            (false, true) => {}
            (false, false) => self.receiver.resync(hello.why.unwrap_or("no why"), sent),
        }
        if !hello.resumed {
            hello.p.clone_into(&mut self.position);
        }
        hello.c.clone_into(&mut self.c);
        self.greeted = true;
    }
}

/// The payload of a test message.
pub fn payload(stream: Stream, number: u32) -> String {
    match stream {
        Stream::Direct(place) => format!("d.{place}.{number}."),
        Stream::Room(room) => format!("r.{room}.{number}."),
        Stream::All => format!("a.0.{number}."),
    }
}

fn parse(text: &str) -> Option<(Stream, u32)> {
    let mut parts = text.split('.');
    let (kind, whose, number) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?);
    let stream = match kind {
        "d" => Stream::Direct(whose),
        "r" => Stream::Room(whose),
        "a" => Stream::All,
        _ => return None,
    };
    Some((stream, number.parse().ok()?))
}

/// Frames of a connection, and whether it was closed, with which code and reason.
pub fn feed(
    reader: &mut Reader,
    bytes: &[u8],
    client: &mut Client,
    sent: &Sent,
    answer: &mut Vec<u8>,
) -> Option<Vec<u8>> {
    let mut closed = None;
    let fed = reader.feed(bytes, |opcode, payload, _| match opcode {
        frame::TEXT => client.text(payload, sent),
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
    use crate::holes::account::Account;

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
            let closed =
                feed(&mut Reader::default(), &server(frames), &mut client, &sent, &mut vec![]);
            assert_eq!(closed, None);
        }
        (client, sent)
    }

    const FIRST: &str = r#"{"hello":{"p":"k.1","c":"x","client":"7","resumed":false,"keep":60}}"#;
    const AGAIN: &str = r#"{"hello":{"p":"k.9","c":"y","client":"7","resumed":true,"missed":1}}"#;
    const LOST: &str = r#"{"hello":{"p":"k.9","c":"y","resumed":false,"why":"epoch"}}"#;

    #[test]
    fn it_comes_back_with_what_it_handled_last() {
        let one = r#"{"p":"k.2","m":"d.0.1."}"#;
        let two = r#"{"p":"k.3","m":"d.0.2."}"#;
        let (mut client, sent) =
            run(&[&[FIRST, one], &[AGAIN, two, r#"{"p":"k.4","m":"d.0.3."}"#, r#"{"p":"k.5"}"#]]);
        assert_eq!(client.query(), "&since=k.5&c=y");
        assert!(client.owes && client.acknowledgement().ends_with(br#"{"a":"k.5"}"#));
        let account = client.receiver.close(&sent);
        assert_eq!(account, Account { delivered: 3, resumed: 1, ..Account::default() });
    }

    #[test]
    fn what_a_lying_server_does_is_seen() {
        let last = r#"{"p":"k.4","m":"d.0.3."}"#;
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
        let stray = lie(&[&[FIRST, r#"{"p":"k.4","m":"d.1.3."}"#, r#"{"p":"k.5","t":"x"}"#]]);
        assert_eq!(stray.misdelivered, 2);
    }
}
