//! What went wrong, in one closed list, and how each protocol says it. Knows no cause beyond a plain sentence.
//!
//! A [`Kind`] is a row of the table in `Kind::row`: its status and its names in both envelopes. A [`Failure`] is
//! a kind with its sentence; it renders as a whole error body, or as the payload of a stream's error event.

use serde_json::{Value, json};

use super::{Dialect, Protocol};

/// A request that failed, said once for whoever asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    pub kind: Kind,
    /// One plain sentence; never JSON in a string, never a secret.
    pub message: String,
    /// Upstream's own code, or ours where the table's is too coarse.
    pub code: Option<String>,
    /// The field at fault.
    pub param: Option<String>,
    /// When to come back: whole seconds, or the HTTP date upstream gave.
    pub retry_after: Option<String>,
}

/// Every way a request can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    BadRequest,
    ContentFiltered,
    ContextOverflow,
    /// The client's key is missing or wrong.
    Unauthorized,
    /// Upstream refuses our credential, also a fresh one.
    UpstreamAuth,
    Payment,
    Forbidden,
    ModelNotFound,
    /// The model exists, but not behind this endpoint.
    UnsupportedEndpoint,
    NotFound,
    MethodNotAllowed,
    /// The client stopped sending its body.
    ClientTimeout,
    Conflict,
    TooLarge,
    UnsupportedMedia,
    RateLimited,
    /// Refused by the person who approves requests.
    Denied,
    Overloaded,
    UpstreamFailed,
    UpstreamUnavailable,
    UpstreamTimeout,
    UpstreamUnreachable,
    /// Upstream answered with something that is no answer.
    UpstreamGarbage,
    /// The stream broke after its first byte.
    Stream,
    /// Not signed in, still starting, or shutting down.
    Unavailable,
    Internal,
}

/// A kind's row: status, Anthropic's `error.type`, OpenAI's `error.type` and `error.code`.
struct Row(u16, &'static str, &'static str, Option<&'static str>);

impl Kind {
    fn row(self) -> Row {
        const BAD: &str = "invalid_request_error";
        match self {
            Self::BadRequest => Row(400, BAD, BAD, None),
            Self::ContentFiltered => Row(400, BAD, BAD, Some("content_filter")),
            Self::ContextOverflow => Row(400, BAD, BAD, Some("context_length_exceeded")),
            Self::Unauthorized => Row(
                401,
                "authentication_error",
                "authentication_error",
                Some("invalid_api_key"),
            ),
            Self::UpstreamAuth => Row(
                401,
                "authentication_error",
                "authentication_error",
                Some("upstream_unauthorized"),
            ),
            Self::Payment => Row(402, "billing_error", "insufficient_quota", Some("insufficient_quota")),
            Self::Forbidden => Row(403, "permission_error", "permission_error", None),
            Self::Denied => Row(403, "permission_error", "permission_error", Some("request_denied")),
            Self::ModelNotFound => Row(404, "not_found_error", BAD, Some("model_not_found")),
            Self::UnsupportedEndpoint => Row(400, BAD, BAD, Some("unsupported_endpoint")),
            Self::NotFound => Row(404, "not_found_error", BAD, Some("not_found")),
            Self::MethodNotAllowed => Row(405, BAD, BAD, Some("method_not_allowed")),
            Self::ClientTimeout => Row(408, BAD, BAD, Some("request_timeout")),
            Self::Conflict => Row(409, BAD, BAD, None),
            Self::TooLarge => Row(413, "request_too_large", BAD, Some("payload_too_large")),
            Self::UnsupportedMedia => Row(415, BAD, BAD, Some("unsupported_content_type")),
            Self::RateLimited => Row(429, "rate_limit_error", "rate_limit_error", Some("rate_limit_exceeded")),
            Self::Overloaded => Row(529, "overloaded_error", "server_error", Some("server_is_overloaded")),
            Self::UpstreamFailed => Row(502, "api_error", "server_error", Some("upstream_error")),
            Self::UpstreamUnavailable => Row(503, "api_error", "server_error", Some("upstream_error")),
            Self::UpstreamTimeout => Row(504, "timeout_error", "server_error", Some("upstream_timeout")),
            Self::UpstreamUnreachable => Row(502, "api_error", "server_error", Some("upstream_unreachable")),
            Self::UpstreamGarbage => Row(502, "api_error", "server_error", Some("upstream_invalid_response")),
            Self::Stream => Row(502, "api_error", "server_error", Some("stream_error")),
            Self::Unavailable => Row(503, "api_error", "server_error", Some("service_unavailable")),
            Self::Internal => Row(500, "api_error", "server_error", Some("internal_error")),
        }
    }
}

impl Failure {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            code: None,
            param: None,
            retry_after: None,
        }
    }

    /// A request that is refused before any upstream call, naming the field at fault.
    pub fn bad(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            param: Some(param.into()),
            ..Self::new(Kind::BadRequest, message)
        }
    }

    /// Upstream ended its stream without an ending.
    pub fn truncated() -> Self {
        Self::new(Kind::Stream, "upstream closed the stream before completion")
    }

    pub fn with_code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// Whether the same request fails again until somebody changes something: a quota that is used up, not a window.
    pub fn is_lasting(&self) -> bool {
        self.kind == Kind::Payment
    }

    /// The HTTP status for a client of this dialect.
    pub fn status(&self, client: impl Into<Dialect>) -> u16 {
        let anthropic = client.into() == Dialect::Of(Protocol::Messages);
        match self.kind {
            Kind::Overloaded if !anthropic => 503,
            Kind::Conflict if anthropic => 400,
            kind => kind.row().0,
        }
    }

    /// Anthropic's `error.type`.
    pub fn anthropic_type(&self) -> &'static str {
        self.kind.row().1
    }

    /// OpenAI's `error.type`.
    pub fn openai_type(&self) -> &'static str {
        self.kind.row().2
    }

    /// OpenAI's `error.code`: the table's, or the more exact one that is known.
    pub fn openai_code(&self) -> Option<&str> {
        self.code.as_deref().or(self.kind.row().3)
    }

    /// Google's `error.status`.
    fn google_status(status: u16) -> &'static str {
        match status {
            401 => "UNAUTHENTICATED",
            402 | 429 => "RESOURCE_EXHAUSTED",
            403 => "PERMISSION_DENIED",
            404 => "NOT_FOUND",
            409 => "ABORTED",
            503 => "UNAVAILABLE",
            504 => "DEADLINE_EXCEEDED",
            500.. => "INTERNAL",
            _ => "INVALID_ARGUMENT",
        }
    }

    /// The error body, whole. `request_id` is the one in the response's headers.
    pub fn body(&self, client: impl Into<Dialect>, request_id: &str) -> Value {
        match client.into() {
            Dialect::Gemini => {
                let code = self.status(Dialect::Gemini);
                json!({"error": {"code": code, "message": self.message, "status": Self::google_status(code)}})
            }
            Dialect::Of(Protocol::Messages) => json!({
                "type": "error",
                "error": {"type": self.anthropic_type(), "message": self.message},
                "request_id": request_id,
            }),
            Dialect::Of(Protocol::Chat | Protocol::Responses) => json!({"error": {
                "message": self.message,
                "type": self.openai_type(),
                "param": self.param,
                "code": self.openai_code(),
            }}),
        }
    }
}
