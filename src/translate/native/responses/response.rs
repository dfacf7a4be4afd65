//! The answer as Responses clients take it. Knows what Copilot gets wrong; leaves all else as it came.
//!
//! Copilot encrypts ids anew in every event, leaves out events that clients wait for, and wants the raw id of a
//! reasoning item back with its content. So every item gets one id of ours, known by its `output_index`; what is
//! missing is put in; and state travels in a [`Carrier`].

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::mem;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::protocol::Protocol;
use crate::protocol::failure::{Failure, Kind};
use crate::protocol::responses::Event;
use crate::protocol::sse::Frame;
use crate::translate::carrier::{Carrier, Compacted};
use crate::translate::guard::Guard;
use crate::translate::ids::Ids;
use crate::translate::rules::{list, usage};
use crate::translate::turn::Usage;
use crate::translate::{Heard, Kept, Object, Reply, Translator, fold, from_responses, items, response_object};

/// The stream as the client should see it.
pub struct Relay {
    reply: Reply,
    ids: Ids,
    stage: Stage,
    /// The response as it began.
    response: Object,
    sequence: u64,
    items: BTreeMap<u64, Item>,
    latest: u64,
    /// Items that are done, as the client saw them.
    done: BTreeMap<u64, Value>,
    /// The turn's reasoning so far.
    reasoned: Kept,
    guard: Guard,
    heard: Heard,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    Running,
    Over,
}

/// One output item, from its first mention on.
struct Item {
    id: String,
    /// Parts the client has been told of.
    parts: BTreeSet<(Place, u64)>,
}

/// Where an item keeps its parts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Content,
    Summary,
}

impl Place {
    /// Where the part is that an event is about, if it is about one.
    fn of(kind: &str) -> Option<Self> {
        let name = kind.strip_prefix("response.")?;
        if name.starts_with("reasoning_summary_") {
            return Some(Self::Summary);
        }
        let is_content = ["output_text.", "content_part.", "refusal."]
            .iter()
            .any(|start| name.starts_with(start));
        is_content.then_some(Self::Content)
    }

    fn index_name(self) -> &'static str {
        match self {
            Self::Content => "content_index",
            Self::Summary => "summary_index",
        }
    }

    /// The event that opens a part here.
    fn opening(self) -> &'static str {
        match self {
            Self::Content => "response.content_part.added",
            Self::Summary => "response.reasoning_summary_part.added",
        }
    }

    /// An item with no part yet.
    fn item(self) -> Value {
        match self {
            Self::Content => json!({"type": "message", "status": "in_progress", "role": "assistant", "content": []}),
            Self::Summary => json!({"type": "reasoning", "summary": []}),
        }
    }

    /// A part that says nothing yet, as the events of this kind fill it.
    fn part(self, kind: &str) -> Value {
        match self {
            Self::Content if kind.starts_with("response.refusal.") => json!({"type": "refusal", "refusal": ""}),
            Self::Content => fold::responses::empty_text(),
            Self::Summary => json!({"type": "summary_text", "text": ""}),
        }
    }
}

/// Fields to put in, or in place of those that are there, as JSON text.
type Edits<'a> = Vec<(&'a str, Cow<'a, str>)>;

impl Relay {
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
            items: BTreeMap::new(),
            latest: 0,
            done: BTreeMap::new(),
            reasoned,
            guard: Guard::default(),
            heard: Heard::default(),
        }
    }
}

impl Translator for Relay {
    fn feed(&mut self, frame: Frame, out: &mut Vec<Frame>) -> Result<(), Failure> {
        if self.stage == Stage::Over || frame.is_done() || frame.data.trim_ascii().is_empty() {
            return Ok(());
        }
        self.guard.event()?;
        let Some(event) = Event::read(&frame.data) else {
            return Err(Failure::new(Kind::Stream, "upstream sent an event that is not JSON"));
        };
        let kind = event.kind(frame.name.as_deref());
        // A name is one line, whatever its escapes say.
        if kind.contains(char::is_control) {
            return Err(Failure::new(
                Kind::Stream,
                "upstream sent an event without a proper name",
            ));
        }
        if let Some(failure) = from_responses::failure(&kind, &event) {
            return Err(failure);
        }
        match &*kind {
            "" => {}
            "response.created" | "response.in_progress" | "response.queued" => self.progress(&kind, &event, out),
            "response.completed" | "response.incomplete" => self.conclude(&kind, &event, out),
            "response.output_item.added" => self.item_added(&event, out)?,
            "response.output_item.done" => {
                self.start(&Value::Null, out);
                let index = self.index_of(&event);
                self.item_done(index, event.value("item"), out);
            }
            "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta" => {
                let index = usize::try_from(self.index_of(&event)).unwrap_or(usize::MAX);
                self.guard.arguments(index, &event.text("delta").unwrap_or_default())?;
                self.pass(&kind, &event, out);
            }
            _ => self.pass(&kind, &event, out),
        }
        Ok(())
    }

