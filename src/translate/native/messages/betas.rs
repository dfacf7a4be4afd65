//! The `anthropic-beta` tokens of a request: what the client named and Copilot knows, and what the body calls for.

use serde_json::Value;

use crate::translate::rules::{field, list, peek};
use crate::translate::{Context, Object};

const INTERLEAVED: &str = "interleaved-thinking-2025-05-14";
const CONTEXT: &str = "context-management-2025-06-27";
const TOOL_USE: &str = "advanced-tool-use-2025-11-20";
const SYSTEM: &str = "mid-conversation-system-2026-04-07";
const CACHE_TTL: &str = "extended-cache-ttl-2025-04-11";

/// Tokens of a client that are passed on, whatever their date.
const PASSED: [&str; 4] = [INTERLEAVED, CONTEXT, TOOL_USE, SYSTEM];

/// What a tool has only with [`TOOL_USE`].
const OF_TOOLS: [&str; 3] = ["defer_loading", "input_examples", "allowed_callers"];

/// The tokens for a finished body.
pub fn of(body: &Object, context: &Context) -> Vec<String> {
    let mut betas: Vec<String> = Vec::new();
    let passed = context.hints.betas.iter().map(|beta| beta.trim());
    for beta in passed.filter(|beta| PASSED.iter().any(|known| beta.starts_with(family(known)))) {
        if !betas.iter().any(|had| had == beta) {
            betas.push(beta.to_owned());
        }
    }
    let thinking = field(body, "thinking")["type"].as_str();
    if thinking == Some("adaptive") {
        betas.retain(|beta| !beta.starts_with(family(INTERLEAVED)));
    }
    let called_for = [
        (INTERLEAVED, thinking == Some("enabled")),
        (CONTEXT, body.contains_key("context_management")),
        (TOOL_USE, list(field(body, "tools")).iter().any(is_advanced)),
        (
            SYSTEM,
            list(field(body, "messages"))
                .iter()
                .any(|message| peek(message, "role") == "system"),
        ),
        (CACHE_TTL, has_ttl(body)),
    ];
    for (beta, _) in called_for.into_iter().filter(|(_, needed)| *needed) {
        if !betas.iter().any(|had| had.starts_with(family(beta))) {
            betas.push(beta.to_owned());
        }
    }
    betas.retain(|beta| !is_refused(beta, context));
    betas
}

/// Whether the model takes system messages between the others: upstream has said so, or the client counts on it and
/// upstream has not said otherwise.
pub fn takes_system(context: &Context) -> bool {
    match context
        .memory
        .learned
        .get("messages.system_role")
        .and_then(Value::as_bool)
    {
        Some(known) => known,
        None => {
            let named = context
                .hints
                .betas
                .iter()
                .any(|beta| beta.trim().starts_with(family(SYSTEM)));
            named && !is_refused(SYSTEM, context)
        }
    }
}

/// Removes from a body what it may not hold without a token that upstream has refused, and what calls for one in vain.
pub fn drop_unwelcome(body: &mut Object, context: &Context) {
    if is_refused(CONTEXT, context) || field(body, "context_management").is_null() {
        body.shift_remove("context_management");
    }
    if is_refused(TOOL_USE, context) {
        let tools = body.get_mut("tools").and_then(Value::as_array_mut);
        for tool in tools.into_iter().flatten().filter_map(Value::as_object_mut) {
            for key in OF_TOOLS {
                tool.shift_remove(key);
            }
        }
    }
}

fn is_refused(beta: &str, context: &Context) -> bool {
    let refused = context.memory.learned.get("messages.betas");
    refused.is_some_and(|refused| list(refused).iter().any(|one| one == beta))
}

/// A token without its date.
fn family(beta: &str) -> &str {
    beta.split_once("-20").map_or(beta, |(family, _)| family)
}

fn is_advanced(tool: &Value) -> bool {
    OF_TOOLS.iter().any(|key| tool.get(key).is_some())
}

/// Whether a cache mark with a lifetime is inside, where marks are.
fn has_ttl(holder: &Object) -> bool {
    holder.iter().any(|(name, value)| match name.as_str() {
        "cache_control" => value.get("ttl").is_some(),
        "system" | "tools" | "messages" | "content" => {
            list(value).iter().any(|entry| entry.as_object().is_some_and(has_ttl))
        }
        _ => false,
    })
}
