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

/// The shape in which a client asks and is answered. Each protocol is one; Gemini's is for clients only: no upstream
/// speaks it, and its requests travel as chat's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Of(Protocol),
    /// Google's `generateContent`.
    Gemini,
}

impl Dialect {
    pub const ALL: [Self; 4] = [
        Self::Of(Protocol::Chat),
        Self::Of(Protocol::Responses),
        Self::Of(Protocol::Messages),
        Self::Gemini,
    ];

    /// The dialect's name in logs and the dashboard.
    pub fn name(self) -> &'static str {
        match self {
            Self::Of(protocol) => protocol.name(),
            Self::Gemini => "gemini",
        }
    }

    /// The protocol in which its requests travel through the house.
    pub fn travels_as(self) -> Protocol {
        match self {
            Self::Of(protocol) => protocol,
            Self::Gemini => Protocol::Chat,
        }
    }
}

impl From<Protocol> for Dialect {
    fn from(protocol: Protocol) -> Self {
        Self::Of(protocol)
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
