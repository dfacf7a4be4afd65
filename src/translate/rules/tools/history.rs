//! Calls and results of a history, in any protocol's shape.

use serde_json::{Value, json};

use super::names;

/// A call that was made.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// As the client wrote it; [`CallIds`](super::CallIds) and [`fit_id`](super::fit_id) make it fit.
    pub id: String,
    /// As upstream knows the tool.
    pub name: String,
    pub input: Input,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// JSON arguments, as text.
    Json(String),
    /// Freeform text.
    Text(String),
}

impl Call {
    /// Reads a `tool_use` block, an entry of `tool_calls`, or a Responses item. `freeform` says whether upstream knows
    /// freeform calls; if not, they become functions of one string.
    pub fn read(value: &Value, freeform: bool) -> Option<Self> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let free = |input: &Value| {
            if freeform {
                Input::Text(text(input))
            } else {
                Input::Json(json!({"input": text(input)}).to_string())
            }
        };
        let (id, name, input) = match value["type"].as_str() {
            Some("tool_use") => {
                let input = if value["input"].is_object() {
                    value["input"].to_string()
                } else {
                    "{}".to_owned()
                };
                (
                    &value["id"],
                    names::upstream(value["name"].as_str()?, None),
                    Input::Json(input),
                )
            }
            Some("function_call") => {
                let name = names::upstream(value["name"].as_str()?, value["namespace"].as_str());
                (&value["call_id"], name, Input::Json(arguments(&value["arguments"])))
            }
            Some("custom_tool_call") => {
                let name = names::upstream(value["name"].as_str()?, value["namespace"].as_str());
                (&value["call_id"], name, free(&value["input"]))
            }
            Some("local_shell_call") => {
                let id = if value["call_id"].is_string() {
                    &value["call_id"]
                } else {
                    &value["id"]
                };
                (id, "local_shell".to_owned(), Input::Json(local_shell(&value["action"])))
            }
            Some("shell_call") => {
                let input = picked(&value["action"], &["commands", "timeout_ms", "max_output_length"]);
                (&value["call_id"], "shell".to_owned(), Input::Json(input))
            }
            Some("apply_patch_call") => {
                let input = json!({"operation": value["operation"]}).to_string();
                (&value["call_id"], "apply_patch".to_owned(), Input::Json(input))
            }
            _ if value["custom"].is_object() => {
                let custom = &value["custom"];
                (
                    &value["id"],
                    names::upstream(custom["name"].as_str()?, None),
                    free(&custom["input"]),
                )
            }
            _ => {
                let function = &value["function"];
                let name = names::upstream(function["name"].as_str()?, None);
                (&value["id"], name, Input::Json(arguments(&function["arguments"])))
            }
        };
        Some(Self {
            id: text(id),
            name,
            input,
        })
    }

    /// The arguments as text, whatever they are.
    pub fn arguments(&self) -> &str {
        match &self.input {
            Input::Json(text) | Input::Text(text) => text,
        }
    }

    /// The arguments as an object. Those that are none are left out; those that are no JSON are kept as they are.
    pub fn object(&self) -> Value {
        match &self.input {
            Input::Text(text) => json!({"input": text}),
            Input::Json(text) if text.trim().is_empty() => json!({}),
            Input::Json(text) => match serde_json::from_str(text) {
                Ok(Value::Object(object)) => Value::Object(object),
                Ok(_) => json!({}),
                Err(_) => json!({"raw_arguments": text}),
            },
        }
    }

    /// A Messages block.
    pub fn block(&self, id: &str) -> Value {
        json!({"type": "tool_use", "id": id, "name": self.name, "input": self.object()})
    }

    /// An entry of Chat's `tool_calls`.
    pub fn chat(&self, id: &str) -> Value {
        match &self.input {
            Input::Json(text) => {
                json!({"id": id, "type": "function", "function": {"name": self.name, "arguments": text}})
            }
            Input::Text(text) => json!({"id": id, "type": "custom", "custom": {"name": self.name, "input": text}}),
        }
    }

    /// A Responses item, without an id of its own.
    pub fn item(&self, id: &str) -> Value {
        match &self.input {
            Input::Json(text) => {
                json!({"type": "function_call", "call_id": id, "name": self.name, "arguments": text})
            }
            Input::Text(text) => json!({"type": "custom_tool_call", "call_id": id, "name": self.name, "input": text}),
        }
    }
}

/// Arguments as JSON text; some clients send the object itself, or nothing.
fn arguments(value: &Value) -> String {
    match value {
        Value::String(text) if text.trim().is_empty() => "{}".to_owned(),
        Value::String(text) => text.clone(),
        Value::Null => "{}".to_owned(),
        other => other.to_string(),
    }
}

fn local_shell(action: &Value) -> String {
    let mut picked = picked_object(action, &["command", "timeout_ms"]);
    if action["working_directory"].is_string() {
        picked["workdir"] = action["working_directory"].clone();
    }
    picked.to_string()
}

fn picked(object: &Value, keys: &[&str]) -> String {
    picked_object(object, keys).to_string()
}

fn picked_object(object: &Value, keys: &[&str]) -> Value {
    let mut picked = json!({});
    for key in keys {
        if !object[*key].is_null() {
            picked[*key] = object[*key].clone();
        }
    }
    picked
}

/// The call's id and the content of a Responses output item: a text, or a list of parts.
pub fn output_of(item: &Value) -> Option<(String, Value)> {
    let kind = item["type"].as_str()?;
    if !kind.ends_with("_output") || kind == "tool_search_output" {
        return None;
    }
    let id = item["call_id"].as_str().or_else(|| item["id"].as_str())?.to_owned();
    let is_part = |part: &Value| {
        part["type"]
            .as_str()
            .is_some_and(|kind| kind.starts_with("input_") || kind == "text")
    };
    let output = match &item["output"] {
        Value::Null => json!(item["status"].as_str().unwrap_or_default()),
        Value::Array(parts) if !parts.iter().all(is_part) => json!(item["output"].to_string()),
        Value::Object(_) => json!(item["output"].to_string()),
        output => output.clone(),
    };
    Some((id, output))
}
