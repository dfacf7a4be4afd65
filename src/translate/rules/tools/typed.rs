//! Tools that are more than a function: which of them a client declares, and the functions that stand for them where
//! upstream does not know them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::history::Call;
use super::{Offer, Tool, field, list};
use crate::translate::{ClientTool, Object};

/// A client's tools, and those that no other upstream can have.
#[derive(Debug, Default)]
pub struct Shelf {
    pub tools: Vec<Tool>,
    pub dropped: Vec<Dropped>,
    /// The web search among the tools.
    search: Option<Dropped>,
}

/// A tool that is left out: its name, if it has one, and its type as the client wrote it.
#[derive(Clone, Debug, PartialEq)]
pub struct Dropped {
    pub name: String,
    pub kind: String,
}

impl Dropped {
    fn of(tool: &Value, kind: &str) -> Self {
        Self {
            name: tool["name"].as_str().unwrap_or(kind).to_owned(),
            kind: kind.to_owned(),
        }
    }
}

impl Shelf {
    pub fn messages(&mut self, tools: &Value) {
        for tool in list(tools) {
            let name = tool["name"].as_str().unwrap_or_default();
            let kind = tool["type"].as_str().unwrap_or("custom");
            // Their types end in a date: `bash_20250124`.
            let offer = match kind.split_once("_20").map_or(kind, |(family, _)| family) {
                "custom" => function(&tool["input_schema"], &tool["strict"]),
                "web_search" => {
                    self.search = Some(Dropped::of(tool, kind));
                    web_search(tool)
                }
                "bash" => function(&bash(), &Value::Null),
                "text_editor" => function(&editor(&["view", "create", "str_replace", "insert"]), &Value::Null),
                "memory" => {
                    let commands = ["view", "create", "str_replace", "insert", "delete", "rename"];
                    function(&editor(&commands), &Value::Null)
                }
                _ => {
                    self.dropped.push(Dropped::of(tool, kind));
                    continue;
                }
            };
            self.push(name, None, &tool["description"], offer);
        }
    }

    pub fn chat(&mut self, body: &Object) {
        for tool in list(field(body, "tools")) {
            let custom = &tool["custom"];
            let function_of = &tool["function"];
            if custom.is_object() {
                let offer = Offer::Custom {
                    format: flat_format(&custom["format"]),
                };
                self.push(
                    custom["name"].as_str().unwrap_or_default(),
                    None,
                    &custom["description"],
                    offer,
                );
            } else if function_of.is_object() {
                let offer = function(&function_of["parameters"], &function_of["strict"]);
                let name = function_of["name"].as_str().unwrap_or_default();
                self.push(name, None, &function_of["description"], offer);
            } else {
                let kind = tool["type"].as_str().unwrap_or("unknown");
                self.dropped.push(Dropped::of(tool, kind));
            }
        }
        // The form that was there before tools.
        for legacy in list(field(body, "functions")) {
            let offer = function(&legacy["parameters"], &Value::Null);
            self.push(
                legacy["name"].as_str().unwrap_or_default(),
                None,
                &legacy["description"],
                offer,
            );
        }
    }

    /// Deferred tools that an earlier search has loaded stand in the history.
    pub fn responses(&mut self, body: &Object) {
        self.response_tools(field(body, "tools"), None);
        for item in list(field(body, "input")) {
            if item["type"] == "tool_search_output" {
                self.response_tools(&item["tools"], None);
            }
        }
    }

    fn response_tools(&mut self, tools: &Value, namespace: Option<&str>) {
        for tool in list(tools) {
            let kind = tool["type"].as_str().unwrap_or("function");
            let (name, offer) = match kind {
                "function" => (&tool["name"], function(&tool["parameters"], &tool["strict"])),
                "custom" => {
                    let format = flat_format(&tool["format"]);
                    (&tool["name"], Offer::Custom { format })
                }
                "local_shell" => (&tool["type"], Offer::LocalShell),
                "shell" => (&tool["type"], Offer::Shell),
                "apply_patch" => (&tool["type"], Offer::ApplyPatch),
                "namespace" if namespace.is_none() => {
                    self.response_tools(&tool["tools"], tool["name"].as_str());
                    continue;
                }
                "tool_search" => continue,
                _ => {
                    self.dropped.push(Dropped::of(tool, kind));
                    continue;
                }
            };
            self.push(
                name.as_str().unwrap_or_default(),
                namespace,
                &tool["description"],
                offer,
            );
        }
    }

