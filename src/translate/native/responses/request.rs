//! The request as Copilot takes it. Knows what Copilot refuses of it; all else passes as it came.

use std::collections::BTreeMap;
use std::mem;

use serde_json::{Value, json};

use crate::protocol::Protocol::Responses;
use crate::protocol::catalog::Model;
use crate::protocol::effort::Effort;
use crate::protocol::failure::Failure;
use crate::translate::carrier::Carrier;
use crate::translate::request::ENCRYPTED_REASONING;
use crate::translate::rules::{field, images, list, reasoning, sampling, session, thoughts, tools};
use crate::translate::{ClientTool, Context, Object, Outgoing, Reply, compaction, items, response_object};

/// Fields that Copilot refuses from everyone.
const REFUSED: [&str; 13] = [
    "background",
    "client_metadata",
    "conversation",
    "max_tool_calls",
    "previous_response_id",
    "prompt",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "stream_options",
    "top_logprobs",
    "user",
    "generate",
];

/// What Codex notes on its items for OpenAI's own server; Copilot refuses it.
const CODEX_NOTES: &str = "internal_chat_message_metadata_passthrough";

/// Tools that Copilot does not run.
const REFUSED_TOOLS: [&str; 4] = ["code_interpreter", "file_search", "image_generation", "mcp"];

/// Tools that may stand as functions where a model does not know them.
const SHAPED_TOOLS: [&str; 5] = ["apply_patch", "custom", "local_shell", "namespace", "shell"];

pub fn request(mut out: Object, context: &Context) -> Result<Outgoing, Failure> {
    let model = context.model;
    let echo = response_object::echo(&out);
    for name in REFUSED {
        out.shift_remove(name);
    }
    out.insert("model".into(), json!(model.id));
    out.insert("store".into(), json!(false));
    images::admit(Responses, &mut out, model)?;
    mend_input(&mut out, context)?;
    let tools = mend_tools(&mut out, context);
    mend_include(&mut out, model);
    if let Some(asked) = sampling::limit(Responses, &out) {
        sampling::write_limit(Responses, Some(asked), &mut out, context);
    }
    mend_reasoning(&mut out, context);
    sampling::settle_gpt(&mut out, model);
    if let Some(key) = out.get_mut("prompt_cache_key") {
        *key = json!(session::fit_key(key.as_str().unwrap_or_default()));
    }
    if field(&out, "prompt_cache_key") == "" {
        out.shift_remove("prompt_cache_key");
    }
    Ok(Outgoing {
        vision: images::has_image(Responses, &out),
        body: out,
        reply: Reply {
            model: context.requested.to_owned(),
            ran: model.id.clone(),
            show_reasoning: true,
            tools,
            raw_encrypted: context.tuning.raw_encrypted,
            echo,
            ..Reply::default()
        },
        ..Outgoing::default()
    })
}

fn mend_include(out: &mut Object, model: &Model) {
    let is_taken = |wanted: &Value| {
        let of = |tool: &str| wanted.as_str().is_some_and(|wanted| wanted.starts_with(tool));
        !REFUSED_TOOLS.iter().any(|tool| of(tool)) && !of("computer_")
    };
    let mut include: Vec<Value> = list(field(out, "include"))
        .iter()
        .filter(|wanted| is_taken(wanted))
        .cloned()
        .collect();
    if reasoning::reasons(model) && !include.iter().any(|wanted| wanted == ENCRYPTED_REASONING) {
        include.push(json!(ENCRYPTED_REASONING));
    }
    if include.is_empty() {
        out.shift_remove("include");
    } else {
        out.insert("include".into(), Value::Array(include));
    }
}

