//! The `anthropic-beta` tokens of a Messages request: the few that Copilot takes, and those that the body needs.

use serde_json::Value;

use super::{field, list};
use crate::translate::{Memory, Object};

/// System messages between the others.
pub const SYSTEM_ROLE: &str = "mid-conversation-system-2026-04-07";
const INTERLEAVED: &str = "interleaved-thinking-2025-05-14";
const TOOL_USE: &str = "advanced-tool-use-2025-11-20";
const CONTEXT: &str = "context-management-2025-06-27";
const CACHE_TTL: &str = "extended-cache-ttl-2025-04-11";

/// What Copilot takes from a client begins with one of these; it refuses a request over any other.
const TAKEN: [&str; 4] = [
    "interleaved-thinking-",
    "context-management-",
    "advanced-tool-use-",
    "mid-conversation-system-",
];

/// The tokens for a finished body: of the client's those that are taken, and what the body needs besides.
pub fn of(client: &[String], body: &Object, memory: &Memory) -> Vec<String> {
    let needed = [
        (CONTEXT, body.contains_key("context_management")),
        (TOOL_USE, list(field(body, "tools")).iter().any(is_advanced)),
        (
            SYSTEM_ROLE,
            list(field(body, "messages"))
                .iter()
                .any(|message| message["role"] == "system"),
        ),
        (
            CACHE_TTL,
            ["system", "tools", "messages"]
                .iter()
                .any(|key| has_ttl(field(body, key))),
        ),
    ];
    let taken = client
        .iter()
        .filter(|beta| TAKEN.iter().any(|prefix| beta.starts_with(prefix)));
    let needed = needed.iter().filter(|(_, needed)| *needed).map(|(beta, _)| *beta);
    let mut betas: Vec<String> = Vec::new();
    for beta in taken.map(String::as_str).chain(needed) {
        if !betas.iter().any(|one| one == beta) {
            betas.push(beta.to_owned());
        }
    }
    interleave(body, &mut betas);
    let refused = memory.learned.get("messages.betas").map(list).unwrap_or_default();
    betas.retain(|beta| !refused.iter().any(|one| one == beta.as_str()));
    betas
}

/// Thinking between calls is asked for where it has a budget, and a matter of course where it adapts.
pub fn interleave(body: &Object, betas: &mut Vec<String>) {
    let is_it = |beta: &String| beta.starts_with("interleaved-thinking-");
    match field(body, "thinking")["type"].as_str() {
        Some("enabled") if !betas.iter().any(is_it) => betas.push(INTERLEAVED.into()),
        Some("adaptive") => betas.retain(|beta| !is_it(beta)),
        _ => {}
    }
}

fn is_advanced(tool: &Value) -> bool {
    let marks = ["defer_loading", "input_examples", "allowed_callers"];
    let kind = tool["type"].as_str().unwrap_or_default();
    marks.iter().any(|mark| tool.get(*mark).is_some()) || kind.starts_with("tool_search_tool")
}

/// Whether a cache mark says how long it lasts, at any depth.
fn has_ttl(blocks: &Value) -> bool {
    let is_long = |block: &Value| !block["cache_control"]["ttl"].is_null() || has_ttl(&block["content"]);
    list(blocks).iter().any(is_long)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn betas(client: &[&str], body: Value) -> Vec<String> {
        let client: Vec<String> = client.iter().map(|beta| (*beta).to_owned()).collect();
        of(&client, body.as_object().unwrap(), &Memory::default())
    }

    #[test]
    fn k039_only_what_copilot_takes_goes_on() {
        let client = [
            "claude-code-20250219",
            INTERLEAVED,
            "context-1m-2025-08-07",
            "fine-grained-tool-streaming-2025-05-14",
        ];
        assert_eq!(betas(&client, json!({})), [INTERLEAVED]);
        assert_eq!(betas(&client, json!({"thinking": {"type": "adaptive"}})), [""; 0]);
        assert_eq!(betas(&[], json!({"thinking": {"type": "enabled"}})), [INTERLEAVED]);
    }

    #[test]
    fn the_body_brings_what_it_needs() {
        let body =
            json!({"context_management": {}, "tools": [{"defer_loading": true}], "messages": [{"role": "system"}]});
        assert_eq!(betas(&[CONTEXT], body), [CONTEXT, TOOL_USE, SYSTEM_ROLE]);
        let long = json!({"messages": [{"content": [{"cache_control": {"ttl": "1h"}}]}]});
        assert_eq!(betas(&[CACHE_TTL], long), [CACHE_TTL]);
        assert_eq!(betas(&[CACHE_TTL], json!({})), [""; 0]);
    }

    #[test]
    fn a_refused_token_is_not_sent_again() {
        let mut memory = Memory::default();
        memory.learned.insert("messages.betas".into(), json!([INTERLEAVED]));
        let body = json!({"thinking": {"type": "enabled"}});
        assert!(of(&[], body.as_object().unwrap(), &memory).is_empty());
    }
}
