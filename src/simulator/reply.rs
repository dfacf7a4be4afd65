//! Answers as Copilot dresses them: JSON with sorted keys, errors as plain text with a newline, ids on everything.
//! Knows no protocol.

use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use serde_json::{Value, json};

use super::seals;

const PLAIN: &str = "text/plain; charset=utf-8";

/// A request that is refused: the status, and the body in one of the shapes that Copilot has for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    pub status: u16,
    pub body: Body,
    pub headers: Vec<(String, String)>,
}

/// A refusal's body.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    Text(String),
    Json(Value),
    Html(String),
}

impl Refusal {
    fn new(status: u16, body: Body) -> Self {
        Self {
            status,
            body,
            headers: Vec::new(),
        }
    }

    /// A bare sentence.
    pub fn text(status: u16, text: impl Into<String>) -> Self {
        Self::new(status, Body::Text(text.into()))
    }

    pub fn json(status: u16, body: Value) -> Self {
        Self::new(status, Body::Json(body))
    }

    pub fn html(status: u16, text: impl Into<String>) -> Self {
        Self::new(status, Body::Html(text.into()))
    }

    /// Copilot's own envelope.
    pub fn copilot(status: u16, code: &str, message: impl Into<String>) -> Self {
        Self::json(status, json!({"error": {"code": code, "message": message.into()}}))
    }

    /// OpenAI's envelope, naming the field at fault.
    pub fn openai(code: &str, param: &str, message: impl Into<String>) -> Self {
        let (param, message) = (Some(param).filter(|param| !param.is_empty()), message.into());
        Self::json(
            400,
            json!({"error": {"code": code, "message": message, "param": param, "type": "invalid_request_error"}}),
        )
    }

    /// Anthropic's envelope.
    pub fn anthropic(message: impl Into<String>) -> Self {
        Self::anthropic_as(400, "invalid_request_error", message)
    }

    pub fn anthropic_as(status: u16, kind: &str, message: impl Into<String>) -> Self {
        let id = format!("req_vrtx_{}", seals::fresh_hex(24));
        let message = message.into();
        Self::json(
            status,
            json!({"error": {"message": message, "type": kind}, "request_id": id, "type": "error"}),
        )
    }

    pub fn with_header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// The sentence in it, for a stream's error event.
    pub fn message(&self) -> String {
        match &self.body {
            Body::Text(text) | Body::Html(text) => text.clone(),
            Body::Json(body) => body["error"]["message"]
                .as_str()
                .or(body["message"].as_str())
                .unwrap_or_default()
                .to_owned(),
        }
    }

    /// The code in it, if it has one.
    pub fn code(&self) -> String {
        let code = match &self.body {
            Body::Json(body) => body["error"]["code"].as_str(),
            _ => None,
        };
        code.unwrap_or("bad_request").to_owned()
    }

    /// The refusal as Copilot sends it: JSON under the name of plain text, unless a type is among the headers.
    pub fn response(&self, request: &HttpRequest) -> HttpResponse {
        let mut response = head(request, self.status);
        let (kind, body) = match &self.body {
            Body::Text(text) => (PLAIN, format!("{text}\n")),
            Body::Json(body) => (PLAIN, format!("{}\n", sorted(body.clone()))),
            Body::Html(text) => ("text/html", text.clone()),
        };
        response.insert_header((CONTENT_TYPE, kind));
        for (name, value) in &self.headers {
            response.insert_header((name.as_str(), value.as_str()));
        }
        response.body(body)
    }

    /// The refusal as GitHub's REST interface sends it.
    pub fn rest_response(&self, request: &HttpRequest) -> HttpResponse {
        let mut response = head(request, self.status);
        for (name, value) in &self.headers {
            response.insert_header((name.as_str(), value.as_str()));
        }
        response.insert_header((CONTENT_TYPE, "application/json; charset=utf-8"));
        match &self.body {
            Body::Json(body) => response.body(body.to_string()),
            Body::Text(text) | Body::Html(text) => response.body(text.clone()),
        }
    }
}

/// A head with what stands on every answer.
pub fn head(request: &HttpRequest, status: u16) -> HttpResponseBuilder {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = HttpResponse::build(status);
    for (name, value) in standard_headers(request) {
        response.insert_header((name, value));
    }
    response
}

/// The ids and policies that stand on every answer.
pub fn standard_headers(request: &HttpRequest) -> [(&'static str, String); 7] {
    let asked = request.headers().get("x-request-id").and_then(|id| id.to_str().ok());
    let id = asked.map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_owned);
    let word = seals::fresh();
    [
        ("x-request-id", id),
        (
            "x-github-request-id",
            format!(
                "{:04X}:{:06X}:{:07X}",
                word as u16,
                (word >> 16) as u32 & 0xFF_FFFF,
                word >> 40
            ),
        ),
        ("x-copilot-service-request-id", uuid::Uuid::new_v4().to_string()),
        ("x-github-backend", "Kubernetes".to_owned()),
        ("content-security-policy", "default-src 'none'; sandbox".to_owned()),
        ("strict-transport-security", "max-age=31536000".to_owned()),
        ("x-content-type-options", "nosniff".to_owned()),
    ]
}

/// A whole answer: JSON, keys in alphabetical order.
pub fn json_body(value: Value) -> String {
    sorted(value).to_string()
}

/// The value with every object's keys in alphabetical order.
pub fn sorted(mut value: Value) -> Value {
    value.sort_all_objects();
    value
}
