//! The history of a Messages request, beyond the order of its messages: thinking that the model can read, results and
//! ids that upstream takes.

use serde_json::{Value, json};

use super::betas;
use crate::protocol::Protocol;
use crate::protocol::catalog::Model;
use crate::translate::Context;
use crate::translate::history;
use crate::translate::rules::tools::CallIds;
use crate::translate::rules::{peek, peek_mut, searches, thoughts};

/// What a tool's result may hold.
const IN_RESULTS: [&str; 5] = ["text", "image", "document", "search_result", "tool_reference"];
/// Said in place of thinking by clients that hide it.
const PLACEHOLDER: &str = "Thinking...";

/// Mends the history; returns the system messages that stood before it, as blocks. `thinks` says whether the model is
/// to think, and so wants to see what it has thought.
pub fn mend(messages: &mut Vec<Value>, thinks: bool, context: &Context) -> Vec<Value> {
    let leading = history::take_leading_system(messages);
    if !betas::takes_system(context) {
        history::fold_system(messages);
    }
    drop_unreadable(messages, context.model);
    for message in messages.iter_mut() {
        if let Some(blocks) = message.get_mut("content").and_then(Value::as_array_mut) {
            searches::tell_foreign(blocks);
        }
    }
    if thinks {
        // An answer begins with its thinking, also where a translation wrote it in several messages.
        history::merge_same_role(messages);
        thoughts::restore_messages(messages, context.memory, context.model);
    }
    for message in messages.iter_mut() {
        fit_results(message);
    }
    history::mend(messages);
    fit_ids(messages);
    leading
}

/// Removes the thinking that this model cannot read: another's, or what is left of its own.
fn drop_unreadable(messages: &mut [Value], model: &Model) {
    let can_read = |block: &Value| match peek(block, "type").as_str() {
        Some("thinking") => match peek(block, "thinking").as_str() {
            // Models that leave their thinking out of the answer still want the signature back.
            Some("") => model.supports.adaptive_thinking && is_native(peek(block, "signature")),
            Some(PLACEHOLDER) | None => false,
            Some(_) => is_native(peek(block, "signature")),
        },
        Some("redacted_thinking") => is_native(peek(block, "data")),
        _ => true,
    };
    for message in messages {
        if let Some(blocks) = peek_mut(message, "content").and_then(Value::as_array_mut) {
            blocks.retain(can_read);
        }
    }
}

/// Whether a state is the model's own: base64. A carrier, ours or another proxy's, has other letters as well.
fn is_native(state: &Value) -> bool {
    let state = state.as_str().unwrap_or_default();
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+/-_=".contains(&byte);
    !state.is_empty() && state.bytes().all(allowed)
}

/// Makes the contents of a message's results what upstream allows them to be.
fn fit_results(message: &mut Value) {
    for block in blocks_mut(message) {
        if peek(block, "type") != "tool_result" {
            continue;
        }
        let Some(result) = block.as_object_mut() else {
            continue;
        };
        if let Some(Value::Array(parts)) = result.get_mut("content") {
            for part in parts.iter_mut() {
                let allowed = peek(part, "type")
                    .as_str()
                    .is_some_and(|kind| IN_RESULTS.contains(&kind));
                if !allowed {
                    *part = json!({"type": "text", "text": part.to_string()});
                }
            }
            parts.retain(|part| {
                peek(part, "type") != "text" || peek(part, "text").as_str().is_some_and(|text| !text.is_empty())
            });
        }
        let says_nothing = match result.get("content") {
            Some(Value::Array(parts)) => parts.is_empty(),
            Some(Value::String(text)) => text.is_empty(),
            Some(Value::Null) => true,
            _ => false,
        };
        if says_nothing {
            result.shift_remove("content");
        }
    }
}

/// Gives calls and results the ids upstream takes, no two calls the same.
fn fit_ids(messages: &mut [Value]) {
    let mut ids = CallIds::new(Protocol::Messages);
    for block in messages.iter_mut().flat_map(blocks_mut) {
        let key = match peek(block, "type").as_str() {
            Some("tool_use") => "id",
            Some("tool_result") => "tool_use_id",
            _ => continue,
        };
        let id = peek(block, key).as_str().unwrap_or_default();
        let fitting = if key == "id" { ids.call(id) } else { ids.result(id) };
        if fitting != id {
            block[key] = fitting.into();
        }
    }
}

fn blocks_mut(message: &mut Value) -> &mut [Value] {
    let blocks = peek_mut(message, "content").and_then(Value::as_array_mut);
    blocks.map(Vec::as_mut_slice).unwrap_or_default()
}
