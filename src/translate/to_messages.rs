//! The turn's events, as a messages client's stream. Knows no upstream.
//!
//! The client takes one block at a time, an upstream may bring several at once. While a call is open whose arguments
//! are not whole yet, whatever else arrives waits in line and is written, in order of arrival, once the call is over.

use std::collections::{BTreeMap, VecDeque};
use std::io::Write;

use serde_json::{Value, json};

use super::carrier::Carrier;
use super::fold::messages::event;
use super::ids::Ids;
use super::rules::searches::SEARCH_ID;
use super::rules::tools::fit_id;
use super::rules::usage;
use super::stops::Stops;
use super::turn::{Citation, Event, Finish, Search, ToolKey, Usage};
use super::{Kept, Reply, Writer, upstream_failure};
use crate::protocol::failure::{Failure, Kind};
use crate::protocol::sse::Frame;
use crate::protocol::{Protocol, json as json_text};

/// Writes a Messages stream.
pub struct ToMessages {
    reply: Reply,
    ids: Ids,
    usage: Usage,
    stops: Option<Stops>,
    begun: bool,
    /// The index of the next block.
    next: usize,
    open: Option<Open>,
    calls: BTreeMap<ToolKey, Call>,
    /// What arrived while another call was under way.
    waiting: VecDeque<Waiting>,
    searches: u64,
    declined: bool,
    reasoning: Reasoning,
    /// Thinking has been shown whose state had not come when its block ended.
    unsealed: bool,
    /// That state, which came behind text. Only calls need it: clients take an answer's last block for its result, so it
    /// goes before a call, and not behind text that ends the answer.
    late: Option<String>,
    /// The ending, while it waits for late usage.
    ending: Option<Finish>,
    over: bool,
    kept: Vec<(String, Kept)>,
}

/// The block that is open at the client.
#[derive(Clone, Copy, PartialEq)]
enum Open {
    Text,
    Thinking,
    Call(ToolKey),
}

struct Call {
    id: String,
    name: String,
    args: String,
    /// How much of `args` the client has.
    written: usize,
    /// Up to here `args` are known to be no whole object.
    partial: usize,
    /// Upstream says that the call is over.
    closed: bool,
    /// The client has seen the block's end.
    stopped: bool,
    /// How many carriers had come before the call.
    carriers: usize,
}

/// A block that waits for its turn.
enum Waiting {
    Text(String),
    Thinking { text: String, seal: Option<Option<String>> },
    Call(ToolKey),
    Search(Search),
}

/// The turn's reasoning, for clients that lose it.
#[derive(Default)]
struct Reasoning {
    text: String,
    carriers: Vec<String>,
}

impl ToMessages {
    pub fn new(reply: Reply, ids: Ids) -> Self {
        Self {
            stops: Stops::new(&reply.stops),
            reply,
            ids,
            usage: Usage::default(),
            begun: false,
            next: 0,
            open: None,
            calls: BTreeMap::new(),
            waiting: VecDeque::new(),
            searches: 0,
            declined: false,
            reasoning: Reasoning::default(),
            unsealed: false,
            late: None,
            ending: None,
            over: false,
            kept: Vec::new(),
        }
    }

    fn begin(&mut self, upstream_id: &str, out: &mut Vec<Frame>) {
        if self.begun {
            return;
        }
        self.begun = true;
        let message = json!({
            "id": self.message_id(upstream_id),
            "type": "message",
            "role": "assistant",
            "model": self.reply.model,
            "content": [],
            "stop_reason": null,
            "stop_sequence": null,
            "stop_details": null,
            "container": null,
            "usage": self.usage(),
        });
        out.push(event("message_start", json!({"message": message})));
        out.push(event("ping", json!({})));
    }

    fn message_id(&mut self, upstream_id: &str) -> String {
        let name: String = upstream_id
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .take(64)
            .collect();
        match name.strip_prefix("msg").unwrap_or(&name) {
            "" => self.ids.mint("msg_"),
            name => format!("msg_{name}"),
        }
    }

