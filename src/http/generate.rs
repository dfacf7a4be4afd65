//! The three doors to a model: parse, call the relay, render. No more.

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use futures_util::stream;

use super::{Doors, body, error, identity, sse};
use crate::protocol::Protocol;
use crate::relay::{Answer, Call, Client};

pub async fn chat(request: HttpRequest, payload: web::Payload, doors: web::Data<Doors>) -> HttpResponse {
    generate(Protocol::Chat, request, payload, doors).await
}

pub async fn responses(request: HttpRequest, payload: web::Payload, doors: web::Data<Doors>) -> HttpResponse {
    generate(Protocol::Responses, request, payload, doors).await
}

pub async fn messages(request: HttpRequest, payload: web::Payload, doors: web::Data<Doors>) -> HttpResponse {
    generate(Protocol::Messages, request, payload, doors).await
}

async fn generate(
    client: Protocol,
    request: HttpRequest,
    payload: web::Payload,
    doors: web::Data<Doors>,
) -> HttpResponse {
    let sent = match body::object(request.headers(), payload.into_inner(), doors.settings.max_body_bytes).await {
        Ok(sent) => sent,
        Err(failure) => return error::response(&request, client, &failure),
    };
    let call = Call {
        client: client_of(&request, client),
        body: sent.object,
        bytes: sent.bytes,
    };
    match doors.relay.generate(call).await {
        Ok(Answer::Whole { headers, body }) => {
            head(HttpResponse::Ok(), &headers).content_type("application/json").body(body)
        }
        Ok(Answer::Stream { headers, flow }) => {
            let pieces = stream::unfold(flow, move |mut flow| async move {
                let piece = flow.next().await?;
                Some((Ok::<_, std::convert::Infallible>(sse::encode(client, &piece)), flow))
            });
            head(HttpResponse::Ok(), &headers)
                .content_type("text/event-stream; charset=utf-8")
                .insert_header((header::CACHE_CONTROL, "no-cache"))
                .insert_header(("x-accel-buffering", "no"))
                .streaming(Box::pin(pieces))
        }
        Err(refused) => {
            let mut response = error::response(&request, client, &refused.failure);
            for (name, value) in header_pairs(&refused.headers) {
                if !response.headers().contains_key(&name) {
                    response.headers_mut().insert(name, value);
                }
            }
            response
        }
    }
}

/// What the request's headers say of its client.
pub fn client_of(request: &HttpRequest, protocol: Protocol) -> Client {
    let headers = request.headers();
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let session = ["x-session-id", "session-id", "session_id", "conversation_id"];
    Client {
        protocol,
        request_id: identity::of(request),
        agent: text("user-agent").unwrap_or_default(),
        originator: text("originator"),
        betas: betas(headers),
        session: session.into_iter().find_map(text),
        says_user: headers.get("x-initiator").is_some_and(|value| value == "user"),
    }
}

/// The tokens of every `anthropic-beta` header.
fn betas(headers: &HeaderMap) -> Vec<String> {
    let lists = headers.get_all("anthropic-beta").filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).map(str::trim).filter(|beta| !beta.is_empty()).map(str::to_owned).collect()
}

fn head(mut response: HttpResponseBuilder, headers: &[(String, String)]) -> HttpResponseBuilder {
    response.status(StatusCode::OK);
    for pair in header_pairs(headers) {
        response.insert_header(pair);
    }
    response
}

fn header_pairs(headers: &[(String, String)]) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    headers.iter().filter_map(|(name, value)| {
        Some((HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(value).ok()?))
    })
}
