//! Marks that tell upstream how far a prompt will come again. At most four are taken.

use serde_json::{Value, json};

use super::{list, peek, peek_mut};
use crate::protocol::catalog::Model;
use crate::translate::Object;

const MOST: usize = 4;

fn mark() -> Value {
    json!({"type": "ephemeral"})
}

/// Marks a Messages body that came from another protocol and has no marks: the end of the system prompt, of the tools,
/// of the last message of a person and of the one before it.
pub fn inject(out: &mut Object) {
    if out.values().any(is_marked) {
        return;
    }
    match out.get_mut("system") {
        Some(Value::String(text)) if !text.is_empty() => {
            let block = json!([{"type": "text", "text": text, "cache_control": mark()}]);
            out.insert("system".into(), block);
        }
        Some(Value::Array(blocks)) => mark_last(blocks, |_| true),
        _ => {}
    }
    if let Some(tools) = out.get_mut("tools").and_then(Value::as_array_mut) {
        mark_last(tools, |tool| tool["defer_loading"] != true);
    }
    let messages = out
        .get_mut("messages")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten();
    for message in messages.rev().filter(|message| peek(message, "role") == "user").take(2) {
        let text = peek(message, "content").as_str().filter(|text| !text.is_empty());
        if let Some(text) = text {
            message["content"] = json!([{"type": "text", "text": text}]);
        }
        if let Some(blocks) = message["content"].as_array_mut() {
            mark_last(blocks, |block| {
                !matches!(peek(block, "type").as_str(), Some("thinking" | "redacted_thinking"))
            });
        }
    }
}

fn mark_last(blocks: &mut [Value], takes: impl Fn(&Value) -> bool) {
    if let Some(block) = blocks
        .iter_mut()
        .rfind(|block| takes(block))
        .and_then(Value::as_object_mut)
    {
        block.insert("cache_control".into(), mark());
    }
}

/// Whether a Messages system prompt, tool, message or block holds a client's mark, at any depth.
pub fn is_marked(value: &Value) -> bool {
    match value {
        Value::Array(entries) => entries.iter().any(is_marked),
        Value::Object(object) => has_mark(value) || object.get("content").is_some_and(is_marked),
        _ => false,
    }
}

/// Marks the messages of a Chat body for the models that look for it. `marked` names the messages that the client
/// marked itself, by index; if there are any, only those, else the first two of the system and the last two others.
pub fn mark_chat(messages: &mut [Value], marked: &[usize], model: &Model) {
    if !model.is_claude() && !model.is_gemini() {
        return;
    }
    let is_system = |at: &usize| {
        messages
            .get(*at)
            .is_some_and(|message| peek(message, "role") == "system")
    };
    let (system, others): (Vec<usize>, Vec<usize>) = if marked.is_empty() {
        let (system, others): (Vec<usize>, Vec<usize>) = (0..messages.len()).partition(is_system);
        let recent = others.len().saturating_sub(2);
        (
            system.into_iter().take(2).collect(),
            others.into_iter().skip(recent).collect(),
        )
    } else {
        let (system, others): (Vec<usize>, Vec<usize>) = marked.iter().copied().partition(is_system);
        let system: Vec<usize> = system.into_iter().take(MOST).collect();
        let recent = others.len().saturating_sub(MOST - system.len());
        (system, others.into_iter().skip(recent).collect())
    };
    for at in system.into_iter().chain(others) {
        if let Some(message) = messages.get_mut(at).and_then(Value::as_object_mut) {
            message.insert("copilot_cache_control".into(), mark());
        }
    }
}

/// Brings a Messages body that keeps its protocol down to four marks, if it has more: the last of the tools, the last of
/// the system prompt, then the latest of the messages.
pub fn trim(body: &mut Object) {
    // A mark for the whole request is placed by the model, and is one of the four.
    let mut left = MOST - usize::from(body.get("cache_control").is_some_and(|mark| !mark.is_null()));
    let lists = ["tools", "system", "messages"];
    if lists
        .into_iter()
        .filter_map(|key| body.get(key))
        .map(count)
        .sum::<usize>()
        <= left
    {
        return;
    }
    let last_of = |value: Option<&Value>| value.map(list).unwrap_or_default().iter().rposition(has_mark);
    let tool = last_of(body.get("tools"));
    let system = last_of(body.get("system"));
    for (key, kept) in [("tools", tool), ("system", system)] {
        left -= usize::from(kept.is_some());
        for (at, entry) in body
            .get_mut(key)
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
            .enumerate()
        {
            if Some(at) != kept {
                unmark(entry);
            }
        }
    }
    // Unmarking the rest goes from the latest to the earliest; marks inside a result count as well.
    for message in body
        .get_mut("messages")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
        .rev()
    {
        if let Some(content) = peek_mut(message, "content") {
            trim_blocks(content, &mut left);
        }
    }
}

