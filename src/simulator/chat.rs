//! `/chat/completions`: reads a conversation, writes an answer, whole or as chunks, with Copilot's oddities. Claude's
//! text and calls come as two choices; Azure's models begin with a filter chunk and put usage on the last one; Gemini
//! gives each call whole, all under index 0; Kimi repeats id and name in every piece of a call.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::checks::{self, list};
use super::delivery::{Rendering, deliver};
use super::faults::Instead;
use super::gate::{self, Caller, Door, Pass};
use super::github::unix_now;
use super::mind::{Answer, Choice, Conversation, Ending, Tool, Turn};
use super::models::served_name;
use super::playback::{Piece, Writer};
use super::reply::{self, Refusal};
use super::seals;
use super::state::State;
use super::usage::Usage;
use crate::protocol::Protocol;
use crate::protocol::catalog::Model;
use crate::protocol::sse::Frame;

const DOOR: Door = Door {
    name: "chat",
    protocol: Protocol::Chat,
    generates: true,
    path: "/chat/completions",
};

/// `POST /chat/completions`.
pub async fn complete(request: HttpRequest, body: Bytes, state: web::Data<State>) -> HttpResponse {
    gate::serve(&state, &request, &body, answer(&request, &body, &state)).await
}

async fn answer(request: &HttpRequest, body: &Bytes, state: &State) -> Result<HttpResponse, Instead> {
    let caller = Caller::of(state, request)?;
    let body = gate::object(body)?;
    let mut talk = read(&body);
    let pass = gate::admit(state, &caller, DOOR, &body, &talk)?;
    checks::chat::check(&pass.model, &body)?;
    gate::charge(state, &pass);
    gate::wait(&pass.effects).await;
    suit(&mut talk, &pass.model, &body);
    pass.weight.shown_to(&mut talk);
    let written = Written::new(&pass, talk.answer(pass.effects.wishes), &body);
    Ok(deliver(state, request, &pass, body["stream"] == true, written))
}

/// What was said so far.
pub fn read(body: &Value) -> Conversation {
    let mut talk = Conversation {
        model: body["model"].as_str().unwrap_or_default().to_owned(),
        choice: match &body["tool_choice"] {
            Value::String(choice) if choice == "none" => Choice::None,
            Value::String(choice) if choice == "required" => Choice::Required,
            Value::Object(choice) => choice
                .get("function")
                .and_then(|function| function["name"].as_str())
                .map_or(Choice::Auto, |name| Choice::Named(name.to_owned())),
            _ => Choice::Auto,
        },
        json: match body["response_format"]["type"].as_str() {
            Some("json_object") => Some(json!({"type": "object", "properties": {"answer": {"type": "string"}}})),
            Some("json_schema") => Some(body["response_format"]["json_schema"]["schema"].clone()),
            _ => None,
        },
        max_output: body["max_completion_tokens"].as_u64().or(body["max_tokens"].as_u64()),
        stop: match &body["stop"] {
            Value::String(stop) => vec![stop.clone()],
            stops => texts(stops),
        },
        ..Conversation::default()
    };
    for message in list(body, "messages") {
        let content = content_texts(&message["content"]);
        match message["role"].as_str() {
            Some("system" | "developer") => {
                talk.system.push_str(&content.join("\n"));
                talk.system.push('\n');
            }
            Some("user") => talk.turns.push(Turn::Human(content)),
            Some("tool") => talk.turns.push(Turn::Result(content.join("\n"))),
            _ => {}
        }
    }
    let tools = list(body, "tools").iter().map(|tool| &tool["function"]);
    talk.tools = tools.map(|tool| function(tool, "parameters")).collect();
    talk
}

/// A tool that is called by name with arguments.
pub fn function(tool: &Value, schema: &str) -> Tool {
    Tool {
        name: tool["name"].as_str().unwrap_or_default().to_owned(),
        schema: tool[schema].clone(),
        ..Tool::default()
    }
}

/// The strings of a list.
pub fn texts(value: &Value) -> Vec<String> {
    let items = value.as_array().into_iter().flatten();
    items.filter_map(|item| Some(item.as_str()?.to_owned())).collect()
}

