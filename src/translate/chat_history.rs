//! A Chat history put in the order Copilot demands: after an answer that calls tools come the results, one for each
//! call and in the calls' order, then all else. Knows not where the history came from.

use serde_json::{Value, json};

use super::rules::cache_marks;
use super::rules::thoughts::{self, Thought};
use super::rules::tools::Call;
use super::{Context, Object, calls};
use crate::protocol::catalog::Model;

/// Between the texts of one system prompt, or of one answer.
pub const JOINT: &str = "\n\n";
/// Said in a result that holds images only.
const ONLY_IMAGES: &str = "[image]";

/// How a history's gaps are filled.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// The result of a call that has none.
    pub no_result: &'static str,
    /// What joins the texts of one result; `None` leaves them a list.
    pub joint: Option<&'static str>,
}

/// An answer's calls, until all have their results.
#[derive(Debug, Default)]
struct Round {
    /// In the order they were made.
    calls: Vec<Asked>,
    /// Messages that came too early.
    after: Vec<Value>,
}

/// One call of a round.
#[derive(Debug)]
struct Asked {
    id: String,
    result: Option<Value>,
    /// What the result showed, labelled; Chat shows images to a person's message only.
    shown: Vec<Value>,
}

/// Puts the messages in order.
pub fn settle(messages: Vec<Value>, style: Style) -> Vec<Value> {
    let mut settled = Vec::with_capacity(messages.len());
    let mut round = Round::default();
    for message in messages {
        match message["role"].as_str() {
            Some("tool") => round.result(message, style),
            Some("assistant") => {
                round.close(&mut settled, style);
                round = Round::of(&message);
                settled.push(message);
            }
            _ if round.is_open() => round.after.push(message),
            _ => {
                round.close(&mut settled, style);
                settled.push(message);
            }
        }
    }
    round.close(&mut settled, style);
    merge_users(settled)
}

impl Round {
    fn of(answer: &Value) -> Self {
        let calls = answer["tool_calls"].as_array().into_iter().flatten();
        let ids = calls.filter_map(|call| call["id"].as_str());
        let asked = |id: &str| Asked {
            id: id.to_owned(),
            result: None,
            shown: Vec::new(),
        };
        Self {
            calls: ids.map(asked).collect(),
            ..Self::default()
        }
    }

    fn is_open(&self) -> bool {
        self.calls.iter().any(|call| call.result.is_none())
    }

    /// Takes a result. A second one for a call is dropped; one that no call asked for becomes a person's text.
    fn result(&mut self, mut message: Value, style: Style) {
        let id = message["tool_call_id"].as_str().unwrap_or_default().to_owned();
        let (text, shown) = part(message["content"].take(), style);
        let label = format!("Image from tool result {id}:");
        let labelled = shown.into_iter().flat_map(|image| [text_part(&label), image]);
        match self.calls.iter_mut().find(|call| call.id == id) {
            Some(call) if call.result.is_some() => {}
            Some(call) => {
                message["content"] = text;
                call.result = Some(message);
                call.shown = labelled.collect();
            }
            None => {
                let said = text.as_str().map_or_else(|| text.to_string(), str::to_owned);
                let orphan = text_part(format!("[orphaned tool result {id}] {said}").trim_end());
                let parts = std::iter::once(orphan).chain(labelled).collect();
                self.after.push(json!({"role": "user", "content": content(parts)}));
            }
        }
    }

    fn close(&mut self, messages: &mut Vec<Value>, style: Style) {
        let Self { calls, after } = std::mem::take(self);
        let mut seen = Vec::new();
        for Asked { id, result, mut shown } in calls {
            let none = || json!({"role": "tool", "tool_call_id": id, "content": style.no_result});
            messages.push(result.unwrap_or_else(none));
            seen.append(&mut shown);
        }
        if !seen.is_empty() {
            messages.push(json!({"role": "user", "content": seen}));
        }
        messages.extend(after);
    }
}

/// One answer under way: Chat has one message for all that it says, thinks and calls.
#[derive(Debug, Default)]
pub struct Answer {
    texts: Vec<String>,
    thoughts: Vec<Thought>,
    calls: Vec<Value>,
    /// The first call's id as the client wrote it.
    first: String,
}