    fn push(&mut self, name: &str, namespace: Option<&str>, description: &Value, offer: Offer) {
        if !name.is_empty() {
            self.tools.push(Tool {
                name: name.to_owned(),
                namespace: namespace.map(str::to_owned),
                description: description.as_str().unwrap_or_default().to_owned(),
                offer,
            });
        }
    }

    /// Leaves web search out, where upstream has none.
    pub fn drop_search(&mut self) {
        let before = self.tools.len();
        self.tools.retain(|tool| !tool.is_search());
        if self.tools.len() < before {
            self.dropped.extend(self.search.take());
        }
    }
}

fn function(schema: &Value, strict: &Value) -> Offer {
    Offer::Function {
        schema: schema.clone(),
        strict: strict.as_bool(),
    }
}

fn web_search(tool: &Value) -> Offer {
    Offer::WebSearch {
        allowed_domains: tool["allowed_domains"].clone(),
        user_location: tool["user_location"].clone(),
    }
}

/// Chat nests a grammar, Responses does not.
fn flat_format(format: &Value) -> Value {
    match format["grammar"].as_object() {
        Some(grammar) => {
            let mut flat = json!({"type": "grammar"});
            for key in ["syntax", "definition"] {
                flat[key] = grammar.get(key).cloned().unwrap_or_default();
            }
            flat
        }
        None => format.clone(),
    }
}

/// The function that stands for a shaped tool: its description and its schema.
pub fn as_function(description: &str, offer: &Offer) -> (String, Value) {
    let text = |otherwise: &str| if description.is_empty() { otherwise } else { description }.to_owned();
    match offer {
        Offer::Function { schema, .. } => (description.to_owned(), schema.clone()),
        Offer::WebSearch { .. } => (text("Searches the web."), Value::Null),
        Offer::Custom { format } => {
            let mut said = description.to_owned();
            if let Some(definition) = format["definition"].as_str() {
                let syntax = format["syntax"].as_str().unwrap_or("given");
                let gap = if said.is_empty() { "" } else { "\n\n" };
                said.push_str(&format!(
                    "{gap}The input must follow this {syntax} grammar:\n{definition}"
                ));
            }
            let input = json!({"type": "string", "description": "Raw input of the tool, not JSON-encoded further"});
            (said, strict_object(json!({"input": input}), &["input"]))
        }
        Offer::LocalShell => {
            let command = json!({"type": "array", "items": {"type": "string"}, "description": "Program and arguments"});
            let properties =
                json!({"command": command, "workdir": {"type": "string"}, "timeout_ms": {"type": "number"}});
            (
                text("Runs a command in the local shell."),
                strict_object(properties, &["command"]),
            )
        }
        Offer::Shell => {
            let commands = json!({"type": "array", "items": {"type": "string"}});
            let properties = json!({"commands": commands, "timeout_ms": {"type": "number"},
                "max_output_length": {"type": "number"}});
            (text("Runs shell commands."), strict_object(properties, &["commands"]))
        }
        Offer::ApplyPatch => {
            let operation = json!({"type": "object", "properties": {
                "type": {"type": "string", "enum": ["create_file", "update_file", "delete_file"]},
                "path": {"type": "string"},
                "diff": {"type": "string"},
            }, "required": ["type", "path"], "additionalProperties": false});
            (
                text("Creates, updates or deletes a file."),
                strict_object(json!({"operation": operation}), &["operation"]),
            )
        }
    }
}

