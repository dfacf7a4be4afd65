//! What upstream refuses is mended and sent once more, unseen by the client; and what a refusal teaches is not tried
//! again.

use serde_json::{Value, json};

use crate::support::{Client, World};

fn anthropic(message: &str) -> Value {
    let error = json!({"type": "invalid_request_error", "message": message});
    json!({"endpoint": "messages", "status": 400, "body": {"type": "error", "error": error}})
}

fn openai(endpoint: &str, code: &str, message: &str) -> Value {
    json!({"endpoint": endpoint, "status": 400, "body": {"error": {"code": code, "message": message}}})
}

fn betas(request: &Value) -> &str {
    request["headers"]["anthropic-beta"].as_str().unwrap_or_default()
}

#[actix_rt::test]
async fn k023_a_field_that_was_refused_is_left_out_from_then_on() {
    let world = World::new().await;
    let ask = |model: &str| {
        let mut body = Client::Messages.body(model, "hello", false);
        body["context_management"] = json!({"edits": [{"type": "clear_tool_uses_20250919"}]});
        body
    };
    world
        .plan(anthropic("context_management: Extra inputs are not permitted"))
        .await;
    world.post("/v1/messages", &ask("claude-sonnet-4.5")).await.expect(200);
    let asked = world.upstream("/v1/messages");
    let sent: Vec<bool> = asked
        .iter()
        .map(|asked| asked["body"]["context_management"].is_object())
        .collect();
    assert_eq!(sent, [true, false], "{asked:#?}");
    for stream in [false, true] {
        let mut body = ask("claude-sonnet-4.5");
        body["stream"] = json!(stream);
        assert_eq!(world.post("/v1/messages", &body).await.status, 200);
        let third = world.one("/v1/messages");
        assert!(third["body"].get("context_management").is_none(), "{third:#}");
    }
    // Another model is another matter.
    world.post("/v1/messages", &ask("claude-opus-4.8")).await.expect(200);
    assert!(world.one("/v1/messages")["body"]["context_management"].is_object());
}

