//! Why handshakes are turned away, and why connections and TLS handshakes end: not errors, but what is counted, logged
//! and told to the peer. Pure.

use crate::http::phrase;

/// One row per reason: its name, the close code that the client is sent if any can be, the words in the close frame, and the
/// label in metrics and logs. The rest follows, but for `expects_answer`, which does not compile without it.
macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $code:expr, $text:literal, $label:literal;)*) => {
        /// Why a connection ended. Not an error: every connection ends for one of these.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum CloseReason { $($(#[$doc])* $name,)* }

        impl CloseReason {
            /// All reasons, in the order of [`ServerStats::closed`](super::ServerStats::closed).
            pub const ALL: &[CloseReason] = &[$(CloseReason::$name,)*];

            /// The WebSocket close code that the client is sent; `None` where nothing can be sent.
            pub fn code(self) -> Option<u16> {
                match self { $(CloseReason::$name => $code,)* }
            }

            /// The reason in words, as in the close frame.
            pub fn text(self) -> &'static str {
                match self { $(CloseReason::$name => $text,)* }
            }

            /// The reason in metrics and logs: snake_case, and the same in every version.
            pub fn label(self) -> &'static str {
                match self { $(CloseReason::$name => $label,)* }
            }
        }
    };
}

impl CloseReason {
    /// Whether a client whose connection ends for this may come back to what it had. What the client itself says by its
    /// close code is judged apart.
    pub(crate) fn keeps_client(self) -> bool {
        !matches!(
            self,
            CloseReason::Kicked
                | CloseReason::TooMany
                | CloseReason::Superseded
                | CloseReason::Expired
        )
    }

    /// Whether the peer can be expected to answer the close frame: it has not ended the talk itself, and what
    /// it says can still be read.
    pub(crate) fn expects_answer(self) -> bool {
        match self {
            CloseReason::Kicked
            | CloseReason::TooMany
            | CloseReason::Superseded
            | CloseReason::Stopping
            | CloseReason::Restarting
            | CloseReason::Moved
            | CloseReason::SlowConsumer => true,
            CloseReason::Peer
            | CloseReason::Lost
            | CloseReason::Expired
            | CloseReason::Silent
            | CloseReason::Protocol
            | CloseReason::BadText
            | CloseReason::Flood
            | CloseReason::Unfinished
            | CloseReason::TooBig
            | CloseReason::Internal => false,
        }
    }
}

reasons! {
    /// The client sent a close frame.
    Peer = None, "closed by the client", "client_closed";
    /// The connection broke, or the client left without a close frame.
    Lost = None, "connection lost", "connection_lost";
    /// Nothing was heard, not even an answer to a ping.
    Silent = None, "no answer to a ping", "ping_timeout";
    /// `force_offline`: the client must not reconnect by itself.
    Kicked = Some(4001), "kicked", "kicked";
    /// Its client goes on with it on another socket, and must not reconnect on this one.
    Superseded = Some(4002), "superseded", "superseded";
    /// Its client was away, was waited for, and did not come back in time.
    Expired = None, "not resumed in time", "expired";
    /// The client has connected more often than it may, and this was its oldest connection.
    TooMany = Some(4003), "too many connections", "too_many_connections";
    /// The node stops; the client may reconnect.
    Stopping = Some(1001), "server is stopping", "server_stopping";
    /// The node stops little by little; the client may reconnect at once.
    Restarting = Some(1012), "server is restarting", "server_restarting";
    /// Another node owns the client now; it is to fetch an address at once.
    Moved = Some(4302), "moved to another node", "moved";
    /// A frame broke the protocol, or a TLS record did.
    Protocol = Some(1002), "protocol error", "protocol_error";
    /// A text message was not UTF-8.
    BadText = Some(1007), "text is not UTF-8", "invalid_utf8";
    /// The client sent more than it may.
    Flood = Some(1008), "too much data", "too_much_data";
    /// The client began a message and did not finish it in time.
    Unfinished = Some(1008), "unfinished message", "unfinished_message";
    /// A message was larger than allowed.
    TooBig = Some(1009), "message too big", "message_too_big";
    /// A fault of this server in checking what the client sent.
    Internal = Some(1011), "internal error", "internal_error";
    /// The client reads too slowly.
    SlowConsumer = Some(1013), "slow consumer", "slow_consumer";
}

