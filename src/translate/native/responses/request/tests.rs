use super::*;
use crate::translate::rules::{Fixture, any_json, model};
use crate::translate::{Kept, ToolShape};

const PNG: &str = "iVBORw0KGgoAAAANSUhEUg==";

fn gpt(id: &str) -> Fixture {
    Fixture::new(model(json!({"id": id, "vendor": "OpenAI", "capabilities": {
        "limits": {"max_output_tokens": 1000},
        "supports": {"vision": true, "reasoning_effort": ["low", "medium", "high"]}}})))
}

fn sent(body: &Value) -> Outgoing {
    request(body.as_object().unwrap().clone(), &gpt("gpt-5.4").context()).unwrap()
}

fn input(items: Value) -> Value {
    sent(&json!({"model": "x", "input": items})).body["input"].clone()
}

fn user() -> Value {
    json!({"role": "user", "content": "x"})
}

fn carrier(model: &str) -> String {
    let carrier = Carrier::Item {
        model: model.into(),
        id: Some("raw+id".into()),
        content: "e/=".into(),
    };
    carrier.encode()
}

#[test]
fn k108_what_copilot_refuses_is_left_out() {
    let sent = sent(&json!({
        "model": "x", "store": true, "service_tier": "priority", "input": "hi", "client_metadata": {}, "user": "u",
        "temperature": 1, "max_output_tokens": 5, "prompt_cache_key": "k", "metadata": {"a": "b"},
        "include": ["image_generation_call.x", "message.output_text.logprobs"],
        "tools": [{"type": "image_generation"}, {"type": "web_search"}], "tool_choice": {"type": "image_generation"},
        "parallel_tool_calls": true, "reasoning": {"effort": "xhigh", "summary": "detailed"}, "unheard_of": {"z": 1, "a": 2},
        "text": {"verbosity": "low"}, "instructions": "be good"}));
    assert_eq!(
        Value::Object(sent.body).to_string(),
        json!({
            "model": "gpt-5.4", "store": false, "input": "hi", "max_output_tokens": 16, "prompt_cache_key": "k",
            "metadata": {"a": "b"}, "include": ["message.output_text.logprobs", "reasoning.encrypted_content"],
            "tools": [{"type": "web_search"}], "tool_choice": "auto", "parallel_tool_calls": true,
            "reasoning": {"effort": "high", "summary": "detailed"}, "unheard_of": {"z": 1, "a": 2},
            "text": {"verbosity": "low"}, "instructions": "be good",
        })
        .to_string()
    );
    assert_eq!(sent.reply.echo["instructions"], "be good");
    assert_eq!(sent.reply.echo["temperature"], 1);
}

#[test]
fn codex_keeps_its_notes_to_itself() {
    let noted = json!([{"role": "user", "content": "x", CODEX_NOTES: {"a": 1}},
        {"type": "reasoning", "encrypted_content": carrier("gpt-5.4"), "summary": [], CODEX_NOTES: {}},
        {"role": "assistant", "content": "y", CODEX_NOTES: null}]);
    assert!(!input(noted).to_string().contains(CODEX_NOTES));
}

#[test]
fn a_trigger_counts_only_where_it_is_the_latest() {
    let trigger = || json!({"type": compaction::TRIGGER});
    let kept = input(json!([user(), trigger(), user(), trigger()]));
    assert_eq!(kept, json!([user(), user(), trigger()]));
}

#[test]
fn tools_that_are_all_refused_leave_no_choice() {
    let sent = sent(
        &json!({"model": "x", "input": "x", "tools": [{"type": "mcp"}], "tool_choice": "required",
        "parallel_tool_calls": false}),
    );
    assert!(
        ["tools", "tool_choice", "parallel_tool_calls"]
            .iter()
            .all(|name| !sent.body.contains_key(*name))
    );
}

