//! Embeddings: the few edits of request and answer that Copilot and the SDKs need to meet. One protocol, no streams.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::Object;
use super::request::gemini_to_chat::{each, get, number};
use crate::protocol::catalog::Model;
use crate::protocol::failure::{Failure, Kind};

/// Texts in one request, where the catalogue names no number.
const MAX_INPUTS: u64 = 512;

/// How the client wants its vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Float,
    Base64,
}

/// A request ready for upstream, and what its answer must fit.
#[derive(Debug)]
pub struct Outgoing {
    pub body: Object,
    pub inputs: usize,
    pub encoding: Encoding,
}

/// Checks the request and puts it in Copilot's form: a list of texts.
pub fn request(body: &Object, model: &Model) -> Result<Outgoing, Failure> {
    let encoding = match body.get("encoding_format") {
        None | Some(Value::Null) => Encoding::Float,
        Some(Value::String(name)) if name == "float" => Encoding::Float,
        Some(Value::String(name)) if name == "base64" => Encoding::Base64,
        Some(_) => {
            return Err(Failure::bad(
                "encoding_format",
                "encoding_format must be float or base64",
            ));
        }
    };
    let texts = texts(body.get("input"), model.limits.inputs.unwrap_or(MAX_INPUTS))?;
    let mut outgoing = Map::new();
    for (key, value) in body {
        match key.as_str() {
            "model" => outgoing.insert(key.clone(), json!(model.id)),
            "input" => outgoing.insert(key.clone(), json!(texts)),
            // Copilot sends floats whatever it is asked for.
            "encoding_format" => None,
            _ => outgoing.insert(key.clone(), value.clone()),
        };
    }
    Ok(Outgoing {
        body: outgoing,
        inputs: texts.len(),
        encoding,
    })
}

/// A Gemini client's request as the one it amounts to: of one text, or of many in a batch.
pub fn of_gemini(body: &Object) -> Object {
    let body = Value::Object(body.clone());
    let one = std::slice::from_ref(&body);
    let asked = body["requests"].as_array().map_or(one, Vec::as_slice);
    let text = |asked: &Value| -> String {
        let parts = each(get(get(asked, "content"), "parts")).iter();
        parts.filter_map(|part| part["text"].as_str()).collect()
    };
    let mut out = Map::new();
    out.insert("model".into(), body["model"].clone());
    out.insert("input".into(), asked.iter().map(text).collect());
    if let Some(size) = asked
        .first()
        .and_then(|asked| number(get(asked, "outputDimensionality")))
    {
        out.insert("dimensions".into(), size);
    }
    out
}

/// The answer to [`of_gemini`]'s question, as its client reads it.
pub fn for_gemini(mut answer: Value, body: &Object) -> Value {
    let list = answer.get_mut("data").and_then(Value::as_array_mut);
    let vectors = list
        .into_iter()
        .flatten()
        .map(|one| json!({"values": one["embedding"].take()}));
    if body.contains_key("requests") {
        json!({"embeddings": vectors.collect::<Vec<_>>()})
    } else {
        json!({"embedding": vectors.into_iter().next()})
    }
}

fn texts(input: Option<&Value>, most: u64) -> Result<Vec<&str>, Failure> {
    let bad = |sentence: &str| Err(Failure::bad("input", sentence));
    let texts: Vec<&str> = match input {
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(list)) if list.iter().any(|one| one.is_number() || one.is_array()) => {
            return bad("Token array input is not supported");
        }
        Some(Value::Array(list)) if list.iter().all(Value::is_string) => {
            list.iter().filter_map(Value::as_str).collect()
        }
        None | Some(Value::Null) => return bad("input: Field required"),
        Some(_) => return bad("input must be a text or a list of texts"),
    };
    if texts.is_empty() || texts.iter().any(|text| text.is_empty()) {
        return bad("input must not be empty");
    }
    if u64::try_from(texts.len()).is_ok_and(|many| many > most) {
        return bad(&format!("input holds more than {most} texts"));
    }
    Ok(texts)
}

