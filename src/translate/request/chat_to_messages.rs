//! A Chat client's request for a Messages upstream.

use serde_json::Value;

use super::into_messages::{History, compose};
use crate::protocol::Protocol::{Chat, Messages};
use crate::protocol::failure::Failure;
use crate::translate::rules::images::{self, Part};
use crate::translate::rules::tools::{Call, Input, Toolbox, alias};
use crate::translate::rules::{field, list, thoughts};
use crate::translate::{Context, Object, Outgoing, Reply};

pub fn request(mut body: Object, context: &Context) -> Result<Outgoing, Failure> {
    images::admit(Chat, &mut body, context.model)?;
    let toolbox = Toolbox::read(Chat, Messages, &body, context)?;
    let history = read(list(field(&body, "messages")), &toolbox, context);
    let reply = Reply {
        include_usage: super::tells_usage(&body),
        reasoning_alias: context.tuning.reasoning_alias,
        ..Reply::default()
    };
    compose(Chat, &body, history, &toolbox, reply, context)
}

fn read(messages: &[Value], toolbox: &Toolbox, context: &Context) -> History {
    let mut history = History::default();
    // Calls of the form that was there before tools have no ids: each is answered by the next result.
    let mut unnamed = 0_usize;
    for message in messages {
        let content = &message["content"];
        match message["role"].as_str().unwrap_or_default() {
            "system" | "developer" => history.instruct(images::parts(content)),
            "assistant" => {
                history.thoughts(&thoughts::of_chat(message, context.model), context);
                history.answer(images::parts(content));
                if let Some(refusal) = message["refusal"].as_str() {
                    history.answer(vec![Part::Text(refusal.to_owned())]);
                }
                for call in list(&message["tool_calls"])
                    .iter()
                    .filter_map(|call| toolbox.call(call))
                {
                    history.call(&call);
                }
                if let Some(call) = legacy_call(&message["function_call"]) {
                    unnamed += 1;
                    history.call(&Call {
                        id: legacy_id(unnamed),
                        ..call
                    });
                }
            }
            "tool" => history.result(message["tool_call_id"].as_str().unwrap_or_default(), content),
            "function" => history.result(&legacy_id(unnamed), content),
            _ => history.person(images::parts(content)),
        }
    }
    history
}

fn legacy_id(number: usize) -> String {
    format!("fnc_{number}")
}

