//! A Responses history put in the order Copilot demands. Knows neither models nor tools.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

use super::Tuning;
use super::rules::{images, peek, tools};
use crate::protocol::failure::{Failure, Kind};

/// The items of an `input`; a text is one message.
pub fn of(input: &Value) -> Vec<Value> {
    match input {
        Value::Array(items) => items.clone(),
        Value::String(text) => vec![message("user", &json!(text))],
        _ => Vec::new(),
    }
}

/// A message item; its content is a text or a list of parts.
pub fn message(role: &str, content: &Value) -> Value {
    json!({"type": "message", "role": role, "content": content})
}

/// Removes references to items that nobody keeps, or refuses them: a history may do without its reasoning, but hardly
/// without a message or a call.
pub fn resolve_references(items: &mut Vec<Value>, tuning: &Tuning) -> Result<(), Failure> {
    let is_reference = |item: &Value| peek(item, "type") == "item_reference";
    let id = |item: &Value| peek(item, "id").as_str().unwrap_or_default().to_owned();
    // What a model says before it calls a tool, the call says, too.
    let announces = |at: usize| {
        let mut rest = items.iter().skip(at).skip_while(|item| is_reference(item));
        rest.next().is_some_and(is_call)
    };
    let references = items.iter().enumerate().filter(|(_, item)| is_reference(item));
    let is_lost = |&(at, ref id): &(usize, String)| match id.split_once('_') {
        Some(("rs", _)) => false,
        Some(("msg", _)) => !announces(at),
        _ => true,
    };
    let lost = references.map(|(at, item)| (at, id(item))).find(is_lost);
    if let Some((_, id)) = lost.filter(|_| !tuning.drop_item_references) {
        return Err(Failure {
            param: Some("input".into()),
            ..Failure::new(Kind::NotFound, format!("Item with id '{id}' not found.")).with_code("item_not_found")
        });
    }
    items.retain(|item| !is_reference(item));
    Ok(())
}

/// The id that a call and its output share.
pub fn call_id(item: &Value) -> Option<&str> {
    [peek(item, "call_id"), peek(item, "id")]
        .into_iter()
        .find_map(Value::as_str)
}

/// Whether an item is a call that a client answers.
pub fn is_call(item: &Value) -> bool {
    output_kind(item).is_some()
}

/// The type of the output that answers a call.
fn output_kind(call: &Value) -> Option<&'static str> {
    Some(match peek(call, "type").as_str()? {
        "function_call" => "function_call_output",
        "custom_tool_call" => "custom_tool_call_output",
        "local_shell_call" => "local_shell_call_output",
        "shell_call" => "shell_call_output",
        "apply_patch_call" => "apply_patch_call_output",
        _ => return None,
    })
}

fn is_output(item: &Value) -> bool {
    matches!(
        peek(item, "type").as_str(),
        Some(
            "function_call_output"
                | "custom_tool_call_output"
                | "local_shell_call_output"
                | "shell_call_output"
                | "apply_patch_call_output"
        )
    )
}

/// Gives each call exactly one output, behind it; an output without a call becomes a text.
pub fn pair(items: Vec<Value>) -> Vec<Value> {
    let outputs = items.iter().enumerate().filter(|(_, item)| is_output(item));
    let last_output: HashMap<String, usize> = outputs
        .filter_map(|(at, item)| Some((call_id(item)?.to_owned(), at)))
        .collect();
    let (mut called, mut answered) = (HashSet::new(), HashSet::new());
    let mut paired = Vec::with_capacity(items.len());
    for (at, item) in items.into_iter().enumerate() {
        let id = call_id(&item).unwrap_or_default().to_owned();
        if is_call(&item) {
            let is_answered = last_output.get(&id).is_some_and(|output| *output > at);
            let missing = (!is_answered).then(|| no_output(&item, &id)).flatten();
            called.insert(id);
            paired.push(item);
            paired.extend(missing);
        } else if !is_output(&item) {
            paired.push(item);
        } else if !called.contains(&id) {
            paired.push(orphan(&item, &id));
        } else if answered.insert(id) {
            paired.push(item);
        }
    }
    paired
}

fn no_output(call: &Value, id: &str) -> Option<Value> {
    const ABORTED: &str = "aborted";
    let kind = output_kind(call)?;
    let mut output = json!({"type": kind, "call_id": id, "output": ABORTED});
    match kind {
        "shell_call_output" => {
            let outcome = json!({"type": "exit", "exit_code": 1});
            output["output"] = json!([{"stdout": "", "stderr": ABORTED, "outcome": outcome}]);
        }
        "apply_patch_call_output" => output["status"] = json!("failed"),
        _ => {}
    }
    Some(output)
}

fn orphan(output: &Value, id: &str) -> Value {
    let content = tools::output_of(output).map(|(_, content)| content).unwrap_or_default();
    let said = images::texts(&images::parts(&content));
    let text = format!("[orphaned tool output {id}] {said}");
    message("user", &json!(text.trim_end()))
}

/// Removes reasoning that nothing of its own answer follows: upstream refuses it.
pub fn drop_idle_reasoning(items: &mut Vec<Value>) {
    let mut kept: Vec<Value> = Vec::with_capacity(items.len());
    for item in items.drain(..).rev() {
        let is_followed = kept.last().is_some_and(|next| {
            peek(next, "type") == "reasoning" || peek(next, "role") == "assistant" || is_call(next)
        });
        if peek(&item, "type") != "reasoning" || is_followed {
            kept.push(item);
        }
    }
    kept.reverse();
    *items = kept;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(id: &str) -> Value {
        json!({"type": "function_call", "call_id": id, "name": "f", "arguments": "{}"})
    }

    fn output(id: &str, text: &str) -> Value {
        json!({"type": "function_call_output", "call_id": id, "output": text})
    }

    #[test]
    fn calls_and_outputs_are_paired() {
        let ours = pair(vec![
            output("z", "too early"),
            call("a"),
            call("b"),
            output("b", "ok"),
            output("b", "again"),
        ]);
        let lost = message("user", &json!("[orphaned tool output z] too early"));
        assert_eq!(
            ours,
            [lost, call("a"), output("a", "aborted"), call("b"), output("b", "ok")]
        );
        let shell = pair(vec![json!({"type": "shell_call", "call_id": "s", "action": {}})]);
        assert_eq!(shell[1]["output"][0]["stderr"], "aborted");
    }

    #[test]
    fn reasoning_stays_only_before_its_own_answer() {
        let reasoning = |id: &str| json!({"type": "reasoning", "id": id});
        let user = message("user", &json!("x"));
        let mut items = vec![
            reasoning("1"),
            reasoning("2"),
            call("a"),
            reasoning("3"),
            user.clone(),
            reasoning("4"),
        ];
        drop_idle_reasoning(&mut items);
        assert_eq!(items, [reasoning("1"), reasoning("2"), call("a"), user]);
    }

    #[test]
    fn references_are_refused_unless_the_history_can_do_without() {
        let reference = |id: &str| json!({"type": "item_reference", "id": id});
        let mut items = vec![reference("rs_1"), message("user", &json!("x"))];
        resolve_references(&mut items, &Tuning::default()).unwrap();
        assert_eq!(items.len(), 1);
        items.push(reference("msg_1"));
        let failure = resolve_references(&mut items, &Tuning::default()).unwrap_err();
        assert_eq!(failure.openai_code(), Some("item_not_found"));
        let tuning = Tuning {
            drop_item_references: true,
            ..Tuning::default()
        };
        resolve_references(&mut items, &tuning).unwrap();
        assert_eq!(items.len(), 1);
    }
}
