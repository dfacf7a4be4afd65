//! Shapes into shapes. Pure: no I/O, no clock, no log, no randomness; ids and times are arguments.
//!
//! A request goes from the client's shape to the upstream's by one function of [`Context`] → [`Outgoing`], one file a
//! pair in `request/`, the same-protocol edits in `native/`; Gemini's, which no upstream speaks, becomes a chat request
//! first. The answer comes back through a [`Translator`]: frames in, frames out. Between two protocols that is a
//! [`Bridge`](bridge::Bridge) of one [`Reader`] and one [`Writer`], which meet in the [`turn`]'s events. A whole answer is
//! the [`fold`] of its stream. What each pair carries, refuses or drops is the table of [`losses`]; what every client's
//! stream must be is in [`invariants`].

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value};

use crate::protocol::catalog::Model;
use crate::protocol::effort::Effort;
use crate::protocol::failure::Failure;
use crate::protocol::sse::Frame;

pub mod bridge;
pub mod calls;
pub mod carrier;
pub mod chat_history;
pub mod chunk;
pub mod chunk_writer;
pub mod compaction;
pub mod conversation;
pub mod embeddings;
pub mod estimate;
pub mod fold;
pub mod from_chat;
pub mod from_messages;
pub mod from_responses;
pub mod guard;
pub mod healing;
pub mod history;
pub mod ids;
pub mod invariants;
pub mod items;
pub mod losses;
pub mod native;
pub mod pairs;
pub mod request;
pub mod response_object;
pub mod rules;
pub mod searching;
pub mod stops;
pub mod tally;
pub mod to_chat;
pub mod to_gemini;
pub mod to_messages;
pub mod to_responses;
pub mod turn;
pub mod upstream_failure;
pub mod validate;

/// A JSON object whose keys keep their order.
pub type Object = Map<String, Value>;

/// What a translation may know beside the request itself.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The model that will answer.
    pub model: &'a Model,
    /// The model's name as the client wrote it; the answer echoes it.
    pub requested: &'a str,
    pub tuning: &'a Tuning,
    pub memory: &'a Memory,
    pub hints: &'a Hints,
}

/// The user's settings for translation.
#[derive(Clone, Debug)]
pub struct Tuning {
    pub strip_attribution: bool,
    pub keep_cache_ttl: bool,
    pub structured_best_effort: bool,
    pub stop_emulation: bool,
    pub reasoning_alias: bool,
    pub show_reasoning: bool,
    pub min_output_tokens: u64,
    pub drop_item_references: bool,
    pub raw_encrypted: bool,
    pub trim_before_compaction: bool,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            strip_attribution: true,
            keep_cache_ttl: false,
            structured_best_effort: false,
            stop_emulation: true,
            reasoning_alias: true,
            show_reasoning: true,
            min_output_tokens: 16,
            drop_item_references: false,
            raw_encrypted: false,
            trim_before_compaction: false,
        }
    }
}

/// What earlier calls left behind: read before a translation, never written by it.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Facts upstream taught us about this model, such as `messages.system_role` or `chat.max_tokens`.
    pub learned: BTreeMap<String, Value>,
    /// Reasoning that preceded a tool call, by call id, for clients that lose it.
    pub kept: HashMap<String, Kept>,
}

/// The reasoning that came before one tool call.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    pub model: String,
    /// Visible reasoning text.
    pub text: String,
    /// Carriers, in order, always in carrier form.
    pub carriers: Vec<String>,
}

impl Kept {
    /// A single answer's reasoning beyond this is not kept.
    pub const MOST_BYTES: usize = 1 << 20;
}

/// What the client's headers and its spelling of the model say.
#[derive(Clone, Debug, Default)]
pub struct Hints {
    /// `anthropic-beta` tokens, as the client sent them.
    pub betas: Vec<String>,
    /// The client's own name for its conversation, from a header.
    pub session: Option<String>,
    /// From a modifier of the model's name, such as `-high`.
    pub effort: Option<Effort>,
    /// The name ended in `-thinking`.
    pub thinking: bool,
}

/// A request ready for upstream, and what the way back must remember.
#[derive(Clone, Debug, Default)]
pub struct Outgoing {
    pub body: Object,
    /// `anthropic-beta` tokens for a Messages upstream.
    pub betas: Vec<String>,
    /// An image is inside, at any depth.
    pub vision: bool,
    pub reply: Reply,
}

/// What the answer must know of its question.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    /// The model's name as the client wrote it.
    pub model: String,
    /// The id of the model that answers.
    pub ran: String,
    /// Chat: the client asked for a usage chunk, or for a whole answer, which always has its usage.
    pub include_usage: bool,
    /// The client can show reasoning (Messages: thinking is on).
    pub show_reasoning: bool,
    /// Messages: the client wants the state of thinking without its text.
    pub omit_thinking: bool,
    /// Chat: `reasoning_content` beside `reasoning_text`.
    pub reasoning_alias: bool,
    /// Tools under the name upstream knows them by.
    pub tools: BTreeMap<String, ClientTool>,
    /// Stop sequences that upstream cannot watch for.
    pub stops: Vec<String>,
    /// Messages: the client declared web search.
    pub web_search: bool,
    /// Messages: the function that stands for the client's web search upstream.
    pub search_tool: Option<String>,
    /// Messages: the client asked for management of its context, and knows an answer that tells of it.
    pub manages_context: bool,
    /// Responses: reasoning is shown as upstream encrypted it, without the id that belongs to it.
    pub raw_encrypted: bool,
    /// Responses: request fields that the response object repeats.
    pub echo: Object,
}

