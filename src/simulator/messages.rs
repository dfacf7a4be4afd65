//! `/v1/messages` and `/v1/messages/count_tokens`: reads a conversation, writes an answer, whole or as events. Some
//! models are served by Bedrock and some by Vertex, which shows in ids and in what stands at the end of a stream.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use serde_json::{Value, json};

use super::chat::{content_texts, function, texts};
use super::checks::{self, list};
use super::delivery::{Rendering, deliver};
use super::faults::Instead;
use super::gate::{self, Caller, Door, Pass};
use super::mind::{Answer, Choice, Conversation, Ending, Turn};
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
    name: "messages",
    protocol: Protocol::Messages,
    generates: true,
    path: "/v1/messages",
};

const COUNT: Door = Door {
    name: "count_tokens",
    generates: false,
    path: "/v1/messages/count_tokens",
    ..DOOR
};

/// `POST /v1/messages`.
pub async fn create(request: HttpRequest, body: Bytes, state: web::Data<State>) -> HttpResponse {
    gate::serve(&state, &request, &body, answer(&request, &body, &state)).await
}

async fn answer(request: &HttpRequest, body: &Bytes, state: &State) -> Result<HttpResponse, Instead> {
    let caller = Caller::of(state, request)?;
    let body = gate::object(body)?;
    let mut talk = read(&body);
    let pass = gate::admit(state, &caller, DOOR, &body, &talk)?;
    checks::messages::check(&pass.model, &body, &betas(request))?;
    gate::charge(state, &pass);
    gate::wait(&pass.effects).await;
    talk.thinks = matches!(body["thinking"]["type"].as_str(), Some("enabled" | "adaptive"));
    talk.announces = true;
    pass.weight.shown_to(&mut talk);
    let written = Written::new(&pass, talk.answer(pass.effects.wishes), &body);
    Ok(deliver(state, request, &pass, body["stream"] == true, written))
}

/// `POST /v1/messages/count_tokens`.
pub async fn count_tokens(request: HttpRequest, body: Bytes, state: web::Data<State>) -> HttpResponse {
    let counted = async {
        let caller = Caller::of(&state, &request)?;
        let body = gate::object(&body)?;
        let pass = gate::admit(&state, &caller, COUNT, &body, &read(&body))?;
        checks::messages::check_count(&pass.model, &body, &betas(&request))?;
        let count = json!({"input_tokens": pass.weight.total()});
        Ok(reply::head(&request, 200)
            .content_type("application/json")
            .body(reply::json_body(count)))
    };
    gate::serve(&state, &request, &body, counted).await
}

fn betas(request: &HttpRequest) -> Vec<&str> {
    let values = request.headers().get_all("anthropic-beta");
    let values = values.filter_map(|value| value.to_str().ok());
    let names = values.flat_map(|value| value.split(','));
    names.map(str::trim).filter(|name| !name.is_empty()).collect()
}

/// What was said so far.
pub fn read(body: &Value) -> Conversation {
    let mut talk = Conversation {
        model: body["model"].as_str().unwrap_or_default().to_owned(),
        system: content_texts(&body["system"]).join("\n"),
        choice: match body["tool_choice"]["type"].as_str() {
            Some("none") => Choice::None,
            Some("any") => Choice::Required,
            Some("tool") => Choice::Named(body["tool_choice"]["name"].as_str().unwrap_or_default().to_owned()),
            _ => Choice::Auto,
        },
        json: body["output_config"]["format"].get("schema").cloned(),
        max_output: body["max_tokens"].as_u64(),
        stop: texts(&body["stop_sequences"]),
        ..Conversation::default()
    };
    for message in list(body, "messages") {
        read_message(message, &mut talk);
    }
    talk.tools = list(body, "tools")
        .iter()
        .map(|tool| function(tool, "input_schema"))
        .collect();
    talk
}

fn read_message(message: &Value, talk: &mut Conversation) {
    let content = &message["content"];
    match message["role"].as_str() {
        Some("user") => {
            let results = list(message, "content")
                .iter()
                .filter(|block| block["type"] == "tool_result");
            talk.turns
                .extend(results.map(|block| Turn::Result(content_texts(&block["content"]).join("\n"))));
            let said = content_texts(content);
            if !said.is_empty() {
                talk.turns.push(Turn::Human(said));
            }
        }
        Some("assistant") => {}
        _ => {
            talk.system.push('\n');
            talk.system.push_str(&content_texts(content).join("\n"));
        }
    }
}

