//! What a chat upstream says, as the turn's events. Knows its many ways to say it; not who listens.

use serde_json::Value;

use super::calls::{Calls, Step};
use super::carrier::Carrier;
use super::chunk::{self, Chunk, Delta};
use super::fold;
use super::turn::{Event, Finish, Usage};
use super::{Reader, Reply, upstream_failure};
use crate::protocol::Protocol;
use crate::protocol::failure::{Failure, Kind};
use crate::protocol::sse::Frame;

/// Reads the chunks of one answer. Every choice is read: some models spread one answer over several.
#[derive(Debug)]
pub struct FromChat {
    /// The model that answers; its state travels under this name.
    model: String,
    upstream_id: String,
    created: Option<u64>,
    started: bool,
    reasoning: Reasoning,
    calls: Calls,
    /// Text or a call has been told.
    spoken: bool,
    text: bool,
    refused: bool,
    finish: Option<Ending>,
    nano_aiu: Option<u64>,
    over: bool,
}

/// The stretch of reasoning under way.
#[derive(Debug, Default)]
struct Reasoning {
    /// Some of its text has been told, and no seal yet.
    open: bool,
    /// Upstream's state, held until the stretch ends; it often comes last.
    opaque: String,
}

/// What upstream said about the end; of several choices, the greatest counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    Stop,
    ContentFilter,
    Length,
    ToolCalls,
}

impl Ending {
    /// Reads a `finish_reason`; one that is no ending is a failure.
    pub fn read(reason: &str) -> Result<Self, Failure> {
        Ok(match reason {
            "stop" => Self::Stop,
            "length" => Self::Length,
            "content_filter" => Self::ContentFilter,
            "tool_calls" | "function_call" => Self::ToolCalls,
            other => {
                return Err(Failure::new(
                    Kind::Stream,
                    format!("upstream ended its answer with `{other}`"),
                ));
            }
        })
    }

    /// The ending of an answer that says it is over but not how, as seen with Claude after tool results.
    pub fn inferred(calls: &Calls, text: bool) -> Option<Self> {
        match calls.is_empty() {
            true => text.then_some(Self::Stop),
            false => calls.are_complete().then_some(Self::ToolCalls),
        }
    }
}

impl FromChat {
    pub fn new(reply: &Reply) -> Self {
        Self {
            model: reply.ran.clone(),
            upstream_id: String::new(),
            created: None,
            started: false,
            reasoning: Reasoning::default(),
            calls: Calls::default(),
            spoken: false,
            text: false,
            refused: false,
            finish: None,
            nano_aiu: None,
            over: false,
        }
    }

    fn chunk(&mut self, chunk: &Chunk, out: &mut Vec<Event>) -> Result<(), Failure> {
        if self.upstream_id.is_empty() {
            self.upstream_id.push_str(&chunk.id);
        }
        self.created = self.created.or(chunk.created.0.filter(|&created| created > 0));
        if !self.upstream_id.is_empty() {
            self.start(out);
        }
        for choice in &chunk.choices {
            self.delta(choice.index.0.unwrap_or(0), &choice.delta, out)?;
            if !choice.finish_reason.is_empty() {
                self.finish = self.finish.max(Some(Ending::read(&choice.finish_reason)?));
            }
        }
        if let Some(usage) = chunk.usage.map(chunk::usage).filter(|usage| *usage != Usage::default()) {
            self.start(out);
            out.push(Event::Usage(usage));
        }
        self.nano_aiu = chunk.nano_aiu().or(self.nano_aiu);
        Ok(())
    }

    fn delta(&mut self, choice: u64, delta: &Delta, out: &mut Vec<Event>) -> Result<(), Failure> {
        let reasoning = delta.reasoning();
        if !reasoning.is_empty() {
            self.start(out);
            self.reasoning.open = true;
            out.push(Event::Reason(reasoning.into_owned()));
        }
        if !delta.reasoning_opaque.is_empty() && self.reasoning.opaque != *delta.reasoning_opaque {
            if !self.reasoning.opaque.is_empty() {
                self.seal(out);
            }
            self.reasoning.opaque = delta.reasoning_opaque.to_string();
        }
        let content = delta.content.map(chunk::text).unwrap_or_default();
        if !content.is_empty() {
            self.before_text(out);
            self.text = true;
            out.push(Event::Text(content.into_owned()));
        }
        let refusal = delta.refusal.map(chunk::text).unwrap_or_default();
        if !refusal.is_empty() {
            self.before_text(out);
            self.refused = true;
            out.push(Event::Refusal(refusal.into_owned()));
        }
        for fragment in &delta.tool_calls {
            let step = self.calls.take(choice, fragment)?;
            self.tell(step, out);
        }
        if let Some(function) = delta.function_call {
            let step = self.calls.take_legacy(choice, function)?;
            self.tell(step, out);
        }
        Ok(())
    }

