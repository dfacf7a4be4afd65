//! A failure as the client's own protocol says it: status, body, `retry-after`. The rows are `protocol::failure`'s.

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse};

use super::{gemini, identity};
use crate::protocol::failure::{Failure, Kind};
use crate::protocol::{Dialect, Protocol};

/// The whole error response.
pub fn response(request: &HttpRequest, client: impl Into<Dialect>, failure: &Failure) -> HttpResponse {
    let client = client.into();
    let status = StatusCode::from_u16(failure.status(client)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = HttpResponse::build(status);
    if let Some(after) = failure
        .retry_after
        .as_deref()
        .and_then(|after| HeaderValue::from_str(after).ok())
    {
        response.insert_header((header::RETRY_AFTER, after));
    }
    if failure.kind == Kind::Unauthorized {
        response.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
    }
    if failure.is_lasting() {
        response.insert_header((HeaderName::from_static("x-should-retry"), "false"));
    }
    response.json(failure.body(client, &identity::of(request)))
}

/// The envelope for a request that no door took: by its path, else by the headers only Anthropic's clients send.
pub fn envelope(request: &HttpRequest) -> Dialect {
    let headers = request.headers();
    if gemini::is_asked(request.path(), headers) {
        return Dialect::Gemini;
    }
    let anthropic = request.path().contains("/messages")
        || headers.contains_key("anthropic-version")
        || headers.contains_key("x-api-key");
    if anthropic { Protocol::Messages } else { Protocol::Chat }.into()
}

/// Answers in the envelope that the request's path and headers ask for.
pub fn refuse(request: &HttpRequest, failure: &Failure) -> HttpResponse {
    response(request, envelope(request), failure)
}

/// No door has this path.
pub async fn not_found(request: HttpRequest) -> HttpResponse {
    let path: String = request.path().chars().take(200).collect();
    refuse(
        &request,
        &Failure::new(
            Kind::NotFound,
            format!("there is nothing at {} {path}", request.method()),
        ),
    )
}

/// The path exists, the method does not.
pub async fn method_not_allowed(request: HttpRequest, allow: String) -> HttpResponse {
    let sentence = format!("{} is not allowed here; use {allow}", request.method());
    let mut response = refuse(&request, &Failure::new(Kind::MethodNotAllowed, sentence));
    if let Ok(allow) = HeaderValue::from_str(&allow) {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    response
}