fn legacy_call(call: &Value) -> Option<Call> {
    Some(Call {
        id: String::new(),
        name: alias(call["name"].as_str()?).into_owned(),
        input: Input::Json(call["arguments"].as_str().unwrap_or_default().to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::protocol::catalog::Model;
    use crate::translate::Kept;
    use crate::translate::carrier::Carrier;
    use crate::translate::rules::{Fixture, any_json, model};

    fn haiku() -> Arc<Model> {
        let supports = json!({"max_thinking_budget": 32000, "min_thinking_budget": 1024, "vision": true});
        let limits = json!({"max_output_tokens": 64000});
        model(json!({"id": "claude-haiku-4.5", "capabilities": {"supports": supports, "limits": limits}}))
    }

    fn outgoing(fixture: &Fixture, body: Value) -> Outgoing {
        request(body.as_object().unwrap().clone(), &fixture.context()).unwrap()
    }

    fn sent(body: Value) -> Object {
        outgoing(&Fixture::new(haiku()), body).body
    }

    fn call(id: &str, arguments: &str) -> Value {
        json!({"id": id, "type": "function", "function": {"name": "f", "arguments": arguments}})
    }

    fn user(text: &str) -> Value {
        json!({"role": "user", "content": text})
    }

    fn tool(id: &str) -> Value {
        json!({"role": "tool", "tool_call_id": id, "content": "r"})
    }

    fn marked(mut block: Value) -> Value {
        block["cache_control"] = json!({"type": "ephemeral"});
        block
    }

    #[test]
    fn a_request_with_everything_in_it() {
        let image = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ";
        let body = json!({
            "model": "asked", "max_completion_tokens": 100, "stop": "x", "stream": true, "user": "u1", "seed": 1, "n": 1,
            "stream_options": {"include_usage": true},
            "messages": [
                {"role": "system", "content": "S"},
                {"role": "developer", "content": [{"type": "text", "text": "D"}]},
                {"role": "user", "content": [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": image}}]},
                {"role": "assistant", "content": "A", "tool_calls": [call("t1", "{\"z\":1,\"a\":2}")]},
                tool("t1"),
            ],
            "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}}}],
            "tool_choice": "required", "parallel_tool_calls": false,
        });
        let outgoing = outgoing(&Fixture::new(haiku()), body);
        let text = |text: &str| json!({"type": "text", "text": text});
        let source =
            json!({"type": "base64", "media_type": "image/png", "data": image.split(',').next_back().unwrap()});
        let expected = json!({
            "model": "claude-haiku-4.5", "max_tokens": 100, "stop_sequences": ["x"],
            "system": [text("S"), marked(text("D"))],
            "messages": [
                {"role": "user", "content": [text("look"), marked(json!({"type": "image", "source": source}))]},
                {"role": "assistant", "content": [text("A"), {"type": "tool_use", "id": "t1", "name": "f", "input": {"z": 1, "a": 2}}]},
                {"role": "user", "content": [marked(json!({"type": "tool_result", "tool_use_id": "t1", "content": "r"}))]},
            ],
            "tools": [marked(json!({"name": "f", "description": "d", "input_schema": {"type": "object", "properties": {}}}))],
            "tool_choice": {"type": "any", "disable_parallel_tool_use": true},
            "metadata": {"user_id": "u1"}, "stream": true,
        });
        assert_eq!(Value::Object(outgoing.body), expected);
        assert!(outgoing.vision && outgoing.reply.include_usage && outgoing.reply.reasoning_alias);
        assert_eq!(outgoing.reply.ran, "claude-haiku-4.5");
    }

    #[test]
    fn k100_results_and_what_is_said_after_them_are_one_message() {
        let calls = json!({"role": "assistant", "tool_calls": [call("t1", "{}"), call("t2", "{}")]});
        let out = sent(json!({"messages": [user("go"), calls, tool("t1"), tool("t2"), user("and")]}));
        let blocks = out["messages"][2]["content"].as_array().unwrap();
        let kinds: Vec<&str> = blocks.iter().filter_map(|block| block["type"].as_str()).collect();
        assert_eq!(kinds, ["tool_result", "tool_result", "text"]);
    }

    #[test]
    fn k101_arguments_become_an_object() {
        for (arguments, input) in [
            ("", json!({})),
            ("[1]", json!({})),
            ("{\"a\":", json!({"raw_arguments": "{\"a\":"})),
        ] {
            let calls = json!({"role": "assistant", "tool_calls": [call("t1", arguments)]});
            let out = sent(json!({"messages": [user("go"), calls, tool("t1")]}));
            assert_eq!(out["messages"][1]["content"][0]["input"], input);
        }
    }

    #[test]
    fn k102_k106_limits_fit() {
        let out = sent(json!({"messages": [user("a")], "stop": [" ", "x"], "temperature": 1.7}));
        assert_eq!(
            (&out["max_tokens"], &out["stop_sequences"], &out["temperature"]),
            (&json!(64000), &json!(["x"]), &json!(1))
        );
    }

    #[test]
    fn k103_lost_reasoning_comes_back_or_thinking_goes() {
        let calls = json!({"role": "assistant", "tool_calls": [call("t1", "{}")]});
        let body = json!({"reasoning_effort": "high", "messages": [user("go"), calls, tool("t1")]});
        let mut fixture = Fixture::new(haiku());
        assert_eq!(
            outgoing(&fixture, body.clone()).body["thinking"],
            json!({"type": "disabled"})
        );

        let state = Carrier::Thinking {
            model: "claude-haiku-4.5".into(),
            text: "hm".into(),
            signature: "Eq==".into(),
        };
        let block = json!({"type": "thinking", "thinking": "hm", "signature": "Eq=="});
        let kept = Kept {
            model: "claude-haiku-4.5".into(),
            text: "hm".into(),
            carriers: vec![state.encode()],
        };
        fixture.memory.kept.insert("t1".into(), kept);
        let out = outgoing(&fixture, body.clone()).body;
        assert_eq!(
            (&out["messages"][1]["content"][0], &out["thinking"]["type"]),
            (&block, &json!("enabled"))
        );

        let mut said = body.clone();
        said["messages"][1]["content"] = json!("I look.");
        let out = outgoing(&fixture, said).body;
        assert_eq!(
            (&out["messages"][1]["content"][0], &out["thinking"]["type"]),
            (&block, &json!("enabled"))
        );

        let mut told = body;
        told["messages"][1]["reasoning_opaque"] = json!(state.encode());
        let out = outgoing(&Fixture::new(haiku()), told).body;
        assert_eq!(out["messages"][1]["content"][0], block);
    }

    #[test]
    fn calls_of_the_old_form_find_their_results() {
        let old =
            json!({"role": "assistant", "content": null, "function_call": {"name": "f", "arguments": "{\"a\":1}"}});
        let answer = json!({"role": "function", "name": "f", "content": "r"});
        let out = sent(json!({"messages": [user("go"), old, answer, user("go"), old, answer]}));
        let id = |message: usize, key: &str| out["messages"][message]["content"][0][key].clone();
        assert_eq!(id(1, "id"), id(2, "tool_use_id"));
        assert_eq!(id(3, "id"), id(4, "tool_use_id"));
        assert_ne!(id(1, "id"), id(3, "id"));
    }

    #[test]
    fn json_is_asked_for_in_words_and_a_schema_by_itself() {
        let out = sent(json!({"messages": [user("a")], "response_format": {"type": "json_object"}}));
        assert!(out["system"][0]["text"].as_str().unwrap().contains("JSON"));
        let schema =
            json!({"type": "json_schema", "json_schema": {"name": "n", "strict": true, "schema": {"type": "object"}}});
        let out = sent(json!({"messages": [user("a")], "response_format": schema}));
        assert_eq!(
            out["output_config"]["format"],
            json!({"type": "json_schema", "schema": {"type": "object"}})
        );
    }

    #[test]
    fn later_instructions_become_reminders_and_a_person_speaks_first_and_last() {
        let out = sent(
            json!({"messages": [{"role": "assistant", "content": "hi"}, user("a"), {"role": "system", "content": "mind"}]}),
        );
        let said: Vec<&Value> = out["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|message| &message["role"])
            .collect();
        assert_eq!(said, ["user", "assistant", "user"]);
        assert_eq!(
            out["messages"][2]["content"][1]["text"],
            "<system-reminder>\nmind\n</system-reminder>"
        );
    }

    proptest! {
        #[test]
        fn nonsense_harms_nobody(messages in any_json(), tools in any_json(), rest in any_json()) {
            let body = json!({"messages": messages, "tools": tools, "tool_choice": rest, "response_format": rest, "stop": rest});
            let fixture = Fixture::new(haiku());
            let _ = request(body.as_object().unwrap().clone(), &fixture.context());
        }
    }
}
