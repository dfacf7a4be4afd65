//! What the seat has left, and its credential for those who may ask. Knows who may; not what the figures mean.

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use serde_json::json;

use super::{Doors, Settings, admin, guard};
use crate::actors::quota::GetUsage;
use crate::actors::token::GetCredential;

/// `GET /usage`: GitHub's own words about plan and quotas.
pub async fn usage(doors: web::Data<Doors>) -> HttpResponse {
    let actors = doors.relay.actors();
    let usage = actors.ask(&actors.quota, GetUsage).await;
    match usage.unwrap_or_else(|stopped| Err(stopped.to_string())) {
        Ok(usage) => unstored(HttpResponse::Ok()).json(&*usage),
        Err(why) => {
            log::warn!("failed to fetch the usage: {why}");
            unstored(HttpResponse::BadGateway()).json(json!({"error": {
                "message": "Failed to fetch Copilot usage",
                "type": "api_error",
                "param": null,
                "code": "usage_unavailable",
            }}))
        }
    }
}

/// `GET /token`: Copilot's credential, where the settings allow it and a program on this machine asks.
pub async fn token(request: HttpRequest, doors: web::Data<Doors>) -> HttpResponse {
    if !doors.settings.token_endpoint || !may_see_token(&request, &doors.settings) {
        return unstored(HttpResponse::Forbidden()).json(json!({"error": "Forbidden", "token": null}));
    }
    let actors = doors.relay.actors();
    match actors.ask(&actors.token, GetCredential).await {
        Ok(Ok(credential)) => unstored(HttpResponse::Ok()).json(json!({"token": credential.token.expose()})),
        Ok(Err(error)) => unavailable(&error.to_string()),
        Err(stopped) => unavailable(&stopped.to_string()),
    }
}

/// A page may not, whatever origins are listed: listed is who may use models.
fn may_see_token(request: &HttpRequest, settings: &Settings) -> bool {
    admin::is_local(request, settings) && guard::is_own_origin(request.headers())
}

fn unavailable(why: &str) -> HttpResponse {
    unstored(HttpResponse::ServiceUnavailable()).json(json!({"error": why, "token": null}))
}

fn unstored(mut response: HttpResponseBuilder) -> HttpResponseBuilder {
    response.insert_header((header::CACHE_CONTROL, "no-store"));
    response
}