fn mend_reasoning(out: &mut Object, context: &Context) {
    if !reasoning::reasons(context.model) {
        out.shift_remove("reasoning");
    } else if let Some(effort) = asked_effort(out).or(context.hints.effort) {
        let effort = json!(effort.clamp(&context.model.supports.efforts).name());
        match out.get_mut("reasoning").and_then(Value::as_object_mut) {
            Some(reasoning) => drop(reasoning.insert("effort".into(), effort)),
            None => drop(out.insert("reasoning".into(), json!({"effort": effort}))),
        }
    }
    if !context.model.is_reasoning_gpt()
        && let Some(text) = out.get_mut("text").and_then(Value::as_object_mut)
    {
        text.shift_remove("verbosity");
        if text.is_empty() {
            out.shift_remove("text");
        }
    }
}

fn asked_effort(out: &Object) -> Option<Effort> {
    field(out, "reasoning")["effort"].as_str().and_then(Effort::read)
}

/// Leaves out the tools that nobody runs, and makes functions of those that this model does not know. Returns what the
/// answer must know of them.
fn mend_tools(out: &mut Object, context: &Context) -> BTreeMap<String, ClientTool> {
    let learned = context
        .memory
        .learned
        .get("responses.tools")
        .map(list)
        .unwrap_or_default();
    let is_new = context.model.gpt_version().is_some_and(|version| version >= (5, 4));
    let is_plain = |kind: &&str| learned.iter().any(|one| one == kind) || *kind == "namespace" && !is_new;
    let plain: Vec<String> = SHAPED_TOOLS
        .iter()
        .filter(|kind| is_plain(kind))
        .map(|kind| (*kind).to_owned())
        .collect();
    let converted = tools::plain(out, &plain);
    let searches = is_new && !plain.iter().any(|kind| kind == "namespace");
    let Some(tools) = out.get_mut("tools").and_then(Value::as_array_mut) else {
        return converted;
    };
    let is_taken = |tool: &Value| {
        let kind = tool["type"].as_str().unwrap_or_default();
        !REFUSED_TOOLS.contains(&kind) && !kind.starts_with("computer") && (kind != "tool_search" || searches)
    };
    let removed: Vec<Value> = tools
        .iter()
        .filter(|tool| !is_taken(tool))
        .map(|tool| tool["type"].clone())
        .collect();
    tools.retain(is_taken);
    for tool in tools.iter_mut().filter(|tool| tool["type"] == "namespace") {
        // A namespace without a description is refused.
        if tool["description"].as_str().is_none_or(|text| text.trim().is_empty()) {
            tool["description"] = tool["name"].clone();
        }
    }
    let nothing_left = tools.is_empty();
    let choice = field(out, "tool_choice");
    if nothing_left {
        for name in ["tools", "tool_choice", "parallel_tool_calls"] {
            out.shift_remove(name);
        }
    } else if removed.contains(choice) || removed.contains(&choice["type"]) {
        out.insert("tool_choice".into(), json!("auto"));
    }
    converted
}

/// The history: what stands for something else is put back, what Copilot would not know is left out.
fn mend_input(out: &mut Object, context: &Context) -> Result<(), Failure> {
    let Some(Value::Array(input)) = out.get_mut("input") else {
        return Ok(());
    };
    let mut input = mem::take(input);
    if context.tuning.trim_before_compaction {
        compaction::trim(&mut input);
    }
    items::resolve_references(&mut input, context.tuning)?;
    // Where a socket goes on from a compaction, what asked for it is over.
    let latest = input.len().saturating_sub(1);
    let is_over = |at: usize, item: &Value| at < latest && item["type"] == compaction::TRIGGER;
    let mut mended = Vec::with_capacity(input.len());
    for (_, item) in input.into_iter().enumerate().filter(|(at, item)| !is_over(*at, item)) {
        for item in compaction::unwrap(item, Some(context.model))? {
            mend_item(item, context.model, &mut mended);
        }
    }
    thoughts::restore_responses(&mut mended, context.memory, context.model);
    out.insert("input".into(), Value::Array(items::pair(mended)));
    Ok(())
}

