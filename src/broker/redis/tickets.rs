//! Tickets, and claims of requests: texts under a key that vanish after a while.
//!
//! Called by `RedisBroker`'s verbs of the same names; knows nothing of clients.

use std::time::Duration;

use redis::Value;

use super::{RedisBroker, error, millis, presence, reply, scripts};
use crate::{
    broker::TakenTicket,
    error::Result,
    id::ClientId,
    wire::{Ticket, tag},
};

/// What Redis says of a ticket that was stored for ever, which no helper does, and what counts as its life.
const NO_END: i64 = -1;
const UNKNOWN_LIFE: Duration = Duration::from_secs(10);

/// Tickets that one run of a script looks at: below a millisecond of Redis's time.
const TAKING_CHUNK: usize = 64;
/// Tokens of one client that are remembered as out: whoever asks for more addresses than that is coming anyway.
const MOST_OUT: i32 = 64;

impl RedisBroker {
    pub(super) fn store_ticket(&self, token: &str, ticket: &Ticket, life: Duration) -> Result<()> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("SET").arg(self.names().token_key(token)).arg(ticket.text());
        if life.subsec_nanos() == 0 && !life.is_zero() {
            pipeline.arg("EX").arg(life.as_secs());
        } else {
            pipeline.arg("PX").arg(millis(life));
        }
        // Plain commands, a third of what a script costs: the key's own life ends what is never taken.
        let coming = self.names().coming_key(ticket.client());
        pipeline.cmd("ZADD").arg(&coming).arg("+inf").arg(token);
        pipeline.cmd("ZREMRANGEBYRANK").arg(&coming).arg(0).arg(-MOST_OUT - 1);
        pipeline.cmd("PEXPIRE").arg(&coming).arg(millis(life));
        self.shared.run(&pipeline).map(drop)
    }

    pub(super) fn remove_tickets(&self, tokens: &[String]) -> Result<Vec<Option<TakenTicket>>> {
        let chunks: Vec<_> = tokens.chunks(TAKING_CHUNK).collect();
        let replies = self.each_reply(&chunks, |pipeline, tokens| {
            pipeline.cmd("EVAL").arg(&*scripts::TAKING).arg(0).arg(self.names().prefix());
            for token in *tokens {
                pipeline.arg(token).arg(presence::mark(tag(token)));
            }
            for token in *tokens {
                let key = self.names().token_key(token);
                pipeline.cmd("PTTL").arg(&key).cmd("GETDEL").arg(&key);
            }
        })?;
        // Without a mark they are taken all the same.
        let of_script = |index: &usize| index.is_multiple_of(1 + 2 * TAKING_CHUNK);
        let replies = replies.into_iter().enumerate().filter(|(index, _)| !of_script(index));
        let mut replies: Vec<_> = replies.map(|(_, reply)| reply).collect();
        // What is no text is no ticket, and says nothing of the others.
        for reply in replies.iter_mut().filter(|reply| error::is_wrong_type(reply)) {
            *reply = Value::Nil;
        }
        error::judge(&self.shared.connector.address, &replies)?;
        let taken = |(left, text)| {
            let left = match reply::number(left) {
                left @ 1.. => Duration::from_millis(left as u64),
                NO_END => UNKNOWN_LIFE,
                // About to go.
                _ => Duration::from_millis(1),
            };
            (text != Value::Nil).then(|| TakenTicket { text: reply::text(text), left })
        };
        Ok(reply::pairs(replies.into_iter()).map(taken).collect())
    }

    pub(super) fn restore_tickets(&self, tickets: &[(&str, &TakenTicket)]) -> Result<()> {
        self.each(tickets, |pipeline, (token, TakenTicket { text, left })| {
            pipeline.cmd("SET").arg(self.names().token_key(token)).arg(text).arg("NX");
            pipeline.arg("PX").arg(millis(*left));
        })?;
        Ok(())
    }

    pub(super) fn drop_tickets(&self, client: ClientId) -> Result<()> {
        self.one(|pipeline| {
            pipeline.cmd("EVAL").arg(&*scripts::VOID).arg(0).arg(self.names().prefix());
            pipeline.arg(client.to_string());
        })?;
        Ok(())
    }

    pub(super) fn claim_request(
        &self,
        key: &str,
        claim: &str,
        life: Duration,
    ) -> Result<Option<String>> {
        let there = self.one(|pipeline| {
            pipeline.cmd("EVAL").arg(scripts::CLAIM).arg(1).arg(self.names().request_key(key));
            pipeline.arg(claim).arg(millis(life));
        })?;
        Ok((there != Value::Nil).then(|| reply::text(there)))
    }

    pub(super) fn settle_request(
        &self,
        key: &str,
        claim: &str,
        outcome: &str,
        life: Duration,
    ) -> Result<bool> {
        let settled = self.one(|pipeline| {
            pipeline.cmd("EVAL").arg(scripts::SETTLE).arg(1).arg(self.names().request_key(key));
            pipeline.arg(claim).arg(outcome);
            pipeline.arg(if life.is_zero() { 0 } else { millis(life) });
        })?;
        Ok(reply::number(settled) == 1)
    }
}
