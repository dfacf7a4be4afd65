//! The two doors that count a prompt's tokens: parse, ask the relay, render.

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};

use super::generate::client_of;
use super::{Doors, body, error};
use crate::protocol::Protocol;
use crate::protocol::failure::Failure;
use crate::translate::Object;

pub async fn messages(request: HttpRequest, payload: web::Payload, doors: web::Data<Doors>) -> HttpResponse {
    answer(Protocol::Messages, request, payload, doors, |count, body| {
        let mut answer = json!({"input_tokens": count});
        if body.contains_key("context_management") {
            answer["context_management"] = json!({"original_input_tokens": count});
        }
        answer
    })
    .await
}

pub async fn responses(request: HttpRequest, payload: web::Payload, doors: web::Data<Doors>) -> HttpResponse {
    let render = |count, _: &Object| json!({"object": "response.input_tokens", "input_tokens": count});
    answer(Protocol::Responses, request, payload, doors, render).await
}

async fn answer(
    client: Protocol,
    request: HttpRequest,
    payload: web::Payload,
    doors: web::Data<Doors>,
    render: impl Fn(u64, &Object) -> Value,
) -> HttpResponse {
    let counted: Result<Value, Failure> = async {
        let mut sent = body::object(request.headers(), payload.into_inner(), doors.settings.max_body_bytes).await?;
        let count = doors
            .relay
            .count_tokens(&client_of(&request, client), &mut sent.object)
            .await;
        Ok(render(count?, &sent.object))
    }
    .await;
    match counted {
        Ok(answer) => HttpResponse::Ok().json(answer),
        Err(failure) => error::response(&request, client, &failure),
    }
}
