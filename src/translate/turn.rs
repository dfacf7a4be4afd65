//! The turn: one answer of a model, in a few events of our own. Knows no protocol.
//!
//! Readers (`from_chat`, `from_responses`, `from_messages`) turn an upstream's stream, or its whole answer, into
//! these events; writers (`to_chat`, `to_responses`, `to_messages`, `to_gemini`) turn them into a client's. The
//! contract:
//!
//! - [`Event::Start`] comes first and once.
//! - [`Event::ToolArgs`] and [`Event::ToolClose`] name a tool that [`Event::ToolOpen`] has opened and that is not
//!   yet closed. Several tools may be open at once.
//! - A run of [`Event::Reason`] ends with an [`Event::ReasonSeal`] before anything of another kind; a seal may also
//!   come alone, for reasoning that shows no text.
//! - After [`Event::Finish`] only [`Event::Usage`] may follow.
//! - A reader that cannot go on returns a `Failure` instead of an event; the turn is then over, without an ending.

/// The key of a tool call inside one turn: the order in which the calls were opened.
pub type ToolKey = usize;

#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The turn begins. `upstream_id` may be empty.
    Start {
        upstream_id: String,
        created: Option<u64>,
    },
    /// Visible reasoning.
    Reason(String),
    /// A stretch of reasoning ends. `state` is what the upstream wants back: a carrier, as text, or the
    /// upstream's own string where the reader's own protocol is also the client's.
    ReasonSeal {
        state: Option<String>,
    },
    /// Visible answer.
    Text(String),
    /// The model declines, in words.
    Refusal(String),
    ToolOpen {
        key: ToolKey,
        id: String,
        name: String,
        kind: ToolKind,
    },
    /// A raw piece of the call's arguments (or, for a freeform call, of its input).
    ToolArgs {
        key: ToolKey,
        piece: String,
    },
    /// The call is over. `complete` is false where its arguments were cut off.
    ToolClose {
        key: ToolKey,
        complete: bool,
    },
    /// A search that the upstream ran itself.
    Search(Search),
    Cite(Citation),
    /// Upstream compacted the history: its own item, to be given back as it is.
    Compaction(serde_json::Value),
    /// What is known so far; each field that is set replaces what was known.
    Usage(Usage),
    Finish(Finish),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolKind {
    /// JSON arguments.
    Function,
    /// Freeform text input.
    Custom,
}

/// A web search the upstream ran.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Search {
    pub id: String,
    pub query: String,
    pub results: Vec<SearchResult>,
    /// Why it found nothing, in Anthropic's word, such as `unavailable`.
    pub error: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct SearchResult {
    pub url: String,
    pub title: String,
    /// Upstream's opaque copy of the page, where it gave one.
    pub encrypted: String,
    pub page_age: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Citation {
    pub url: String,
    pub title: String,
    pub cited_text: String,
    /// Where in the answer's text, in characters.
    pub start: Option<u64>,
    pub end: Option<u64>,
}

/// Tokens. `input` counts all of the prompt, cached or not; `output` includes reasoning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub input: Option<u64>,
    pub cached: Option<u64>,
    pub cache_write: Option<u64>,
    pub output: Option<u64>,
    pub reasoning: Option<u64>,
    pub searches: Option<u64>,
}

impl Usage {
    /// Takes over every field that `newer` knows.
    pub fn update(&mut self, newer: &Self) {
        let take = |mine: &mut Option<u64>, theirs: Option<u64>| *mine = theirs.or(*mine);
        take(&mut self.input, newer.input);
        take(&mut self.cached, newer.cached);
        take(&mut self.cache_write, newer.cache_write);
        take(&mut self.output, newer.output);
        take(&mut self.reasoning, newer.reasoning);
        take(&mut self.searches, newer.searches);
    }
}

/// How a turn ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finish {
    Stop,
    ToolCalls,
    Length,
    StopSequence(Option<String>),
    ContentFilter,
    Refusal,
    Pause,
    ContextFull,
}

impl Finish {
    /// The same ending, set right by whether the turn made calls: upstreams are known to err either way.
    pub fn given_calls(self, any: bool) -> Self {
        match self {
            Self::Stop if any => Self::ToolCalls,
            Self::ToolCalls if !any => Self::Stop,
            other => other,
        }
    }
}