/// The texts of a content: a string, or the `text` of its parts.
pub fn content_texts(content: &Value) -> Vec<String> {
    match content {
        Value::String(text) => vec![text.clone()],
        parts => {
            let parts = parts.as_array().into_iter().flatten();
            parts
                .filter_map(|part| Some(part["text"].as_str()?.to_owned()))
                .collect()
        }
    }
}

/// What depends on the model: whether it thinks aloud, and announces its calls.
fn suit(talk: &mut Conversation, model: &Model, body: &Value) {
    let asked =
        body["thinking_budget"].is_u64() || body["reasoning_effort"].as_str().is_some_and(|effort| effort != "none");
    talk.thinks = asked && !model.is_gpt();
    talk.announces = model.is_claude();
}

/// An answer with everything that is said around it.
struct Written {
    answer: Arc<Answer>,
    usage: Usage,
    copilot_usage: Value,
    id: String,
    created: u64,
    model: Arc<Model>,
    name: String,
    call_ids: Vec<String>,
    /// The client wants usage on the stream.
    include_usage: bool,
    no_done: bool,
}

impl Written {
    fn new(pass: &Pass, answer: Answer, body: &Value) -> Self {
        let usage = pass.weight.usage(Protocol::Chat, pass.cached, &answer);
        let prefix = match pass.model.house() {
            "claude" => "toolu_bdrk_",
            "gemini" => checks::chat::GEMINI_CALL,
            _ => "call_",
        };
        let id = match pass.model.house() {
            "claude" => seals::fresh_hex(32),
            _ => format!("chatcmpl-{}", seals::fresh_hex(28)),
        };
        Self {
            copilot_usage: usage.copilot(&pass.model),
            usage,
            id,
            created: unix_now(),
            model: pass.model.clone(),
            name: served_name(&pass.model),
            call_ids: answer
                .calls
                .iter()
                .map(|_| format!("{prefix}{}", seals::fresh_hex(22)))
                .collect(),
            answer: Arc::new(answer),
            include_usage: body["stream_options"]["include_usage"] == true,
            no_done: pass.effects.pace.no_done,
        }
    }

    fn is_azure(&self) -> bool {
        self.model.vendor == "Azure OpenAI"
    }

    fn usage(&self) -> Value {
        json!({
            "completion_tokens": self.usage.output,
            "completion_tokens_details": {
                "accepted_prediction_tokens": 0,
                "reasoning_tokens": self.usage.reasoning,
                "rejected_prediction_tokens": 0,
            },
            "prompt_tokens": self.usage.input,
            "prompt_tokens_details": {"cached_tokens": self.usage.cached},
            "total_tokens": self.usage.total(),
        })
    }

    fn finish(&self) -> &'static str {
        match self.answer.ending {
            Ending::Stop | Ending::StopSequence(_) => "stop",
            Ending::Calls => "tool_calls",
            Ending::Length => "length",
            Ending::Refusal | Ending::Filter => "content_filter",
        }
    }

    /// Where calls are: Claude puts them into a choice of their own.
    fn call_choice(&self) -> usize {
        usize::from(self.model.is_claude() && !self.answer.text.is_empty())
    }

    /// Opaque reasoning, to come back with the next request.
    fn opaque(&self) -> Option<String> {
        let gemini_calls = self.model.is_gemini() && !self.answer.calls.is_empty();
        (self.answer.reasoning.is_some() || gemini_calls).then(|| seals::seal("opaque", self.model.house()))
    }

    fn filter_results(&self) -> Value {
        let filtered = self.answer.ending == Ending::Filter;
        let verdict =
            |filtered: bool| json!({"filtered": filtered, "severity": if filtered { "medium" } else { "safe" }});
        json!({
            "hate": verdict(false),
            "self_harm": verdict(false),
            "sexual": verdict(false),
            "violence": verdict(filtered),
        })
    }

    fn prompt_filter(&self) -> Value {
        let safe = json!({"filtered": false, "severity": "safe"});
        json!([{
            "content_filter_results": {"hate": safe, "self_harm": safe, "sexual": safe, "violence": safe},
            "prompt_index": 0,
        }])
    }
}