    fn end(&mut self, _out: &mut Vec<Frame>) -> Result<(), Failure> {
        match self.stage {
            Stage::Over => Ok(()),
            _ => Err(Failure::truncated()),
        }
    }

    fn whole(&mut self, answer: Value, out: &mut Vec<Frame>) -> Result<(), Failure> {
        fold::responses::check(&answer)?;
        for frame in fold::responses::unfold(&answer) {
            self.feed(frame, out)?;
        }
        self.end(out)
    }

    /// As the stream that would have brought it, which for an answer that is complete need not be written.
    fn answer(&mut self, mut answer: Value) -> Result<Value, Failure> {
        let is_complete = matches!(answer["status"].as_str(), Some("completed" | "incomplete"));
        if !is_complete || !answer["output"].is_array() || !answer["error"].is_null() {
            return fold::through(Protocol::Responses, self, answer);
        }
        let items = answer["output"].take();
        self.begin(&mut fold::responses::begun(&answer), &mut Vec::new());
        self.heard.nano_aiu = usage::nano_aiu(&answer);
        self.mend_response(&mut answer);
        for (index, item) in list(&items).iter().enumerate() {
            if item["type"] == "function_call" {
                self.guard
                    .arguments(index, item["arguments"].as_str().unwrap_or_default())?;
            }
            let index = index as u64;
            let item = self.finished(index, item);
            self.done.insert(index, item);
        }
        self.complete(&mut answer);
        self.stage = Stage::Over;
        Ok(answer)
    }

    fn fail(&mut self, failure: &Failure, out: &mut Vec<Frame>) {
        match mem::replace(&mut self.stage, Stage::Over) {
            Stage::Over => {}
            Stage::Waiting => {
                let event = response_object::error_event(failure);
                out.push(Frame::named("error", event.to_string()));
            }
            Stage::Running => {
                let mut response = mem::take(&mut self.response);
                let output = mem::take(&mut self.done).into_values().collect();
                response_object::fail(&mut response, failure, output);
                self.say("response.failed", json!({"response": response}), out);
            }
        }
    }

    fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    fn heard(&self) -> &Heard {
        &self.heard
    }
}

/// The response around the items.
impl Relay {
    /// Begins the client's stream, if it has not begun.
    fn start(&mut self, response: &Value, out: &mut Vec<Frame>) {
        if self.stage != Stage::Waiting {
            return;
        }
        self.stage = Stage::Running;
        let given = response["id"].as_str().filter(|id| id.starts_with("resp_"));
        let id = given.map_or_else(|| self.ids.mint("resp_"), str::to_owned);
        let created = response["created_at"].as_f64().map(|seconds| seconds as u64);
        self.response = response_object::begun(&self.reply, &id, created.unwrap_or(self.ids.created));
        if response.is_null() {
            for kind in ["response.created", "response.in_progress"] {
                self.say(kind, json!({"response": self.response}), out);
            }
        }
    }

    fn progress(&mut self, kind: &str, event: &Event, out: &mut Vec<Frame>) {
        let mut response = event.value("response");
        if kind == "response.created" {
            self.begin(&mut response, out);
        } else {
            self.start(&Value::Null, out);
            self.mend_response(&mut response);
        }
        let edits = vec![("response", Cow::Owned(response.to_string()))];
        self.write(kind, event, edits, out);
    }

    /// Takes the response as it begins, and makes it the client's.
    fn begin(&mut self, response: &mut Value, out: &mut Vec<Frame>) {
        self.start(response, out);
        self.mend_response(response);
        if let Value::Object(begun) = response {
            self.response.extend(begun.clone());
        }
    }