fn strict_object(properties: Value, required: &[&str]) -> Value {
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

fn bash() -> Value {
    json!({"type": "object", "properties": {"command": {"type": "string"}, "restart": {"type": "boolean"}}})
}

fn editor(commands: &[&str]) -> Value {
    let text = || json!({"type": "string"});
    json!({"type": "object", "properties": {
        "command": {"type": "string", "enum": commands},
        "path": text(), "file_text": text(), "old_str": text(), "new_str": text(), "insert_text": text(),
        "old_path": text(), "new_path": text(),
        "insert_line": {"type": "integer"},
        "view_range": {"type": "array", "items": {"type": "integer"}},
    }, "required": ["command"]})
}

/// Replaces tools of the given types by functions, in a Responses body that keeps its protocol, along with their calls
/// and outputs in the history. Returns what the answer must know of them; empty where the body declares no such tool.
pub fn plain(body: &mut Object, kinds: &[String]) -> BTreeMap<String, ClientTool> {
    let is_refused = |kind: &Value| kind.as_str().is_some_and(|kind| kinds.iter().any(|one| one == kind));
    let mut replaced = BTreeMap::new();
    if let Some(tools) = body.get_mut("tools").and_then(Value::as_array_mut) {
        let mut kept = Vec::with_capacity(tools.len());
        for tool in tools.drain(..) {
            if !is_refused(&tool["type"]) {
                kept.push(tool);
                continue;
            }
            let mut shelf = Shelf::default();
            shelf.response_tools(&json!([tool]), None);
            for tool in shelf.tools {
                let (description, schema) = as_function(&tool.description, &tool.offer);
                let name = tool.upstream_name();
                kept.push(json!({"type": "function", "name": name, "description": description,
                    "parameters": schema, "strict": false}));
                replaced.insert(name, tool.client_tool());
            }
        }
        *tools = kept;
    }
    if let Some(choice) = body.get_mut("tool_choice").filter(|choice| is_refused(&choice["type"])) {
        let named = choice["name"].as_str().or_else(|| choice["type"].as_str());
        let found = replaced.iter().find(|(_, tool)| Some(tool.name.as_str()) == named);
        *choice = found.map_or_else(|| json!("auto"), |(name, _)| json!({"type": "function", "name": name}));
    }
    for item in body
        .get_mut("input")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        if is_refused(&json!(tool_type_of(item))) {
            plain_item(item);
        }
    }
    replaced
}

/// The type of the tool that an item of the history is a call or an output of.
fn tool_type_of(item: &Value) -> Option<&'static str> {
    match item["type"].as_str()?.trim_end_matches("_output") {
        "custom_tool_call" => Some("custom"),
        "local_shell_call" => Some("local_shell"),
        "shell_call" => Some("shell"),
        "apply_patch_call" => Some("apply_patch"),
        "function_call" if item["namespace"].is_string() => Some("namespace"),
        _ => None,
    }
}

fn plain_item(item: &mut Value) {
    if let Some((id, output)) = super::output_of(item) {
        *item = json!({"type": "function_call_output", "call_id": id, "output": output});
    } else if let Some(call) = Call::read(item, false) {
        *item = call.item(&call.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translate::ToolShape;

    #[test]
    fn refused_tools_become_functions_with_their_history() {
        let mut body = json!({
            "tools": [{"type": "custom", "name": "apply_patch", "description": "d"}, {"type": "function", "name": "f"}],
            "tool_choice": {"type": "custom", "name": "apply_patch"},
            "input": [{"type": "custom_tool_call", "call_id": "c", "name": "apply_patch", "input": "***"},
                {"type": "custom_tool_call_output", "call_id": "c", "output": "ok"}],
        });
        let converted = plain(body.as_object_mut().unwrap(), &["custom".to_owned()]);
        assert_eq!(converted["apply_patch"].shape, ToolShape::Custom);
        assert_eq!(body["tools"][0]["type"], "function");
        assert_eq!(body["tool_choice"], json!({"type": "function", "name": "apply_patch"}));
        assert_eq!(
            body["input"],
            json!([{"type": "function_call", "call_id": "c", "name": "apply_patch", "arguments": "{\"input\":\"***\"}"},
                {"type": "function_call_output", "call_id": "c", "output": "ok"}])
        );
    }
}
