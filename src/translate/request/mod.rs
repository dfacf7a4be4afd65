//! Requests from one protocol to another, one file a pair.

use serde_json::{Value, json};

use super::Object;

pub mod chat_to_messages;
pub mod chat_to_responses;
mod into_messages;
pub mod messages_to_chat;
pub mod messages_to_responses;
pub mod responses_to_chat;
pub mod responses_to_messages;

/// Whether a chat client is told the usage: where its stream is to have it, and in every whole answer.
pub(super) fn tells_usage(body: &Object) -> bool {
    let asked = |name: &str| body.get(name).unwrap_or(&Value::Null);
    asked("stream_options")["include_usage"] == true || asked("stream") != true
}

/// Asks a chat upstream for a stream where the client asked for one, and for its usage in any case.
fn stream_chat(body: &Object, out: &mut Object) {
    if body.get("stream").is_some_and(|stream| *stream == Value::Bool(true)) {
        out.insert("stream".into(), json!(true));
        out.insert("stream_options".into(), json!({"include_usage": true}));
    }
}