    fn conclude(&mut self, kind: &str, event: &Event, out: &mut Vec<Frame>) {
        self.start(&Value::Null, out);
        let mut response = event.value("response");
        let beside = json!({"copilot_usage": event.value("copilot_usage")});
        let price = usage::nano_aiu(&response).or_else(|| usage::nano_aiu(&beside));
        self.heard.nano_aiu = price.or(self.heard.nano_aiu);
        self.mend_response(&mut response);
        if let Value::Array(items) = response["output"].take() {
            for (index, item) in (0..).zip(items) {
                self.item_done(index, item, out);
            }
        }
        response["status"] = json!(kind.trim_start_matches("response."));
        self.complete(&mut response);
        let edits = vec![("response", Cow::Owned(response.to_string()))];
        self.write(kind, event, edits, out);
        self.stage = Stage::Over;
    }

    /// Puts into the response what is known only when all items are done.
    fn complete(&mut self, response: &mut Value) {
        response["output"] = mem::take(&mut self.done).into_values().collect();
        if response["completed_at"].is_null() {
            let created = response["created_at"].as_u64().unwrap_or(0);
            response["completed_at"] = json!(created.max(self.ids.created));
        }
        let searches = self.heard.usage.searches;
        self.heard.usage = Usage {
            searches,
            ..usage::read(Protocol::Responses, &response["usage"])
        };
        mend_usage(&mut response["usage"]);
    }

    /// Puts the client's own words in, and the ids it knows.
    fn mend_response(&self, response: &mut Value) {
        if !response.is_object() {
            *response = Value::Object(self.response.clone());
        }
        let Some(fields) = response.as_object_mut() else { return };
        drop_private(fields);
        if fields.get("output_text").is_some_and(Value::is_null) {
            fields.shift_remove("output_text");
        }
        fields.insert("id".into(), self.response.get("id").cloned().unwrap_or_default());
        fields.insert("model".into(), json!(self.reply.model));
        fields.insert("store".into(), json!(false));
        // By which id a socket upstream goes on is not the client's to know.
        if let Some(previous) = fields.get_mut("previous_response_id") {
            *previous = Value::Null;
        }
        fields.extend(self.reply.echo.clone());
        for (name, value) in &self.response {
            if !fields.contains_key(name) {
                fields.insert(name.clone(), value.clone());
            }
        }
    }
}

/// The items.
impl Relay {
    fn index_of(&mut self, event: &Event) -> u64 {
        self.latest = event.number("output_index").unwrap_or(self.latest);
        self.latest
    }

    /// The client's id of an item, minted at its first mention.
    fn id_of(&mut self, index: u64, prefix: &str) -> String {
        let ids = &mut self.ids;
        let fresh = || Item {
            id: ids.mint(prefix),
            parts: BTreeSet::new(),
        };
        self.items.entry(index).or_insert_with(fresh).id.clone()
    }

    fn item_added(&mut self, event: &Event, out: &mut Vec<Frame>) -> Result<(), Failure> {
        self.start(&Value::Null, out);
        let index = self.index_of(event);
        if self.items.contains_key(&index) {
            return Ok(());
        }
        let mut item = event.value("item");
        if items::is_call(&item) {
            self.guard.call()?;
        }
        let id = self.id_of(index, prefix(&item));
        mend_item(&mut item, &id);
        self.rename(&mut item);
        match item["type"].as_str() {
            Some("reasoning") => drop(
                item.as_object_mut()
                    .and_then(|item| item.shift_remove("encrypted_content")),
            ),
            Some("compaction") => self.wrap_compaction(&event.value("item"), &mut item),
            _ => {}
        }
        let edits = vec![("item", Cow::Owned(item.to_string()))];
        self.write("response.output_item.added", event, edits, out);
        Ok(())
    }

    fn item_done(&mut self, index: u64, raw: Value, out: &mut Vec<Frame>) {
        if self.done.contains_key(&index) {
            return;
        }
        let is_known = self.items.contains_key(&index);
        let item = self.finished(index, &raw);
        if !is_known {
            let opened = fold::responses::opened(&item);
            let fields = json!({"output_index": index, "item": opened});
            self.say("response.output_item.added", fields, out);
        }
        let fields = json!({"output_index": index, "item": item});
        self.say("response.output_item.done", fields, out);
        self.done.insert(index, item);
    }

    /// A complete item as the client sees it. What later requests need of it is noted.
    fn finished(&mut self, index: u64, raw: &Value) -> Value {
        let id = self.id_of(index, prefix(raw));
        let mut item = raw.clone();
        mend_item(&mut item, &id);
        self.rename(&mut item);
        match item["type"].as_str() {
            Some("reasoning") => self.wrap_reasoning(raw, &mut item),
            Some("compaction") => self.wrap_compaction(raw, &mut item),
            Some("web_search_call") => {
                let searches = self.heard.usage.searches.get_or_insert(0);
                *searches = searches.saturating_add(1);
            }
            _ => {}
        }
        if let Some(call) = item["call_id"].as_str()
            && !self.reasoned.carriers.is_empty()
        {
            self.heard.kept.push((call.to_owned(), self.reasoned.clone()));
        }
        item
    }