/// An answer with everything that is said around it.
struct Written {
    answer: Arc<Answer>,
    usage: Usage,
    copilot_usage: Value,
    id: String,
    name: String,
    call_ids: Vec<String>,
    /// Thinking as it is shown: not at all for some.
    thinking: Option<String>,
    signature: String,
    bedrock: bool,
    no_done: bool,
}

impl Written {
    fn new(pass: &Pass, answer: Answer, body: &Value) -> Self {
        let model = &pass.model;
        let usage = pass.weight.usage(Protocol::Messages, pass.cached, &answer);
        let bedrock = model.supports.structured_outputs;
        let house = if bedrock { "bdrk" } else { "vrtx" };
        // A refusal of a thinking model shows a thought without words.
        let is_silent = answer.ending == Ending::Refusal && !body["thinking"].is_null();
        let thinking = match &answer.reasoning {
            Some(_) if is_omitted(model, body) => Some(String::new()),
            None if is_silent => Some(String::new()),
            reasoning => reasoning.clone(),
        };
        let call_id = || format!("toolu_{house}_{}", seals::fresh_hex(24));
        Self {
            copilot_usage: usage.copilot(model),
            usage,
            id: format!("msg_{house}_{}", seals::fresh_hex(24)),
            name: served_name(model),
            call_ids: answer.calls.iter().map(|_| call_id()).collect(),
            signature: seals::seal("thinking", thinking.as_deref().unwrap_or_default()),
            thinking,
            bedrock,
            answer: Arc::new(answer),
            no_done: pass.effects.pace.no_done,
        }
    }

    fn usage(&self, output: u64) -> Value {
        let usage = &self.usage;
        json!({
            "cache_creation": {
                "ephemeral_1h_input_tokens": 0,
                "ephemeral_5m_input_tokens": usage.cache_write,
            },
            "cache_creation_input_tokens": usage.cache_write,
            "cache_read_input_tokens": usage.cached,
            "inference_geo": "global",
            "input_tokens": usage.input.saturating_sub(usage.cached + usage.cache_write),
            "output_tokens": output,
            "output_tokens_details": {"thinking_tokens": usage.reasoning},
        })
    }

    fn stop(&self) -> Value {
        let (reason, sequence) = match &self.answer.ending {
            Ending::Stop => ("end_turn", None),
            Ending::StopSequence(sequence) => ("stop_sequence", Some(sequence)),
            Ending::Calls => ("tool_use", None),
            Ending::Length => ("max_tokens", None),
            Ending::Refusal | Ending::Filter => ("refusal", None),
        };
        let category = if self.answer.ending == Ending::Filter {
            json!("cyber")
        } else {
            Value::Null
        };
        let details = (reason == "refusal")
            .then(|| json!({"category": category, "explanation": "This request was declined.", "type": "refusal"}));
        json!({"stop_details": details, "stop_reason": reason, "stop_sequence": sequence})
    }
}

impl Rendering for Written {
    fn answer(&self) -> Arc<Answer> {
        self.answer.clone()
    }

    fn whole(&self) -> Value {
        let mut content = Vec::new();
        if let Some(thinking) = &self.thinking {
            content.push(json!({"signature": self.signature, "thinking": thinking, "type": "thinking"}));
        }
        if !self.answer.text.is_empty() {
            content.push(json!({"text": self.answer.whole_text(), "type": "text"}));
        }
        for (call, id) in self.answer.calls.iter().zip(&self.call_ids) {
            // A call that broke off has no input that could be shown.
            let input = if call.input.is_object() {
                call.input.clone()
            } else {
                json!({})
            };
            content.push(json!({"id": id, "input": input, "name": call.tool, "type": "tool_use"}));
        }
        let mut answer = self.stop();
        answer["content"] = content.into();
        answer["context_management"] = json!({"applied_edits": []});
        answer["copilot_usage"] = self.copilot_usage.clone();
        answer["id"] = json!(self.id);
        answer["model"] = json!(self.name);
        answer["role"] = json!("assistant");
        answer["type"] = json!("message");
        answer["usage"] = self.usage(self.usage.output);
        answer
    }

    fn into_writer(self) -> Box<dyn Writer> {
        Box::new(Events {
            written: self,
            index: 0,
        })
    }
}

/// Whether thinking is signed but not shown: when asked for, and by default in newer models.
fn is_omitted(model: &Model, body: &Value) -> bool {
    match body["thinking"]["display"].as_str() {
        Some(display) => display == "omitted",
        None => body["thinking"]["type"] == "adaptive" && checks::messages::adaptive_only(model),
    }
}

/// Writes events.
struct Events {
    written: Written,
    /// Place of the block under way.
    index: usize,
}

