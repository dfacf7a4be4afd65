//! `/responses`: reads a conversation, writes an answer, whole or as events. Ids are made anew in each event, as
//! Copilot's are; call ids and encrypted reasoning stay.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use serde_json::{Value, json};

use super::chat::{content_texts, function};
use super::checks::{self, list};
use super::delivery::{Rendering, deliver};
use super::faults::Instead;
use super::gate::{self, Caller, Door, Pass};
use super::github::unix_now;
use super::mind::{Answer, Call, Choice, Conversation, Ending, Tool, ToolKind, Turn};
use super::models::served_name;
use super::playback::{Piece, Writer};
use super::reply;
use super::seals;
use super::state::State;
use super::usage::Usage;
use crate::protocol::Protocol;
use crate::protocol::catalog::Model;
use crate::protocol::sse::Frame;

const DOOR: Door = Door {
    name: "responses",
    protocol: Protocol::Responses,
    generates: true,
    path: "/responses",
};

/// `POST /responses`.
pub async fn respond(request: HttpRequest, body: Bytes, state: web::Data<State>) -> HttpResponse {
    gate::record(&state, &request, &body);
    match answer(&request, &body, &state).await {
        Ok(response) => response,
        Err(instead) => gate::instead(&state, &request, instead).await,
    }
}

async fn answer(request: &HttpRequest, body: &Bytes, state: &State) -> Result<HttpResponse, Instead> {
    let caller = Caller::of(state, request)?;
    let body = gate::object(body)?;
    let mut talk = read(&body);
    let pass = gate::admit(state, &caller, DOOR, &body, &talk)?;
    if body["previous_response_id"].is_string() {
        return Err(not_found().into());
    }
    let connection = gate::connection(request);
    let strict_ids = state.memory().settings.strict_ids;
    checks::responses::check(&pass.model, &body, strict_ids.then_some(connection), &[])?;
    gate::charge(state, &pass);
    gate::wait(&pass.effects).await;
    suit(&mut talk, &pass.model, &body);
    let written = Written::new(&pass, talk.answer(pass.effects.wishes), &body, connection);
    Ok(deliver(state, request, &pass, body["stream"] == true, written))
}

/// An earlier response that is not known here.
pub fn not_found() -> reply::Refusal {
    let message = "Previous response with the given id not found.";
    reply::Refusal::openai("previous_response_not_found", "previous_response_id", message)
}

/// What was said so far.
pub fn read(body: &Value) -> Conversation {
    let format = &body["text"]["format"];
    let mut talk = Conversation {
        model: body["model"].as_str().unwrap_or_default().to_owned(),
        system: body["instructions"].as_str().unwrap_or_default().to_owned(),
        choice: match &body["tool_choice"] {
            Value::String(choice) if choice == "none" => Choice::None,
            Value::String(choice) if choice == "required" => Choice::Required,
            Value::Object(_) if body["tool_choice"]["mode"] == "required" => Choice::Required,
            Value::Object(choice) => choice
                .get("name")
                .and_then(Value::as_str)
                .map_or(Choice::Auto, |name| Choice::Named(name.to_owned())),
            _ => Choice::Auto,
        },
        json: match format["type"].as_str() {
            Some("json_object") => Some(json!({"type": "object", "properties": {"answer": {"type": "string"}}})),
            Some("json_schema") => Some(format["schema"].clone()),
            _ => None,
        },
        max_output: body["max_output_tokens"].as_u64(),
        ..Conversation::default()
    };
    if let Some(text) = body["input"].as_str() {
        talk.turns.push(Turn::Human(vec![text.to_owned()]));
    }
    for item in list(body, "input") {
        read_item(item, &mut talk);
    }
    for tool in list(body, "tools") {
        let kind = tool["type"].as_str().unwrap_or_default();
        talk.searches |= kind.starts_with("web_search");
        read_tool(tool, None, &mut talk.tools);
    }
    talk
}

