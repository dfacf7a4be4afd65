//! A whole answer of words, edited in place: the stream that would have brought it need not be written first. Knows
//! what such an answer is; one that calls tools, has several choices or no ending is none and goes by the stream.

use serde_json::{Value, json};

use crate::protocol::Protocol;
use crate::translate::chunk::{REASONING, is_own};
use crate::translate::from_chat::Ending;
use crate::translate::ids::Ids;
use crate::translate::rules::{list, peek, usage};
use crate::translate::{Heard, Object, Reply};

/// How an answer of words ends; `None` for all others.
pub fn ending(answer: &Value) -> Option<&'static str> {
    let [choice] = list(peek(answer, "choices")) else {
        return None;
    };
    let message = peek(choice, "message");
    let is_text = |name: &&str| matches!(peek(message, name), Value::Null | Value::String(_));
    let is_plain = message.is_object()
        && ["content", "refusal"].iter().chain(&REASONING).all(is_text)
        && (peek(message, "tool_calls").is_null() || *peek(message, "tool_calls") == json!([]))
        && peek(message, "function_call").is_null()
        && peek(answer, "error").is_null();
    if !is_plain {
        return None;
    }
    Some(match Ending::read(peek(choice, "finish_reason").as_str()?).ok()? {
        Ending::Stop | Ending::ToolCalls => "stop",
        Ending::Length => "length",
        Ending::ContentFilter => "content_filter",
    })
}

/// What such an answer says of its cost.
pub fn heard(answer: &Value) -> Heard {
    Heard {
        usage: usage::read(Protocol::Chat, peek(answer, "usage")),
        nano_aiu: usage::nano_aiu(answer),
        kept: Vec::new(),
    }
}

/// The answer as a strict client takes it: nothing is missing, in the usual order, and nothing of Copilot's own is left.
pub fn edited(answer: Value, ending: &str, reply: &Reply, ids: &mut Ids) -> Value {
    let mut answer = object(answer);
    let mut take = |name: &str| answer.shift_remove(name).unwrap_or_default();
    let id = match take("id") {
        Value::String(id) if !id.is_empty() => id,
        _ => ids.mint("chatcmpl-"),
    };
    let created = take("created");
    let created = created
        .as_u64()
        .or_else(|| created.as_f64().map(|seconds| seconds as u64));
    let created = created.filter(|&created| created > 0).unwrap_or(ids.created);
    let (mut choices, mut usage) = (take("choices"), take("usage"));
    let choice = choices.get_mut(0).map(Value::take).unwrap_or_default();
    let mut told = Object::new();
    told.insert("id".into(), id.into());
    told.insert("object".into(), "chat.completion".into());
    told.insert("created".into(), created.into());
    told.insert("model".into(), reply.model.as_str().into());
    told.insert("choices".into(), json!([edited_choice(object(choice), ending, reply)]));
    if let Value::Object(usage) = &mut usage {
        usage.retain(|name, _| !name.starts_with("copilot_"));
    }
    if reply.include_usage && !usage.is_null() {
        told.insert("usage".into(), usage);
    }
    for (name, value) in answer {
        if !matches!(name.as_str(), "object" | "model" | "error" | "message") && !is_own(&name) {
            told.insert(name, value);
        }
    }
    told.entry("system_fingerprint").or_insert(Value::Null);
    told.into()
}

fn edited_choice(mut choice: Object, ending: &str, reply: &Reply) -> Object {
    let message = choice.shift_remove("message").unwrap_or_default();
    let mut told = Object::new();
    told.insert("index".into(), 0.into());
    told.insert("message".into(), edited_message(object(message), reply).into());
    told.insert("logprobs".into(), choice.shift_remove("logprobs").unwrap_or_default());
    told.insert("finish_reason".into(), ending.into());
    let known = |name: &str| matches!(name, "index" | "delta" | "finish_reason");
    told.extend(
        choice
            .into_iter()
            .filter(|(name, value)| !known(name) && !is_own(name) && !value.is_null()),
    );
    told
}

fn edited_message(mut message: Object, reply: &Reply) -> Object {
    let mut told = Object::new();
    told.insert("role".into(), "assistant".into());
    let content = message.shift_remove("content").filter(Value::is_string);
    told.insert("content".into(), content.unwrap_or_else(|| "".into()));
    told.insert("refusal".into(), message.shift_remove("refusal").unwrap_or_default());
    let mut reasoning = REASONING.map(|name| message.shift_remove(name).filter(Value::is_string));
    if let [Some(text), alias @ None, ..] = &mut reasoning
        && reply.reasoning_alias
    {
        *alias = Some(text.clone());
    }
    for (name, text) in REASONING.into_iter().zip(reasoning) {
        told.extend(text.map(|text| (name.to_owned(), text)));
    }
    let has_state = |opaque: &Value| opaque.as_str().is_some_and(|opaque| !opaque.is_empty());
    let opaque = message.shift_remove("reasoning_opaque").filter(has_state);
    told.extend(opaque.map(|opaque| ("reasoning_opaque".to_owned(), opaque)));
    let known = |name: &str| matches!(name, "role" | "padding" | "tool_calls" | "function_call");
    told.extend(
        message
            .into_iter()
            .filter(|(name, value)| !known(name) && !is_own(name) && !value.is_null()),
    );
    told
}

