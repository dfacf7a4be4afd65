//! The journey of one request, start to finish. No actix-web types.
//!
//! ```text
//! call → validate → name → verdict, permit → ways → translate → credential, send, heal → answer, translated back
//! ```
//!
//! [`Relay::generate`] is that line, on one screen. Each step is a file beside this one, or a function of a floor below.

use std::rc::Rc;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::watch;

use crate::actors::Actors;
use crate::protocol::failure::Failure;
use crate::protocol::{Dialect, Protocol, json};
use crate::routing::Needs;
use crate::translate::request::gemini_to_chat;
use crate::translate::{self, Object};
use crate::upstream::copilot::Copilot;
use crate::upstream::pictures::Pictures;

mod admission;
mod answer;
mod archive;
mod attempt;
pub mod compaction;
pub mod counting;
pub mod embeddings;
mod error;
mod exchange;
mod journal;
mod opening;
mod pictures;
mod retries;
mod searching;
mod settings;
mod socket;
pub mod stream;
mod web_search;

pub use answer::{Answer, Stream};
pub use error::Error;
pub use settings::{OverflowAsStream, Settings, WebSearch};

use attempt::is_stream;
use journal::Journal;
use opening::Opened;
use socket::Lane;

/// One thread's way to Copilot.
#[derive(Clone)]
pub struct Relay {
    copilot: Copilot,
    actors: Actors,
    settings: Rc<Settings>,
    /// Turns true when the server must cut its streams to shut down in time.
    closing: watch::Receiver<bool>,
    /// The way to pictures, where they are fetched.
    pictures: Option<Pictures>,
    /// The way by socket, for a client that has one of its own.
    lane: Option<Lane>,
}

/// A client's request, as its door hands it over.
#[derive(Clone, Debug)]
pub struct Call {
    pub client: Client,
    pub body: Object,
    /// The body as it came. It is read once more where the first translation used it up in vain.
    pub text: Bytes,
    /// What a Responses input holds of earlier turns: its socket remembers them, the client has not sent them again.
    pub earlier: Option<Earlier>,
    /// The answer is kept, to be asked for again.
    pub kept: bool,
}

/// The conversation before a turn.
#[derive(Clone, Debug, PartialEq)]
pub struct Earlier {
    /// The response that the turn continues, as its client named it.
    pub response: Value,
    /// How many of the first items it takes.
    pub items: usize,
}

impl Call {
    /// A request whose body came in no text of its own.
    pub fn of(client: Client, body: Object) -> Self {
        Self {
            text: json::text(&body, 0).into(),
            client,
            body,
            earlier: None,
            kept: false,
        }
    }

    /// A Gemini client's request as the chat request that it travels as; any other as it is.
    fn travelling(self) -> Result<Self, Failure> {
        match self.client.dialect {
            Dialect::Of(_) => Ok(self),
            Dialect::Gemini => Ok(Self::of(self.client, gemini_to_chat::request(self.body)?)),
        }
    }

    /// The body as it travels, before its first translation.
    fn read_again(&self) -> Object {
        json::object(&self.text).unwrap_or_default()
    }

    /// What its answer says besides what the body asked for.
    fn said_for_it(&self) -> Object {
        let earlier = self
            .earlier
            .iter()
            .map(|earlier| ("previous_response_id", earlier.response.clone()));
        let kept = self.kept.then(|| ("store", Value::Bool(true)));
        earlier
            .chain(kept)
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }

    /// What must be known after the body has become upstream's.
    fn asked(&self) -> Asked {
        let model = self.body.get("model").and_then(Value::as_str).unwrap_or_default();
        Asked {
            client: self.client.clone(),
            model: model.to_owned(),
            stream: is_stream(&self.body),
        }
    }
}

/// Who asked, and how the answer is wanted.
struct Asked {
    client: Client,
    /// The model's name as the client wrote it.
    model: String,
    stream: bool,
}

/// What a request's headers say of its client.
#[derive(Clone, Debug)]
pub struct Client {
    /// How it asks and is answered.
    pub dialect: Dialect,
    /// The protocol in which its requests travel.
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

impl Client {
    /// A header asks for the model's large window.
    pub fn asks_long_context(&self) -> bool {
        self.betas.iter().any(|beta| beta.starts_with("context-1m-"))
    }
}

impl Relay {
    pub fn new(copilot: Copilot, actors: Actors, settings: Settings, closing: watch::Receiver<bool>) -> Self {
        let settings = Rc::new(settings);
        Self {
            pictures: settings.fetch_images.then(|| copilot.pictures()),
            copilot,
            actors,
            settings,
            closing,
            lane: None,
        }
    }

    pub fn actors(&self) -> &Actors {
        &self.actors
    }

    /// Serves one request to a model.
    pub async fn generate(&self, call: Call) -> Result<Answer, Error> {
        let call = self.recollect(call).await?;
        let keeper = self.keeper(&call);
        let answer = if call.client.protocol == Protocol::Responses && translate::compaction::is_asked(&call.body) {
            self.compact_in_stream(call).await
        } else {
            self.answer(call).await
        }?;
        Ok(match keeper {
            Some(keeper) => keeper.watch(answer),
            None => answer,
        })
    }

    async fn answer(&self, call: Call) -> Result<Answer, Error> {
        let asked = call.asked();
        let mut journal = Journal::open(self.actors.clone(), &asked);
        match self.travel(call, &mut journal).await {
            Ok(opened) => self.deliver(&asked, opened, journal).await,
            Err(refused) => self.refuse(&asked, refused, journal),
        }
    }

    /// From the client to the first sign of an answer.
    async fn travel(&self, call: Call, journal: &mut Journal) -> Result<Opened, Error> {
        let mut call = call.travelling()?;
        translate::validate::body(call.client.protocol, &call.body)?;
        let target = self.resolve(&call.client, &call.body).await?;
        journal.aimed_at(target.model());
        // A model that no protocol of ours reaches is refused before a person is asked.
        let needs = Needs {
            socket: self.lane.is_some(),
            ..Needs::default()
        };
        target.ways(call.client.protocol, &needs)?;
        self.admit(&call, &target, journal).await?;
        self.fetch_pictures(&mut call).await?;
        let memory = self.recall(&call, &target).await?;
        let cause = self.cause(&call);
        self.attempt(call, &target, memory, cause, journal).await
    }
}