    /// Whether what arrives now must wait for the call that is open. Ends that call if it can be ended.
    fn must_wait(&mut self, out: &mut Vec<Frame>) -> bool {
        while let Some(Open::Call(key)) = self.open {
            if !self.calls.get_mut(&key).is_none_or(Call::is_whole) {
                return true;
            }
            self.close(out);
            self.serve_waiting(out);
        }
        false
    }

    /// Writes what waits, up to and including the first call that upstream has not finished.
    fn serve_waiting(&mut self, out: &mut Vec<Frame>) {
        while !matches!(self.open, Some(Open::Call(_)))
            && let Some(block) = self.waiting.pop_front()
        {
            match block {
                Waiting::Text(text) => self.write_text(&text, out),
                Waiting::Thinking { text, seal } => {
                    self.write_thinking(&text, out);
                    if let Some(state) = seal {
                        self.write_seal(state, out);
                    }
                }
                Waiting::Search(search) => self.write_search(&search, out),
                Waiting::Call(key) => {
                    self.write_call(key, out);
                    if self.calls.get(&key).is_none_or(|call| call.closed) {
                        self.close(out);
                    }
                }
            }
        }
    }

    fn text(&mut self, piece: String, out: &mut Vec<Frame>) {
        if piece.is_empty() {
            return;
        }
        if !self.must_wait(out) {
            self.write_text(&piece, out);
        } else if let Some(Waiting::Text(text)) = self.waiting.back_mut() {
            text.push_str(&piece);
        } else {
            self.waiting.push_back(Waiting::Text(piece));
        }
    }

    /// Text that a stop sequence may cut: the answer ends where it does.
    fn watched_text(&mut self, piece: String, out: &mut Vec<Frame>) {
        let Some(stops) = &mut self.stops else {
            return self.text(piece, out);
        };
        let watched = stops.feed(&piece);
        self.text(watched.text, out);
        if let Some(stop) = watched.stop {
            self.finish(Finish::StopSequence(Some(stop)), out);
            self.end(out);
        }
    }

    /// The text is interrupted: what was held back cannot begin a stop sequence any more.
    fn release_text(&mut self, out: &mut Vec<Frame>) {
        if let Some(stops) = &mut self.stops {
            let text = stops.flush();
            self.text(text, out);
        }
    }

    fn reason(&mut self, piece: String, out: &mut Vec<Frame>) {
        self.reasoning.text.push_str(&piece);
        if !self.reply.show_reasoning || self.reply.omit_thinking {
            return;
        }
        if !self.must_wait(out) {
            self.write_thinking(&piece, out);
        } else if let Some(Waiting::Thinking { text, seal: None }) = self.waiting.back_mut() {
            text.push_str(&piece);
        } else {
            self.waiting.push_back(Waiting::Thinking {
                text: piece,
                seal: None,
            });
        }
    }

    fn seal(&mut self, state: Option<String>, out: &mut Vec<Frame>) {
        self.reasoning.carriers.extend(state.clone());
        if !self.reply.show_reasoning {
            return;
        }
        if !self.must_wait(out) {
            self.write_seal(state, out);
        } else if let Some(Waiting::Thinking { seal: seal @ None, .. }) = self.waiting.back_mut() {
            *seal = Some(state);
        } else {
            self.waiting.push_back(Waiting::Thinking {
                text: String::new(),
                seal: Some(state),
            });
        }
    }

    fn open_call(&mut self, key: ToolKey, id: String, name: String, out: &mut Vec<Frame>) {
        let waits = self.must_wait(out);
        let name = self.reply.tools.get(&name).map_or(name, |tool| tool.name.clone());
        let id = match id.as_str() {
            "" => self.ids.mint_call("toolu_"),
            id => fit_id(Protocol::Messages, id).into_owned(),
        };
        let call = Call {
            id,
            name,
            args: String::new(),
            written: 0,
            partial: 0,
            closed: false,
            stopped: false,
            carriers: self.reasoning.carriers.len(),
        };
        self.calls.insert(key, call);
        if waits {
            self.waiting.push_back(Waiting::Call(key));
        } else {
            self.write_call(key, out);
        }
    }

