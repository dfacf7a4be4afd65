use proptest::prelude::*;

use super::*;
use crate::translate::rules::{Fixture, any_json, model};
use Protocol::{Chat, Messages, Responses};

fn fixture(id: &str) -> Fixture {
    Fixture::new(model(json!({"id": id})))
}

fn read(
    client: Protocol,
    way: Protocol,
    fixture: &Fixture,
    body: &Value,
) -> Result<(Value, BTreeMap<String, ClientTool>), Failure> {
    let context = fixture.context();
    let toolbox = Toolbox::read(client, way, body.as_object().unwrap(), &context)?;
    let mut out = Object::new();
    toolbox.write(&mut out);
    Ok((Value::Object(out), toolbox.client_tools()))
}

fn written(client: Protocol, way: Protocol, id: &str, body: Value) -> Value {
    read(client, way, &fixture(id), &body).unwrap().0
}

const GPT: &str = "gpt-5.4";

#[test]
fn a_function_is_said_in_every_protocol() {
    let schema = json!({"type": "object", "properties": {"z": {}, "a": {}}});
    let messages = json!({"tools": [{"name": "f", "description": "d", "input_schema": schema, "cache_control": {}}]});
    let chat =
        json!({"tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": schema}}]});
    let responses = json!({"tools": [{"type": "function", "name": "f", "description": "d", "parameters": schema, "strict": false}]});
    assert_eq!(
        written(Messages, Chat, GPT, messages.clone()).to_string(),
        chat.to_string()
    );
    assert_eq!(written(Messages, Responses, GPT, messages.clone()), responses);
    assert_eq!(written(Chat, Responses, GPT, chat.clone()), responses);
    let plain = json!({"tools": [{"name": "f", "description": "d", "input_schema": schema}]});
    assert_eq!(written(Chat, Messages, "claude-a", chat).to_string(), plain.to_string());
    assert_eq!(written(Responses, Messages, "claude-a", responses), plain);
}

#[test]
fn k097_strict_is_said_to_responses() {
    let tool = |strict: Value| json!({"tools": [{"type": "function", "function": {"name": "f", "strict": strict}}]});
    assert_eq!(
        written(Chat, Responses, GPT, tool(Value::Null))["tools"][0]["strict"],
        false
    );
    assert_eq!(
        written(Chat, Responses, GPT, tool(json!(true)))["tools"][0]["strict"],
        true
    );
}

#[test]
fn choices_are_said_in_every_protocol() {
    let tools = json!([{"name": "f"}]);
    for (asked, chat, responses) in [
        (json!({"type": "auto"}), json!("auto"), json!("auto")),
        (json!({"type": "any"}), json!("required"), json!("required")),
        (json!({"type": "none"}), json!("none"), json!("none")),
        (
            json!({"type": "tool", "name": "f"}),
            json!({"type": "function", "function": {"name": "f"}}),
            json!({"type": "function", "name": "f"}),
        ),
    ] {
        let body = json!({"tools": tools, "tool_choice": asked});
        assert_eq!(written(Messages, Chat, GPT, body.clone())["tool_choice"], chat);
        let out = written(Messages, Responses, GPT, body);
        assert_eq!(out["tool_choice"], responses);
        let back = written(Responses, Messages, "claude-a", out);
        assert_eq!(back["tool_choice"], asked);
    }
}

#[test]
fn one_call_at_a_time_is_said_in_every_protocol() {
    let body = json!({"tools": [{"name": "f"}], "tool_choice": {"type": "auto", "disable_parallel_tool_use": true}});
    assert_eq!(written(Messages, Chat, GPT, body.clone())["parallel_tool_calls"], false);
    let chat = json!({"tools": [{"function": {"name": "f"}}], "parallel_tool_calls": false});
    assert_eq!(
        written(Chat, Messages, "claude-a", chat)["tool_choice"],
        body["tool_choice"]
    );
    let chat = json!({"tools": [{"function": {"name": "f"}}], "parallel_tool_calls": true});
    assert_eq!(written(Chat, Messages, "claude-a", chat)["tool_choice"], Value::Null);
    assert_eq!(
        written(
            Chat,
            Responses,
            GPT,
            json!({"parallel_tool_calls": true, "tool_choice": "auto"})
        ),
        json!({})
    );
}

