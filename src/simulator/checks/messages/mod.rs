//! What `/v1/messages` refuses in its settings and tools; what was said is looked at in [`history`].

mod history;

use serde_json::Value;

use super::{MOST_TOOLS, Verdict, is_name, list};
use crate::protocol::catalog::Model;
use crate::protocol::effort::Effort;
use crate::simulator::reply::Refusal;

/// Beta features that are taken for every model.
const BETAS: [&str; 4] = [
    "interleaved-thinking-2025-05-14",
    CONTEXT_MANAGEMENT,
    ADVANCED_TOOLS,
    CACHE_TTL,
];
const CONTEXT_MANAGEMENT: &str = "context-management-2025-06-27";
const ADVANCED_TOOLS: &str = "advanced-tool-use-2025-11-20";
const CACHE_TTL: &str = "extended-cache-ttl-2025-04-11";
const MID_SYSTEM: &str = "mid-conversation-system-2026-04-07";

const FIELDS: [&str; 14] = [
    "model",
    "messages",
    "max_tokens",
    "system",
    "metadata",
    "stop_sequences",
    "stream",
    "temperature",
    "top_p",
    "top_k",
    "tools",
    "tool_choice",
    "thinking",
    "output_config",
];

/// Checks a request for an answer.
pub fn check(model: &Model, body: &Value, betas: &[&str]) -> Verdict {
    known_betas(model, betas)?;
    fields(body, betas)?;
    limits(model, body)?;
    thinking(model, body)?;
    output(model, body)?;
    tools(model, body, betas)?;
    cache_marks(body, betas)?;
    history::check(model, body, betas)
}

/// Checks a request to count tokens: wider than generation, but not about betas.
pub fn check_count(model: &Model, body: &Value, betas: &[&str]) -> Verdict {
    known_betas(model, betas)?;
    if list(body, "messages").is_empty() {
        return Err(Refusal::anthropic("messages: at least one message is required"));
    }
    Ok(())
}

fn complain(message: impl Into<String>) -> Verdict {
    Err(Refusal::anthropic(message))
}

fn extra(path: &str) -> Verdict {
    complain(format!("{path}: Extra inputs are not permitted"))
}

/// The names of an object's fields.
fn names(value: &Value) -> impl Iterator<Item = &str> {
    value.as_object().into_iter().flatten().map(|(name, _)| name.as_str())
}

/// The number in a Claude's name: `claude-opus-4.8` is (4, 8).
fn version(model: &Model) -> (u32, u32) {
    let number = model
        .id
        .split('-')
        .find(|part| part.starts_with(|c: char| c.is_ascii_digit()));
    let (major, minor) = number
        .map(|number| number.split_once('.').unwrap_or((number, "0")))
        .unwrap_or_default();
    (major.parse().unwrap_or(0), minor.parse().unwrap_or(0))
}

/// Models since Opus 4.7 decide for themselves how much they think.
pub fn adaptive_only(model: &Model) -> bool {
    version(model) >= (4, 7)
}

fn known_betas(model: &Model, betas: &[&str]) -> Verdict {
    let known = |beta: &str| BETAS.contains(&beta) || beta == MID_SYSTEM && adaptive_only(model);
    let odd: Vec<&str> = betas.iter().copied().filter(|beta| !known(beta)).collect();
    if odd.is_empty() {
        return Ok(());
    }
    let message = format!("unsupported beta header(s): {}", odd.join(","));
    Err(Refusal::copilot(400, "invalid_request_body", message))
}

fn fields(body: &Value, betas: &[&str]) -> Verdict {
    for name in names(body) {
        let managed = name == "context_management" && betas.contains(&CONTEXT_MANAGEMENT);
        if !FIELDS.contains(&name) && !managed {
            return extra(name);
        }
    }
    if let Some(name) = names(&body["metadata"]).find(|name| *name != "user_id") {
        return extra(&format!("metadata.{name}"));
    }
    if body["metadata"]["user_id"]
        .as_str()
        .is_some_and(|id| id.chars().count() > 256)
    {
        return complain("metadata.user_id: String should have at most 256 characters");
    }
    Ok(())
}

