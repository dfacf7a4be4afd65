//! A chat answer on its way to a chat client. Knows the gaps in Copilot's chunks; not what the answer says.
//!
//! Chunks are mended in place: what is not mended is copied as bytes, and no tree is built. Choices are merged into
//! one, since some models spread one answer over several; so an ending is told only when upstream has said all.

use serde_json::Value;
use serde_json::value::RawValue;

use super::whole;
use crate::protocol::Protocol;
use crate::protocol::failure::Failure;
use crate::protocol::sse::Frame;
use crate::translate::calls::{Calls, Step};
use crate::translate::carrier::Carrier;
use crate::translate::chunk::{self, Choice, Chunk, Delta, Fragment, REASONING, Unknown};
use crate::translate::chunk_writer::{self, ChunkWriter, Fields};
use crate::translate::from_chat::{self, Ending};
use crate::translate::ids::Ids;
use crate::translate::{Heard, Kept, Object, Reply, Translator, fold};

/// The stream as the client should see it.
#[derive(Debug)]
pub struct Relay {
    reply: Reply,
    ids: Ids,
    /// Set by the first chunk that is told.
    chunks: Option<ChunkWriter>,
    upstream_id: String,
    created: Option<u64>,
    /// The role has been told.
    begun: bool,
    calls: Calls,
    /// The call came in the old spelling, and goes on so.
    legacy: bool,
    /// Something of the answer itself was told.
    text: bool,
    reasoning: String,
    opaque: String,
    finish: Option<Ending>,
    /// Upstream's last count, as JSON.
    usage: Option<String>,
    heard: Heard,
    over: bool,
}

impl Relay {
    pub fn new(reply: Reply, ids: Ids) -> Self {
        Self {
            reply,
            ids,
            chunks: None,
            upstream_id: String::new(),
            created: None,
            begun: false,
            calls: Calls::default(),
            legacy: false,
            text: false,
            reasoning: String::new(),
            opaque: String::new(),
            finish: None,
            usage: None,
            heard: Heard::default(),
            over: false,
        }
    }

    fn chunk(&mut self, chunk: &Chunk, out: &mut Vec<Frame>) -> Result<(), Failure> {
        if self.upstream_id.is_empty() {
            self.upstream_id.push_str(&chunk.id);
        }
        self.created = self.created.or(chunk.created.0.filter(|&created| created > 0));
        if let Some(usage) = chunk.usage {
            self.heard.usage.update(&chunk::usage(usage));
            self.usage = Some(without_accounts(usage));
        }
        self.heard.nano_aiu = chunk.nano_aiu().or(self.heard.nano_aiu);
        for choice in &chunk.choices {
            if !choice.finish_reason.is_empty() {
                self.finish = self.finish.max(Some(Ending::read(&choice.finish_reason)?));
            }
            self.choice(&chunk.rest, choice, out)?;
        }
        Ok(())
    }

    fn choice(&mut self, shared: &[Unknown], choice: &Choice, out: &mut Vec<Frame>) -> Result<(), Failure> {
        let delta = &choice.delta;
        let calls = self.calls_of(choice)?;
        self.note(delta);
        let beside = choice.rest.iter().any(|(_, raw)| raw.get() != "null");
        if self.begun && calls.is_empty() && !says(delta) && !beside {
            return Ok(());
        }
        let begins = !std::mem::replace(&mut self.begun, true);
        let alias = self.reply.reasoning_alias;
        let chunks = self.chunks();
        out.push(chunks.delta(shared, &choice.rest, None, |fields| {
            if begins {
                fields.set("role", "assistant");
            }
            write(fields, delta, alias, begins && calls.is_empty());
            if !calls.is_empty() {
                fields.raw("tool_calls", &format!("[{}]", calls.join(",")));
            }
        }));
        Ok(())
    }

    /// What the tool calls of a choice come to, each as the JSON of a fragment that a client can follow.
    fn calls_of(&mut self, choice: &Choice) -> Result<Vec<String>, Failure> {
        let index = choice.index.0.unwrap_or(0);
        let mut told = Vec::new();
        for fragment in &choice.delta.tool_calls {
            if let Some(step) = self.calls.take(index, fragment)? {
                told.push(self.fragment(&step, Some(fragment)));
            }
        }
        if let Some(function) = choice.delta.function_call {
            self.legacy = true;
            self.calls.take_legacy(index, function)?;
        }
        Ok(told)
    }

