//! A call in the shape in which the client declared its tool. Knows the shapes; nothing of the stream around them.

use serde_json::{Value, json};

use crate::translate::ids::Ids;
use crate::translate::rules::tools::decode;
use crate::translate::turn::ToolKind;
use crate::translate::{ClientTool, ToolShape};

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
        let tool = tool.unwrap_or(ClientTool {
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
            || self.tool.shape != ToolShape::Function && !self.arguments.trim_start().starts_with('{')
    }

    /// The item as it begins; of one that is shown whole or not at all, as it will end.
    pub fn opened(&self, complete: bool) -> Value {
        if self.is_shown_early() {
            return self.item("", "in_progress");
        }
        let mut item = self.closed(complete);
        item["status"] = json!("in_progress");
        item
    }

    /// The item as it ends. Of a call that was cut nothing is made that could be run.
    pub fn closed(&self, complete: bool) -> Value {
        let status = if complete { "completed" } else { "incomplete" };
        match self.tool.shape {
            ToolShape::Function if complete && self.arguments.is_empty() => self.item("{}", status),
            ToolShape::Custom if !complete || self.kind == ToolKind::Custom => {
                let mut item = self.item("", status);
                item["input"] = json!(self.arguments);
                item
            }
            ToolShape::LocalShell if !complete => {
                self.nothing_to_do("action", json!({"type": "exec", "command": [], "env": {}}))
            }
            ToolShape::Shell if !complete => self.nothing_to_do("action", json!({"commands": []})),
            ToolShape::ApplyPatch if !complete => self.nothing_to_do("operation", json!({})),
            _ => self.item(&self.arguments, status),
        }
    }

    fn nothing_to_do(&self, name: &str, nothing: Value) -> Value {
        let mut item = self.item("", "incomplete");
        item[name] = nothing;
        item
    }

    fn item(&self, arguments: &str, status: &str) -> Value {
        decode::item(
            Some(&self.tool),
            &self.tool.name,
            &self.item_id,
            &self.call_id,
            arguments,
            status,
        )
    }
}
