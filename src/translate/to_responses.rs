//! The turn's events, as a Responses client's stream. Knows the order its clients count on; no upstream.
//!
//! Sequence numbers and output indexes run from 0 without a gap, every id is minted once, and the terminal event's
//! `output` is made of the very items that `response.output_item.done` brought.

use std::collections::BTreeMap;
use std::mem;

use serde::Serialize;
use serde_json::{Value, json};

use super::carrier::{Carrier, Compacted};
use super::ids::Ids;
use super::turn::{Citation, Event, Finish, Search, ToolKey, ToolKind, Usage};
use super::{Kept, Object, Reply, Writer, response_object};
use crate::protocol::failure::Failure;
use crate::protocol::sse::Frame;

mod calls;

use calls::Call;

pub struct ToResponses {
    reply: Reply,
    ids: Ids,
    stage: Stage,
    response: Object,
    sequence: u64,
    next_index: usize,
    /// Items that are done, by their output index.
    done: BTreeMap<usize, Value>,
    message: Option<Message>,
    reasoning: Option<Reasoning>,
    calls: BTreeMap<ToolKey, Call>,
    usage: Usage,
    /// The turn's reasoning so far.
    reasoned: Kept,
    kept: Vec<(String, Kept)>,
}

#[derive(PartialEq)]
enum Stage {
    Waiting,
    Running,
    /// Finished; only the usage is missing.
    Ending(Finish),
    Over,
}

struct Message {
    index: usize,
    id: String,
    /// Parts that are done.
    content: Vec<Value>,
    part: Part,
}

enum Part {
    Text { text: String, annotations: Vec<Value> },
    Refusal(String),
}

struct Reasoning {
    index: usize,
    id: String,
    text: String,
}

/// The events of which there are many, written without a tree.
#[derive(Default, Serialize)]
struct Delta<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    sequence_number: u64,
    item_id: &'a str,
    output_index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary_index: Option<usize>,
    delta: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<[(); 0]>,
}

impl ToResponses {
    pub fn new(reply: Reply, ids: Ids) -> Self {
        let reasoned = Kept {
            model: reply.ran.clone(),
            text: String::new(),
            carriers: Vec::new(),
        };
        Self {
            reply,
            ids,
            stage: Stage::Waiting,
            response: Object::new(),
            sequence: 0,
            next_index: 0,
            done: BTreeMap::new(),
            message: None,
            reasoning: None,
            calls: BTreeMap::new(),
            usage: Usage::default(),
            reasoned,
            kept: Vec::new(),
        }
    }
}

/// A whole stream that says nothing but a failure: the form in which Codex takes notice of some.
pub fn failed_stream(reply: Reply, ids: Ids, failure: &Failure) -> Vec<Frame> {
    let (mut writer, mut out) = (ToResponses::new(reply, ids), Vec::new());
    writer.create(None, &mut out);
    writer.fail(failure, &mut out);
    out
}

impl Writer for ToResponses {
    fn feed(&mut self, event: Event, out: &mut Vec<Frame>) -> Result<(), Failure> {
        match event {
            Event::Usage(usage) => {
                self.usage.update(&usage);
                self.conclude(false, out);
            }
            _ if !matches!(self.stage, Stage::Waiting | Stage::Running) => {}
            Event::Start { created, .. } => self.start(created, out),
            Event::Reason(text) => self.reason(&text, out),
            Event::ReasonSeal { state } => self.seal(state, out),
            Event::Text(text) => self.text(&text, out),
            Event::Refusal(text) => self.refuse(&text, out),
            Event::ToolOpen { key, id, name, kind } => self.open_call(key, id, name, kind, out),
            Event::ToolArgs { key, piece } => self.feed_call(key, &piece, out),
            Event::ToolClose { key, complete } => self.close_call(key, complete, out),
            Event::Search(search) => self.search(&search, out),
            Event::Cite(citation) => self.cite(&citation, out),
            Event::Compaction(item) => self.compaction(item, out),
            Event::Finish(finish) => self.finish(finish, out),
        }
        Ok(())
    }