fn read_item(item: &Value, talk: &mut Conversation) {
    let kind = item["type"].as_str().unwrap_or("message");
    match (kind, item["role"].as_str()) {
        ("message", Some("user")) => talk.turns.push(Turn::Human(content_texts(&item["content"]))),
        ("message", Some("assistant")) => {}
        ("message", _) => {
            talk.system.push('\n');
            talk.system.push_str(&content_texts(&item["content"]).join("\n"));
        }
        (kind, _) if kind.ends_with("_output") => talk.turns.push(Turn::Result(output_text(&item["output"]))),
        _ => {}
    }
}

/// The text of a tool's output: a string, parts, or a shell's streams.
fn output_text(output: &Value) -> String {
    match output {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let text = |part: &Value| part["text"].as_str().or(part["stdout"].as_str()).map(str::to_owned);
            parts.iter().filter_map(text).collect::<Vec<_>>().join("\n")
        }
        other => other.to_string(),
    }
}

fn read_tool(tool: &Value, namespace: Option<&str>, tools: &mut Vec<Tool>) {
    let kind = match tool["type"].as_str().unwrap_or_default() {
        "function" => ToolKind::Function,
        "custom" => ToolKind::Custom,
        "local_shell" => ToolKind::LocalShell,
        "shell" => ToolKind::Shell,
        "apply_patch" => ToolKind::ApplyPatch,
        "namespace" => {
            let name = tool["name"].as_str();
            return list(tool, "tools")
                .iter()
                .for_each(|inner| read_tool(inner, name, tools));
        }
        _ => return,
    };
    let mut read = function(tool, "parameters");
    if read.name.is_empty() {
        read.name = tool["type"].as_str().unwrap_or_default().to_owned();
    }
    read.kind = kind;
    read.namespace = namespace.map(str::to_owned);
    tools.push(read);
}

/// What depends on the model: it reasons if it can and is asked to.
pub fn suit(talk: &mut Conversation, model: &Model, body: &Value) {
    let reasoning = &body["reasoning"];
    let effort = reasoning["effort"].as_str();
    let asked = effort.map_or(!reasoning["summary"].is_null(), |effort| effort != "none");
    talk.thinks = asked && model.is_reasoning_gpt();
}

/// One item of the output.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Reasoning,
    Search,
    Message,
    Call(usize),
}

/// An answer with everything that is said around it.
pub struct Written {
    pub answer: Arc<Answer>,
    /// The id in the last event: the only one a socket may refer to.
    pub terminal_id: String,
    usage: Usage,
    copilot_usage: Value,
    connection: u64,
    created: u64,
    name: String,
    call_ids: Vec<String>,
    encrypted: Option<String>,
    summary: bool,
    phase: Option<&'static str>,
    /// The request, for the fields that an answer repeats.
    request: Value,
    no_done: bool,
}

impl Written {
    pub fn new(pass: &Pass, answer: Answer, body: &Value, connection: u64) -> Self {
        let model = &pass.model;
        let usage = pass.weight.usage(Protocol::Responses, pass.cached, &answer);
        let wants_encrypted = list(body, "include")
            .iter()
            .any(|name| name == "reasoning.encrypted_content");
        let has_phases = model.id == "gpt-5.3-codex" || model.gpt_version().is_some_and(|version| version >= (5, 4));
        let phase = if answer.calls.is_empty() {
            "final_answer"
        } else {
            "commentary"
        };
        Self {
            copilot_usage: usage.copilot(model),
            usage,
            terminal_id: seals::item_id(connection),
            connection,
            created: unix_now(),
            name: served_name(model),
            call_ids: answer
                .calls
                .iter()
                .map(|_| format!("call_{}", seals::fresh_hex(24)))
                .collect(),
            encrypted: wants_encrypted.then(|| seals::seal("encrypted", model.house())),
            summary: !body["reasoning"]["summary"].is_null(),
            phase: has_phases.then_some(phase),
            request: repeated(body),
            answer: Arc::new(answer),
            no_done: pass.effects.pace.no_done,
        }
    }

