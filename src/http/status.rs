//! Whether the process lives, whether it can serve, and what it is.

use actix_web::{HttpRequest, HttpResponse};

pub async fn alive(_request: HttpRequest) -> HttpResponse {
    HttpResponse::NotImplemented().finish()
}

pub async fn ready(_request: HttpRequest) -> HttpResponse {
    HttpResponse::NotImplemented().finish()
}

pub async fn version(_request: HttpRequest) -> HttpResponse {
    HttpResponse::NotImplemented().finish()
}

pub async fn swallow(_request: HttpRequest) -> HttpResponse {
    HttpResponse::NotImplemented().finish()
}
