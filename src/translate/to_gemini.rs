//! The turn's events, as a Gemini client's stream. Knows the shape of `GenerateContentResponse`; not who made the
//! events, nor whether they travel as server-sent events or as one JSON array.
//!
//! Text goes out as it comes, a call once its arguments are complete and something else follows: the state of the
//! reasoning before it may come late, and belongs on it. Last is a part without words, with how the answer ended, what
//! it cost, and the state that no call has taken along.

use std::collections::VecDeque;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::carrier::Carrier;
use super::chunk_writer::{self, Fields};
use super::ids::Ids;
use super::rules::tools::{Call, Input};
use super::stops::{Stops, Watched};
use super::to_chat::base;
use super::turn::{Event, Finish, ToolKey, ToolKind, Usage};
use super::{Kept, Reply, Writer, upstream_failure};
use crate::protocol::Dialect;
use crate::protocol::failure::Failure;
use crate::protocol::sse::Frame;

/// Writes one answer.
#[derive(Debug)]
pub struct ToGemini {
    reply: Reply,
    ids: Ids,
    /// `responseId`.
    id: String,
    /// Calls that are not told yet, in the order they were opened.
    calls: VecDeque<Pending>,
    stops: Option<Stops>,
    reasoning: String,
    /// State of the reasoning so far, in order.
    carriers: Vec<String>,
    /// How much of it is told.
    signed: usize,
    usage: Option<Usage>,
    finish: Option<&'static str>,
    over: bool,
    kept: Vec<(String, Kept)>,
}

/// A call that waits until it, and each before it, is complete.
#[derive(Debug)]
struct Pending {
    key: ToolKey,
    id: String,
    name: String,
    kind: ToolKind,
    input: String,
    /// Over, and whether it is whole.
    closed: Option<bool>,
}

impl ToGemini {
    pub fn new(reply: Reply, ids: Ids) -> Self {
        Self {
            stops: Stops::new(&reply.stops),
            reply,
            ids,
            id: String::new(),
            calls: VecDeque::new(),
            reasoning: String::new(),
            carriers: Vec::new(),
            signed: 0,
            usage: None,
            finish: None,
            over: false,
            kept: Vec::new(),
        }
    }

    /// A chunk of one part.
    fn part(&self, ending: Option<&str>, out: &mut Vec<Frame>, part: impl FnOnce(&mut Fields)) {
        let chunk = chunk_writer::object(|chunk| {
            chunk.list("candidates", |candidate| {
                candidate.object("content", |content| {
                    content.list("parts", part);
                    content.set("role", "model");
                });
                if let Some(reason) = ending {
                    candidate.set("finishReason", reason);
                }
                candidate.set("index", &0);
            });
            if ending.is_some() {
                chunk.set("usageMetadata", &metadata(&self.usage.unwrap_or_default()));
            }
            chunk.set("modelVersion", &self.reply.model);
            chunk.set("responseId", &self.id);
        });
        out.push(Frame::data(chunk));
    }

    fn reason(&mut self, text: &str, out: &mut Vec<Frame>) {
        self.tell_calls(out);
        self.reasoning.push_str(text);
        if self.reply.show_reasoning && !text.is_empty() {
            self.part(None, out, |part| {
                part.set("text", text);
                part.set("thought", &true);
            });
        }
    }

    fn text(&mut self, text: &str, out: &mut Vec<Frame>) {
        if text.is_empty() {
            return;
        }
        self.tell_calls(out);
        let Some(stops) = &mut self.stops else {
            return self.say(text, out);
        };
        let Watched { text, stop } = stops.feed(text);
        self.say(&text, out);
        if stop.is_some() {
            self.stops = None;
            self.finish = Some("STOP");
            self.close(out);
        }
    }

    fn say(&self, text: &str, out: &mut Vec<Frame>) {
        if !text.is_empty() {
            self.part(None, out, |part| part.set("text", text));
        }
    }

    /// No more text can complete a stop sequence: tells what was held back for one.
    fn flush(&mut self, out: &mut Vec<Frame>) {
        if let Some(held) = self.stops.as_mut().map(Stops::flush) {
            self.say(&held, out);
        }
    }

    fn open(&mut self, key: ToolKey, id: String, name: String, kind: ToolKind, out: &mut Vec<Frame>) {
        self.flush(out);
        if !self.carriers.is_empty() {
            let kept = Kept {
                model: self.reply.ran.clone(),
                text: self.reasoning.clone(),
                carriers: self.carriers.clone(),
            };
            self.kept.push((id.clone(), kept));
        }
        let name = match self.reply.tools.get(&name) {
            Some(client) => client.name.clone(),
            None => name,
        };
        self.calls.push_back(Pending {
            key,
            id,
            name,
            kind,
            input: String::new(),
            closed: None,
        });
    }

