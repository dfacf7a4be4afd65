//! A history made short, as Codex asks for it. Pure parts; the calls between them are the relay's.
//!
//! Codex asks in two forms: an ordinary Responses request whose input ends in a `compaction_trigger` ([`is_asked`]),
//! or `POST /responses/compact`. Both are served alike:
//!
//! 1. Where the model answers Responses: send [`native_request`] by the ordinary Responses way, gather the client's
//!    whole answer, and take what it compacted with [`compacted`].
//! 2. Where that fails, gives nothing, or the model has no Responses: send [`summary_request`] by whatever way the model
//!    has, gather the client's whole answer, and take the [`summary`].
//! 3. Wrap either into one public item with [`item`], and answer with [`stream`] (gathered, where the client wants no
//!    stream) or, at `/responses/compact`, with [`answer`]. Usage is that of the gathered answer.
//!
//! When the item comes back in a later request, [`unwrap`] makes it again what the model can read.

use serde_json::{Value, json};

use super::carrier::{Carrier, Compacted};
use super::ids::Ids;
use super::{Object, Reply, fold, items, response_object};
use crate::protocol::catalog::Model;
use crate::protocol::failure::Failure;
use crate::protocol::sse::Frame;

/// The type of the item that asks for compaction.
pub const TRIGGER: &str = "compaction_trigger";

/// Said to a model that has no compaction of its own.
const ASK: &str = "The conversation above is about to be replaced by a summary of it. Write that summary now, as a \
hand-over to a colleague who will continue the work and has seen nothing of it. Answer with the summary alone and call \
no tool. Include: what the user wants, in their own terms, with every constraint and preference they stated; what has \
been done and decided so far, and why; files, commands, names, identifiers and values that matter, exactly; errors met \
and how they were solved; what is still open, and the next step that was about to be taken.";

/// Said before a summary when it stands for the history.
const SUMMARISED: &str = "The earlier part of this conversation was summarised as follows:";

/// Whether an ordinary Responses request asks for compaction.
pub fn is_asked(body: &Object) -> bool {
    let input = body.get("input").and_then(Value::as_array);
    input.and_then(|items| items.last()).is_some_and(is_trigger)
}

fn is_trigger(item: &Value) -> bool {
    item["type"] == TRIGGER
}

/// The request to a model that compacts by itself.
pub fn native_request(body: &Object) -> Object {
    let mut body = body.clone();
    let mut input = items::of(body.get("input").unwrap_or(&Value::Null));
    if !input.last().is_some_and(is_trigger) {
        input.push(json!({"type": TRIGGER}));
    }
    body.insert("input".into(), Value::Array(input));
    body.insert("stream".into(), json!(true));
    body
}

/// The request to a model that has to be asked in words.
pub fn summary_request(body: &Object) -> Object {
    let mut body = body.clone();
    for name in [
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "text",
        "context_management",
        "max_output_tokens",
    ] {
        body.shift_remove(name);
    }
    let mut input = items::of(body.get("input").unwrap_or(&Value::Null));
    input.retain(|item| !is_trigger(item));
    input.push(items::message("user", &json!([{"type": "input_text", "text": ASK}])));
    body.insert("input".into(), Value::Array(input));
    body.insert("stream".into(), json!(true));
    body
}

/// What a gathered answer to [`native_request`] holds of compacted history: upstream's own items, all of them.
pub fn compacted(answer: &Value) -> Option<Compacted> {
    let mut held = Vec::new();
    for item in answer["output"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|item| is_compaction(item))
    {
        let content = item["encrypted_content"].as_str().unwrap_or_default();
        match Carrier::decode(content) {
            Some(Carrier::Compaction {
                held: Compacted::Items(items),
                ..
            }) => held.extend(items),
            _ => held.push(item.clone()),
        }
    }
    (!held.is_empty()).then_some(Compacted::Items(held))
}

/// Whether upstream refuses the very order to compact, and so will again.
pub fn is_about_trigger(refusal: &str) -> bool {
    refusal.contains(TRIGGER)
}

/// The summary in a gathered answer to [`summary_request`].
pub fn summary(answer: &Value) -> Option<Compacted> {
    let output = answer["output"].as_array().into_iter().flatten();
    let parts = output
        .filter(|item| item["type"] == "message")
        .flat_map(|item| item["content"].as_array().into_iter().flatten());
    let texts: Vec<&str> = parts.filter_map(|part| part["text"].as_str()).collect();
    let text = texts.join("\n\n");
    (!text.trim().is_empty()).then_some(Compacted::Text(text))
}

