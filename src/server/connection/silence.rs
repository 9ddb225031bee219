//! Whether the peer is still there: when it was last heard, and what it was sent since.
//!
//! A part of `connection`. Knows bytes and ticks alone.

use super::{
    limits::ConnectionLimits,
    ticks::{TICKS_PER_SECOND, Ticks},
};

/// Bytes of messages after which a ping goes out among them: its pong tells that the peer has read so far, through
/// whatever buffers lie between. A ping behind a long backlog would find even a reader silent for too long.
const PING_EVERY: u32 = 128 << 10;
/// Bytes a tick (16 KiB a second) at which what was sent since the peer was last heard may reach it: a pong cannot
/// come before all of that was read.
const SLOWEST: u32 = (16 << 10) / TICKS_PER_SECOND;
/// Ticks that a pong may be late for that reason at most: two minutes.
const LATE_AT_MOST: Ticks = 120 * TICKS_PER_SECOND;

#[derive(Debug)]
pub(super) struct Silence {
    /// When the peer was last heard.
    heard: Ticks,
    /// Bytes of messages since then.
    unheard: u32,
    pinged: bool,
}

/// What a look at a silent peer leaves to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    Nothing,
    /// It is time for a ping.
    Ping,
    /// The peer has not answered in time.
    Gone,
}

impl Silence {
    pub(super) fn new(now: Ticks) -> Self {
        Silence { heard: now, unheard: 0, pinged: false }
    }

    /// Bytes came.
    pub(super) fn heard(&mut self, now: Ticks) {
        *self = Silence::new(now);
    }

    /// A message of `bytes` was queued; whether a ping is to follow it.
    pub(super) fn sent(&mut self, bytes: usize) -> bool {
        let before = self.unheard;
        self.unheard = before.saturating_add(bytes as u32);
        self.unheard / PING_EVERY > before / PING_EVERY
    }

    /// The peer showed by other means that it was there at `moment`.
    pub(super) fn seen(&mut self, moment: Ticks) {
        self.heard = self.heard.max(moment);
    }

    /// Called once a sweep.
    pub(super) fn look(&mut self, now: Ticks, limits: &ConnectionLimits) -> Look {
        let silent = now - self.heard;
        let late = (self.unheard / SLOWEST).min(LATE_AT_MOST);
        if self.pinged {
            let is_over = silent >= limits.ping_after + limits.pong_within + late;
            return if is_over { Look::Gone } else { Look::Nothing };
        }
        if silent < limits.ping_after {
            return Look::Nothing;
        }
        self.pinged = true;
        // A pong is due from now on, however late this look came.
        self.heard = now - limits.ping_after;
        Look::Ping
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::connection::tests::LIMITS;

    const PING: Ticks = LIMITS.ping_after;
    const END: Ticks = PING + LIMITS.pong_within;

    #[test]
    fn a_silent_peer_is_pinged_once_and_given_its_time() {
        let mut silence = Silence::new(0);
        assert_eq!(silence.look(PING - 1, &LIMITS), Look::Nothing);
        assert_eq!(silence.look(PING, &LIMITS), Look::Ping);
        assert_eq!(silence.look(END - 1, &LIMITS), Look::Nothing);
        assert_eq!(silence.look(END, &LIMITS), Look::Gone);
        silence.heard(END);
        assert_eq!(silence.look(END + PING - 1, &LIMITS), Look::Nothing);
    }

    #[test]
    fn a_late_look_shortens_nobody_s_time() {
        let mut silence = Silence::new(0);
        let late = 10 * END;
        assert_eq!(silence.look(late, &LIMITS), Look::Ping);
        assert_eq!(silence.look(late + LIMITS.pong_within - 1, &LIMITS), Look::Nothing);
        assert_eq!(silence.look(late + LIMITS.pong_within, &LIMITS), Look::Gone);
    }

    #[test]
    fn what_was_sent_may_take_its_time_to_the_peer() {
        let mut silence = Silence::new(0);
        silence.sent(100 * SLOWEST as usize);
        assert_eq!(silence.look(PING, &LIMITS), Look::Ping);
        assert_eq!(silence.look(END + 99, &LIMITS), Look::Nothing);
        assert_eq!(silence.look(END + 100, &LIMITS), Look::Gone);
        // But not for ever.
        let mut silence = Silence::new(0);
        silence.sent(usize::MAX);
        assert_eq!(silence.look(PING, &LIMITS), Look::Ping);
        assert_eq!(silence.look(END + LATE_AT_MOST, &LIMITS), Look::Gone);
    }

    #[test]
    fn a_long_stream_of_messages_has_pings_in_it() {
        let mut silence = Silence::new(0);
        let pings = (0..1024).filter(|_| silence.sent(1 << 10)).count();
        assert_eq!(pings, (1 << 20) / PING_EVERY as usize);
    }
}
