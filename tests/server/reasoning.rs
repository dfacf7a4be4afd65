//! Reasoning on its way through clients that do not know it: what upstream wants back it gets, to the byte, and nobody
//! gets another's. The simulator knows its own seals and refuses every other.

use serde_json::{Value, json};

use crate::support::{Client, World};

const CALL: &str = "please call get_weather {\"city\": \"Oslo\"}";

/// A Chat client's request for a tool, and then its history as one that loses everything but text and calls.
async fn forgetful(world: &World, model: &str, stream: bool) -> Value {
    let mut body = Client::Chat.body_with_tool(model, CALL, stream);
    body["reasoning_effort"] = json!("high");
    let answer = world.post(Client::Chat.path(), &body).await;
    let calls: Value = if stream {
        let mut call = json!({"type": "function", "function": {"name": "", "arguments": ""}});
        for event in answer.events() {
            let piece = &event["choices"][0]["delta"]["tool_calls"][0];
            if piece["id"].is_string() {
                call["id"] = piece["id"].clone();
                call["function"]["name"] = piece["function"]["name"].clone();
            }
            let grown = call["function"]["arguments"].as_str().unwrap().to_owned();
            let more = piece["function"]["arguments"].as_str().unwrap_or_default();
            call["function"]["arguments"] = json!(grown + more);
        }
        json!([call])
    } else {
        answer.expect(200)["choices"][0]["message"]["tool_calls"].clone()
    };
    assert_eq!(calls[0]["function"]["name"], "get_weather", "{}", answer.text);
    let messages = body["messages"].as_array_mut().unwrap();
    messages.push(json!({"role": "assistant", "content": null, "tool_calls": calls}));
    messages.push(json!({"role": "tool", "tool_call_id": calls[0]["id"], "content": "windy"}));
    body["stream"] = json!(false);
    body
}

#[actix_rt::test]
async fn k103_thinking_that_a_chat_client_lost_is_given_back() {
    let lines = "models.overrides = {\"claude-haiku-4.5\" = [\"/v1/messages\"]}\n";
    let world = World::with(lines).await;
    let mut lost = Value::Null;
    for stream in [false, true] {
        let body = forgetful(&world, "claude-haiku-4.5", stream).await;
        world.one("/v1/messages");
        let answer = world.post(Client::Chat.path(), &body).await.expect(200);
        assert!(Client::Chat.text(&answer).contains("windy"), "{answer:#}");
        let asked = world.one("/v1/messages");
        assert_eq!(asked["body"]["thinking"]["type"], "enabled", "{asked:#}");
        let content = asked["body"]["messages"][1]["content"].as_array().unwrap();
        let kinds: Vec<&Value> = content.iter().map(|block| &block["type"]).collect();
        assert_eq!(kinds, ["thinking", "tool_use"], "{asked:#}");
        assert!(
            content[0]["signature"]
                .as_str()
                .is_some_and(|signature| signature.len() > 20)
        );
        lost = body;
    }
    // Nobody knows these thoughts any more: the loop goes on without thinking.
    let world = World::with(lines).await;
    let answer = world.post(Client::Chat.path(), &lost).await.expect(200);
    assert!(Client::Chat.text(&answer).contains("windy"), "{answer:#}");
    let asked = world.one("/v1/messages");
    assert_ne!(asked["body"]["thinking"]["type"], "enabled", "{asked:#}");
    assert!(
        !asked["body"]["messages"].to_string().contains("\"thinking\""),
        "{asked:#}"
    );
}

#[actix_rt::test]
async fn k104_what_gemini_wants_back_it_gets_back() {
    let world = World::new().await;
    for stream in [false, true] {
        let body = forgetful(&world, "gemini-3.1-pro-preview", stream).await;
        world.one("/chat/completions");
        let answer = world.post(Client::Chat.path(), &body).await.expect(200);
        assert!(Client::Chat.text(&answer).contains("windy"), "{answer:#}");
        let asked = world.one("/chat/completions");
        let opaque = &asked["body"]["messages"][1]["reasoning_opaque"];
        assert!(
            opaque.as_str().is_some_and(|opaque| !opaque.starts_with("cpx1.")),
            "{asked:#}"
        );
    }
}

/// A conversation of a Messages client that goes from model to model.
struct Talk<'a> {
    world: &'a World,
    messages: Vec<Value>,
}