    fn parts(&self) -> Vec<Part> {
        let mut parts = Vec::new();
        if self.answer.reasoning.is_some() {
            parts.push(Part::Reasoning);
        }
        if self.answer.search.is_some() {
            parts.push(Part::Search);
        }
        if !self.answer.text.is_empty() || self.answer.ending == Ending::Refusal {
            parts.push(Part::Message);
        }
        parts.extend((0..self.answer.calls.len()).map(Part::Call));
        parts
    }

    fn item_id(&self) -> String {
        seals::item_id(self.connection)
    }

    /// How the last item stands when all is over.
    fn last_status(&self) -> &'static str {
        if self.answer.ending == Ending::Length {
            "incomplete"
        } else {
            "completed"
        }
    }

    /// An item when it begins, or as it is in the end.
    fn item(&self, part: Part, status: &str) -> Value {
        let begins = status == "in_progress";
        let mut item = match part {
            Part::Reasoning => {
                let summary = self.answer.reasoning.as_ref().filter(|_| self.summary && !begins);
                let summary: Vec<Value> = summary
                    .iter()
                    .map(|text| json!({"text": text, "type": "summary_text"}))
                    .collect();
                let mut item = json!({"summary": summary, "type": "reasoning"});
                if let Some(encrypted) = &self.encrypted {
                    item["encrypted_content"] = json!(encrypted);
                }
                item
            }
            Part::Search => {
                let action = json!({"query": self.answer.search, "type": "search"});
                json!({"action": action, "status": status, "type": "web_search_call"})
            }
            Part::Message => {
                let content = if begins {
                    json!([])
                } else {
                    json!([self.content_part()])
                };
                let mut item = json!({"content": content, "role": "assistant", "status": status, "type": "message"});
                if let Some(phase) = self.phase {
                    item["phase"] = json!(phase);
                }
                item
            }
            Part::Call(at) => match self.answer.calls.get(at) {
                Some(call) => call_item(call, begins, status),
                None => Value::Null,
            },
        };
        if let (Part::Call(at), true) = (part, item.is_object()) {
            item["call_id"] = json!(self.call_ids.get(at));
        }
        if item.is_object() {
            item["id"] = json!(self.item_id());
        }
        item
    }

    fn content_part(&self) -> Value {
        if self.answer.ending == Ending::Refusal {
            return json!({"refusal": REFUSAL, "type": "refusal"});
        }
        let annotations: Vec<Value> = self.citation().into_iter().collect();
        json!({"annotations": annotations, "logprobs": [], "text": self.answer.whole_text(), "type": "output_text"})
    }

    /// Where a search found what the text says.
    fn citation(&self) -> Option<Value> {
        self.answer.search.as_ref().map(|query| {
            let end = self.answer.whole_text().chars().count();
            json!({"end_index": end, "start_index": 0, "title": format!("All about {query}"), "type": "url_citation",
                "url": "https://example.com/found"})
        })
    }

    /// The output, each item whole.
    pub fn output(&self) -> Vec<Value> {
        let parts = self.parts();
        let last = parts.len().saturating_sub(1);
        let status = |at| if at == last { self.last_status() } else { "completed" };
        parts
            .iter()
            .enumerate()
            .map(|(at, part)| self.item(*part, status(at)))
            .collect()
    }

    /// The response object with this status.
    fn response(&self, id: &str, status: &str, output: Vec<Value>) -> Value {
        let mut response = self.request.clone();
        response["created_at"] = json!(self.created);
        response["id"] = json!(id);
        response["incomplete_details"] = match (status, &self.answer.ending) {
            ("incomplete", Ending::Filter) => json!({"reason": "content_filter"}),
            ("incomplete", _) => json!({"reason": "max_output_tokens"}),
            _ => Value::Null,
        };
        response["model"] = json!(self.name);
        response["output"] = output.into();
        response["status"] = json!(status);
        response["usage"] = match status {
            "in_progress" | "failed" => Value::Null,
            _ => json!({
                "input_tokens": self.usage.input,
                "input_tokens_details": {"cached_tokens": self.usage.cached},
                "output_tokens": self.usage.output,
                "output_tokens_details": {"reasoning_tokens": self.usage.reasoning},
                "total_tokens": self.usage.total(),
            }),
        };
        response
    }

    fn status(&self) -> &'static str {
        match self.answer.ending {
            Ending::Length | Ending::Filter => "incomplete",
            _ => "completed",
        }
    }
}

