//! A stream and the whole answer it amounts to, in one protocol, both ways.

use serde_json::Value;

use crate::protocol::failure::Failure;
use crate::protocol::sse::Frame;
use crate::protocol::{Dialect, Protocol};
use crate::translate::Translator;

pub mod chat;
pub mod gemini;
pub mod messages;
pub mod responses;

/// Gathers the frames of one client's stream into the answer that a client who did not ask for a stream gets.
pub trait Gather {
    fn feed(&mut self, frame: &Frame) -> Result<(), Failure>;

    /// The whole answer. Called once the stream is complete.
    fn finish(self: Box<Self>) -> Result<Value, Failure>;
}

pub fn gather(client: impl Into<Dialect>) -> Box<dyn Gather> {
    match client.into() {
        Dialect::Of(Protocol::Chat) => Box::new(chat::Fold::default()),
        Dialect::Of(Protocol::Responses) => Box::new(responses::Fold::default()),
        Dialect::Of(Protocol::Messages) => Box::new(messages::Fold::default()),
        Dialect::Gemini => Box::new(gemini::Fold::default()),
    }
}

/// A whole answer on its way through a translator, for a client that asked for no stream.
pub fn through(client: impl Into<Dialect>, translator: &mut dyn Translator, answer: Value) -> Result<Value, Failure> {
    let mut frames = Vec::new();
    translator.whole(answer, &mut frames)?;
    let mut whole = gather(client);
    for frame in &frames {
        whole.feed(frame)?;
    }
    whole.finish()
}

/// The upstream stream that would have brought this whole answer.
pub fn unfold(protocol: Protocol, answer: &Value) -> Vec<Frame> {
    match protocol {
        Protocol::Chat => chat::unfold(answer),
        Protocol::Responses => responses::unfold(answer),
        Protocol::Messages => messages::unfold(answer),
    }
}