/// Why a client that can resume is not given what it missed, and is to load its state anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NotResumed {
    /// Nothing is known of its former connection any more, or never was.
    Expired,
    /// The order that its position belongs to is over, or something may have been lost since.
    Epoch,
    /// Its position is still to come.
    Ahead,
    /// More has come meanwhile than is kept.
    TooMuch,
}

impl NotResumed {
    /// All of them, in the order of [`ServerStats::not_resumed`](super::ServerStats::not_resumed).
    pub const ALL: &[NotResumed] =
        &[NotResumed::Expired, NotResumed::Epoch, NotResumed::Ahead, NotResumed::TooMuch];

    /// As clients are told, in metrics and logs; the same in every version.
    pub fn label(self) -> &'static str {
        match self {
            NotResumed::Expired => "expired",
            NotResumed::Epoch => "epoch",
            NotResumed::Ahead => "ahead",
            NotResumed::TooMuch => "too_much",
        }
    }
}

/// Why a TLS handshake came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TlsFailure {
    /// No version, cipher or protocol that both know.
    Incompatible,
    /// The client does not take the certificate, or gave another reason of its own.
    Rejected,
    /// What came was not TLS as it has to be.
    Protocol,
    /// The client left meanwhile.
    Left,
    /// It took longer than [`Limits::handshake`](super::Limits::handshake).
    TimedOut,
}

impl TlsFailure {
    /// All of them, in the order of [`ServerStats::tls_failures`](super::ServerStats::tls_failures).
    pub const ALL: &[TlsFailure] = &[
        TlsFailure::Incompatible,
        TlsFailure::Rejected,
        TlsFailure::Protocol,
        TlsFailure::Left,
        TlsFailure::TimedOut,
    ];

    /// In words.
    pub fn text(self) -> &'static str {
        match self {
            TlsFailure::Incompatible => "nothing in common",
            TlsFailure::Rejected => "rejected by the client",
            TlsFailure::Protocol => "protocol error",
            TlsFailure::Left => "client left",
            TlsFailure::TimedOut => "timed out",
        }
    }

    /// In metrics and logs: snake_case, and the same in every version.
    pub fn label(self) -> &'static str {
        match self {
            TlsFailure::Incompatible => "incompatible",
            TlsFailure::Rejected => "rejected_by_client",
            TlsFailure::Protocol => "protocol_error",
            TlsFailure::Left => "client_left",
            TlsFailure::TimedOut => "timed_out",
        }
    }
}

/// Why a handshake was turned away: an HTTP status, and one line for a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    NotHttp,
    NotTls,
    NoProxyHeader,
    OldProxyHeader,
    BadProxyHeader,
    UnexpectedProxyHeader,
    BadHost,
    Body,
    BadKey,
    NoToken,
    BadToken,
    BadTicket,
    OtherKind,
    Kicked,
    Origin,
    Path,
    Method,
    TimedOut,
    GaveWay,
    OtherNode,
    NotUpgrade,
    Version,
    HeadTooLarge,
    AddressBusy,
    AddressFailing,
    Full,
    Draining,
    NoBroker,
}