fn is_compaction(item: &Value) -> bool {
    matches!(item["type"].as_str(), Some("compaction" | "compaction_summary"))
}

/// Leaves out what the latest compaction stands for; instructions stay.
pub fn trim(input: &mut Vec<Value>) {
    let latest = input.iter().rposition(is_compaction).unwrap_or(0);
    let mut at = 0;
    input.retain(|item| {
        at += 1;
        at > latest || matches!(item["role"].as_str(), Some("system" | "developer"))
    });
}

/// The one public item. `model` is the id of the model that compacted.
pub fn item(held: Compacted, model: &str, ids: &mut Ids) -> Value {
    let carrier = Carrier::Compaction {
        model: model.to_owned(),
        held,
    };
    json!({"type": "compaction", "id": ids.mint("cmp_"), "encrypted_content": carrier.encode()})
}

/// The answer to an ordinary request: a stream with exactly one item.
pub fn stream(item: &Value, usage: &Value, reply: &Reply, ids: &mut Ids) -> Vec<Frame> {
    let mut response = response_object::begun(reply, &ids.mint("resp_"), ids.created);
    response.insert("completed_at".into(), json!(ids.created));
    response.insert("status".into(), json!("completed"));
    response.insert("output".into(), json!([item]));
    response.insert("usage".into(), usage.clone());
    fold::responses::unfold(&Value::Object(response))
}

/// The answer to `POST /responses/compact`: what the user said, then the item.
pub fn answer(body: &Object, item: &Value, usage: &Value, ids: &mut Ids) -> Value {
    let input = items::of(body.get("input").unwrap_or(&Value::Null));
    let mut output: Vec<Value> = input.into_iter().filter(|item| item["role"] == "user").collect();
    for message in output.iter_mut().filter_map(Value::as_object_mut) {
        message.insert("type".into(), json!("message"));
        message.insert("id".into(), json!(ids.mint("msg_")));
        message.insert("status".into(), json!("completed"));
        if let Some(Value::String(text)) = message.get("content") {
            let part = json!({"type": "input_text", "text": text});
            message.insert("content".into(), json!([part]));
        }
    }
    output.push(item.clone());
    json!({
        "id": ids.mint("resp_"),
        "object": "response.compaction",
        "created_at": ids.created,
        "output": output,
        "usage": usage,
    })
}