#[test]
fn k110_items_are_sent_without_ids() {
    let ours = input(json!([
        {"type": "message", "id": "msg_1", "role": "user", "content": "x"},
        {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": {"b": 1}, "status": "in_progress"},
        {"type": "function_call_output", "id": "fco_1", "call_id": "c", "output": "ok", "status": "completed"},
        {"type": "local_shell_call", "id": "lsh", "action": {}},
        {"type": "local_shell_call_output", "id": "lsh", "output": "ok"},
        {"type": "web_search_call", "id": "ws", "action": {}},
        {"type": "ghost_snapshot", "id": "g"},
    ]));
    assert_eq!(
        ours,
        json!([
            {"type": "message", "role": "user", "content": "x"},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{\"b\":1}"},
            {"type": "function_call_output", "call_id": "c", "output": "ok", "status": "completed"},
            {"type": "local_shell_call", "action": {}, "call_id": "lsh"},
            {"type": "local_shell_call_output", "output": "ok", "call_id": "lsh"},
            {"type": "web_search_call", "action": {}},
        ])
    );
}

#[test]
fn k111_reasoning_goes_back_as_the_pair_it_came_as() {
    let reasoning =
        |id: &str, content: Value| json!({"type": "reasoning", "id": id, "summary": [], "encrypted_content": content});
    let ours = input(json!([
        user(),
        reasoning("rs_public", json!(carrier("gpt-5.3"))),
        reasoning("rs_foreign", json!(carrier("claude-x"))),
        reasoning("rs_raw", json!("gAAA")),
        reasoning("rs_lost", Value::Null),
        {"type": "message", "role": "assistant", "content": [], "phase": "commentary"},
    ]));
    let raw = json!({"type": "reasoning", "summary": [], "encrypted_content": "gAAA"});
    let answer = json!({"type": "message", "role": "assistant", "content": [], "phase": "commentary"});
    assert_eq!(ours, json!([user(), reasoning("raw+id", json!("e/=")), raw, answer]));
}

#[test]
fn lost_reasoning_is_given_back_once() {
    let mut fixture = gpt("gpt-5.4");
    for id in ["a", "b"] {
        let kept = Kept {
            model: "gpt-5.4".into(),
            text: String::new(),
            carriers: vec![carrier("gpt-5.4")],
        };
        fixture.memory.kept.insert(id.into(), kept);
    }
    let call = |id: &str| json!({"type": "function_call", "call_id": id, "name": "f", "arguments": "{}"});
    let output = |id: &str| json!({"type": "function_call_output", "call_id": id, "output": ""});
    let kinds = |items: Value| {
        let body = json!({"model": "x", "input": items});
        let sent = request(body.as_object().unwrap().clone(), &fixture.context()).unwrap();
        let kinds = list(&sent.body["input"])
            .iter()
            .map(|item| item["type"].as_str().unwrap_or("message").to_owned());
        kinds.filter(|kind| kind == "reasoning").count()
    };
    assert_eq!(
        kinds(json!([user(), call("a"), call("b"), output("a"), output("b")])),
        1
    );
    let reasoning = json!({"type": "reasoning", "summary": [], "encrypted_content": carrier("gpt-5.4")});
    let said = json!({"type": "message", "role": "assistant", "content": "hm"});
    assert_eq!(kinds(json!([user(), reasoning, said, call("a"), output("a")])), 1);
}

#[test]
fn k131_parts_have_their_own_names() {
    let url = format!("data:image/png;base64,{PNG}");
    let ours = input(json!([
        {"role": "user", "content": [{"type": "text", "text": "x"},
            {"type": "image_url", "image_url": {"url": url, "detail": "original"}}]},
        {"role": "assistant", "content": [{"type": "text", "text": "y"}, {"type": "refusal", "refusal": "z"}]},
    ]));
    assert_eq!(
        ours,
        json!([
            {"role": "user", "content": [{"type": "input_text", "text": "x"},
                {"type": "input_image", "image_url": url, "detail": "high"}]},
            {"role": "assistant", "content": [{"type": "output_text", "text": "y"}, {"type": "refusal", "refusal": "z"}]},
        ])
    );
}

#[test]
fn k124_compacted_history_is_unwrapped() {
    let raw = json!([
        {"type": "compaction", "id": "1", "encrypted_content": "a"},
        {"type": "compaction", "id": "2", "encrypted_content": "b"},
    ]);
    let held = crate::translate::carrier::Compacted::Items(raw.as_array().unwrap().clone());
    let mut ids = crate::translate::ids::Ids::new("seed", 0);
    let public = compaction::item(held, "gpt-5.4", &mut ids);
    assert_eq!(input(json!([public])), raw);
    let alias = json!([{"type": "compaction_summary", "encrypted_content": "raw"}]);
    assert_eq!(
        input(alias),
        json!([{"type": "compaction", "encrypted_content": "raw"}])
    );
}

#[test]
fn tools_a_model_does_not_know_become_functions() {
    let body = json!({"model": "x", "input": "x", "tools": [
        {"type": "namespace", "name": "box", "tools": [{"type": "function", "name": "look", "parameters": {}}]},
        {"type": "custom", "name": "apply_patch"}, {"type": "tool_search"}]});
    let body = body.as_object().unwrap();
    let mut old = gpt("gpt-5.3-codex");
    let sent = request(body.clone(), &old.context()).unwrap();
    assert_eq!(sent.body["tools"][0]["name"], "box__look");
    assert_eq!(
        (&sent.body["tools"][1]["type"], list(&sent.body["tools"]).len()),
        (&json!("custom"), 2)
    );
    assert_eq!(sent.reply.tools["box__look"].namespace.as_deref(), Some("box"));

    old.memory.learned.insert("responses.tools".into(), json!(["custom"]));
    let sent = request(body.clone(), &old.context()).unwrap();
    assert_eq!(sent.reply.tools["apply_patch"].shape, ToolShape::Custom);

    let sent = request(body.clone(), &gpt("gpt-5.4").context()).unwrap();
    let kinds: Vec<&Value> = list(&sent.body["tools"]).iter().map(|tool| &tool["type"]).collect();
    assert_eq!(kinds, ["namespace", "custom", "tool_search"]);
    assert_eq!(sent.body["tools"][0]["description"], "box");
    assert!(sent.reply.tools.is_empty());
}

proptest::proptest! {
    #[test]
    fn no_body_makes_it_panic(body in any_json()) {
        if let Some(body) = body.as_object() {
            let _ = request(body.clone(), &gpt("gpt-5.4").context());
        }
    }
}