impl Events {
    fn send(&self, kind: &'static str, mut event: Value, out: &mut Vec<Frame>) {
        event["type"] = json!(kind);
        out.push(Frame::named(kind, reply::json_body(event)));
    }

    fn start(&self, block: Value, out: &mut Vec<Frame>) {
        let event = json!({"content_block": block, "index": self.index});
        self.send("content_block_start", event, out);
    }

    fn delta(&self, delta: Value, out: &mut Vec<Frame>) {
        self.send("content_block_delta", json!({"delta": delta, "index": self.index}), out);
    }

    fn stop(&mut self, out: &mut Vec<Frame>) {
        self.send("content_block_stop", json!({"index": self.index}), out);
        self.index += 1;
    }

    /// The most frequent event, written without a tree.
    fn text(&self, text: &str, out: &mut Vec<Frame>) {
        let text = serde_json::to_string(text).unwrap_or_default();
        let data = format!(
            "{{\"delta\":{{\"text\":{text},\"type\":\"text_delta\"}},\"index\":{},\"type\":\"content_block_delta\"}}",
            self.index
        );
        out.push(Frame::named("content_block_delta", data));
    }

    fn open(&self, out: &mut Vec<Frame>) {
        let written = &self.written;
        let message = json!({
            "content": [], "id": written.id, "model": written.name, "role": "assistant", "stop_details": null,
            "stop_reason": null, "stop_sequence": null, "type": "message", "usage": written.usage(1),
        });
        self.send("message_start", json!({"message": message}), out);
        if !matches!(written.answer.ending, Ending::Refusal | Ending::Filter) {
            self.send("ping", json!({}), out);
        }
    }

    fn close(&mut self, out: &mut Vec<Frame>) {
        if self.written.answer.reasoning.is_none() && self.written.thinking.is_some() {
            self.start(json!({"signature": "", "thinking": "", "type": "thinking"}), out);
            self.sign(out);
        }
        let written = &self.written;
        let event = json!({
            "context_management": {"applied_edits": []},
            "copilot_usage": written.copilot_usage,
            "delta": written.stop(),
            "usage": written.usage(written.usage.output),
        });
        self.send("message_delta", event, out);
        if written.no_done {
            return;
        }
        let mut event = json!({});
        if written.bedrock {
            event["amazon-bedrock-invocationMetrics"] = json!({
                "cacheReadInputTokenCount": written.usage.cached,
                "cacheWriteInputTokenCount": written.usage.cache_write,
                "firstByteLatency": 10,
                "inputTokenCount": written.usage.input,
                "invocationLatency": 20,
                "outputTokenCount": written.usage.output,
            });
        }
        self.send("message_stop", event, out);
        if !written.bedrock {
            out.push(Frame::data("[DONE]"));
        }
    }

    fn sign(&mut self, out: &mut Vec<Frame>) {
        self.delta(
            json!({"signature": self.written.signature, "type": "signature_delta"}),
            out,
        );
        self.stop(out);
    }
}

impl Writer for Events {
    fn write(&mut self, piece: Piece, out: &mut Vec<Frame>) {
        match piece {
            Piece::Open => self.open(out),
            Piece::ReasoningOpen => self.start(json!({"signature": "", "thinking": "", "type": "thinking"}), out),
            Piece::Reasoning(text) => {
                if self.written.thinking.as_deref().is_some_and(|shown| !shown.is_empty()) {
                    self.delta(json!({"thinking": text, "type": "thinking_delta"}), out);
                }
            }
            Piece::ReasoningClose => self.sign(out),
            Piece::Deed(_) => {}
            Piece::TextOpen => self.start(json!({"text": "", "type": "text"}), out),
            Piece::Text(text) => self.text(&text, out),
            Piece::TextClose => self.stop(out),
            Piece::CallOpen(at) => {
                let (calls, ids) = (&self.written.answer.calls, &self.written.call_ids);
                let name = calls.get(at).map(|call| call.tool.as_str());
                self.start(
                    json!({"id": ids.get(at), "input": {}, "name": name, "type": "tool_use"}),
                    out,
                );
                self.delta(json!({"partial_json": "", "type": "input_json_delta"}), out);
            }
            Piece::Call(_, input) => self.delta(json!({"partial_json": input, "type": "input_json_delta"}), out),
            Piece::CallClose(_) => self.stop(out),
            Piece::Close => self.close(out),
        }
    }

    fn fail(&mut self, out: &mut Vec<Frame>) {
        let error = json!({"message": "Overloaded", "type": "overloaded_error"});
        self.send("error", json!({"error": error}), out);
    }
}
