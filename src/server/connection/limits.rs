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
}

/// How long a client is kept that leaves with 1001 at most: browsers send it for a reload, but also for a closed tab.
const GOING_AWAY: Duration = Duration::from_secs(15);

impl ConnectionLimits {
    /// How long a client is kept at most that closes with this code: not at all unless it says that it comes back, or
    /// says nothing.
    pub(crate) fn keep_after(&self, code: u16) -> Keep {
        match code {
            1001 => Keep::new(GOING_AWAY),
            1005 | 3001 => Keep::new(Duration::MAX),
            _ => Keep::NONE,
        }
    }

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
        }
    }
}
