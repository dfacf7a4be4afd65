//! The journey of one request, start to finish. No actix-web types.
//!
//! ```text
//! call → validate → name → approval, permit → plan → translate → credential, send, heal → answer, translated back
//! ```
//!
//! [`Relay::generate`] is that line, on one screen. Each step is a module or a function of the floor below.

use std::rc::Rc;
use std::time::Instant;

use serde_json::Value;

use crate::actors::Actors;
use crate::protocol::Protocol;
use crate::protocol::failure::Failure;
use crate::routing::{self, names::Resolved};
use crate::translate::{self, Object};
use crate::upstream::copilot::Copilot;

mod admission;
mod answer;
pub mod counting;
pub mod embeddings;
mod error;
mod exchange;
mod journal;
mod settings;
pub mod stream;

pub use error::Error;
pub use settings::Settings;

/// One thread's way to Copilot.
pub struct Relay {
    copilot: Copilot,
    actors: Actors,
    settings: Rc<Settings>,
}

/// A client's request, as its door hands it over.
pub struct Call {
    pub client: Client,
    pub body: Object,
    /// The body's size as it came.
    pub bytes: usize,
}

/// What a request's headers say of its client.
#[derive(Clone, Debug)]
pub struct Client {
    pub protocol: Protocol,
    pub request_id: String,
    /// Its User-Agent.
    pub agent: String,
    /// Codex names itself here.
    pub originator: Option<String>,
    /// `anthropic-beta` tokens.
    pub betas: Vec<String>,
    /// Its name for the conversation.
    pub session: Option<String>,
    /// It claims a person's turn by `x-initiator: user`.
    pub says_user: bool,
}

/// What goes back to the client. `headers` are those of upstream that may pass, and ours.
pub enum Answer {
    Whole { headers: Vec<(String, String)>, body: String },
    Stream { headers: Vec<(String, String)>, flow: stream::Flow },
}

impl Relay {
    pub fn new(copilot: Copilot, actors: Actors, settings: Settings) -> Self {
        Self { copilot, actors, settings: Rc::new(settings) }
    }

    pub fn actors(&self) -> &Actors {
        &self.actors
    }

    /// Serves one request to a model.
    pub async fn generate(&self, call: Call) -> Result<Answer, Error> {
        let started = Instant::now();
        translate::validate::body(call.client.protocol, &call.body)?;
        let target = self.resolve(&call).await?;
        routing::ways(call.client.protocol, &target.model, &routing::Needs::default())?;
        let permit = self.admit(&call, &target).await?;
        let memory = self.recall(&call, &target).await?;
        let journal = self.open_journal(&call, &target, permit, started);
        let ways = routing::ways(call.client.protocol, &target.model, &needs(&call, &memory))?;
        self.exchange(call, target, memory, ways, journal).await
    }
}
