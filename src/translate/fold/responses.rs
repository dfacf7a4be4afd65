//! A Responses stream and the whole answer it amounts to.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::protocol::failure::{Failure, Kind};
use crate::protocol::sse::Frame;
use crate::translate::upstream_failure;

/// Gathers the client's frames: the terminal event carries the whole answer.
#[derive(Debug, Default)]
pub struct Fold {
    answer: Option<Value>,
}

impl super::Gather for Fold {
    fn feed(&mut self, frame: &Frame) -> Result<(), Failure> {
        #[derive(Deserialize)]
        struct Terminal {
            response: Value,
        }
        match frame.name.as_deref() {
            Some(b"response.completed" | b"response.incomplete") => {
                let read = serde_json::from_slice::<Terminal>(&frame.data);
                self.answer = read.ok().map(|terminal| terminal.response);
            }
            Some(b"response.failed" | b"error") => {
                let event: Value = serde_json::from_slice(&frame.data).unwrap_or_default();
                let error = &event["response"]["error"];
                return Err(upstream_failure::in_stream(if error.is_object() {
                    error
                } else {
                    &event
                }));
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Value, Failure> {
        self.answer.ok_or_else(Failure::truncated)
    }
}

/// Refuses an answer that is neither a response nor an error.
pub fn check(answer: &Value) -> Result<(), Failure> {
    if answer["output"].is_array() || answer["status"].is_string() || !answer["error"].is_null() {
        return Ok(());
    }
    Err(Failure::new(
        Kind::UpstreamGarbage,
        "upstream answered with something that is no response",
    ))
}

/// The stream of upstream that would have brought this whole answer.
pub fn unfold(answer: &Value) -> Vec<Frame> {
    let mut stream = Stream::default();
    if !answer["error"].is_null() && answer["object"] != "response" {
        stream.event("error", fields(answer.clone()));
        return stream.frames;
    }
    let begun = begun(answer);
    stream.event("response.created", fields(json!({"response": begun})));
    stream.event("response.in_progress", fields(json!({"response": begun})));
    for (index, item) in answer["output"].as_array().into_iter().flatten().enumerate() {
        stream.item(index, item);
    }
    let terminal = match answer["status"].as_str() {
        None if answer["output"].is_array() => "response.completed",
        Some("completed") => "response.completed",
        Some("incomplete") => "response.incomplete",
        Some("failed" | "cancelled") => "response.failed",
        _ => return stream.frames,
    };
    stream.event(terminal, fields(json!({"response": answer})));
    stream.frames
}

/// The response as it was before it had said anything.
pub fn begun(answer: &Value) -> Value {
    let mut begun = answer.clone();
    if let Some(response) = begun.as_object_mut() {
        response.insert("status".into(), json!("in_progress"));
        response.insert("output".into(), json!([]));
        response.insert("usage".into(), Value::Null);
        for later in ["completed_at", "incomplete_details", "copilot_usage"] {
            response.shift_remove(later);
        }
    }
    begun
}

#[derive(Default)]
struct Stream {
    frames: Vec<Frame>,
}

/// Where an event belongs: the item, and the part of it if it has several.
struct Place<'a> {
    item: &'a Value,
    index: usize,
    part: Option<(&'static str, usize)>,
}

impl Stream {
    fn event(&mut self, kind: &'static str, fields: Map<String, Value>) {
        let mut event = Map::new();
        event.insert("type".into(), json!(kind));
        event.insert("sequence_number".into(), json!(self.frames.len()));
        event.extend(fields);
        self.frames.push(Frame::named(kind, Value::Object(event).to_string()));
    }

    /// An event inside an item.
    fn at(&mut self, place: &Place, kind: &'static str, rest: Value) {
        let mut event = fields(json!({"item_id": place.item["id"], "output_index": place.index}));
        if let Some((name, part)) = place.part {
            event.insert(name.into(), json!(part));
        }
        event.extend(fields(rest));
        self.event(kind, event);
    }

    fn item(&mut self, index: usize, item: &Value) {
        let added = json!({"output_index": index, "item": opened(item)});
        self.event("response.output_item.added", fields(added));
        let place = |part| Place { item, index, part };
        match item["type"].as_str() {
            Some("message") => {
                for (part, content) in parts(&item["content"]) {
                    self.content(&place(Some(("content_index", part))), content);
                }
            }
            Some("reasoning") => {
                for (part, content) in parts(&item["summary"]) {
                    self.summary(&place(Some(("summary_index", part))), content);
                }
                for (part, content) in parts(&item["content"]) {
                    let (place, text) = (place(Some(("content_index", part))), &content["text"]);
                    self.at(&place, "response.reasoning_text.delta", json!({"delta": text}));
                    self.at(&place, "response.reasoning_text.done", json!({"text": text}));
                }
            }
            Some("function_call") => {
                let (place, arguments) = (place(None), &item["arguments"]);
                let done = json!({"name": item["name"], "arguments": arguments});
                self.at(
                    &place,
                    "response.function_call_arguments.delta",
                    json!({"delta": arguments}),
                );
                self.at(&place, "response.function_call_arguments.done", done);
            }
            Some("custom_tool_call") => {
                let (place, input) = (place(None), &item["input"]);
                self.at(&place, "response.custom_tool_call_input.delta", json!({"delta": input}));
                self.at(&place, "response.custom_tool_call_input.done", json!({"input": input}));
            }
            Some("web_search_call") => {
                for kind in [
                    "response.web_search_call.in_progress",
                    "response.web_search_call.searching",
                    "response.web_search_call.completed",
                ] {
                    self.at(&place(None), kind, json!({}));
                }
            }
            _ => {}
        }
        let done = json!({"output_index": index, "item": item});
        self.event("response.output_item.done", fields(done));
    }

    fn content(&mut self, place: &Place, part: &Value) {
        if part["type"] == "refusal" {
            let (empty, text) = (json!({"type": "refusal", "refusal": ""}), &part["refusal"]);
            self.at(place, "response.content_part.added", json!({"part": empty}));
            self.at(place, "response.refusal.delta", json!({"delta": text}));
            self.at(place, "response.refusal.done", json!({"refusal": text}));
        } else {
            let (empty, text) = (empty_text(), &part["text"]);
            let delta = json!({"delta": text, "logprobs": []});
            self.at(place, "response.content_part.added", json!({"part": empty}));
            self.at(place, "response.output_text.delta", delta);
            for (number, annotation) in parts(&part["annotations"]) {
                let added = json!({"annotation_index": number, "annotation": annotation});
                self.at(place, "response.output_text.annotation.added", added);
            }
            self.at(
                place,
                "response.output_text.done",
                json!({"text": text, "logprobs": []}),
            );
        }
        self.at(place, "response.content_part.done", json!({"part": part}));
    }

    fn summary(&mut self, place: &Place, part: &Value) {
        let (empty, text) = (json!({"type": "summary_text", "text": ""}), &part["text"]);
        self.at(place, "response.reasoning_summary_part.added", json!({"part": empty}));
        self.at(place, "response.reasoning_summary_text.delta", json!({"delta": text}));
        self.at(place, "response.reasoning_summary_text.done", json!({"text": text}));
        self.at(place, "response.reasoning_summary_part.done", json!({"part": part}));
    }
}

/// The item as it was when it was opened: nothing said yet.
pub fn opened(item: &Value) -> Value {
    let mut opened = item.clone();
    let Some(fields) = opened.as_object_mut() else {
        return opened;
    };
    let empty = match item["type"].as_str() {
        Some("message") => ("content", json!([])),
        Some("reasoning") => ("summary", json!([])),
        Some("function_call") => ("arguments", json!("")),
        Some("custom_tool_call") => ("input", json!("")),
        Some("web_search_call") => ("status", json!("in_progress")),
        _ => return opened,
    };
    fields.insert(empty.0.into(), empty.1);
    if fields.contains_key("status") {
        fields.insert("status".into(), json!("in_progress"));
    }
    if item["type"] == "reasoning" {
        fields.shift_remove("content");
        fields.shift_remove("encrypted_content");
    }
    opened
}

/// A text part that says nothing yet.
pub fn empty_text() -> Value {
    json!({"type": "output_text", "text": "", "annotations": [], "logprobs": []})
}

fn parts(list: &Value) -> impl Iterator<Item = (usize, &Value)> {
    list.as_array().into_iter().flatten().enumerate()
}

fn fields(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(answer: &Value) -> Vec<String> {
        let name = |frame: &Frame| String::from_utf8_lossy(frame.name.as_deref().unwrap_or_default()).into_owned();
        unfold(answer).iter().map(name).collect()
    }

    #[test]
    fn an_error_is_an_error_event_and_a_failure_a_failed_response() {
        assert_eq!(kinds(&json!({"error": {"message": "X"}})), ["error"]);
        let failed = json!({"object": "response", "status": "failed", "error": {"message": "X"}});
        assert_eq!(kinds(&failed).last().map(String::as_str), Some("response.failed"));
        let unfinished = json!({"object": "response", "status": "in_progress", "output": []});
        assert_eq!(kinds(&unfinished), ["response.created", "response.in_progress"]);
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for garbage in [json!({}), json!([]), json!("hi"), json!({"choices": []})] {
            assert_eq!(
                check(&garbage).map_err(|failure| failure.kind),
                Err(Kind::UpstreamGarbage)
            );
        }
        assert_eq!(check(&json!({"output": []})), Ok(()));
        assert_eq!(check(&json!({"error": {"message": "X"}})), Ok(()));
    }
}
