//! The limits that a connection checks itself, in its own units. One copy for a whole reactor.

use std::time::Duration;

use super::continuity::Keep;
use super::ticks::{self, Ticks};
use crate::server::config::ServerConfig;

#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectionLimits {
    /// Not a limit, but as constant as they are: see [`ServerConfig::echo`].
    pub(crate) echo: bool,
    pub(crate) message_bytes: usize,
    pub(crate) message_time: Ticks,
    /// Bytes between two ticks.
    pub(crate) inbound_bytes: u32,
    pub(crate) ping_after: Ticks,
    pub(crate) pong_within: Ticks,
    pub(crate) outbox_bytes: usize,
    pub(crate) outbox_stall: Ticks,
    pub(crate) outbox_age: Ticks,
    pub(crate) linger: Ticks,
    /// How long the place of a client of the original's kind is kept for it.
    pub(crate) grace: Keep,
}

/// What a client says by the code in its close frame of whether it comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Farewell {
    /// It does, or it has said nothing.
    Returning,
    /// 1001: browsers send it for a reload, but also for a closed tab.
    GoingAway,
    ForGood,
}

impl Farewell {
    /// Pages of the original's kind leave for good without a code.
    pub(crate) fn of(code: u16, is_resumable: bool) -> Self {
        match code {
            1001 => Farewell::GoingAway,
            3001 => Farewell::Returning,
            1005 if is_resumable => Farewell::Returning,
            _ => Farewell::ForGood,
        }
    }

    /// How long the client is kept at most.
    pub(crate) fn longest_keep(self) -> Keep {
        match self {
            Farewell::Returning => Keep::LONGEST,
            Farewell::GoingAway => Keep::new(Duration::from_secs(15)),
            Farewell::ForGood => Keep::NONE,
        }
    }
}

impl ConnectionLimits {
    pub(crate) fn of(config: &ServerConfig) -> Self {
        let limits = &config.limits;
        let sweep_share = limits.sweep.as_secs_f64();
        ConnectionLimits {
            echo: config.echo,
            message_bytes: limits.inbound_message_bytes,
            message_time: ticks::span(limits.inbound_message_time),
            // At least one whole message with its header must pass between two looks.
            inbound_bytes: (limits.inbound_rate as f64 * sweep_share)
                .max(2.0 * limits.inbound_message_bytes as f64)
                .min(f64::from(u32::MAX / 2)) as u32,
            ping_after: ticks::span(limits.ping_after),
            pong_within: ticks::span(limits.pong_within),
            outbox_bytes: limits.outbox_bytes,
            outbox_stall: ticks::span(limits.outbox_stall),
            outbox_age: ticks::span(limits.outbox_age),
            linger: ticks::span(limits.linger),
            grace: Keep::new(config.grace),
        }
    }
}
