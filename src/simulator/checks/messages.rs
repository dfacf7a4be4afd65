//! What `/v1/messages` refuses.

use serde_json::Value;

use super::{MOST_TOOLS, Verdict, is_name, list};
use crate::protocol::catalog::Model;
use crate::protocol::effort::Effort;
use crate::simulator::reply::Refusal;
use crate::simulator::seals;

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
    messages(model, body, betas)
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
    for name in body.as_object().into_iter().flatten().map(|(name, _)| name.as_str()) {
        let managed = name == "context_management" && betas.contains(&CONTEXT_MANAGEMENT);
        if !FIELDS.contains(&name) && !managed {
            return extra(name);
        }
    }
    let metadata = body["metadata"].as_object().into_iter().flatten();
    if let Some((name, _)) = metadata.into_iter().find(|(name, _)| *name != "user_id") {
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
    let names = thinking
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, _)| name.as_str());
    if let Some(name) = names.into_iter().find(|name| !allowed.contains(name)) {
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
    let names = format.as_object().into_iter().flatten().map(|(name, _)| name.as_str());
    match names.into_iter().find(|name| !["type", "schema"].contains(name)) {
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
    for name in tool.as_object().into_iter().flatten().map(|(name, _)| name.as_str()) {
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
        for name in mark.as_object().into_iter().flatten().map(|(name, _)| name.as_str()) {
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

fn messages(model: &Model, body: &Value, betas: &[&str]) -> Verdict {
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
    match block["type"].as_str().unwrap_or_default() {
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
