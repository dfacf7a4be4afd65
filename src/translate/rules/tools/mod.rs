//! Tools, the choice between them, and calls: read from any client, written for any upstream, decoded on the way back.
//!
//! A [`Toolbox`] is made once per request. [`Toolbox::write`] puts the tools into the upstream's body,
//! [`Toolbox::call`] reads a call of the history so that it names its tool as upstream knows it, and
//! [`Toolbox::client_tools`] is what the answer needs to speak of them as the client does. The way back is in
//! [`decode`], the names and ids in [`names`].

use std::collections::{BTreeMap, HashSet};

use serde_json::{Value, json};

use super::{field, list, schema};
use crate::protocol::Protocol;
use crate::protocol::catalog::Model;
use crate::protocol::failure::Failure;
use crate::translate::{ClientTool, Context, Object, ToolShape};

pub mod decode;
pub mod history;
pub mod names;
mod typed;

#[cfg(test)]
mod tests;

pub use history::{Call, Input, output_of};
pub use names::{CallIds, alias, alias_names, fit_id};
pub use typed::plain;

/// More are refused upstream.
pub const MOST: usize = 128;

/// One tool on offer.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    /// As the client knows it.
    pub name: String,
    pub namespace: Option<String>,
    pub description: String,
    pub offer: Offer,
}

/// What a tool takes, and who runs it.
#[derive(Clone, Debug, PartialEq)]
pub enum Offer {
    Function {
        schema: Value,
        strict: Option<bool>,
    },
    /// Freeform text; the format is Responses' flat one, or null.
    Custom {
        format: Value,
    },
    LocalShell,
    Shell,
    ApplyPatch,
    /// Upstream searches the web itself.
    WebSearch {
        allowed_domains: Value,
        user_location: Value,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub enum Choice {
    Auto,
    Required,
    None,
    /// A tool, under the name upstream knows it by.
    Named(String),
}

/// The tools of one request on their way to one upstream.
#[derive(Clone, Debug)]
pub struct Toolbox<'a> {
    way: Protocol,
    model: &'a Model,
    /// In the client's order, each upstream name once.
    pub tools: Vec<Tool>,
    pub choice: Option<Choice>,
    /// Whether several calls at once are allowed, where the client said so.
    pub parallel: Option<bool>,
    /// Messages: the client declared web search.
    pub web_search: bool,
    /// Responses upstream: freeform tools stay what they are.
    freeform: bool,
}

impl<'a> Toolbox<'a> {
    /// Reads a client's tools for an upstream of another protocol. Tools that this upstream cannot have are left out;
    /// a choice that forces one of them is refused.
    pub fn read(client: Protocol, way: Protocol, body: &Object, context: &Context<'a>) -> Result<Self, Failure> {
        let refused = context.memory.learned.get("responses.tools");
        let is_refused = |kind: &str| refused.is_some_and(|kinds| list(kinds).iter().any(|one| one == kind));
        let mut toolbox = Self {
            way,
            model: context.model,
            tools: Vec::new(),
            choice: None,
            parallel: None,
            web_search: false,
            freeform: way == Protocol::Responses && !is_refused("custom"),
        };
        let mut shelf = typed::Shelf::default();
        match client {
            Protocol::Messages => shelf.messages(field(body, "tools")),
            Protocol::Chat => shelf.chat(body),
            Protocol::Responses => shelf.responses(body),
        }
        toolbox.web_search = client == Protocol::Messages && shelf.tools.iter().any(Tool::is_search);
        if way != Protocol::Responses || is_refused("web_search") {
            shelf.drop_search();
        }
        toolbox.tools = shelf.tools;
        toolbox.read_choice(client, body, &shelf.dropped)?;
        toolbox.keep_first_of_a_name();
        if toolbox.tools.len() > MOST {
            let message = format!("too many tools: {}; at most {MOST} are allowed", toolbox.tools.len());
            return Err(Failure::bad("tools", message));
        }
        Ok(toolbox)
    }

    fn keep_first_of_a_name(&mut self) {
        let mut seen = HashSet::new();
        let tools = std::mem::take(&mut self.tools);
        self.tools = tools
            .into_iter()
            .filter(|tool| seen.insert(tool.upstream_name()))
            .collect();
    }