    fn fragment(&self, step: &Step, source: Option<&Fragment>) -> String {
        let Some(call) = self.calls.get(step.key) else {
            return String::new();
        };
        chunk_writer::object(|fields| {
            fields.set("index", &step.key);
            if step.opens {
                fields.set("id", &call.id);
            }
            let name = self.reply.tools.get(&call.name).map_or(&call.name, |tool| &tool.name);
            let function = source.and_then(|fragment| fragment.function.as_ref().or(fragment.custom.as_ref()));
            let rest = function.map(|function| function.rest.as_slice()).unwrap_or_default();
            chunk_writer::call_body(fields, call.kind, step.opens.then_some(name), &step.piece, rest);
            fields.rest(source.map(|fragment| fragment.rest.as_slice()).unwrap_or_default());
        })
    }

    /// Keeps what later requests may need, and what tells a whole answer from a cut one.
    fn note(&mut self, delta: &Delta) {
        let filled = |raw: Option<&RawValue>| raw.is_some_and(|raw| !matches!(raw.get(), "\"\"" | "[]"));
        self.text |= filled(delta.content) || filled(delta.refusal);
        self.reasoning.push_str(&delta.reasoning());
        if !delta.reasoning_opaque.is_empty() {
            self.opaque = delta.reasoning_opaque.to_string();
        }
    }

    fn chunks(&mut self) -> &ChunkWriter {
        let (reply, ids, upstream_id) = (&self.reply, &mut self.ids, &self.upstream_id);
        let created = self.created.unwrap_or(ids.created);
        self.chunks.get_or_insert_with(|| {
            let id = match upstream_id.as_str() {
                "" => ids.mint("chatcmpl-"),
                id => id.to_owned(),
            };
            ChunkWriter::new(&id, created, &reply.model, reply.include_usage)
        })
    }

    fn close(&mut self, ending: Ending, out: &mut Vec<Frame>) -> Result<(), Failure> {
        if !self.legacy {
            for step in self.calls.settle(&self.upstream_id)? {
                let call = self.fragment(&step, None);
                let begins = !std::mem::replace(&mut self.begun, true);
                let frame = self.chunks().delta(&[], &[], None, |fields| {
                    if begins {
                        fields.set("role", "assistant");
                    }
                    fields.raw("tool_calls", &format!("[{call}]"));
                });
                out.push(frame);
            }
        }
        let called = !self.calls.is_empty();
        let reason = match ending {
            Ending::Stop | Ending::ToolCalls if self.legacy => "function_call",
            Ending::Stop | Ending::ToolCalls if called => "tool_calls",
            Ending::Stop | Ending::ToolCalls => "stop",
            Ending::Length => "length",
            Ending::ContentFilter => "content_filter",
        };
        let begins = !std::mem::replace(&mut self.begun, true);
        let usage = self.usage.take().filter(|_| self.reply.include_usage);
        let chunks = self.chunks();
        out.push(chunks.delta(&[], &[], Some(reason), |fields| {
            if begins {
                fields.set("role", "assistant");
                fields.set("content", "");
            }
        }));
        out.extend(usage.map(|usage| chunks.usage(&[], &usage)));
        out.push(chunk_writer::done());
        self.over = true;
        self.keep();
        Ok(())
    }

    /// Reasoning state, for clients that will not send it back with their calls.
    fn keep(&mut self) {
        let model = &self.reply.ran;
        let opaque = Some(&self.opaque).filter(|opaque| !opaque.is_empty());
        let opaque = opaque.map(|opaque| Carrier::Opaque {
            model: model.clone(),
            opaque: opaque.clone(),
        });
        for call in self.calls.open() {
            let carriers: Vec<String> = opaque.iter().chain(&call.carrier(model)).map(Carrier::encode).collect();
            if !carriers.is_empty() {
                let kept = Kept {
                    model: model.clone(),
                    text: self.reasoning.clone(),
                    carriers,
                };
                self.heard.kept.push((call.id.clone(), kept));
            }
        }
    }
}

