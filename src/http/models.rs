//! The models, as each family of clients wants to read them.

use actix_web::{HttpRequest, HttpResponse};

pub async fn list(_request: HttpRequest) -> HttpResponse {
    HttpResponse::NotImplemented().finish()
}

pub async fn one(_request: HttpRequest) -> HttpResponse {
    HttpResponse::NotImplemented().finish()
}
