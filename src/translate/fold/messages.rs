//! A messages stream and the whole answer it amounts to.

use serde_json::{Value, json};

use crate::protocol::failure::{Failure, Kind};
use crate::protocol::sse::Frame;
use crate::translate::{Object, upstream_failure};

/// Gathers the client's frames.
#[derive(Debug, Default)]
pub struct Fold {
    message: Object,
    blocks: Vec<Block>,
    complete: bool,
}

/// One block of the answer, as far as it has come.
#[derive(Debug)]
struct Block {
    index: u64,
    content: Object,
    /// The pieces of a call's input.
    input: String,
}

impl super::Gather for Fold {
    fn feed(&mut self, frame: &Frame) -> Result<(), Failure> {
        let mut event: Object = serde_json::from_slice(&frame.data).map_err(|_| garbage())?;
        let kind = event.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
        match kind.as_str() {
            "message_start" => {
                if let Some(Value::Object(message)) = event.shift_remove("message") {
                    self.message = message;
                }
            }
            "content_block_start" => self.open(event),
            "content_block_delta" => self.grow(event),
            "message_delta" => self.amend(event),
            "message_stop" => self.complete = true,
            "error" => return Err(upstream_failure::in_stream(&Value::Object(event))),
            _ => {}
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Value, Failure> {
        if !self.complete {
            return Err(Failure::truncated());
        }
        let mut message = self.message;
        let cut = matches!(
            message.get("stop_reason").and_then(Value::as_str),
            Some("max_tokens" | "model_context_window_exceeded")
        );
        let content = self.blocks.into_iter().filter_map(|block| block.close(cut)).collect();
        message.insert("content".into(), Value::Array(content));
        Ok(Value::Object(message))
    }
}

impl Fold {
    fn open(&mut self, mut event: Object) {
        if let Some(Value::Object(content)) = event.shift_remove("content_block") {
            self.blocks.push(Block {
                index: event.get("index").and_then(Value::as_u64).unwrap_or_default(),
                content,
                input: String::new(),
            });
        }
    }

    fn grow(&mut self, mut event: Object) {
        let index = event.get("index").and_then(Value::as_u64).unwrap_or_default();
        let block = self.blocks.iter_mut().rfind(|block| block.index == index);
        if let (Some(block), Some(Value::Object(delta))) = (block, event.shift_remove("delta")) {
            block.grow(delta);
        }
    }

    /// Takes what the end of the stream says of the whole message.
    fn amend(&mut self, event: Object) {
        for (key, value) in event {
            match (key.as_str(), value) {
                ("type", _) | (_, Value::Null) => {}
                ("delta", Value::Object(delta)) => self.message.extend(delta),
                ("usage", Value::Object(newer)) => match self.message.get_mut("usage") {
                    Some(Value::Object(usage)) => usage.extend(newer.into_iter().filter(|(_, count)| !count.is_null())),
                    _ => drop(self.message.insert(key, Value::Object(newer))),
                },
                (_, value) => drop(self.message.insert(key, value)),
            }
        }
    }
}

impl Block {
    fn grow(&mut self, delta: Object) {
        for (key, value) in delta {
            match (key.as_str(), value) {
                ("partial_json", Value::String(piece)) => self.input.push_str(&piece),
                ("text" | "thinking" | "signature", Value::String(piece)) => match self.content.get_mut(&key) {
                    Some(Value::String(text)) => text.push_str(&piece),
                    _ => drop(self.content.insert(key, Value::String(piece))),
                },
                ("citation", citation) => match self.content.get_mut("citations") {
                    Some(Value::Array(citations)) => citations.push(citation),
                    _ => drop(self.content.insert("citations".into(), Value::Array(vec![citation]))),
                },
                _ => {}
            }
        }
    }

    /// The block as the whole answer shows it; none for a call that was `cut` short.
    fn close(mut self, cut: bool) -> Option<Value> {
        if !self.input.trim().is_empty() {
            let input = match whole_input(&self.input) {
                Some(input) => input,
                None if cut => return None,
                None => repaired_input(self.input),
            };
            self.content.insert("input".into(), input);
        }
        Some(Value::Object(self.content))
    }
}

fn whole_input(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok().filter(Value::is_object)
}

/// Arguments that are no JSON object: the object they begin with, else all of them in one field.
fn repaired_input(text: String) -> Value {
    let first = serde_json::Deserializer::from_str(&text).into_iter::<Value>().next();
    match first {
        Some(Ok(input)) if input.is_object() => input,
        _ => json!({"raw_arguments": text}),
    }
}

fn garbage() -> Failure {
    Failure::new(Kind::UpstreamGarbage, "upstream sent an event that is no JSON object")
}

/// The stream of upstream that would have brought this whole answer.
pub fn unfold(answer: &Value) -> Vec<Frame> {
    let Some(answer) = answer.as_object() else {
        return Vec::new();
    };
    let ending = |key: &str| answer.get(key).cloned().unwrap_or_default();
    let mut delta = Object::new();
    for key in ["stop_reason", "stop_sequence", "stop_details"] {
        if key != "stop_details" || answer.contains_key(key) {
            delta.insert(key.into(), ending(key));
        }
    }
    let mut message = answer.clone();
    message.insert("content".into(), json!([]));
    message.shift_remove("copilot_usage");
    for (key, value) in &mut message {
        if delta.contains_key(key) {
            *value = Value::Null;
        }
    }

    let mut frames = vec![event("message_start", json!({"message": message}))];
    let blocks = answer.get("content").and_then(Value::as_array);
    for (index, block) in (0..).zip(blocks.into_iter().flatten()) {
        unfold_block(index, block, &mut frames);
    }
    let mut end = json!({"delta": delta});
    for key in ["usage", "copilot_usage", "context_management"] {
        if answer.get(key).is_some_and(|value| !value.is_null()) {
            end[key] = ending(key);
        }
    }
    frames.push(event("message_delta", end));
    frames.push(event("message_stop", json!({})));
    frames
}

/// The events of one block.
pub(in crate::translate) fn unfold_block(index: u64, block: &Value, frames: &mut Vec<Frame>) {
    let mut start = block.clone();
    let mut deltas = Vec::new();
    let kind = block["type"].as_str().unwrap_or_default();
    if let Some(start) = start.as_object_mut() {
        let streamed: &[(&str, &str)] = match kind {
            "text" => &[("text", "text_delta")],
            "thinking" => &[("thinking", "thinking_delta"), ("signature", "signature_delta")],
            _ => &[],
        };
        for &(key, delta) in streamed {
            if let Some(Value::String(text)) = start.get_mut(key) {
                let text = std::mem::take(text);
                if !text.is_empty() {
                    deltas.push(json!({"type": delta, key: text}));
                }
            }
        }
        if let Some(Value::Array(citations)) = start.get_mut("citations") {
            let citations = std::mem::take(citations);
            deltas.extend(
                citations
                    .into_iter()
                    .map(|citation| json!({"type": "citations_delta", "citation": citation})),
            );
        }
        if matches!(kind, "tool_use" | "server_tool_use" | "mcp_tool_use")
            && let Some(Value::Object(input)) = start.get_mut("input")
            && !input.is_empty()
        {
            let input = Value::Object(std::mem::take(input)).to_string();
            deltas.push(json!({"type": "input_json_delta", "partial_json": input}));
        }
    }
    frames.push(event(
        "content_block_start",
        json!({"index": index, "content_block": start}),
    ));
    for delta in deltas {
        frames.push(event("content_block_delta", json!({"index": index, "delta": delta})));
    }
    frames.push(event("content_block_stop", json!({"index": index})));
}

/// An event of the stream: its data names it first.
pub(in crate::translate) fn event(name: &'static str, fields: Value) -> Frame {
    let mut data = Object::new();
    data.insert("type".into(), name.into());
    if let Value::Object(fields) = fields {
        data.extend(fields);
    }
    Frame::named(name, Value::Object(data).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translate::fold::Gather;

    fn fold(frames: &[Frame]) -> Result<Value, Failure> {
        let mut fold = Box::<Fold>::default();
        for frame in frames {
            fold.feed(frame)?;
        }
        fold.finish()
    }

    /// A call with these pieces of arguments, ended for this reason.
    fn call(pieces: &[&str], reason: &str) -> Value {
        let mut frames = vec![
            event(
                "message_start",
                json!({"message": {"id": "m", "content": [], "stop_reason": null, "usage": {"input_tokens": 3, "output_tokens": 0}}}),
            ),
            event(
                "content_block_start",
                json!({"index": 0, "content_block": {"type": "tool_use", "id": "t", "name": "f", "input": {}}}),
            ),
        ];
        frames.extend(pieces.iter().map(|piece| {
            event(
                "content_block_delta",
                json!({"index": 0, "delta": {"type": "input_json_delta", "partial_json": piece}}),
            )
        }));
        frames.push(event("content_block_stop", json!({"index": 0})));
        frames.push(event(
            "message_delta",
            json!({"delta": {"stop_reason": reason, "stop_sequence": null}, "usage": {"output_tokens": 7}}),
        ));
        frames.push(event("message_stop", json!({})));
        fold(&frames).unwrap()
    }

    #[test]
    fn k168_a_whole_answer_is_the_fold_of_its_stream() {
        let answer = json!({
            "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "zebra": {"b": 1, "a": 2},
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "Eq=="},
                {"type": "redacted_thinking", "data": "x"},
                {"type": "text", "text": "grün", "citations": [{"type": "web_search_result_location", "url": "u"}]},
                {"type": "tool_use", "id": "t", "name": "f", "input": {"z": 1, "a": [1.5]}},
                {"type": "tool_use", "id": "t2", "name": "g", "input": {}},
                {"type": "web_search_tool_result", "tool_use_id": "s", "content": [{"type": "web_search_result"}]},
            ],
            "stop_reason": "tool_use", "stop_sequence": null, "stop_details": null,
            "context_management": {"applied_edits": []},
            "usage": {"input_tokens": 1, "output_tokens": 2, "server_tool_use": {"web_search_requests": 1}},
        });
        let folded = fold(&unfold(&answer)).unwrap();
        assert_eq!(folded.to_string(), answer.to_string());
    }

    #[test]
    fn arguments_come_whole_or_repaired() {
        assert_eq!(
            call(&["{\"a\"", ":1}"], "tool_use")["content"][0]["input"],
            json!({"a": 1})
        );
        assert_eq!(call(&[], "tool_use")["content"][0]["input"], json!({}));
        assert_eq!(
            call(&["{\"a\":1}", "}}"], "tool_use")["content"][0]["input"],
            json!({"a": 1})
        );
        assert_eq!(
            call(&["[1]"], "tool_use")["content"][0]["input"],
            json!({"raw_arguments": "[1]"})
        );
    }

    #[test]
    fn k084_a_call_that_was_cut_short_is_not_shown() {
        let answer = call(&["{\"a\":"], "max_tokens");
        assert_eq!(
            (&answer["content"], &answer["stop_reason"]),
            (&json!([]), &json!("max_tokens"))
        );
        assert_eq!(answer["usage"], json!({"input_tokens": 3, "output_tokens": 7}));
        assert_eq!(call(&["{}"], "max_tokens")["content"].as_array().map(Vec::len), Some(1));
    }

    #[test]
    fn a_cut_stream_is_no_answer() {
        assert_eq!(
            fold(&[event("message_start", json!({"message": {}}))]),
            Err(Failure::truncated())
        );
        assert!(fold(&[Frame::data("nonsense")]).is_err());
        assert!(unfold(&json!("nonsense")).is_empty());
    }
}