    fn start(&mut self, out: &mut Vec<Event>) {
        if !self.started {
            self.started = true;
            out.push(Event::Start {
                upstream_id: self.upstream_id.clone(),
                created: self.created,
            });
        }
    }

    /// Ends the reasoning under way, with the state that came so far.
    fn seal(&mut self, out: &mut Vec<Event>) {
        if !self.reasoning.open && self.reasoning.opaque.is_empty() {
            return;
        }
        self.start(out);
        let Reasoning { opaque, .. } = std::mem::take(&mut self.reasoning);
        let carrier = |opaque| Carrier::Opaque {
            model: self.model.clone(),
            opaque,
        };
        let state = Some(opaque).filter(|opaque| !opaque.is_empty());
        out.push(Event::ReasonSeal {
            state: state.map(|opaque| carrier(opaque).encode()),
        });
    }

    /// State that comes late, in the midst of text, waits: a seal would cut the text in two.
    fn before_text(&mut self, out: &mut Vec<Event>) {
        self.start(out);
        if self.reasoning.open || !self.spoken {
            self.seal(out);
        }
        self.spoken = true;
    }

    fn tell(&mut self, step: Option<Step>, out: &mut Vec<Event>) {
        let Some(Step { key, opens, piece }) = step else { return };
        if opens && let Some(call) = self.calls.get(key) {
            let (id, name, kind) = (call.id.clone(), call.name.clone(), call.kind);
            let carrier = call.carrier(&self.model);
            self.start(out);
            self.seal(out);
            if let Some(carrier) = carrier {
                out.push(Event::ReasonSeal {
                    state: Some(carrier.encode()),
                });
            }
            self.spoken = true;
            out.push(Event::ToolOpen { key, id, name, kind });
        } else if self.reasoning.open {
            self.seal(out);
        }
        if !piece.is_empty() {
            out.push(Event::ToolArgs { key, piece });
        }
    }

    /// Closes the turn as `ending` says, or as the calls prove it.
    fn close(&mut self, ending: Ending, out: &mut Vec<Event>) -> Result<(), Failure> {
        self.over = true;
        self.start(out);
        for step in self.calls.settle(&self.upstream_id)? {
            self.tell(Some(step), out);
        }
        let cut = matches!(ending, Ending::Length | Ending::ContentFilter);
        for call in self.calls.open() {
            let whole = call.is_complete() && !call.input.is_empty();
            if let Some(key) = call.key {
                out.push(Event::ToolClose {
                    key,
                    complete: whole || !cut,
                });
            }
        }
        self.seal(out);
        out.push(Event::Finish(match ending {
            Ending::ToolCalls | Ending::Stop if !self.calls.is_empty() => Finish::ToolCalls,
            Ending::ToolCalls | Ending::Stop if self.refused && !self.text => Finish::Refusal,
            Ending::ToolCalls | Ending::Stop => Finish::Stop,
            Ending::Length => Finish::Length,
            Ending::ContentFilter => Finish::ContentFilter,
        }));
        Ok(())
    }
}

impl Reader for FromChat {
    fn feed(&mut self, frame: &Frame, out: &mut Vec<Event>) -> Result<(), Failure> {
        let data = frame.data.trim_ascii();
        if self.over || data.is_empty() {
            return Ok(());
        }
        self.calls.guard.event()?;
        if frame.is_done() {
            let ending = self
                .finish
                .or_else(|| Ending::inferred(&self.calls, self.text || self.refused));
            return self.close(ending.ok_or_else(Failure::truncated)?, out);
        }
        let chunk = read(data)?;
        self.chunk(&chunk, out)
    }