impl Rendering for Written {
    fn answer(&self) -> Arc<Answer> {
        self.answer.clone()
    }

    fn whole(&self) -> Value {
        let mut response = self.response(&self.terminal_id, self.status(), self.output());
        response["copilot_usage"] = self.copilot_usage.clone();
        response["output_text"] = Value::Null;
        response
    }

    fn into_writer(self) -> Box<dyn Writer> {
        Box::new(Events::new(Arc::new(self), None))
    }
}

const REFUSAL: &str = "I cannot help with that.";

fn call_item(call: &Call, begins: bool, status: &str) -> Value {
    let text = if begins { String::new() } else { call.input_text() };
    let of_function = || {
        let mut item = json!({"arguments": text, "name": call.tool, "status": status, "type": "function_call"});
        if let Some(namespace) = &call.namespace {
            item["namespace"] = json!(namespace);
        }
        item
    };
    match call.kind {
        ToolKind::Function => of_function(),
        ToolKind::Custom => {
            let mut item = json!({"input": text, "name": call.tool, "status": status, "type": "custom_tool_call"});
            if let Some(namespace) = &call.namespace {
                item["namespace"] = json!(namespace);
            }
            item
        }
        ToolKind::LocalShell => {
            let action = json!({"command": call.input["command"], "env": {}, "type": "exec"});
            json!({"action": action, "status": status, "type": "local_shell_call"})
        }
        ToolKind::Shell => {
            json!({"action": {"commands": call.input["commands"]}, "status": status, "type": "shell_call"})
        }
        ToolKind::ApplyPatch => json!({"operation": call.input, "status": status, "type": "apply_patch_call"}),
    }
}

/// What an answer repeats of its request.
fn repeated(body: &Value) -> Value {
    let tools: Vec<Value> = list(body, "tools")
        .iter()
        .map(|tool| {
            let mut tool = tool.clone();
            if tool["type"] == "function" {
                tool["strict"] = json!(true);
                if let Some(parameters) = tool["parameters"].as_object_mut() {
                    parameters.insert("additionalProperties".into(), json!(false));
                }
            }
            tool
        })
        .collect();
    let or = |name: &str, otherwise: Value| match &body[name] {
        Value::Null => otherwise,
        value => value.clone(),
    };
    json!({
        "instructions": body["instructions"],
        "max_output_tokens": body["max_output_tokens"],
        "object": "response",
        "parallel_tool_calls": or("parallel_tool_calls", json!(true)),
        "previous_response_id": body["previous_response_id"],
        "reasoning": or("reasoning", json!({"effort": "none", "summary": null})),
        "safety_identifier": "0000000000000000",
        "service_tier": "default",
        "temperature": 1,
        "text": or("text", json!({"format": {"type": "text"}, "verbosity": "medium"})),
        "tool_choice": or("tool_choice", json!("auto")),
        "tools": tools,
        "top_p": 1,
        "truncation": or("truncation", json!("disabled")),
    })
}

/// Writes events.
pub struct Events {
    written: Arc<Written>,
    /// On a socket, terminal events also tell the quota.
    quota: Option<Value>,
    sequence: u64,
    /// Place of the item under way.
    index: usize,
}

