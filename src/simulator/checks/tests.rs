use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::simulator::models::Models;
use crate::simulator::reply::Body;
use crate::simulator::seals;

fn model(id: &str) -> Arc<Model> {
    Models::default().get(id).unwrap()
}

fn complaint(verdict: Verdict) -> String {
    let refusal = verdict.expect_err("a refusal");
    assert!([400, 401].contains(&refusal.status));
    match refusal.body {
        Body::Json(body) => body.to_string(),
        Body::Text(text) | Body::Html(text) => text,
    }
}

/// The complaint about a good request with these changes.
fn refused(id: &str, good: Value, change: Value, check: impl Fn(&Model, &Value) -> Verdict) -> String {
    let model = model(id);
    assert_eq!(check(&model, &good), Ok(()), "{good}");
    let mut bad = good;
    for (name, value) in change.as_object().unwrap() {
        bad[name] = value.clone();
    }
    complaint(check(&model, &bad))
}

fn of_messages(id: &str, change: Value) -> String {
    let good = json!({"model": id, "max_tokens": 4000, "messages": [{"role": "user", "content": "hi"}]});
    refused(id, good, change, |model, body| messages::check(model, body, &[]))
}

fn of_chat(id: &str, change: Value) -> String {
    let good = json!({"model": id, "messages": [{"role": "user", "content": "hi"}]});
    refused(id, good, change, chat::check)
}

fn of_responses(id: &str, change: Value) -> String {
    let good = json!({"model": id, "input": "hi"});
    refused(id, good, change, |model, body| {
        responses::check(model, body, Some(7), &[])
    })
}

const CLAUDE: &str = "claude-sonnet-4.5";
const OPUS: &str = "claude-opus-4.8";
const CODEX: &str = "gpt-5.3-codex";

