//! Requests from one protocol to another, one file a pair.

use serde_json::{Value, json};

use super::rules::{field, reasoning, session, thoughts};
use super::{Context, Object, items};
use crate::protocol::Protocol;

pub mod chat_to_messages;
pub mod chat_to_responses;
pub mod gemini_to_chat;
mod into_messages;
pub mod messages_to_chat;
pub mod messages_to_responses;
pub mod responses_to_chat;
pub mod responses_to_messages;

/// Whether a chat client is told the usage: where its stream is to have it, and in every whole answer.
pub(super) fn tells_usage(body: &Object) -> bool {
    field(body, "stream_options")["include_usage"] == true || *field(body, "stream") != true
}

/// Asks a chat upstream for a stream where the client asked for one, and for its usage in any case.
fn stream_chat(body: &Object, out: &mut Object) {
    if *field(body, "stream") == true {
        out.insert("stream".into(), json!(true));
        out.insert("stream_options".into(), json!({"include_usage": true}));
    }
}

/// The reasoning that a Responses upstream must be asked for to have it back later.
pub(super) const ENCRYPTED_REASONING: &str = "reasoning.encrypted_content";

/// Puts a history into a request for a Responses upstream, with what every such request says.
fn settle_responses(client: Protocol, body: &Object, mut input: Vec<Value>, out: &mut Object, context: &Context) {
    thoughts::restore_responses(&mut input, context.memory, context.model);
    let mut input = items::pair(input);
    items::drop_idle_reasoning(&mut input);
    out.insert("input".into(), Value::Array(input));
    out.insert("store".into(), json!(false));
    if reasoning::reasons(context.model) {
        out.insert("include".into(), json!([ENCRYPTED_REASONING]));
    }
    if let Some(key) = session::cache_key(client, body, context.hints, context.model) {
        out.insert("prompt_cache_key".into(), json!(key));
    }
    if *field(body, "stream") == true {
        out.insert("stream".into(), json!(true));
    }
}
