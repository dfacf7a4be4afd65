//! What `/v1/messages` refuses in what was said: roles, blocks, calls without results, thoughts that were changed.

use serde_json::Value;

use super::{MID_SYSTEM, complain, extra, names, version};
use crate::protocol::catalog::Model;
use crate::simulator::checks::{Verdict, is_name, list};
use crate::simulator::seals;

/// What each kind of block may hold, besides its type.
const BLOCKS: [(&str, &[&str]); 8] = [
    ("text", &["text", "citations", "cache_control"]),
    ("image", &["source", "cache_control"]),
    (
        "document",
        &["source", "title", "context", "citations", "cache_control"],
    ),
    ("tool_use", &["id", "name", "input", "caller", "cache_control"]),
    ("tool_result", &["tool_use_id", "content", "is_error", "cache_control"]),
    ("thinking", &["thinking", "signature"]),
    ("redacted_thinking", &["data"]),
    ("tool_reference", &["tool_name", "cache_control"]),
];

/// Checks the messages, and the system prompt before them.
pub fn check(model: &Model, body: &Value, betas: &[&str]) -> Verdict {
    let messages = list(body, "messages");
    let Some(first) = messages.first() else {
        return complain("messages: at least one message is required");
    };
    if first["role"] == "assistant" {
        return complain("messages: first message must use the \"user\" role");
    }
    for (at, block) in list(body, "system").iter().enumerate() {
        if block["text"].as_str().is_none_or(str::is_empty) {
            return complain(format!("system.{at}: text content blocks must be non-empty"));
        }
    }
    let tools = list(body, "tools");
    let last = messages.len() - 1;
    for (at, message) in messages.iter().enumerate() {
        match message["role"].as_str().unwrap_or_default() {
            "user" | "assistant" => {}
            "system" if betas.contains(&MID_SYSTEM) => {}
            other => {
                return complain(format!(
                    "messages.{at}: Input should be 'user' or 'assistant', not '{other}' (role)"
                ));
            }
        }
        if let Some(name) = names(message).find(|name| !["role", "content"].contains(name)) {
            return extra(&format!("messages.{at}.{name}"));
        }
        content(model, message, tools, at, at == last)?;
    }
    pairing(messages)?;
    ending(model, messages)?;
    thoughts_first(body, messages)
}

fn content(model: &Model, message: &Value, tools: &[Value], at: usize, is_last: bool) -> Verdict {
    let is_prefill = is_last && message["role"] == "assistant";
    let blocks = match &message["content"] {
        Value::String(text) if !text.is_empty() || is_prefill => return Ok(()),
        Value::Array(blocks) if !blocks.is_empty() || is_prefill => blocks,
        _ => {
            return complain(format!(
                "messages.{at}: all messages must have non-empty content except for the optional final assistant \
                 message"
            ));
        }
    };
    for (number, one) in blocks.iter().enumerate() {
        block(model, one, tools, &format!("messages.{at}.content.{number}"))?;
    }
    let results = blocks.iter().filter(|block| block["type"] == "tool_result").count();
    if blocks.iter().take(results).any(|block| block["type"] != "tool_result") {
        return complain(format!("messages.{at}.content: `tool_result` blocks must come first"));
    }
    Ok(())
}

fn block(model: &Model, block: &Value, tools: &[Value], path: &str) -> Verdict {
    let kind = block["type"].as_str().unwrap_or_default();
    if let Some((_, known)) = BLOCKS.iter().find(|(name, _)| *name == kind)
        && let Some(odd) = names(block).find(|name| *name != "type" && !known.contains(name))
    {
        return extra(&format!("{path}.{kind}.{odd}"));
    }
    match kind {
        "text" => match block["text"].as_str() {
            None => complain(format!("{path}.text.text: Field required")),
            Some("") => complain(format!("{path}: text content blocks must be non-empty")),
            Some(text) if text.trim().is_empty() => {
                complain(format!("{path}: text content blocks must contain non-whitespace text"))
            }
            Some(_) => Ok(()),
        },
        "image" | "document" => source(&block["source"], path),
        "tool_use" => {
            identifier(&block["id"], &format!("{path}.tool_use.id"))?;
            if !block["input"].is_object() {
                return complain(format!("{path}.tool_use.input: Input should be a valid dictionary"));
            }
            Ok(())
        }
        "tool_result" => {
            identifier(&block["tool_use_id"], &format!("{path}.tool_result.tool_use_id"))?;
            list(block, "content")
                .iter()
                .try_for_each(|part| result_part(part, tools, path))
        }
        "thinking" => signature(model, block, path),
        "redacted_thinking" => {
            let data = block["data"].as_str().unwrap_or_default();
            if seals::is_seal(data, "redacted", "claude") {
                return Ok(());
            }
            complain(format!("{path}: Invalid `data` in `redacted_thinking` block"))
        }
        "search_result" | "server_tool_use" | "web_search_tool_result" | "tool_reference" => Ok(()),
        other => complain(format!(
            "{path}: Input tag '{other}' found using 'type' does not match any of the expected tags"
        )),
    }
}

fn result_part(part: &Value, tools: &[Value], path: &str) -> Verdict {
    match part["type"].as_str().unwrap_or_default() {
        "text" if part["text"].as_str().is_some_and(str::is_empty) => complain(format!(
            "{path}.tool_result.content: text content blocks must be non-empty"
        )),
        "text" | "search_result" => Ok(()),
        "image" | "document" => source(&part["source"], path),
        "tool_reference" => {
            let name = &part["tool_name"];
            if tools.iter().any(|tool| tool["name"] == *name) {
                return Ok(());
            }
            complain(format!(
                "Tool reference '{}' not found in available tools",
                name.as_str().unwrap_or_default()
            ))
        }
        other => complain(format!(
            "{path}.tool_result.content: Input tag '{other}' is not expected"
        )),
    }
}

