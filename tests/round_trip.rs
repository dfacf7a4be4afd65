//! There and back: a conversation translated to another protocol and back again is the same conversation.
//!
//! Compared is what the table of losses says every pair carries of it: instructions, who said what in which order,
//! calls with their ids and arguments, results, the tools, the limit.

use std::sync::Arc;

use copilot_proxy::protocol::Protocol;
use copilot_proxy::protocol::catalog::{Catalog, Model};
use copilot_proxy::translate::request::gemini_to_chat;
use copilot_proxy::translate::{Context, Hints, Memory, Object, Tuning, pairs};
use proptest::prelude::*;
use serde_json::{Value, json};

fn model(way: Protocol) -> Arc<Model> {
    let (id, endpoint) = match way {
        Protocol::Chat => ("gpt-4.1", "/chat/completions"),
        Protocol::Messages => ("claude-sonnet-4.5", "/v1/messages"),
        Protocol::Responses => ("gpt-4.1", "/responses"),
    };
    let capabilities = json!({"supports": {"tool_calls": true}, "limits": {"max_output_tokens": 64000}});
    let list = json!({"data": [{"id": id, "supported_endpoints": [endpoint], "capabilities": capabilities}]});
    Catalog::read(&list).models()[0].clone()
}

fn translated(client: Protocol, way: Protocol, body: &Object) -> Object {
    let context = Context {
        model: &model(way),
        requested: "m",
        tuning: &Tuning::default(),
        memory: &Memory::default(),
        hints: &Hints::default(),
    };
    pairs::outgoing(client, way, body.clone(), &context).unwrap().body
}

/// What happens in a conversation, whatever its protocol.
#[derive(Clone, Debug, PartialEq)]
enum Happening {
    Instructed(String),
    Asked(String),
    Answered(String),
    Called { id: String, name: String, input: Value },
    Resulted { id: String, text: String },
}

/// Happenings in order; texts of one speaker that follow each other are one.
#[derive(Debug, Default, PartialEq)]
struct Conversation(Vec<Happening>);

impl Conversation {
    fn happens(&mut self, next: Happening) {
        use Happening::{Answered, Asked, Instructed};
        match (self.0.last_mut(), &next) {
            (Some(Instructed(before)), Instructed(more))
            | (Some(Asked(before)), Asked(more))
            | (Some(Answered(before)), Answered(more)) => {
                before.push_str("\n\n");
                before.push_str(more);
            }
            _ => self.0.push(next),
        }
    }

    /// A content in any protocol: a text, or parts with texts.
    fn said(&mut self, content: &Value, by: fn(String) -> Happening) {
        match content {
            Value::String(text) => self.happens(by(text.clone())),
            content => {
                for part in content.as_array().into_iter().flatten() {
                    self.happens(by(part["text"].as_str().unwrap().to_owned()));
                }
            }
        }
    }

    fn speaker(role: &Value) -> fn(String) -> Happening {
        match role.as_str().unwrap() {
            "assistant" => Happening::Answered,
            "user" => Happening::Asked,
            _ => Happening::Instructed,
        }
    }

    fn called(&mut self, id: &Value, name: &Value, arguments: &Value) {
        let input = arguments.as_str().map_or_else(
            || arguments.clone(),
            |arguments| serde_json::from_str(arguments).unwrap(),
        );
        self.happens(Happening::Called {
            id: id.as_str().unwrap().to_owned(),
            name: name.as_str().unwrap().to_owned(),
            input,
        });
    }

    fn resulted(&mut self, id: &Value, output: &Value) {
        self.happens(Happening::Resulted {
            id: id.as_str().unwrap().to_owned(),
            text: output.as_str().unwrap().to_owned(),
        });
    }

    fn read(protocol: Protocol, body: &Object) -> Self {
        let body = Value::Object(body.clone());
        let mut read = Self::default();
        let items = |name: &str| body[name].as_array().cloned().unwrap_or_default();
        match protocol {
            Protocol::Chat => {
                for message in items("messages") {
                    if message["role"] == "tool" {
                        read.resulted(&message["tool_call_id"], &message["content"]);
                        continue;
                    }
                    read.said(&message["content"], Self::speaker(&message["role"]));
                    for call in message["tool_calls"].as_array().into_iter().flatten() {
                        read.called(&call["id"], &call["function"]["name"], &call["function"]["arguments"]);
                    }
                }
            }
            Protocol::Messages => {
                read.said(&body["system"], Happening::Instructed);
                for message in items("messages") {
                    let Value::Array(blocks) = &message["content"] else {
                        read.said(&message["content"], Self::speaker(&message["role"]));
                        continue;
                    };
                    for block in blocks {
                        match block["type"].as_str().unwrap() {
                            "tool_use" => read.called(&block["id"], &block["name"], &block["input"]),
                            "tool_result" => read.resulted(&block["tool_use_id"], &block["content"]),
                            _ => read.said(&json!([block]), Self::speaker(&message["role"])),
                        }
                    }
                }
            }
            Protocol::Responses => {
                read.said(&body["instructions"], Happening::Instructed);
                for item in items("input") {
                    match item["type"].as_str().unwrap_or("message") {
                        "function_call" => read.called(&item["call_id"], &item["name"], &item["arguments"]),
                        "function_call_output" => read.resulted(&item["call_id"], &item["output"]),
                        _ => read.said(&item["content"], Self::speaker(&item["role"])),
                    }
                }
            }
        }
        read
    }
}

