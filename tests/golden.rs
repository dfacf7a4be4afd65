//! Golden files of the translation: what becomes of a request on each of the three ways, and what each of the four
//! clients gets of an upstream's stream.
//!
//! `tests/golden/requests/CLIENT/NAME.json` is a client's request and `NAME.WAY.json` what goes upstream, or how it is
//! refused. `tests/golden/streams/WAY/NAME.sse` is an upstream's answer, `NAME.CLIENT.sse` the client's stream and
//! `NAME.CLIENT.json` the whole answer it amounts to. `BLESS=1 cargo test --test golden` writes anew all but the
//! sources; review the difference.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::{env, fs};

use bytes::{Bytes, BytesMut};
use copilot_proxy::protocol::catalog::{Catalog, Model};
use copilot_proxy::protocol::failure::Failure;
use copilot_proxy::protocol::sse::{Decoder, Frame};
use copilot_proxy::protocol::{Dialect, Protocol};
use copilot_proxy::translate::ids::Ids;
use copilot_proxy::translate::invariants::{self, Ending};
use copilot_proxy::translate::request::gemini_to_chat;
use copilot_proxy::translate::{Context, Hints, Memory, Object, Outgoing, Reply, Tuning, fold, pairs};
use serde_json::{Value, json};

const CATALOGUE: &str = include_str!("../src/simulator/fixtures/models.json");

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// The files of a folder that are sources: their names have no protocol in them.
fn sources(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.matches('.').count() == 1 && name.ends_with(extension)
        })
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no sources in {}", folder.display());
    files
}

/// Holds a result to its golden file, or writes it anew.
fn hold(source: &Path, suffix: &str, result: &str) {
    let path = source.with_extension(suffix);
    if env::var_os("BLESS").is_some() {
        fs::write(&path, result).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    assert!(golden == result, "{} differs; now:\n{result}", path.display());
}

/// The model that answers on each way: one that makes the most of it.
fn model(way: Protocol) -> Model {
    let id = match way {
        Protocol::Chat => "gemini-2.5-pro",
        Protocol::Messages => "claude-sonnet-4.5",
        Protocol::Responses => "gpt-5.4",
    };
    let catalog = Catalog::read(&serde_json::from_str(CATALOGUE).unwrap());
    Model::clone(catalog.get(id).unwrap())
}

fn outgoing(client: Dialect, way: Protocol, body: &Object) -> Result<Outgoing, Failure> {
    let context = Context {
        model: &model(way),
        requested: "the-model",
        tuning: &Tuning::default(),
        memory: &Memory::default(),
        hints: &Hints::default(),
    };
    let body = match client {
        Dialect::Of(_) => body.clone(),
        Dialect::Gemini => gemini_to_chat::request(body.clone())?,
    };
    pairs::outgoing(client.travels_as(), way, body, &context)
}

/// A failure as the client reads it.
fn refusal(client: Dialect, failure: &Failure) -> Value {
    json!({"status": failure.status(client), "body": failure.body(client, "req_1")})
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

#[test]
fn requests_go_upstream_as_the_golden_files_say() {
    for client in Dialect::ALL {
        for source in sources(&golden().join("requests").join(client.name()), ".json") {
            let body: Object = serde_json::from_str(&fs::read_to_string(&source).unwrap()).unwrap();
            for way in Protocol::ALL {
                let result = match outgoing(client, way, &body) {
                    Ok(outgoing) => Value::Object(outgoing.body),
                    Err(failure) => json!({"refused": refusal(client, &failure)}),
                };
                hold(&source, &format!("{}.json", way.name()), &pretty(&result));
            }
        }
    }
}

/// A request that declares all the tools which the transcripts use, and wants to see everything.
fn question(client: Dialect) -> Object {
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}});
    let body = match client {
        Dialect::Of(Protocol::Chat) => {
            json!({"model": "the-model", "messages": [{"role": "user", "content": "hi"}], "stream": true,
            "stream_options": {"include_usage": true},
            "tools": [{"type": "function", "function": {"name": "weather", "parameters": schema}}]})
        }
        Dialect::Of(Protocol::Messages) => {
            json!({"model": "the-model", "messages": [{"role": "user", "content": "hi"}],
            "max_tokens": 8000, "stream": true, "thinking": {"type": "enabled", "budget_tokens": 4000},
            "tools": [{"name": "weather", "input_schema": schema},
                {"type": "web_search_20250305", "name": "web_search"}]})
        }
        Dialect::Of(Protocol::Responses) => json!({"model": "the-model", "input": "hi", "stream": true,
            "reasoning": {"summary": "auto"},
            "tools": [{"type": "function", "name": "weather", "parameters": schema},
                {"type": "custom", "name": "apply_patch"}, {"type": "web_search"}]}),
        Dialect::Gemini => json!({"model": "the-model", "contents": [{"parts": [{"text": "hi"}]}], "stream": true,
            "generationConfig": {"thinkingConfig": {"includeThoughts": true}},
            "tools": [{"functionDeclarations": [{"name": "weather", "parametersJsonSchema": schema}]}]}),
    };
    let Value::Object(body) = body else { unreachable!() };
    body
}