impl Translator for Relay {
    fn feed(&mut self, frame: Frame, out: &mut Vec<Frame>) -> Result<(), Failure> {
        let data = frame.data.trim_ascii();
        if self.over || data.is_empty() {
            return Ok(());
        }
        self.calls.guard.event()?;
        if frame.is_done() {
            let ending = self.finish.or_else(|| Ending::inferred(&self.calls, self.text));
            return self.close(ending.ok_or_else(Failure::truncated)?, out);
        }
        let chunk = from_chat::read(data)?;
        self.chunk(&chunk, out)
    }

    fn end(&mut self, out: &mut Vec<Frame>) -> Result<(), Failure> {
        if self.over {
            return Ok(());
        }
        self.close(self.finish.ok_or_else(Failure::truncated)?, out)
    }

    fn whole(&mut self, answer: Value, out: &mut Vec<Frame>) -> Result<(), Failure> {
        for frame in from_chat::read_whole(&answer)? {
            self.feed(frame, out)?;
        }
        self.end(out)
    }

    /// As the stream that would have brought it, which for mere words need not be written.
    fn answer(&mut self, answer: Value) -> Result<Value, Failure> {
        let Some(ending) = whole::ending(&answer) else {
            return fold::through(Protocol::Chat, self, answer);
        };
        self.heard = whole::heard(&answer);
        self.over = true;
        Ok(whole::edited(answer, ending, &self.reply, &mut self.ids))
    }

    fn fail(&mut self, failure: &Failure, out: &mut Vec<Frame>) {
        if !std::mem::replace(&mut self.over, true) {
            chunk_writer::fail(failure, out);
        }
    }

    fn is_over(&self) -> bool {
        self.over
    }

    fn heard(&self) -> &Heard {
        &self.heard
    }
}

/// Whether a delta tells a client anything.
fn says(delta: &Delta) -> bool {
    let filled = |raw: &Option<&RawValue>| raw.is_some_and(|raw| raw.get() != "\"\"");
    filled(&delta.content)
        || filled(&delta.refusal)
        || delta.reasoning.iter().any(filled)
        || !delta.reasoning_opaque.is_empty()
        || delta.function_call.is_some()
        || !delta.rest.is_empty()
}

/// Writes a delta's fields but its calls. The first delta always has a content.
fn write(fields: &mut Fields, delta: &Delta, alias: bool, begins: bool) {
    match delta.content {
        Some(content) => fields.raw("content", content.get()),
        None if begins => fields.set("content", ""),
        None => {}
    }
    for (name, raw) in REASONING.iter().zip(delta.reasoning) {
        if let Some(raw) = raw {
            fields.raw(name, raw.get());
        }
    }
    if let [Some(text), None, ..] = delta.reasoning
        && alias
    {
        fields.raw("reasoning_content", text.get());
    }
    if !delta.reasoning_opaque.is_empty() {
        fields.set("reasoning_opaque", &*delta.reasoning_opaque);
    }
    for (name, raw) in [("refusal", delta.refusal), ("function_call", delta.function_call)] {
        if let Some(raw) = raw {
            fields.raw(name, raw.get());
        }
    }
    fields.rest(&delta.rest);
}

