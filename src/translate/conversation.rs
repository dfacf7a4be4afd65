//! A Responses conversation that the proxy remembers for its client: put before a request that continues it, its items
//! put in the place of references to them, its input listed. Knows not where it is kept.

use serde_json::{Value, json};

use super::ids::Ids;
use super::rules::{field, list, peek};
use super::{Object, items};

/// Whether a client wants its answer kept: as OpenAI has it, unless it says no.
pub fn is_to_be_kept(request: &Object) -> bool {
    field(request, "store") != false
}

/// The response that a request continues.
pub fn continues(request: &Object) -> Option<&str> {
    field(request, "previous_response_id").as_str()
}

/// Puts an answered request and its response before one that continues them; returns how many items they are.
pub fn join(request: &mut Object, earlier: &Object, response: &Object) -> usize {
    let mut history = items::of(field(earlier, "input"));
    history.extend(list(field(response, "output")).iter().cloned());
    let count = history.len();
    history.extend(items::of(field(request, "input")));
    request.insert("input".into(), Value::Array(history));
    request.shift_remove("previous_response_id");
    if field(request, "model").is_null()
        && let Some(model) = earlier.get("model")
    {
        request.insert("model".into(), model.clone());
    }
    count
}

/// The items that a request refers to by their ids.
pub fn references(request: &Object) -> Vec<String> {
    let references = list(field(request, "input")).iter().filter(|item| is_reference(item));
    references
        .filter_map(|item| Some(peek(item, "id").as_str()?.to_owned()))
        .collect()
}

/// Puts what these responses put out in the place of references to it.
pub fn resolve(request: &mut Object, responses: &[Object]) {
    let Some(Value::Array(input)) = request.get_mut("input") else {
        return;
    };
    let items = || responses.iter().flat_map(|response| list(field(response, "output")));
    for item in input.iter_mut().filter(|item| is_reference(item)) {
        let id = peek(item, "id").clone();
        if let Some(meant) = items().find(|known| *peek(known, "id") == id) {
            *item = meant.clone();
        }
    }
}

fn is_reference(item: &Value) -> bool {
    peek(item, "type") == "item_reference"
}

/// The ids of what a response put out.
pub fn item_ids(response: &Object) -> Vec<String> {
    let ids = list(field(response, "output")).iter().map(|item| peek(item, "id"));
    ids.filter_map(|id| Some(id.as_str()?.to_owned())).collect()
}

/// A part of a list, as its reader asks for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    pub limit: usize,
    /// The oldest come first.
    pub ascending: bool,
    /// Begins behind the item with this id.
    pub after: Option<String>,
}

/// The input that a response answered. Each item has an id, always the same.
pub fn input_items(id: &str, request: &Object, page: &Page) -> Value {
    let mut ids = Ids::new(id, 0);
    let mut items = items::of(field(request, "input"));
    for item in &mut items {
        let minted = ids.mint("msg_");
        let Some(fields) = item.as_object_mut() else { continue };
        fields.entry("type").or_insert_with(|| json!("message"));
        if fields.get("id").is_none_or(Value::is_null) {
            fields.insert("id".into(), json!(minted));
        }
        if let Some(Value::String(text)) = fields.get("content") {
            let parts = if fields.get("role").is_some_and(|role| role == "assistant") {
                json!([{"type": "output_text", "text": text, "annotations": []}])
            } else {
                json!([{"type": "input_text", "text": text}])
            };
            fields.insert("content".into(), parts);
        }
    }
    if !page.ascending {
        items.reverse();
    }
    if let Some(after) = &page.after {
        let known = items.iter().position(|item| peek(item, "id") == after.as_str());
        items.drain(..known.map_or(items.len(), |at| at + 1));
    }
    let has_more = items.len() > page.limit;
    items.truncate(page.limit);
    let id_of = |item: Option<&Value>| item.map(|item| peek(item, "id").clone());
    json!({
        "object": "list",
        "first_id": id_of(items.first()),
        "last_id": id_of(items.last()),
        "has_more": has_more,
        "data": items,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: Value) -> Object {
        value.as_object().unwrap().clone()
    }

    fn said(text: &str) -> Value {
        json!({"type": "message", "id": format!("msg_{text}"), "role": "assistant", "content": [{"type": "output_text", "text": text}]})
    }

    #[test]
    fn a_request_continues_what_was_asked_and_answered() {
        let earlier = object(json!({"model": "m", "instructions": "not inherited", "input": "one"}));
        let response = object(json!({"id": "resp_1", "output": [said("two")]}));
        let mut request = object(json!({"previous_response_id": "resp_1", "input": "three"}));
        assert_eq!(continues(&request), Some("resp_1"));
        assert_eq!(join(&mut request, &earlier, &response), 2);
        let user = |text: &str| json!({"type": "message", "role": "user", "content": text});
        let expected = json!({"input": [user("one"), said("two"), user("three")], "model": "m"});
        assert_eq!(Value::Object(request), expected);
    }

    #[test]
    fn references_become_what_they_mean() {
        let response = object(json!({"output": [said("a"), {"type": "reasoning", "id": "rs_1", "summary": []}]}));
        assert_eq!(item_ids(&response), ["msg_a", "rs_1"]);
        let reference = |id: &str| json!({"type": "item_reference", "id": id});
        let mut request = object(json!({"input": [reference("rs_1"), reference("msg_a"), reference("msg_z")]}));
        assert_eq!(references(&request), ["rs_1", "msg_a", "msg_z"]);
        resolve(&mut request, std::slice::from_ref(&response));
        let expected = json!([response["output"][1], response["output"][0], reference("msg_z")]);
        assert_eq!(request["input"], expected);
    }

    #[test]
    fn an_input_is_listed_page_by_page() {
        let request =
            object(json!({"input": [{"role": "user", "content": "one"}, said("two"), {"type": "x", "id": "x_1"}]}));
        let page = |limit, ascending, after: Option<&Value>| {
            let after = after.map(|id| id.as_str().unwrap().to_owned());
            input_items(
                "resp_1",
                &request,
                &Page {
                    limit,
                    ascending,
                    after,
                },
            )
        };
        let all = page(20, true, None);
        assert_eq!(
            (&all["has_more"], all["data"].as_array().unwrap().len()),
            (&json!(false), 3)
        );
        assert_eq!(
            all["data"][0]["content"],
            json!([{"type": "input_text", "text": "one"}])
        );
        let first = &all["data"][0]["id"];
        assert!(first.as_str().unwrap().starts_with("msg_") && all["first_id"] == *first);
        let latest = page(2, false, None);
        assert_eq!(
            (&latest["first_id"], &latest["last_id"]),
            (&json!("x_1"), &json!("msg_two"))
        );
        assert_eq!(latest["has_more"], true);
        let rest = page(2, false, Some(&json!("msg_two")));
        assert_eq!((&rest["data"][0]["id"], &rest["has_more"]), (first, &json!(false)));
        assert_eq!(page(2, false, Some(&json!("nobody")))["data"], json!([]));
    }

    #[test]
    fn only_a_no_keeps_an_answer_from_being_kept() {
        for (store, kept) in [(json!(true), true), (Value::Null, true), (json!(false), false)] {
            assert_eq!(is_to_be_kept(&object(json!({"store": store}))), kept);
        }
    }
}