fn decode(pieces: impl IntoIterator<Item = Bytes>) -> Vec<Frame> {
    let (mut decoder, mut frames) = (Decoder::default(), Vec::new());
    for piece in pieces {
        decoder.feed(piece, &mut frames).unwrap();
    }
    decoder.finish(&mut frames);
    frames
}

/// What the way back must know of [`question`], for each pair.
fn reply(client: Dialect, way: Protocol) -> Reply {
    static REPLIES: LazyLock<Vec<(Dialect, Protocol, Reply)>> = LazyLock::new(|| {
        let pairs = Dialect::ALL.map(|client| Protocol::ALL.map(|way| (client, way)));
        let reply = |(client, way)| (client, way, outgoing(client, way, &question(client)).unwrap().reply);
        pairs.into_iter().flatten().map(reply).collect()
    });
    let known = REPLIES.iter().find(|known| (known.0, known.1) == (client, way));
    known.unwrap().2.clone()
}

/// What the client gets of an upstream's stream: frames, or the failure before the first of them.
fn relayed(client: Dialect, way: Protocol, frames: &[Frame]) -> Result<Vec<Frame>, Failure> {
    relayed_as_they_come(client, way, frames.iter().cloned())
}

fn relayed_as_they_come(
    client: Dialect,
    way: Protocol,
    frames: impl Iterator<Item = Frame>,
) -> Result<Vec<Frame>, Failure> {
    let mut translator = pairs::translator(client, way, reply(client, way), Ids::new("req_1", 1_767_225_600));
    let mut out = Vec::new();
    let mut read = Ok(());
    for frame in frames {
        if read.is_err() || translator.is_over() {
            break;
        }
        read = translator.feed(frame, &mut out);
    }
    match read.and_then(|()| translator.end(&mut out)) {
        Err(failure) if out.is_empty() => return Err(failure),
        Err(failure) => translator.fail(&failure, &mut out),
        Ok(()) => {}
    }
    Ok(out)
}

fn gathered(protocol: impl Into<Dialect>, frames: &[Frame]) -> Result<Value, Failure> {
    let mut gather = fold::gather(protocol);
    frames.iter().try_for_each(|frame| gather.feed(frame))?;
    gather.finish()
}

/// Every upstream transcript: its way, its file and its bytes.
fn transcripts() -> Vec<(Protocol, PathBuf, Bytes)> {
    let folder = |way: Protocol| golden().join("streams").join(way.name());
    let read = |way, path: PathBuf| {
        let bytes = Bytes::from(fs::read(&path).unwrap());
        (way, path, bytes)
    };
    Protocol::ALL
        .into_iter()
        .flat_map(|way| {
            sources(&folder(way), ".sse")
                .into_iter()
                .map(move |path| read(way, path))
        })
        .collect()
}

#[test]
fn streams_reach_each_client_as_the_golden_files_say() {
    for (way, source, bytes) in transcripts() {
        let upstream = decode([bytes]);
        for client in Dialect::ALL {
            let name = client.name();
            match relayed(client, way, &upstream) {
                Ok(frames) => {
                    let mut stream = BytesMut::new();
                    frames.iter().for_each(|frame| frame.write(&mut stream));
                    let stream = String::from_utf8(stream.to_vec()).unwrap();
                    let ending = invariants::check(client, &frames)
                        .unwrap_or_else(|broken| panic!("{} for {name}: {broken}\n{stream}", source.display()));
                    hold(&source, &format!("{name}.sse"), &stream);
                    if ending == Ending::Complete {
                        let whole = gathered(client, &frames).unwrap();
                        hold(&source, &format!("{name}.json"), &pretty(&whole));
                    }
                }
                Err(failure) => hold(&source, &format!("{name}.json"), &pretty(&refusal(client, &failure))),
            }
        }
    }
}

/// The same bytes, as lines may also end.
fn with_line_ends(bytes: &Bytes, end: &str) -> Bytes {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    Bytes::from(text.replace('\n', end))
}

