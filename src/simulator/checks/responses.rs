//! What `/responses` refuses, over HTTP and on a socket.

use serde_json::Value;

use super::{Verdict, count_of_tools, data_url, effort, function, given, list, output_limit, sampling, strict};
use crate::protocol::catalog::Model;
use crate::simulator::deeds;
use crate::simulator::reply::Refusal;
use crate::simulator::seals::{self, Origin};

/// Fields that are known and taken.
const FIELDS: [&str; 24] = [
    "model",
    "input",
    "instructions",
    "stream",
    "store",
    "include",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "max_output_tokens",
    "max_tool_calls",
    "temperature",
    "top_p",
    "top_logprobs",
    "truncation",
    "text",
    "reasoning",
    "metadata",
    "prompt_cache_key",
    "context_management",
    "stream_options",
    "safety_identifier",
    "user",
    "previous_response_id",
];

/// Fields that OpenAI knows and Copilot refuses.
const REFUSED: [&str; 5] = [
    "background",
    "conversation",
    "prompt",
    "service_tier",
    "prompt_cache_retention",
];

/// What each kind of item may hold, besides its type and id.
const ITEMS: [(&str, &[&str]); 7] = [
    ("message", &["role", "content", "status", "phase"]),
    ("reasoning", &["summary", "content", "encrypted_content", "status"]),
    (
        "function_call",
        &["call_id", "name", "arguments", "namespace", "status"],
    ),
    ("function_call_output", &["call_id", "output", "status"]),
    ("custom_tool_call", &["call_id", "name", "input", "namespace", "status"]),
    ("custom_tool_call_output", &["call_id", "output", "status"]),
    ("compaction", &["encrypted_content"]),
];

const INCLUDES: [&str; 4] = [
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
    "web_search_call.action.sources",
    "file_search_call.results",
];

/// Checks a request that came by a connection. `known_calls` are the ids of calls in what came before it on a socket.
pub fn check(model: &Model, body: &Value, connection: Option<u64>, known_calls: &[String]) -> Verdict {
    fields(body)?;
    output_limit(model, body, "max_output_tokens", 16)?;
    sampling(model, body)?;
    effort(model, &body["reasoning"]["effort"], "reasoning.effort", true)?;
    tools(model, body)?;
    format(body)?;
    input(model, body, connection, known_calls)
}

fn unsupported(param: &str) -> Refusal {
    let message = format!("Unsupported parameter: '{param}' is not supported with this model.");
    Refusal::openai("unsupported_parameter", param, message)
}

fn fields(body: &Value) -> Verdict {
    for (name, value) in body.as_object().into_iter().flatten() {
        if REFUSED.contains(&name.as_str()) && !value.is_null() && *value != false {
            return Err(unsupported(name));
        }
        if !FIELDS.contains(&name.as_str()) && !REFUSED.contains(&name.as_str()) {
            let message = format!("Unknown parameter: '{name}'.");
            return Err(Refusal::openai("unknown_parameter", name, message));
        }
    }
    if body["store"] == true {
        let message = "Unsupported value: 'store' does not support true.";
        return Err(Refusal::openai("unsupported_value", "store", message));
    }
    if let Some(odd) = list(body, "include")
        .iter()
        .find(|name| !INCLUDES.iter().any(|known| name == known))
    {
        let message = format!(
            "Invalid value: {odd}. Supported values are: '{}'.",
            INCLUDES.join("', '")
        );
        return Err(Refusal::openai("invalid_value", "include", message));
    }
    Ok(())
}

fn tools(model: &Model, body: &Value) -> Verdict {
    let tools = list(body, "tools");
    count_of_tools(tools)?;
    for (at, one) in tools.iter().enumerate() {
        tool(model, one, &format!("tools[{at}]"))?;
    }
    match &body["tool_choice"] {
        Value::Object(choice) => {
            let name = choice.get("name").unwrap_or(&Value::Null);
            let kind = choice.get("type").unwrap_or(&Value::Null);
            let found = tools.iter().flat_map(flattened).any(|tool| match name {
                Value::Null => tool["type"] == *kind || kind == "allowed_tools",
                name => tool["name"] == *name,
            });
            if found {
                return Ok(());
            }
            let message = "Tool choice names a tool that is not in 'tools'.";
            Err(Refusal::openai("invalid_value", "tool_choice", message))
        }
        Value::String(choice) if choice == "required" && tools.is_empty() => {
            let message = "Tool choice 'required' must be specified with 'tools' parameter.";
            Err(Refusal::openai("invalid_value", "tool_choice", message))
        }
        _ => Ok(()),
    }
}

/// A tool, or the tools inside a namespace.
fn flattened(tool: &Value) -> impl Iterator<Item = &Value> {
    std::iter::once(tool).chain(list(tool, "tools"))
}