    fn arguments(&mut self, key: ToolKey, piece: &str, out: &mut Vec<Frame>) -> Result<(), Failure> {
        let Some(call) = self.calls.get_mut(&key) else {
            return Ok(());
        };
        if call.stopped {
            // Its arguments were whole, so the client was told of its end.
            return if piece.trim().is_empty() {
                Ok(())
            } else {
                Err(too_late())
            };
        }
        call.args.push_str(piece);
        if self.open == Some(Open::Call(key)) {
            self.write_arguments(key, out);
        } else {
            self.must_wait(out);
        }
        Ok(())
    }

    fn close_call(&mut self, key: ToolKey, out: &mut Vec<Frame>) {
        if let Some(call) = self.calls.get_mut(&key) {
            call.closed = true;
            if self.open == Some(Open::Call(key)) {
                self.close(out);
                self.serve_waiting(out);
            }
        }
    }

    fn search(&mut self, search: Search, out: &mut Vec<Frame>) {
        self.searches += u64::from(search.error.is_none());
        if !self.reply.web_search {
            return;
        }
        if self.must_wait(out) {
            self.waiting.push_back(Waiting::Search(search));
        } else {
            self.write_search(&search, out);
        }
    }

    fn cite(&mut self, cited: Citation, out: &mut Vec<Frame>) {
        if self.reply.web_search && self.open == Some(Open::Text) {
            let citation = json!({
                "type": "web_search_result_location",
                "url": cited.url,
                "title": cited.title,
                "encrypted_index": "",
                "cited_text": cited.cited_text,
            });
            let delta = json!({"type": "citations_delta", "citation": citation});
            let index = self.next.saturating_sub(1);
            out.push(event("content_block_delta", json!({"index": index, "delta": delta})));
        }
    }

    /// Closes all that is open; the ending itself waits while its usage is unknown.
    fn finish(&mut self, ending: Finish, out: &mut Vec<Frame>) {
        for call in self.calls.values_mut() {
            call.closed = true;
        }
        self.must_wait(out);
        self.close(out);
        self.serve_waiting(out);
        self.close(out);
        self.keep_reasoning();
        let ending = match ending.given_calls(!self.calls.is_empty()) {
            Finish::Stop if self.declined => Finish::Refusal,
            other => other,
        };
        self.ending = Some(ending);
        if self.usage.output.is_some() {
            self.end(out);
        }
    }

    /// What preceded each call; a state that came only after the calls belongs to all of them.
    fn keep_reasoning(&mut self) {
        let Reasoning { text, carriers } = &self.reasoning;
        for call in self.calls.values() {
            let before = carriers.get(..call.carriers).unwrap_or_default();
            let carriers = if before.is_empty() { carriers } else { before };
            if !carriers.is_empty() {
                let kept = Kept {
                    model: self.reply.ran.clone(),
                    text: text.clone(),
                    carriers: carriers.to_vec(),
                };
                self.kept.push((call.id.clone(), kept));
            }
        }
    }

    /// What is known of the tokens.
    fn usage(&self) -> Value {
        let told = self
            .usage
            .searches
            .or(Some(self.searches))
            .filter(|&searches| searches > 0);
        let usage = Usage {
            searches: told.filter(|_| self.reply.web_search),
            ..self.usage
        };
        usage::write(Protocol::Messages, &usage)
    }
}

/// The blocks as they are written: nothing here waits.
impl ToMessages {
    fn write_text(&mut self, piece: &str, out: &mut Vec<Frame>) {
        if self.open != Some(Open::Text) {
            self.close(out);
            self.start_block(json!({"type": "text", "text": ""}), out);
            self.open = Some(Open::Text);
        }
        self.write_delta("text_delta", "text", piece, out);
    }

    fn write_thinking(&mut self, piece: &str, out: &mut Vec<Frame>) {
        if !piece.is_empty() {
            self.open_thinking(out);
            self.write_delta("thinking_delta", "thinking", piece, out);
        }
    }

    fn open_thinking(&mut self, out: &mut Vec<Frame>) {
        if self.open != Some(Open::Thinking) {
            self.close(out);
            self.start_block(json!({"type": "thinking", "thinking": "", "signature": ""}), out);
            self.open = Some(Open::Thinking);
        }
    }

