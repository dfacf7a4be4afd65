//! `/embeddings`: unit vectors, the same for the same text. Copilot's answer lacks `object` and `model`, and is always
//! floats.

use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use serde_json::{Value, json};

use super::checks::list;
use super::gate::{self, Caller, Door};
use super::mind::{Conversation, tokens};
use super::reply::{self, Refusal};
use super::seals;
use super::state::State;
use crate::protocol::Protocol;
use crate::protocol::catalog::Model;

const DOOR: Door = Door {
    name: "embeddings",
    protocol: Protocol::Chat,
    generates: false,
    path: "/embeddings",
};

const NATIVE_SIZE: u64 = 1536;

/// `POST /embeddings`.
pub async fn embed(request: HttpRequest, body: Bytes, state: web::Data<State>) -> HttpResponse {
    let embedded = async {
        let caller = Caller::of(&state, &request)?;
        let body = gate::object(&body)?;
        let pass = gate::admit(&state, &caller, DOOR, &body, &Conversation::default())?;
        let answer = answer(&pass.model, &body)?;
        let mut head = reply::head(&request, 200);
        for (name, value) in gate::quota_headers(&state, pass.caller.seat) {
            head.insert_header((name, value));
        }
        Ok(head.content_type("application/json").body(reply::json_body(answer)))
    };
    gate::serve(&state, &request, &body, embedded).await
}

fn answer(model: &Model, body: &Value) -> Result<Value, Refusal> {
    let refuse = |message: &str| Err(Refusal::copilot(400, "invalid_request_body", message));
    let texts = list(body, "input");
    if texts.is_empty()
        || !texts
            .iter()
            .all(|text| text.as_str().is_some_and(|text| !text.is_empty()))
    {
        return refuse("input must be a non-empty array of non-empty strings");
    }
    if model.limits.inputs.is_some_and(|most| texts.len() as u64 > most) {
        return refuse("too many inputs");
    }
    let size = match &body["dimensions"] {
        Value::Null => NATIVE_SIZE,
        _ if !model.supports.dimensions => return refuse("this model does not support dimensions"),
        size => size
            .as_u64()
            .filter(|size| (1..=NATIVE_SIZE).contains(size))
            .unwrap_or(0),
    };
    if size == 0 {
        return refuse("dimensions are out of range");
    }
    let texts: Vec<&str> = texts.iter().filter_map(Value::as_str).collect();
    let data: Vec<Value> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| json!({"embedding": vector(text, size), "index": index, "object": "embedding"}))
        .collect();
    let weight: u64 = texts.iter().map(|text| tokens(text.len())).sum();
    Ok(json!({"data": data, "usage": {"prompt_tokens": weight, "total_tokens": weight}}))
}

/// A direction that only the text decides, of length one.
fn vector(text: &str, size: u64) -> Vec<f32> {
    let seed = text
        .bytes()
        .fold(0u64, |seed, byte| seals::mix(seed ^ u64::from(byte)).wrapping_add(1));
    let raw: Vec<f64> = (0..size)
        .map(|at| (seals::mix(seed ^ at.wrapping_mul(0x9E37_79B9_7F4A_7C15)) >> 11) as f64 / (1u64 << 52) as f64 - 1.0)
        .collect();
    let length = raw.iter().map(|x| x * x).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
    raw.into_iter().map(|x| (x / length) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_have_length_one_and_depend_on_the_text() {
        let (one, two) = (vector("one", 1536), vector("two", 1536));
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        assert!((dot(&one, &one) - 1.0).abs() < 1e-3);
        assert!(dot(&one, &two).abs() < 0.2);
        assert_eq!(one, vector("one", 1536));
    }
}
