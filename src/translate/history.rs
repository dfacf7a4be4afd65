//! A Messages history put in the order Copilot demands, and the calls of any history. Knows neither models nor tools.

use serde_json::{Value, json};

use super::Object;
use super::rules::{peek, peek_mut};
use crate::protocol::Protocol;

/// Said where a history needs a message of a person and has none.
pub const NOTHING_SAID: &str = ".";
const GO_ON: &str = "Please continue.";
const NO_RESULT: &str = "Tool result unavailable.";

/// All that a Messages history must be: neighbours of one role joined, nothing empty, each call followed by its one
/// result before all else, a person first and last. System messages between the others are left as they are; where the
/// model does not take them, [`fold_system`] comes first.
pub fn mend(messages: &mut Vec<Value>) {
    messages.retain(Value::is_object);
    merge_same_role(messages);
    drop_empty(messages);
    results_first(messages);
    pair_results(messages);
    merge_same_role(messages);
    person_first_and_last(messages);
}

/// Takes the `system` messages before all others out of the history, as the text blocks they amount to.
pub fn take_leading_system(messages: &mut Vec<Value>) -> Vec<Value> {
    let leading = messages.iter().take_while(|message| is(message, "system")).count();
    messages
        .drain(..leading)
        .flat_map(|mut message| blocks_of(take(&mut message, "content")))
        .collect()
}

/// Folds `system` messages between the others into the user messages before them. True if there was one.
pub fn fold_system(messages: &mut Vec<Value>) -> bool {
    let before = messages.len();
    let mut folded: Vec<Value> = Vec::with_capacity(before);
    let mut found = false;
    for mut message in messages.drain(..) {
        if !is(&message, "system") {
            folded.push(message);
            continue;
        }
        found = true;
        let blocks = blocks_of(take(&mut message, "content"));
        let texts = blocks.iter().filter_map(|block| peek(block, "text").as_str());
        let texts: Vec<&str> = texts.filter(|text| !text.trim().is_empty()).collect();
        if texts.is_empty() {
            continue;
        }
        let reminder = vec![reminder(&texts.join("\n\n"))];
        match folded.iter_mut().rfind(|earlier| is(earlier, "user")) {
            Some(person) => append(person, reminder),
            None => folded.push(json!({"role": "user", "content": reminder})),
        }
    }
    *messages = folded;
    found
}

fn reminder(text: &str) -> Value {
    json!({"type": "text", "text": format!("<system-reminder>\n{text}\n</system-reminder>")})
}

/// Joins neighbours of the same role into one message.
pub fn merge_same_role(messages: &mut Vec<Value>) {
    let mut merged: Vec<Value> = Vec::with_capacity(messages.len());
    for mut message in messages.drain(..) {
        match merged.last_mut() {
            Some(last) if last.is_object() && message.is_object() && peek(last, "role") == peek(&message, "role") => {
                append(last, blocks_of(take(&mut message, "content")));
            }
            _ => merged.push(message),
        }
    }
    *messages = merged;
}

/// Removes text blocks that say nothing, and messages that are left with nothing.
fn drop_empty(messages: &mut Vec<Value>) {
    for message in messages.iter_mut() {
        match peek_mut(message, "content") {
            Some(Value::Array(blocks)) => blocks.retain(|block| !is_blank(block)),
            Some(content) if !is_blank_content(content) => {}
            _ => message["content"] = json!([]),
        }
    }
    let is_empty = |message: &Value| peek(message, "content").as_array().is_some_and(Vec::is_empty);
    if let Some(first) = messages.first_mut()
        && is(first, "user")
        && is_empty(first)
    {
        first["content"] = json!([{"type": "text", "text": NOTHING_SAID}]);
    }
    messages.retain(|message| !is_empty(message));
    merge_same_role(messages);
}

fn is_blank(block: &Value) -> bool {
    peek(block, "type") == "text" && peek(block, "text").as_str().is_none_or(|text| text.trim().is_empty())
}

fn is_blank_content(content: &Value) -> bool {
    content.as_str().is_none_or(|text| text.trim().is_empty())
}

/// In each message of a person, moves the results before all else; their order and that of the rest stay.
fn results_first(messages: &mut [Value]) {
    for message in messages.iter_mut().filter(|message| is(message, "user")) {
        if let Some(blocks) = peek_mut(message, "content").and_then(Value::as_array_mut) {
            blocks.sort_by_key(|block| peek(block, "type") != "tool_result");
        }
    }
}

/// Gives each call exactly one result, in the message after it, and turns results without a call into text.
fn pair_results(messages: &mut Vec<Value>) {
    let mut paired: Vec<Value> = Vec::with_capacity(messages.len());
    let mut open: Vec<String> = Vec::new();
    for mut message in messages.drain(..) {
        if is(&message, "user") {
            answer(&mut message, &open);
            open.clear();
        } else if is(&message, "assistant") {
            close(&mut paired, &mut open);
            open = calls_in(&message);
        }
        paired.push(message);
    }
    close(&mut paired, &mut open);
    *messages = paired;
}

