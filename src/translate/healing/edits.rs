//! What mending does to a body: fields and tools that go, an effort, a limit or a wish for thinking said otherwise. Knows
//! not why.

use serde_json::{Value, json};

use crate::protocol::Protocol;
use crate::protocol::effort::Effort;
use crate::translate::{Object, history};

/// A refusal's path with every index widened to its whole list.
pub fn column(path: &str) -> String {
    let is_index = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    path.split('.')
        .map(|part| if is_index(part) { "*" } else { part })
        .collect::<Vec<_>>()
        .join(".")
}

/// Fields that carry the request itself; never deleted.
const VITAL: [&str; 14] = [
    "model",
    "messages",
    "system",
    "instructions",
    "tools",
    "role",
    "type",
    "text",
    "content",
    "name",
    "input",
    "input_schema",
    "parameters",
    "stream",
];
/// Fields that carry the conversation, within it. One that stands where it has no place is the client's mistake: were its
/// column deleted, and that remembered, every later conversation would lose what its calls and results say.
const SAID: [&str; 17] = [
    "output",
    "arguments",
    "call_id",
    "action",
    "summary",
    "encrypted_content",
    "source",
    "data",
    "image_url",
    "file_data",
    "thinking",
    "signature",
    "tool_use_id",
    "tool_call_id",
    "tool_calls",
    "function",
    "refusal",
];

/// Deletes every field that a path names; false where there was none, or where it is vital.
pub fn delete(body: &mut Object, path: &str) -> bool {
    let parts: Vec<&str> = path.split('.').collect();
    match parts.last() {
        None | Some(&"*") => false,
        Some(last) if VITAL.contains(last) || *last == "id" && !path.starts_with("input.") => false,
        Some(last) if SAID.contains(last) && parts.iter().any(|part| ["input", "messages"].contains(part)) => false,
        Some(_) => {
            let deleted = delete_in(body, &parts);
            let is_empty = |config: &Value| config.as_object().is_some_and(Object::is_empty);
            if body.get("output_config").is_some_and(is_empty) {
                body.shift_remove("output_config");
            }
            deleted
        }
    }
}

fn delete_in(object: &mut Object, parts: &[&str]) -> bool {
    match parts {
        [] => false,
        [last] => object.shift_remove(*last).is_some(),
        [first, rest @ ..] => match object.get_mut(*first) {
            Some(value) => delete_below(value, rest),
            // A validator names the variant it tried: `tools.0.custom.x`, `cache_control.ephemeral.x`.
            None => delete_in(object, rest),
        },
    }
}

fn delete_below(value: &mut Value, parts: &[&str]) -> bool {
    match (value, parts) {
        (Value::Array(list), ["*", rest @ ..]) => list
            .iter_mut()
            .fold(false, |deleted, entry| delete_below(entry, rest) | deleted),
        (Value::Object(object), parts) => delete_in(object, parts),
        _ => false,
    }
}

pub fn efforts(list: &Value) -> Vec<Effort> {
    let names = list.as_array().into_iter().flatten().filter_map(Value::as_str);
    names.filter_map(Effort::read).collect()
}

/// Brings the request's effort into a list; false where it has none or nothing changed.
pub fn clamp_effort(way: Protocol, body: &mut Object, accepted: &[Effort]) -> bool {
    let slot = match way {
        Protocol::Chat => body.get_mut("reasoning_effort"),
        Protocol::Responses => body
            .get_mut("reasoning")
            .and_then(|reasoning| reasoning.get_mut("effort")),
        Protocol::Messages => body
            .get_mut("output_config")
            .and_then(|config| config.get_mut("effort")),
    };
    let Some(slot) = slot else { return false };
    let asked = slot.as_str().and_then(Effort::read).unwrap_or(Effort::Medium);
    let fitting = json!(asked.clamp(accepted).name());
    let changed = *slot != fitting;
    *slot = fitting;
    changed
}

pub fn rename_limit(body: &mut Object, name: &str) -> bool {
    let other = if name == "max_tokens" {
        "max_completion_tokens"
    } else {
        "max_tokens"
    };
    match body.shift_remove(other) {
        Some(limit) => body.insert(name.to_owned(), limit).is_none(),
        None => false,
    }
}

/// Says the same wish for thinking in the other form.
pub fn switch_thinking(body: &mut Object, form: &str) -> bool {
    let Some(thinking) = body.get("thinking").cloned() else {
        return false;
    };
    match (thinking["type"].as_str(), form) {
        (Some("adaptive"), "enabled") => {
            let effort = body
                .get("output_config")
                .and_then(|config| Effort::read(config["effort"].as_str()?));
            let ceiling = body
                .get("max_tokens")
                .and_then(Value::as_u64)
                .unwrap_or(u64::MAX)
                .saturating_sub(1);
            let budget = effort.and_then(Effort::budget).unwrap_or(1024).min(32_000).min(ceiling);
            if budget < 1024 {
                body.shift_remove("thinking");
            } else {
                body.insert("thinking".into(), json!({"type": "enabled", "budget_tokens": budget}));
            }
            delete(body, "output_config.effort");
            true
        }
        (Some("enabled"), "adaptive") => {
            let effort = Effort::of_budget(thinking["budget_tokens"].as_u64().unwrap_or(0)).name();
            body.insert("thinking".into(), json!({"type": "adaptive"}));
            if let Some(config) = body.entry("output_config").or_insert_with(|| json!({})).as_object_mut() {
                config.entry("effort").or_insert_with(|| json!(effort));
            }
            true
        }
        _ => false,
    }
}

/// Takes back the wish for no thinking. A forced tool forbids thinking, so it becomes a free choice.
pub fn leave_thinking_on(body: &mut Object) -> bool {
    if body
        .get("thinking")
        .is_none_or(|thinking| thinking["type"] != "disabled")
    {
        return false;
    }
    body.shift_remove("thinking");
    let forced = body
        .get("tool_choice")
        .is_some_and(|choice| matches!(choice["type"].as_str(), Some("any" | "tool")));
    if forced {
        body.insert("tool_choice".into(), json!({"type": "auto"}));
    }
    true
}

/// Removes all thinking from the history, and the answers that were nothing else.
pub fn strip_thinking(body: &mut Object) -> bool {
    let Some(messages) = body.get_mut("messages").and_then(Value::as_array_mut) else {
        return false;
    };
    let mut stripped = false;
    for message in messages.iter_mut() {
        if let Some(blocks) = message.get_mut("content").and_then(Value::as_array_mut) {
            let before = blocks.len();
            blocks.retain(|block| !matches!(block["type"].as_str(), Some("thinking" | "redacted_thinking")));
            stripped |= blocks.len() < before;
        }
    }
    messages.retain(|message| message["content"].as_array().is_none_or(|blocks| !blocks.is_empty()));
    history::merge_same_role(messages);
    stripped
}

pub fn drop_tools(body: &mut Object, dropped: impl Fn(&str) -> bool) -> bool {
    let Some(tools) = body.get_mut("tools").and_then(Value::as_array_mut) else {
        return false;
    };
    let before = tools.len();
    tools.retain(|tool| !dropped(tool["type"].as_str().unwrap_or_default()));
    let (after, changed) = (tools.len(), tools.len() < before);
    if changed {
        let names_dropped = body
            .get("tool_choice")
            .is_some_and(|choice| dropped(choice["type"].as_str().unwrap_or_default()));
        if after == 0 {
            body.shift_remove("tools");
            body.shift_remove("tool_choice");
            body.shift_remove("parallel_tool_calls");
        } else if names_dropped {
            body.insert("tool_choice".into(), json!("auto"));
        }
    }
    changed
}