fn trim_blocks(content: &mut Value, left: &mut usize) {
    for block in content.as_array_mut().into_iter().flatten().rev() {
        if has_mark(block) {
            match left.checked_sub(1) {
                Some(fewer) => *left = fewer,
                None => unmark(block),
            }
        }
        if let Some(inner) = peek_mut(block, "content") {
            trim_blocks(inner, left);
        }
    }
}

/// The marks at any depth.
fn count(value: &Value) -> usize {
    match value {
        Value::Array(entries) => entries.iter().map(count).sum(),
        Value::Object(object) => usize::from(has_mark(value)) + object.get("content").map_or(0, count),
        _ => 0,
    }
}

fn has_mark(value: &Value) -> bool {
    !peek(value, "cache_control").is_null()
}

fn unmark(value: &mut Value) {
    if let Some(object) = value.as_object_mut() {
        object.shift_remove("cache_control");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translate::rules::model;

    #[test]
    fn a_body_without_marks_gets_four() {
        let mut out = json!({"system": "S", "tools": [{"name": "a"}, {"name": "b", "defer_loading": true}], "messages": [
            {"role": "user", "content": "1"}, {"role": "assistant", "content": "x"},
            {"role": "user", "content": "2"}, {"role": "assistant", "content": "y"},
            {"role": "user", "content": [{"type": "tool_result"}, {"type": "text", "text": "3"}]}]});
        inject(out.as_object_mut().unwrap());
        assert_eq!(out.to_string().matches("cache_control").count(), 4);
        assert_eq!(out["system"][0]["cache_control"], mark());
        assert_eq!(out["tools"][0]["cache_control"], mark());
        assert_eq!(out["messages"][4]["content"][1]["cache_control"], mark());
        assert_eq!(out["messages"][2]["content"][0]["cache_control"], mark());
        let same = out.clone();
        inject(out.as_object_mut().unwrap());
        assert_eq!(out, same);
    }

    #[test]
    fn k020_four_marks_stay() {
        let marked = |text: &str| json!({"type": "text", "text": text, "cache_control": {"type": "ephemeral"}});
        let mut body = json!({"tools": [marked("a"), marked("b")], "system": [marked("c"), marked("d")],
            "messages": [{"content": [marked("e")]}, {"content": [marked("f"), marked("g")]}]});
        trim(body.as_object_mut().unwrap());
        let kept = |value: &Value| has_mark(value);
        assert!(!kept(&body["tools"][0]) && kept(&body["tools"][1]));
        assert!(!kept(&body["system"][0]) && kept(&body["system"][1]));
        assert!(!kept(&body["messages"][0]["content"][0]));
        assert!(kept(&body["messages"][1]["content"][0]) && kept(&body["messages"][1]["content"][1]));
    }

    #[test]
    fn k020_up_to_four_marks_stay_wherever_they_are() {
        let marked = |text: &str| json!({"type": "text", "text": text, "cache_control": {"type": "ephemeral"}});
        let body = json!({"tools": [{"name": "t"}], "system": [marked("a"), marked("b")],
            "messages": [{"content": [marked("c")]}, {"content": [{"type": "tool_result", "content": [marked("d")]}]}]});
        let mut same = body.clone();
        trim(same.as_object_mut().unwrap());
        assert_eq!(same, body);
        let mut fifth = body;
        fifth["cache_control"] = mark();
        trim(fifth.as_object_mut().unwrap());
        assert!(!has_mark(&fifth["system"][0]) && has_mark(&fifth["system"][1]));
    }

    #[test]
    fn chat_is_marked_for_claude_alone() {
        let history = || -> Vec<Value> {
            ["system", "user", "assistant", "user"]
                .iter()
                .map(|role| json!({"role": role, "content": "x"}))
                .collect()
        };
        let marked = |messages: &[Value]| -> Vec<usize> {
            (0..messages.len())
                .filter(|at| messages[*at]["copilot_cache_control"].is_object())
                .collect()
        };
        let claude = model(json!({"id": "claude-sonnet-4.5"}));
        let mut messages = history();
        mark_chat(&mut messages, &[], &claude);
        assert_eq!(marked(&messages), [0, 2, 3]);
        let mut messages = history();
        mark_chat(&mut messages, &[1, 99], &claude);
        assert_eq!(marked(&messages), [1]);
        let mut messages = history();
        mark_chat(&mut messages, &[], &model(json!({"id": "gpt-4.1"})));
        assert!(marked(&messages).is_empty());
    }
}
