//! Why connections and TLS handshakes end: not errors, but what is counted, logged and told to the peer. Pure.

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $code:expr, $text:literal;)*) => {
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

            /// The reason in the close frame, in logs and in metrics.
            pub fn text(self) -> &'static str {
                match self { $(CloseReason::$name => $text,)* }
            }
        }
    };
}

impl CloseReason {
    /// Whether the peer can be expected to answer the close frame: it has not ended the talk itself, and what
    /// it says can still be read.
    pub(super) fn expects_answer(self) -> bool {
        match self {
            CloseReason::Kicked
            | CloseReason::TooMany
            | CloseReason::Stopping
            | CloseReason::Restarting
            | CloseReason::SlowConsumer => true,
            CloseReason::Peer
            | CloseReason::Lost
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
    Peer = None, "closed by the client";
    /// The connection broke, or the client left without a close frame.
    Lost = None, "connection lost";
    /// Nothing was heard, not even an answer to a ping.
    Silent = None, "no answer to a ping";
    /// `force_offline`: the client must not reconnect by itself.
    Kicked = Some(4001), "kicked";
    /// The client has connected more often than it may, and this was its oldest connection.
    TooMany = Some(4003), "too many connections";
    /// The node stops; the client may reconnect.
    Stopping = Some(1001), "server is stopping";
    /// The node stops little by little; the client may reconnect at once.
    Restarting = Some(1012), "server is restarting";
    /// A frame broke the protocol, or a TLS record did.
    Protocol = Some(1002), "protocol error";
    /// A text message was not UTF-8.
    BadText = Some(1007), "text is not UTF-8";
    /// The client sent more than it may.
    Flood = Some(1008), "too much data";
    /// The client began a message and did not finish it in time.
    Unfinished = Some(1008), "unfinished message";
    /// A message was larger than allowed.
    TooBig = Some(1009), "message too big";
    /// A fault of this server in checking what the client sent.
    Internal = Some(1011), "internal error";
    /// The client reads too slowly.
    SlowConsumer = Some(1013), "slow consumer";
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

    /// In logs and in metrics.
    pub fn text(self) -> &'static str {
        match self {
            TlsFailure::Incompatible => "nothing in common",
            TlsFailure::Rejected => "rejected by the client",
            TlsFailure::Protocol => "protocol error",
            TlsFailure::Left => "client left",
            TlsFailure::TimedOut => "timed out",
        }
    }
}
