//! What `/chat/completions` refuses.

use serde_json::Value;

use super::{Verdict, count_of_tools, data_url, effort, function, given, list, output_limit, sampling, strict};
use crate::protocol::catalog::Model;
use crate::simulator::reply::Refusal;
use crate::simulator::seals;

/// Marks the ids of calls that Gemini made, whose thoughts must come back with them.
pub const GEMINI_CALL: &str = "call_gm";

pub fn check(model: &Model, body: &Value) -> Verdict {
    limits(model, body)?;
    sampling(model, body)?;
    reasoning(model, body)?;
    tools(body)?;
    format(body)?;
    messages(model, list(body, "messages"))
}

fn limits(model: &Model, body: &Value) -> Verdict {
    if given(body, "max_tokens") && model.is_reasoning_gpt() && model.vendor == "OpenAI" {
        let message = "Unsupported parameter: 'max_tokens' is not supported with this model. Use \
                       'max_completion_tokens' instead.";
        return Err(Refusal::openai("unsupported_parameter", "max_tokens", message));
    }
    output_limit(model, body, "max_tokens", 1)?;
    output_limit(model, body, "max_completion_tokens", 1)?;
    if body["n"].as_u64().is_some_and(|n| n != 1) {
        return Err(Refusal::openai("unsupported_value", "n", "n must be 1 for this model"));
    }
    if list(body, "stop").len() > 4 {
        return Err(Refusal::openai(
            "array_above_max_length",
            "stop",
            "Invalid 'stop': array too long.",
        ));
    }
    if body["stream"] != true && given(body, "stream_options") {
        let message = "The 'stream_options' parameter is only allowed when 'stream' is enabled.";
        return Err(Refusal::openai("invalid_value", "stream_options", message));
    }
    Ok(())
}

fn reasoning(model: &Model, body: &Value) -> Verdict {
    effort(model, &body["reasoning_effort"], "reasoning_effort", false)?;
    let reasons = body["reasoning_effort"].as_str().is_some_and(|effort| effort != "none");
    if reasons && !list(body, "tools").is_empty() && model.gpt_version().is_some_and(|version| version >= (5, 4)) {
        let message = format!(
            "Function tools with reasoning_effort are not supported for {} in /v1/chat/completions. Please use \
             /v1/responses instead.",
            model.id
        );
        return Err(Refusal::openai("unsupported_parameter", "reasoning_effort", message));
    }
    let Some(budget) = body["thinking_budget"].as_u64() else {
        return Ok(());
    };
    let (least, most) = (model.supports.min_thinking_budget, model.supports.max_thinking_budget);
    let Some(most) = most else {
        let message = "Unsupported parameter: 'thinking_budget' is not supported with this model.";
        return Err(Refusal::openai("unsupported_parameter", "thinking_budget", message));
    };
    let least = least.unwrap_or(0);
    if !(least..=most).contains(&budget) {
        let message = format!("thinking_budget must be between {least} and {most}");
        return Err(Refusal::openai("invalid_value", "thinking_budget", message));
    }
    Ok(())
}

fn tools(body: &Value) -> Verdict {
    let tools = list(body, "tools");
    count_of_tools(tools)?;
    for (at, tool) in tools.iter().enumerate() {
        let path = format!("tools[{at}].function");
        if tool["type"] != "function" {
            let message = format!("Invalid value: '{}'. Supported values are: 'function'.", tool["type"]);
            return Err(Refusal::openai("invalid_value", &format!("tools[{at}].type"), message));
        }
        function(&tool["function"], &path, "parameters")?;
    }
    for name in ["tool_choice", "parallel_tool_calls"] {
        if tools.is_empty() && given(body, name) {
            let message = format!("Invalid value for '{name}': '{name}' is only allowed when 'tools' are specified.");
            return Err(Refusal::openai("invalid_value", name, message));
        }
    }
    match &body["tool_choice"] {
        Value::Object(choice) => {
            let name = choice.get("function").map(|function| &function["name"]);
            if tools.iter().any(|tool| Some(&tool["function"]["name"]) == name) {
                return Ok(());
            }
            let message = "Tool choice names a tool that is not in 'tools'.";
            Err(Refusal::openai("invalid_value", "tool_choice", message))
        }
        Value::String(choice) if !["auto", "none", "required"].contains(&choice.as_str()) => {
            let message = format!("Invalid value: '{choice}'. Supported values are: 'none', 'auto', and 'required'.");
            Err(Refusal::openai("invalid_value", "tool_choice", message))
        }
        _ => Ok(()),
    }
}

fn format(body: &Value) -> Verdict {
    let format = &body["response_format"];
    if format["type"] != "json_schema" {
        return Ok(());
    }
    let schema = &format["json_schema"];
    if !schema["name"].is_string() || !schema["schema"].is_object() {
        let message = "Missing required parameter: 'response_format.json_schema.name' or '.schema'.";
        return Err(Refusal::openai(
            "missing_required_parameter",
            "response_format",
            message,
        ));
    }
    if schema["strict"] == true {
        strict(&schema["schema"], "response_format")?;
    }
    Ok(())
}

