//! A chat stream and the whole answer it amounts to. Knows the shape of chunks and answers; not what they mean.

use serde_json::{Map, Value, json};

use crate::protocol::failure::{Failure, Kind};
use crate::protocol::sse::Frame;
use crate::translate::chunk::REASONING;
use crate::translate::{Object, upstream_failure};

/// Gathers the client's frames.
#[derive(Debug, Default)]
pub struct Fold {
    /// Fields of the answer itself.
    answer: Object,
    message: Object,
    calls: Vec<Object>,
    /// Fields beside the message, such as `logprobs`.
    choice: Object,
    finish: Value,
    usage: Value,
}

impl super::Gather for Fold {
    fn feed(&mut self, frame: &Frame) -> Result<(), Failure> {
        if frame.is_done() {
            return Ok(());
        }
        let chunk: Object = serde_json::from_slice(&frame.data)
            .map_err(|_| Failure::new(Kind::Internal, "an event of our own stream is not JSON"))?;
        if chunk.contains_key("error") {
            return Err(upstream_failure::in_stream(&Value::Object(chunk)));
        }
        for (name, value) in chunk {
            match (name.as_str(), value) {
                ("choices", Value::Array(choices)) => choices.into_iter().for_each(|choice| self.choice(choice)),
                ("usage", Value::Null) => {}
                ("usage", usage) => self.usage = usage,
                // What only some chunks know, all the others have as null.
                (_, Value::Null) => {
                    self.answer.entry(name).or_insert(Value::Null);
                }
                (_, value) => {
                    self.answer.insert(name, value);
                }
            }
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<Value, Failure> {
        if self.finish.is_null() {
            return Err(Failure::truncated());
        }
        let mut message = json!({
            "role": "assistant",
            "content": self.message.shift_remove("content").unwrap_or(Value::Null),
            "refusal": self.message.shift_remove("refusal").unwrap_or(Value::Null),
        });
        if !self.calls.is_empty() {
            message["tool_calls"] = json!(self.calls);
        }
        let silent = message["content"].as_str().unwrap_or_default().is_empty();
        if silent {
            let calls = !self.calls.is_empty() || self.message.contains_key("function_call");
            message["content"] = if calls { Value::Null } else { json!("") };
        }
        extend(&mut message, self.message);
        let mut choice = json!({
            "index": 0,
            "message": message,
            "logprobs": self.choice.shift_remove("logprobs").unwrap_or(Value::Null),
            "finish_reason": self.finish,
        });
        extend(&mut choice, self.choice);
        let mut take = |name: &str| self.answer.shift_remove(name).unwrap_or(Value::Null);
        let mut answer = json!({
            "id": take("id"),
            "object": "chat.completion",
            "created": take("created"),
            "model": take("model"),
            "choices": [choice],
        });
        if !self.usage.is_null() {
            answer["usage"] = self.usage;
        }
        self.answer.shift_remove("object");
        extend(&mut answer, self.answer);
        Ok(answer)
    }
}

impl Fold {
    fn choice(&mut self, choice: Value) {
        let Value::Object(choice) = choice else { return };
        for (name, value) in choice {
            match (name.as_str(), value) {
                ("index", _) => {}
                ("delta", Value::Object(delta)) => self.delta(delta),
                ("finish_reason", Value::Null) => {}
                ("finish_reason", reason) => self.finish = reason,
                ("logprobs", Value::Object(more)) => {
                    if let Value::Object(known) = self.choice.entry("logprobs").or_insert_with(|| json!({})) {
                        for (name, list) in more {
                            grow_list(known.entry(name).or_insert(Value::Null), list);
                        }
                    }
                }
                (_, Value::Null) => {}
                (_, value) => {
                    self.choice.insert(name, value);
                }
            }
        }
    }

    fn delta(&mut self, delta: Object) {
        for (name, value) in delta {
            match (name.as_str(), value) {
                ("role", _) | (_, Value::Null) => {}
                ("tool_calls", Value::Array(fragments)) => {
                    fragments.into_iter().for_each(|fragment| self.fragment(fragment));
                }
                ("content" | "refusal", value) => grow(&mut self.message, name, value),
                (known, value) if REASONING.contains(&known) => grow(&mut self.message, name, value),
                ("annotations", list) => grow_list(self.message.entry(name).or_insert(Value::Null), list),
                ("function_call", Value::Object(function)) => {
                    if let Value::Object(known) = self.message.entry(name).or_insert_with(|| json!({})) {
                        merge(known, function);
                    }
                }
                (_, value) => {
                    self.message.insert(name, value);
                }
            }
        }
    }

    /// Puts a piece of a call in its place. Our own streams number their calls without a gap.
    fn fragment(&mut self, fragment: Value) {
        let Value::Object(mut fragment) = fragment else { return };
        let index = fragment.shift_remove("index").and_then(|index| index.as_u64());
        let at = index.map_or(self.calls.len(), |index| (index as usize).min(self.calls.len()));
        if at == self.calls.len() {
            self.calls.push(Object::new());
        }
        let Some(call) = self.calls.get_mut(at) else { return };
        for (name, value) in fragment {
            match value {
                Value::Object(part) if matches!(name.as_str(), "function" | "custom") => {
                    if let Value::Object(known) = call.entry(name).or_insert_with(|| json!({})) {
                        merge(known, part);
                    }
                }
                value => {
                    call.insert(name, value);
                }
            }
        }
    }
}

/// Joins a function's fragment to what is known: its arguments grow, all else is set.
fn merge(known: &mut Object, part: Object) {
    for (name, value) in part {
        match name.as_str() {
            "arguments" | "input" => grow(known, name, value),
            _ => {
                known.insert(name, value);
            }
        }
    }
}

/// Appends to a text; what is no text replaces it.
fn grow(object: &mut Object, name: String, more: Value) {
    match (object.get_mut(&name), more) {
        (Some(Value::String(text)), Value::String(more)) => text.push_str(&more),
        (_, more) => {
            object.insert(name, more);
        }
    }
}

fn grow_list(list: &mut Value, more: Value) {
    match (list, more) {
        (Value::Array(list), Value::Array(more)) => list.extend(more),
        (_, Value::Null) => {}
        (list, more) => *list = more,
    }
}

fn extend(object: &mut Value, more: Object) {
    if let Value::Object(object) = object {
        object.extend(more);
    }
}

/// The stream of upstream that would have brought this whole answer.
pub fn unfold(answer: &Value) -> Vec<Frame> {
    let frame = |chunk: &Value| Frame::data(chunk.to_string());
    let (Some(fields), Some(choices)) = (answer.as_object(), answer["choices"].as_array()) else {
        return vec![frame(answer)];
    };
    let mut frames = Vec::new();
    let (accounts, shared): (Object, Object) = fields
        .clone()
        .into_iter()
        .filter(|(name, _)| !matches!(name.as_str(), "choices" | "object"))
        .partition(|(name, _)| matches!(name.as_str(), "usage" | "copilot_usage"));
    let chunk = |choices: Vec<Value>, more: Object| {
        let mut chunk: Object = shared.clone();
        chunk.insert("object".into(), json!("chat.completion.chunk"));
        chunk.insert("choices".into(), Value::Array(choices));
        chunk.extend(more);
        frame(&Value::Object(chunk))
    };
    frames.push(chunk(choices.iter().map(opening).collect(), Object::new()));
    let endings: Vec<Value> = choices.iter().filter_map(ending).collect();
    if !endings.is_empty() {
        frames.push(chunk(endings, Object::new()));
    }
    if !accounts.is_empty() {
        frames.push(chunk(Vec::new(), accounts));
    }
    frames.push(Frame::data("[DONE]"));
    frames
}

/// A choice as one delta that says all of it but its ending.
fn opening(choice: &Value) -> Value {
    let mut choice = choice.as_object().cloned().unwrap_or_default();
    choice.shift_remove("finish_reason");
    let mut message = match choice.shift_remove("message") {
        Some(Value::Object(message)) => message,
        _ => Map::new(),
    };
    if let Some(Value::Array(calls)) = message.get_mut("tool_calls") {
        for (index, call) in calls.iter_mut().enumerate() {
            if let Value::Object(call) = call {
                call.insert("index".into(), json!(index));
            }
        }
    }
    choice.insert("delta".into(), Value::Object(message));
    Value::Object(choice)
}

fn ending(choice: &Value) -> Option<Value> {
    let reason = choice.get("finish_reason").filter(|reason| !reason.is_null())?;
    Some(json!({"index": choice["index"], "delta": {}, "finish_reason": reason}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translate::fold::Gather;

    fn fold(frames: &[Frame]) -> Value {
        let mut fold = Box::new(Fold::default());
        frames.iter().for_each(|frame| fold.feed(frame).unwrap());
        fold.finish().unwrap()
    }

    #[test]
    fn k168_a_whole_answer_survives_its_own_stream() {
        let answer = json!({"id": "c", "object": "chat.completion", "created": 7, "model": "m", "choices": [{
            "index": 0,
            "message": {"role": "assistant", "content": "a", "refusal": null,
                "tool_calls": [
                    {"id": "x", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                    {"id": "y", "type": "custom", "custom": {"name": "g", "input": "i"}},
                ],
                "reasoning_text": "hm", "annotations": [{"type": "url_citation"}]},
            "logprobs": {"content": [{"token": "a"}]},
            "finish_reason": "tool_calls",
        }], "usage": {"prompt_tokens": 1}, "system_fingerprint": "fp"});
        assert_eq!(fold(&unfold(&answer)).to_string(), answer.to_string());
    }

    #[test]
    fn pieces_join() {
        let frames: Vec<Frame> = [
            r#"{"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#,
            r#"{"id":"c","choices":[{"delta":{"reasoning_text":"a","content":"x"},"logprobs":{"content":[1]}}]}"#,
            r#"{"id":"c","choices":[{"delta":{"reasoning_text":"b","content":"y"},"logprobs":{"content":[2]}}]}"#,
            r#"{"id":"c","choices":[{"delta":{"tool_calls":[{"index":0,"id":"t","function":{"name":"f","arguments":""}}]}}]}"#,
            r#"{"id":"c","choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{"}}]}}]}"#,
            r#"{"id":"c","choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"}"}}]}}]}"#,
            r#"{"id":"c","choices":[{"delta":{},"finish_reason":"tool_calls"}],"usage":null}"#,
            r#"{"id":"c","choices":[],"usage":{"total_tokens":3}}"#,
            "[DONE]",
        ]
        .map(Frame::data)
        .into();
        let answer = fold(&frames);
        let message = &answer["choices"][0]["message"];
        assert_eq!(
            *message,
            json!({"role": "assistant", "content": "xy", "refusal": null,
            "tool_calls": [{"id": "t", "function": {"name": "f", "arguments": "{}"}}], "reasoning_text": "ab"})
        );
        assert_eq!(answer["choices"][0]["logprobs"], json!({"content": [1, 2]}));
        assert_eq!(answer["usage"], json!({"total_tokens": 3}));
    }

    #[test]
    fn an_answer_without_an_ending_is_none() {
        assert_eq!(Box::new(Fold::default()).finish(), Err(Failure::truncated()));
    }

    proptest::proptest! {
        #[test]
        fn no_answer_and_no_chunk_panics(any in crate::translate::rules::any_json(), more in crate::translate::rules::any_json()) {
            let answer = json!({"choices": [{"message": any, "logprobs": more, "finish_reason": "stop"}, more], "usage": any});
            for answer in [&answer, &any] {
                let mut fold = Box::new(Fold::default());
                for frame in unfold(answer) {
                    let _ = fold.feed(&frame);
                }
                let _ = fold.finish();
            }
        }
    }
}