impl Rendering for Written {
    fn answer(&self) -> Arc<Answer> {
        self.answer.clone()
    }

    fn whole(&self) -> Value {
        let mut message = Map::new();
        message.insert("role".into(), json!("assistant"));
        message.insert("padding".into(), json!(padding(self.usage.total())));
        let text = self.answer.whole_text();
        if !text.is_empty() {
            message.insert("content".into(), json!(text));
        }
        if let Some(reasoning) = &self.answer.reasoning {
            message.insert("reasoning_text".into(), json!(reasoning));
        }
        if let Some(opaque) = self.opaque() {
            message.insert("reasoning_opaque".into(), json!(opaque));
        }
        let calls: Vec<Value> = self
            .answer
            .calls
            .iter()
            .zip(&self.call_ids)
            .map(|(call, id)| {
                json!({"function": {"arguments": call.input_text(), "name": call.tool}, "id": id, "type": "function"})
            })
            .collect();
        let finish = self.finish();
        let mut choices = match (calls.is_empty(), self.call_choice()) {
            (false, 1) => {
                let second = json!({"role": "assistant", "tool_calls": calls});
                vec![choice(0, message.into(), finish), choice(1, second, finish)]
            }
            (false, _) => {
                message.insert("tool_calls".into(), calls.into());
                vec![choice(0, message.into(), finish)]
            }
            (true, _) => vec![choice(0, message.into(), finish)],
        };
        let mut answer = json!({
            "copilot_usage": self.copilot_usage,
            "id": self.id,
            "model": self.name,
            "usage": self.usage(),
        });
        if self.is_azure() {
            for choice in &mut choices {
                choice["content_filter_results"] = self.filter_results();
            }
            answer["created"] = json!(self.created);
            answer["prompt_filter_results"] = self.prompt_filter();
            answer["service_tier"] = json!("default");
            answer["system_fingerprint"] = json!("fp_0000000000");
        }
        answer["choices"] = choices.into();
        answer
    }

    fn into_writer(self) -> Box<dyn Writer> {
        Box::new(Chunks::new(self))
    }
}

fn choice(index: usize, message: Value, finish: &str) -> Value {
    json!({"finish_reason": finish, "index": index, "message": message})
}

/// A prefix of the alphabet, its length of no meaning.
fn padding(seed: u64) -> &'static str {
    const LETTERS: &str = "abcdefghijklmnopqrstuvwxyz0123456789";
    LETTERS.get(..(seed % 36) as usize).unwrap_or_default()
}

/// Writes chunks.
struct Chunks {
    written: Written,
    /// `,"created":…,"id":…,"model":…}` of each chunk.
    tail: String,
    begun: [bool; 2],
}

impl Chunks {
    fn new(written: Written) -> Self {
        let tail = format!(
            ",\"created\":{},\"id\":{},\"model\":{}}}",
            written.created,
            json!(written.id),
            json!(written.name)
        );
        Self {
            written,
            tail,
            begun: [false; 2],
        }
    }

    /// A chunk with one delta.
    fn delta(&mut self, choice: usize, mut delta: Map<String, Value>, out: &mut Vec<Frame>) {
        if let Some(begun) = self.begun.get_mut(choice)
            && !std::mem::replace(begun, true)
        {
            delta.insert("role".into(), json!("assistant"));
        }
        let choices = reply::sorted(json!([{"delta": delta, "index": choice}]));
        out.push(Frame::data(format!("{{\"choices\":{choices}{}", self.tail)));
    }

    fn text(&mut self, text: &str, out: &mut Vec<Frame>) {
        if !self.begun[0] {
            let delta = Map::from_iter([("content".to_owned(), json!(text))]);
            return self.delta(0, delta, out);
        }
        let text = serde_json::to_string(text).unwrap_or_default();
        out.push(Frame::data(format!(
            "{{\"choices\":[{{\"delta\":{{\"content\":{text}}},\"index\":0}}]{}",
            self.tail
        )));
    }

