//! A call in the shape in which the client declared its tool. Knows the shapes; nothing of the stream around them.

use serde_json::{Value, json};

use crate::translate::ids::Ids;
use crate::translate::turn::ToolKind;
use crate::translate::{ClientTool, Object, ToolShape};

/// A call under way.
pub struct Call {
    /// Once the client has seen it.
    pub index: Option<usize>,
    pub item_id: String,
    pub arguments: String,
    call_id: String,
    tool: ClientTool,
    kind: ToolKind,
}

impl Call {
    pub fn new(call_id: String, name: String, kind: ToolKind, tool: Option<ClientTool>, ids: &mut Ids) -> Self {
        let tool = tool.unwrap_or_else(|| ClientTool {
            name,
            namespace: None,
            shape: match kind {
                ToolKind::Function => ToolShape::Function,
                ToolKind::Custom => ToolShape::Custom,
            },
        });
        let prefix = match tool.shape {
            ToolShape::Function => "fc_",
            ToolShape::Custom => "ctc_",
            ToolShape::LocalShell => "lsh_",
            ToolShape::Shell => "sh_",
            ToolShape::ApplyPatch => "apc_",
        };
        Self {
            index: None,
            item_id: ids.mint(prefix),
            arguments: String::new(),
            call_id,
            tool,
            kind,
        }
    }

    /// The client gets the arguments as they come.
    pub fn is_live(&self) -> bool {
        self.tool.shape == ToolShape::Function
    }

    /// The client sees the item before its arguments are whole.
    pub fn is_shown_early(&self) -> bool {
        matches!(self.tool.shape, ToolShape::Function | ToolShape::Custom)
    }

    /// Whether what has come may be all, if the turn was not cut: JSON that parses, or text where text is meant.
    pub fn may_be_whole(&self) -> bool {
        self.kind == ToolKind::Custom
            || self.arguments.is_empty()
            || serde_json::from_str::<serde::de::IgnoredAny>(&self.arguments).is_ok()
            || self.tool.shape == ToolShape::Custom && !self.arguments.trim_start().starts_with('{')
    }

    /// The item as it begins.
    pub fn opened(&self) -> Value {
        match self.tool.shape {
            ToolShape::Function => self.item(vec![("arguments", json!(""))], "in_progress"),
            ToolShape::Custom => self.item(vec![("input", json!(""))], "in_progress"),
            _ => self.item(self.action().unwrap_or_else(|| self.no_action()), "in_progress"),
        }
    }

    /// The item as it ends.
    pub fn closed(&self, complete: bool) -> Value {
        let status = if complete { "completed" } else { "incomplete" };
        match self.tool.shape {
            ToolShape::Function if self.arguments.is_empty() && complete => {
                self.item(vec![("arguments", json!("{}"))], status)
            }
            ToolShape::Function => self.item(vec![("arguments", json!(self.arguments))], status),
            ToolShape::Custom if complete && self.kind == ToolKind::Function => {
                self.item(vec![("input", json!(freeform(&self.arguments)))], status)
            }
            ToolShape::Custom => self.item(vec![("input", json!(self.arguments))], status),
            _ => match self.action().filter(|_| complete) {
                Some(action) => self.item(action, status),
                None => self.item(self.no_action(), "incomplete"),
            },
        }
    }

    fn item(&self, input: Vec<(&str, Value)>, status: &str) -> Value {
        let kind = match self.tool.shape {
            ToolShape::Function => "function_call",
            ToolShape::Custom => "custom_tool_call",
            ToolShape::LocalShell => "local_shell_call",
            ToolShape::Shell => "shell_call",
            ToolShape::ApplyPatch => "apply_patch_call",
        };
        let mut item = Object::new();
        item.insert("type".into(), json!(kind));
        item.insert("id".into(), json!(self.item_id));
        item.insert("call_id".into(), json!(self.call_id));
        if self.is_shown_early() {
            if let Some(namespace) = &self.tool.namespace {
                item.insert("namespace".into(), json!(namespace));
            }
            item.insert("name".into(), json!(self.tool.name));
        }
        item.extend(input.into_iter().map(|(name, value)| (name.to_owned(), value)));
        item.insert("status".into(), json!(status));
        Value::Object(item)
    }

    /// What a typed tool is asked to do; `None` where the arguments do not say.
    fn action(&self) -> Option<Vec<(&'static str, Value)>> {
        let arguments: Value = serde_json::from_str(&self.arguments).ok()?;
        Some(match self.tool.shape {
            ToolShape::LocalShell => vec![("action", local_exec(&arguments)?)],
            ToolShape::Shell => vec![("action", shell_action(&arguments)?)],
            ToolShape::ApplyPatch => vec![("operation", operation(&arguments)?)],
            ToolShape::Function | ToolShape::Custom => return None,
        })
    }

    /// What a typed tool is asked to do where nothing can be done.
    fn no_action(&self) -> Vec<(&'static str, Value)> {
        match self.tool.shape {
            ToolShape::LocalShell => vec![("action", json!({"type": "exec", "command": [], "env": {}}))],
            ToolShape::Shell => vec![("action", json!({"commands": []}))],
            _ => vec![("operation", json!({}))],
        }
    }
}

/// The freeform input inside a function's arguments; text that is no such arguments is itself the input.
fn freeform(arguments: &str) -> String {
    let Ok(Value::Object(fields)) = serde_json::from_str(arguments) else {
        return arguments.to_owned();
    };
    if let Some(input) = fields.get("input").and_then(Value::as_str) {
        return input.to_owned();
    }
    let mut texts = fields.values().filter_map(Value::as_str);
    match (texts.next(), texts.next()) {
        (Some(only), None) => only.to_owned(),
        _ => arguments.to_owned(),
    }
}

fn local_exec(arguments: &Value) -> Option<Value> {
    let command = match &arguments["command"] {
        Value::String(line) => json!(["bash", "-lc", line]),
        Value::Array(words) if words.iter().all(Value::is_string) => json!(words),
        _ => return None,
    };
    Some(json!({
        "type": "exec",
        "command": command,
        "timeout_ms": arguments["timeout_ms"],
        "working_directory": arguments["workdir"],
        "env": {},
    }))
}

fn shell_action(arguments: &Value) -> Option<Value> {
    let commands = match &arguments["commands"] {
        Value::String(line) => json!([line]),
        Value::Array(lines) if lines.iter().all(Value::is_string) => json!(lines),
        _ => return None,
    };
    Some(json!({
        "commands": commands,
        "timeout_ms": arguments["timeout_ms"],
        "max_output_length": arguments["max_output_length"],
    }))
}

fn operation(arguments: &Value) -> Option<Value> {
    let operation = match &arguments["operation"] {
        Value::Null => arguments,
        operation => operation,
    };
    (operation["type"].is_string() && operation["path"].is_string()).then(|| operation.clone())
}