/// The translation takes frames: where these are the same, so is everything that follows.
#[test]
fn k166_bytes_cut_anywhere_are_the_same_frames() {
    for (_, source, bytes) in transcripts() {
        let whole = decode([bytes.clone()]);
        for end in ["\n", "\r\n", "\r"] {
            let bytes = with_line_ends(&bytes, end);
            for cut in 0..=bytes.len() {
                let halves = [bytes.slice(..cut), bytes.slice(cut..)];
                assert_eq!(decode(halves), whole, "{} with {end:?} cut at {cut}", source.display());
            }
            let single = decode(bytes.chunks(1).map(Bytes::copy_from_slice));
            assert_eq!(single, whole, "{} with {end:?} byte by byte", source.display());
        }
    }
}

/// For every pair: each byte comes alone, and what it completes is translated before the next one comes.
#[test]
fn k166_bytes_cut_everywhere_are_the_same_stream_for_every_client() {
    for (way, source, bytes) in transcripts() {
        let upstream = decode([bytes.clone()]);
        for client in Dialect::ALL {
            let whole = relayed(client, way, &upstream);
            for end in ["\n", "\r\n", "\r"] {
                let bytes = with_line_ends(&bytes, end);
                let mut decoder = Decoder::default();
                let pieces = bytes.chunks(1).map(Some).chain([None]);
                let frames = pieces.flat_map(|piece| {
                    let mut frames = Vec::new();
                    match piece {
                        Some(byte) => decoder.feed(Bytes::copy_from_slice(byte), &mut frames).unwrap(),
                        None => decoder.finish(&mut frames),
                    }
                    frames
                });
                let got = relayed_as_they_come(client, way, frames);
                assert_eq!(got, whole, "{} for {} with {end:?}", source.display(), client.name());
            }
        }
    }
}

/// Wherever upstream breaks off, the client is told an ending it can read.
#[test]
fn a_stream_that_breaks_off_anywhere_is_well_formed_to_its_end() {
    for (way, source, bytes) in transcripts() {
        let upstream = decode([bytes]);
        for length in 0..upstream.len() {
            for client in Dialect::ALL {
                if let Ok(frames) = relayed(client, way, &upstream[..length]) {
                    let checked = invariants::check(client, &frames);
                    assert!(
                        checked.is_ok(),
                        "{} for {} after {length}: {checked:?}",
                        source.display(),
                        client.name()
                    );
                }
            }
        }
    }
}

/// An upstream that leaves out an event, repeats one or confuses two breaks no client: its stream keeps the
/// grammar.
#[test]
fn a_stream_in_disorder_is_well_formed_to_its_end() {
    for (way, source, bytes) in transcripts() {
        let upstream = decode([bytes]);
        for at in 0..upstream.len() {
            let (mut fewer, mut more, mut swapped) = (upstream.clone(), upstream.clone(), upstream.clone());
            fewer.remove(at);
            more.insert(at, upstream[at].clone());
            swapped.swap(at, (at + 1) % upstream.len());
            for (what, disorder) in [("without", fewer), ("twice", more), ("swapped", swapped)] {
                for client in Dialect::ALL.into_iter().filter(|&client| is_rewritten(client, way)) {
                    if let Ok(frames) = relayed(client, way, &disorder) {
                        let checked = invariants::check(client, &frames);
                        let pair = format!("{} for {}", source.display(), client.name());
                        assert!(checked.is_ok(), "{pair}, {what} {at}: {checked:?}");
                    }
                }
            }
        }
    }
}

/// Whether the client's stream is our own: a Messages or a Responses stream reaches its own client as it came.
fn is_rewritten(client: Dialect, way: Protocol) -> bool {
    client != way.into() || way == Protocol::Chat
}

/// Transcripts that no whole answer amounts to, since they break their protocol's rules or stop inside a call's JSON.
const UNLIKE_A_WHOLE: [(Protocol, &str); 4] = [
    (Protocol::Chat, "reused_index"),
    (Protocol::Messages, "length_mid_call"),
    (Protocol::Responses, "completed_without_output"),
    (Protocol::Responses, "unstable_ids"),
];

/// K168: a client that asked for no stream gets what the stream amounts to, whichever of the two upstream sent.
#[test]
fn k168_a_whole_answer_is_the_sum_of_its_stream() {
    for (way, source, bytes) in transcripts() {
        let upstream = decode([bytes]);
        let name = source.file_stem().unwrap().to_str().unwrap();
        let Ok(answer) = gathered(way, &upstream) else { continue };
        if UNLIKE_A_WHOLE.contains(&(way, name)) {
            continue;
        }
        for client in Dialect::ALL {
            let streamed = relayed(client, way, &upstream).and_then(|frames| gathered(client, &frames));
            let mut translator = pairs::translator(client, way, reply(client, way), Ids::new("req_1", 1_767_225_600));
            let whole = translator.answer(answer.clone());
            assert_eq!(
                whole.as_ref().map(pretty),
                streamed.as_ref().map(pretty),
                "{} for {}",
                source.display(),
                client.name()
            );
        }
    }
}