/// Completes Copilot's answer and encodes its vectors as the client asked.
pub fn answer(mut answer: Value, asked: &Outgoing, requested: &str) -> Result<Value, Failure> {
    let garbage = |sentence: String| Failure::new(Kind::UpstreamGarbage, sentence);
    let Some(object) = answer.as_object_mut() else {
        return Err(garbage("upstream's answer is no object".into()));
    };
    let Some(Value::Array(mut data)) = object.get_mut("data").map(Value::take) else {
        return Err(garbage("upstream's answer holds no embeddings".into()));
    };
    if data.len() != asked.inputs {
        return Err(garbage(format!(
            "upstream answered {} embeddings for {} texts",
            data.len(),
            asked.inputs
        )));
    }
    data.sort_by_key(|one| one["index"].as_u64().unwrap_or(u64::MAX));
    for (at, one) in data.iter_mut().enumerate() {
        let Some(one) = one.as_object_mut() else {
            return Err(garbage("an embedding is no object".into()));
        };
        one.entry("object").or_insert_with(|| json!("embedding"));
        one.entry("index").or_insert_with(|| json!(at));
        let vector = one.get("embedding").and_then(|vector| encoded(vector, asked.encoding));
        let vector = vector.ok_or_else(|| garbage("an embedding is no vector".into()))?;
        one.insert("embedding".into(), vector);
    }
    object.insert("data".into(), Value::Array(data));
    object.insert("object".into(), json!("list"));
    object.insert("model".into(), json!(requested));
    object.shift_remove("copilot_usage");
    Ok(answer)
}

/// The vector in the encoding asked for; what already is in it stays as it came. `None` for what is no vector.
fn encoded(vector: &Value, encoding: Encoding) -> Option<Value> {
    match (vector, encoding) {
        (Value::Array(_), Encoding::Float) | (Value::String(_), Encoding::Base64) => Some(vector.clone()),
        (Value::Array(floats), Encoding::Base64) => {
            let mut bytes = Vec::with_capacity(floats.len() * 4);
            for float in floats {
                bytes.extend_from_slice(&(float.as_f64()? as f32).to_le_bytes());
            }
            Some(json!(STANDARD.encode(bytes)))
        }
        (Value::String(text), Encoding::Float) => {
            let bytes = STANDARD.decode(text).ok()?;
            let floats = bytes
                .chunks_exact(4)
                .map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]));
            (bytes.len() % 4 == 0).then(|| floats.map(f64::from).collect())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::catalog::Catalog;

    fn outgoing(body: Value) -> Result<Outgoing, Failure> {
        let list = json!({"data": [{"id": "e", "capabilities": {"type": "embeddings", "limits": {"max_inputs": 2}}}]});
        request(body.as_object().unwrap(), Catalog::read(&list).get("e").unwrap())
    }

    #[test]
    fn k160_a_text_is_wrapped_and_floats_become_base64() {
        let asked =
            outgoing(json!({"model": "x", "input": "a", "encoding_format": "base64", "dimensions": 3})).unwrap();
        assert_eq!(
            Value::Object(asked.body.clone()),
            json!({"model": "e", "input": ["a"], "dimensions": 3})
        );
        let upstream = json!({"data": [{"embedding": [0.5, -1.25], "index": 0}], "usage": {"prompt_tokens": 1}});
        let whole = answer(upstream, &asked, "x").unwrap();
        assert_eq!(
            (whole["object"].as_str(), whole["model"].as_str()),
            (Some("list"), Some("x"))
        );
        let text = whole["data"][0]["embedding"].clone();
        assert_eq!(encoded(&text, Encoding::Float).unwrap(), json!([0.5, -1.25]));
    }

    #[test]
    fn answers_come_in_order_and_complete() {
        let asked = outgoing(json!({"input": ["a", "b"]})).unwrap();
        let upstream = json!({"data": [{"embedding": [2.0], "index": 1}, {"embedding": [1.0], "index": 0}]});
        let whole = answer(upstream, &asked, "x").unwrap();
        assert_eq!(whole["data"][0]["embedding"], json!([1.0]));
        for broken in [
            json!([]),
            json!({}),
            json!({"data": []}),
            json!({"data": [1, 2]}),
            json!({"data": [{}, {}]}),
        ] {
            assert_eq!(answer(broken, &asked, "x").unwrap_err().kind, Kind::UpstreamGarbage);
        }
    }

    #[test]
    fn bad_input_is_named() {
        for input in [
            json!([]),
            json!(""),
            json!([1, 2]),
            json!([[1]]),
            json!(["a", ""]),
            json!({}),
            json!(["a", "b", "c"]),
        ] {
            assert_eq!(
                outgoing(json!({ "input": input })).unwrap_err().param.as_deref(),
                Some("input")
            );
        }
        assert!(outgoing(json!({"input": "a", "encoding_format": "hex"})).is_err());
    }
}
