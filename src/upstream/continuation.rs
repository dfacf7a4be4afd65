//! A turn as the frame that asks for it, which leaves out what the other end of its socket still holds: the input and
//! the answer of the turn before. Knows how what was said compares with what is said again; no socket.
//!
//! The request is always there in full. What is held is only compared with how it begins, so whatever changed a request
//! on its way here (another model, a mended history, a client that tells its story anew) is sent in full by itself.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value};

use crate::protocol::Initiator;
use crate::protocol::responses::Event;

/// What HTTP asks for in a body and a socket does not know.
const NOT_IN_A_FRAME: [&str; 4] = ["stream", "background", "service_tier", "previous_response_id"];

/// What one socket's other end holds.
#[derive(Debug, Default)]
pub(super) enum Memory {
    /// Nothing that could be continued.
    #[default]
    Nothing,
    /// A turn is under way; its answer so far, by place.
    Hearing {
        model: Option<Value>,
        input: Vec<Mark>,
        output: BTreeMap<u64, Mark>,
    },
    /// A whole turn, by the id it can be continued under.
    Held {
        model: Option<Value>,
        id: String,
        items: Vec<Mark>,
    },
}

/// One item of a conversation, to be known again.
type Mark = u64;

/// A frame as text.
pub(super) struct Frame {
    pub text: String,
    /// It goes on from what the other end holds.
    pub continues: bool,
}

impl Memory {
    /// The frame for a request, which from now on is the turn under way.
    pub fn ask(&mut self, request: &Map<String, Value>, initiator: Initiator) -> Frame {
        let items = request.get("input").and_then(Value::as_array);
        let input: Vec<Mark> = items.into_iter().flatten().map(mark).collect();
        let model = request.get("model").cloned();
        let held = match &*self {
            Self::Held {
                model: its_model,
                id,
                items,
            } if *its_model == model && input.len() > items.len() && input.starts_with(items) => {
                Some((id, items.len()))
            }
            _ => None,
        };
        let text = serde_json::to_string(&Rest {
            request,
            initiator,
            held,
        });
        let frame = Frame {
            text: text.unwrap_or_default(),
            continues: held.is_some(),
        };
        *self = match items {
            Some(_) => Self::Hearing {
                model,
                input,
                output: BTreeMap::new(),
            },
            None => Self::Nothing,
        };
        frame
    }

    /// Takes note of an event of the turn under way.
    pub fn hear(&mut self, kind: &str, event: &Event) {
        let Self::Hearing { model, input, output } = self else {
            return;
        };
        match kind {
            "response.output_item.done" => {
                let index = event.number("output_index").unwrap_or(output.len() as u64);
                output.insert(index, mark(&event.value("item")));
            }
            "response.completed" => {
                let response = event.value("response");
                let told = response["output"].as_array().into_iter().flatten();
                for (index, item) in (0..).zip(told) {
                    output.entry(index).or_insert_with(|| mark(item));
                }
                let mut items = std::mem::take(input);
                items.extend(output.values());
                // Only the last of a response's ids is one that it can be continued by.
                *self = match response["id"].as_str() {
                    Some(id) => Self::Held {
                        model: model.take(),
                        id: id.to_owned(),
                        items,
                    },
                    None => Self::Nothing,
                };
            }
            "response.incomplete" | "response.failed" | "response.cancelled" | "error" => *self = Self::Nothing,
            _ => {}
        }
    }
}

/// A request without what is held: so many items, under an id.
struct Rest<'a> {
    request: &'a Map<String, Value>,
    initiator: Initiator,
    held: Option<(&'a String, usize)>,
}

impl Serialize for Rest<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut frame = serializer.serialize_map(None)?;
        frame.serialize_entry("type", "response.create")?;
        for (name, value) in self.request {
            match (name.as_str(), value, self.held) {
                (name, ..) if NOT_IN_A_FRAME.contains(&name) => {}
                ("input", Value::Array(items), Some((_, held))) => {
                    frame.serialize_entry("input", items.get(held..).unwrap_or_default())?;
                }
                _ => frame.serialize_entry(name, value)?,
            }
        }
        if let Some((id, _)) = self.held {
            frame.serialize_entry("previous_response_id", id)?;
        }
        frame.serialize_entry("initiator", self.initiator.name())?;
        frame.end()
    }
}

/// What an item says, whoever says it: its id and its state are each teller's own, and so is what is empty.
fn mark(item: &Value) -> Mark {
    let mut hasher = DefaultHasher::new();
    match item {
        Value::Object(fields) => {
            let own = |name: &str| matches!(name, "id" | "status");
            let is_message = |name: &str, value: &Value| name == "type" && value == "message";
            note_fields(
                fields
                    .iter()
                    .filter(|(name, value)| !own(name) && !is_message(name, value)),
                &mut hasher,
            );
        }
        other => note(other, &mut hasher),
    }
    hasher.finish()
}

fn note(value: &Value, hasher: &mut DefaultHasher) {
    match value {
        Value::Object(fields) => note_fields(fields.iter(), hasher),
        Value::Array(items) => {
            items.len().hash(hasher);
            items.iter().for_each(|item| note(item, hasher));
        }
        plain => plain.hash(hasher),
    }
}