/// The names of the tools and the limit of the answer.
fn frame(body: &Object) -> (Vec<String>, Option<u64>) {
    let tools = body.get("tools").and_then(Value::as_array);
    let name = |tool: &Value| {
        let name = tool["name"].as_str().or(tool["function"]["name"].as_str());
        name.unwrap().to_owned()
    };
    let limit = ["max_tokens", "max_output_tokens", "max_completion_tokens"]
        .iter()
        .find_map(|name| body.get(*name)?.as_u64());
    (tools.into_iter().flatten().map(name).collect(), limit)
}

/// Any well-formed conversation, as a Messages client has it.
fn conversations() -> impl Strategy<Value = Object> {
    let words = "[a-zß世\"\\\\{}]{1,8}( [a-z🌍\n]{0,4}[a-z])?";
    let calls = prop::collection::vec((words, words), 0..4);
    let rounds = prop::collection::vec((words, prop::option::of(words), calls, prop::option::of(words)), 0..4);
    (words, rounds, words, 16..60_000_u64).prop_map(|(system, rounds, last, limit)| {
        let mut messages = Vec::new();
        let mut minted = 0;
        let text = |text: &str| json!({"type": "text", "text": text});
        for (asked, answered, calls, more) in rounds {
            messages.push(json!({"role": "user", "content": asked}));
            let mut answer: Vec<Value> = answered.iter().map(|said| text(said)).collect();
            let mut results = Vec::new();
            for (argument, result) in calls {
                minted += 1;
                let id = format!("call_{minted}");
                answer.push(json!({"type": "tool_use", "id": id, "name": "f", "input": {"z": argument, "a": 1}}));
                results.push(json!({"type": "tool_result", "tool_use_id": id, "content": result}));
            }
            results.extend(more.iter().map(|said| text(said)));
            for (role, content) in [("assistant", answer), ("user", results)] {
                if !content.is_empty() {
                    messages.push(json!({"role": role, "content": content}));
                }
            }
        }
        messages.push(json!({"role": "user", "content": last}));
        let tools = json!([{"name": "f", "input_schema": {"type": "object", "properties": {}}}]);
        let body = json!({"model": "m", "system": system, "messages": messages, "max_tokens": limit, "tools": tools});
        body.as_object().unwrap().clone()
    })
}

/// The same conversation as a Gemini client has it, with the ids of its calls or without.
fn as_gemini(told: &Object, ids: bool) -> Object {
    let told = Value::Object(told.clone());
    let mut contents = Vec::new();
    for message in told["messages"].as_array().unwrap() {
        let part = |block: &Value| match block["type"].as_str().unwrap() {
            "tool_use" => json!({"functionCall": {"id": block["id"], "name": block["name"], "args": block["input"]}}),
            "tool_result" => json!({"functionResponse": {"id": block["tool_use_id"], "name": "f",
                "response": {"output": block["content"]}}}),
            _ => json!({"text": block["text"]}),
        };
        let mut parts = match &message["content"] {
            Value::Array(blocks) => blocks.iter().map(part).collect(),
            text => vec![json!({"text": text})],
        };
        for part in parts
            .iter_mut()
            .flat_map(|part| part.as_object_mut().unwrap().values_mut())
        {
            if let Value::Object(call) = part
                && !ids
            {
                call.shift_remove("id");
            }
        }
        let role = if message["role"] == "user" { "user" } else { "model" };
        contents.push(json!({"role": role, "parts": parts}));
    }
    let declared = json!([{"name": "f", "parameters": {"type": "OBJECT", "properties": {}}}]);
    let body = json!({"model": "m", "system_instruction": {"parts": {"text": told["system"]}}, "contents": contents,
        "tools": [{"function_declarations": declared}], "generationConfig": {"maxOutputTokens": told["max_tokens"]}});
    body.as_object().unwrap().clone()
}

/// The conversation with its calls numbered in the order they were made.
fn numbered(mut conversation: Conversation) -> Conversation {
    let mut seen: Vec<String> = Vec::new();
    for happening in &mut conversation.0 {
        if let Happening::Called { id, .. } | Happening::Resulted { id, .. } = happening {
            let at = seen.iter().position(|one| one == id).unwrap_or(seen.len());
            if at == seen.len() {
                seen.push(id.clone());
            }
            *id = at.to_string();
        }
    }
    conversation
}

proptest! {
    #[test]
    fn a_conversation_of_a_gemini_client_is_the_same_for_every_upstream(told in conversations()) {
        let conversation = Conversation::read(Protocol::Messages, &told);
        let named = gemini_to_chat::request(as_gemini(&told, true)).unwrap();
        prop_assert_eq!(&Conversation::read(Protocol::Chat, &named), &conversation);
        for way in Protocol::ALL {
            let there = translated(Protocol::Chat, way, &named);
            prop_assert_eq!(&Conversation::read(way, &there), &conversation, "{:?}", way);
            prop_assert_eq!(frame(&there), frame(&told));
        }
        let unnamed = gemini_to_chat::request(as_gemini(&told, false)).unwrap();
        prop_assert_eq!(numbered(Conversation::read(Protocol::Chat, &unnamed)), numbered(conversation));
    }

    #[test]
    fn a_conversation_there_and_back_is_the_same(told in conversations()) {
        for client in Protocol::ALL {
            let first = translated(Protocol::Messages, client, &told);
            let conversation = Conversation::read(client, &first);
            prop_assert_eq!(&Conversation::read(Protocol::Messages, &told), &conversation);
            for way in Protocol::ALL {
                let there = translated(client, way, &first);
                prop_assert_eq!(&Conversation::read(way, &there), &conversation, "there: {:?} to {:?}", client, way);
                let back = translated(way, client, &there);
                prop_assert_eq!(&Conversation::read(client, &back), &conversation, "back: {:?} to {:?}", way, client);
                prop_assert_eq!(frame(&back), frame(&told));
            }
        }
    }
}