    fn read_choice(&mut self, client: Protocol, body: &Object, dropped: &[typed::Dropped]) -> Result<(), Failure> {
        let asked = field(body, "tool_choice");
        self.parallel = match client {
            Protocol::Messages => (asked["disable_parallel_tool_use"] == true).then_some(false),
            Protocol::Chat | Protocol::Responses => field(body, "parallel_tool_calls").as_bool(),
        };
        let kind = asked.as_str().or_else(|| asked["type"].as_str());
        self.choice = match kind {
            None => None,
            Some("auto") => Some(Choice::Auto),
            Some("any" | "required") => Some(Choice::Required),
            Some("none") => Some(Choice::None),
            Some("allowed_tools") => self.allowed(asked),
            Some(kind) => Some(self.forced(kind, asked, dropped)?),
        };
        if self.choice == Some(Choice::Required)
            && self.tools.is_empty()
            && let Some(tool) = dropped.first()
        {
            return Err(self.unsupported(&tool.kind));
        }
        Ok(())
    }

    /// A named tool, or a tool named by its type.
    fn forced(&self, kind: &str, asked: &Value, dropped: &[typed::Dropped]) -> Result<Choice, Failure> {
        let holder = [&asked["function"], &asked["custom"]]
            .into_iter()
            .find(|holder| holder.is_object());
        let holder = holder.unwrap_or(asked);
        let name = holder["name"].as_str().unwrap_or(kind);
        let wanted = names::upstream(name, holder["namespace"].as_str());
        let found = self
            .tools
            .iter()
            .find(|tool| tool.upstream_name() == wanted || tool.name == name)
            .map(|tool| Choice::Named(tool.upstream_name()));
        let is_meant = |tool: &&typed::Dropped| tool.name == name || tool.kind == kind;
        match (found, dropped.iter().find(is_meant)) {
            (Some(choice), _) => Ok(choice),
            (None, Some(tool)) => Err(self.unsupported(&tool.kind)),
            (None, None) => Err(Failure::bad(
                "tool_choice",
                format!("tool_choice: no tool is named '{name}'"),
            )),
        }
    }

    fn unsupported(&self, kind: &str) -> Failure {
        Failure::bad(
            "tool_choice",
            format!("Tool type {kind} is not supported by model {}", self.model.id),
        )
    }

    /// Chat nests the list of allowed tools, Responses does not.
    fn allowed(&mut self, asked: &Value) -> Option<Choice> {
        let asked = if asked["allowed_tools"].is_object() {
            &asked["allowed_tools"]
        } else {
            asked
        };
        let names: Vec<&str> = list(&asked["tools"])
            .iter()
            .filter_map(|tool| {
                let named = [
                    &tool["name"],
                    &tool["function"]["name"],
                    &tool["custom"]["name"],
                    &tool["type"],
                ];
                named.into_iter().find_map(Value::as_str)
            })
            .collect();
        self.tools.retain(|tool| names.contains(&tool.name.as_str()));
        Some(if asked["mode"] == "required" {
            Choice::Required
        } else {
            Choice::Auto
        })
    }

    /// Puts the tools, the choice and the permission for parallel calls into an upstream body; nothing where there
    /// are no tools.
    pub fn write(&self, body: &mut Object) {
        if self.tools.is_empty() {
            return;
        }
        let tools: Vec<Value> = self.tools.iter().map(|tool| self.definition(tool)).collect();
        body.insert("tools".into(), json!(tools));
        if let Some(choice) = self.written_choice() {
            body.insert("tool_choice".into(), choice);
        }
        if let Some(parallel) = self.parallel
            && self.way != Protocol::Messages
        {
            body.insert("parallel_tool_calls".into(), json!(parallel));
        }
    }

    fn written_choice(&self) -> Option<Value> {
        if self.way != Protocol::Messages {
            return Some(match self.choice.as_ref()? {
                Choice::Auto => json!("auto"),
                Choice::Required => json!("required"),
                Choice::None => json!("none"),
                Choice::Named(name) => self.named_choice(name),
            });
        }
        let one_at_a_time = self.parallel == Some(false);
        let mut choice = match &self.choice {
            None if !one_at_a_time => return None,
            None | Some(Choice::Auto) => json!({"type": "auto"}),
            Some(Choice::Required) => json!({"type": "any"}),
            Some(Choice::None) => return Some(json!({"type": "none"})),
            Some(Choice::Named(name)) => json!({"type": "tool", "name": name}),
        };
        if one_at_a_time {
            choice["disable_parallel_tool_use"] = json!(true);
        }
        Some(choice)
    }

