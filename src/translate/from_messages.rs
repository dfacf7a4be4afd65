//! What a messages upstream says, as the turn's events.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::carrier::Carrier;
use super::rules::usage;
use super::turn::{Citation, Event, Finish, Search, SearchResult, ToolKey, ToolKind, Usage};
use super::{Reader, Reply, fold, upstream_failure};
use crate::protocol::failure::{Failure, Kind};
use crate::protocol::json;
use crate::protocol::sse::Frame;

/// Reads a Messages stream. Each block lives in `open` from its start to its stop.
pub struct FromMessages {
    /// The model that answers, for the carriers of its reasoning.
    model: String,
    started: bool,
    open: BTreeMap<u64, Block>,
    /// How many calls have been opened.
    calls: usize,
    /// Searches whose results are still to come: ids and queries.
    searches: BTreeMap<String, String>,
    usage: Usage,
    nano_aiu: Option<u64>,
    /// The ending that was announced, once it was.
    ending: Option<Finish>,
    finished: bool,
}

enum Block {
    Text,
    Thinking {
        text: String,
        signature: String,
    },
    Call {
        key: ToolKey,
        /// What was given at the start; counts where no pieces follow.
        input: Map<String, Value>,
        args: String,
    },
    Search {
        id: String,
        input: String,
    },
    Other,
}

/// One event of the stream; of each kind it has some of these fields.
#[derive(Deserialize)]
struct Wire {
    #[serde(rename = "type", default)]
    kind: Option<Name>,
    index: Option<u64>,
    message: Option<Value>,
    content_block: Option<Value>,
    delta: Option<Delta>,
    usage: Option<Value>,
    copilot_usage: Option<Value>,
}

#[derive(Clone, Copy, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Name {
    MessageStart,
    ContentBlockStart,
    ContentBlockDelta,
    ContentBlockStop,
    MessageDelta,
    MessageStop,
    Error,
    #[serde(other)]
    Other,
}

/// The `delta` of a block or of the message.
#[derive(Deserialize)]
struct Delta {
    text: Option<String>,
    thinking: Option<String>,
    signature: Option<String>,
    partial_json: Option<String>,
    citation: Option<Value>,
    stop_reason: Option<String>,
    stop_sequence: Option<String>,
}

impl FromMessages {
    pub fn new(reply: &Reply) -> Self {
        Self {
            model: reply.ran.clone(),
            started: false,
            open: BTreeMap::new(),
            calls: 0,
            searches: BTreeMap::new(),
            usage: Usage::default(),
            nano_aiu: None,
            ending: None,
            finished: false,
        }
    }

    fn start(&mut self, message: &Value, out: &mut Vec<Event>) {
        if self.started {
            return;
        }
        self.started = true;
        out.push(Event::Start {
            upstream_id: text_of(&message["id"]),
            created: None,
        });
        self.count(&message["usage"], out);
    }

    fn count(&mut self, counts: &Value, out: &mut Vec<Event>) {
        if counts.is_object() {
            usage::update_messages(&mut self.usage, counts);
            out.push(Event::Usage(self.usage));
        }
    }

    fn open(&mut self, index: u64, block: &Value, out: &mut Vec<Event>) {
        // Blocks follow one another; one that was not stopped ends here.
        self.close_all(out);
        let block = match block["type"].as_str().unwrap_or_default() {
            "text" => {
                push_text(text_of(&block["text"]), out);
                Block::Text
            }
            "thinking" => {
                let text = text_of(&block["thinking"]);
                push_reason(text.clone(), out);
                Block::Thinking {
                    text,
                    signature: text_of(&block["signature"]),
                }
            }
            "redacted_thinking" => {
                let carrier = Carrier::Redacted {
                    model: self.model.clone(),
                    data: text_of(&block["data"]),
                };
                out.push(Event::ReasonSeal {
                    state: Some(carrier.encode()),
                });
                Block::Other
            }
            "tool_use" => self.open_call(block, out),
            "server_tool_use" if block["name"] == "web_search" => {
                self.searches
                    .insert(text_of(&block["id"]), text_of(&block["input"]["query"]));
                Block::Search {
                    id: text_of(&block["id"]),
                    input: String::new(),
                }
            }
            "web_search_tool_result" => {
                out.push(Event::Search(self.searched(block)));
                Block::Other
            }
            _ => Block::Other,
        };
        self.open.insert(index, block);
    }

