//! Single parts of the server: decode, encode, hub, outbox, inbox.
//!
//! `cargo bench --bench parts --features bench`
#![allow(missing_docs)]

use std::{
    hint::black_box,
    io::{Read, Write},
    os::unix::net::UnixStream,
};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use imcore::server::testing::bench::{Mailbox, Queue, Room, decode, encode};

const CONTENT: &str =
    "{\"text\":\"a message of ordinary length, as people write them\",\"n\":12345}";

fn wire(criterion: &mut Criterion) {
    let escaped = serde_json::to_string(CONTENT).expect("text");
    let strict = format!("{{\"Item1\":1,\"Item2\":[2],\"Item3\":{escaped},\"Item4\":false}}");
    let lenient = strict.replace("\"Item", "\"item");
    let channel =
        format!("__FreeIM__(ChanMessage){{\"Item1\":1,\"Item2\":\"room\",\"Item3\":{escaped}}}");
    let mut group = criterion.benchmark_group("envelope");
    for (name, payload) in [("direct", &strict), ("channel", &channel), ("lenient", &lenient)] {
        assert!(decode(payload), "{name}");
        group.bench_function(name, |bencher| bencher.iter(|| decode(black_box(payload))));
    }
    group.finish();
    criterion.bench_function("frame", |bencher| bencher.iter(|| encode(black_box(CONTENT))));
}

fn hub(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hub");
    for members in [100, 10_000] {
        let mut room = Room::new(members);
        let mut client = 0;
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("look-up/{members}"), |bencher| {
            bencher.iter(|| {
                client = client * 7919 % members + 1;
                room.look_up(client)
            });
        });
        group.bench_function(format!("join-leave/{members}"), |bencher| {
            bencher.iter(|| room.join_and_leave(1));
        });
        group.throughput(Throughput::Elements(members as u64));
        group.bench_function(format!("plan/{members}"), |bencher| bencher.iter(|| room.plan()));
    }
    group.finish();
}

/// Beside the same bytes in bare writes to the same kind of socket.
fn outbox(criterion: &mut Criterion) {
    let (mut ours, mut theirs) = UnixStream::pair().expect("a socket pair");
    let mut sink = vec![0; 1 << 16];
    let frame = vec![b'x'; CONTENT.len() + 2];
    let mut group = criterion.benchmark_group("outbox");
    for messages in [1, 8] {
        let contents = vec![CONTENT; messages];
        group.throughput(Throughput::Elements(messages as u64));
        group.bench_function(format!("flush/{messages}"), |bencher| {
            let full = || {
                let mut queue = Queue::default();
                queue.push(&contents);
                queue
            };
            bencher.iter_batched(
                full,
                |mut queue| {
                    assert!(queue.flush(&mut ours).expect("written"));
                    theirs.read(&mut sink).expect("read")
                },
                BatchSize::SmallInput,
            );
        });
        group.bench_function(format!("bare writes/{messages}"), |bencher| {
            bencher.iter(|| {
                (0..messages).for_each(|_| ours.write_all(&frame).expect("written"));
                theirs.read(&mut sink).expect("read")
            });
        });
    }
    group.finish();
}

fn inbox(criterion: &mut Criterion) {
    let door = Mailbox::new(1024).expect("an inbox");
    let mut group = criterion.benchmark_group("inbox");
    for items in [1, 512] {
        group.throughput(Throughput::Elements(items));
        group.bench_function(format!("pass/{items}"), |bencher| bencher.iter(|| door.pass(items)));
    }
    group.finish();
}

criterion_group!(benches, wire, hub, outbox, inbox);
criterion_main!(benches);
