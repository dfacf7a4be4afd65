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
        for frame in fold::unfold(Protocol::Chat, answer) {
            self.feed(&frame, out)?;
        }
        self.end(out)
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