/// The items that a compaction item of a request stands for; any other item is itself. `native` is the model, where it
/// is asked by Responses: only then can it read what upstream compacted.
pub fn unwrap(item: Value, native: Option<&Model>) -> Result<Vec<Value>, Failure> {
    if !is_compaction(&item) {
        return Ok(vec![item]);
    }
    let content = item["encrypted_content"].as_str().unwrap_or_default();
    let foreign = || Failure::bad("input", "compaction item belongs to another model family");
    match (Carrier::decode(content), native) {
        (
            Some(Carrier::Compaction {
                held: Compacted::Text(text),
                ..
            }),
            _,
        ) => {
            let text = format!("{SUMMARISED}\n\n{text}");
            let part = json!({"type": "input_text", "text": text});
            Ok(vec![items::message("user", &json!([part]))])
        }
        (Some(carrier), Some(model)) => match carrier {
            _ if !carrier.fits(model) => Err(foreign()),
            Carrier::Compaction {
                held: Compacted::Items(items),
                ..
            } => Ok(items),
            _ => Err(foreign()),
        },
        (None, Some(_)) if !Carrier::is_one(content) => Ok(vec![item]),
        _ => Err(foreign()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::catalog::Catalog;
    use crate::translate::fold::Gather;
    use crate::translate::to_responses::tests::{events_of, well_formed};

    fn object(value: Value) -> Object {
        value.as_object().cloned().unwrap()
    }

    fn ids() -> Ids {
        Ids::new("seed", 9)
    }

    fn model(id: &str) -> Model {
        (**Catalog::read(&json!({"data": [{"id": id}]})).get(id).unwrap()).clone()
    }

    fn asking() -> Object {
        object(
            json!({"model": "m", "tools": [{"type": "function", "name": "f"}], "tool_choice": "auto", "input": [
                {"role": "user", "content": "go"},
                {"type": "compaction_trigger"},
            ]}),
        )
    }

    #[test]
    fn k123_a_summary_goes_out_as_one_item_and_comes_back_as_words() {
        assert!(is_asked(&asking()));
        let request = summary_request(&asking());
        assert!(!request.contains_key("tools") && !request.contains_key("tool_choice"));
        let input = request["input"].as_array().unwrap();
        assert_eq!((input.len(), &input[1]["role"]), (2, &json!("user")));
        let gathered = json!({"output": [
            {"type": "reasoning", "summary": [{"text": "hm"}]},
            {"type": "message", "content": [{"type": "output_text", "text": "All is well."}]}]});
        let item = item(summary(&gathered).unwrap(), "claude-a", &mut ids());
        assert!(item["encrypted_content"].as_str().unwrap().starts_with("cpx1.k."));

        let usage = json!({"input_tokens": 1, "output_tokens": 2, "total_tokens": 3});
        let frames = stream(&item, &usage, &Reply::default(), &mut ids());
        let response = well_formed(&frames);
        assert_eq!((&response["output"], &response["usage"]), (&json!([item]), &usage));
        let done = events_of(&frames)
            .into_iter()
            .filter(|event| event["type"] == "response.output_item.done");
        assert_eq!(done.count(), 1);
        let mut fold = Box::new(fold::responses::Fold::default());
        frames.iter().for_each(|frame| fold.feed(frame).unwrap());
        assert_eq!(fold.finish().unwrap(), response);

        for native in [None, Some(&model("gpt-5.4"))] {
            let replayed = unwrap(item.clone(), native).unwrap();
            let text = replayed[0]["content"][0]["text"].as_str().unwrap();
            assert!(text.starts_with(SUMMARISED) && text.ends_with("All is well."));
        }
    }

    #[test]
    fn only_what_stands_before_the_latest_compaction_is_left_out() {
        let compaction = |id: &str| json!({"type": "compaction", "id": id, "encrypted_content": "a"});
        let said = |role: &str| json!({"role": role, "content": "x"});
        let mut input = vec![
            said("developer"),
            said("user"),
            compaction("1"),
            said("user"),
            compaction("2"),
            said("user"),
        ];
        trim(&mut input);
        assert_eq!(input, [said("developer"), compaction("2"), said("user")]);
        let mut plain = vec![said("user"), said("assistant")];
        trim(&mut plain);
        assert_eq!(plain, [said("user"), said("assistant")]);
    }

    #[test]
    fn k124_two_native_items_travel_as_one() {
        let request = native_request(&asking());
        assert_eq!(request["input"], asking()["input"]);
        let raw = [
            json!({"type": "compaction", "id": "1", "encrypted_content": "a"}),
            json!({"type": "compaction", "id": "2", "encrypted_content": "b"}),
        ];
        let public = |raw: &Value| item(Compacted::Items(vec![raw.clone()]), "gpt-5.4", &mut ids());
        let gathered = json!({"output": [public(&raw[0]), public(&raw[1])]});
        let one = item(compacted(&gathered).unwrap(), "gpt-5.4", &mut ids());
        assert_eq!(unwrap(one.clone(), Some(&model("gpt-5-mini"))).unwrap(), raw);
        assert!(unwrap(one.clone(), Some(&model("claude-x"))).is_err());
        assert!(unwrap(one, None).is_err());
        assert_eq!(compacted(&json!({"output": []})), None);
        assert_eq!(summary(&json!({"output": []})), None);
    }

    #[test]
    fn k125_the_compact_door_answers_with_what_the_user_said_and_the_item() {
        let body = object(json!({"input": [
            {"role": "user", "content": "go"},
            {"role": "assistant", "content": "yes"},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "on"}]},
        ]}));
        assert!(!is_asked(&body));
        let item = item(Compacted::Text("s".into()), "m", &mut ids());
        let answer = answer(&body, &item, &json!({}), &mut ids());
        assert_eq!(answer["object"], "response.compaction");
        let output = answer["output"].as_array().unwrap();
        assert_eq!(output.len(), 3);
        assert_eq!(output[0]["content"], json!([{"type": "input_text", "text": "go"}]));
        assert_eq!(output[2], item);
    }

    #[test]
    fn what_upstream_compacted_itself_is_its_own_to_read() {
        let raw = json!({"type": "compaction", "encrypted_content": "gAAA"});
        assert!(unwrap(raw.clone(), None).is_err());
        assert_eq!(unwrap(raw.clone(), Some(&model("gpt-5.4"))).unwrap(), [raw]);
        let other = items::message("user", &json!("x"));
        assert_eq!(unwrap(other.clone(), None).unwrap(), [other]);
    }
}