    /// The beginning of a call, or the next piece of its input.
    fn call(&mut self, at: usize, piece: Option<String>, out: &mut Vec<Frame>) {
        let Some(call) = self.written.answer.calls.get(at) else {
            return;
        };
        let begins = piece.is_none();
        let is_gemini = self.written.model.is_gemini();
        if is_gemini && !begins {
            return;
        }
        let input = if is_gemini {
            call.input_text()
        } else {
            piece.unwrap_or_default()
        };
        let mut function = json!({"arguments": input});
        let mut delta = json!({"index": if is_gemini { 0 } else { at }});
        if begins || self.written.model.vendor == "Moonshot AI" {
            function["name"] = json!(call.tool);
            delta["id"] = json!(self.written.call_ids.get(at));
            delta["type"] = json!("function");
        }
        delta["function"] = function;
        let delta = Map::from_iter([
            ("content".to_owned(), Value::Null),
            ("tool_calls".to_owned(), json!([delta])),
        ]);
        self.delta(self.written.call_choice(), delta, out);
    }

    fn close(&mut self, out: &mut Vec<Frame>) {
        let written = &self.written;
        if let Some(opaque) = written.opaque() {
            let delta = Map::from_iter([("reasoning_opaque".to_owned(), json!(opaque))]);
            self.delta(0, delta, out);
        }
        let written = &self.written;
        let used: Vec<usize> = if written.call_choice() == 1 && !written.answer.calls.is_empty() {
            vec![0, 1]
        } else {
            vec![0]
        };
        for (at, index) in used.iter().enumerate() {
            let mut choice = json!({"delta": {"content": null}, "finish_reason": written.finish(), "index": index});
            if written.is_azure() {
                choice["content_filter_results"] = written.filter_results();
            }
            let mut chunk = json!({"choices": [choice]});
            chunk["created"] = json!(written.created);
            chunk["id"] = json!(written.id);
            chunk["model"] = json!(written.name);
            if written.is_azure() && at + 1 == used.len() {
                chunk["usage"] = written.usage();
            }
            out.push(Frame::data(reply::json_body(chunk)));
        }
        let mut after = |name: &str, value: Value| {
            let mut chunk = json!({"choices": [], "id": written.id, "model": written.name});
            chunk["created"] = json!(written.created);
            chunk[name] = value;
            out.push(Frame::data(reply::json_body(chunk)));
        };
        if !written.is_azure() && written.include_usage {
            after("usage", written.usage());
        }
        after("copilot_usage", written.copilot_usage.clone());
        if !written.no_done {
            out.push(Frame::data("[DONE]"));
        }
    }
}

impl Writer for Chunks {
    fn write(&mut self, piece: Piece, out: &mut Vec<Frame>) {
        match piece {
            Piece::Open if self.written.is_azure() => {
                let chunk = json!({
                    "choices": [], "created": 0, "id": "", "prompt_filter_results": self.written.prompt_filter(),
                });
                out.push(Frame::data(reply::json_body(chunk)));
                self.delta(0, Map::from_iter([("content".to_owned(), json!(""))]), out);
            }
            Piece::Open => {
                let length = self.written.usage.total();
                let delta = [("content", json!("")), ("padding", json!(padding(length)))];
                let delta = delta.map(|(name, value)| (name.to_owned(), value));
                self.delta(0, Map::from_iter(delta), out);
            }
            Piece::Reasoning(text) => {
                self.delta(0, Map::from_iter([("reasoning_text".to_owned(), json!(text))]), out);
            }
            Piece::Text(text) => self.text(&text, out),
            Piece::CallOpen(at) => self.call(at, None, out),
            Piece::Call(at, input) => self.call(at, Some(input), out),
            Piece::Close => self.close(out),
            Piece::ReasoningOpen
            | Piece::ReasoningClose
            | Piece::Deed(_)
            | Piece::TextOpen
            | Piece::TextClose
            | Piece::CallClose(_) => {}
        }
    }

    fn fail(&mut self, out: &mut Vec<Frame>) {
        let refusal = Refusal::copilot(500, "internal_error", "the model stopped unexpectedly");
        let error = json!({"error": {"code": refusal.code(), "message": refusal.message()}});
        out.push(Frame::data(error.to_string()));
    }
}
