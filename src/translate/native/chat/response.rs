//! A chat answer on its way to a chat client. Knows the gaps in Copilot's chunks; not what the answer says.
//!
//! Chunks are mended in place: what is not mended is copied as bytes, and no tree is built. Choices are merged into
//! one, since some models spread one answer over several; so an ending is told only when upstream has said all.

use serde_json::Value;
use serde_json::value::RawValue;

use crate::protocol::Protocol;
use crate::protocol::failure::Failure;
use crate::protocol::sse::Frame;
use crate::translate::calls::{Calls, Step};
use crate::translate::carrier::Carrier;
use crate::translate::chunk::{self, Choice, Chunk, Delta, Fragment, REASONING, Rest};
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

    fn choice(&mut self, shared: &Rest, choice: &Choice, out: &mut Vec<Frame>) -> Result<(), Failure> {
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
        let none = Rest::new();
        chunk_writer::object(|fields| {
            fields.set("index", &step.key);
            if step.opens {
                fields.set("id", &call.id);
            }
            let name = self.reply.tools.get(&call.name).map_or(&call.name, |tool| &tool.name);
            let function = source.and_then(|fragment| fragment.function.as_ref().or(fragment.custom.as_ref()));
            let rest = function.map_or(&none, |function| &function.rest);
            chunk_writer::call_body(fields, call.kind, step.opens.then_some(name), &step.piece, rest);
            fields.rest(source.map_or(&none, |fragment| &fragment.rest));
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
        let none = Rest::new();
        if !self.legacy {
            for step in self.calls.settle(&self.upstream_id)? {
                let call = self.fragment(&step, None);
                let begins = !std::mem::replace(&mut self.begun, true);
                let frame = self.chunks().delta(&none, &none, None, |fields| {
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
        out.push(chunks.delta(&none, &none, Some(reason), |fields| {
            if begins {
                fields.set("role", "assistant");
                fields.set("content", "");
            }
        }));
        out.extend(usage.map(|usage| chunks.usage(&none, &usage)));
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
        for frame in fold::unfold(Protocol::Chat, &answer) {
            self.feed(frame, out)?;
        }
        self.end(out)
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