    fn end(&mut self, out: &mut Vec<Frame>) {
        self.conclude(true, out);
    }

    fn fail(&mut self, failure: &Failure, out: &mut Vec<Frame>) {
        match mem::replace(&mut self.stage, Stage::Over) {
            Stage::Over => {}
            Stage::Waiting => out.push(Frame::named("error", response_object::error_event(failure).to_string())),
            Stage::Running | Stage::Ending(_) => {
                let output = mem::take(&mut self.done).into_values().collect();
                response_object::fail(&mut self.response, failure, output);
                self.say_response("response.failed", out);
            }
        }
    }

    fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    fn take_kept(&mut self) -> Vec<(String, Kept)> {
        mem::take(&mut self.kept)
    }
}

impl ToResponses {
    fn start(&mut self, created: Option<u64>, out: &mut Vec<Frame>) {
        self.create(created, out);
        self.say_response("response.in_progress", out);
    }

    fn create(&mut self, created: Option<u64>, out: &mut Vec<Frame>) {
        let id = self.ids.mint("resp_");
        self.response = response_object::begun(&self.reply, &id, created.unwrap_or(self.ids.created));
        self.stage = Stage::Running;
        self.say_response("response.created", out);
    }

    fn finish(&mut self, finish: Finish, out: &mut Vec<Frame>) {
        let cut = matches!(finish, Finish::Length | Finish::ContentFilter | Finish::ContextFull);
        self.close_reasoning(None, out);
        self.close_message(if cut { "incomplete" } else { "completed" }, out);
        for (_, call) in mem::take(&mut self.calls) {
            let complete = !cut && call.may_be_whole();
            self.say_call(call, complete, out);
        }
        self.stage = Stage::Ending(finish);
        self.conclude(false, out);
    }

    /// Writes the terminal event, once the turn is finished and its usage known or given up.
    fn conclude(&mut self, at_end: bool, out: &mut Vec<Frame>) {
        let Stage::Ending(finish) = &self.stage else { return };
        if !at_end && self.usage.output.is_none() {
            return;
        }
        let output = mem::take(&mut self.done).into_values().collect();
        let created = self.response.get("created_at").and_then(Value::as_u64);
        let completed = created.unwrap_or(0).max(self.ids.created);
        let kind = response_object::end(&mut self.response, finish, output, &self.usage, completed);
        self.say_response(kind, out);
        self.stage = Stage::Over;
    }

    fn say(&mut self, kind: &'static str, fields: Value, out: &mut Vec<Frame>) {
        let mut event = Object::new();
        event.insert("type".into(), json!(kind));
        event.insert("sequence_number".into(), json!(self.sequence));
        if let Value::Object(fields) = fields {
            event.extend(fields);
        }
        self.sequence += 1;
        out.push(Frame::named(kind, Value::Object(event).to_string()));
    }

    fn say_response(&mut self, kind: &'static str, out: &mut Vec<Frame>) {
        #[derive(Serialize)]
        struct Whole<'a> {
            #[serde(rename = "type")]
            kind: &'static str,
            sequence_number: u64,
            response: &'a Object,
        }
        let event = Whole {
            kind,
            sequence_number: self.sequence,
            response: &self.response,
        };
        self.sequence += 1;
        out.push(Frame::named(kind, serde_json::to_vec(&event).unwrap_or_default()));
    }

    fn say_delta(&mut self, mut delta: Delta, out: &mut Vec<Frame>) {
        delta.sequence_number = self.sequence;
        self.sequence += 1;
        out.push(Frame::named(delta.kind, serde_json::to_vec(&delta).unwrap_or_default()));
    }

    fn add_item(&mut self, index: usize, item: &Value, out: &mut Vec<Frame>) {
        let fields = json!({"output_index": index, "item": item});
        self.say("response.output_item.added", fields, out);
    }

    fn item_done(&mut self, index: usize, item: Value, out: &mut Vec<Frame>) {
        let fields = json!({"output_index": index, "item": item});
        self.say("response.output_item.done", fields, out);
        self.done.insert(index, item);
    }

    fn take_index(&mut self) -> usize {
        self.next_index += 1;
        self.next_index - 1
    }
}

