//! The turn's events, as a chat client's stream. Knows the shape of chunks; not who made the events.

use std::borrow::Cow;

use serde_json::json;

use super::carrier::Carrier;
use super::chunk_writer::{self, ChunkWriter, Fields};
use super::ids::Ids;
use super::rules::{self, tools::decode};
use super::stops::{Stops, Watched};
use super::turn::{Event, Finish, ToolKey, ToolKind, Usage};
use super::{Kept, Reply, ToolShape, Writer};
use crate::protocol::Protocol;
use crate::protocol::failure::Failure;
use crate::protocol::sse::Frame;

/// Ids of upstream longer than this are no names any more, but state.
const MAX_ID: usize = 64;

/// Writes one answer.
#[derive(Debug)]
pub struct ToChat {
    reply: Reply,
    ids: Ids,
    chunks: ChunkWriter,
    tools: Vec<Tool>,
    stops: Option<Stops>,
    reasoning: String,
    /// State of the reasoning so far, in order.
    carriers: Vec<String>,
    /// The one slot for state has been used: clients take a second value for an error.
    opaque_sent: bool,
    /// Characters of the answer so far: where a citation stands that has no place of its own.
    said: u64,
    usage: Option<Usage>,
    finished: bool,
    over: bool,
    kept: Vec<(String, Kept)>,
}

/// A call that was told to the client; its place in the list is its index.
#[derive(Debug)]
struct Tool {
    key: ToolKey,
    shown: ToolKind,
    /// Input that is told only once it is whole, since upstream's shape is not the client's.
    held: Option<String>,
    empty: bool,
}

impl ToChat {
    pub fn new(reply: Reply, ids: Ids) -> Self {
        Self {
            stops: Stops::new(&reply.stops),
            chunks: ChunkWriter::new("", 0, "", false),
            reply,
            ids,
            tools: Vec::new(),
            reasoning: String::new(),
            carriers: Vec::new(),
            opaque_sent: false,
            said: 0,
            usage: None,
            finished: false,
            over: false,
            kept: Vec::new(),
        }
    }

    fn start(&mut self, upstream_id: &str, created: Option<u64>, out: &mut Vec<Frame>) {
        let id = match base(upstream_id) {
            "" => self.ids.mint("chatcmpl-"),
            base => format!("chatcmpl-{base}"),
        };
        let created = created.unwrap_or(self.ids.created);
        self.chunks = ChunkWriter::new(&id, created, &self.reply.model, self.reply.include_usage);
        self.delta(out, |delta| {
            delta.set("role", "assistant");
            delta.set("content", "");
        });
    }

    fn delta(&self, out: &mut Vec<Frame>, fields: impl FnOnce(&mut Fields)) {
        out.push(self.chunks.delta(&[], &[], None, fields));
    }

    fn reason(&mut self, text: &str, out: &mut Vec<Frame>) {
        self.reasoning.push_str(text);
        if self.reply.show_reasoning {
            let alias = self.reply.reasoning_alias;
            self.delta(out, |delta| {
                delta.set("reasoning_text", text);
                if alias {
                    delta.set("reasoning_content", text);
                }
            });
        }
    }

    fn text(&mut self, text: &str, out: &mut Vec<Frame>) {
        let Watched { text, stop } = match &mut self.stops {
            Some(stops) => stops.feed(text),
            None => Watched {
                text: text.to_owned(),
                stop: None,
            },
        };
        self.content(&text, out);
        if stop.is_some() {
            self.stops = None;
            self.finish("stop", out);
            self.close(out);
        }
    }

    fn content(&mut self, text: &str, out: &mut Vec<Frame>) {
        if !text.is_empty() {
            self.said += text.chars().count() as u64;
            self.delta(out, |delta| delta.set("content", text));
        }
    }

