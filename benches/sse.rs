//! What does it cost to take a stream apart into events, and to put one together?
//!
//! `cargo bench --bench sse`; throughput counts events of 412 bytes, as Copilot's chat chunks are.

use bytes::{Bytes, BytesMut};
use copilot_proxy::protocol::sse::{Decoder, Frame};
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};

const EVENTS: usize = 1000;

fn main() {
    divan::main();
}

fn stream() -> Bytes {
    let padding = "x".repeat(350);
    let event = format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"word\"}}}}],\"padding\":\"{padding}\"}}\n\n");
    Bytes::from(event.repeat(EVENTS))
}

/// How long does an event take, by the size of the reads it arrives in?
#[divan::bench(args = [64, 1024, 16_384])]
fn decode(bencher: Bencher, read: usize) {
    let stream = stream();
    bencher.counter(ItemsCount::new(EVENTS)).bench_local(|| {
        let mut decoder = Decoder::default();
        let mut frames = Vec::new();
        let mut seen = 0;
        let mut rest = stream.clone();
        while !rest.is_empty() {
            let piece = rest.split_to(read.min(rest.len()));
            let _ = decoder.feed(black_box(piece), &mut frames);
            seen += frames.drain(..).count();
        }
        assert_eq!(seen, EVENTS);
    });
}

/// How long does it take to write an event?
#[divan::bench]
fn encode(bencher: Bencher) {
    let frame = Frame::named("content_block_delta", "x".repeat(400));
    bencher.counter(ItemsCount::new(EVENTS)).bench_local(|| {
        let mut out = BytesMut::with_capacity(512 * EVENTS);
        for _ in 0..EVENTS {
            black_box(&frame).write(&mut out);
        }
        out
    });
}