impl Answer {
    pub fn say(&mut self, text: impl Into<String>) {
        self.texts.push(text.into());
    }

    pub fn think(&mut self, thoughts: Vec<Thought>) {
        self.thoughts.extend(thoughts);
    }

    /// Adds a call under the id that upstream is to know it by.
    pub fn call(&mut self, call: Call, id: &str, context: &Context) {
        let mut written = call.chat(id);
        if let Some(written) = written.as_object_mut() {
            calls::restore(written, &call.id, &self.thoughts, context.memory, context.model);
        }
        if self.calls.is_empty() {
            self.first = call.id;
        }
        self.calls.push(written);
    }

    /// The message; none where the answer neither said nor called anything. Reasoning that the client has lost is that
    /// which was kept for the first call.
    pub fn message(mut self, context: &Context) -> Option<Value> {
        self.texts.retain(|text| !text.trim().is_empty());
        if self.texts.is_empty() && self.calls.is_empty() {
            return None;
        }
        let content = (!self.texts.is_empty()).then(|| self.texts.join(JOINT));
        let mut message = Object::new();
        message.insert("role".into(), json!("assistant"));
        message.insert("content".into(), json!(content));
        if self.thoughts.is_empty() && !self.calls.is_empty() {
            self.thoughts = thoughts::kept(context.memory, &self.first, context.model);
        }
        thoughts::to_chat(&self.thoughts, &mut message, context.model);
        if !self.calls.is_empty() {
            message.insert("tool_calls".into(), Value::Array(self.calls));
        }
        Some(Value::Object(message))
    }
}

/// A result's text, and what of it only a person's message can show.
fn part(content: Value, style: Style) -> (Value, Vec<Value>) {
    let Value::Array(parts) = content else {
        return (content, Vec::new());
    };
    let (texts, shown): (Vec<Value>, Vec<Value>) = parts
        .into_iter()
        .partition(|part| part["type"] == "text" || part["text"].is_string());
    if texts.is_empty() && !shown.is_empty() {
        return (json!(ONLY_IMAGES), shown);
    }
    let text = match style.joint {
        Some(joint) => {
            let texts: Vec<&str> = texts.iter().filter_map(|part| part["text"].as_str()).collect();
            json!(texts.join(joint))
        }
        None => Value::Array(texts),
    };
    (text, shown)
}

/// Joins neighbouring messages of a person into one.
fn merge_users(messages: Vec<Value>) -> Vec<Value> {
    let mut merged: Vec<Value> = Vec::with_capacity(messages.len());
    for message in messages {
        match (merged.last_mut(), message) {
            (Some(Value::Object(last)), Value::Object(mut message))
                if last.get("role").is_some_and(|role| role == "user")
                    && message.get("role").is_some_and(|role| role == "user") =>
            {
                let before = last.get_mut("content").map(Value::take).unwrap_or_default();
                let after = message.get_mut("content").map(Value::take).unwrap_or_default();
                last.extend(message);
                last.insert("content".into(), joined(before, after));
            }
            (_, message) => merged.push(message),
        }
    }
    merged
}

/// Two contents as one: a text while both are, else their parts.
fn joined(before: Value, after: Value) -> Value {
    match (before, after) {
        (Value::String(before), Value::String(after)) => json!(format!("{before}{JOINT}{after}")),
        (before, after) => {
            let mut parts = parts_of(before);
            parts.extend(parts_of(after));
            Value::Array(parts)
        }
    }
}

fn parts_of(content: Value) -> Vec<Value> {
    match content {
        Value::Array(parts) => parts,
        Value::String(text) if !text.is_empty() => vec![text_part(&text)],
        _ => Vec::new(),
    }
}