    fn open_call(&mut self, block: &Value, out: &mut Vec<Event>) -> Block {
        let key = self.calls;
        self.calls += 1;
        out.push(Event::ToolOpen {
            key,
            id: text_of(&block["id"]),
            name: text_of(&block["name"]),
            kind: ToolKind::Function,
        });
        Block::Call {
            key,
            input: block["input"].as_object().cloned().unwrap_or_default(),
            args: String::new(),
        }
    }

    fn searched(&mut self, block: &Value) -> Search {
        let id = text_of(&block["tool_use_id"]);
        let results = block["content"].as_array().into_iter().flatten();
        let error = &block["content"]["error_code"];
        Search {
            error: error.as_str().map(str::to_owned),
            query: self.searches.remove(&id).unwrap_or_default(),
            results: results
                .map(|result| SearchResult {
                    url: text_of(&result["url"]),
                    title: text_of(&result["title"]),
                    encrypted: text_of(&result["encrypted_content"]),
                    page_age: result["page_age"].as_str().map(str::to_owned),
                })
                .collect(),
            id,
        }
    }

    fn grow(&mut self, index: u64, delta: Delta, out: &mut Vec<Event>) {
        match self.open.get_mut(&index) {
            Some(Block::Text) => {
                push_text(delta.text.unwrap_or_default(), out);
                out.extend(delta.citation.as_ref().map(|one| Event::Cite(citation(one))));
            }
            Some(Block::Thinking { text, signature }) => {
                signature.push_str(&delta.signature.unwrap_or_default());
                let piece = delta.thinking.unwrap_or_default();
                text.push_str(&piece);
                push_reason(piece, out);
            }
            Some(Block::Call { key, args, .. }) => {
                let piece = delta.partial_json.unwrap_or_default();
                args.push_str(&piece);
                push_args(*key, piece, out);
            }
            Some(Block::Search { input, .. }) => input.push_str(&delta.partial_json.unwrap_or_default()),
            Some(Block::Other) | None => {}
        }
    }

    fn close(&mut self, block: Block, out: &mut Vec<Event>) {
        match block {
            Block::Thinking { text, signature } => {
                let carrier = (!signature.is_empty()).then(|| Carrier::Thinking {
                    model: self.model.clone(),
                    text,
                    signature,
                });
                out.push(Event::ReasonSeal {
                    state: carrier.map(|carrier| carrier.encode()),
                });
            }
            Block::Call { key, input, args } => {
                let whole = args.trim().is_empty() || json::is_object(&args);
                if args.is_empty() && !input.is_empty() {
                    push_args(key, Value::Object(input).to_string(), out);
                }
                out.push(Event::ToolClose { key, complete: whole });
            }
            Block::Search { id, input } => {
                if let Ok(input) = serde_json::from_str::<Value>(&input) {
                    self.searches.insert(id, text_of(&input["query"]));
                }
            }
            Block::Text | Block::Other => {}
        }
    }

    fn close_all(&mut self, out: &mut Vec<Event>) {
        while let Some((_, block)) = self.open.pop_first() {
            self.close(block, out);
        }
    }

    fn finish(&mut self, out: &mut Vec<Event>) {
        if !self.finished {
            self.finished = true;
            self.close_all(out);
            let ending = self.ending.take().unwrap_or(Finish::Stop);
            out.push(Event::Finish(ending.given_calls(self.calls > 0)));
        }
    }
}