fn limits(model: &Model, body: &Value) -> Verdict {
    let Some(asked) = body["max_tokens"].as_u64() else {
        return complain("max_tokens: Field required");
    };
    if asked == 0 {
        return complain("max_tokens: Input should be greater than or equal to 1");
    }
    let most = model.limits.output.unwrap_or(u64::MAX);
    if asked > most {
        return complain(format!(
            "max_tokens: {asked} > {most}, which is the maximum allowed number of output tokens for {}",
            model.id
        ));
    }
    let most = model.limits.non_streaming_output.unwrap_or(u64::MAX);
    if body["stream"] != true && asked > most {
        return complain(format!(
            "max_tokens: {asked} > {most}, which is the maximum allowed without streaming"
        ));
    }
    if list(body, "stop_sequences")
        .iter()
        .any(|stop| stop.as_str().is_none_or(|stop| stop.trim().is_empty()))
    {
        return complain("stop_sequences: each stop sequence must contain non-whitespace");
    }
    let temperature = body["temperature"].as_f64();
    if temperature.is_some_and(|temperature| !(0.0..=1.0).contains(&temperature)) {
        return complain("temperature: range: 0..1");
    }
    if temperature.is_some() && body["top_p"].is_number() && version(model) >= (4, 5) {
        return complain("`temperature` and `top_p` cannot both be specified for this model. Please use only one.");
    }
    Ok(())
}

fn thinking(model: &Model, body: &Value) -> Verdict {
    let thinking = &body["thinking"];
    let Some(kind) = thinking["type"].as_str() else {
        return if thinking.is_null() {
            Ok(())
        } else {
            complain("thinking.type: Field required")
        };
    };
    let allowed: &[&str] = match kind {
        "enabled" => &["type", "budget_tokens", "display"],
        "adaptive" => &["type", "display"],
        "disabled" => &["type"],
        _ => {
            return complain(format!(
                "thinking: Input tag '{kind}' does not match any of the expected tags"
            ));
        }
    };
    if let Some(name) = names(thinking).find(|name| !allowed.contains(name)) {
        return extra(&format!("thinking.{kind}.{name}"));
    }
    if let Some(display) = thinking["display"].as_str()
        && !["summarized", "omitted"].contains(&display)
    {
        return complain("thinking.display: Input should be 'summarized' or 'omitted'");
    }
    match kind {
        "enabled" if adaptive_only(model) => {
            return complain(
                "\"thinking.type.enabled\" is not supported for this model. Use \"thinking.type.adaptive\" and \
                 \"output_config.effort\" to control thinking behavior.",
            );
        }
        "enabled" => {
            let budget = thinking["budget_tokens"].as_u64().unwrap_or(0);
            if budget < 1024 {
                return complain(
                    "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024 (budget_tokens: \
                     Input should be >= 1024)",
                );
            }
            if body["max_tokens"].as_u64().is_some_and(|most| budget >= most) {
                return complain("`max_tokens` must be greater than `thinking.budget_tokens`.");
            }
            if model.supports.max_thinking_budget.is_some_and(|most| budget > most) {
                return complain("thinking.enabled.budget_tokens: Input is above what this model takes");
            }
        }
        "adaptive" if !model.supports.adaptive_thinking => {
            return complain("adaptive thinking is not supported on this model");
        }
        _ => {}
    }
    if kind == "disabled" {
        return Ok(());
    }
    if body["temperature"]
        .as_f64()
        .is_some_and(|temperature| temperature != 1.0)
    {
        return complain("`temperature` may only be set to 1 when thinking is enabled or in adaptive mode.");
    }
    if !body["top_k"].is_null() {
        return complain("`top_k` must be unset when thinking is enabled or in adaptive mode.");
    }
    if matches!(body["tool_choice"]["type"].as_str(), Some("any" | "tool")) {
        return complain("Thinking may not be enabled when tool_choice forces tool use.");
    }
    Ok(())
}

fn output(model: &Model, body: &Value) -> Verdict {
    let output = &body["output_config"];
    if let Some(effort) = output["effort"].as_str() {
        let known = &model.supports.efforts;
        if !Effort::read(effort).is_some_and(|effort| known.contains(&effort)) {
            let names: Vec<&str> = known.iter().map(|effort| effort.name()).collect();
            let message = format!(
                "reasoning effort \"{effort}\" is not supported by model {}; supported values: [{}]",
                model.id,
                names.join(" ")
            );
            return Err(Refusal::copilot(400, "invalid_reasoning_effort", message));
        }
    }
    let format = &output["format"];
    if format.is_null() {
        return Ok(());
    }
    if !model.supports.structured_outputs {
        return extra("output_config.format");
    }
    if format["type"] != "json_schema" || !format["schema"].is_object() {
        return complain("output_config.format.schema: Field required");
    }
    match names(format).find(|name| !["type", "schema"].contains(name)) {
        Some(name) => extra(&format!("output_config.format.{name}")),
        None => Ok(()),
    }
}

/// Tools that the model runs, or knows, by itself: the beginning of their type, and whether they are taken.
const TYPED: [(&str, bool); 10] = [
    ("bash_20", true),
    ("text_editor_20", true),
    ("memory_20", true),
    ("tool_search_tool_", true),
    ("web_search_20", true),
    ("web_fetch_20", false),
    ("code_execution_20", false),
    ("computer_20", false),
    ("advisor_20", false),
    ("mcp_toolset", false),
];