/// How the client knows a tool that went upstream under another name or shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTool {
    pub name: String,
    /// Responses: the namespace it was declared in.
    pub namespace: Option<String>,
    pub shape: ToolShape,
}

/// The shape in which the client wants a call back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolShape {
    Function,
    Custom,
    LocalShell,
    Shell,
    ApplyPatch,
}

/// The way back of one exchange: upstream's frames in, the client's frames out.
///
/// A failure returned by [`feed`](Translator::feed) or [`end`](Translator::end) is not yet said: while nothing has
/// reached the client it becomes an HTTP error, afterwards the caller passes it to [`fail`](Translator::fail).
pub trait Translator {
    /// Takes one upstream frame; appends the client's frames it completes, possibly none.
    fn feed(&mut self, frame: Frame, out: &mut Vec<Frame>) -> Result<(), Failure>;

    /// Upstream closed its stream: closes what may be closed, or says that it was cut. Never invents an ending.
    fn end(&mut self, out: &mut Vec<Frame>) -> Result<(), Failure>;

    /// Takes an answer that came whole, as if it had been streamed to its end.
    fn whole(&mut self, answer: Value, out: &mut Vec<Frame>) -> Result<(), Failure>;

    /// Takes an answer that came whole, for a client that asked for no stream.
    fn answer(&mut self, answer: Value) -> Result<Value, Failure>;

    /// Says a failure in the client's protocol, in the middle of the stream.
    fn fail(&mut self, failure: &Failure, out: &mut Vec<Frame>);

    /// Whether the client's stream is complete: nothing upstream still sends matters.
    fn is_over(&self) -> bool;

    /// Whether upstream has told how the answer ends and only its count of tokens may still come: a silence is then
    /// as good as an [`end`](Translator::end).
    fn is_told(&self) -> bool {
        false
    }

    /// What was heard on the way, for the ledger.
    fn heard(&self) -> &Heard;
}

/// What a translator overheard.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    pub usage: turn::Usage,
    /// Copilot's own price of the call, in billionths of an AI credit.
    pub nano_aiu: Option<u64>,
    /// Reasoning to keep, by the id of the call it preceded.
    pub kept: Vec<(String, Kept)>,
}

impl Heard {
    /// Adds what was heard of another leg of the same answer.
    pub fn add(&mut self, other: &Self) {
        let add = |sum: &mut Option<u64>, more: Option<u64>| {
            *sum = match (*sum, more) {
                (Some(sum), Some(more)) => Some(sum.saturating_add(more)),
                (sum, more) => sum.or(more),
            };
        };
        let (usage, more) = (&mut self.usage, &other.usage);
        add(&mut usage.input, more.input);
        add(&mut usage.cached, more.cached);
        add(&mut usage.cache_write, more.cache_write);
        add(&mut usage.output, more.output);
        add(&mut usage.reasoning, more.reasoning);
        add(&mut usage.searches, more.searches);
        add(&mut self.nano_aiu, other.nano_aiu);
        self.kept.extend(other.kept.iter().cloned());
    }
}

/// Reads one upstream's answer into the turn's events.
pub trait Reader {
    /// Takes one frame of a stream; appends the events it completes. `[DONE]` comes here too.
    fn feed(&mut self, frame: &Frame, out: &mut Vec<turn::Event>) -> Result<(), Failure>;

    /// Upstream closed its stream: finishes what may be finished, or fails with [`Failure::truncated`].
    fn end(&mut self, out: &mut Vec<turn::Event>) -> Result<(), Failure>;

    /// Takes an answer that came whole, as if it had been streamed.
    fn whole(&mut self, answer: &Value, out: &mut Vec<turn::Event>) -> Result<(), Failure>;

    /// The ending is known, and what may still come is not needed for it.
    fn is_told(&self) -> bool {
        false
    }

    /// Copilot's own price of the call, once it is known.
    fn nano_aiu(&self) -> Option<u64>;
}

/// Writes the turn's events as one client's stream.
pub trait Writer {
    /// Takes one event; appends the frames it completes.
    fn feed(&mut self, event: turn::Event, out: &mut Vec<Frame>) -> Result<(), Failure>;

    /// The reader has nothing more to say: writes what waited for that, such as late usage.
    fn end(&mut self, out: &mut Vec<Frame>);

    /// Says a failure in the middle of the stream; nothing follows.
    fn fail(&mut self, failure: &Failure, out: &mut Vec<Frame>);

    /// The client's stream is complete.
    fn is_over(&self) -> bool;

    /// Reasoning to keep, by the id of the call it preceded.
    fn take_kept(&mut self) -> Vec<(String, Kept)>;
}