#[test]
fn messages_refuses_what_anthropic_refuses() {
    let tool = json!({"name": "t", "input_schema": {"type": "object"}});
    let with_tool = |name: &str, value: Value| {
        let mut tool = tool.clone();
        tool[name] = value;
        json!({"tools": [tool]})
    };
    let block = |block: Value| json!({"messages": [{"role": "user", "content": [block]}]});
    let marked = |mark: Value| block(json!({"type": "text", "text": "x", "cache_control": mark}));
    let marks: Vec<Value> = (0..5)
        .map(|_| json!({"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}))
        .collect();
    let thinking = |thinking: Value| json!({"thinking": thinking});
    let cases = [
        (CLAUDE, json!({"max_tokens": null}), "max_tokens: Field required"),
        (CLAUDE, json!({"max_tokens": 20000}), "20000 > 16000"),
        (CLAUDE, json!({"max_tokens": 40000, "stream": true}), "40000 > 32000"),
        (
            CLAUDE,
            json!({"speed": "fast"}),
            "speed: Extra inputs are not permitted",
        ),
        (
            CLAUDE,
            json!({"context_management": {}}),
            "context_management: Extra inputs",
        ),
        (CLAUDE, json!({"metadata": {"x": 1}}), "metadata.x: Extra inputs"),
        (
            CLAUDE,
            json!({"temperature": 0.5, "top_p": 0.5}),
            "cannot both be specified",
        ),
        (
            CLAUDE,
            with_tool("eager_input_streaming", json!(true)),
            "tools.0.custom.eager_input_streaming: Extra",
        ),
        (
            CLAUDE,
            with_tool("defer_loading", json!(true)),
            "tools.0.custom.defer_loading: Extra",
        ),
        (CLAUDE, with_tool("strict", json!(true)), "tools.0.custom.strict: Extra"),
        (
            CLAUDE,
            with_tool("input_schema", json!({"type": "object", "$schema": "x"})),
            "$schema: Extra",
        ),
        (CLAUDE, with_tool("name", json!("a b")), "should match pattern"),
        (
            CLAUDE,
            with_tool("type", json!("advisor_20260301")),
            "does not match any of the expected tags",
        ),
        (CLAUDE, json!({"tools": [tool, tool]}), "unique"),
        (
            CLAUDE,
            json!({"tool_choice": {"type": "auto"}}),
            "only be specified while providing tools",
        ),
        (
            CLAUDE,
            marked(json!({"type": "ephemeral", "scope": "global"})),
            "cache_control.ephemeral.scope: Extra",
        ),
        (
            CLAUDE,
            marked(json!({"type": "ephemeral", "ttl": "1h"})),
            "cache_control.ephemeral.ttl: Extra",
        ),
        (CLAUDE, json!({"system": marks}), "maximum of 4 blocks"),
        (
            CLAUDE,
            thinking(json!({"type": "enabled", "budget_tokens": 100})),
            ">= 1024",
        ),
        (
            CLAUDE,
            thinking(json!({"type": "enabled", "budget_tokens": 4000})),
            "must be greater than",
        ),
        (
            CLAUDE,
            thinking(json!({"type": "adaptive"})),
            "adaptive thinking is not supported",
        ),
        (
            OPUS,
            thinking(json!({"type": "enabled", "budget_tokens": 2000})),
            "is not supported for this model",
        ),
        (
            OPUS,
            thinking(json!({"type": "adaptive", "budget_tokens": 2000})),
            "budget_tokens: Extra",
        ),
        (
            OPUS,
            json!({"thinking": {"type": "adaptive"}, "temperature": 0.2}),
            "may only be set to 1",
        ),
        (
            OPUS,
            json!({"output_config": {"effort": "none"}}),
            "invalid_reasoning_effort",
        ),
        (
            CLAUDE,
            json!({"output_config": {"format": {"type": "json_schema"}}}),
            "output_config.format: Extra",
        ),
        (
            OPUS,
            json!({"output_config": {"format": {"type": "json_schema", "schema": {}, "name": "x"}}}),
            "output_config.format.name: Extra",
        ),
        (
            OPUS,
            json!({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}),
            "prefill",
        ),
        (
            OPUS,
            json!({"messages": [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}]}),
            "(role)",
        ),
        (CLAUDE, json!({"messages": []}), "at least one message"),
        (
            CLAUDE,
            json!({"messages": [{"role": "assistant", "content": "a"}]}),
            "must use the \\\"user\\\" role",
        ),
        (
            CLAUDE,
            json!({"messages": [{"role": "user", "content": ""}]}),
            "non-empty content",
        ),
        (
            CLAUDE,
            block(json!({"type": "text", "text": "x", "id": "y"})),
            "messages.0.content.0.text.id: Extra",
        ),
        (CLAUDE, block(json!({"type": "text", "text": ""})), "must be non-empty"),
        (
            CLAUDE,
            block(json!({"type": "image", "source": {"type": "url", "url": "x"}})),
            "are not supported",
        ),
        (
            CLAUDE,
            block(json!({"type": "tool_result", "tool_use_id": "a"})),
            "unexpected `tool_use_id`",
        ),
        (
            CLAUDE,
            block(json!({"type": "tool_result", "tool_use_id": "a|b"})),
            "should match pattern",
        ),
    ];
    for (id, change, words) in cases {
        let said = of_messages(id, change.clone());
        assert!(said.contains(words), "{change}\n{said}\n{words}");
    }
}

#[test]
fn messages_wants_calls_and_results_in_pairs() {
    let call = json!({"type": "tool_use", "id": "a", "name": "t", "input": {}});
    let result = json!({"type": "tool_result", "tool_use_id": "a", "content": "x"});
    let talk = |last: Value| {
        json!({"messages": [
            {"role": "user", "content": "hi"}, {"role": "assistant", "content": [call]}, {"role": "user", "content": last},
        ]})
    };
    assert!(of_messages(CLAUDE, talk(json!("no"))).contains("without `tool_result` blocks immediately after: a"));
    let late = json!([{"type": "text", "text": "x"}, result]);
    assert!(of_messages(CLAUDE, talk(late)).contains("must come first"));
    assert!(of_messages(CLAUDE, talk(json!([result, result]))).contains("multiple `tool_result` blocks"));
    let mut loops = talk(json!([result]));
    loops["thinking"] = json!({"type": "enabled", "budget_tokens": 1024});
    assert!(of_messages(CLAUDE, loops).contains("must start with a thinking block"));
}

#[test]
fn betas_are_on_a_list() {
    let body = json!({"max_tokens": 10, "messages": [{"role": "user", "content": "hi"}], "context_management": {}});
    assert_eq!(
        messages::check(&model(CLAUDE), &body, &["context-management-2025-06-27"]),
        Ok(())
    );
    let said = complaint(messages::check(
        &model(CLAUDE),
        &body,
        &["foo-2026-01-01", "oauth-2025-04-20"],
    ));
    assert!(
        said.contains("unsupported beta header(s): foo-2026-01-01,oauth-2025-04-20"),
        "{said}"
    );
    let mid = ["mid-conversation-system-2026-04-07"];
    let body = json!({"max_tokens": 10, "messages": [
        {"role": "user", "content": "hi"}, {"role": "system", "content": "be brief"},
    ]});
    assert_eq!(messages::check(&model(OPUS), &body, &mid), Ok(()));
    assert!(messages::check(&model(CLAUDE), &body, &mid).is_err());
}

#[test]
fn chat_refuses_what_openai_refuses() {
    let function = |change: Value| {
        let mut function = json!({"name": "t", "parameters": {"type": "object"}});
        for (name, value) in change.as_object().unwrap() {
            function[name] = value.clone();
        }
        json!({"tools": [{"type": "function", "function": function}]})
    };
    let tool = json!({"type": "function", "function": {"name": "t"}});
    let image = json!({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}});
    let call = json!({"id": "a", "type": "function", "function": {"name": "t", "arguments": "{"}});
    let open = json!({"type": "object", "properties": {"a": {"type": "string"}}});
    let cases = [
        (
            "gpt-5.1",
            json!({"max_tokens": 10}),
            "Use 'max_completion_tokens' instead",
        ),
        ("gpt-5.1", json!({"temperature": 0.5}), "'temperature' is not supported"),
        (
            "gpt-5.1",
            json!({"reasoning_effort": "xhigh"}),
            "invalid_reasoning_effort",
        ),
        ("gpt-4.1", json!({"reasoning_effort": "low"}), "unsupported_parameter"),
        ("gpt-4.1", json!({"max_tokens": 100_000}), "supports at most 16384"),
        ("gpt-4.1", json!({"n": 2}), "n must be 1"),
        ("gpt-4.1", json!({"tool_choice": "auto"}), "only allowed when 'tools'"),
        ("gpt-4.1", json!({"tools": vec![tool; 129]}), "maximum length 128"),
        ("gpt-4.1", function(json!({"name": "a.b"})), "does not match pattern"),
        (
            "gpt-4.1",
            function(json!({"parameters": {"type": "string"}})),
            "Invalid schema for function",
        ),
        (
            "gpt-4.1",
            function(json!({"strict": true, "parameters": open})),
            "'additionalProperties' is required",
        ),
        ("gpt-4.1", json!({"messages": []}), "empty array"),
        (
            "gpt-4.1",
            json!({"messages": [{"role": "user", "content": [image]}]}),
            "external image URLs",
        ),
        (
            "gpt-4.1",
            json!({"messages": [{"role": "tool", "tool_call_id": "a", "content": "x"}]}),
            "role 'tool'",
        ),
        (
            "gpt-4.1",
            json!({"messages": [{"role": "assistant", "tool_calls": [call]}]}),
            "invalid_tool_call_format",
        ),
        (
            CLAUDE,
            json!({"messages": [{"role": "user", "content": " "}]}),
            "must be non-empty",
        ),
        (CLAUDE, json!({"thinking_budget": 5}), "between 1024 and 32000"),
        (
            CLAUDE,
            json!({"messages": [{"role": "assistant", "content": "x", "reasoning_opaque": "y"}]}),
            "reasoning_opaque",
        ),
    ];
    for (id, change, words) in cases {
        let said = of_chat(id, change.clone());
        assert!(said.contains(words), "{change}\n{said}\n{words}");
    }
}

#[test]
fn gemini_wants_its_thoughts_back() {
    let talk = |opaque: Value| {
        json!({"model": "gemini-3.1-pro-preview", "messages": [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": null, "reasoning_opaque": opaque, "tool_calls": [
                {"id": format!("{}1", chat::GEMINI_CALL), "type": "function", "function": {"name": "t", "arguments": "{}"}},
            ]},
            {"role": "tool", "tool_call_id": format!("{}1", chat::GEMINI_CALL), "content": "x"},
        ]})
    };
    let gemini = model("gemini-3.1-pro-preview");
    assert!(complaint(chat::check(&gemini, &talk(Value::Null))).contains("thought_signature"));
    assert_eq!(
        chat::check(&gemini, &talk(json!(seals::seal("opaque", "gemini")))),
        Ok(())
    );
}