impl Reader for FromMessages {
    fn feed(&mut self, frame: &Frame, out: &mut Vec<Event>) -> Result<(), Failure> {
        if self.finished || frame.data.trim_ascii().is_empty() {
            return Ok(());
        }
        if frame.is_done() {
            if self.ending.is_some() {
                self.finish(out);
            }
            return Ok(());
        }
        let wire: Wire = serde_json::from_slice(&frame.data).map_err(|_| garbage())?;
        let name = wire.kind.or_else(|| named(frame)).unwrap_or(Name::Other);
        if name == Name::Error || name == Name::Other && wire.kind.is_none() {
            return Err(told(frame));
        }
        if name != Name::Other {
            self.start(wire.message.as_ref().unwrap_or(&Value::Null), out);
        }
        let index = wire.index.unwrap_or_default();
        match name {
            Name::ContentBlockStart => self.open(index, wire.content_block.as_ref().unwrap_or(&Value::Null), out),
            Name::ContentBlockDelta => {
                if let Some(delta) = wire.delta {
                    self.grow(index, delta, out);
                }
            }
            Name::ContentBlockStop => {
                if let Some(block) = self.open.remove(&index) {
                    self.close(block, out);
                }
            }
            Name::MessageDelta => {
                self.count(wire.usage.as_ref().unwrap_or(&Value::Null), out);
                let price = wire.copilot_usage.and_then(|usage| usage["total_nano_aiu"].as_u64());
                self.nano_aiu = price.or(self.nano_aiu);
                if let Some(delta) = wire.delta
                    && let Some(reason) = &delta.stop_reason
                {
                    self.ending = Some(ending(reason, delta.stop_sequence));
                }
            }
            Name::MessageStop => self.finish(out),
            Name::MessageStart | Name::Error | Name::Other => {}
        }
        Ok(())
    }

    fn end(&mut self, out: &mut Vec<Event>) -> Result<(), Failure> {
        if self.ending.is_some() {
            self.finish(out);
        }
        if self.finished {
            Ok(())
        } else {
            Err(Failure::truncated())
        }
    }

    fn whole(&mut self, answer: &Value, out: &mut Vec<Event>) -> Result<(), Failure> {
        check_whole(answer)?;
        fold::messages::unfold(answer)
            .iter()
            .try_for_each(|frame| self.feed(frame, out))
    }

    fn nano_aiu(&self) -> Option<u64> {
        self.nano_aiu
    }
}

/// Whether a whole answer is a message and no error.
pub(super) fn check_whole(answer: &Value) -> Result<(), Failure> {
    if answer["type"] == "error" || answer["error"].is_object() {
        Err(upstream_failure::in_stream(answer))
    } else if answer["content"].is_array() {
        Ok(())
    } else {
        Err(garbage())
    }
}

fn ending(reason: &str, sequence: Option<String>) -> Finish {
    match reason {
        "tool_use" => Finish::ToolCalls,
        "max_tokens" => Finish::Length,
        "stop_sequence" => Finish::StopSequence(sequence),
        // The model was stopped from without: shown by every client, unlike a refusal in words.
        "refusal" => Finish::ContentFilter,
        "pause_turn" => Finish::Pause,
        "model_context_window_exceeded" => Finish::ContextFull,
        _ => Finish::Stop,
    }
}

fn citation(one: &Value) -> Citation {
    Citation {
        url: text_of(&one["url"]),
        title: text_of(&one["title"]),
        cited_text: text_of(&one["cited_text"]),
        start: None,
        end: None,
    }
}

/// The event's name, where its data tells none.
fn named(frame: &Frame) -> Option<Name> {
    let name = std::str::from_utf8(frame.name.as_deref()?).ok()?;
    serde_json::from_value(name.into()).ok()
}

/// An error event, or an event that is none of the protocol's, such as a lone message.
fn told(frame: &Frame) -> Failure {
    serde_json::from_slice(&frame.data).map_or_else(|_| garbage(), |error| upstream_failure::in_stream(&error))
}

