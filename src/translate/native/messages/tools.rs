//! The tools of a Messages request that keeps its protocol, and the choice between them.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::protocol::failure::Failure;
use crate::translate::rules::tools::MOST;
use crate::translate::rules::{field, list};
use crate::translate::{Context, Object};

/// Removes from the tools what Copilot refuses, and refuses what nobody can serve.
pub fn clean(out: &mut Object, context: &Context) -> Result<(), Failure> {
    leave_out_refused(out, context)?;
    let Some(Value::Array(tools)) = out.get_mut("tools") else {
        out.shift_remove("tools");
        out.shift_remove("tool_choice");
        return Ok(());
    };
    for (at, tool) in tools.iter().enumerate() {
        if let Some(kind) = kind(tool).filter(|kind| kind.starts_with("advisor_20")) {
            let message = format!("tools.{at}: tool type '{kind}' is not supported");
            return Err(Failure::bad(format!("tools.{at}"), message));
        }
    }
    let mut names = HashSet::new();
    tools.retain(|tool| {
        let is_toolset = kind(tool).is_some_and(|kind| kind.starts_with("mcp_toolset"));
        !is_toolset && tool["name"].as_str().is_some_and(|name| names.insert(name.to_owned()))
    });
    if tools.len() > MOST {
        let message = format!("tools: {} tools are too many; at most {MOST} are allowed", tools.len());
        return Err(Failure::bad("tools", message));
    }
    tools.iter_mut().filter_map(Value::as_object_mut).for_each(clean_tool);
    if tools.is_empty() {
        out.shift_remove("tools");
    }
    check_choice(out, &names)
}

/// Leaves out the tools that this model is known to be served without; the choice may not force one of them.
fn leave_out_refused(out: &mut Object, context: &Context) -> Result<(), Failure> {
    let refused = context
        .memory
        .learned
        .get("messages.tools")
        .map(list)
        .unwrap_or_default();
    let choice = field(out, "tool_choice");
    let (chosen, must_call) = (choice["name"].clone(), choice["type"] == "any");
    let Some(tools) = out.get_mut("tools").and_then(Value::as_array_mut) else {
        return Ok(());
    };
    let is_refused = |tool: &Value| refused.contains(&tool["type"]);
    let must_call = must_call && tools.iter().all(is_refused);
    let is_forced = |tool: &&Value| is_refused(tool) && (must_call || tool["name"] == chosen);
    if let Some(tool) = tools.iter().find(is_forced) {
        let kind = kind(tool).unwrap_or_default();
        let message = format!("Tool type {kind} is not supported by model {}", context.model.id);
        return Err(Failure::bad("tool_choice", message));
    }
    tools.retain(|tool| !is_refused(tool));
    Ok(())
}

/// Whether a client declared that upstream may search the web.
pub fn searches(out: &Object) -> bool {
    list(field(out, "tools"))
        .iter()
        .any(|tool| kind(tool).is_some_and(|kind| kind.starts_with("web_search_20")))
}

fn kind(tool: &Value) -> Option<&str> {
    tool["type"].as_str()
}

fn clean_tool(tool: &mut Object) {
    tool.shift_remove("eager_input_streaming");
    if !matches!(field(tool, "type").as_str(), None | Some("custom")) {
        return;
    }
    match tool.get_mut("input_schema") {
        Some(Value::Object(schema)) => drop(schema.shift_remove("$schema")),
        _ => drop(tool.insert("input_schema".into(), json!({"type": "object", "properties": {}}))),
    }
}

fn check_choice(out: &mut Object, names: &HashSet<String>) -> Result<(), Failure> {
    let choice = field(out, "tool_choice");
    if choice["type"] == "tool" {
        let name = choice["name"].as_str().unwrap_or_default();
        if !names.contains(name) {
            return Err(Failure::bad(
                "tool_choice",
                format!("tool_choice: no tool is named '{name}'"),
            ));
        }
    }
    if names.is_empty() || !choice.is_object() {
        out.shift_remove("tool_choice");
    }
    Ok(())
}