#[actix_rt::test]
async fn k032_thinking_with_a_foreign_signature_costs_one_retry() {
    let world = World::new().await;
    let foreign = json!({"type": "thinking", "thinking": "hm", "signature": "c29tZWJvZHkgZWxzZSdz"});
    let mut body = Client::Messages.body("claude-sonnet-4.5", "unused", false);
    body["max_tokens"] = json!(8000);
    body["thinking"] = json!({"type": "enabled", "budget_tokens": 2000});
    body["messages"] = json!([
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": [foreign, {"type": "text", "text": "an answer"}]},
        {"role": "user", "content": "second"},
    ]);
    for stream in [false, true] {
        body["stream"] = json!(stream);
        let answer = world.post("/v1/messages", &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let asked = world.upstream("/v1/messages");
        assert_eq!(asked.len(), 2, "{asked:#?}");
        let before = &asked[0]["body"]["messages"][1]["content"];
        assert_eq!(before[0], foreign, "the first try is the client's own");
        let after = &asked[1]["body"]["messages"][1]["content"];
        assert_eq!(after, &json!([{"type": "text", "text": "an answer"}]));
        assert_eq!(asked[0]["initiator"], asked[1]["initiator"]);
    }
    // A refusal that goes on reaches the client, after one retry.
    let refusal = "messages.1.content.0: Invalid `signature` in `thinking` block";
    world
        .plan(json!({"endpoint": "messages", "status": 400, "times": 9,
            "body": {"type": "error", "error": {"type": "invalid_request_error", "message": refusal}}}))
        .await;
    let answer = world.post("/v1/messages", &body).await;
    let (_, _, message) = Client::Messages.refusal(&answer, 400);
    assert_eq!(message, refusal);
    assert_eq!(world.upstream("/v1/messages").len(), 2);
}

/// What a Messages client holds after a thinking answer: the whole history, and the block with the state.
async fn thought(world: &World, model: &str) -> (Value, String) {
    let mut body = Client::Messages.body(model, "hello there", false);
    body["max_tokens"] = json!(8000);
    body["thinking"] = json!({"type": "enabled", "budget_tokens": 5000});
    let answer = world.post("/v1/messages", &body).await.expect(200);
    let state = answer["content"][0]["signature"].as_str();
    let state = state.unwrap_or_else(|| panic!("no state: {answer:#}")).to_owned();
    let messages = body["messages"].as_array_mut().unwrap();
    messages.push(json!({"role": "assistant", "content": answer["content"]}));
    messages.push(json!({"role": "user", "content": "go on"}));
    (body, state)
}

fn reasoning(request: &Value) -> Vec<&Value> {
    let items = request["body"]["input"].as_array().unwrap().iter();
    items.filter(|item| item["type"] == "reasoning").collect()
}

#[actix_rt::test]
async fn k048_reasoning_that_upstream_cannot_read_costs_one_retry() {
    let world = World::new().await;
    let (mut body, state) = thought(&world, "gpt-5.4").await;
    world.one("/responses");
    // As it came, it is taken.
    world.post("/v1/messages", &body).await.expect(200);
    let asked = world.one("/responses");
    let sealed = reasoning(&asked)[0]["encrypted_content"].as_str().unwrap();
    assert!(state.starts_with("cpx1.r.") && state.ends_with(sealed), "{state}");

    let spoiled = state.replace(sealed, &"A".repeat(sealed.len()));
    body["messages"][1]["content"][0]["signature"] = json!(spoiled);
    for stream in [false, true] {
        body["stream"] = json!(stream);
        let answer = world.post("/v1/messages", &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let asked = world.upstream("/responses");
        let sent: Vec<usize> = asked.iter().map(|asked| reasoning(asked).len()).collect();
        assert_eq!(sent, [1, 0], "{asked:#?}");
        assert!(
            asked[1]["body"].to_string().contains("You said: hello there")
                || asked[1]["body"].to_string().contains("hello there")
        );
    }
}

#[actix_rt::test]
async fn k094_a_call_with_tools_goes_where_the_model_can_reason() {
    let both = "[\"/chat/completions\", \"/responses\"]";
    let world = World::with(&format!(
        "models.overrides = {{\"gpt-5.4\" = {both}, \"gpt-5.1\" = {both}}}\n"
    ))
    .await;
    let ask = |model: &str, tools: bool| {
        let mut body = if tools {
            Client::Chat.body_with_tool(model, "hello", false)
        } else {
            Client::Chat.body(model, "hello", false)
        };
        body["reasoning_effort"] = json!("low");
        body
    };
    let path = "/v1/chat/completions";
    world.post(path, &ask("gpt-5.4", true)).await.expect(200);
    assert_eq!(world.ways(), ["/responses"]);
    // Without tools Chat comes first; the simulator's gpt-5.4 is not served there, whatever the settings say.
    for ways in [&["/chat/completions", "/responses"][..], &["/responses"]] {
        world.post(path, &ask("gpt-5.4", false)).await.expect(200);
        assert_eq!(world.ways(), ways);
    }

    // A model that nobody knew to be so is remembered to be so.
    let refusal = "Function tools with reasoning_effort are not supported for gpt-5.1 in /v1/chat/completions. \
                   Please use /v1/responses instead.";
    world.plan(openai("chat", "unsupported_parameter", refusal)).await;
    for ways in [&["/chat/completions", "/responses"][..], &["/responses"]] {
        world.post(path, &ask("gpt-5.1", true)).await.expect(200);
        assert_eq!(world.ways(), ways);
    }
}

#[actix_rt::test]
async fn k169_a_beta_that_was_refused_is_left_out_from_then_on() {
    let world = World::new().await;
    let odd = "interleaved-thinking-2026-01-01";
    let known = "context-management-2025-06-27";
    let ask = |model: &str, stream: bool| {
        let ask = world
            .ask("POST", "/v1/messages")
            .header("anthropic-beta", &format!("{odd},{known}"));
        ask.json(&Client::Messages.body(model, "hello", stream)).send()
    };
    ask("claude-sonnet-4.5", false).await.expect(200);
    let asked = world.upstream("/v1/messages");
    let sent: Vec<&str> = asked.iter().map(betas).collect();
    assert_eq!(sent, [&format!("{odd},{known}"), known]);
    for stream in [false, true] {
        assert_eq!(ask("claude-sonnet-4.5", stream).await.status, 200);
        assert_eq!(betas(&world.one("/v1/messages")), known);
    }
    // The lesson is this model's.
    ask("claude-haiku-4.5", false).await.expect(200);
    assert_eq!(world.upstream("/v1/messages").len(), 2);
}

#[actix_rt::test]
async fn no_request_is_mended_more_than_three_times() {
    let world = World::new().await;
    let mut body = Client::Messages.body("claude-sonnet-4.5", "hello", false);
    for at in 0..6 {
        body[format!("odd_{at}")] = json!(at);
    }
    // Upstream names one field at a time; what it has named is left out from then on.
    for (status, tries) in [(400, 4), (200, 4), (200, 1)] {
        let answer = world.post("/v1/messages", &body).await;
        assert_eq!(answer.status, status, "{}", answer.text);
        let asked = world.upstream("/v1/messages");
        assert_eq!(asked.len(), tries, "{asked:#?}");
        assert!(asked.iter().all(|asked| asked["initiator"] == "user"));
    }
}
