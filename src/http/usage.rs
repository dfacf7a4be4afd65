//! What the seat has left, and its credential for those who may ask.

use actix_web::{HttpRequest, HttpResponse};

pub async fn usage(_request: HttpRequest) -> HttpResponse {
    HttpResponse::NotImplemented().finish()
}

pub async fn token(_request: HttpRequest) -> HttpResponse {
    HttpResponse::NotImplemented().finish()
}
