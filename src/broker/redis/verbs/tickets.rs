//! Tickets: texts under a token that vanish after a while, and who is known to be coming by them.
//!
//! Called by helpers, which issue them, and by a node's ticket thread, which takes them.

use std::time::Duration;

use redis::Value;

use super::{coming_mark, millis, scripts};
use crate::{
    broker::{
        contract::TakenTicket,
        redis::{
            backend::Backend,
            link::{error, reply},
        },
    },
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

impl Backend {
    pub(crate) fn put_ticket(&self, token: &str, ticket: &Ticket, life: Duration) -> Result<()> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("SET").arg(self.layout.token_key(token)).arg(ticket.text());
        if life.subsec_nanos() == 0 && !life.is_zero() {
            pipeline.arg("EX").arg(life.as_secs());
        } else {
            pipeline.arg("PX").arg(millis(life));
        }
        // Plain commands, a third of what a script costs: the key's own life ends what is never taken.
        let coming = self.layout.coming_key(ticket.client());
        pipeline.cmd("ZADD").arg(&coming).arg("+inf").arg(token);
        pipeline.cmd("ZREMRANGEBYRANK").arg(&coming).arg(0).arg(-MOST_OUT - 1);
        pipeline.cmd("PEXPIRE").arg(&coming).arg(millis(life));
        self.run(&pipeline).map(drop)
    }

    pub(crate) fn take_tickets(&self, tokens: &[String]) -> Result<Vec<Option<TakenTicket>>> {
        let chunks: Vec<_> = tokens.chunks(TAKING_CHUNK).collect();
        let replies = self.each_reply(&chunks, |pipeline, tokens| {
            pipeline.cmd("EVAL").arg(&*scripts::TAKING).arg(0).arg(self.layout.prefix());
            for token in *tokens {
                pipeline.arg(token).arg(coming_mark(tag(token)));
            }
            for token in *tokens {
                let key = self.layout.token_key(token);
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
        error::check_steps(&self.connector.address, &replies)?;
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

    pub(crate) fn return_tickets(&self, tickets: &[(&str, &TakenTicket)]) -> Result<()> {
        self.each(tickets, |pipeline, (token, TakenTicket { text, left })| {
            pipeline.cmd("SET").arg(self.layout.token_key(token)).arg(text).arg("NX");
            pipeline.arg("PX").arg(millis(*left));
        })?;
        Ok(())
    }

    pub(crate) fn void_tickets(&self, client: &ClientId) -> Result<()> {
        self.one(|pipeline| {
            pipeline.cmd("EVAL").arg(&*scripts::VOID).arg(0).arg(self.layout.prefix());
            pipeline.arg(client.to_string());
        })?;
        Ok(())
    }
}