fn garbage() -> Failure {
    Failure::new(Kind::UpstreamGarbage, "upstream sent something that is no message")
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn push_text(piece: String, out: &mut Vec<Event>) {
    if !piece.is_empty() {
        out.push(Event::Text(piece));
    }
}

fn push_reason(piece: String, out: &mut Vec<Event>) {
    if !piece.is_empty() {
        out.push(Event::Reason(piece));
    }
}

fn push_args(key: ToolKey, piece: String, out: &mut Vec<Event>) {
    if !piece.is_empty() {
        out.push(Event::ToolArgs { key, piece });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reader() -> FromMessages {
        FromMessages::new(&Reply {
            ran: "claude-x".into(),
            ..Reply::default()
        })
    }

    /// Reads a stream to its end.
    fn read(events: &[Value]) -> Result<Vec<Event>, Failure> {
        let (mut reader, mut out) = (reader(), Vec::new());
        for event in events {
            reader.feed(&Frame::data(event.to_string()), &mut out)?;
        }
        reader.end(&mut out)?;
        Ok(out)
    }

    fn start() -> Value {
        json!({"message": {"id": "msg_1", "usage": {"cache_creation_input_tokens": 5, "cache_read_input_tokens": 90, "input_tokens": 10, "output_tokens": 1}}, "type": "message_start"})
    }

    fn block(index: u64, block: Value, deltas: &[Value]) -> Vec<Value> {
        let mut events = vec![json!({"content_block": block, "index": index, "type": "content_block_start"})];
        events.extend(
            deltas
                .iter()
                .map(|delta| json!({"delta": delta, "index": index, "type": "content_block_delta"})),
        );
        events.push(json!({"index": index, "type": "content_block_stop"}));
        events
    }

    fn end(reason: &str) -> Vec<Value> {
        vec![
            json!({"copilot_usage": {"total_nano_aiu": 42}, "delta": {"stop_reason": reason, "stop_sequence": null}, "type": "message_delta", "usage": {"output_tokens": 7}}),
            json!({"type": "message_stop"}),
        ]
    }

    fn turn(blocks: Vec<Value>, reason: &str) -> Vec<Event> {
        read(&[vec![start()], blocks, end(reason)].concat()).unwrap()
    }

    fn seal(carrier: &Carrier) -> Event {
        Event::ReasonSeal {
            state: Some(carrier.encode()),
        }
    }

    #[test]
    fn a_turn_with_everything_in_it() {
        let blocks = [
            block(
                0,
                json!({"type": "thinking", "thinking": "", "signature": ""}),
                &[
                    json!({"type": "thinking_delta", "thinking": "h"}),
                    json!({"type": "thinking_delta", "thinking": "m"}),
                    json!({"type": "signature_delta", "signature": "Eq"}),
                    json!({"type": "signature_delta", "signature": "=="}),
                ],
            ),
            block(1, json!({"type": "redacted_thinking", "data": "D"}), &[]),
            block(
                2,
                json!({"type": "text", "text": ""}),
                &[json!({"type": "text_delta", "text": "hi"})],
            ),
            block(
                3,
                json!({"type": "tool_use", "id": "t", "name": "f", "input": {}}),
                &[
                    json!({"type": "input_json_delta", "partial_json": ""}),
                    json!({"type": "input_json_delta", "partial_json": "{}"}),
                ],
            ),
            block(
                4,
                json!({"type": "tool_use", "id": "u", "name": "g", "input": {"a": 1}}),
                &[],
            ),
        ]
        .concat();
        let model = "claude-x".to_owned();
        let open = |key, id: &str, name: &str| Event::ToolOpen {
            key,
            id: id.into(),
            name: name.into(),
            kind: ToolKind::Function,
        };
        let args = |key, piece: &str| Event::ToolArgs {
            key,
            piece: piece.into(),
        };
        let usage = |output| {
            Event::Usage(Usage {
                input: Some(105),
                cached: Some(90),
                cache_write: Some(5),
                output: Some(output),
                ..Usage::default()
            })
        };
        let expected = vec![
            Event::Start {
                upstream_id: "msg_1".into(),
                created: None,
            },
            usage(1),
            Event::Reason("h".into()),
            Event::Reason("m".into()),
            seal(&Carrier::Thinking {
                model: model.clone(),
                text: "hm".into(),
                signature: "Eq==".into(),
            }),
            seal(&Carrier::Redacted {
                model,
                data: "D".into(),
            }),
            Event::Text("hi".into()),
            open(0, "t", "f"),
            args(0, "{}"),
            Event::ToolClose { key: 0, complete: true },
            open(1, "u", "g"),
            args(1, "{\"a\":1}"),
            Event::ToolClose { key: 1, complete: true },
            usage(7),
            Event::Finish(Finish::ToolCalls),
        ];
        assert_eq!(turn(blocks, "tool_use"), expected);
    }

    #[test]
    fn a_whole_answer_reads_as_its_stream() {
        let answer = json!({
            "type": "message", "id": "msg_1",
            "content": [{"type": "thinking", "thinking": "hm", "signature": "E"}, {"type": "text", "text": "hi"}],
            "stop_reason": "end_turn", "usage": {"input_tokens": 1, "output_tokens": 2},
        });
        let mut whole = Vec::new();
        reader().whole(&answer, &mut whole).unwrap();
        let frames = fold::messages::unfold(&answer);
        let events: Vec<Value> = frames
            .iter()
            .map(|frame| serde_json::from_slice(&frame.data).unwrap())
            .collect();
        assert_eq!(read(&events).unwrap(), whole);
        assert!(reader().whole(&json!({"id": 1}), &mut Vec::new()).is_err());
        assert!(reader().whole(&json!(null), &mut Vec::new()).is_err());
    }

    #[test]
    fn k172_a_refusal_without_words_is_the_filter_at_work() {
        assert_eq!(
            turn(vec![], "refusal").last(),
            Some(&Event::Finish(Finish::ContentFilter))
        );
    }

    #[test]
    fn an_ending_agrees_with_the_calls_that_were_made() {
        let call = || block(0, json!({"type": "tool_use", "id": "t", "name": "f", "input": {}}), &[]);
        assert_eq!(turn(call(), "end_turn").last(), Some(&Event::Finish(Finish::ToolCalls)));
        assert_eq!(turn(vec![], "tool_use").last(), Some(&Event::Finish(Finish::Stop)));
        assert_eq!(turn(call(), "max_tokens").last(), Some(&Event::Finish(Finish::Length)));
    }

    #[test]
    fn a_stream_without_an_ending_was_cut() {
        let text = block(0, json!({"type": "text", "text": "a"}), &[]);
        assert_eq!(read(&[vec![start()], text].concat()), Err(Failure::truncated()));
        let announced = end("end_turn").remove(0);
        let events = read(&[start(), announced]).unwrap();
        assert_eq!(events.last(), Some(&Event::Finish(Finish::Stop)));
    }

    #[test]
    fn an_error_event_ends_the_turn() {
        let error = json!({"error": {"message": "slow down", "type": "rate_limit_error"}, "type": "error"});
        let failure = read(&[start(), error.clone()]).unwrap_err();
        assert_eq!(
            (failure.kind, failure.message.as_str()),
            (Kind::RateLimited, "slow down")
        );
        assert_eq!(reader().whole(&error, &mut Vec::new()), Err(failure));
        assert_eq!(read(&[json!({"message": "lone"})]).unwrap_err().message, "lone");
    }

    #[test]
    fn a_search_is_told_once_its_results_are_there() {
        let blocks = [
            block(
                0,
                json!({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}),
                &[json!({"type": "input_json_delta", "partial_json": "{\"query\":\"q\"}"})],
            ),
            block(
                1,
                json!({"type": "web_search_tool_result", "tool_use_id": "s", "content": [{"url": "u", "title": "t", "encrypted_content": "e", "page_age": null}]}),
                &[],
            ),
        ]
        .concat();
        let search = Event::Search(Search {
            id: "s".into(),
            query: "q".into(),
            results: vec![SearchResult {
                url: "u".into(),
                title: "t".into(),
                encrypted: "e".into(),
                page_age: None,
            }],
            error: None,
        });
        assert!(turn(blocks, "end_turn").contains(&search));
        let error = json!({"type": "web_search_tool_result_error", "error_code": "too_many_requests"});
        let failed = block(
            0,
            json!({"type": "web_search_tool_result", "tool_use_id": "s", "content": error}),
            &[],
        );
        let search = Event::Search(Search {
            id: "s".into(),
            error: Some("too_many_requests".into()),
            ..Search::default()
        });
        assert!(turn(failed, "end_turn").contains(&search));
    }

    #[test]
    fn nonsense_is_passed_over_or_named() {
        let odd = vec![
            json!({"type": "ping"}),
            json!({"type": "content_block_delta", "index": 9, "delta": {"type": "text_delta", "text": "x"}}),
            json!({"type": "content_block_start", "index": 1}),
            json!({"type": "future_event", "delta": {}}),
        ];
        assert_eq!(turn(odd, "end_turn").len(), 4);
        assert!(read(&[json!([1])]).is_err());
        let (mut reader, mut out) = (reader(), Vec::new());
        for data in ["", " ", "[DONE]"] {
            reader.feed(&Frame::data(data), &mut out).unwrap();
        }
        assert!(out.is_empty());
    }

    #[test]
    fn a_block_that_never_stopped_ends_with_the_next() {
        let thinking = json!({"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "t", "signature": "E"}});
        let text = json!({"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": "a"}});
        let events = turn(vec![thinking, text], "end_turn");
        let at = |wanted: fn(&Event) -> bool| events.iter().position(wanted).unwrap();
        assert!(at(|event| matches!(event, Event::ReasonSeal { .. })) < at(|event| matches!(event, Event::Text(_))));
    }
}
