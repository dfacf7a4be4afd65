//! The doors to responses that were kept (`responses.store`): one by its id, what it answered, and its end. Where
//! nothing is kept, no response is known.

use actix_web::http::Method;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use serde_json::json;

use super::{Doors, error};
use crate::actors::archive::Forget;
use crate::protocol::Protocol;
use crate::protocol::failure::{Failure, Kind};
use crate::translate::Object;
use crate::translate::conversation::{self, Page};

/// What a list's reader asks for, in OpenAI's words.
#[derive(Debug, Default, Deserialize)]
struct Asked {
    limit: Option<usize>,
    order: Option<String>,
    after: Option<String>,
    stream: Option<bool>,
}

/// `GET` and `DELETE /responses/{id}`.
pub async fn response(request: HttpRequest, doors: web::Data<Doors>) -> HttpResponse {
    let answer = if request.method() == Method::DELETE {
        forgotten(&request, &doors).await
    } else {
        told(&request, &doors).await
    };
    rendered(&request, answer)
}

/// `GET /responses/{id}/input_items`.
pub async fn input_items(request: HttpRequest, doors: web::Data<Doors>) -> HttpResponse {
    let answer = async {
        let page = page(&asked(&request)?)?;
        let (answered, _) = found(&request, &doors).await?;
        Ok(HttpResponse::Ok().json(conversation::input_items(&id(&request), &answered, &page)))
    };
    rendered(&request, answer.await)
}

/// `POST /responses/{id}/cancel`: what is kept is complete.
pub async fn cancel(request: HttpRequest, doors: web::Data<Doors>) -> HttpResponse {
    let answer = found(&request, &doors).await;
    let refusal = answer.and(Err(Failure::new(
        Kind::BadRequest,
        "Cannot cancel a completed response.",
    )));
    rendered(&request, refusal)
}

async fn told(request: &HttpRequest, doors: &Doors) -> Result<HttpResponse, Failure> {
    let (_, response) = found(request, doors).await?;
    if asked(request)?.stream == Some(true) {
        let sentence = "only background responses can be streamed again";
        return Err(Failure::bad("stream", sentence).with_code("unsupported_parameter"));
    }
    Ok(HttpResponse::Ok().json(response))
}

async fn forgotten(request: &HttpRequest, doors: &Doors) -> Result<HttpResponse, Failure> {
    let id = id(request);
    let known = doors.relay.actors().archived(Forget(id.clone())).await;
    match known.map_err(crate::relay::Error::from)? {
        Some(true) => Ok(HttpResponse::Ok().json(json!({"id": id, "object": "response", "deleted": true}))),
        _ => Err(unknown(&id)),
    }
}

/// The request and its response.
async fn found(request: &HttpRequest, doors: &Doors) -> Result<(Object, Object), Failure> {
    let id = id(request);
    let kept = doors.relay.kept(&id).await.map_err(crate::relay::Error::from)?;
    kept.ok_or_else(|| unknown(&id))
}

fn unknown(id: &str) -> Failure {
    let id: String = id.chars().take(200).collect();
    Failure::new(Kind::NotFound, format!("Response with id '{id}' not found.")).with_code("response_not_found")
}

fn id(request: &HttpRequest) -> String {
    request.match_info().get("id").unwrap_or_default().to_owned()
}

fn asked(request: &HttpRequest) -> Result<Asked, Failure> {
    let asked = web::Query::<Asked>::from_query(request.query_string());
    Ok(asked
        .map_err(|why| Failure::bad("query", why.to_string()))?
        .into_inner())
}

fn page(asked: &Asked) -> Result<Page, Failure> {
    let limit = asked.limit.unwrap_or(20);
    if !(1..=100).contains(&limit) {
        return Err(Failure::bad("limit", "limit must be between 1 and 100"));
    }
    let ascending = match asked.order.as_deref() {
        None | Some("desc") => false,
        Some("asc") => true,
        Some(_) => return Err(Failure::bad("order", "order must be asc or desc")),
    };
    Ok(Page {
        limit,
        ascending,
        after: asked.after.clone(),
    })
}

fn rendered(request: &HttpRequest, answer: Result<HttpResponse, Failure>) -> HttpResponse {
    answer.unwrap_or_else(|failure| error::response(request, Protocol::Responses, &failure))
}