    fn pending(&mut self, key: ToolKey) -> Option<&mut Pending> {
        self.calls.iter_mut().find(|call| call.key == key)
    }

    /// Tells the calls that are complete. One that was cut off has no arguments that could be told.
    fn tell_calls(&mut self, out: &mut Vec<Frame>) {
        while let Some(whole) = self.calls.front().and_then(|call| call.closed) {
            match self.calls.pop_front() {
                Some(call) if whole => self.tell(call, out),
                _ => {}
            }
        }
    }

    fn tell(&mut self, pending: Pending, out: &mut Vec<Frame>) {
        let Pending {
            id, name, kind, input, ..
        } = pending;
        let input = match kind {
            ToolKind::Function => Input::Json(input),
            ToolKind::Custom => Input::Text(input),
        };
        let call = Call { id, name, input };
        let signature = self.signature();
        self.part(None, out, |part| {
            part.object("functionCall", |fields| {
                fields.set("id", &call.id);
                fields.set("name", &call.name);
                fields.set("args", &call.object());
            });
            if let Some(signature) = signature {
                part.set("thoughtSignature", &signature);
            }
        });
    }

    /// The state that is not told yet. Google's clients read a signature as base64.
    fn signature(&mut self) -> Option<String> {
        let untold = self.carriers.get(self.signed..).unwrap_or_default();
        let carrier = match untold {
            [] => return None,
            [one] => one.clone(),
            several => Carrier::List(several.to_vec()).encode(),
        };
        self.signed = self.carriers.len();
        Some(STANDARD.encode(carrier))
    }

    fn close(&mut self, out: &mut Vec<Frame>) {
        let Some(reason) = self.finish else { return };
        let signature = self.signature();
        self.part(Some(reason), out, |part| {
            part.set("text", "");
            if let Some(signature) = signature {
                part.set("thoughtSignature", &signature);
            }
        });
        self.over = true;
    }
}

impl Writer for ToGemini {
    fn feed(&mut self, event: Event, out: &mut Vec<Frame>) -> Result<(), Failure> {
        if self.over {
            return Ok(());
        }
        match event {
            Event::Start { upstream_id, .. } => {
                self.id = match base(&upstream_id) {
                    "" => self.ids.mint(""),
                    base => base.to_owned(),
                };
            }
            Event::Reason(text) => self.reason(&text, out),
            Event::ReasonSeal { state } => self.carriers.extend(state),
            Event::Text(text) => self.text(&text, out),
            Event::Refusal(text) => {
                self.flush(out);
                self.tell_calls(out);
                self.say(&text, out);
            }
            Event::ToolOpen { key, id, name, kind } => self.open(key, id, name, kind, out),
            Event::ToolArgs { key, piece } => {
                if let Some(call) = self.pending(key) {
                    call.input.push_str(&piece);
                }
            }
            Event::ToolClose { key, complete } => {
                if let Some(call) = self.pending(key) {
                    call.closed = Some(complete);
                }
            }
            // Searches are not asked for here, so nothing is found and nothing cited.
            Event::Search(_) | Event::Compaction(_) | Event::Cite(_) => {}
            Event::Usage(usage) => self.usage.get_or_insert_default().update(&usage),
            Event::Finish(finish) => {
                self.flush(out);
                self.tell_calls(out);
                self.finish = Some(finish_reason(&finish));
            }
        }
        // Usage is mostly known by now; where it is not, it may still come.
        if self.finish.is_some() && !self.over && self.usage.is_some() {
            self.close(out);
        }
        Ok(())
    }

    fn end(&mut self, out: &mut Vec<Frame>) {
        if !self.over {
            self.close(out);
        }
    }