impl Talk<'_> {
    /// One request, which must be answered at the first try; what upstream was asked.
    async fn ask(&mut self, model: &str, path: &str, content: Value) -> Value {
        self.messages.push(json!({"role": "user", "content": content}));
        let mut body = Client::Messages.body_with_tool(model, "", false);
        body["max_tokens"] = json!(8000);
        body["thinking"] = json!({"type": "enabled", "budget_tokens": 3000});
        body["messages"] = json!(self.messages);
        let answer = self.world.post("/v1/messages", &body).await.expect(200);
        self.messages
            .push(json!({"role": "assistant", "content": answer["content"]}));
        self.world.one(path)
    }

    fn last(&self, kind: &str) -> Value {
        let content = self.messages.last().unwrap()["content"].as_array().unwrap();
        let found = content.iter().find(|block| block["type"] == kind);
        found.unwrap_or_else(|| panic!("no {kind}: {content:#?}")).clone()
    }

    /// A complete tool turn, with thinking before it.
    async fn loops(&mut self, model: &str, path: &str) -> (Value, Value) {
        let first = self.ask(model, path, json!(CALL)).await;
        let call = self.last("tool_use");
        self.last("thinking");
        let result = json!([{"type": "tool_result", "tool_use_id": call["id"], "content": "windy"}]);
        (first, self.ask(model, path, result).await)
    }
}

#[actix_rt::test]
async fn k164_a_conversation_goes_from_model_to_model_and_back() {
    let world = World::new().await;
    for (other, path) in [
        ("gpt-5.4", "/responses"),
        ("gemini-3.1-pro-preview", "/chat/completions"),
    ] {
        let mut talk = Talk {
            world: &world,
            messages: Vec::new(),
        };
        let claude = ("claude-sonnet-4.5", "/v1/messages");
        let (_, second) = talk.loops(claude.0, claude.1).await;
        let signed = second["body"]["messages"][1]["content"][0].clone();
        assert_eq!(signed["type"], "thinking", "{second:#}");
        let signature = signed["signature"].as_str().unwrap().to_owned();

        let (first, second) = talk.loops(other, path).await;
        for asked in [&first, &second] {
            let body = asked["body"].to_string();
            assert!(!body.contains("cpx1.") && !body.contains(&signature), "{other}: {body}");
            assert!(
                body.contains("windy") && body.contains("get_weather"),
                "{other}: {body}"
            );
        }
        let own = talk.messages[5]["content"][0].clone();
        assert!(
            own["signature"]
                .as_str()
                .is_some_and(|state| state.starts_with("cpx1.")),
            "{own:#}"
        );
        // The other's own state came back to it, and was taken.
        let state = own["signature"].as_str().unwrap().rsplit('.').next().unwrap();
        assert!(second["body"].to_string().contains(state), "{other}: {second:#}");
        assert!(!first["body"].to_string().contains(state));

        let third = talk.ask(claude.0, claude.1, json!("and thank you")).await;
        let body = third["body"].to_string();
        assert!(!body.contains("cpx1.") && !body.contains(state), "{other}: {body}");
        assert!(body.contains(&signature), "{other}: {body}");
        let blocks: Vec<&Value> = third["body"]["messages"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|message| message["content"].as_array().into_iter().flatten())
            .collect();
        let count = |kind: &str| blocks.iter().filter(|block| block["type"] == kind).count();
        assert_eq!((count("tool_use"), count("tool_result")), (2, 2), "{other}: {third:#}");
        let texts = |value: &Value| value.to_string().matches("The tool answered").count();
        assert_eq!(texts(&third["body"]), texts(&json!(talk.messages[..9])), "{other}");

        // And once more to the other, which finds its own again.
        let fourth = talk.ask(other, path, json!("once more")).await;
        let body = fourth["body"].to_string();
        assert!(body.contains(state) && !body.contains(&signature), "{other}: {body}");
    }
}

#[actix_rt::test]
async fn k164_state_stays_in_its_family_where_the_protocol_is_the_same() {
    let world = World::new().await;
    let chat = "/chat/completions";
    let mut talk = Talk {
        world: &world,
        messages: Vec::new(),
    };
    talk.loops("gemini-3.1-pro-preview", chat).await;
    let own = talk.messages[1]["content"][0]["signature"].as_str().unwrap().to_owned();
    let state = own.rsplit('.').next().unwrap();
    for (model, path) in [
        ("kimi-k2.7-code", chat),
        ("gpt-4.1", chat),
        ("claude-sonnet-4.5", "/v1/messages"),
        ("gpt-5.4", "/responses"),
    ] {
        let asked = talk.ask(model, path, json!("what do you think?")).await;
        let body = asked["body"].to_string();
        assert!(!body.contains(state) && !body.contains("cpx1."), "{model}: {body}");
        assert!(body.contains("windy"), "{model}: {body}");
    }
    let asked = talk.ask("gemini-3.1-pro-preview", chat, json!("and you?")).await;
    assert!(asked["body"].to_string().contains(state), "{asked:#}");
}