fn note_fields<'a>(fields: impl Iterator<Item = (&'a String, &'a Value)>, hasher: &mut DefaultHasher) {
    let says_something = |name: &str, value: &Value| match value {
        Value::Null => false,
        Value::Array(items) => !items.is_empty() && !matches!(name, "annotations" | "logprobs"),
        _ => !name.starts_with("copilot_"),
    };
    let mut fields: Vec<_> = fields.filter(|(name, value)| says_something(name, value)).collect();
    fields.sort_unstable_by_key(|(name, _)| *name);
    fields.len().hash(hasher);
    for (name, value) in fields {
        name.hash(hasher);
        note(value, hasher);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ask(memory: &mut Memory, request: Value) -> (Value, bool) {
        let frame = memory.ask(request.as_object().unwrap(), Initiator::User);
        (serde_json::from_str(&frame.text).unwrap(), frame.continues)
    }

    fn hear(memory: &mut Memory, event: Value) {
        let text = event.to_string();
        let event = Event::read(text.as_bytes()).unwrap();
        memory.hear(&event.kind(None), &event);
    }

    fn said(role: &str, text: &str) -> Value {
        json!({"role": role, "content": text})
    }

    fn call(id: &str) -> Value {
        json!({"type": "function_call", "id": id, "call_id": "c", "name": "f", "arguments": "{}", "status": "completed"})
    }

    fn result() -> Value {
        json!({"type": "function_call_output", "call_id": "c", "output": "1"})
    }

    /// A socket that has answered one question with a call.
    fn called() -> Memory {
        let mut memory = Memory::default();
        ask(&mut memory, json!({"model": "m", "input": [said("user", "go")]}));
        let item = json!({"type": "response.output_item.done", "output_index": 0, "item": call("raw1")});
        hear(&mut memory, item);
        hear(
            &mut memory,
            json!({"type": "response.completed", "response": {"id": "last", "output": []}}),
        );
        memory
    }

    #[test]
    fn a_frame_is_the_body_without_what_only_http_knows() {
        let body = json!({"model": "m", "stream": true, "input": [], "service_tier": "auto", "store": false});
        let frame = Memory::default().ask(body.as_object().unwrap(), Initiator::Agent);
        assert_eq!(
            frame.text,
            r#"{"type":"response.create","model":"m","input":[],"store":false,"initiator":"agent"}"#
        );
    }

    #[test]
    fn k135_what_the_socket_holds_is_not_said_again() {
        let mut memory = called();
        let whole = json!({"model": "m", "tools": [], "input": [said("user", "go"), call("public"), result()]});
        let (frame, continues) = ask(&mut memory, whole);
        assert!(continues);
        assert_eq!(
            frame,
            json!({"type": "response.create", "model": "m", "tools": [], "input": [result()],
                "previous_response_id": "last", "initiator": "user"})
        );
        // The answer to the rest makes one conversation with what was held before it.
        let response = json!({"id": "later", "output": [said("assistant", "done")]});
        hear(&mut memory, json!({"type": "response.completed", "response": response}));
        let (frame, _) = ask(
            &mut memory,
            json!({"model": "m", "input": [said("user", "go"), call(""), result(), said("assistant", "done"),
                said("user", "more")]}),
        );
        assert_eq!(frame["input"], json!([said("user", "more")]));
        assert_eq!(frame["previous_response_id"], "later");
    }

    #[test]
    fn what_goes_on_from_elsewhere_is_said_in_full() {
        let whole = [said("user", "go"), call(""), result()];
        for (model, input) in [
            ("other", json!(whole)),
            ("m", json!([said("user", "went"), call(""), result()])),
            (
                "m",
                json!([
                    said("user", "go"),
                    json!({"type": "function_call", "call_id": "d"}),
                    result()
                ]),
            ),
            ("m", json!([said("user", "go"), call("")])),
            ("m", json!([said("user", "new")])),
            ("m", json!("new")),
        ] {
            let (frame, continues) = ask(&mut called(), json!({"model": model, "input": input}));
            assert!(!continues && frame.get("previous_response_id").is_none(), "{frame}");
            assert_eq!(frame["input"], input);
        }
    }

    #[test]
    fn a_turn_that_failed_leaves_nothing_to_go_on_from() {
        for ending in ["response.failed", "response.incomplete", "error"] {
            let mut memory = Memory::default();
            ask(&mut memory, json!({"model": "m", "input": [said("user", "go")]}));
            hear(
                &mut memory,
                json!({"type": ending, "response": {"id": "x", "output": []}}),
            );
            let again = json!({"model": "m", "input": [said("user", "go"), said("user", "on")]});
            assert!(!ask(&mut memory, again).1);
        }
    }

    #[test]
    fn an_item_is_known_again_under_another_id() {
        let raw = json!({"content": [{"annotations": [], "logprobs": [], "text": "a", "type": "output_text"}], "id": "x",
            "role": "assistant", "status": "completed", "type": "message", "phase": null, "copilot_note": 1});
        let replayed =
            json!({"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "a"}]});
        assert_eq!(mark(&raw), mark(&replayed));
        let other = json!({"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "b"}]});
        assert_ne!(mark(&raw), mark(&other));
        assert_ne!(mark(&json!({"a": [["b"], []]})), mark(&json!({"a": [["b", []]]})));
    }
}
