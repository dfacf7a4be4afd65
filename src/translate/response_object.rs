//! The object every Responses answer travels in: its fields, what it repeats of the request, how it ends. Knows nothing
//! of the items inside.

use serde_json::{Value, json};

use super::turn::{Finish, Usage};
use super::{Object, Reply, rules};
use crate::protocol::Protocol;
use crate::protocol::failure::Failure;

/// Request fields that the response object repeats.
const REPEATED: [&str; 17] = [
    "background",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "parallel_tool_calls",
    "previous_response_id",
    "prompt_cache_key",
    "reasoning",
    "safety_identifier",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "truncation",
];

/// What the answer will repeat of this request, for [`Reply::echo`].
pub fn echo(body: &Object) -> Object {
    let repeated = REPEATED.into_iter().filter_map(|name| body.get_key_value(name));
    repeated
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// A response that has said nothing yet.
pub fn begun(reply: &Reply, id: &str, created: u64) -> Object {
    let mut response = match json!({
        "id": id,
        "object": "response",
        "created_at": created,
        "completed_at": null,
        "status": "in_progress",
        "background": false,
        "error": null,
        "incomplete_details": null,
        "instructions": null,
        "max_output_tokens": null,
        "max_tool_calls": null,
        "model": reply.model,
        "output": [],
        "parallel_tool_calls": true,
        "previous_response_id": null,
        "prompt_cache_key": null,
        "reasoning": {"effort": null, "summary": null},
        "safety_identifier": null,
        "service_tier": "default",
        "store": false,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": 0,
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": null,
        "user": null,
        "metadata": {},
    }) {
        Value::Object(response) => response,
        _ => Object::new(),
    };
    response.extend(reply.echo.clone());
    response
}

/// Ends a response as its turn ended. The event that says so is named `response.` and the status.
pub fn end(response: &mut Object, finish: &Finish, output: Vec<Value>, usage: &Usage, completed: u64) -> &'static str {
    let reason = match finish {
        Finish::Length | Finish::ContextFull => Some("max_output_tokens"),
        Finish::ContentFilter => Some("content_filter"),
        Finish::Stop | Finish::ToolCalls | Finish::StopSequence(_) | Finish::Refusal | Finish::Pause => None,
    };
    let (status, event) = match reason {
        None => ("completed", "response.completed"),
        Some(_) => ("incomplete", "response.incomplete"),
    };
    response.insert("status".into(), json!(status));
    response.insert("completed_at".into(), json!(completed));
    if let Some(reason) = reason {
        response.insert("incomplete_details".into(), json!({"reason": reason}));
    }
    response.insert("output".into(), Value::Array(output));
    // Clients that check what they read take an ending without counts for none at all.
    response.insert("usage".into(), rules::usage::write(Protocol::Responses, usage));
    event
}

/// Ends a response as a failure.
pub fn fail(response: &mut Object, failure: &Failure, output: Vec<Value>) {
    let code = failure.openai_code().unwrap_or(failure.openai_type());
    response.insert("status".into(), json!("failed"));
    response.insert("error".into(), json!({"code": code, "message": failure.message}));
    response.insert("output".into(), Value::Array(output));
}

/// A failure before the response began, as a stream says it.
pub fn error_event(failure: &Failure) -> Value {
    json!({
        "type": "error",
        "code": failure.openai_code().unwrap_or(failure.openai_type()),
        "message": failure.message,
        "param": failure.param,
        "sequence_number": 0,
    })
}