    fn write_seal(&mut self, state: Option<String>, out: &mut Vec<Frame>) {
        if self.reply.omit_thinking && state.is_some() {
            self.open_thinking(out);
        }
        if self.open == Some(Open::Thinking) {
            self.unsealed = state.is_none();
            let signature = state.unwrap_or_else(|| Carrier::Nothing.encode());
            self.write_delta("signature_delta", "signature", &signature, out);
            self.open = None;
            self.stop_block(out);
        } else if let Some(state) = state {
            if self.unsealed && self.open == Some(Open::Text) && self.calls.is_empty() {
                self.late = Some(state);
            } else {
                self.close(out);
                self.write_state(&state, out);
            }
            self.unsealed = false;
        }
    }

    fn write_state(&mut self, state: &str, out: &mut Vec<Frame>) {
        self.start_block(json!({"type": "redacted_thinking", "data": state}), out);
        self.stop_block(out);
    }

    fn write_call(&mut self, key: ToolKey, out: &mut Vec<Frame>) {
        self.close(out);
        if let Some(state) = self.late.take() {
            self.write_state(&state, out);
        }
        let Some(call) = self.calls.get(&key) else {
            return;
        };
        let block = json!({"type": "tool_use", "id": call.id, "name": call.name, "input": {}});
        self.start_block(block, out);
        self.open = Some(Open::Call(key));
        self.write_arguments(key, out);
    }

    fn write_arguments(&mut self, key: ToolKey, out: &mut Vec<Frame>) {
        let index = self.next.saturating_sub(1);
        if let Some(call) = self.calls.get_mut(&key)
            && let Some(news) = call.args.get(call.written..).filter(|news| !news.is_empty())
        {
            out.push(delta(index, "input_json_delta", "partial_json", news));
            call.written = call.args.len();
        }
    }

    fn write_search(&mut self, search: &Search, out: &mut Vec<Frame>) {
        self.close(out);
        let id = self.ids.mint(SEARCH_ID);
        self.start_block(
            json!({"type": "server_tool_use", "id": id, "name": "web_search", "input": {}}),
            out,
        );
        let input = json!({"query": search.query}).to_string();
        self.write_delta("input_json_delta", "partial_json", &input, out);
        self.stop_block(out);
        let results = search.results.iter().map(|result| {
            json!({
                "type": "web_search_result",
                "url": result.url,
                "title": result.title,
                "encrypted_content": result.encrypted,
                "page_age": result.page_age,
            })
        });
        let results: Value = match &search.error {
            Some(code) => json!({"type": "web_search_tool_result_error", "error_code": code}),
            None => results.collect(),
        };
        self.start_block(
            json!({"type": "web_search_tool_result", "tool_use_id": id, "content": results}),
            out,
        );
        self.stop_block(out);
    }

    /// Closes the block that is open, if one is.
    fn close(&mut self, out: &mut Vec<Frame>) {
        match self.open.take() {
            None => return,
            Some(Open::Text) => {}
            Some(Open::Thinking) => {
                let signature = Carrier::Nothing.encode();
                self.write_delta("signature_delta", "signature", &signature, out);
                self.unsealed = true;
            }
            Some(Open::Call(key)) => {
                if let Some(call) = self.calls.get_mut(&key) {
                    call.stopped = true;
                }
            }
        }
        self.stop_block(out);
    }

    fn start_block(&mut self, block: Value, out: &mut Vec<Frame>) {
        let fields = json!({"index": self.next, "content_block": block});
        out.push(event("content_block_start", fields));
        self.next += 1;
    }

    fn write_delta(&self, kind: &str, field: &str, piece: &str, out: &mut Vec<Frame>) {
        out.push(delta(self.next.saturating_sub(1), kind, field, piece));
    }

    fn stop_block(&self, out: &mut Vec<Frame>) {
        out.push(event(
            "content_block_stop",
            json!({"index": self.next.saturating_sub(1)}),
        ));
    }
}