/// Adds a message of results for calls that nobody answered.
fn close(messages: &mut Vec<Value>, open: &mut Vec<String>) {
    if !open.is_empty() {
        let results: Vec<Value> = open.drain(..).map(|id| no_result(&id)).collect();
        messages.push(json!({"role": "user", "content": results}));
    }
}

/// Makes one message the answer to the open calls.
fn answer(message: &mut Value, open: &[String]) {
    if open.is_empty() && peek(message, "content").is_string() {
        return;
    }
    let mut blocks = blocks_of(take(message, "content"));
    // Some models give several calls the same id: each of them waits for a result of its own.
    let mut waiting: Vec<&str> = open.iter().map(String::as_str).collect();
    let mut orphans = Vec::new();
    blocks.retain(|block| {
        if peek(block, "type") != "tool_result" {
            return true;
        }
        let id = peek(block, "tool_use_id").as_str().unwrap_or_default();
        let found = waiting.iter().position(|call| *call == id);
        if let Some(at) = found {
            waiting.remove(at);
        } else if !open.iter().any(|call| call == id) {
            orphans.push(orphan(id, peek(block, "content")));
        }
        found.is_some()
    });
    let missing: Vec<Value> = waiting.into_iter().map(no_result).collect();
    let results = blocks
        .iter()
        .take_while(|block| peek(block, "type") == "tool_result")
        .count();
    blocks.splice(results..results, missing.into_iter().chain(orphans));
    message["content"] = Value::Array(blocks);
}

fn no_result(id: &str) -> Value {
    json!({"type": "tool_result", "tool_use_id": id, "is_error": true, "content": NO_RESULT})
}

fn orphan(id: &str, content: &Value) -> Value {
    let said: Vec<String> = blocks_of(content.clone())
        .iter()
        .map(|block| match (peek(block, "type").as_str(), peek(block, "text")) {
            (_, Value::String(text)) => text.clone(),
            (Some(kind), _) if peek(block, "source")["type"] == "base64" => format!("[{kind}]"),
            _ => block.to_string(),
        })
        .collect();
    let text = format!("[orphaned tool result {id}] {}", said.join("\n\n"));
    json!({"type": "text", "text": text.trim_end()})
}

/// A person speaks first, and last: Copilot refuses an answer that is already begun.
fn person_first_and_last(messages: &mut Vec<Value>) {
    let person = |text: &str| json!({"role": "user", "content": [{"type": "text", "text": text}]});
    if messages
        .iter()
        .find(|message| !is(message, "system"))
        .is_none_or(|first| !is(first, "user"))
    {
        messages.insert(0, person(NOTHING_SAID));
    }
    if messages
        .iter()
        .rfind(|message| !is(message, "system"))
        .is_some_and(|last| is(last, "assistant"))
    {
        messages.push(person(GO_ON));
    }
}

/// The ids of the calls in a history, in order, as the client wrote them.
pub fn call_ids(client: Protocol, body: &Object) -> Vec<String> {
    let key = if client == Protocol::Responses {
        "input"
    } else {
        "messages"
    };
    let history = body.get(key).and_then(Value::as_array).into_iter().flatten();
    match client {
        Protocol::Messages => history.flat_map(calls_in).collect(),
        Protocol::Chat => history
            .flat_map(|message| peek(message, "tool_calls").as_array().into_iter().flatten())
            .filter_map(|call| Some(peek(call, "id").as_str()?.to_owned()))
            .collect(),
        Protocol::Responses => history
            .filter(|item| peek(item, "type").as_str().is_some_and(|kind| kind.ends_with("_call")))
            .filter_map(|item| Some(peek(item, "call_id").as_str()?.to_owned()))
            .collect(),
    }
}

/// The ids of the calls in one Messages message.
fn calls_in(message: &Value) -> Vec<String> {
    let blocks = peek(message, "content").as_array().into_iter().flatten();
    blocks
        .filter(|block| peek(block, "type") == "tool_use")
        .filter_map(|block| peek(block, "id").as_str().map(str::to_owned))
        .collect()
}

fn is(message: &Value, role: &str) -> bool {
    peek(message, "role") == role
}

/// A field, with null left in its place.
fn take(value: &mut Value, name: &str) -> Value {
    peek_mut(value, name).map(Value::take).unwrap_or_default()
}

/// A content as blocks: a text is one block, nothing is none.
pub fn blocks_of(content: Value) -> Vec<Value> {
    match content {
        Value::Array(blocks) => blocks,
        Value::String(text) => vec![json!({"type": "text", "text": text})],
        _ => Vec::new(),
    }
}

