//! The doors that Google's clients come to: they name the model, and whether the answer is streamed, in the path. Knows
//! paths and queries; the request itself is read by the relay.

use actix_web::http::header::HeaderMap;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::json;

use super::generate::{self, client_of};
use super::models::choice;
use super::sse::{Framing, Pen};
use super::{Doors, body, catalogue, error};
use crate::protocol::Dialect::Gemini;
use crate::protocol::failure::Failure;
use crate::relay::Call;

/// `POST …:generateContent`
pub async fn whole(request: HttpRequest, payload: web::Payload, doors: web::Data<Doors>) -> HttpResponse {
    answer(false, request, payload, doors).await
}

/// `POST …:streamGenerateContent`
pub async fn stream(request: HttpRequest, payload: web::Payload, doors: web::Data<Doors>) -> HttpResponse {
    answer(true, request, payload, doors).await
}

/// `POST …:embedContent`, `…:batchEmbedContents`
pub async fn embed(request: HttpRequest, payload: web::Payload, doors: web::Data<Doors>) -> HttpResponse {
    let (relay, model) = (doors.relay.clone(), model_of(&request));
    generate::serve(
        Pen::new(Gemini, Framing::Array),
        request,
        payload,
        doors,
        async move |mut call: Call| {
            call.body.insert("model".into(), json!(model));
            relay.embed(call).await
        },
    )
    .await
}

async fn answer(stream: bool, request: HttpRequest, payload: web::Payload, doors: web::Data<Doors>) -> HttpResponse {
    let (relay, model) = (doors.relay.clone(), model_of(&request));
    let framing = match query(&request, "alt").as_deref() {
        Some("sse") => Framing::Events,
        _ => Framing::Array,
    };
    generate::serve(
        Pen::new(Gemini, framing),
        request,
        payload,
        doors,
        async move |mut call: Call| {
            call.body.insert("model".into(), json!(model));
            call.body.insert("stream".into(), json!(stream));
            relay.generate(call).await
        },
    )
    .await
}

/// `POST …:countTokens`
pub async fn count(request: HttpRequest, payload: web::Payload, doors: web::Data<Doors>) -> HttpResponse {
    let counted = async {
        let sent = body::object(request.headers(), payload.into_inner(), doors.settings.max_body_bytes).await?;
        let mut body = sent.object;
        body.insert("model".into(), json!(model_of(&request)));
        let client = client_of(&request, Gemini);
        let count = doors.relay.count_tokens(&client, &mut body).await?;
        Ok(HttpResponse::Ok().json(json!({"totalTokens": count})))
    };
    told(&request, counted.await)
}

/// The list of models, as Google's SDKs read it.
pub async fn models(request: HttpRequest, doors: web::Data<Doors>) -> HttpResponse {
    let listed = async {
        let catalog = doors.relay.catalog().await?;
        Ok(HttpResponse::Ok().json(catalogue::google(&doors.relay.names(&catalog), choice(&doors))))
    };
    told(&request, listed.await)
}

/// One model of the list.
pub async fn model(request: HttpRequest, doors: web::Data<Doors>) -> HttpResponse {
    let found = async {
        let catalog = doors.relay.catalog().await?;
        let name = model_of(&request);
        let meant = doors.relay.names(&catalog).resolve(&name, false)?;
        Ok(HttpResponse::Ok().json(catalogue::google_item(&name, &meant.model)))
    };
    told(&request, found.await)
}

fn told(request: &HttpRequest, answered: Result<HttpResponse, Failure>) -> HttpResponse {
    answered.unwrap_or_else(|failure| error::response(request, Gemini, &failure))
}

fn model_of(request: &HttpRequest) -> String {
    request.match_info().get("model").unwrap_or_default().to_owned()
}

/// Whether one of Google's clients asks: no other comes to these paths, but to the list of models.
pub(super) fn is_asked(path: &str, headers: &HeaderMap) -> bool {
    const METHODS: [&str; 5] = [
        "generateContent",
        "streamGenerateContent",
        "countTokens",
        "embedContent",
        "batchEmbedContents",
    ];
    let within = |base: &str| {
        path.strip_prefix(base)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let is_its_own = || {
        ["x-goog-api-key", "x-goog-api-client"]
            .iter()
            .any(|name| headers.contains_key(*name))
    };
    let method = path.rsplit([':', '/']).next().unwrap_or_default();
    within("/v1beta") || METHODS.contains(&method) || (within("/v1/models") || within("/models")) && is_its_own()
}

/// A word of the query.
pub(super) fn query(request: &HttpRequest, name: &str) -> Option<String> {
    let pairs = web::Query::<Vec<(String, String)>>::from_query(request.query_string()).ok()?;
    pairs.0.into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
}