impl Events {
    pub fn new(written: Arc<Written>, quota: Option<Value>) -> Self {
        Self {
            written,
            quota,
            sequence: 0,
            index: 0,
        }
    }

    fn send(&mut self, kind: &'static str, mut event: Value, out: &mut Vec<Frame>) {
        event["sequence_number"] = json!(self.sequence);
        event["type"] = json!(kind);
        self.sequence += 1;
        out.push(Frame::named(kind, reply::json_body(event)));
    }

    /// An event about the item under way, with an id of its own.
    fn send_of_item(&mut self, kind: &'static str, mut event: Value, out: &mut Vec<Frame>) {
        event["item_id"] = json!(self.written.item_id());
        event["output_index"] = json!(self.index);
        self.send(kind, event, out);
    }

    fn begin(&mut self, part: Part, out: &mut Vec<Frame>) {
        let item = self.written.item(part, "in_progress");
        self.send(
            "response.output_item.added",
            json!({"item": item, "output_index": self.index}),
            out,
        );
    }

    fn end(&mut self, part: Part, out: &mut Vec<Frame>) {
        let is_last = self.index + 1 == self.written.parts().len();
        let status = if is_last {
            self.written.last_status()
        } else {
            "completed"
        };
        let item = self.written.item(part, status);
        self.send(
            "response.output_item.done",
            json!({"item": item, "output_index": self.index}),
            out,
        );
        self.index += 1;
    }

    /// The most frequent event, written without a tree.
    fn text(&mut self, text: &str, out: &mut Vec<Frame>) {
        let text = serde_json::to_string(text).unwrap_or_default();
        let data = format!(
            "{{\"content_index\":0,\"delta\":{text},\"item_id\":\"{}\",\"logprobs\":[],\"output_index\":{},\
             \"sequence_number\":{},\"type\":\"response.output_text.delta\"}}",
            self.written.item_id(),
            self.index,
            self.sequence
        );
        self.sequence += 1;
        out.push(Frame::named("response.output_text.delta", data));
    }

    fn search(&mut self, out: &mut Vec<Frame>) {
        if self.written.answer.search.is_none() {
            return;
        }
        self.begin(Part::Search, out);
        for kind in [
            "response.web_search_call.in_progress",
            "response.web_search_call.searching",
            "response.web_search_call.completed",
        ] {
            self.send_of_item(kind, json!({}), out);
        }
        self.end(Part::Search, out);
    }

    fn reasoning_end(&mut self, out: &mut Vec<Frame>) {
        if self.written.summary {
            let text = self.written.answer.reasoning.clone();
            let part = json!({"text": text, "type": "summary_text"});
            let done = json!({"summary_index": 0, "text": text});
            self.send_of_item("response.reasoning_summary_text.done", done, out);
            let done = json!({"part": part, "summary_index": 0});
            self.send_of_item("response.reasoning_summary_part.done", done, out);
        }
        self.end(Part::Reasoning, out);
    }

    fn call_end(&mut self, at: usize, out: &mut Vec<Frame>) {
        let written = self.written.clone();
        let Some(call) = written.answer.calls.get(at) else {
            return;
        };
        let text = call.input_text();
        match call.kind {
            ToolKind::Function => {
                let done = json!({"arguments": text, "name": call.tool});
                self.send_of_item("response.function_call_arguments.done", done, out);
            }
            ToolKind::Custom => {
                self.send_of_item("response.custom_tool_call_input.done", json!({"input": text}), out);
            }
            ToolKind::LocalShell | ToolKind::Shell | ToolKind::ApplyPatch => {}
        }
        self.end(Part::Call(at), out);
    }