    fn fail(&mut self, failure: &Failure, out: &mut Vec<Frame>) {
        if !std::mem::replace(&mut self.over, true) {
            let failure = upstream_failure::for_client(failure.clone(), Dialect::Gemini);
            out.push(Frame::data(failure.body(Dialect::Gemini, "").to_string()));
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
        Finish::Stop | Finish::StopSequence(_) | Finish::Pause | Finish::ToolCalls => "STOP",
        Finish::Length | Finish::ContextFull => "MAX_TOKENS",
        Finish::ContentFilter | Finish::Refusal => "SAFETY",
    }
}

/// Google counts what was thought beside what was answered.
fn metadata(usage: &Usage) -> Value {
    let (input, output) = (usage.input.unwrap_or(0), usage.output.unwrap_or(0));
    let reasoning = usage.reasoning.unwrap_or(0);
    json!({
        "promptTokenCount": input,
        "candidatesTokenCount": output.saturating_sub(reasoning),
        "thoughtsTokenCount": reasoning,
        "cachedContentTokenCount": usage.cached.unwrap_or(0),
        "totalTokenCount": input.saturating_add(output),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::failure::Kind;

    fn written(reply: Reply, events: Vec<Event>) -> Vec<Value> {
        let (mut writer, mut out) = (ToGemini::new(reply, Ids::new("req_1", 1)), Vec::new());
        let start = Event::Start {
            upstream_id: String::new(),
            created: None,
        };
        for event in std::iter::once(start).chain(events) {
            writer.feed(event, &mut out).unwrap();
        }
        writer.end(&mut out);
        assert!(writer.is_over());
        out.iter()
            .map(|frame| serde_json::from_slice(&frame.data).unwrap())
            .collect()
    }

    fn parts(chunks: &[Value]) -> Vec<Value> {
        let part = |chunk: &Value| chunk["candidates"][0]["content"]["parts"][0].clone();
        chunks.iter().map(part).collect()
    }

    fn call(key: ToolKey, arguments: &str, complete: bool) -> [Event; 3] {
        [
            Event::ToolOpen {
                key,
                id: format!("call_{key}"),
                name: "f".into(),
                kind: ToolKind::Function,
            },
            Event::ToolArgs {
                key,
                piece: arguments.into(),
            },
            Event::ToolClose { key, complete },
        ]
    }

    fn seal() -> Event {
        Event::ReasonSeal {
            state: Some("cpx1.n.e30.".into()),
        }
    }

    #[test]
    fn state_that_comes_late_stands_on_the_first_call() {
        let calls = [call(0, r#"{"a":1}"#, true), call(1, "", true)].into_iter().flatten();
        let events = calls.chain([seal(), Event::Finish(Finish::ToolCalls)]).collect();
        let chunks = written(Reply::default(), events);
        let signature = STANDARD.encode("cpx1.n.e30.");
        assert_eq!(
            parts(&chunks),
            [
                json!({"functionCall": {"id": "call_0", "name": "f", "args": {"a": 1}}, "thoughtSignature": signature}),
                json!({"functionCall": {"id": "call_1", "name": "f", "args": {}}}),
                json!({"text": ""}),
            ]
        );
        assert_eq!(chunks[2]["candidates"][0]["finishReason"], "STOP");
    }

    #[test]
    fn state_that_no_call_takes_along_stands_on_the_last_text() {
        let events = vec![Event::Text("a".into()), seal(), seal(), Event::Finish(Finish::Stop)];
        let last = parts(&written(Reply::default(), events)).pop().unwrap();
        let signature = STANDARD.decode(last["thoughtSignature"].as_str().unwrap()).unwrap();
        let carriers = Carrier::all(std::str::from_utf8(&signature).unwrap());
        assert_eq!((&last["text"], carriers.len()), (&json!(""), 2));
    }

    #[test]
    fn a_call_that_was_cut_off_is_not_made() {
        let events = call(0, r#"{"a":"#, false)
            .into_iter()
            .chain([Event::Finish(Finish::Length)]);
        let chunks = written(Reply::default(), events.collect());
        assert_eq!(parts(&chunks), [json!({"text": ""})]);
        assert_eq!(chunks[0]["candidates"][0]["finishReason"], "MAX_TOKENS");
    }

    #[test]
    fn a_stop_sequence_is_watched_for_where_upstream_cannot() {
        let reply = Reply {
            stops: vec!["END".into()],
            ..Reply::default()
        };
        let chunks = written(reply, ["a E", "ND b"].map(|text| Event::Text(text.into())).into());
        assert_eq!(parts(&chunks), [json!({"text": "a "}), json!({"text": ""})]);
    }

    #[test]
    fn thoughts_are_counted_beside_the_answer() {
        let usage = Usage {
            input: Some(10),
            cached: Some(4),
            output: Some(7),
            reasoning: Some(5),
            ..Usage::default()
        };
        let chunks = written(Reply::default(), vec![Event::Finish(Finish::Stop), Event::Usage(usage)]);
        assert_eq!(
            chunks[0]["usageMetadata"],
            json!({"promptTokenCount": 10, "candidatesTokenCount": 2, "thoughtsTokenCount": 5,
                "cachedContentTokenCount": 4, "totalTokenCount": 17})
        );
    }

    #[test]
    fn a_failure_is_told_once_in_googles_shape() {
        let (mut writer, mut out) = (ToGemini::new(Reply::default(), Ids::new("req_1", 1)), Vec::new());
        for _ in 0..2 {
            writer.fail(&Failure::new(Kind::UpstreamTimeout, "too slow"), &mut out);
        }
        let told: Vec<Value> = out
            .iter()
            .map(|frame| serde_json::from_slice(&frame.data).unwrap())
            .collect();
        assert_eq!(
            told,
            [json!({"error": {"code": 504, "message": "too slow", "status": "DEADLINE_EXCEEDED"}})]
        );
    }
}
