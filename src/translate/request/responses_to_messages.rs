//! A Responses client's request for a Messages upstream.
//!
//! Much that Codex always sends means nothing here and is left out rather than refused: see the table of
//! [`losses`](crate::translate::losses).

use serde_json::Value;

use super::into_messages::{History, compose};
use crate::protocol::Protocol::{Messages, Responses};
use crate::protocol::failure::Failure;
use crate::translate::response_object::echo;
use crate::translate::rules::images::{self, Part};
use crate::translate::rules::tools::{Toolbox, output_of};
use crate::translate::rules::{field, searches, thoughts};
use crate::translate::{Context, Object, Outgoing, Reply, compaction, items};

pub fn request(mut body: Object, context: &Context) -> Result<Outgoing, Failure> {
    let reply = Reply {
        echo: echo(&body),
        ..Reply::default()
    };
    images::admit(Responses, &mut body, context.model)?;
    let toolbox = Toolbox::read(Responses, Messages, &body, context)?;
    let mut history = History::default();
    history.instruct(images::parts(field(&body, "instructions")));
    let mut input = items::of(field(&body, "input"));
    items::resolve_references(&mut input, context.tuning)?;
    for item in &input {
        read(item, &mut history, &toolbox, context)?;
    }
    compose(Responses, &body, history, &toolbox, reply, context)
}

