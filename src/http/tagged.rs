//! A body under a tag of its content, so that a client that has it need not fetch it again. Knows no body.

use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse};
use sha2::{Digest, Sha256};

/// A body under a tag of its content; a client that has it already gets only the tag.
pub fn response(request: &HttpRequest, kind: &str, body: impl Into<String>) -> HttpResponse {
    let body = body.into();
    let digest = Sha256::digest(body.as_bytes());
    let tag: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let tag = format!("\"{tag}\"");
    let status = if has(request, &tag) {
        StatusCode::NOT_MODIFIED
    } else {
        StatusCode::OK
    };
    let mut response = HttpResponse::build(status);
    response.insert_header((header::ETAG, tag));
    response.insert_header((header::CACHE_CONTROL, "no-cache"));
    if status == StatusCode::NOT_MODIFIED {
        return response.finish();
    }
    response.content_type(kind).body(body)
}

/// Whether `If-None-Match` names this tag, or any.
fn has(request: &HttpRequest, tag: &str) -> bool {
    let lists = request.headers().get_all(header::IF_NONE_MATCH);
    lists
        .filter_map(|list| list.to_str().ok())
        .flat_map(|list| list.split(','))
        .map(str::trim)
        .any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one) == tag)
}