fn tool(model: &Model, tool: &Value, path: &str) -> Verdict {
    let version = model.gpt_version().unwrap_or_default();
    let kind = tool["type"].as_str().unwrap_or_default();
    let known = match kind {
        "function" => {
            function(tool, path, "parameters")?;
            true
        }
        "custom" => {
            if !super::is_name(tool["name"].as_str().unwrap_or_default(), 64) {
                let message = format!("Invalid '{path}.name': string does not match pattern.");
                return Err(Refusal::openai("invalid_value", &format!("{path}.name"), message));
            }
            true
        }
        "namespace" if version >= (5, 4) => {
            let blank = tool["description"].as_str().is_none_or(|text| text.trim().is_empty());
            if blank {
                let message = format!("Invalid '{path}.description': a namespace needs a description.");
                return Err(Refusal::openai(
                    "invalid_value",
                    &format!("{path}.description"),
                    message,
                ));
            }
            for (at, inner) in list(tool, "tools").iter().enumerate() {
                self::tool(model, inner, &format!("{path}.tools[{at}]"))?;
            }
            true
        }
        "tool_search" => version >= (5, 4),
        "web_search" | "web_search_preview" | "web_search_2025_08_26" | "shell" | "apply_patch" => version >= (5, 1),
        "local_shell" => model.id.contains("codex"),
        _ => false,
    };
    if known {
        return Ok(());
    }
    let message = format!("Invalid value: '{kind}'. Supported values are: 'function', 'custom' and 'web_search'.");
    Err(Refusal::openai("invalid_value", &format!("{path}.type"), message))
}

fn format(body: &Value) -> Verdict {
    let format = &body["text"]["format"];
    if format["type"] != "json_schema" {
        return Ok(());
    }
    if !format["name"].is_string() || !format["schema"].is_object() {
        let message = "Missing required parameter: 'text.format.name' or 'text.format.schema'.";
        return Err(Refusal::openai("missing_required_parameter", "text.format", message));
    }
    if format["strict"] == true {
        strict(&format["schema"], "text.format")?;
    }
    Ok(())
}

fn input(model: &Model, body: &Value, connection: Option<u64>, known_calls: &[String]) -> Verdict {
    let items = match &body["input"] {
        Value::String(text) if !text.is_empty() => return Ok(()),
        Value::Array(items) if !items.is_empty() => items,
        _ => {
            let message = "Missing required parameter: 'input'.";
            return Err(Refusal::openai("missing_required_parameter", "input", message));
        }
    };
    let mut awaited: Vec<&str> = Vec::new();
    let mut called: Vec<&str> = known_calls.iter().map(String::as_str).collect();
    for (at, item) in items.iter().enumerate() {
        id(item, at, connection)?;
        let kind = item["type"].as_str().unwrap_or("message");
        known_fields(item, kind, at)?;
        match kind {
            "message" => message(item, at)?,
            "reasoning" => reasoning(model, item, items.get(at + 1..).unwrap_or_default(), at)?,
            "function_call" | "custom_tool_call" | "local_shell_call" | "shell_call" | "apply_patch_call"
            | "tool_search_call" => {
                let call = call(item, kind, at)?;
                called.push(call);
                awaited.push(call);
            }
            kind if kind.ends_with("_output") => {
                let answered = answered(item, kind, at)?;
                if !called.contains(&answered) {
                    let message = format!("No tool call found for function call output with call_id {answered}.");
                    return Err(Refusal::openai("invalid_value", "input", message));
                }
                awaited.retain(|awaited| *awaited != answered);
                list(item, "output")
                    .iter()
                    .try_for_each(|part| content_part(part, false, at))?;
            }
            "compaction_trigger" if deeds::compactions(model) > 0 && at + 1 == items.len() => {}
            "compaction" => compaction(model, item)?,
            "web_search_call" | "mcp_list_tools" | "mcp_call" => {}
            "item_reference" => {
                let message = format!(
                    "Item with id {} not found. Items are not persisted when `store` is set to false.",
                    item["id"]
                );
                return Err(Refusal::openai("invalid_value", "input", message));
            }
            other => {
                let message = format!("Invalid value: '{other}'.");
                return Err(Refusal::openai("invalid_value", &format!("input[{at}].type"), message));
            }
        }
    }
    match awaited.first() {
        Some(call) => {
            let message = format!("No tool output found for function call {call}.");
            Err(Refusal::openai("invalid_value", "input", message))
        }
        None => Ok(()),
    }
}

/// Ids are the connection's own, or of the kind that names an item's type.
fn id(item: &Value, at: usize, connection: Option<u64>) -> Verdict {
    let Some(id) = item["id"].as_str() else {
        return Ok(());
    };
    let Some(connection) = connection else {
        return Ok(());
    };
    match seals::origin(id, connection) {
        Origin::Here => Ok(()),
        Origin::Elsewhere => Err(Refusal::text(401, "input item ID does not belong to this connection")),
        Origin::Foreign => {
            let named = id
                .split_once('_')
                .is_some_and(|(kind, _)| kind.bytes().all(|byte| byte.is_ascii_lowercase()));
            if named && id.len() <= 64 {
                return Ok(());
            }
            let message = format!("Invalid 'input[{at}].id': '{id}'. Expected an ID that begins with the item's type.");
            Err(Refusal::openai("invalid_value", &format!("input[{at}].id"), message))
        }
    }
}