#[test]
fn allowed_tools_are_the_only_ones() {
    let allowed = json!({"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "g"}]});
    let body = json!({"tools": [{"type": "function", "name": "f"}, {"type": "function", "name": "g"}], "tool_choice": allowed});
    let out = written(Responses, Chat, GPT, body);
    assert_eq!(out["tools"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&out["tools"][0]["function"]["name"], &out["tool_choice"]),
        (&json!("g"), &json!("required"))
    );
}

#[test]
fn k036_a_search_that_chat_lacks_leaves_nothing_behind() {
    let tools = json!([{"type": "web_search_20250305", "name": "web_search"}]);
    assert_eq!(
        written(
            Messages,
            Chat,
            GPT,
            json!({"tools": tools, "tool_choice": {"type": "auto"}})
        ),
        json!({})
    );
}

#[test]
fn k037_responses_searches_itself() {
    let tools =
        json!([{"type": "web_search_20250305", "name": "web_search", "max_uses": 5, "allowed_domains": ["a.b"]}]);
    let out = written(Messages, Responses, GPT, json!({"tools": tools}));
    assert_eq!(
        out["tools"],
        json!([{"type": "web_search", "filters": {"allowed_domains": ["a.b"]}}])
    );
}

#[test]
fn k052_a_choice_that_forces_a_dropped_tool_is_refused() {
    let tools = json!([{"type": "web_search_20250305", "name": "web_search"}, {"type": "code_execution_20250825", "name": "code_execution"}]);
    for choice in [
        json!({"type": "tool", "name": "web_search"}),
        json!({"type": "tool", "name": "code_execution"}),
        json!({"type": "any"}),
        json!({"type": "tool", "name": "other"}),
    ] {
        let failure = read(
            Messages,
            Chat,
            &fixture(GPT),
            &json!({"tools": tools, "tool_choice": choice}),
        )
        .unwrap_err();
        assert_eq!(failure.status(Messages), 400);
    }
    let tools = json!([{"type": "web_search_20250305", "name": "web_search"}, {"type": "code_execution_20250825", "name": "py"}]);
    for (choice, kind) in [
        (json!({"type": "tool", "name": "web_search"}), "web_search_20250305"),
        (json!({"type": "tool", "name": "py"}), "code_execution_20250825"),
    ] {
        let body = json!({"tools": tools, "tool_choice": choice});
        let failure = read(Messages, Chat, &fixture(GPT), &body).unwrap_err();
        assert_eq!(
            failure.message,
            format!("Tool type {kind} is not supported by model gpt-5.4")
        );
    }
    let body = json!({"tools": [{"type": "file_search"}], "tool_choice": {"type": "file_search"}});
    let failure = read(Responses, Chat, &fixture(GPT), &body).unwrap_err();
    assert_eq!(
        failure.message,
        "Tool type file_search is not supported by model gpt-5.4"
    );
}

#[test]
fn k050_a_name_comes_back_as_it_was() {
    let long = "x".repeat(70);
    let body = json!({"tools": [{"name": "mcp__srv.x/y"}, {"name": long}, {"name": "plain"}],
        "tool_choice": {"type": "tool", "name": "mcp__srv.x/y"}});
    let (out, client) = read(Messages, Chat, &fixture(GPT), &body).unwrap();
    let names: Vec<&str> = out["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| tool["function"]["name"].as_str().unwrap())
        .collect();
    assert!(names.iter().all(|name| name.len() <= 64 && !name.contains(['.', '/'])));
    assert_eq!(out["tool_choice"]["function"]["name"], names[0]);
    assert_eq!(client[names[0]].name, "mcp__srv.x/y");
    assert_eq!(client[names[1]].name, long);
    let call = Call::read(
        &json!({"type": "tool_use", "id": "t", "name": "mcp__srv.x/y", "input": {}}),
        false,
    )
    .unwrap();
    assert_eq!(call.name, names[0]);
}

#[test]
fn k050_also_where_the_protocol_stays() {
    let mut body = json!({"tools": [{"name": "a.b"}, {"name": "c"}], "tool_choice": {"type": "tool", "name": "a.b"}, "messages": [
        {"role": "assistant", "content": [{"type": "tool_use", "name": "a.b"}, {"type": "text", "name": "a.b"}]}]});
    let aliased = alias_names(Messages, body.as_object_mut().unwrap());
    let name = body["tools"][0]["name"].as_str().unwrap();
    assert_eq!(aliased.keys().collect::<Vec<_>>(), [name]);
    assert_eq!(body["tool_choice"]["name"], name);
    assert_eq!(body["messages"][0]["content"][0]["name"], name);
    assert_eq!(body["messages"][0]["content"][1]["name"], "a.b");
    let mut chat = json!({"messages": [{"tool_calls": [{"function": {"name": "a.b"}}]}]});
    assert_eq!(alias_names(Chat, chat.as_object_mut().unwrap()).len(), 1);
}

#[test]
fn tools_that_a_client_runs_become_functions() {
    let body = json!({"tools": [{"type": "bash_20250124", "name": "bash"},
        {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"}, {"type": "memory_20250818", "name": "memory"},
        {"type": "tool_search_tool_regex_20251119", "name": "s"}, {"name": "d", "defer_loading": true}]});
    let out = written(Messages, Responses, GPT, body);
    let names: Vec<&Value> = out["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| &tool["name"])
        .collect();
    assert_eq!(
        json!(names),
        json!(["bash", "str_replace_based_edit_tool", "memory", "d"])
    );
    assert!(out["tools"][0]["parameters"]["properties"]["command"].is_object());
}

#[test]
fn k115_a_freeform_tool_is_a_function_of_one_string() {
    let format = json!({"type": "grammar", "syntax": "lark", "definition": "start: x"});
    let body = json!({"tools": [{"type": "custom", "name": "apply_patch", "description": "d", "format": format}]});
    let (out, client) = read(Responses, Chat, &fixture(GPT), &body).unwrap();
    let function = &out["tools"][0]["function"];
    assert_eq!(
        function["description"],
        "d\n\nThe input must follow this lark grammar:\nstart: x"
    );
    assert_eq!(function["parameters"]["required"], json!(["input"]));
    assert_eq!(client["apply_patch"].shape, ToolShape::Custom);
    let nested = json!({"type": "custom", "custom": {"name": "apply_patch", "description": "d",
        "format": {"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: x"}}}});
    assert_eq!(
        written(Chat, Responses, GPT, json!({"tools": [nested]}))["tools"],
        body["tools"]
    );
}

#[test]
fn a_freeform_tool_that_the_model_refuses_is_a_function_at_once() {
    let mut fixture = fixture(GPT);
    fixture
        .memory
        .learned
        .insert("responses.tools".into(), json!(["custom"]));
    let body = json!({"tools": [{"type": "custom", "custom": {"name": "p"}}]});
    assert_eq!(
        read(Chat, Responses, &fixture, &body).unwrap().0["tools"][0]["type"],
        "function"
    );
}

#[test]
fn k117_shells_patches_and_namespaces_become_functions() {
    let inner = json!([{"type": "function", "name": "g", "parameters": {"type": "object", "properties": {}}}]);
    let body = json!({"tools": [{"type": "local_shell"}, {"type": "shell"}, {"type": "apply_patch"},
        {"type": "namespace", "name": "ns", "tools": inner}, {"type": "tool_search"}, {"type": "web_search"}]});
    let (out, client) = read(Responses, Messages, &fixture("claude-a"), &body).unwrap();
    let names: Vec<&Value> = out["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| &tool["name"])
        .collect();
    assert_eq!(json!(names), json!(["local_shell", "shell", "apply_patch", "ns__g"]));
    assert_eq!(client["local_shell"].shape, ToolShape::LocalShell);
    assert_eq!(
        (client["ns__g"].name.as_str(), client["ns__g"].namespace.as_deref()),
        ("g", Some("ns"))
    );
}

#[test]
fn calls_of_every_kind_are_read() {
    for (item, name, arguments) in [
        (
            json!({"type": "function_call", "call_id": "c", "name": "g", "namespace": "ns", "arguments": ""}),
            "ns__g",
            "{}",
        ),
        (
            json!({"type": "custom_tool_call", "call_id": "c", "name": "p", "input": "x\n"}),
            "p",
            r#"{"input":"x\n"}"#,
        ),
        (
            json!({"type": "local_shell_call", "id": "c", "action": {"type": "exec", "command": ["ls"], "working_directory": "/"}}),
            "local_shell",
            r#"{"command":["ls"],"workdir":"/"}"#,
        ),
        (
            json!({"type": "shell_call", "call_id": "c", "action": {"commands": ["ls"]}}),
            "shell",
            r#"{"commands":["ls"]}"#,
        ),
        (
            json!({"type": "apply_patch_call", "call_id": "c", "operation": {"type": "delete_file"}}),
            "apply_patch",
            r#"{"operation":{"type":"delete_file"}}"#,
        ),
        (
            json!({"type": "tool_use", "id": "c", "name": "f", "input": {"z": 1, "a": 2}}),
            "f",
            r#"{"z":1,"a":2}"#,
        ),
        (
            json!({"type": "tool_use", "id": "c", "name": "f", "input": null}),
            "f",
            "{}",
        ),
        (
            json!({"id": "c", "function": {"name": "f", "arguments": {"a": 1}}}),
            "f",
            r#"{"a":1}"#,
        ),
        (
            json!({"id": "c", "type": "custom", "custom": {"name": "f", "input": "i"}}),
            "f",
            r#"{"input":"i"}"#,
        ),
    ] {
        let call = Call::read(&item, false).unwrap();
        assert_eq!(
            (call.id.as_str(), call.name.as_str(), call.arguments()),
            ("c", name, arguments),
            "{item}"
        );
    }
    assert_eq!(Call::read(&json!({"type": "web_search_call"}), false), None);
}

#[test]
fn k101_arguments_that_are_no_object_are_none() {
    let input = |arguments: &str| {
        let call = json!({"id": "c", "function": {"name": "f", "arguments": arguments}});
        Call::read(&call, false).unwrap().block("c")["input"].clone()
    };
    assert_eq!(input(""), json!({}));
    assert_eq!(input("[1]"), json!({}));
    assert_eq!(input("{\"a\":"), json!({"raw_arguments": "{\"a\":"}));
    assert_eq!(input("{\"a\":1}"), json!({"a": 1}));
}

#[test]
fn outputs_of_every_kind_are_read() {
    let read = |item: Value| output_of(&item);
    let parts = json!([{"type": "input_text", "text": "a"}]);
    assert_eq!(
        read(json!({"type": "function_call_output", "call_id": "c", "output": parts})),
        Some(("c".into(), parts))
    );
    let shell = json!([{"stdout": "a", "outcome": {"type": "exit", "exit_code": 0}}]);
    let (_, output) = read(json!({"type": "shell_call_output", "call_id": "c", "output": shell})).unwrap();
    assert_eq!(output, json!(shell.to_string()));
    assert_eq!(
        read(json!({"type": "local_shell_call_output", "id": "c", "output": "x"})),
        Some(("c".into(), json!("x")))
    );
    assert_eq!(read(json!({"type": "message"})), None);
}

#[test]
fn ids_fit_and_repeat() {
    assert_eq!(fit_id(Messages, "toolu_1"), "toolu_1");
    let mapped = fit_id(Messages, "call|x:1");
    assert!(mapped.starts_with("tid_") && mapped.len() == 44);
    assert_eq!(mapped, fit_id(Messages, "call|x:1"));
    assert_eq!(fit_id(Chat, "call|x:1"), "call|x:1");
    assert_eq!(fit_id(Responses, &"x".repeat(65)).len(), 44);
    let mut ids = CallIds::new(Messages);
    assert_eq!((ids.call("a"), ids.result("a")), ("a".into(), "a".into()));
    assert_eq!(ids.result("a"), "a");
    assert_eq!((ids.call("a"), ids.result("a")), ("a_2".into(), "a_2".into()));
}

#[test]
fn of_two_tools_of_one_name_the_first_stays() {
    let body = json!({"tools": [{"name": "f", "description": "1"}, {"name": "f", "description": "2"}]});
    let out = written(Messages, Chat, GPT, body);
    assert_eq!(out["tools"].as_array().unwrap().len(), 1);
    assert_eq!(out["tools"][0]["function"]["description"], "1");
}

#[test]
fn k051_namespaces_may_hold_too_many() {
    let inner: Vec<Value> = (0..129)
        .map(|at| json!({"type": "function", "name": format!("t{at}")}))
        .collect();
    let body = json!({"tools": [{"type": "namespace", "name": "n", "tools": inner}]});
    assert!(
        read(Responses, Chat, &fixture(GPT), &body)
            .unwrap_err()
            .message
            .contains("128")
    );
}

proptest! {
    #[test]
    fn nonsense_harms_nobody(tools in any_json(), choice in any_json(), items in prop::collection::vec(any_json(), 0..4)) {
        let body = json!({"tools": tools, "tool_choice": choice, "functions": tools, "input": items, "messages": items});
        for id in ["gemini-3", GPT, "claude-a"] {
            for client in Protocol::ALL {
                for way in Protocol::ALL {
                    let _ = read(client, way, &fixture(id), &body);
                }
            }
        }
        for item in &items {
            for freeform in [true, false] {
                if let Some(call) = Call::read(item, freeform) {
                    drop((call.block("i"), call.chat("i"), call.item("i")));
                }
            }
            let _ = output_of(item);
        }
        for protocol in [Chat, Messages] {
            alias_names(protocol, body.clone().as_object_mut().unwrap());
        }
        plain(body.clone().as_object_mut().unwrap(), &["custom".into(), "local_shell".into(), "namespace".into()]);
    }

    #[test]
    fn an_alias_is_always_taken(name in "\\PC{0,90}") {
        let alias = alias(&name);
        prop_assert!(!alias.is_empty() && alias.len() <= 64);
        prop_assert!(alias.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-'));
    }
}
