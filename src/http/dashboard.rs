//! The dashboard's page, built in.

use actix_web::{HttpRequest, HttpResponse};

pub async fn root(_request: HttpRequest) -> HttpResponse {
    HttpResponse::NotImplemented().finish()
}

pub fn routes(_config: &mut actix_web::web::ServiceConfig) {}
