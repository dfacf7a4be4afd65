//! The tools of a Messages request that keeps its protocol, and the choice between them.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::protocol::failure::Failure;
use crate::translate::Object;
use crate::translate::rules::tools::MOST;
use crate::translate::rules::{field, list};

/// Removes from the tools what Copilot refuses, and refuses what nobody can serve.
pub fn clean(out: &mut Object) -> Result<(), Failure> {
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