fn known_fields(item: &Value, kind: &str, at: usize) -> Verdict {
    let Some((_, known)) = ITEMS.iter().find(|(name, _)| *name == kind) else {
        return Ok(());
    };
    let mut names = item.as_object().into_iter().flatten().map(|(name, _)| name.as_str());
    match names.find(|name| !["type", "id"].contains(name) && !known.contains(name)) {
        Some(odd) => {
            let param = format!("input[{at}].{odd}");
            let message = format!("Unknown parameter: '{param}'.");
            Err(Refusal::openai("unknown_parameter", &param, message))
        }
        None => Ok(()),
    }
}

fn message(item: &Value, at: usize) -> Verdict {
    let role = item["role"].as_str().unwrap_or_default();
    if !["user", "assistant", "system", "developer"].contains(&role) {
        let message =
            format!("Invalid value: '{role}'. Supported values are: 'assistant', 'system', 'developer', and 'user'.");
        return Err(Refusal::openai("invalid_value", &format!("input[{at}].role"), message));
    }
    let parts = list(item, "content");
    if !item["content"].is_string() && parts.is_empty() {
        let message = format!("Missing required parameter: 'input[{at}].content'.");
        return Err(Refusal::openai(
            "missing_required_parameter",
            &format!("input[{at}].content"),
            message,
        ));
    }
    parts
        .iter()
        .try_for_each(|part| content_part(part, role == "assistant", at))
}

fn content_part(part: &Value, by_model: bool, at: usize) -> Verdict {
    let path = format!("input[{at}].content");
    match (part["type"].as_str().unwrap_or_default(), by_model) {
        ("output_text" | "refusal", true) | ("input_text", false) => Ok(()),
        ("input_image", false) => data_url(&part["image_url"], &path),
        ("input_file", false) => data_url(&part["file_data"], &path),
        (other, true) => {
            let message = format!("Invalid value: '{other}'. Supported values are: 'output_text' and 'refusal'.");
            Err(Refusal::openai("invalid_value", &path, message))
        }
        (other, false) => {
            let message = format!(
                "Invalid value: '{other}'. Supported values are: 'input_text', 'input_image', and 'input_file'."
            );
            Err(Refusal::openai("invalid_value", &path, message))
        }
    }
}

/// Encrypted reasoning, unchanged, of this family, and followed by what came of it.
fn reasoning(model: &Model, item: &Value, after: &[Value], at: usize) -> Verdict {
    let Some(encrypted) = item["encrypted_content"].as_str() else {
        let message = format!(
            "Item with id {} not found. Items are not persisted when `store` is set to false.",
            item["id"]
        );
        return Err(Refusal::openai("invalid_value", "input", message));
    };
    if !item["summary"].is_array() {
        let param = format!("input[{at}].summary");
        return Err(Refusal::openai(
            "missing_required_parameter",
            &param,
            format!("Missing required parameter: '{param}'."),
        ));
    }
    if !seals::is_seal(encrypted, "encrypted", model.house()) {
        return Err(unreadable());
    }
    let follower = after.iter().find(|item| item["type"] != "reasoning");
    let by_model = follower.is_some_and(|item| {
        item["role"] == "assistant" || item["type"].as_str().is_some_and(|kind| kind.ends_with("_call"))
    });
    if by_model {
        return Ok(());
    }
    let message = "Item of type 'reasoning' was provided without its required following item.";
    Err(Refusal::openai("invalid_value", "input", message))
}

/// A history made short by a model of this family, unchanged.
fn compaction(model: &Model, item: &Value) -> Verdict {
    let encrypted = item["encrypted_content"].as_str().unwrap_or_default();
    if seals::is_seal(encrypted, "compaction", model.house()) {
        return Ok(());
    }
    Err(unreadable())
}

fn unreadable() -> Refusal {
    let message = "The encrypted content for an item could not be verified. Reason: Encrypted content could not be \
                   decrypted or parsed.";
    Refusal::openai("invalid_encrypted_content", "input", message)
}

/// The id that pairs a call with its output.
fn call<'a>(item: &'a Value, kind: &str, at: usize) -> Result<&'a str, Refusal> {
    let missing = |name: &str| {
        let param = format!("input[{at}].{name}");
        Refusal::openai(
            "missing_required_parameter",
            &param,
            format!("Missing required parameter: '{param}'."),
        )
    };
    let text = match kind {
        "function_call" => Some("arguments"),
        "custom_tool_call" => Some("input"),
        _ => None,
    };
    if let Some(text) = text {
        if !item["name"].is_string() {
            return Err(missing("name"));
        }
        if !item[text].is_string() {
            return Err(missing(text));
        }
    }
    let id = item["call_id"].as_str().filter(|id| !id.is_empty() && id.len() <= 64);
    id.ok_or_else(|| missing("call_id"))
}

fn answered<'a>(item: &'a Value, kind: &str, at: usize) -> Result<&'a str, Refusal> {
    if item["output"].is_null() && given(item, "type") && kind != "tool_search_output" {
        let param = format!("input[{at}].output");
        return Err(Refusal::openai(
            "missing_required_parameter",
            &param,
            format!("Missing required parameter: '{param}'."),
        ));
    }
    call(item, "", at)
}