fn source(source: &Value, path: &str) -> Verdict {
    const MEDIA: [&str; 5] = ["image/jpeg", "image/png", "image/gif", "image/webp", "application/pdf"];
    match source["type"].as_str().unwrap_or_default() {
        "base64" if MEDIA.iter().any(|media| source["media_type"] == *media) => Ok(()),
        "base64" => complain(format!(
            "{path}.source.base64.media_type: Input should be one of {MEDIA:?}"
        )),
        "text" | "content" => Ok(()),
        other => complain(format!(
            "{path}.source: sources of type '{other}' are not supported; send base64 data"
        )),
    }
}

fn identifier(id: &Value, path: &str) -> Verdict {
    if is_name(id.as_str().unwrap_or_default(), 256) {
        return Ok(());
    }
    complain(format!("{path}: String should match pattern '^[a-zA-Z0-9_-]+$'"))
}

fn signature(model: &Model, block: &Value, path: &str) -> Verdict {
    let (Some(text), Some(signature)) = (block["thinking"].as_str(), block["signature"].as_str()) else {
        return complain(format!("{path}.thinking.signature: Field required"));
    };
    if text.is_empty() && !model.supports.adaptive_thinking {
        return complain(format!("{path}.thinking: each thinking block must contain thinking"));
    }
    if seals::is_seal(signature, "thinking", text) {
        return Ok(());
    }
    complain(format!("{path}: Invalid `signature` in `thinking` block"))
}

/// Each call has its result in the very next message, and each result its call in the one before.
fn pairing(messages: &[Value]) -> Verdict {
    let ids = |message: Option<&Value>, kind: &str, name: &str| -> Vec<String> {
        let blocks = message.map(|message| list(message, "content")).unwrap_or_default();
        let blocks = blocks.iter().filter(|block| block["type"] == kind);
        blocks
            .filter_map(|block| block[name].as_str().map(str::to_owned))
            .collect()
    };
    let spoken: Vec<&Value> = messages.iter().filter(|message| message["role"] != "system").collect();
    for (at, message) in spoken.iter().enumerate() {
        let calls = ids(Some(message), "tool_use", "id");
        let results = ids(spoken.get(at + 1).copied(), "tool_result", "tool_use_id");
        let missing: Vec<&String> = calls.iter().filter(|id| !results.contains(id)).collect();
        if let Some(first) = missing.first() {
            return complain(format!(
                "messages.{at}: `tool_use` ids were found without `tool_result` blocks immediately after: {first}. \
                 Each `tool_use` block must have a corresponding `tool_result` block in the next message."
            ));
        }
        let results = ids(Some(message), "tool_result", "tool_use_id");
        let calls = ids(
            at.checked_sub(1).and_then(|before| spoken.get(before).copied()),
            "tool_use",
            "id",
        );
        for (number, id) in results.iter().enumerate() {
            if !calls.contains(id) {
                return complain(format!(
                    "messages.{at}.content.{number}: unexpected `tool_use_id` found in `tool_result` blocks: {id}. \
                     Each `tool_result` block must have a corresponding `tool_use` block in the previous message."
                ));
            }
            if results.iter().take(number).any(|other| other == id) {
                return complain(format!(
                    "messages.{at}.content.{number}: each tool_use must have a single result. Found multiple \
                     `tool_result` blocks with id: {id}"
                ));
            }
        }
    }
    Ok(())
}

/// Newer models do not continue what was put into their mouth.
fn ending(model: &Model, messages: &[Value]) -> Verdict {
    let Some(last) = messages.iter().rev().find(|message| message["role"] != "system") else {
        return complain("messages: at least one user message is required");
    };
    if last["role"] != "assistant" {
        return Ok(());
    }
    if version(model) >= (4, 6) {
        return complain(
            "This model does not support assistant message prefill. The conversation must end with a user message.",
        );
    }
    let text = last["content"]
        .as_str()
        .or_else(|| list(last, "content").last().and_then(|block| block["text"].as_str()));
    if text.is_some_and(|text| text.ends_with(char::is_whitespace)) {
        return complain("messages: final assistant content cannot end with trailing whitespace");
    }
    Ok(())
}

/// In the loop of tools under way, a thinking model's turn begins with its thoughts.
fn thoughts_first(body: &Value, messages: &[Value]) -> Verdict {
    if body["thinking"]["type"] != "enabled" {
        return Ok(());
    }
    let is_result = |message: &Value| {
        list(message, "content")
            .iter()
            .any(|block| block["type"] == "tool_result")
    };
    let Some((at, turn)) = messages
        .iter()
        .enumerate()
        .rfind(|(_, message)| message["role"] == "assistant")
    else {
        return Ok(());
    };
    if !messages.last().is_some_and(is_result) {
        return Ok(());
    }
    match list(turn, "content").first().and_then(|block| block["type"].as_str()) {
        Some("thinking" | "redacted_thinking") => Ok(()),
        Some(kind) => complain(format!(
            "messages.{at}.content.0.type: Expected `thinking` or `redacted_thinking`, but found `{kind}`. When \
             `thinking` is enabled, a final `assistant` message must start with a thinking block (preceeding the lastmost set of \
             `tool_use` and `tool_result` blocks)."
        )),
        None => Ok(()),
    }
}