    /// Calls a tool by the name and the namespace the client gave it.
    fn rename(&self, item: &mut Value) {
        if let Some(tool) = item["name"].as_str().and_then(|name| self.reply.tools.get(name))
            && let Some(fields) = item.as_object_mut()
        {
            fields.insert("name".into(), json!(tool.name));
            if let Some(namespace) = &tool.namespace {
                fields.insert("namespace".into(), json!(namespace));
            }
        }
    }

    /// A reasoning item's content is good only with the id it came with.
    fn wrap_reasoning(&mut self, raw: &Value, item: &mut Value) {
        let summary = raw["summary"].as_array().into_iter().flatten();
        let texts: Vec<&str> = summary.filter_map(|part| part["text"].as_str()).collect();
        self.reasoned.text.push_str(&texts.join("\n\n"));
        let Some(content) = raw["encrypted_content"].as_str().filter(|content| !content.is_empty()) else {
            return;
        };
        let carrier = Carrier::Item {
            model: self.reply.ran.clone(),
            id: raw["id"].as_str().map(str::to_owned),
            content: content.to_owned(),
        };
        let carrier = carrier.encode();
        if !self.reply.raw_encrypted {
            item["encrypted_content"] = json!(carrier);
        }
        self.reasoned.carriers.push(carrier);
    }

    fn wrap_compaction(&self, raw: &Value, item: &mut Value) {
        let carrier = Carrier::Compaction {
            model: self.reply.ran.clone(),
            held: Compacted::Items(vec![raw.clone()]),
        };
        item["encrypted_content"] = json!(carrier.encode());
    }
}

/// All other events.
impl Relay {
    /// Passes an event on, behind those that upstream left out before it.
    fn pass(&mut self, kind: &str, event: &Event, out: &mut Vec<Frame>) {
        self.start(&Value::Null, out);
        let mut edits = Edits::new();
        if event.get("output_index").is_some() || event.get("item_id").is_some() {
            let index = self.index_of(event);
            if let Some(place) = Place::of(kind) {
                let at = event.number(place.index_name());
                if !self.open_part(index, place, at.unwrap_or(0), kind, out) && kind == place.opening() {
                    return;
                }
                if at.is_none() {
                    edits.push((place.index_name(), Cow::Borrowed("0")));
                }
            }
            let id = self.id_of(index, "item_");
            edits.push(("item_id", Cow::Owned(format!("\"{id}\""))));
            if event.get("output_index").is_none() {
                edits.push(("output_index", Cow::Owned(index.to_string())));
            }
        }
        match kind {
            "response.output_text.delta" | "response.output_text.done" if event.get("logprobs").is_none() => {
                edits.push(("logprobs", Cow::Borrowed("[]")));
            }
            "response.function_call_arguments.done" if !self.reply.tools.is_empty() => {
                let tool = self.reply.tools.get(&*event.text("name").unwrap_or_default());
                edits.extend(tool.map(|tool| ("name", Cow::Owned(json!(tool.name).to_string()))));
            }
            "response.content_part.added" | "response.content_part.done" => {
                let mut part = event.value("part");
                mend_part(&mut part);
                edits.push(("part", Cow::Owned(part.to_string())));
            }
            _ => {}
        }
        self.write(kind, event, edits, out);
    }

    /// Tells the client of a part before its first event. False where it has been told already.
    fn open_part(&mut self, index: u64, place: Place, at: u64, kind: &str, out: &mut Vec<Frame>) -> bool {
        let is_open = |item: &Item| item.parts.contains(&(place, at));
        if self.items.get(&index).is_some_and(is_open) {
            return false;
        }
        let is_known = self.items.contains_key(&index);
        let mut item = place.item();
        let id = self.id_of(index, prefix(&item));
        if !is_known {
            mend_item(&mut item, &id);
            let fields = json!({"output_index": index, "item": item});
            self.say("response.output_item.added", fields, out);
        }
        if let Some(item) = self.items.get_mut(&index) {
            item.parts.insert((place, at));
        }
        if kind != place.opening() {
            let mut fields = json!({"item_id": id, "output_index": index});
            fields[place.index_name()] = json!(at);
            fields["part"] = place.part(kind);
            self.say(place.opening(), fields, out);
        }
        true
    }