impl Refusal {
    /// Status code and explanation.
    fn parts(self) -> (u16, &'static str) {
        const BAD: u16 = 400;
        const DENIED: u16 = 401;
        const UPGRADE: u16 = 426;
        const BUSY: u16 = 503;
        match self {
            Refusal::NotHttp => (BAD, "this is not an HTTP/1.1 request"),
            Refusal::NotTls => (BAD, "this port speaks TLS: the address begins with wss://"),
            Refusal::NoProxyHeader => (BAD, "expected a PROXY protocol header of version 2 first"),
            Refusal::OldProxyHeader => {
                (BAD, "expected a PROXY protocol header of version 2, got version 1")
            }
            Refusal::BadProxyHeader => (BAD, "the PROXY protocol header cannot be read"),
            Refusal::UnexpectedProxyHeader => {
                (BAD, "got a PROXY protocol header; set peer_address to proxy-protocol for that")
            }
            Refusal::BadHost => (BAD, "the request must name one Host"),
            Refusal::Body => (BAD, "a request to be upgraded must have no body"),
            Refusal::BadKey => (BAD, "Sec-WebSocket-Key must be 16 bytes in base64"),
            Refusal::NoToken => (DENIED, "the query parameter token is missing"),
            Refusal::BadToken => {
                (DENIED, "the token is unknown, used or expired; get a new address")
            }
            Refusal::BadTicket => (DENIED, "the token stands for something that is not a ticket"),
            Refusal::OtherKind => {
                (DENIED, "the ticket's id is not of the kind of this deployment (integer or GUID)")
            }
            Refusal::Kicked => {
                (DENIED, "the client was kicked after this address was issued; get a new one")
            }
            Refusal::Origin => (403, "this Origin may not connect"),
            Refusal::Path => (404, "no WebSocket endpoint at this path"),
            Refusal::Method => (405, "only GET can be upgraded"),
            Refusal::TimedOut => (408, "the handshake took too long"),
            Refusal::GaveWay => {
                (BUSY, "too many handshakes are under way, and this one was the slowest")
            }
            Refusal::OtherNode => (
                421,
                "this client belongs to another node; check that all servers lists are the same",
            ),
            Refusal::NotUpgrade => (UPGRADE, "this endpoint speaks WebSocket only"),
            Refusal::Version => (UPGRADE, "only WebSocket version 13 is supported"),
            Refusal::AddressBusy => (429, "too many handshakes from this address at the same time"),
            Refusal::AddressFailing => {
                (429, "too many handshakes from this address came to nothing")
            }
            Refusal::HeadTooLarge => (431, "the request head is too large"),
            Refusal::Full => (BUSY, "this node is full"),
            Refusal::Draining => (BUSY, "this node is stopping"),
            Refusal::NoBroker => (BUSY, "the broker cannot be reached"),
        }
    }

    /// The HTTP status.
    pub(crate) fn status(self) -> u16 {
        self.parts().0
    }

    /// Whether the peer has itself to blame. This node's own troubles, and limits that others behind the same
    /// address may have used up, are not held against it.
    pub(crate) fn is_peers_fault(self) -> bool {
        self == Refusal::GaveWay || !matches!(self.status(), 421 | 429 | 503)
    }

    /// The explanation.
    pub(crate) fn why(self) -> &'static str {
        self.parts().1
    }

    /// The finished response, without its body for a `HEAD`; the connection is closed after it.
    pub(crate) fn response(self, to_head: bool) -> String {
        let (status, why) = self.parts();
        let phrase = phrase(status);
        let extra = match status {
            405 => "Allow: GET\r\n",
            426 => "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
            429 | 503 => "Retry-After: 1\r\n",
            _ => "",
        };
        let connection = if status == 426 { "Upgrade, close" } else { "close" };
        let length = why.len() + 1;
        let mut response = format!(
            "HTTP/1.1 {status} {phrase}\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Length: {length}\r\nConnection: {connection}\r\n{extra}\r\n"
        );
        if !to_head {
            response.push_str(why);
            response.push('\n');
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_a_whole_response() {
        let response = Refusal::Version.response(false);
        assert!(response.starts_with("HTTP/1.1 426 Upgrade Required\r\n"));
        assert!(response.contains("Sec-WebSocket-Version: 13\r\n"));
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())));
        let without = Refusal::Version.response(true);
        assert_eq!(without, format!("{head}\r\n\r\n"), "a HEAD gets the same head alone");
    }
}