#[test]
fn responses_refuses_what_copilot_refuses() {
    let tool = |tool: Value| json!({"tools": [tool]});
    let item = |item: Value| json!({"input": [item]});
    let call = json!({"type": "function_call", "call_id": "a", "name": "t", "arguments": "{}"});
    let output = json!({"type": "function_call_output", "call_id": "a", "output": "x"});
    let namespace = json!({"type": "namespace", "name": "n", "description": " ", "tools": []});
    let thought = json!({"type": "reasoning", "summary": [], "encrypted_content": seals::seal("encrypted", "gpt")});
    let foreign = json!({"type": "reasoning", "summary": [], "encrypted_content": "cpx1.s.e30.x"});
    let part = |part: Value| item(json!({"role": "user", "content": [part]}));
    let cases = [
        (CODEX, json!({"store": true}), "unsupported_value"),
        (
            CODEX,
            json!({"service_tier": "auto"}),
            "'service_tier' is not supported",
        ),
        (CODEX, json!({"background": true}), "'background' is not supported"),
        (
            CODEX,
            json!({"client_metadata": {}}),
            "Unknown parameter: 'client_metadata'",
        ),
        (CODEX, json!({"max_output_tokens": 10}), ">= 16"),
        (CODEX, json!({"temperature": 0.2}), "'temperature' is not supported"),
        (
            CODEX,
            json!({"reasoning": {"effort": "minimal"}}),
            "invalid_reasoning_effort",
        ),
        (CODEX, json!({"include": ["everything"]}), "Invalid value"),
        (CODEX, json!({"input": []}), "Missing required parameter: 'input'"),
        (CODEX, json!({"input": ""}), "Missing required parameter: 'input'"),
        (
            CODEX,
            tool(json!({"type": "image_generation"})),
            "Invalid value: 'image_generation'",
        ),
        (
            CODEX,
            tool(json!({"type": "code_interpreter"})),
            "Invalid value: 'code_interpreter'",
        ),
        (CODEX, tool(namespace.clone()), "Invalid value: 'namespace'"),
        ("gpt-5.4", tool(namespace), "needs a description"),
        (
            CODEX,
            json!({"tool_choice": "required"}),
            "must be specified with 'tools'",
        ),
        (
            CODEX,
            json!({"tool_choice": {"type": "function", "name": "x"}}),
            "names a tool that is not in",
        ),
        (CODEX, item(call.clone()), "No tool output found for function call a"),
        (
            CODEX,
            item(output.clone()),
            "No tool call found for function call output with call_id a",
        ),
        (
            CODEX,
            item(json!({"type": "item_reference", "id": "msg_1"})),
            "not found",
        ),
        (
            CODEX,
            item(json!({"role": "user", "content": "x", "name": "y"})),
            "Unknown parameter: 'input[0].name'",
        ),
        (
            CODEX,
            item(json!({"type": "ghost_snapshot"})),
            "Invalid value: 'ghost_snapshot'",
        ),
        (CODEX, item(thought.clone()), "without its required following item"),
        (
            CODEX,
            json!({"input": [foreign, call, output]}),
            "invalid_encrypted_content",
        ),
        (
            CODEX,
            part(json!({"type": "text", "text": "x"})),
            "Invalid value: 'text'",
        ),
        (
            CODEX,
            part(json!({"type": "input_image", "image_url": "https://x/y.png"})),
            "external image URLs",
        ),
        (
            CODEX,
            item(json!({"role": "user", "content": "x", "id": "what?"})),
            "input[0].id",
        ),
        (
            CODEX,
            item(json!({"role": "user", "content": "x", "id": seals::item_id(8)})),
            "does not belong",
        ),
    ];
    for (id, change, words) in cases {
        let said = of_responses(id, change.clone());
        assert!(said.contains(words), "{change}\n{said}\n{words}");
    }
    let good = json!({"input": [thought, call, output, {"role": "user", "content": "x", "id": seals::item_id(7)}]});
    assert_eq!(responses::check(&model(CODEX), &good, Some(7), &[]), Ok(()));
}