fn mend_item(mut item: Value, model: &Model, mended: &mut Vec<Value>) {
    let kind = item["type"].as_str().unwrap_or("message").to_owned();
    match kind.as_str() {
        "reasoning" => return mend_thought(item, model, mended),
        // Codex's own notes to itself.
        "ghost_snapshot" => return,
        "agent_message" => return mended.extend(agent_message(&item)),
        _ => {}
    }
    let answers = item["role"] == "assistant";
    for name in ["content", "output"] {
        let parts = item.get_mut(name).and_then(Value::as_array_mut);
        parts.into_iter().flatten().for_each(|part| mend_part(part, answers));
    }
    let Some(fields) = item.as_object_mut() else {
        return mended.push(item);
    };
    fields.shift_remove(CODEX_NOTES);
    if kind.starts_with("local_shell_call")
        && !fields.contains_key("call_id")
        && let Some(id) = fields.get("id").cloned()
    {
        fields.insert("call_id".into(), id);
    }
    match kind.as_str() {
        "compaction_summary" => drop(fields.insert("type".into(), json!("compaction"))),
        "compaction" => {}
        _ => drop(fields.shift_remove("id")),
    }
    if kind == "function_call" {
        let arguments = match fields.get("arguments") {
            None | Some(Value::Null) => "{}".to_owned(),
            Some(Value::String(text)) if text.trim().is_empty() => "{}".to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        fields.insert("arguments".into(), json!(arguments));
    }
    if fields.get("status").is_some_and(|status| status == "in_progress") {
        fields.shift_remove("status");
    }
    mended.push(item);
}

/// Reasoning goes back as the very pair of id and content that upstream gave, or not at all: nothing is stored there.
fn mend_thought(item: Value, model: &Model, mended: &mut Vec<Value>) {
    let content = item["encrypted_content"].as_str().unwrap_or_default();
    let states = match Carrier::is_one(content) {
        true => Carrier::all(content),
        false => vec![Carrier::Item {
            model: model.id.clone(),
            id: None,
            content: content.to_owned(),
        }],
    };
    for state in states.into_iter().filter(|state| state.fits(model)) {
        let Carrier::Item { id, content, .. } = state else {
            continue;
        };
        let mut item = item.clone();
        let Some(fields) = item.as_object_mut().filter(|_| !content.is_empty()) else {
            continue;
        };
        match id {
            Some(id) => drop(fields.insert("id".into(), json!(id))),
            None => drop(fields.shift_remove("id")),
        }
        fields.shift_remove(CODEX_NOTES);
        fields.insert("encrypted_content".into(), json!(content));
        fields.entry("summary").or_insert_with(|| json!([]));
        if fields.get("status").is_some_and(|status| status == "in_progress") {
            fields.shift_remove("status");
        }
        mended.push(item);
    }
}

fn agent_message(item: &Value) -> Option<Value> {
    let said = [&item["content"], &item["message"], &item["text"]];
    let parts = said.into_iter().map(images::parts).find(|parts| !parts.is_empty())?;
    Some(items::message(
        "user",
        &Value::Array(images::to_responses(parts, false)),
    ))
}

/// Parts under the names of other protocols get their own.
fn mend_part(part: &mut Value, answers: bool) {
    let kind = match part["type"].as_str() {
        Some("text") if answers => "output_text",
        Some("text") => "input_text",
        Some("image_url") => "input_image",
        Some("input_image") => "input_image",
        _ => return,
    };
    let mut taken = |name: &str| part.get_mut("image_url")?.get_mut(name).map(Value::take);
    let (url, detail) = (taken("url"), taken("detail"));
    let Some(fields) = part.as_object_mut() else { return };
    fields.insert("type".into(), json!(kind));
    for (name, value) in [("image_url", url), ("detail", detail)] {
        if let Some(value) = value.filter(Value::is_string) {
            fields.insert(name.into(), value);
        }
    }
    if fields.get("detail").is_some_and(|detail| detail == "original") {
        fields.insert("detail".into(), json!("high"));
    }
}

#[cfg(test)]
mod tests;