fn append(message: &mut Value, mut more: Vec<Value>) {
    if let Some(message) = message.as_object_mut() {
        let mut blocks = blocks_of(message.get_mut("content").map(Value::take).unwrap_or_default());
        blocks.append(&mut more);
        message.insert("content".into(), Value::Array(blocks));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::translate::rules::any_json;

    fn mended(messages: Value) -> Value {
        let mut messages = messages.as_array().unwrap().clone();
        mend(&mut messages);
        json!(messages)
    }

    fn text(text: &str) -> Value {
        json!({"type": "text", "text": text})
    }

    fn call(id: &str) -> Value {
        json!({"type": "tool_use", "id": id, "name": "f", "input": {}})
    }

    fn result(id: &str) -> Value {
        json!({"type": "tool_result", "tool_use_id": id, "content": "r"})
    }

    #[test]
    fn k002_results_come_before_the_text_beside_them() {
        let history = json!([{"role": "user", "content": "go"}, {"role": "assistant", "content": [call("t1")]},
            {"role": "user", "content": [text("T"), result("t1")]}]);
        assert_eq!(mended(history)[2]["content"], json!([result("t1"), text("T")]));
    }

    #[test]
    fn k007_a_call_without_a_result_gets_one() {
        let history = json!([{"role": "user", "content": "go"}, {"role": "assistant", "content": [call("t1")]},
            {"role": "user", "content": "next"}]);
        let mended = mended(history);
        let expected = json!([{"type": "tool_result", "tool_use_id": "t1", "is_error": true, "content": NO_RESULT},
            text("next")]);
        assert_eq!(mended[2]["content"], expected);
    }

    #[test]
    fn k007_also_where_nobody_answers_at_all() {
        let history = json!([{"role": "user", "content": "go"}, {"role": "assistant", "content": [call("t1")]}]);
        assert_eq!(mended(history)[2]["content"][0]["tool_use_id"], "t1");
    }

    #[test]
    fn k008_a_result_without_a_call_becomes_text() {
        let history = json!([{"role": "user", "content": [result("t9"), text("hi")]}]);
        assert_eq!(
            mended(history)[0]["content"],
            json!([text("[orphaned tool result t9] r"), text("hi")])
        );
        let image = json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}});
        let seen = json!({"type": "tool_result", "tool_use_id": "t9", "content": [text("r"), image]});
        assert_eq!(
            mended(json!([{"role": "user", "content": [seen]}]))[0]["content"],
            json!([text("[orphaned tool result t9] r\n\n[image]")])
        );
    }

    #[test]
    fn k009_a_second_result_is_dropped() {
        let history = json!([{"role": "user", "content": "go"}, {"role": "assistant", "content": [call("t1")]},
            {"role": "user", "content": [result("t1"), {"type": "tool_result", "tool_use_id": "t1", "content": "2"}]}]);
        assert_eq!(mended(history)[2]["content"], json!([result("t1")]));
    }

    #[test]
    fn k009_calls_of_one_id_have_a_result_each() {
        let calls =
            json!([{"role": "user", "content": "go"}, {"role": "assistant", "content": [call("t1"), call("t1")]}]);
        let answered = |results: Value| {
            let mut history = calls.clone();
            history
                .as_array_mut()
                .unwrap()
                .push(json!({"role": "user", "content": results}));
            mended(history)[2]["content"].clone()
        };
        let missing = no_result("t1");
        assert_eq!(answered(json!([result("t1")])), json!([result("t1"), missing]));
        let both = json!([result("t1"), result("t1")]);
        assert_eq!(answered(json!([result("t1"), result("t1"), result("t1")])), both);
    }

    #[test]
    fn k013_empty_text_goes_and_so_does_an_answer_that_was_nothing_else() {
        let history = json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": [text(" ")]},
            {"role": "user", "content": "b"}, {"role": "assistant", "content": [text(""), call("t1")]},
            {"role": "user", "content": [result("t1")]}]);
        let mended = mended(history);
        assert_eq!(mended[0], json!({"role": "user", "content": [text("a"), text("b")]}));
        assert_eq!(mended[1]["content"], json!([call("t1")]));
        assert_eq!(mended.as_array().unwrap().len(), 3);
    }

    #[test]
    fn k014_neighbours_of_one_role_join() {
        let history = json!([{"role": "user", "content": "a"}, {"role": "user", "content": [text("b")]}]);
        assert_eq!(
            mended(history),
            json!([{"role": "user", "content": [text("a"), text("b")]}])
        );
    }

    #[test]
    fn k015_an_answer_already_begun_is_followed_by_a_request_to_go_on() {
        let history = json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "{"}]);
        assert_eq!(mended(history)[2]["content"], json!([text(GO_ON)]));
    }

    #[test]
    fn a_history_begins_with_a_person() {
        let history = json!([{"role": "assistant", "content": "hi"}, {"role": "user", "content": "a"}]);
        assert_eq!(mended(history)[0]["content"], json!([text(".")]));
        assert_eq!(
            mended(json!([{"role": "user", "content": ""}]))[0]["content"],
            json!([text(".")])
        );
    }

    #[test]
    fn k034_a_later_system_message_becomes_a_reminder_after_the_results() {
        let history = json!([{"role": "user", "content": "go"}, {"role": "assistant", "content": [call("t1")]},
            {"role": "user", "content": [result("t1")]}, {"role": "system", "content": "mind"}]);
        let mut messages = history.as_array().unwrap().clone();
        assert!(fold_system(&mut messages));
        let reminder = text("<system-reminder>\nmind\n</system-reminder>");
        assert_eq!(messages[2]["content"], json!([result("t1"), reminder]));
        assert!(!fold_system(&mut messages));
        let mut messages = vec![json!({"role": "system", "content": [text("a"), text(""), text("b")]})];
        fold_system(&mut messages);
        let reminder = text("<system-reminder>\na\n\nb\n</system-reminder>");
        assert_eq!(messages[0]["content"], json!([reminder]));
    }

    #[test]
    fn a_leading_system_message_joins_the_system_prompt() {
        let mut messages = vec![
            json!({"role": "system", "content": "S"}),
            json!({"role": "user", "content": "a"}),
        ];
        assert_eq!(take_leading_system(&mut messages), [text("S")]);
        assert_eq!(messages.len(), 1);
    }

    #[test]
    fn calls_are_found_in_every_protocol() {
        let bodies = [
            (
                Protocol::Messages,
                json!({"messages": [{"role": "assistant", "content": [call("a"), call("b")]}]}),
            ),
            (
                Protocol::Chat,
                json!({"messages": [{"tool_calls": [{"id": "a"}, {"id": "b"}]}]}),
            ),
            (
                Protocol::Responses,
                json!({"input": [{"type": "function_call", "call_id": "a"}, {"type": "function_call_output", "call_id": "a"},
                    {"type": "custom_tool_call", "call_id": "b"}]}),
            ),
        ];
        for (client, body) in bodies {
            assert_eq!(call_ids(client, body.as_object().unwrap()), ["a", "b"]);
        }
    }

    fn message() -> impl Strategy<Value = Value> {
        let block = prop_oneof![
            "[a-c ]{0,2}".prop_map(|said| text(&said)),
            "[ab]".prop_map(|id| call(&id)),
            "[abx]".prop_map(|id| result(&id)),
        ];
        let role = prop_oneof![Just("user"), Just("assistant")];
        (role, prop::collection::vec(block, 0..4)).prop_map(|(role, blocks)| {
            let fits = |block: &Value| {
                (block["type"] == "tool_use") <= (role == "assistant")
                    && (block["type"] == "tool_result") <= (role == "user")
            };
            json!({"role": role, "content": blocks.into_iter().filter(fits).collect::<Vec<_>>()})
        })
    }

    proptest! {
        #[test]
        fn a_mended_history_is_in_order(messages in prop::collection::vec(message(), 0..8)) {
            let mut messages = messages;
            mend(&mut messages);
            prop_assert_eq!(&messages[0]["role"], "user");
            prop_assert_eq!(&messages[messages.len() - 1]["role"], "user");
            for pair in messages.windows(2) {
                prop_assert_ne!(&pair[0]["role"], &pair[1]["role"]);
                let results: Vec<&str> = blocks(&pair[1])
                    .take_while(|block| block["type"] == "tool_result")
                    .filter_map(|block| block["tool_use_id"].as_str())
                    .collect();
                let mut calls = calls_in(&pair[0]);
                prop_assert_eq!(calls.len(), results.len());
                calls.retain(|id| !results.contains(&id.as_str()));
                prop_assert!(calls.is_empty());
            }
            for message in &messages {
                prop_assert!(blocks(message).next().is_some());
                prop_assert!(blocks(message).all(|block| !is_blank(block)));
            }
        }

        #[test]
        fn nonsense_harms_nobody(messages in prop::collection::vec(any_json(), 0..5)) {
            let mut mended = messages.clone();
            fold_system(&mut mended);
            take_leading_system(&mut mended);
            mend(&mut mended);
            for client in Protocol::ALL {
                let body = json!({"messages": messages, "input": messages});
                call_ids(client, body.as_object().unwrap());
            }
        }
    }

    fn blocks(message: &Value) -> impl Iterator<Item = &Value> {
        message["content"].as_array().into_iter().flatten()
    }
}