fn object(value: Value) -> Object {
    match value {
        Value::Object(object) => object,
        _ => Object::new(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::translate::native::chat::Relay;
    use crate::translate::rules::any_json;
    use crate::translate::{Translator, fold};

    fn relay() -> Relay {
        let reply = Reply {
            model: "asked".into(),
            include_usage: true,
            reasoning_alias: true,
            ..Reply::default()
        };
        Relay::new(reply, Ids::new("req", 9))
    }

    /// What the short way makes of an answer of words, if it is one, is what the long way makes of it.
    fn agrees(answer: Value) -> Option<Value> {
        ending(&answer)?;
        let (mut short, mut long) = (relay(), relay());
        let told = short.answer(answer.clone()).unwrap();
        let by_stream = fold::through(Protocol::Chat, &mut long, answer).unwrap();
        assert_eq!(told.to_string(), by_stream.to_string());
        assert_eq!(
            (short.heard().usage, short.heard().nano_aiu),
            (long.heard().usage, long.heard().nano_aiu)
        );
        assert!(short.is_over());
        Some(told)
    }

    #[test]
    fn k168_an_answer_of_words_is_what_its_stream_amounts_to() {
        let told = agrees(json!({
            "choices": [{"index": 3, "content_filter_results": {}, "finish_reason": "stop", "message": {
                "content": "a", "role": "assistant", "padding": "p", "reasoning_text": "hm", "reasoning_opaque": "S",
                "annotations": [{"type": "url_citation"}], "copilot_annotations": {}, "odd": null}}],
            "created": 7, "id": "c", "model": "ran", "object": "odd", "prompt_filter_results": [],
            "system_fingerprint": "fp", "usage": {"prompt_tokens": 3, "copilot_usage": {"total_nano_aiu": 5}}}));
        assert_eq!(
            told.unwrap().to_string(),
            r#"{"id":"c","object":"chat.completion","created":7,"model":"asked","choices":[{"index":0,"message":{"role":"assistant","content":"a","refusal":null,"reasoning_text":"hm","reasoning_content":"hm","reasoning_opaque":"S","annotations":[{"type":"url_citation"}]},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":3},"system_fingerprint":"fp"}"#
        );
        let one = |message: Value| json!({"choices": [{"message": message, "finish_reason": "length"}]});
        for message in [
            json!({}),
            json!({"content": null, "refusal": "no"}),
            json!({"content": "", "tool_calls": []}),
        ] {
            assert!(agrees(one(message)).is_some());
        }
        for other in [
            one(json!({"tool_calls": [{"id": "t", "function": {"name": "f"}}]})),
            one(json!({"content": [{"type": "text", "text": "a"}]})),
            json!({"choices": [{"message": {"content": "a"}}]}),
            json!({"choices": []}),
        ] {
            assert_eq!(agrees(other), None);
        }
    }

    /// Reading a fraction again may change its last digit, and only the long way does.
    fn without_fractions(value: Value) -> Value {
        match value {
            Value::Number(number) if number.is_f64() => Value::Null,
            Value::Array(list) => list.into_iter().map(without_fractions).collect(),
            Value::Object(object) => {
                let fields = object.into_iter();
                fields.map(|(name, value)| (name, without_fractions(value))).collect()
            }
            value => value,
        }
    }

    proptest! {
        #[test]
        fn whatever_an_answer_of_words_holds_both_ways_agree(
            message in proptest::collection::hash_map("content|refusal|reasoning_text|reasoning_opaque|padding|other", any_json(), 0..4),
            choice in proptest::collection::hash_map("logprobs|index|other", any_json(), 0..3),
            mut answer in proptest::collection::hash_map("id|created|usage|system_fingerprint|other", any_json(), 0..4),
        ) {
            let mut choice: Object = choice.into_iter().collect();
            choice.insert("message".into(), json!(message));
            choice.insert("finish_reason".into(), "stop".into());
            answer.insert("choices".into(), json!([choice]));
            agrees(without_fractions(json!(answer)));
        }
    }
}
