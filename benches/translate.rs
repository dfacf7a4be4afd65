//! What does translation cost, on the way there and on the way back?
//!
//! `cargo bench --bench translate`. Answers have a thousand pieces (thinking, text, two calls); throughput counts them.
//! Requests look like Claude Code's; their throughput is in bytes.

use bytes::Bytes;
use copilot_proxy::protocol::Protocol::{self, Chat, Messages, Responses};
use copilot_proxy::protocol::catalog::{Catalog, Model};
use copilot_proxy::protocol::json;
use copilot_proxy::protocol::sse::{Decoder, Frame};
use copilot_proxy::translate::ids::Ids;
use copilot_proxy::translate::tally::Tally;
use copilot_proxy::translate::{Context, Hints, Memory, Object, Reply, Tuning, estimate, pairs};
use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use serde_json::Value;

mod transcripts;

use transcripts::ROUTES;

const EVENTS: usize = 1000;

fn main() {
    divan::main();
}

fn names() -> impl Iterator<Item = String> {
    ROUTES
        .into_iter()
        .map(|(client, way)| format!("{} from {}", client.name(), way.name()))
}

fn route(name: &str) -> (Protocol, Protocol) {
    let at = names().position(|known| known == name).unwrap_or_default();
    ROUTES[at]
}

fn model(way: Protocol) -> Model {
    let list: Value = serde_json::from_str(include_str!("../src/simulator/fixtures/models.json")).expect("JSON");
    let id = match way {
        Chat => "gpt-4.1",
        Messages => "claude-sonnet-4.5",
        Responses => "gpt-5.3-codex",
    };
    Model::clone(Catalog::read(&list).get(id).expect("a model of the list"))
}

fn frames(way: Protocol) -> Vec<Frame> {
    let bytes = Bytes::from(transcripts::stream(way, EVENTS).concat());
    let (mut decoder, mut frames) = (Decoder::default(), Vec::new());
    decoder.feed(bytes, &mut frames).expect("a stream");
    frames
}

/// How long does an event take on its way back, by route?
#[divan::bench(args = names())]
fn answer(bencher: Bencher, name: &str) {
    let (client, way) = route(name);
    let frames = frames(way);
    let reply = Reply {
        model: "sonnet".into(),
        ran: model(way).id,
        show_reasoning: true,
        include_usage: true,
        ..Reply::default()
    };
    bencher
        .counter(ItemsCount::new(frames.len()))
        .with_inputs(|| pairs::translator(client, way, reply.clone(), Ids::new("req_bench", 0)))
        .bench_local_values(|mut translator| {
            let mut out = Vec::new();
            for frame in &frames {
                translator
                    .feed(black_box(frame.clone()), &mut out)
                    .expect("a whole answer");
                black_box(&out);
                out.clear();
            }
            assert!(translator.is_over());
        });
}

fn body(client: Protocol, way: Protocol, bytes: usize) -> Vec<u8> {
    transcripts::request(client, &model(way).id, bytes)
        .to_string()
        .into_bytes()
}

fn there(bencher: Bencher, name: &str, bytes: usize) {
    let (client, way) = route(name);
    let (body, model) = (body(client, way, bytes), model(way));
    let (tuning, memory, hints) = (Tuning::default(), Memory::default(), Hints::default());
    let context = Context {
        model: &model,
        requested: &model.id,
        tuning: &tuning,
        memory: &memory,
        hints: &hints,
    };
    bencher.counter(BytesCount::new(body.len())).bench_local(|| {
        let object = json::object(black_box(&body)).expect("an object");
        let outgoing = pairs::outgoing(client, way, object.clone(), &context).expect("a request");
        json::text(&outgoing.body, body.len())
    });
}

/// How long does a request of 100 kB take, from the client's bytes to upstream's, by route?
#[divan::bench(args = names())]
fn request_100_kb(bencher: Bencher, name: &str) {
    there(bencher, name, 100_000);
}

/// And one of 1 MB?
#[divan::bench(args = names())]
fn request_1_mb(bencher: Bencher, name: &str) {
    there(bencher, name, 1_000_000);
}

/// How much of that is reading the JSON and writing it again?
#[divan::bench]
fn json_alone_1_mb(bencher: Bencher) {
    let body = body(Messages, Messages, 1_000_000);
    bencher
        .counter(BytesCount::new(body.len()))
        .bench_local(|| serde_json::to_vec(&json::object(black_box(&body)).expect("an object")));
}

/// How long does it take to estimate the tokens of a prompt of 1 MB?
#[divan::bench]
fn count_1_mb(bencher: Bencher) {
    let body = body(Messages, Messages, 1_000_000);
    let object: Object = json::object(&body).expect("an object");
    let (model, multipliers) = (model(Messages), Default::default());
    bencher
        .counter(BytesCount::new(body.len()))
        .bench_local(|| estimate::tokens(&Tally::of(Messages, black_box(&object)), Some(&model), &multipliers));
}