fn read(item: &Value, history: &mut History, toolbox: &Toolbox, context: &Context) -> Result<(), Failure> {
    match item["type"].as_str().unwrap_or("message") {
        "message" => {
            let parts = images::parts(&item["content"]);
            match item["role"].as_str().unwrap_or_default() {
                "system" | "developer" => history.instruct(parts),
                "assistant" => history.answer(parts),
                _ => history.person(parts),
            }
        }
        "agent_message" => history.person(images::parts(&item["content"])),
        "reasoning" => history.thoughts(&thoughts::of_item(item, context.model), context),
        "compaction" | "compaction_summary" => {
            for read in compaction::unwrap(item.clone(), None)? {
                history.person(images::parts(&read["content"]));
            }
        }
        "web_search_call" => history.answer(searches::of_item(item).map(Part::Text).into_iter().collect()),
        _ => {
            if let Some((call, output)) = output_of(item) {
                history.result(&call, &output);
            } else if let Some(call) = toolbox.call(item) {
                history.call(&call);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::protocol::catalog::Model;
    use crate::translate::carrier::{Carrier, Compacted};
    use crate::translate::rules::{Fixture, any_json, model};

    fn haiku() -> Arc<Model> {
        let supports = json!({"max_thinking_budget": 32000, "min_thinking_budget": 1024, "vision": true});
        let limits = json!({"max_output_tokens": 64000});
        model(json!({"id": "claude-haiku-4.5", "capabilities": {"supports": supports, "limits": limits}}))
    }

    fn outgoing(body: Value) -> Result<Outgoing, Failure> {
        let fixture = Fixture::new(haiku());
        request(body.as_object().unwrap().clone(), &fixture.context())
    }

    fn sent(body: Value) -> Object {
        outgoing(body).unwrap().body
    }

    fn marked(mut block: Value) -> Value {
        block["cache_control"] = json!({"type": "ephemeral"});
        block
    }

    fn text(text: &str) -> Value {
        json!({"type": "text", "text": text})
    }

    fn call(id: &str) -> Value {
        json!({"type": "function_call", "id": "fc_x", "call_id": id, "name": "f", "arguments": "{\"z\":1,\"a\":2}"})
    }

    fn output(id: &str) -> Value {
        json!({"type": "function_call_output", "call_id": id, "output": "r"})
    }

    fn user(text: &str) -> Value {
        json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]})
    }

    fn tool_use(id: &str) -> Value {
        json!({"type": "tool_use", "id": id, "name": "f", "input": {"z": 1, "a": 2}})
    }

    #[test]
    fn k126_reasoning_a_call_and_its_output() {
        let state = Carrier::Thinking {
            model: "claude-haiku-4.5".into(),
            text: "hm".into(),
            signature: "Eq==".into(),
        };
        let reasoning = json!({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": state.encode()});
        let body = json!({
            "model": "asked", "instructions": "S", "stream": true, "reasoning": {"effort": "high"}, "max_output_tokens": 50000,
            "input": [user("go"), reasoning, call("t1"), output("t1")],
        });
        let outgoing = outgoing(body).unwrap();
        let expected = json!({
            "model": "claude-haiku-4.5", "max_tokens": 50000, "system": [marked(text("S"))],
            "messages": [
                {"role": "user", "content": [marked(text("go"))]},
                {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "Eq=="}, tool_use("t1")]},
                {"role": "user", "content": [marked(json!({"type": "tool_result", "tool_use_id": "t1", "content": "r"}))]},
            ],
            "thinking": {"type": "enabled", "budget_tokens": 24576}, "stream": true,
        });
        assert_eq!(Value::Object(outgoing.body), expected);
        assert_eq!(outgoing.betas, ["interleaved-thinking-2025-05-14"]);
        assert_eq!(outgoing.reply.echo["instructions"], "S");
    }

    #[test]
    fn k127_outputs_and_what_is_said_after_them_are_one_message() {
        let out = sent(json!({"input": [user("go"), call("t1"), call("t2"), output("t1"), output("t2"), user("and")]}));
        let roles: Vec<&Value> = out["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|message| &message["role"])
            .collect();
        assert_eq!(roles, ["user", "assistant", "user"]);
        assert_eq!(out["messages"][2]["content"][2], marked(text("and")));
    }

    #[test]
    fn k128_efforts_become_budgets() {
        let thinking = |effort: &str| sent(json!({"input": "a", "reasoning": {"effort": effort}}))["thinking"].clone();
        assert_eq!(thinking("minimal"), json!({"type": "enabled", "budget_tokens": 1024}));
        assert_eq!(thinking("none"), json!({"type": "disabled"}));
    }

    #[test]
    fn k122_what_codex_always_sends_is_never_refused() {
        let body = json!({
            "input": "a", "store": false, "include": ["reasoning.encrypted_content"], "prompt_cache_key": "k",
            "client_metadata": {"a": "b"}, "text": {"verbosity": "low"}, "reasoning": {"summary": "auto"},
            "service_tier": "auto", "truncation": "auto", "parallel_tool_calls": true, "tool_choice": "auto",
            "tools": [
                {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}, "strict": false},
                {"type": "web_search"},
                {"type": "namespace", "name": "ns", "tools": [{"type": "function", "name": "g", "parameters": {}}]},
            ],
        });
        let outgoing = outgoing(body).unwrap();
        let names: Vec<&Value> = outgoing.body["tools"]
            .as_array()
            .unwrap()
            .iter()
            .map(|tool| &tool["name"])
            .collect();
        assert_eq!(names, ["f", "ns__g"]);
        let keys: Vec<&String> = outgoing.body.keys().collect();
        assert_eq!(keys, ["model", "max_tokens", "messages", "tools", "tool_choice"]);
        assert_eq!(outgoing.reply.tools["ns__g"].namespace.as_deref(), Some("ns"));
    }

    #[test]
    fn k123_a_summary_reaches_the_model_and_another_s_compaction_does_not_vanish() {
        let of = |held: Compacted| {
            let state = Carrier::Compaction {
                model: "m".into(),
                held,
            };
            json!({"input": [{"type": "compaction", "encrypted_content": state.encode()}, user("and now?")]})
        };
        let out = sent(of(Compacted::Text("we met".into())));
        assert!(
            out["messages"][0]["content"][0]["text"]
                .as_str()
                .unwrap()
                .ends_with("we met")
        );
        assert!(outgoing(of(Compacted::Items(vec![json!({})]))).is_err());
    }

    #[test]
    fn freeform_calls_become_functions() {
        let custom = json!({"type": "custom_tool_call", "call_id": "c", "name": "apply_patch", "input": "*** Begin\n"});
        let answer = json!({"type": "custom_tool_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "ok"}]});
        let tools = json!([{"type": "custom", "name": "apply_patch", "description": "d"}]);
        let out = sent(json!({"input": [user("go"), custom, answer], "tools": tools}));
        assert_eq!(
            out["messages"][1]["content"][0]["input"],
            json!({"input": "*** Begin\n"})
        );
        assert_eq!(out["messages"][2]["content"][0]["content"], "ok");
        assert_eq!(out["tools"][0]["input_schema"]["required"], json!(["input"]));
    }

    #[test]
    fn calls_and_outputs_that_take_turns_stay_in_turn() {
        let out = sent(json!({"input": [user("go"), call("a"), output("a"), call("b"), output("b")]}));
        let roles: Vec<&Value> = out["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|message| &message["role"])
            .collect();
        assert_eq!(roles, ["user", "assistant", "user", "assistant", "user"]);
    }

    #[test]
    fn odd_items_are_told_or_passed_over() {
        let reference = |id: &str| json!({"input": [{"type": "item_reference", "id": id}, user("go")]});
        assert_eq!(
            outgoing(reference("msg_1")).unwrap_err().openai_code(),
            Some("item_not_found")
        );
        assert!(
            outgoing(reference("rs_1")).is_ok(),
            "a history can do without its reasoning"
        );
        let out = sent(json!({"input": [
            {"role": "user", "content": "go"}, {"type": "ghost_snapshot"}, {"type": "future_item", "name": "x"},
            {"type": "web_search_call", "action": {"query": "q"}}, {"type": "reasoning", "encrypted_content": "raw"}, user("and"),
        ]}));
        assert_eq!(out["messages"][1]["content"], json!([text("[web search: q]")]));
    }

    proptest! {
        #[test]
        fn nonsense_harms_nobody(input in any_json(), tools in any_json(), rest in any_json()) {
            let _ = outgoing(json!({"input": input, "tools": tools, "tool_choice": rest, "text": rest, "instructions": rest}));
        }
    }
}
