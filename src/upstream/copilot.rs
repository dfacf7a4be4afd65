//! One exchange with Copilot: status, headers, a stream of bytes. Knows paths and headers; not what the bytes mean.

use awc::http::Method;
use bytes::Bytes;

use super::{
    Answer, Client, Error, Opened,
    client::{Request, Setup},
    headers,
    pictures::Pictures,
    websocket,
};
use crate::protocol::Initiator;
use crate::secret::Secret;

/// What can be asked of Copilot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    Chat,
    Responses,
    Messages,
    CountTokens,
    Embeddings,
    Models,
    /// Agreeing to the terms of one model.
    ModelPolicy(String),
}

impl Endpoint {
    pub fn path(&self) -> String {
        match self {
            Self::Chat => "/chat/completions".into(),
            Self::Responses => "/responses".into(),
            Self::Messages => "/v1/messages".into(),
            Self::CountTokens => "/v1/messages/count_tokens".into(),
            Self::Embeddings => "/embeddings".into(),
            Self::Models => "/models".into(),
            Self::ModelPolicy(model) => format!("/models/{}/policy", segment(model)),
        }
    }

    /// The purpose Copilot is told.
    pub fn intent(&self) -> &'static str {
        match self {
            Self::Chat | Self::Responses | Self::Messages | Self::CountTokens => "conversation-agent",
            Self::Embeddings => "copilot-panel",
            Self::Models | Self::ModelPolicy(_) => "model-access",
        }
    }

    /// Whether a model answers, so that the call counts as somebody's turn.
    pub fn is_inference(&self) -> bool {
        matches!(self, Self::Chat | Self::Responses | Self::Messages)
    }
}

/// A model's name comes from outside; whatever could change the path is escaped.
fn segment(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' | b'.' => escaped.push(char::from(byte)),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

/// The right to call, and where: token and host belong together.
#[derive(Debug, Clone)]
pub struct Access {
    pub token: Secret,
    pub base_url: String,
}

/// One call, with the facts its headers depend on.
#[derive(Debug, Clone)]
pub struct Call {
    pub endpoint: Endpoint,
    /// JSON. Without one the call is a `GET`.
    pub body: Option<Bytes>,
    pub initiator: Option<Initiator>,
    /// Names a step that is not an ordinary turn, `conversation-compaction` for one.
    pub interaction_type: Option<&'static str>,
    pub interaction_id: Option<String>,
    /// Whether the request holds an image.
    pub vision: bool,
    /// Anthropic beta names that may go on.
    pub betas: Vec<String>,
    /// Headers the catalogue asks for with this model.
    pub extra: Vec<(String, String)>,
    pub request_id: String,
}

impl Call {
    /// A call without body or particulars.
    pub fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            body: None,
            initiator: None,
            interaction_type: None,
            interaction_id: None,
            vision: false,
            betas: Vec::new(),
            extra: Vec::new(),
            request_id: String::new(),
        }
    }
}

/// Copilot, as one thread sees it.
#[derive(Clone)]
pub struct Copilot {
    client: Client,
}

impl Copilot {
    pub fn new(setup: &Setup) -> Self {
        Self {
            client: Client::new(setup),
        }
    }

    /// The way to pictures, under the same settings.
    pub fn pictures(&self) -> Pictures {
        Pictures::new(&self.client.setup)
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Sends one call and waits for the head of the answer, whatever its status. Dropping the future, the answer or its
    /// body closes the connection at once.
    pub async fn send(&self, access: &Access, call: &Call) -> Result<Answer, Error> {
        self.client.send(&self.request(access, call)).await
    }

    /// Opens a socket to an endpoint. Of the call only what concerns the whole conversation goes into the handshake: who
    /// takes a step is said with the step.
    pub async fn open_socket(&self, access: &Access, call: &Call) -> Result<Opened, Error> {
        let handshake = Call {
            body: None,
            initiator: None,
            ..call.clone()
        };
        websocket::open(&self.client, &self.request(access, &handshake)).await
    }

    fn request(&self, access: &Access, call: &Call) -> Request {
        Request {
            method: if call.body.is_some() { Method::POST } else { Method::GET },
            url: format!("{}{}", access.base_url.trim_end_matches('/'), call.endpoint.path()),
            headers: headers::copilot(&self.client.setup.settings, &access.token, call),
            body: call.body.clone(),
        }
    }

    /// The largest answer that may be read whole.
    pub fn max_answer_bytes(&self) -> usize {
        self.client.setup.settings.max_answer_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_messages_have_a_version_in_their_path() {
        assert_eq!(Endpoint::Chat.path(), "/chat/completions");
        assert_eq!(Endpoint::Responses.path(), "/responses");
        assert_eq!(Endpoint::Messages.path(), "/v1/messages");
        assert_eq!(Endpoint::CountTokens.path(), "/v1/messages/count_tokens");
    }

    #[test]
    fn a_models_name_cannot_leave_its_place_in_the_path() {
        assert_eq!(Endpoint::ModelPolicy("gpt-5.4".into()).path(), "/models/gpt-5.4/policy");
        assert_eq!(
            Endpoint::ModelPolicy("../x?y#é".into()).path(),
            "/models/..%2Fx%3Fy%23%C3%A9/policy"
        );
    }
}