    fn end(&mut self, out: &mut Vec<Event>) -> Result<(), Failure> {
        if self.over {
            return Ok(());
        }
        self.close(self.finish.ok_or_else(Failure::truncated)?, out)
    }

    fn whole(&mut self, answer: &Value, out: &mut Vec<Event>) -> Result<(), Failure> {
        for frame in read_whole(answer)? {
            self.feed(&frame, out)?;
        }
        self.end(out)
    }

    fn is_told(&self) -> bool {
        self.finish.is_some()
    }

    fn nano_aiu(&self) -> Option<u64> {
        self.nano_aiu
    }
}

/// Reads a chunk; what upstream says of its own failure, or what is no chunk, is a failure.
pub fn read(data: &[u8]) -> Result<Chunk<'_>, Failure> {
    let garbage = || Failure::new(Kind::Stream, "upstream sent an event that is not JSON");
    let chunk = Chunk::read(data).ok_or_else(garbage)?;
    if chunk.is_error() {
        let said: Value = serde_json::from_slice(data).map_err(|_| garbage())?;
        return Err(upstream_failure::in_stream(&said));
    }
    Ok(chunk)
}

/// The stream that would have brought a whole answer; what is no answer is a failure.
pub fn read_whole(answer: &Value) -> Result<Vec<Frame>, Failure> {
    if answer["choices"].as_array().is_some_and(|choices| !choices.is_empty()) {
        return Ok(fold::unfold(Protocol::Chat, answer));
    }
    Err(match answer.get("error").or(answer.get("message")) {
        Some(_) => upstream_failure::in_stream(answer),
        None => Failure::new(Kind::UpstreamGarbage, "upstream's answer has no choices"),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::translate::rules;
    use crate::translate::turn::ToolKind;

    fn reader() -> FromChat {
        FromChat::new(&Reply {
            ran: "m".into(),
            ..Reply::default()
        })
    }

    fn feed(frames: &[&str], end: bool) -> Result<Vec<Event>, Failure> {
        let (mut reader, mut out) = (reader(), Vec::new());
        for frame in frames {
            reader.feed(&Frame::data((*frame).to_owned()), &mut out)?;
        }
        if end {
            reader.end(&mut out)?;
        }
        Ok(out)
    }

    /// Each delta in a chunk of its own, an ending, and `[DONE]`; the start is left out.
    fn told(deltas: &[&str], finish: &str) -> Vec<Event> {
        let mut frames: Vec<String> = deltas
            .iter()
            .map(|delta| format!(r#"{{"id":"c","choices":[{{"index":0,"delta":{delta}}}]}}"#))
            .collect();
        frames.push(format!(
            r#"{{"id":"c","choices":[{{"index":0,"delta":{{}},"finish_reason":"{finish}"}}]}}"#
        ));
        frames.push("[DONE]".into());
        let frames: Vec<&str> = frames.iter().map(String::as_str).collect();
        let mut events = feed(&frames, true).unwrap();
        assert!(matches!(events.remove(0), Event::Start { .. }));
        events
    }

    fn text(text: &str) -> Event {
        Event::Text(text.into())
    }

    fn open(key: usize, id: &str, name: &str) -> Event {
        Event::ToolOpen {
            key,
            id: id.into(),
            name: name.into(),
            kind: ToolKind::Function,
        }
    }

    fn args(key: usize, piece: &str) -> Event {
        Event::ToolArgs {
            key,
            piece: piece.into(),
        }
    }

    fn close(key: usize, complete: bool) -> Event {
        Event::ToolClose { key, complete }
    }

    fn seal(opaque: &str) -> Event {
        let carrier = Carrier::Opaque {
            model: "m".into(),
            opaque: opaque.into(),
        };
        Event::ReasonSeal {
            state: Some(carrier.encode()),
        }
    }

    #[test]
    fn k060_text_a_call_usage_and_the_end() {
        let events = feed(
            &[
                r#"{"choices":[],"created":0,"id":"","prompt_filter_results":[]}"#,
                r#"{"choices":[{"delta":{"content":"","role":"assistant"},"index":0}],"created":7,"id":"c"}"#,
                r#"{"choices":[{"delta":{"content":"a"},"index":0}],"created":7,"id":"c"}"#,
                r#"{"choices":[{"delta":{"content":null,"tool_calls":[{"function":{"arguments":"","name":"f"},"id":"t","index":0,"type":"function"}]},"index":0}],"id":"c"}"#,
                r#"{"choices":[{"delta":{"tool_calls":[{"function":{"arguments":"{}"},"index":0}]},"index":0}],"id":"c"}"#,
                r#"{"choices":[{"delta":{"content":null},"finish_reason":"tool_calls","index":0}],"id":"c"}"#,
                r#"{"choices":[],"id":"c","usage":{"prompt_tokens":100,"completion_tokens":5,"total_tokens":105,"prompt_tokens_details":{"cached_tokens":80}}}"#,
                "[DONE]",
                r#"{"choices":[{"delta":{"content":"late"}}]}"#,
            ],
            true,
        )
        .unwrap();
        let usage = Usage {
            input: Some(100),
            cached: Some(80),
            output: Some(5),
            ..Usage::default()
        };
        assert_eq!(
            events,
            [
                Event::Start {
                    upstream_id: "c".into(),
                    created: Some(7)
                },
                text("a"),
                open(0, "t", "f"),
                args(0, "{}"),
                Event::Usage(usage),
                close(0, true),
                Event::Finish(Finish::ToolCalls),
            ]
        );
    }

    #[test]
    fn k061_every_choice_is_read() {
        let events = feed(
            &[
                r#"{"id":"c","choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}]}"#,
                r#"{"id":"c","choices":[{"index":1,"delta":{"tool_calls":[{"index":0,"id":"t","function":{"name":"f","arguments":"{}"}}]},"finish_reason":"tool_calls"}]}"#,
                "[DONE]",
            ],
            true,
        )
        .unwrap();
        assert_eq!(
            events[1..],
            [
                text("a"),
                open(0, "t", "f"),
                args(0, "{}"),
                close(0, true),
                Event::Finish(Finish::ToolCalls)
            ]
        );
    }

    #[test]
    fn k062_k063_k064_the_ending_agrees_with_the_calls() {
        let call = r#"{"tool_calls":[{"index":0,"id":"t","function":{"name":"f","arguments":"{}"}}]}"#;
        assert_eq!(told(&[call], "stop").last(), Some(&Event::Finish(Finish::ToolCalls)));
        assert_eq!(told(&[], "tool_calls"), [Event::Finish(Finish::Stop)]);
        assert_eq!(told(&[], "content_filter"), [Event::Finish(Finish::ContentFilter)]);
        assert_eq!(told(&[], "length"), [Event::Finish(Finish::Length)]);
        let refusal = told(&[r#"{"refusal":"no"}"#], "stop");
        assert_eq!(refusal, [Event::Refusal("no".into()), Event::Finish(Finish::Refusal)]);
    }

    #[test]
    fn k066_k067_calls_side_by_side() {
        let whole = r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{"}},{"index":1,"id":"b","function":{"name":"g","arguments":"["}}]}"#;
        let rest =
            r#"{"tool_calls":[{"index":0,"function":{"arguments":"}"}},{"index":1,"function":{"arguments":"]"}}]}"#;
        assert_eq!(
            told(&[whole, rest], "tool_calls"),
            [
                open(0, "a", "f"),
                args(0, "{"),
                open(1, "b", "g"),
                args(1, "["),
                args(0, "}"),
                args(1, "]"),
                close(0, true),
                close(1, true),
                Event::Finish(Finish::ToolCalls)
            ]
        );
    }

    #[test]
    fn k068_a_call_without_arguments_is_complete_unless_it_was_cut() {
        let call = r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"f"}}]}"#;
        assert_eq!(told(&[call], "tool_calls")[1], close(0, true));
        assert_eq!(told(&[call], "length")[1], close(0, false));
        let half = r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{\"a\""}}]}"#;
        assert_eq!(told(&[half], "length")[2], close(0, false));
    }

    #[test]
    fn k116_arguments_that_are_no_json_are_still_all_there_is() {
        let call = r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"*** Begin"}}]}"#;
        assert_eq!(told(&[call], "tool_calls")[2], close(0, true));
    }

    #[test]
    fn k072_state_that_comes_after_its_reasoning_seals_it() {
        let events = told(
            &[
                r#"{"reasoning_text":"hm","reasoning_content":"hm"}"#,
                r#"{"content":"","reasoning_opaque":"S"}"#,
                r#"{"content":"a"}"#,
            ],
            "stop",
        );
        assert_eq!(
            events,
            [
                Event::Reason("hm".into()),
                seal("S"),
                text("a"),
                Event::Finish(Finish::Stop)
            ]
        );
    }

    #[test]
    fn k073_state_that_comes_last_is_told_last() {
        let late = told(
            &[
                r#"{"content":"a"}"#,
                r#"{"reasoning_opaque":"S"}"#,
                r#"{"content":"b"}"#,
            ],
            "stop",
        );
        assert_eq!(late, [text("a"), text("b"), seal("S"), Event::Finish(Finish::Stop)]);
    }

    #[test]
    fn state_without_words_stands_before_what_it_led_to() {
        let call = r#"{"reasoning_opaque":"S","tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{}","thought_signature":"sig"}}]}"#;
        let events = told(&[r#"{"content":"a"}"#, call], "tool_calls");
        let Event::ReasonSeal { state: Some(state) } = &events[2] else {
            panic!("{events:?}")
        };
        assert_eq!(
            Carrier::decode(state),
            Some(Carrier::Call {
                model: "m".into(),
                id: "a".into(),
                fields: json!({"thought_signature": "sig"}).as_object().unwrap().clone()
            })
        );
        assert_eq!((&events[1], &events[3]), (&seal("S"), &open(0, "a", "f")));
    }

    #[test]
    fn k071_text_may_follow_a_call() {
        let call = r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}}]}"#;
        let events = told(&[call, r#"{"content":"b"}"#], "tool_calls");
        assert_eq!(events[2..4], [text("b"), close(0, true)]);
    }

    #[test]
    fn k087_an_empty_answer_is_one() {
        assert_eq!(told(&[], "stop"), [Event::Finish(Finish::Stop)]);
    }

    #[test]
    fn an_ending_is_inferred_only_from_a_whole_answer() {
        let text = r#"{"id":"c","choices":[{"delta":{"content":"a"}}]}"#;
        let call = |arguments: &str| {
            json!({"id": "c", "choices": [{"delta": {"tool_calls": [
                {"index": 0, "id": "t", "function": {"name": "f", "arguments": arguments}}]}}]})
            .to_string()
        };
        let last = |frames: &[&str], end| feed(frames, end).map(|events| events.last().cloned().unwrap());
        assert_eq!(last(&[text, "[DONE]"], false), Ok(Event::Finish(Finish::Stop)));
        assert_eq!(
            last(&[&call("{}"), "[DONE]"], false),
            Ok(Event::Finish(Finish::ToolCalls))
        );
        assert_eq!(last(&[&call("{"), "[DONE]"], false), Err(Failure::truncated()));
        assert_eq!(last(&["[DONE]"], false), Err(Failure::truncated()));
        assert_eq!(last(&[text], true), Err(Failure::truncated()));
        let finish = r#"{"id":"c","choices":[{"delta":{},"finish_reason":"stop"}]}"#;
        assert_eq!(last(&[text, finish], true), Ok(Event::Finish(Finish::Stop)));
    }

    #[test]
    fn what_is_no_ending_and_no_chunk_is_a_failure() {
        for frame in [
            r#"{"choices":[{"delta":{},"finish_reason":"error"}]}"#,
            r#"{"choices":[{"delta":{},"finish_reason":"tired"}]}"#,
            "{",
            "[]",
        ] {
            assert_eq!(feed(&[frame], false).unwrap_err().kind, Kind::Stream, "{frame}");
        }
        assert_eq!(feed(&["", "  "], false), Ok(vec![]));
    }

    #[test]
    fn k171_keys_in_any_order_and_an_id_that_comes_late() {
        let events = feed(
            &[
                r#"{"choices":[],"created":0,"id":""}"#,
                r#"{"choices":[{"delta":{"content":"a","role":"assistant"},"index":0}],"created":5,"id":"c","object":"x"}"#,
            ],
            false,
        )
        .unwrap();
        assert_eq!(
            events[0],
            Event::Start {
                upstream_id: "c".into(),
                created: Some(5)
            }
        );
    }

    #[test]
    fn a_call_in_the_old_spelling() {
        let events = told(
            &[
                r#"{"function_call":{"name":"f","arguments":""}}"#,
                r#"{"function_call":{"arguments":"{}"}}"#,
            ],
            "function_call",
        );
        assert!(matches!(&events[0], Event::ToolOpen { name, id, .. } if name == "f" && id.starts_with("call_")));
        assert_eq!(events[1..3], [args(0, "{}"), close(0, true)]);
    }

    #[test]
    fn a_whole_answer_is_its_stream() {
        let answer = json!({"id": "c", "created": 7, "choices": [
            {"index": 0, "message": {"content": "a", "padding": "abc", "reasoning_text": "hm"}, "finish_reason": "stop"},
            {"index": 1, "message": {"content": "b", "tool_calls": [
                {"id": "t", "function": {"name": "f", "arguments": {"x": 1}}}]}, "finish_reason": "tool_calls"},
        ], "usage": {"prompt_tokens": 1}, "copilot_usage": {"total_nano_aiu": 3}});
        let (mut reader, mut out) = (reader(), Vec::new());
        reader.whole(&answer, &mut out).unwrap();
        assert_eq!(
            out[1..6],
            [
                Event::Reason("hm".into()),
                Event::ReasonSeal { state: None },
                text("a"),
                text("b"),
                open(0, "t", "f"),
            ]
        );
        assert_eq!(out[6], args(0, "{\"x\":1}"));
        assert_eq!(reader.nano_aiu(), Some(3));
    }

    #[test]
    fn what_upstream_says_of_its_failure_is_one() {
        let error = r#"{"error":{"code":"rate_limited","message":"slow down"}}"#;
        let failure = feed(&[error], false).unwrap_err();
        assert_eq!(
            (failure.kind, failure.message.as_str()),
            (Kind::RateLimited, "slow down")
        );
        assert_eq!(feed(&[r#"{"message":"broken"}"#], false).unwrap_err().message, "broken");
        let whole = |answer: Value| reader().whole(&answer, &mut Vec::new()).unwrap_err();
        assert_eq!(whole(json!({"error": {"message": "m"}})).message, "m");
        for answer in [json!(null), json!({}), json!({"choices": []}), json!("x")] {
            assert_eq!(whole(answer).kind, Kind::UpstreamGarbage);
        }
    }

    proptest::proptest! {
        /// Whatever comes, nothing panics and the turn keeps its contract.
        #[test]
        fn any_chunks_give_an_orderly_turn(deltas in proptest::collection::vec(rules::any_json(), 0..6), whole in rules::any_json()) {
            let (mut reader, mut out) = (reader(), Vec::new());
            for delta in &deltas {
                let chunk = json!({"id": "c", "choices": [{"index": 0, "delta": delta}]});
                let _ = reader.feed(&Frame::data(chunk.to_string()), &mut out);
            }
            let _ = reader.feed(&Frame::data("[DONE]"), &mut out);
            orderly(&out);
            let _ = FromChat::new(&Reply::default()).whole(&json!({"choices": [{"message": whole}]}), &mut Vec::new());
            let _ = FromChat::new(&Reply::default()).whole(&whole, &mut Vec::new());
        }
    }

    fn orderly(events: &[Event]) {
        let mut open = Vec::new();
        for (at, event) in events.iter().enumerate() {
            assert_eq!(at == 0, matches!(event, Event::Start { .. }));
            match event {
                Event::ToolOpen { key, .. } => open.push(*key),
                Event::ToolArgs { key, .. } => assert!(open.contains(key)),
                Event::ToolClose { key, .. } => open.retain(|one| one != key),
                Event::Finish(_) => assert!(open.is_empty() && at == events.len() - 1),
                Event::Reason(_) => assert!(matches!(
                    events.get(at + 1),
                    None | Some(Event::Reason(_) | Event::ReasonSeal { .. } | Event::Usage(_))
                )),
                _ => {}
            }
        }
    }

    #[test]
    fn k085_a_call_that_runs_away_is_cut_off() {
        let call = json!({"id": "c", "choices": [{"delta": {"tool_calls": [
            {"index": 0, "id": "t", "function": {"name": "f", "arguments": "\n".repeat(30)}}]}}]});
        assert_eq!(feed(&[&call.to_string()], false).unwrap_err().kind, Kind::Stream);
    }
}