/// A usage object as upstream wrote it, without Copilot's own account inside.
fn without_accounts(usage: &RawValue) -> String {
    let text = usage.get();
    if !text.contains("\"copilot_") {
        return text.to_owned();
    }
    let mut fields: Object = serde_json::from_str(text).unwrap_or_default();
    fields.retain(|name, _| !name.starts_with("copilot_"));
    Value::Object(fields).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::protocol::Protocol;
    use crate::translate::bridge::Bridge;
    use crate::translate::from_chat::FromChat;
    use crate::translate::to_chat::ToChat;
    use crate::translate::{ClientTool, fold, rules};

    fn reply() -> Reply {
        Reply {
            model: "asked".into(),
            ran: "ran".into(),
            ..Reply::default()
        }
    }

    struct Told {
        chunks: Vec<Value>,
        heard: Heard,
    }

    fn relayed(reply: Reply, frames: &[&str]) -> Result<Told, Failure> {
        let (mut relay, mut out) = (Relay::new(reply, Ids::new("req", 9)), Vec::new());
        for frame in frames {
            relay.feed(Frame::data((*frame).to_owned()), &mut out)?;
        }
        relay.end(&mut out)?;
        assert!(relay.is_over());
        Ok(Told {
            chunks: out.iter().map(value).collect(),
            heard: relay.heard().clone(),
        })
    }

    fn value(frame: &Frame) -> Value {
        serde_json::from_slice(&frame.data).unwrap_or_else(|_| "[DONE]".into())
    }

    fn deltas(chunks: &[Value]) -> Vec<String> {
        chunks
            .iter()
            .map(|chunk| chunk["choices"][0]["delta"].to_string())
            .collect()
    }

    fn whole(answer: Value) -> Value {
        let mut reply = reply();
        reply.include_usage = true;
        let (mut relay, mut out) = (Relay::new(reply, Ids::new("req", 9)), Vec::new());
        relay.whole(answer, &mut out).unwrap();
        let mut gather = fold::gather(Protocol::Chat);
        out.iter().for_each(|frame| gather.feed(frame).unwrap());
        gather.finish().unwrap()
    }

    const TEXT: &str = r#"{"id":"c","created":7,"model":"up","choices":[{"index":0,"delta":{"content":"a"}}]}"#;
    const STOP: &str =
        r#"{"id":"c","created":7,"choices":[{"index":0,"delta":{"content":null},"finish_reason":"stop"}]}"#;

    #[test]
    fn k091_gaps_are_filled_and_ids_stay_the_same() {
        let told = relayed(
            reply(),
            &[
                r#"{"choices":[],"created":0,"id":"","prompt_filter_results":[]}"#,
                r#"{"choices":[{"index":0,"content_filter_results":{},"delta":{"content":"a","padding":"xyz","role":null}}],"created":7,"id":"c","model":"up","system_fingerprint":"fp"}"#,
                r#"{"choices":[{"index":0,"delta":{"content":"b"}}],"id":"other"}"#,
                STOP,
                "[DONE]",
            ],
        )
        .unwrap();
        assert_eq!(
            told.chunks[0].to_string(),
            r#"{"id":"c","object":"chat.completion.chunk","created":7,"model":"asked","system_fingerprint":"fp","choices":[{"index":0,"delta":{"role":"assistant","content":"a"},"logprobs":null,"finish_reason":null}]}"#
        );
        assert!(
            told.chunks[..3]
                .iter()
                .all(|chunk| chunk["id"] == "c" && chunk["created"] == 7)
        );
        assert_eq!(deltas(&told.chunks)[1..3], [r#"{"content":"b"}"#, "{}"]);
        assert_eq!(told.chunks[2]["choices"][0]["finish_reason"], "stop");
        assert_eq!(told.chunks[3], "[DONE]");
        let nameless = relayed(reply(), &[r#"{"choices":[{"delta":{"content":"a"}}]}"#, STOP]).unwrap();
        assert!(nameless.chunks[0]["id"].as_str().unwrap().starts_with("chatcmpl-"));
        assert_eq!(nameless.chunks[0]["created"], 9);
    }

    #[test]
    fn k092_usage_comes_only_where_it_was_asked_for() {
        let frames = [
            TEXT,
            r#"{"id":"c","choices":[{"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7,"copilot_usage":{"total_nano_aiu":5}}}"#,
            r#"{"id":"c","choices":[],"usage":null}"#,
            "[DONE]",
        ];
        let told = relayed(reply(), &frames).unwrap();
        assert!(
            told.chunks[..2]
                .iter()
                .all(|chunk| chunk["choices"] != json!([]) && chunk.get("usage").is_none())
        );
        assert_eq!((told.heard.usage.output, told.heard.nano_aiu), (Some(4), Some(5)));
        let asked = Reply {
            include_usage: true,
            ..reply()
        };
        let told = relayed(asked, &frames).unwrap();
        assert!(told.chunks[0].as_object().unwrap().contains_key("usage"));
        assert_eq!(
            (&told.chunks[2]["choices"], told.chunks[2]["usage"].to_string().as_str()),
            (
                &json!([]),
                r#"{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}"#
            )
        );
        assert_eq!(told.chunks[3], "[DONE]");
    }

    #[test]
    fn k093_an_ending_is_added_only_to_a_whole_answer() {
        let told = relayed(reply(), &[TEXT, STOP]).unwrap();
        assert_eq!(told.chunks.last().unwrap(), "[DONE]");
        let told = relayed(reply(), &[TEXT, "[DONE]"]).unwrap();
        assert_eq!(told.chunks[1]["choices"][0]["finish_reason"], "stop");
        assert_eq!(relayed(reply(), &[TEXT]).err(), Some(Failure::truncated()));
        assert_eq!(relayed(reply(), &["[DONE]"]).err(), Some(Failure::truncated()));
        let (mut relay, mut out) = (Relay::new(reply(), Ids::new("r", 1)), Vec::new());
        relay.fail(&Failure::truncated(), &mut out);
        assert!(value(&out[0])["error"].is_object() && out[1].is_done() && relay.is_over());
    }

    #[test]
    fn k090_choices_become_one() {
        let answer = whole(json!({"id": "c", "created": 7, "model": "up", "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "a", "padding": "abc"}, "finish_reason": "stop"},
            {"index": 1, "message": {"role": "assistant", "content": null, "tool_calls": [
                {"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}, "finish_reason": "tool_calls"},
        ], "usage": {"prompt_tokens": 3}, "copilot_usage": {"total_nano_aiu": 0}, "prompt_filter_results": []}));
        assert_eq!(
            answer,
            json!({"id": "c", "object": "chat.completion", "created": 7, "model": "asked", "choices": [{
                "index": 0,
                "message": {"role": "assistant", "content": "a", "refusal": null, "tool_calls": [
                    {"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
                "logprobs": null,
                "finish_reason": "tool_calls",
            }], "usage": {"prompt_tokens": 3}, "system_fingerprint": null})
        );
    }

    #[test]
    fn choices_in_a_stream_become_one() {
        let told = relayed(
            reply(),
            &[
                r#"{"id":"c","choices":[{"index":0,"delta":{"role":"assistant","content":"a"},"finish_reason":"stop"}]}"#,
                r#"{"id":"c","choices":[{"index":1,"delta":{"role":"assistant","content":null,"tool_calls":[{"index":0,"id":"x","function":{"name":"f","arguments":"{}"}}]}}]}"#,
                r#"{"id":"c","choices":[{"index":2,"delta":{"tool_calls":[{"index":0,"id":"y","function":{"name":"g","arguments":"{"}}]}}]}"#,
                r#"{"id":"c","choices":[{"index":2,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"}"}}]},"finish_reason":"tool_calls"}]}"#,
                "[DONE]",
            ],
        )
        .unwrap();
        assert_eq!(
            deltas(&told.chunks),
            [
                r#"{"role":"assistant","content":"a"}"#,
                r#"{"tool_calls":[{"index":0,"id":"x","type":"function","function":{"name":"f","arguments":"{}"}}]}"#,
                r#"{"tool_calls":[{"index":1,"id":"y","type":"function","function":{"name":"g","arguments":"{"}}]}"#,
                r#"{"tool_calls":[{"index":1,"function":{"arguments":"}"}}]}"#,
                "{}",
                "null",
            ]
        );
        let endings = told
            .chunks
            .iter()
            .filter(|chunk| chunk["choices"][0]["finish_reason"].is_string());
        assert_eq!(endings.count(), 1);
        assert_eq!(told.chunks[4]["choices"][0]["finish_reason"], "tool_calls");
    }

    #[test]
    fn unknown_fields_pass_and_copilots_own_do_not() {
        let told = relayed(
            reply(),
            &[
                r#"{"id":"c","x":[1],"copilot_references":[],"choices":[{"index":0,"logprobs":{"content":[]},"delta":{"content":"a","y":{"z":1.50},"copilot_annotations":{}}}]}"#,
                STOP,
            ],
        )
        .unwrap();
        assert_eq!(
            told.chunks[0].to_string(),
            r#"{"id":"c","object":"chat.completion.chunk","created":9,"model":"asked","x":[1],"system_fingerprint":null,"choices":[{"index":0,"delta":{"role":"assistant","content":"a","y":{"z":1.5}},"logprobs":{"content":[]},"finish_reason":null}]}"#
        );
    }

    #[test]
    fn reasoning_is_shown_under_both_names_and_kept_for_its_calls() {
        let asked = Reply {
            reasoning_alias: true,
            ..reply()
        };
        let told = relayed(
            asked,
            &[
                r#"{"id":"c","choices":[{"delta":{"reasoning_text":"h\u00e4"}}]}"#,
                r#"{"id":"c","choices":[{"delta":{"content":"","reasoning_opaque":"S"}}]}"#,
                r#"{"id":"c","choices":[{"delta":{"tool_calls":[{"index":0,"id":"t","function":{"name":"f","arguments":"{}","thought_signature":"sig"}}]},"finish_reason":"tool_calls"}]}"#,
                "[DONE]",
            ],
        )
        .unwrap();
        assert_eq!(
            deltas(&told.chunks)[..3],
            [
                r#"{"role":"assistant","content":"","reasoning_text":"hä","reasoning_content":"hä"}"#,
                r#"{"content":"","reasoning_opaque":"S"}"#,
                r#"{"tool_calls":[{"index":0,"id":"t","type":"function","function":{"name":"f","arguments":"{}","thought_signature":"sig"}}]}"#,
            ]
        );
        let (id, kept) = &told.heard.kept[0];
        assert_eq!(
            (id.as_str(), kept.text.as_str(), kept.model.as_str()),
            ("t", "hä", "ran")
        );
        let carriers: Vec<Carrier> = kept.carriers.iter().filter_map(|text| Carrier::decode(text)).collect();
        assert!(matches!(&carriers[..], [Carrier::Opaque { opaque, .. }, Carrier::Call { .. }] if opaque == "S"));
    }

    #[test]
    fn names_come_back_and_ids_that_are_missing_are_made() {
        let tool = ClientTool {
            name: "a.b".into(),
            namespace: None,
            shape: crate::translate::ToolShape::Function,
        };
        let declared = Reply {
            tools: [("a_b_1".to_owned(), tool)].into(),
            ..reply()
        };
        let told = relayed(
            declared,
            &[
                r#"{"id":"c","choices":[{"delta":{"tool_calls":[{"index":0,"function":{"name":"a_b_1","arguments":"{}"}}]}}]}"#,
                r#"{"id":"c","choices":[{"delta":{},"finish_reason":"stop"}]}"#,
            ],
        )
        .unwrap();
        let call = told
            .chunks
            .iter()
            .find_map(|chunk| chunk["choices"][0]["delta"].get("tool_calls"))
            .unwrap();
        assert_eq!(call[0]["function"]["name"], "a.b");
        assert!(call[0]["id"].as_str().unwrap().starts_with("call_"));
        let last = &told.chunks[told.chunks.len() - 2];
        assert_eq!(last["choices"][0]["finish_reason"], "tool_calls");
    }

    #[test]
    fn what_is_no_ending_is_a_failure() {
        let error = r#"{"choices":[{"delta":{},"finish_reason":"error"}]}"#;
        assert!(relayed(reply(), &[TEXT, error]).is_err());
        let blanks = json!({"choices": [{"delta": {"tool_calls": [
            {"index": 0, "id": "t", "function": {"name": "f", "arguments": "\n".repeat(30)}}]}}]});
        assert!(relayed(reply(), &[&blanks.to_string()]).is_err());
    }

    fn gathered(mut translator: impl Translator, frames: &[String], answer: Option<&Value>) -> Value {
        let mut out = Vec::new();
        for frame in frames {
            translator.feed(Frame::data(frame.clone()), &mut out).unwrap();
        }
        match answer {
            Some(answer) => translator.whole(answer.clone(), &mut out).unwrap(),
            None => translator.end(&mut out).unwrap(),
        }
        let mut gather = fold::gather(Protocol::Chat);
        out.iter().for_each(|frame| gather.feed(frame).unwrap());
        gather.finish().unwrap()
    }

    /// The same answer, cut into chunks anywhere or whole, over the relay or through the turn's events.
    #[test]
    fn k168_whole_and_streamed_answers_are_equal() {
        let answer = json!({"id": "c", "created": 7, "choices": [{"index": 0, "message": {
            "reasoning_text": "thinking hard", "reasoning_opaque": "S", "content": "some words", "tool_calls": [
                {"id": "t", "type": "function", "function": {"name": "f", "arguments": "{\"a\": [1, 2]}"}},
                {"id": "u", "type": "function", "function": {"name": "g", "arguments": "{\"b\":\"ä\"}"}}]},
            "finish_reason": "tool_calls"}], "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}});
        let message = &answer["choices"][0]["message"];
        for size in 1..5 {
            let mut deltas = Vec::new();
            for name in ["reasoning_text", "content"] {
                deltas.extend(pieces(&message[name], size).map(|piece| json!({name: piece})));
            }
            deltas.insert(1, json!({"reasoning_opaque": "S"}));
            for (index, call) in rules::list(&message["tool_calls"]).iter().enumerate() {
                let name = &call["function"]["name"];
                deltas.push(json!({"tool_calls": [{"index": index, "id": call["id"], "function": {"name": name}}]}));
                let pieces = pieces(&call["function"]["arguments"], size);
                deltas.extend(
                    pieces.map(|piece| json!({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})),
                );
            }
            let chunk = |delta: &Value| json!({"id": "c", "created": 7, "choices": [{"index": 0, "delta": delta}]});
            let mut frames: Vec<String> = deltas.iter().map(|delta| chunk(delta).to_string()).collect();
            frames.push(
                json!({"id": "c", "choices": [{"delta": {}, "finish_reason": "tool_calls"}], "usage": answer["usage"]})
                    .to_string(),
            );
            frames.push("[DONE]".into());
            let reply = Reply {
                include_usage: true,
                show_reasoning: true,
                ..reply()
            };
            let ids = || Ids::new("r", 1);
            let relay = || Relay::new(reply.clone(), ids());
            assert_eq!(
                gathered(relay(), &frames, None),
                gathered(relay(), &[], Some(&answer)),
                "{size}"
            );
            let bridge = || Bridge::new(Protocol::Chat, FromChat::new(&reply), ToChat::new(reply.clone(), ids()));
            let streamed = gathered(bridge(), &frames, None);
            assert_eq!(streamed, gathered(bridge(), &[], Some(&answer)), "{size}");
            assert_eq!(streamed["choices"][0]["message"]["tool_calls"], message["tool_calls"]);
            assert_eq!(streamed["usage"]["total_tokens"], 7);
        }
    }

    fn pieces(text: &Value, size: usize) -> impl Iterator<Item = String> {
        let letters: Vec<char> = text.as_str().unwrap().chars().collect();
        let pieces: Vec<String> = letters.chunks(size).map(|piece| piece.iter().collect()).collect();
        pieces.into_iter()
    }

    proptest::proptest! {
        /// K167 on this route: whatever comes, nothing panics and the client can follow.
        #[test]
        fn any_chunks_give_a_stream_that_clients_can_follow(deltas in proptest::collection::vec(rules::any_json(), 0..6)) {
            let (mut relay, mut out) = (Relay::new(reply(), Ids::new("r", 1)), Vec::new());
            for delta in &deltas {
                let chunk = json!({"choices": [{"index": 0, "delta": delta}], "usage": delta});
                let _ = relay.feed(Frame::data(chunk.to_string()), &mut out);
            }
            if let Err(failure) = relay.feed(Frame::data("[DONE]"), &mut out) {
                relay.fail(&failure, &mut out);
            }
            let last = out.pop().unwrap();
            proptest::prop_assert!(last.is_done());
            let chunks: Vec<Value> = out.iter().map(|frame| serde_json::from_slice(&frame.data).unwrap()).collect();
            for (at, chunk) in chunks.iter().enumerate() {
                let delta = &chunk["choices"][0]["delta"];
                proptest::prop_assert!(chunk["error"].is_object() || (at == 0) == (delta["role"] == "assistant"));
                let ends = chunk["error"].is_object() || chunk["choices"][0]["finish_reason"].is_string();
                proptest::prop_assert_eq!(ends, at + 1 == chunks.len());
            }
        }
    }
}