    /// No more text can complete a stop sequence: tells what was held back for one.
    fn flush(&mut self, out: &mut Vec<Frame>) {
        if let Some(held) = self.stops.as_mut().map(Stops::flush) {
            self.content(&held, out);
        }
    }

    fn open(&mut self, key: ToolKey, id: String, name: String, kind: ToolKind, out: &mut Vec<Frame>) {
        self.flush(out);
        self.opaque(out);
        let client = self.reply.tools.get(&name);
        let shown = match client.map(|client| client.shape) {
            Some(ToolShape::Custom) => ToolKind::Custom,
            _ => ToolKind::Function,
        };
        let name = client.map_or(name, |client| client.name.clone());
        let index = self.tools.len();
        self.delta(out, |delta| {
            delta.list("tool_calls", |call| {
                call.set("index", &index);
                call.set("id", &id);
                chunk_writer::call_body(call, shown, Some(&name), "", &[]);
            });
        });
        self.tools.push(Tool {
            key,
            shown,
            held: (shown != kind).then(String::new),
            empty: true,
        });
        if !self.carriers.is_empty() {
            let kept = Kept {
                model: self.reply.ran.clone(),
                text: self.reasoning.clone(),
                carriers: self.carriers.clone(),
            };
            self.kept.push((id, kept));
        }
    }

    fn input(&mut self, key: ToolKey, piece: &str, out: &mut Vec<Frame>) {
        let Some((index, tool)) = self.tools.iter_mut().enumerate().find(|(_, tool)| tool.key == key) else {
            return;
        };
        if let Some(held) = &mut tool.held {
            held.push_str(piece);
        } else if !piece.is_empty() {
            tool.empty = false;
            let shown = tool.shown;
            self.piece(index, shown, piece, out);
        }
    }

    fn close_tool(&mut self, key: ToolKey, complete: bool, out: &mut Vec<Frame>) {
        let Some((index, tool)) = self.tools.iter_mut().enumerate().find(|(_, tool)| tool.key == key) else {
            return;
        };
        let shown = tool.shown;
        let rest: Cow<str> = match (tool.held.take(), shown) {
            (Some(arguments), ToolKind::Custom) => decode::custom_input(&arguments).into(),
            (Some(input), ToolKind::Function) => json!({"input": input}).to_string().into(),
            (None, ToolKind::Function) if tool.empty && complete => "{}".into(),
            _ => return,
        };
        self.piece(index, shown, &rest, out);
    }

    fn piece(&self, index: usize, shown: ToolKind, piece: &str, out: &mut Vec<Frame>) {
        self.delta(out, |delta| {
            delta.list("tool_calls", |call| {
                call.set("index", &index);
                chunk_writer::call_body(call, shown, None, piece, &[]);
            });
        });
    }

    /// Tells the state of the reasoning, once.
    fn opaque(&mut self, out: &mut Vec<Frame>) {
        let opaque = match self.carriers.as_slice() {
            [] => return,
            [one] => one.clone(),
            several => Carrier::List(several.to_vec()).encode(),
        };
        if !std::mem::replace(&mut self.opaque_sent, true) {
            self.delta(out, |delta| delta.set("reasoning_opaque", &opaque));
        }
    }

    fn finish(&mut self, reason: &str, out: &mut Vec<Frame>) {
        self.flush(out);
        self.opaque(out);
        self.finished = true;
        out.push(self.chunks.delta(&[], &[], Some(reason), |_| {}));
    }

    fn close(&mut self, out: &mut Vec<Frame>) {
        if let Some(usage) = self.usage.filter(|_| self.reply.include_usage) {
            out.push(
                self.chunks
                    .usage(&[], &rules::usage::write(Protocol::Chat, &usage).to_string()),
            );
        }
        out.push(chunk_writer::done());
        self.over = true;
    }
}

