//! Sends to single clients, channels and everybody through the helper, each stream in its order, and notes what it is not
//! sure of.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use imcore::{ImClient, Message};

use super::{
    account::{Sent, Stream},
    args::HolesArgs,
    client::payload,
};
use crate::setups::{first_client, room_name};

const TICK: Duration = Duration::from_millis(20);

/// Messages of one kind, in turn to each of their streams.
struct Kind {
    rate: f64,
    done: u64,
    streams: usize,
    of: fn(u32) -> Stream,
}

/// Sends until `stop`; `failed` counts calls that may not have done their work.
pub fn send(
    im: &ImClient,
    args: &HolesArgs,
    sent: &Sent,
    stop: &AtomicBool,
    failed: &AtomicU64,
) -> Result<(), String> {
    let kind = |rate, streams, of| Kind { rate, done: 0, streams, of };
    let mut kinds = [
        kind(args.direct_rate, args.clients, Stream::Direct),
        kind(args.room_rate, args.rooms, Stream::Room),
        kind(args.broadcast_rate, 1, |_| Stream::All),
    ];
    let begun = Instant::now();
    while !stop.load(Ordering::Acquire) {
        let mut batch = im.batch();
        let mut in_it = Vec::new();
        for kind in &mut kinds {
            let due = (begun.elapsed().as_secs_f64() * kind.rate) as u64;
            // Behind after a pause: what was due meanwhile is left out, but for a second of it.
            kind.done = kind.done.max(due.saturating_sub(kind.rate as u64 + 1));
            while kind.done < due {
                let stream = (kind.of)((kind.done % kind.streams as u64) as u32);
                let number = sent.next(stream);
                batch
                    .add(message(stream), payload(stream, number).as_str())
                    .map_err(|error| error.to_string())?;
                in_it.push((stream, number));
                kind.done += 1;
            }
        }
        if batch.send().is_err() {
            sent.doubt(&in_it);
            failed.fetch_add(1, Ordering::Relaxed);
        }
        thread::sleep(TICK);
    }
    Ok(())
}

fn message(stream: Stream) -> Message {
    match stream {
        Stream::Direct(place) => Message::to([first_client() + i64::from(place)]),
        Stream::Room(room) => Message::to_channel(room_name(room)),
        Stream::All => Message::to_everyone(),
    }
}