    /// Writes upstream's event with these edits, renumbered, without Copilot's private fields.
    fn write(&mut self, kind: &str, event: &Event, mut edits: Edits, out: &mut Vec<Frame>) {
        edits.push(("sequence_number", Cow::Owned(self.sequence.to_string())));
        if event.text("type").is_none() {
            edits.push(("type", Cow::Owned(json!(kind).to_string())));
        }
        let size: usize = event.fields().map(|(name, value)| name.len() + value.get().len()).sum();
        let mut text = String::with_capacity(size + 128);
        for (name, value) in event.fields().filter(|(name, _)| !is_private(name)) {
            match edits.iter().position(|(edited, _)| *edited == name) {
                Some(at) => push_field(&mut text, name, &edits.swap_remove(at).1),
                None => push_field(&mut text, name, value.get()),
            }
        }
        for (name, value) in edits {
            push_field(&mut text, name, &value);
        }
        text.push('}');
        self.sequence += 1;
        out.push(Frame {
            name: Some(Bytes::copy_from_slice(kind.as_bytes())),
            data: text.into(),
        });
    }

    /// Writes an event of our own.
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
}

/// The prefix of an item's id.
fn prefix(item: &Value) -> &'static str {
    match item["type"].as_str() {
        Some("message") => "msg_",
        Some("reasoning") => "rs_",
        Some("function_call") => "fc_",
        Some("custom_tool_call") => "ctc_",
        Some("local_shell_call") => "lsh_",
        Some("shell_call") => "sh_",
        Some("apply_patch_call") => "apc_",
        Some("web_search_call") => "ws_",
        Some("tool_search_call") => "tsc_",
        Some("compaction") => "cmp_",
        _ => "item_",
    }
}

/// Gives an item its public id and the empty lists its readers count on.
fn mend_item(item: &mut Value, id: &str) {
    let Some(fields) = item.as_object_mut() else { return };
    drop_private(fields);
    fields.insert("id".into(), json!(id));
    if fields.get("type").is_some_and(|kind| kind == "reasoning") {
        fields.entry("summary").or_insert_with(|| json!([]));
    }
    if fields.get("type").is_some_and(|kind| kind == "message")
        && let Some(parts) = fields.get_mut("content").and_then(Value::as_array_mut)
    {
        parts.iter_mut().for_each(mend_part);
    }
}

fn mend_part(part: &mut Value) {
    if part["type"] == "output_text"
        && let Some(fields) = part.as_object_mut()
    {
        for list in ["annotations", "logprobs"] {
            if fields.get(list).is_none_or(Value::is_null) {
                fields.insert(list.into(), json!([]));
            }
        }
    }
}

/// Adds the counts that some clients cannot do without.
fn mend_usage(usage: &mut Value) {
    let Some(fields) = usage.as_object_mut() else { return };
    let count = |fields: &Object, name: &str| fields.get(name).and_then(Value::as_u64).unwrap_or(0);
    for (details, name) in [
        ("input_tokens_details", "cached_tokens"),
        ("input_tokens_details", "cache_write_tokens"),
        ("output_tokens_details", "reasoning_tokens"),
    ] {
        let details = fields.entry(details).or_insert_with(|| json!({}));
        if !details.is_object() {
            *details = json!({});
        }
        if !details[name].is_u64() {
            details[name] = json!(0);
        }
    }
    let (input, output) = (count(fields, "input_tokens"), count(fields, "output_tokens"));
    for (name, value) in [
        ("input_tokens", input),
        ("output_tokens", output),
        ("total_tokens", input.saturating_add(output)),
    ] {
        if !fields.get(name).is_some_and(Value::is_u64) {
            fields.insert(name.into(), json!(value));
        }
    }
}

/// Copilot's own additions, which no client knows.
fn is_private(name: &str) -> bool {
    name.starts_with("copilot_")
}

fn drop_private(fields: &mut Object) {
    fields.retain(|name, _| !is_private(name));
}

/// Appends a field to an object that is being written.
fn push_field(text: &mut String, name: &str, value: &str) {
    text.push(if text.is_empty() { '{' } else { ',' });
    if name
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(&byte))
    {
        text.push('"');
        text.push_str(name);
        text.push('"');
    } else {
        text.push_str(&json!(name).to_string());
    }
    text.push(':');
    text.push_str(value);
}

#[cfg(test)]
mod tests;