fn tools(model: &Model, body: &Value, betas: &[&str]) -> Verdict {
    let tools = list(body, "tools");
    if tools.len() > MOST_TOOLS {
        return complain(format!("tools: List should have at most {MOST_TOOLS} items"));
    }
    for (at, tool) in tools.iter().enumerate() {
        match tool["type"].as_str() {
            None | Some("custom") => custom_tool(model, tool, at, betas)?,
            Some(kind) => typed_tool(model, kind, at)?,
        }
        let name = &tool["name"];
        if tools.iter().take(at).any(|other| other["name"] == *name) {
            return complain("tools: Tool names must be unique.");
        }
    }
    let choice = &body["tool_choice"];
    if choice.is_null() {
        return Ok(());
    }
    if tools.is_empty() {
        return complain("tool_choice: tool_choice may only be specified while providing tools");
    }
    if choice["type"] == "tool" && !tools.iter().any(|tool| tool["name"] == choice["name"]) {
        return complain(format!(
            "Tool '{}' not found in provided tools",
            choice["name"].as_str().unwrap_or_default()
        ));
    }
    Ok(())
}

fn typed_tool(model: &Model, kind: &str, at: usize) -> Verdict {
    let taken = TYPED
        .iter()
        .find(|(start, _)| kind.starts_with(start))
        .is_some_and(|(_, taken)| *taken);
    // Searching the web is left to models that are served with it.
    if taken && (!kind.starts_with("web_search") || version(model) >= (4, 6)) {
        return Ok(());
    }
    complain(format!(
        "tools.{at}: Input tag '{kind}' found using 'type' does not match any of the expected tags"
    ))
}

fn custom_tool(model: &Model, tool: &Value, at: usize, betas: &[&str]) -> Verdict {
    let path = format!("tools.{at}.custom");
    if !is_name(tool["name"].as_str().unwrap_or_default(), 128) {
        return complain(format!(
            "{path}.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'"
        ));
    }
    if tool["input_schema"]["type"] != "object" {
        return complain(format!("{path}.input_schema.type: Field required"));
    }
    if !tool["input_schema"]["$schema"].is_null() {
        return extra(&format!("{path}.input_schema.$schema"));
    }
    for name in names(tool) {
        let known = match name {
            "type" | "name" | "description" | "input_schema" | "cache_control" => true,
            "defer_loading" | "input_examples" | "allowed_callers" => betas.contains(&ADVANCED_TOOLS),
            "strict" => model.supports.structured_outputs,
            _ => false,
        };
        if !known {
            return extra(&format!("{path}.{name}"));
        }
    }
    Ok(())
}

/// Every `cache_control` in the request, with where it stands and what it stands on.
fn cache_marks(body: &Value, betas: &[&str]) -> Verdict {
    let mut found = Vec::new();
    for name in ["tools", "system", "messages"] {
        collect_marks(&body[name], name, &mut found);
    }
    for (path, owner) in &found {
        let mark = &owner["cache_control"];
        if mark["type"] != "ephemeral" {
            return complain(format!("{path}.cache_control.type: Input should be 'ephemeral'"));
        }
        for name in names(mark) {
            if name != "type" && !(name == "ttl" && betas.contains(&CACHE_TTL)) {
                return extra(&format!("{path}.cache_control.ephemeral.{name}"));
            }
        }
        if matches!(owner["type"].as_str(), Some("thinking" | "redacted_thinking")) {
            return extra(&format!("{path}.cache_control"));
        }
        if owner["defer_loading"] == true {
            return complain(format!(
                "{path}: cache_control cannot be set on a tool with defer_loading"
            ));
        }
        if owner["text"].as_str().is_some_and(str::is_empty) {
            return complain(format!("{path}: cache_control cannot be set for empty text blocks"));
        }
    }
    if found.len() > 4 {
        return complain(format!(
            "A maximum of 4 blocks with cache_control may be provided. Found {}.",
            found.len()
        ));
    }
    Ok(())
}

fn collect_marks<'a>(value: &'a Value, path: &str, found: &mut Vec<(String, &'a Value)>) {
    match value {
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                collect_marks(item, &format!("{path}.{at}"), found);
            }
        }
        Value::Object(fields) => {
            if !value["cache_control"].is_null() {
                found.push((path.to_owned(), value));
            }
            if let Some(content) = fields.get("content") {
                collect_marks(content, &format!("{path}.content"), found);
            }
        }
        _ => {}
    }
}
