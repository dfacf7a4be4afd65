//! A Gemini stream and the whole answer it amounts to. Knows the shape of the answers; not what they mean.

use serde_json::{Value, json};

use crate::protocol::failure::{Failure, Kind};
use crate::protocol::sse::Frame;
use crate::translate::{Object, upstream_failure};

/// Gathers the client's frames.
#[derive(Debug, Default)]
pub struct Fold {
    parts: Vec<Object>,
    finish: Value,
    /// Fields of the answer itself: those that came last.
    answer: Object,
}

impl super::Gather for Fold {
    fn feed(&mut self, frame: &Frame) -> Result<(), Failure> {
        let mut chunk: Object = serde_json::from_slice(&frame.data)
            .map_err(|_| Failure::new(Kind::Internal, "an event of our own stream is not JSON"))?;
        if chunk.contains_key("error") {
            return Err(upstream_failure::in_stream(&Value::Object(chunk)));
        }
        if let Some(mut candidates) = chunk.shift_remove("candidates") {
            let mut take = |path: &str| candidates.pointer_mut(path).map(Value::take);
            if let Some(finish) = take("/0/finishReason") {
                self.finish = finish;
            }
            if let Some(Value::Array(parts)) = take("/0/content/parts") {
                parts.into_iter().for_each(|part| self.part(part));
            }
        }
        self.answer.extend(chunk);
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<Value, Failure> {
        if self.finish.is_null() {
            return Err(Failure::truncated());
        }
        if self.parts.is_empty() {
            self.parts.extend(json!({"text": ""}).as_object().cloned());
        }
        let content = json!({"parts": self.parts, "role": "model"});
        let candidate = json!({"content": content, "finishReason": self.finish, "index": 0});
        let mut answer = Object::new();
        answer.insert("candidates".into(), json!([candidate]));
        for name in ["usageMetadata", "modelVersion", "responseId"] {
            answer.extend(self.answer.shift_remove_entry(name));
        }
        Ok(Value::Object(answer))
    }
}

impl Fold {
    /// Adds a part: text goes on where text of its kind ended, signed or not; a part without words signs the text
    /// before it, and is nothing without a signature.
    fn part(&mut self, part: Value) {
        let Value::Object(part) = part else { return };
        let Some(text) = part.get("text").and_then(Value::as_str) else {
            return self.parts.push(part);
        };
        let kind = |part: &Object| part.contains_key("text").then(|| part.contains_key("thought"));
        let signature = part.get("thoughtSignature");
        match self.parts.last_mut() {
            Some(last) if kind(last) == kind(&part) && !last.contains_key("thoughtSignature") => {
                if let Some(Value::String(before)) = last.get_mut("text") {
                    before.push_str(text);
                }
                if let Some(signature) = signature {
                    last.insert("thoughtSignature".into(), signature.clone());
                }
            }
            _ if text.is_empty() && signature.is_none() => {}
            _ => self.parts.push(part),
        }
    }
}