/// Reasoning.
impl ToResponses {
    fn reason(&mut self, text: &str, out: &mut Vec<Frame>) {
        if text.is_empty() {
            return;
        }
        self.reasoned.text.push_str(text);
        if self.reasoning.is_none() {
            self.close_message("completed", out);
            let (index, id) = (self.take_index(), self.ids.mint("rs_"));
            self.add_item(index, &json!({"type": "reasoning", "id": id, "summary": []}), out);
            let part = json!({"type": "summary_text", "text": ""});
            let added = json!({"item_id": id, "output_index": index, "summary_index": 0, "part": part});
            self.say("response.reasoning_summary_part.added", added, out);
            let text = String::new();
            self.reasoning = Some(Reasoning { index, id, text });
        }
        if let Some(mut reasoning) = self.reasoning.take() {
            reasoning.text.push_str(text);
            let delta = Delta {
                kind: "response.reasoning_summary_text.delta",
                item_id: &reasoning.id,
                output_index: reasoning.index,
                summary_index: Some(0),
                delta: text,
                ..Delta::default()
            };
            self.say_delta(delta, out);
            self.reasoning = Some(reasoning);
        }
    }

    fn seal(&mut self, state: Option<String>, out: &mut Vec<Frame>) {
        self.reasoned.carriers.extend(state.clone());
        if self.reasoning.is_some() {
            self.close_reasoning(state, out);
        } else if let Some(state) = state {
            self.close_message("completed", out);
            let (index, id) = (self.take_index(), self.ids.mint("rs_"));
            self.add_item(index, &json!({"type": "reasoning", "id": id, "summary": []}), out);
            let item = json!({"type": "reasoning", "id": id, "summary": [], "encrypted_content": state});
            self.item_done(index, item, out);
        }
    }

    fn close_reasoning(&mut self, state: Option<String>, out: &mut Vec<Frame>) {
        let Some(Reasoning { index, id, text }) = self.reasoning.take() else {
            return;
        };
        let place = json!({"item_id": id, "output_index": index, "summary_index": 0});
        let part = json!({"type": "summary_text", "text": text});
        let text_done = with(&place, "text", json!(text));
        self.say("response.reasoning_summary_text.done", text_done, out);
        self.say(
            "response.reasoning_summary_part.done",
            with(&place, "part", part.clone()),
            out,
        );
        let mut item = json!({"type": "reasoning", "id": id, "summary": [part]});
        if let Some(state) = state {
            item = with(&item, "encrypted_content", json!(state));
        }
        self.item_done(index, item, out);
    }
}

/// The message.
impl ToResponses {
    fn text(&mut self, piece: &str, out: &mut Vec<Frame>) {
        if piece.is_empty() {
            return;
        }
        let mut message = match self.message.take() {
            Some(message) if matches!(message.part, Part::Text { .. }) => message,
            other => self.open_part(other, Part::text(), out),
        };
        if let Part::Text { text, .. } = &mut message.part {
            text.push_str(piece);
        }
        self.say_piece(&message, "response.output_text.delta", piece, Some([]), out);
        self.message = Some(message);
    }

    fn refuse(&mut self, piece: &str, out: &mut Vec<Frame>) {
        if piece.is_empty() {
            return;
        }
        let mut message = match self.message.take() {
            Some(message) if matches!(message.part, Part::Refusal(_)) => message,
            other => self.open_part(other, Part::Refusal(String::new()), out),
        };
        if let Part::Refusal(refusal) = &mut message.part {
            refusal.push_str(piece);
        }
        self.say_piece(&message, "response.refusal.delta", piece, None, out);
        self.message = Some(message);
    }

    fn say_piece(
        &mut self,
        message: &Message,
        kind: &'static str,
        delta: &str,
        logprobs: Option<[(); 0]>,
        out: &mut Vec<Frame>,
    ) {
        let delta = Delta {
            kind,
            item_id: &message.id,
            output_index: message.index,
            content_index: Some(message.content.len()),
            delta,
            logprobs,
            ..Delta::default()
        };
        self.say_delta(delta, out);
    }