impl Writer for ToChat {
    fn feed(&mut self, event: Event, out: &mut Vec<Frame>) -> Result<(), Failure> {
        if self.over {
            return Ok(());
        }
        match event {
            Event::Start { upstream_id, created } => self.start(&upstream_id, created, out),
            Event::Reason(text) => self.reason(&text, out),
            Event::ReasonSeal { state } => self.carriers.extend(state),
            Event::Text(text) => self.text(&text, out),
            Event::Refusal(text) => {
                self.flush(out);
                self.delta(out, |delta| delta.set("refusal", &text));
            }
            Event::ToolOpen { key, id, name, kind } => self.open(key, id, name, kind, out),
            Event::ToolArgs { key, piece } => self.input(key, &piece, out),
            Event::ToolClose { key, complete } => self.close_tool(key, complete, out),
            Event::Cite(cite) => {
                self.flush(out);
                self.delta(out, |delta| {
                    delta.list("annotations", |note| {
                        note.set("type", "url_citation");
                        note.object("url_citation", |fields| {
                            fields.set("url", &cite.url);
                            fields.set("title", &cite.title);
                            fields.set("start_index", &cite.start.unwrap_or(self.said));
                            fields.set("end_index", &cite.end.unwrap_or(self.said));
                        });
                    });
                });
            }
            // A chat client has no place for either.
            Event::Search(_) | Event::Compaction(_) => {}
            Event::Usage(usage) => self.usage.get_or_insert_default().update(&usage),
            Event::Finish(finish) => self.finish(finish_reason(&finish), out),
        }
        // Usage is mostly known by now; where it is not, it may still come.
        if self.finished && !self.over && (self.usage.is_some() || !self.reply.include_usage) {
            self.close(out);
        }
        Ok(())
    }

    fn end(&mut self, out: &mut Vec<Frame>) {
        if self.finished && !self.over {
            self.close(out);
        }
    }

    fn fail(&mut self, failure: &Failure, out: &mut Vec<Frame>) {
        if !std::mem::replace(&mut self.over, true) {
            chunk_writer::fail(failure, out);
        }
    }

    fn is_over(&self) -> bool {
        self.over
    }

    fn take_kept(&mut self) -> Vec<(String, Kept)> {
        std::mem::take(&mut self.kept)
    }
}

fn finish_reason(finish: &Finish) -> &'static str {
    match finish {
        Finish::Stop | Finish::StopSequence(_) | Finish::Pause => "stop",
        Finish::ToolCalls => "tool_calls",
        Finish::Length | Finish::ContextFull => "length",
        Finish::ContentFilter | Finish::Refusal => "content_filter",
    }
}