fn messages(model: &Model, messages: &[Value]) -> Verdict {
    if messages.is_empty() {
        let message = "Invalid 'messages': empty array. Expected an array with minimum length 1.";
        return Err(Refusal::openai("empty_array", "messages", message));
    }
    let marked = messages
        .iter()
        .filter(|message| given(message, "copilot_cache_control"))
        .count();
    if marked > 4 {
        let message = format!("A maximum of 4 blocks with cache_control may be provided. Found {marked}.");
        return Err(Refusal::copilot(400, "invalid_request_body", message));
    }
    let mut awaited: Vec<&str> = Vec::new();
    for (at, message) in messages.iter().enumerate() {
        let role = message["role"].as_str().unwrap_or_default();
        if role == "tool" {
            let id = message["tool_call_id"].as_str().unwrap_or_default();
            let Some(found) = awaited.iter().position(|awaited| *awaited == id) else {
                let message = "Invalid parameter: messages with role 'tool' must be a response to a preceeding \
                               message with 'tool_calls'.";
                return Err(Refusal::openai(
                    "invalid_value",
                    &format!("messages.[{at}].role"),
                    message,
                ));
            };
            awaited.remove(found);
            continue;
        }
        unanswered(&awaited)?;
        match role {
            "assistant" => awaited = calls(model, message, at)?,
            "system" | "developer" | "user" => content(model, message, at)?,
            other => {
                let message = format!(
                    "Invalid value: '{other}'. Supported values are: 'system', 'assistant', 'user', 'tool', and \
                     'developer'."
                );
                return Err(Refusal::openai(
                    "invalid_value",
                    &format!("messages[{at}].role"),
                    message,
                ));
            }
        }
    }
    unanswered(&awaited)?;
    thoughts_of_gemini(model, messages)
}

fn unanswered(awaited: &[&str]) -> Verdict {
    if awaited.is_empty() {
        return Ok(());
    }
    let message = format!(
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. \
         The following tool_call_ids did not have response messages: {}",
        awaited.join(", ")
    );
    Err(Refusal::openai("invalid_value", "messages", message))
}

/// The ids of an assistant's calls, each to be answered.
fn calls<'a>(model: &Model, message: &'a Value, at: usize) -> Result<Vec<&'a str>, Refusal> {
    let calls = list(message, "tool_calls");
    let says_nothing = message["content"].as_str().is_none_or(str::is_empty) && list(message, "content").is_empty();
    if calls.is_empty() && says_nothing {
        let message = format!("Invalid value for 'content': expected a string, got null in messages.[{at}].");
        return Err(Refusal::openai(
            "invalid_value",
            &format!("messages.[{at}].content"),
            message,
        ));
    }
    opaque(model, message)?;
    for call in calls {
        let arguments = call["function"]["arguments"].as_str().unwrap_or("not a string");
        if !serde_json::from_str::<Value>(arguments).is_ok_and(|arguments| arguments.is_object()) {
            let message = "tool call arguments must be a JSON object in a string";
            return Err(Refusal::openai("invalid_tool_call_format", "messages", message));
        }
        if call["id"].as_str().is_none_or(str::is_empty) || !call["function"]["name"].is_string() {
            let message = "a tool call needs an id and a function name";
            return Err(Refusal::openai("invalid_tool_call_format", "messages", message));
        }
    }
    Ok(calls.iter().filter_map(|call| call["id"].as_str()).collect())
}

/// Opaque reasoning comes back as it was given, to the family that gave it.
fn opaque(model: &Model, message: &Value) -> Verdict {
    let Some(opaque) = message["reasoning_opaque"].as_str().filter(|_| !model.is_gpt()) else {
        return Ok(());
    };
    // Claude's own signature, from its own protocol, is as good.
    let signed = message["reasoning_text"].as_str().unwrap_or_default();
    let is_signature = model.is_claude() && seals::is_seal(opaque, "thinking", signed);
    if is_signature || seals::is_seal(opaque, "opaque", model.house()) {
        return Ok(());
    }
    let message = "reasoning_opaque is not valid for this model";
    Err(Refusal::copilot(400, "invalid_request_body", message))
}

fn content(model: &Model, message: &Value, at: usize) -> Verdict {
    let empty = |text: Option<&str>| text.is_some_and(|text| text.trim().is_empty());
    let path = format!("messages[{at}].content");
    let parts = list(message, "content");
    if !message["content"].is_string() && parts.is_empty() {
        let message = format!("Invalid '{path}': expected a string or a non-empty array.");
        return Err(Refusal::openai("invalid_type", &path, message));
    }
    if model.is_claude()
        && (empty(message["content"].as_str()) || parts.iter().any(|part| empty(part["text"].as_str())))
    {
        let message = format!("messages.{at}: text content blocks must be non-empty");
        return Err(Refusal::anthropic(message));
    }
    for part in parts {
        match part["type"].as_str().unwrap_or_default() {
            "text" => {}
            "image_url" => data_url(&part["image_url"]["url"], &path)?,
            "file" => data_url(&part["file"]["file_data"], &path)?,
            other => {
                let message =
                    format!("Invalid value: '{other}'. Supported values are: 'text', 'image_url' and 'file'.");
                return Err(Refusal::openai("invalid_value", &path, message));
            }
        }
    }
    Ok(())
}

/// In the turn under way, Gemini 3 wants its thoughts back beside its calls.
fn thoughts_of_gemini(model: &Model, messages: &[Value]) -> Verdict {
    if !model.id.starts_with("gemini-3") {
        return Ok(());
    }
    let turn = messages.iter().rev().take_while(|message| message["role"] != "user");
    for message in turn {
        let own = list(message, "tool_calls")
            .iter()
            .any(|call| call["id"].as_str().is_some_and(|id| id.starts_with(GEMINI_CALL)));
        if own && !message["reasoning_opaque"].is_string() {
            let message = "Function call is missing a thought_signature in functionCall parts.";
            return Err(Refusal::copilot(400, "invalid_request_body", message));
        }
    }
    Ok(())
}