    /// Opens a part: the next of the open message, or the first of a new one.
    fn open_part(&mut self, message: Option<Message>, part: Part, out: &mut Vec<Frame>) -> Message {
        let message = match message {
            Some(mut message) => {
                let done = self.say_part_done(&message, out);
                message.content.push(done);
                Message { part, ..message }
            }
            None => {
                self.close_reasoning(None, out);
                let (index, id) = (self.take_index(), self.ids.mint("msg_"));
                self.add_item(index, &message_item(&id, "in_progress", &[]), out);
                let content = Vec::new();
                Message {
                    index,
                    id,
                    content,
                    part,
                }
            }
        };
        let added = with(&message.place(), "part", message.part.to_value());
        self.say("response.content_part.added", added, out);
        message
    }

    fn say_part_done(&mut self, message: &Message, out: &mut Vec<Frame>) -> Value {
        let (place, part) = (message.place(), message.part.to_value());
        match &message.part {
            Part::Text { text, .. } => {
                let done = with(&with(&place, "text", json!(text)), "logprobs", json!([]));
                self.say("response.output_text.done", done, out);
            }
            Part::Refusal(refusal) => {
                let done = with(&place, "refusal", json!(refusal));
                self.say("response.refusal.done", done, out);
            }
        }
        self.say("response.content_part.done", with(&place, "part", part.clone()), out);
        part
    }

    fn close_message(&mut self, status: &str, out: &mut Vec<Frame>) {
        let Some(mut message) = self.message.take() else { return };
        let part = self.say_part_done(&message, out);
        message.content.push(part);
        let item = message_item(&message.id, status, &message.content);
        self.item_done(message.index, item, out);
    }

    /// A citation belongs to the text that is open; one whose place is unknown marks the text's end so far.
    fn cite(&mut self, citation: &Citation, out: &mut Vec<Frame>) {
        let Some(mut message) = self.message.take() else { return };
        let mut added = Value::Null;
        let place = message.place();
        if let Part::Text { text, annotations } = &mut message.part {
            let here = || text.chars().count() as u64;
            let annotation = json!({
                "type": "url_citation",
                "start_index": citation.start.unwrap_or_else(here),
                "end_index": citation.end.unwrap_or_else(here),
                "url": citation.url,
                "title": citation.title,
            });
            added = with(&place, "annotation_index", json!(annotations.len()));
            added = with(&added, "annotation", annotation.clone());
            annotations.push(annotation);
        }
        if !added.is_null() {
            self.say("response.output_text.annotation.added", added, out);
        }
        self.message = Some(message);
    }
}

/// Calls, searches, compactions.
impl ToResponses {
    fn open_call(&mut self, key: ToolKey, id: String, name: String, kind: ToolKind, out: &mut Vec<Frame>) {
        self.close_reasoning(None, out);
        self.close_message("completed", out);
        if !self.reasoned.carriers.is_empty() {
            self.kept.push((id.clone(), self.reasoned.clone()));
        }
        let tool = self.reply.tools.get(&name).cloned();
        let mut call = Call::new(id, name, kind, tool, &mut self.ids);
        if call.is_shown_early() {
            let index = self.take_index();
            call.index = Some(index);
            self.add_item(index, &call.opened(true), out);
        }
        self.calls.insert(key, call);
    }

    fn feed_call(&mut self, key: ToolKey, piece: &str, out: &mut Vec<Frame>) {
        let Some(mut call) = self.calls.remove(&key) else {
            return;
        };
        if !piece.is_empty() {
            call.arguments.push_str(piece);
            if call.is_live() {
                self.say_arguments(&call, "response.function_call_arguments.delta", piece, out);
            }
        }
        self.calls.insert(key, call);
    }

    fn close_call(&mut self, key: ToolKey, complete: bool, out: &mut Vec<Frame>) {
        // Bare text is no broken JSON to a freeform tool: how the turn ends will tell whether it was cut.
        let wait = |call: &Call| !complete && !call.is_live();
        if self.calls.get(&key).is_some_and(wait) {
            return;
        }
        if let Some(call) = self.calls.remove(&key) {
            self.say_call(call, complete, out);
        }
    }