/// The part of upstream's id that is its own; empty where it is of no use as a name.
pub(super) fn base(upstream_id: &str) -> &str {
    let prefixes = ["chatcmpl-", "resp_", "msg_"];
    let base = prefixes
        .iter()
        .find_map(|prefix| upstream_id.strip_prefix(prefix))
        .unwrap_or(upstream_id);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if base.len() <= MAX_ID && base.bytes().all(plain) {
        base
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::translate::invariants::{self, Ending};
    use crate::translate::{ClientTool, fold};

    fn reply() -> Reply {
        Reply {
            model: "asked".into(),
            ran: "ran".into(),
            show_reasoning: true,
            ..Reply::default()
        }
    }

    fn written(reply: Reply, events: Vec<Event>) -> (Vec<Value>, ToChat) {
        let (mut writer, mut frames) = (ToChat::new(reply, Ids::new("req", 9)), Vec::new());
        for event in events {
            writer.feed(event, &mut frames).unwrap();
        }
        writer.end(&mut frames);
        let read = |frame: &Frame| match frame.is_done() {
            true => Value::from("[DONE]"),
            false => serde_json::from_slice(&frame.data).unwrap(),
        };
        (frames.iter().map(read).collect(), writer)
    }

    /// The deltas alone; the finish reason for the last.
    fn deltas(chunks: &[Value]) -> Vec<String> {
        let told = |chunk: &Value| match &chunk["choices"][0] {
            Value::Null => chunk.to_string(),
            choice if choice["finish_reason"].is_string() => choice["finish_reason"].to_string(),
            choice => choice["delta"].to_string(),
        };
        chunks.iter().map(told).collect()
    }

    fn start() -> Event {
        Event::Start {
            upstream_id: "resp_abc".into(),
            created: Some(7),
        }
    }

    fn open(key: ToolKey, name: &str, kind: ToolKind) -> Event {
        Event::ToolOpen {
            key,
            id: format!("call_{key}"),
            name: name.into(),
            kind,
        }
    }

    fn args(key: ToolKey, piece: &str) -> Event {
        Event::ToolArgs {
            key,
            piece: piece.into(),
        }
    }

    fn close(key: ToolKey) -> Event {
        Event::ToolClose { key, complete: true }
    }

    #[test]
    fn k095_a_turn_with_calls() {
        let (chunks, writer) = written(
            reply(),
            vec![
                start(),
                Event::Text("hi".into()),
                open(0, "f", ToolKind::Function),
                args(0, "{\"a\""),
                open(1, "g", ToolKind::Function),
                args(0, ":1}"),
                close(0),
                close(1),
                Event::Finish(Finish::ToolCalls),
            ],
        );
        assert_eq!(
            deltas(&chunks),
            [
                r#"{"role":"assistant","content":""}"#,
                r#"{"content":"hi"}"#,
                r#"{"tool_calls":[{"index":0,"id":"call_0","type":"function","function":{"name":"f","arguments":""}}]}"#,
                r#"{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\""}}]}"#,
                r#"{"tool_calls":[{"index":1,"id":"call_1","type":"function","function":{"name":"g","arguments":""}}]}"#,
                r#"{"tool_calls":[{"index":0,"function":{"arguments":":1}"}}]}"#,
                r#"{"tool_calls":[{"index":1,"function":{"arguments":"{}"}}]}"#,
                r#""tool_calls""#,
                r#""[DONE]""#,
            ]
        );
        assert_eq!(
            chunks[0].to_string(),
            r#"{"id":"chatcmpl-abc","object":"chat.completion.chunk","created":7,"model":"asked","system_fingerprint":null,"choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}"#
        );
        assert!(writer.is_over());
    }

    #[test]
    fn usage_is_told_where_it_was_asked_for_and_may_come_late() {
        let asked = Reply {
            include_usage: true,
            ..reply()
        };
        let usage = Usage {
            input: Some(10),
            cached: Some(4),
            output: Some(3),
            ..Usage::default()
        };
        let late = vec![start(), Event::Finish(Finish::Stop), Event::Usage(usage)];
        let (chunks, _) = written(asked.clone(), late);
        assert_eq!(chunks[0]["usage"], Value::Null);
        assert!(chunks[0].as_object().unwrap().contains_key("usage"));
        assert_eq!(
            chunks[2]["usage"].to_string(),
            r#"{"prompt_tokens":10,"completion_tokens":3,"total_tokens":13,"prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":0}}"#
        );
        assert_eq!((chunks[2]["choices"].to_string().as_str(), chunks.len()), ("[]", 4));
        let (chunks, writer) = written(asked, vec![start(), Event::Finish(Finish::Stop)]);
        assert_eq!(chunks.len(), 3, "none is made up");
        assert!(writer.is_over());
        let (chunks, _) = written(reply(), vec![start(), Event::Usage(usage), Event::Finish(Finish::Stop)]);
        assert_eq!(chunks.len(), 3, "none that was not asked for");
    }

    #[test]
    fn state_is_told_once_before_the_first_call_and_kept_for_each() {
        let seal = |state: &str| Event::ReasonSeal {
            state: Some(state.into()),
        };
        let (chunks, mut writer) = written(
            Reply {
                reasoning_alias: true,
                ..reply()
            },
            vec![
                start(),
                Event::Reason("hm".into()),
                seal("cpx1.r.a.x"),
                seal("cpx1.r.b.y"),
                open(0, "f", ToolKind::Function),
                close(0),
                seal("cpx1.r.c.z"),
                open(1, "f", ToolKind::Function),
                close(1),
                Event::Finish(Finish::ToolCalls),
            ],
        );
        let told = deltas(&chunks);
        assert_eq!(told[1], r#"{"reasoning_text":"hm","reasoning_content":"hm"}"#);
        let opaque: Vec<&Value> = chunks
            .iter()
            .filter_map(|chunk| chunk["choices"][0]["delta"].get("reasoning_opaque"))
            .collect();
        assert_eq!(opaque.len(), 1);
        assert_eq!(
            Carrier::decode(opaque[0].as_str().unwrap()),
            Some(Carrier::List(vec!["cpx1.r.a.x".into(), "cpx1.r.b.y".into()]))
        );
        let kept = writer.take_kept();
        assert_eq!(kept[0].0, "call_0");
        assert_eq!((kept[0].1.text.as_str(), kept[0].1.carriers.len()), ("hm", 2));
        assert_eq!((kept[1].0.as_str(), kept[1].1.carriers.len()), ("call_1", 3));
        let (chunks, _) = written(reply(), vec![start(), seal("cpx1.r.a.x"), Event::Finish(Finish::Stop)]);
        assert_eq!(deltas(&chunks)[1], r#"{"reasoning_opaque":"cpx1.r.a.x"}"#);
    }

    #[test]
    fn freeform_tools_come_as_the_client_declared_them() {
        let tool = ClientTool {
            name: "patch it".into(),
            namespace: None,
            shape: ToolShape::Custom,
        };
        let declared = Reply {
            tools: [("patch".to_owned(), tool)].into(),
            ..reply()
        };
        let turn = |name, kind, pieces: [&str; 2]| {
            let args = pieces.map(|piece| args(0, piece));
            let mut turn = vec![start(), open(0, name, kind)];
            turn.extend(args);
            turn.extend([close(0), Event::Finish(Finish::ToolCalls)]);
            turn
        };
        let first =
            r#"{"tool_calls":[{"index":0,"id":"call_0","type":"custom","custom":{"name":"patch it","input":""}}]}"#;
        let (chunks, _) = written(
            declared.clone(),
            turn("patch", ToolKind::Function, ["{\"input\":", "\"a\\n\"}"]),
        );
        assert_eq!(
            deltas(&chunks)[1..3],
            [first, r#"{"tool_calls":[{"index":0,"custom":{"input":"a\n"}}]}"#]
        );
        let (chunks, _) = written(declared, turn("patch", ToolKind::Custom, ["a", "\n"]));
        assert_eq!(
            deltas(&chunks)[2..4],
            [
                r#"{"tool_calls":[{"index":0,"custom":{"input":"a"}}]}"#,
                r#"{"tool_calls":[{"index":0,"custom":{"input":"\n"}}]}"#
            ]
        );
        let (chunks, _) = written(reply(), turn("patch", ToolKind::Custom, ["a", "b"]));
        assert_eq!(
            deltas(&chunks)[2],
            r#"{"tool_calls":[{"index":0,"function":{"arguments":"{\"input\":\"ab\"}"}}]}"#
        );
    }

    #[test]
    fn stop_sequences_end_the_answer_and_do_not_leak() {
        let watched = Reply {
            stops: vec!["END".into()],
            ..reply()
        };
        let text = |text: &str| Event::Text(text.into());
        let (chunks, writer) = written(watched.clone(), vec![start(), text("aEN"), text("Db"), text("c")]);
        assert_eq!(deltas(&chunks)[1..], [r#"{"content":"a"}"#, r#""stop""#, r#""[DONE]""#]);
        assert!(writer.is_over());
        let (chunks, _) = written(watched, vec![start(), text("aEN"), Event::Finish(Finish::Stop)]);
        assert_eq!(deltas(&chunks)[1..3], [r#"{"content":"a"}"#, r#"{"content":"EN"}"#]);
    }

    #[test]
    fn k096_a_failure_is_an_error_and_never_a_stop() {
        let (mut writer, mut out) = (ToChat::new(reply(), Ids::new("r", 1)), Vec::new());
        writer.feed(start(), &mut out).unwrap();
        writer.fail(&Failure::truncated(), &mut out);
        writer.fail(&Failure::truncated(), &mut out);
        writer.end(&mut out);
        let text: Vec<&str> = out[1..]
            .iter()
            .map(|frame| std::str::from_utf8(&frame.data).unwrap())
            .collect();
        assert_eq!(
            text,
            [
                r#"{"error":{"message":"upstream closed the stream before completion","type":"server_error","param":null,"code":"stream_error"}}"#,
                "[DONE]"
            ]
        );
    }

    #[test]
    fn k172_a_refusal_without_words_is_a_filtered_empty_answer() {
        let (mut writer, mut frames) = (ToChat::new(reply(), Ids::new("r", 1)), Vec::new());
        for event in [start(), Event::Finish(Finish::ContentFilter)] {
            writer.feed(event, &mut frames).unwrap();
        }
        let mut gather = fold::gather(Protocol::Chat);
        frames.iter().for_each(|frame| gather.feed(frame).unwrap());
        let answer = gather.finish().unwrap();
        assert_eq!(answer["choices"][0]["finish_reason"], "content_filter");
        assert_eq!(answer["choices"][0]["message"]["content"], "");
    }

    #[test]
    fn an_id_that_is_state_is_no_name() {
        assert_eq!(base("msg_01aB"), "01aB");
        assert_eq!((base("resp_a+b"), base(&"x".repeat(65)), base("")), ("", "", ""));
        let long = Event::Start {
            upstream_id: "x".repeat(400),
            created: None,
        };
        let (chunks, _) = written(reply(), vec![long]);
        assert_eq!(chunks[0]["id"].as_str().unwrap().len(), "chatcmpl-".len() + 32);
        assert_eq!(chunks[0]["created"], 9);
    }

    proptest::proptest! {
        /// K167: any turn becomes a stream that clients can follow.
        #[test]
        fn k167_any_turn_is_a_stream_that_clients_can_follow(
            steps in proptest::collection::vec((0..7_u8, 0..3_usize), 0..20),
            include_usage: bool,
        ) {
            let mut events = vec![start()];
            let mut calls: Vec<bool> = Vec::new();
            for (step, at) in steps {
                let is_open = calls.get(at).copied().unwrap_or(false);
                events.push(match step {
                    0 => Event::Text("t".into()),
                    1 => Event::ReasonSeal { state: Some("cpx1.n.e30.".into()) },
                    2 => Event::Refusal("r".into()),
                    3 if is_open => args(at, "1"),
                    4 if is_open => {
                        calls[at] = false;
                        close(at)
                    }
                    5 => Event::Usage(Usage { input: Some(1), ..Usage::default() }),
                    _ => {
                        calls.push(true);
                        open(calls.len() - 1, "f", ToolKind::Function)
                    }
                });
            }
            events.push(Event::Finish(Finish::Stop));
            let (chunks, writer) = written(Reply { include_usage, ..reply() }, events);
            proptest::prop_assert!(writer.is_over());
            let frames: Vec<Frame> = chunks
                .iter()
                .map(|chunk| Frame::data(chunk.as_str().map_or_else(|| chunk.to_string(), str::to_owned)))
                .collect();
            proptest::prop_assert_eq!(invariants::check(Protocol::Chat, &frames), Ok(Ending::Complete));
            for chunk in &chunks[..chunks.len() - 1] {
                proptest::prop_assert_eq!(chunk.get("usage").is_some(), include_usage);
            }
        }
    }
}