    fn named_choice(&self, name: &str) -> Value {
        let offer = self
            .tools
            .iter()
            .find(|tool| tool.upstream_name() == name)
            .map(|tool| &tool.offer);
        match (self.way, offer) {
            (Protocol::Chat, _) => json!({"type": "function", "function": {"name": name}}),
            (_, Some(Offer::WebSearch { .. })) => json!({"type": "web_search"}),
            (_, Some(Offer::Custom { .. })) if self.freeform => json!({"type": "custom", "name": name}),
            _ => json!({"type": "function", "name": name}),
        }
    }

    fn definition(&self, tool: &Tool) -> Value {
        let name = tool.upstream_name();
        let (description, schema, strict) = match &tool.offer {
            Offer::WebSearch {
                allowed_domains,
                user_location,
            } => return search(allowed_domains, user_location),
            Offer::Custom { format } if self.freeform => {
                let mut custom = json!({"type": "custom", "name": name, "description": tool.description});
                if !format.is_null() {
                    custom["format"] = format.clone();
                }
                return custom;
            }
            Offer::Function { schema, strict } => (tool.description.clone(), schema.clone(), *strict),
            shaped => {
                let (description, schema) = typed::as_function(&tool.description, shaped);
                (description, schema, None)
            }
        };
        let schema = schema::of_tool(&schema, self.way, self.model);
        let mut definition = match self.way {
            Protocol::Messages => json!({"name": name, "input_schema": schema}),
            Protocol::Chat => json!({"type": "function", "function": {"name": name, "parameters": schema}}),
            Protocol::Responses => {
                json!({"type": "function", "name": name, "parameters": schema, "strict": strict.unwrap_or(false)})
            }
        };
        let holder = if self.way == Protocol::Chat {
            &mut definition["function"]
        } else {
            &mut definition
        };
        if let Some(holder) = holder.as_object_mut() {
            if !description.is_empty() {
                let after_name = holder.keys().position(|key| key == "name").map_or(0, |at| at + 1);
                holder.shift_insert(after_name, "description".into(), json!(description));
            }
            match (self.way, strict) {
                (Protocol::Chat, Some(strict)) => drop(holder.insert("strict".into(), json!(strict))),
                (Protocol::Messages, Some(true)) => drop(holder.insert("strict".into(), json!(true))),
                _ => {}
            }
        }
        definition
    }

    /// The tools as the client knows them, under the names upstream knows them by.
    pub fn client_tools(&self) -> BTreeMap<String, ClientTool> {
        let named = self.tools.iter().filter(|tool| !tool.is_search());
        named.map(|tool| (tool.upstream_name(), tool.client_tool())).collect()
    }

    /// A call of the client's history: a Messages `tool_use` block, an entry of Chat's `tool_calls`, or a Responses
    /// item. Absent where it is none of them.
    pub fn call(&self, value: &Value) -> Option<Call> {
        Call::read(value, self.freeform)
    }
}

impl Tool {
    /// The name upstream knows the tool by.
    pub fn upstream_name(&self) -> String {
        names::upstream(&self.name, self.namespace.as_deref())
    }

    fn is_search(&self) -> bool {
        matches!(self.offer, Offer::WebSearch { .. })
    }

    fn client_tool(&self) -> ClientTool {
        let shape = match self.offer {
            Offer::Function { .. } | Offer::WebSearch { .. } => ToolShape::Function,
            Offer::Custom { .. } => ToolShape::Custom,
            Offer::LocalShell => ToolShape::LocalShell,
            Offer::Shell => ToolShape::Shell,
            Offer::ApplyPatch => ToolShape::ApplyPatch,
        };
        ClientTool {
            name: self.name.clone(),
            namespace: self.namespace.clone(),
            shape,
        }
    }
}

fn search(allowed_domains: &Value, user_location: &Value) -> Value {
    let mut search = json!({"type": "web_search"});
    if allowed_domains.as_array().is_some_and(|domains| !domains.is_empty()) {
        search["filters"] = json!({"allowed_domains": allowed_domains});
    }
    if user_location.is_object() {
        search["user_location"] = user_location.clone();
    }
    search
}
