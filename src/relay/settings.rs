//! What the journey can be told.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::routing::names::Fallback;
use crate::translate::Tuning;
use crate::translate::estimate::Multipliers;

#[derive(Clone, Debug)]
pub struct Settings {
    /// Nothing is sent for this long: a sign of life is.
    pub heartbeat: Duration,
    /// A person decides on each request.
    pub manual_approval: bool,
    pub max_answer_bytes: usize,
    pub aliases: BTreeMap<String, String>,
    pub fallback: Fallback,
    /// Claude Code's warm-up call goes to this model.
    pub warmup_model: Option<String>,
    pub tuning: Tuning,
    pub compaction_is_agent: bool,
    /// A client may claim a person's turn by `x-initiator: user`; never the reverse.
    pub trust_client: bool,
    pub overflow_as_stream: OverflowAsStream,
    /// A whole answer from Responses is gathered from a stream, so that long reasoning meets no gateway's limit.
    pub aggregate: bool,
    pub multipliers: Multipliers,
    /// Where Messages' web search goes for models that have none.
    pub web_search: Option<WebSearch>,
    /// Images that are named by their address are fetched.
    pub fetch_images: bool,
    /// How often a request that upstream failed to serve is sent again.
    pub retries: u32,
    /// A client that came by a socket is served by one, where the model has one.
    pub websocket: bool,
}

/// Web search by way of another model's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSearch {
    /// The model that searches.
    pub model: String,
    /// The most searches of one request that names no bound.
    pub max_uses: u32,
}

/// Whether a prompt that is too long is told inside a stream, where Codex looks for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OverflowAsStream {
    /// To Codex only.
    #[default]
    Auto,
    Always,
    Never,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(5),
            manual_approval: false,
            max_answer_bytes: 64 << 20,
            aliases: BTreeMap::new(),
            fallback: Fallback::default(),
            warmup_model: None,
            tuning: Tuning::default(),
            compaction_is_agent: true,
            trust_client: false,
            overflow_as_stream: OverflowAsStream::default(),
            aggregate: true,
            multipliers: [("claude", 1.30), ("grok", 1.05), ("gemini", 1.05)]
                .map(|(prefix, factor)| (prefix.to_owned(), factor))
                .into(),
            web_search: None,
            fetch_images: false,
            retries: 0,
            websocket: true,
        }
    }
}
