//! The ground: words on the wire. Knows shapes and framing; nothing of actors, routes or sockets.

pub mod catalog;
pub mod effort;
pub mod failure;
pub mod json;
pub mod responses;
pub mod sse;

/// The three shapes in which a model is talked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// OpenAI Chat Completions.
    Chat,
    /// OpenAI Responses.
    Responses,
    /// Anthropic Messages.
    Messages,
}

impl Protocol {
    pub const ALL: [Self; 3] = [Self::Chat, Self::Responses, Self::Messages];

    /// The protocol's name in logs, headers and the dashboard.
    pub fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Responses => "responses",
            Self::Messages => "messages",
        }
    }
}

/// Who caused a request: Copilot bills a `user` request, an `agent` request continues one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Initiator {
    User,
    Agent,
}

impl Initiator {
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Agent => "agent",
        }
    }
}