    fn say_call(&mut self, mut call: Call, complete: bool, out: &mut Vec<Frame>) {
        let index = match call.index {
            Some(index) => index,
            None => {
                let index = self.take_index();
                self.add_item(index, &call.opened(complete), out);
                index
            }
        };
        call.index = Some(index);
        let item = call.closed(complete);
        if complete && call.is_live() {
            let arguments = &item["arguments"];
            if call.arguments.is_empty() {
                let all = arguments.as_str().unwrap_or_default();
                self.say_arguments(&call, "response.function_call_arguments.delta", all, out);
            }
            let done = json!({
                "item_id": call.item_id, "output_index": index, "name": item["name"], "arguments": arguments,
            });
            self.say("response.function_call_arguments.done", done, out);
        } else if complete && let Some(input) = item["input"].as_str() {
            self.say_arguments(&call, "response.custom_tool_call_input.delta", input, out);
            let done = json!({"item_id": call.item_id, "output_index": index, "input": input});
            self.say("response.custom_tool_call_input.done", done, out);
        }
        self.item_done(index, item, out);
    }

    fn say_arguments(&mut self, call: &Call, kind: &'static str, delta: &str, out: &mut Vec<Frame>) {
        let delta = Delta {
            kind,
            item_id: &call.item_id,
            output_index: call.index.unwrap_or_default(),
            delta,
            ..Delta::default()
        };
        self.say_delta(delta, out);
    }

    fn search(&mut self, search: &Search, out: &mut Vec<Frame>) {
        self.close_reasoning(None, out);
        self.close_message("completed", out);
        let (index, id) = (self.take_index(), self.ids.mint("ws_"));
        let mut action = json!({"type": "search", "query": search.query});
        if !search.results.is_empty() {
            let source = |url: &String| json!({"type": "url", "url": url});
            let sources = search.results.iter().map(|result| source(&result.url)).collect();
            action = with(&action, "sources", Value::Array(sources));
        }
        let item = |status| json!({"type": "web_search_call", "id": id, "status": status, "action": action});
        self.add_item(index, &item("in_progress"), out);
        let (ending, status) = match search.error {
            None => (Some("response.web_search_call.completed"), "completed"),
            Some(_) => (None, "failed"),
        };
        let steps = [
            "response.web_search_call.in_progress",
            "response.web_search_call.searching",
        ];
        for kind in steps.into_iter().chain(ending) {
            self.say(kind, json!({"item_id": id, "output_index": index}), out);
        }
        self.item_done(index, item(status), out);
    }

    fn compaction(&mut self, item: Value, out: &mut Vec<Frame>) {
        self.close_reasoning(None, out);
        self.close_message("completed", out);
        let carrier = Carrier::Compaction {
            model: self.reply.ran.clone(),
            held: Compacted::Items(vec![item]),
        };
        let (index, id) = (self.take_index(), self.ids.mint("cmp_"));
        let item = json!({"type": "compaction", "id": id, "encrypted_content": carrier.encode()});
        self.add_item(index, &item, out);
        self.item_done(index, item, out);
    }
}

impl Message {
    fn place(&self) -> Value {
        json!({"item_id": self.id, "output_index": self.index, "content_index": self.content.len()})
    }
}

impl Part {
    fn text() -> Self {
        Self::Text {
            text: String::new(),
            annotations: Vec::new(),
        }
    }

    fn to_value(&self) -> Value {
        match self {
            Self::Text { text, annotations } => {
                json!({"type": "output_text", "text": text, "annotations": annotations, "logprobs": []})
            }
            Self::Refusal(refusal) => json!({"type": "refusal", "refusal": refusal}),
        }
    }
}

fn message_item(id: &str, status: &str, content: &[Value]) -> Value {
    json!({"type": "message", "id": id, "status": status, "role": "assistant", "content": content})
}

/// The object with one more field.
fn with(object: &Value, name: &str, value: Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.insert(name.to_owned(), value);
    }
    object
}

#[cfg(test)]
pub(super) mod tests;
