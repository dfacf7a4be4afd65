//! A chat request on its way to a chat upstream. Knows what Copilot refuses, and what it forgets to assume.

use serde_json::{Value, json};

use crate::protocol::Protocol::Chat;
use crate::protocol::catalog::Model;
use crate::protocol::failure::Failure;
use crate::translate::carrier::Carrier;
use crate::translate::chat_history::{self, Style};
use crate::translate::rules::reasoning::Wish;
use crate::translate::rules::{cache_marks, field, images, list, sampling, schema, thoughts, tools};
use crate::translate::{Context, Memory, Object, Outgoing, Reply, calls};

/// Fields that Copilot's models do not have.
const FOREIGN: [&str; 12] = [
    "store",
    "metadata",
    "service_tier",
    "prediction",
    "modalities",
    "audio",
    "web_search_options",
    "prompt_cache_retention",
    "safety_identifier",
    "top_k",
    "n",
    "stream_options",
];
/// Stop sequences that upstream takes.
const MOST_STOPS: usize = 4;
const STYLE: Style = Style {
    no_result: "Tool result unavailable.",
    joint: None,
};

/// The request as Copilot takes it.
pub fn request(body: &Object, context: &Context) -> Result<Outgoing, Failure> {
    let model = context.model;
    let mut out = body.clone();
    out.insert("model".into(), json!(model.id));
    images::admit(Chat, &mut out, model)?;
    let asked_for_usage = field(body, "stream_options")["include_usage"] == true;
    let wish = Wish::read(Chat, body, context.hints, context.tuning);

    for name in FOREIGN {
        out.shift_remove(name);
    }
    if !model.is_reasoning_gpt() {
        out.shift_remove("verbosity");
    }
    limits(body, &mut out, context);
    for name in ["reasoning_effort", "reasoning", "thinking_budget"] {
        out.shift_remove(name);
    }
    wish.write(Chat, &mut out, context);
    let stream = out.get("stream").is_some_and(|stream| *stream == true);
    if stream {
        out.insert("stream_options".into(), json!({"include_usage": true}));
    }
    let aliases = tools::alias_names(Chat, &mut out);
    offer(&mut out, model);
    if let Some(Value::Array(messages)) = out.get_mut("messages") {
        history(messages, context);
    }
    Ok(Outgoing {
        vision: images::has_image(Chat, &out),
        body: out,
        reply: Reply {
            model: context.requested.to_owned(),
            ran: model.id.clone(),
            // A whole answer always says what it cost.
            include_usage: asked_for_usage || !stream,
            show_reasoning: context.tuning.show_reasoning,
            reasoning_alias: context.tuning.reasoning_alias,
            tools: aliases,
            ..Reply::default()
        },
        ..Outgoing::default()
    })
}

/// How long the answer may be and how it is drawn.
fn limits(body: &Object, out: &mut Object, context: &Context) {
    out.shift_remove("max_tokens");
    out.shift_remove("max_completion_tokens");
    sampling::write_limit(Chat, sampling::limit(Chat, body), out, context);
    sampling::settle_gpt(out, context.model);
    if let Some(Value::Array(stops)) = out.get_mut("stop") {
        stops.truncate(MOST_STOPS);
    }
}

/// The tools, as far as this model understands them; without tools there is nothing to choose.
fn offer(out: &mut Object, model: &Model) {
    if list(field(out, "tools")).is_empty() {
        for name in ["tools", "tool_choice", "parallel_tool_calls"] {
            out.shift_remove(name);
        }
        return;
    }
    if !model.is_gemini() {
        return;
    }
    for tool in out.get_mut("tools").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(function) = tool.get_mut("function").and_then(Value::as_object_mut) {
            let parameters = schema::of_tool(field(function, "parameters"), model);
            function.insert("parameters".into(), parameters);
        }
    }
}

fn history(messages: &mut Vec<Value>, context: &Context) {
    let model = context.model;
    let mut marked = false;
    for message in messages.iter_mut().filter_map(Value::as_object_mut) {
        if field(message, "role") == "developer" && !model.is_gpt() && !model.is_reasoning_gpt() {
            message.insert("role".into(), json!("system"));
        }
        if field(message, "role") == "assistant" {
            answer(message, context.memory, model);
        }
        marked |= mark(message);
    }
    thoughts::restore_chat(messages, context.memory, model);
    drop_empty(messages);
    if messages.iter().any(shows_in_result) {
        *messages = chat_history::settle(std::mem::take(messages), STYLE);
    }
    if !marked {
        cache_marks::mark_chat(messages, &[], model);
    }
}

/// One answer of the history: its reasoning as this model wrote it, its calls with what upstream wants to see again.
fn answer(message: &mut Object, memory: &Memory, model: &Model) {
    let opaque = field(message, "reasoning_opaque").as_str().unwrap_or_default();
    if Carrier::is_one(opaque) {
        let own = thoughts::of_chat(&Value::Object(message.clone()), model);
        for name in ["reasoning_opaque", "reasoning_text", "reasoning_content"] {
            message.shift_remove(name);
        }
        thoughts::to_chat(&own, message, model);
    } else if let Some(text) = message.shift_remove("reasoning_content")
        && !message.contains_key("reasoning_text")
    {
        message.insert("reasoning_text".into(), text);
    }
    let calls = message.get_mut("tool_calls").and_then(Value::as_array_mut);
    let mut called = false;
    for call in calls.into_iter().flatten().filter_map(Value::as_object_mut) {
        called = true;
        let id = field(call, "id").as_str().unwrap_or_default().to_owned();
        calls::restore_kept(call, memory, &id, model);
    }
    if called && field(message, "content") == "" {
        message.insert("content".into(), Value::Null);
    }
}

/// Turns marks on a message's parts, as other providers have them, into Copilot's own on the message. True if the
/// client marked it.
fn mark(message: &mut Object) -> bool {
    let mut marked = message.shift_remove("cache_control").is_some_and(|mark| !mark.is_null());
    for part in message.get_mut("content").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(part) = part.as_object_mut() {
            marked |= part.shift_remove("cache_control").is_some_and(|mark| !mark.is_null());
        }
    }
    if marked {
        chat_history::want_mark(message);
    }
    message.contains_key("copilot_cache_control")
}

/// Removes texts that say nothing, and the messages that are left with nothing; the first keeps its place.
fn drop_empty(messages: &mut Vec<Value>) {
    let is_blank = |text: &Value| text.as_str().is_some_and(|text| text.trim().is_empty());
    for message in messages.iter_mut() {
        if let Some(parts) = message.get_mut("content").and_then(Value::as_array_mut) {
            parts.retain(|part| !(part["type"] == "text" && is_blank(&part["text"])));
        }
    }
    let mut first = true;
    messages.retain_mut(|message| {
        let (content, role) = (&message["content"], message["role"].as_str());
        let empty = content.is_null() || is_blank(content) || content.as_array().is_some_and(Vec::is_empty);
        let was_first = std::mem::replace(&mut first, first && role == Some("system"));
        match role {
            Some("user") if empty && was_first => {
                message["content"] = json!(".");
                true
            }
            Some("user" | "system" | "developer") => !empty,
            Some("assistant") => {
                let calls = !list(&message["tool_calls"]).is_empty() || message["function_call"].is_object();
                calls || !empty || message["refusal"].is_string()
            }
            _ => true,
        }
    });
}

/// Whether a tool's result holds what only a person's message may show.
fn shows_in_result(message: &Value) -> bool {
    message["role"] == "tool" && list(&message["content"]).iter().any(|part| part["type"] == "image_url")
}