impl Writer for ToMessages {
    fn feed(&mut self, event: Event, out: &mut Vec<Frame>) -> Result<(), Failure> {
        if self.over {
            return Ok(());
        }
        match &event {
            Event::Start { upstream_id, .. } => self.begin(upstream_id, out),
            Event::Usage(_) => {}
            _ => self.begin("", out),
        }
        if !matches!(event, Event::Text(_) | Event::Usage(_) | Event::Cite(_)) {
            self.release_text(out);
        }
        match event {
            Event::Start { .. } | Event::Compaction(_) => {}
            Event::Reason(piece) => self.reason(piece, out),
            Event::ReasonSeal { state } => self.seal(state, out),
            Event::Text(piece) => self.watched_text(piece, out),
            Event::Refusal(piece) => {
                self.declined = true;
                self.text(piece, out);
            }
            Event::ToolOpen { key, id, name, .. } => self.open_call(key, id, name, out),
            Event::ToolArgs { key, piece } => self.arguments(key, &piece, out)?,
            Event::ToolClose { key, .. } => self.close_call(key, out),
            Event::Search(search) => self.search(search, out),
            Event::Cite(cited) => self.cite(cited, out),
            Event::Usage(usage) => {
                self.usage.update(&usage);
                if self.usage.output.is_some() {
                    self.end(out);
                }
            }
            Event::Finish(ending) => self.finish(ending, out),
        }
        Ok(())
    }

    fn end(&mut self, out: &mut Vec<Frame>) {
        if let Some(ending) = self.ending.take() {
            let (reason, sequence) = stop_reason(ending);
            let delta = json!({"stop_reason": reason, "stop_sequence": sequence});
            out.push(event("message_delta", json!({"delta": delta, "usage": self.usage()})));
            out.push(event("message_stop", json!({})));
            self.over = true;
        }
    }

    fn fail(&mut self, failure: &Failure, out: &mut Vec<Frame>) {
        if !self.over {
            self.over = true;
            out.push(failed(failure, &self.ids.request));
        }
    }

    fn is_over(&self) -> bool {
        self.over
    }

    fn take_kept(&mut self) -> Vec<(String, Kept)> {
        std::mem::take(&mut self.kept)
    }
}

impl Call {
    /// Nothing more is expected: upstream said so, or its arguments are an object from end to end.
    fn is_whole(&mut self) -> bool {
        if !self.closed && self.args.len() > self.partial {
            if self.args.trim_end().ends_with('}') && json_text::is_object(&self.args) {
                return true;
            }
            self.partial = self.args.len();
        }
        self.closed
    }
}

/// The error event of a Messages stream.
pub fn failed(failure: &Failure, request: &str) -> Frame {
    let failure = upstream_failure::for_client(failure.clone(), Protocol::Messages);
    Frame::named("error", failure.body(Protocol::Messages, request).to_string())
}

fn stop_reason(ending: Finish) -> (&'static str, Option<String>) {
    let reason = match ending {
        Finish::Stop => "end_turn",
        Finish::ToolCalls => "tool_use",
        Finish::Length => "max_tokens",
        Finish::StopSequence(sequence) => return ("stop_sequence", sequence),
        Finish::ContentFilter | Finish::Refusal => "refusal",
        Finish::Pause => "pause_turn",
        Finish::ContextFull => "model_context_window_exceeded",
    };
    (reason, None)
}

fn too_late() -> Failure {
    Failure::new(
        Kind::Stream,
        "upstream went on with a tool call whose arguments were whole",
    )
}

/// A delta, written without a tree: most of a stream is deltas.
fn delta(index: usize, kind: &str, field: &str, piece: &str) -> Frame {
    let mut data = Vec::with_capacity(piece.len() + 96);
    // A vector takes all that is written to it.
    let _ = write!(
        data,
        r#"{{"type":"content_block_delta","index":{index},"delta":{{"type":"{kind}","{field}":"#
    );
    let _ = serde_json::to_writer(&mut data, piece);
    data.extend_from_slice(b"}}");
    Frame::named("content_block_delta", data)
}

#[cfg(test)]
mod tests;