fn text_part(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

/// Parts as a message's content: one text where there is nothing but text.
pub fn content(parts: Vec<Value>) -> Value {
    let texts: Option<Vec<&str>> = parts
        .iter()
        .map(|part| part["text"].as_str().filter(|_| part["type"] == "text"))
        .collect();
    match texts {
        Some(texts) => json!(texts.join(JOINT)),
        None => Value::Array(parts),
    }
}

const MARK: &str = "copilot_cache_control";

/// Remembers that the client marked this message for the cache.
pub fn want_mark(message: &mut Object) {
    message.insert(MARK.into(), json!({"type": "ephemeral"}));
}

/// Marks a finished history for the cache: where the client wanted it, else where it helps.
pub fn mark(messages: &mut [Value], model: &Model) {
    let mut wanted = Vec::new();
    for (at, message) in messages.iter_mut().enumerate() {
        if message
            .as_object_mut()
            .and_then(|message| message.shift_remove(MARK))
            .is_some()
        {
            wanted.push(at);
        }
    }
    cache_marks::mark_chat(messages, &wanted, model);
}

/// Whether a model takes system messages anywhere, and a developer's as such; others know one at the beginning.
pub fn knows_developers(model: &Model) -> bool {
    model.is_gpt() || model.is_reasoning_gpt()
}

/// A system message between the others, as words for a person's message; for models that know only a first one.
pub fn reminder(text: &str) -> String {
    format!("<system-reminder>\n{text}\n</system-reminder>")
}

#[cfg(test)]
mod tests {
    use super::*;

    const STYLE: Style = Style {
        no_result: "none",
        joint: Some("\n\n"),
    };

    fn calls(ids: &[&str]) -> Value {
        let calls: Vec<Value> = ids.iter().map(|id| json!({"id": id})).collect();
        json!({"role": "assistant", "content": null, "tool_calls": calls})
    }

    fn result(id: &str, content: Value) -> Value {
        json!({"role": "tool", "tool_call_id": id, "content": content})
    }

    fn user(content: Value) -> Value {
        json!({"role": "user", "content": content})
    }

    #[test]
    fn results_stand_in_the_calls_order_before_all_else() {
        let settled = settle(
            vec![
                user(json!("go")),
                calls(&["a", "b"]),
                user(json!("hurry")),
                result("b", json!("2")),
                result("a", json!("1")),
                user(json!("and?")),
            ],
            STYLE,
        );
        assert_eq!(
            settled,
            [
                user(json!("go")),
                calls(&["a", "b"]),
                result("a", json!("1")),
                result("b", json!("2")),
                user(json!("hurry\n\nand?")),
            ]
        );
    }

    #[test]
    fn gaps_are_filled_repeats_dropped_and_strays_told() {
        let settled = settle(
            vec![
                calls(&["a", "b"]),
                result("a", json!("1")),
                result("a", json!("again")),
                result("x", json!([{"type": "text", "text": "lost"}])),
                calls(&["c"]),
            ],
            STYLE,
        );
        assert_eq!(
            settled,
            [
                calls(&["a", "b"]),
                result("a", json!("1")),
                result("b", json!("none")),
                user(json!("[orphaned tool result x] lost")),
                calls(&["c"]),
                result("c", json!("none")),
            ]
        );
    }

    #[test]
    fn images_of_results_follow_them() {
        let image = json!({"type": "image_url", "image_url": {"url": "data:"}});
        let settled = settle(
            vec![
                calls(&["a", "b"]),
                result("a", json!([{"type": "text", "text": "x"}, image])),
                result("b", json!([image])),
                user(json!("look")),
            ],
            STYLE,
        );
        let label = |id: &str| text_part(&format!("Image from tool result {id}:"));
        assert_eq!(
            settled[1..],
            [
                result("a", json!("x")),
                result("b", json!("[image]")),
                user(json!([label("a"), image, label("b"), image, text_part("look")])),
            ]
        );
    }

    #[test]
    fn k004_each_image_is_labelled_and_they_stand_in_the_calls_order() {
        let image = json!({"type": "image_url", "image_url": {"url": "data:"}});
        let settled = settle(
            vec![
                calls(&["a", "b"]),
                result("b", json!([image, image])),
                result("a", json!([image])),
            ],
            STYLE,
        );
        let label = |id: &str| text_part(&format!("Image from tool result {id}:"));
        assert_eq!(
            settled[3],
            user(json!([label("a"), image, label("b"), image, label("b"), image]))
        );
    }
}