    fn refusal(&mut self, out: &mut Vec<Frame>) {
        self.begin(Part::Message, out);
        let part = json!({"refusal": "", "type": "refusal"});
        self.send_of_item(
            "response.content_part.added",
            json!({"content_index": 0, "part": part}),
            out,
        );
        let delta = json!({"content_index": 0, "delta": REFUSAL});
        self.send_of_item("response.refusal.delta", delta, out);
        let done = json!({"content_index": 0, "refusal": REFUSAL});
        self.send_of_item("response.refusal.done", done, out);
        let part = self.written.content_part();
        self.send_of_item(
            "response.content_part.done",
            json!({"content_index": 0, "part": part}),
            out,
        );
        self.end(Part::Message, out);
    }

    fn close(&mut self, out: &mut Vec<Frame>) {
        if self.written.answer.ending == Ending::Refusal {
            self.refusal(out);
        }
        if self.written.no_done {
            return;
        }
        let written = self.written.clone();
        let kind = match written.status() {
            "incomplete" => "response.incomplete",
            _ => "response.completed",
        };
        let response = written.response(&written.terminal_id, written.status(), written.output());
        let mut event = json!({"copilot_usage": written.copilot_usage, "response": response});
        if let Some(quota) = self.quota.take() {
            event["copilot_quota_snapshots"] = quota;
        }
        self.send(kind, event, out);
    }
}

impl Writer for Events {
    fn write(&mut self, piece: Piece, out: &mut Vec<Frame>) {
        match piece {
            Piece::Open => {
                for kind in ["response.created", "response.in_progress"] {
                    let response = self
                        .written
                        .response(&self.written.item_id(), "in_progress", Vec::new());
                    self.send(kind, json!({"response": response}), out);
                }
            }
            Piece::ReasoningOpen => {
                self.begin(Part::Reasoning, out);
                if self.written.summary {
                    let part = json!({"text": "", "type": "summary_text"});
                    let added = json!({"part": part, "summary_index": 0});
                    self.send_of_item("response.reasoning_summary_part.added", added, out);
                }
            }
            Piece::Reasoning(text) if self.written.summary => {
                let delta = json!({"delta": text, "summary_index": 0});
                self.send_of_item("response.reasoning_summary_text.delta", delta, out);
            }
            Piece::Reasoning(_) => {}
            Piece::ReasoningClose => self.reasoning_end(out),
            Piece::TextOpen => {
                self.search(out);
                self.begin(Part::Message, out);
                let part = json!({"annotations": [], "logprobs": [], "text": "", "type": "output_text"});
                self.send_of_item(
                    "response.content_part.added",
                    json!({"content_index": 0, "part": part}),
                    out,
                );
            }
            Piece::Text(text) => self.text(&text, out),
            Piece::TextClose => {
                if let Some(citation) = self.written.citation() {
                    let added = json!({"annotation": citation, "annotation_index": 0, "content_index": 0});
                    self.send_of_item("response.output_text.annotation.added", added, out);
                }
                let text = self.written.answer.whole_text();
                let done = json!({"content_index": 0, "logprobs": [], "text": text});
                self.send_of_item("response.output_text.done", done, out);
                let part = self.written.content_part();
                self.send_of_item(
                    "response.content_part.done",
                    json!({"content_index": 0, "part": part}),
                    out,
                );
                self.end(Part::Message, out);
            }
            Piece::CallOpen(at) => self.begin(Part::Call(at), out),
            Piece::Call(at, delta) => {
                let kind = match self.written.answer.calls.get(at).map(|call| call.kind) {
                    Some(ToolKind::Function) => "response.function_call_arguments.delta",
                    Some(ToolKind::Custom) => "response.custom_tool_call_input.delta",
                    _ => return,
                };
                self.send_of_item(kind, json!({"delta": delta}), out);
            }
            Piece::CallClose(at) => self.call_end(at, out),
            Piece::Close => self.close(out),
        }
    }

    fn fail(&mut self, out: &mut Vec<Frame>) {
        let mut response = self.written.response(&self.written.terminal_id, "failed", Vec::new());
        response["error"] = json!({"code": "server_error", "message": "the model stopped unexpectedly"});
        self.send("response.failed", json!({"response": response}), out);
    }
}
