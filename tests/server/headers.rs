//! The headers that depend on what is asked, as Copilot receives them: beta features, images, who caused the request.
//! And those of Copilot's own that reach the client.

use serde_json::{Value, json};

use crate::support::{CLIENTS, Client, World};

/// A PNG of one pixel.
const PIXEL: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/// A model of each kind, and upstream's path to it; this Claude has no other.
const UPSTREAMS: [(&str, &str); 3] = [
    ("claude-sonnet-4.5", "/v1/messages"),
    ("gpt-5.4", "/responses"),
    ("gpt-4.1", "/chat/completions"),
];

const MESSAGES_ONLY: &str = "models.overrides = {\"claude-sonnet-4.5\" = [\"/v1/messages\"]}\n";

fn header<'a>(request: &'a Value, name: &str) -> Option<&'a str> {
    request["headers"][name].as_str()
}

fn with(mut body: Value, more: Value) -> Value {
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// Asks by the client's own path, which must be answered well, and hands out what Copilot was asked.
async fn asked(world: &World, client: Client, body: &Value, path: &str) -> Value {
    let answer = world.post(client.path(), body).await;
    assert_eq!(answer.status, 200, "{client:?} {body:#}: {}", answer.text);
    world.one(path)
}

#[actix_rt::test]
async fn k039_of_the_clients_betas_only_those_that_upstream_knows_go_on() {
    let world = World::new().await;
    const SYSTEM: &str = "mid-conversation-system-2026-04-07";
    let interleaved = "interleaved-thinking-2025-05-14";
    let thinks = json!({"max_tokens": 8000, "thinking": {"type": "enabled", "budget_tokens": 2000}});
    let adaptive = json!({"max_tokens": 8000, "thinking": {"type": "adaptive"}});
    let example = json!({"tools": [{"name": "f", "input_schema": {"type": "object", "properties": {}},
        "input_examples": [{}]}]});
    let managed = json!({"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}});
    let in_between = json!({"messages": [{"role": "user", "content": "a"}, {"role": "system", "content": "b"},
        {"role": "user", "content": "c"}]});
    let foreign = "claude-code-20250219,oauth-2025-04-20,context-1m-2025-08-07,prompt-caching-scope-2026-01-05,\
                   fine-grained-tool-streaming-2025-05-14,advisor-tool-2026-03-01,unheard-of-2026-01-01";
    let known = format!("{foreign},{interleaved}, {interleaved}");
    let cases: [(&str, &str, &Value, Option<&str>); 10] = [
        ("claude-sonnet-4.5", "", &json!({}), None),
        ("claude-sonnet-4.5", foreign, &json!({}), None),
        ("claude-sonnet-4.5", &known, &json!({}), Some(interleaved)),
        ("claude-sonnet-4.5", "", &thinks, Some(interleaved)),
        ("claude-sonnet-4.5", &known, &thinks, Some(interleaved)),
        ("claude-sonnet-4.6", interleaved, &adaptive, None),
        ("claude-sonnet-4.5", "", &example, Some("advanced-tool-use-2025-11-20")),
        ("claude-sonnet-4.5", "", &managed, Some("context-management-2025-06-27")),
        // Instructions in between stay where they are only for a client that says it means it.
        ("claude-opus-4.8", "", &in_between, None),
        ("claude-opus-4.8", SYSTEM, &in_between, Some(SYSTEM)),
    ];
    for (model, sent, more, wanted) in cases {
        let body = with(Client::Messages.body(model, "hi", false), more.clone());
        let ask = world.ask("POST", "/v1/messages").json(&body);
        let ask = if sent.is_empty() {
            ask
        } else {
            ask.header("anthropic-beta", sent)
        };
        ask.send().await.expect(200);
        let asked = world.one("/v1/messages");
        assert_eq!(header(&asked, "anthropic-beta"), wanted, "{sent} {body}");
        let in_between = asked["body"]["messages"].to_string().contains("\"system\"");
        assert_eq!(in_between, wanted == Some(SYSTEM), "{asked:#}");
    }
}

#[actix_rt::test]
async fn anthropics_headers_go_to_anthropics_endpoint_alone() {
    let world = World::with(MESSAGES_ONLY).await;
    for client in CLIENTS {
        for (model, path) in UPSTREAMS {
            let ask = world
                .ask("POST", client.path())
                .header("anthropic-version", "2099-01-01")
                .header("anthropic-beta", "interleaved-thinking-2025-05-14")
                .header("openai-beta", "responses=v1");
            ask.json(&client.body(model, "hi", false)).send().await.expect(200);
            let asked = world.one(path);
            let is_messages = path == "/v1/messages";
            let version = is_messages.then_some("2023-06-01");
            assert_eq!(header(&asked, "anthropic-version"), version, "{client:?} {model}");
            assert!(is_messages || header(&asked, "anthropic-beta").is_none(), "{asked:#}");
            assert_eq!(header(&asked, "openai-beta"), None);
        }
    }
    let counting = "/v1/messages/count_tokens";
    world
        .post(counting, &Client::Messages.body("claude-sonnet-4.5", "hi", false))
        .await
        .expect(200);
    let asked = world.one(counting);
    assert_eq!(header(&asked, "anthropic-version"), Some("2023-06-01"));
    assert_eq!(header(&asked, "x-initiator"), None, "counting is nobody's turn");
}

/// A request with an image at each depth that the client's protocol has.
fn with_images(client: Client, model: &str) -> Vec<Value> {
    let text = client.body_with_tool(model, "hi", false);
    let url = format!("data:image/png;base64,{PIXEL}");
    let messages = |messages: Value| with(text.clone(), json!({"messages": messages}));
    let input = |input: Value| with(text.clone(), json!({"input": input}));
    match client {
        Client::Messages => {
            let image =
                json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}});
            let call = json!({"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {}});
            let result = json!({"type": "tool_result", "tool_use_id": "toolu_1", "content": [image]});
            vec![
                messages(json!([{"role": "user", "content": [image]}])),
                messages(
                    json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": [call]},
                    {"role": "user", "content": [result]}]),
                ),
                messages(
                    json!([{"role": "user", "content": [image, {"type": "text", "text": "a"}]},
                    {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]),
                ),
            ]
        }
        Client::Chat => {
            let image = json!({"type": "image_url", "image_url": {"url": url}});
            let call = json!({"id": "call_1", "type": "function",
                "function": {"name": "get_weather", "arguments": "{}"}});
            vec![
                messages(json!([{"role": "user", "content": [image]}])),
                messages(json!([{"role": "user", "content": "a"},
                    {"role": "assistant", "content": null, "tool_calls": [call]},
                    {"role": "tool", "tool_call_id": "call_1", "content": [image]}])),
            ]
        }
        Client::Responses => {
            let image = json!({"type": "input_image", "image_url": url});
            let call = json!({"type": "function_call", "call_id": "call_1", "name": "get_weather", "arguments": "{}"});
            vec![
                input(json!([{"role": "user", "content": [image]}])),
                input(json!([{"role": "user", "content": "a"}, call,
                    {"type": "function_call_output", "call_id": "call_1", "output": [image]}])),
            ]
        }
    }
}

#[actix_rt::test]
async fn k156_k004_images_are_announced_wherever_they_are() {
    let world = World::with(MESSAGES_ONLY).await;
    for client in CLIENTS {
        for (model, path) in UPSTREAMS {
            let plain = asked(&world, client, &client.body(model, "hi", false), path).await;
            assert_eq!(header(&plain, "copilot-vision-request"), None, "{client:?} {model}");
            for body in with_images(client, model) {
                let asked = asked(&world, client, &body, path).await;
                let told = header(&asked, "copilot-vision-request");
                assert_eq!(told, Some("true"), "{client:?} {model}: {body}");
                assert!(asked["body"].to_string().contains(PIXEL), "{asked:#}");
            }
        }
    }
}

/// Conversations, and who caused their last request.
fn conversations(client: Client) -> Vec<(Value, &'static str)> {
    let said = |role: &str, content: Value| json!({"role": role, "content": content});
    match client {
        Client::Messages => {
            let call = json!({"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {}});
            let result = json!({"type": "tool_result", "tool_use_id": "toolu_1", "content": "windy"});
            let text = |text: &str| json!({"type": "text", "text": text});
            let asked = said("user", json!("a"));
            let called = said("assistant", json!([call]));
            let reminder = text("<system-reminder>be kind</system-reminder>");
            vec![
                (json!([asked]), "user"),
                (json!([asked, called, said("user", json!([result]))]), "agent"),
                (
                    json!([asked, called, said("user", json!([result, text("and now?")]))]),
                    "user",
                ),
                (json!([asked, called, said("user", json!([result, reminder]))]), "agent"),
                (
                    json!([asked, said("assistant", json!("b")), said("user", json!("c"))]),
                    "user",
                ),
                (json!([asked, said("assistant", json!("Sure, "))]), "user"),
            ]
        }
        Client::Chat => {
            let call = json!({"id": "call_1", "type": "function",
                "function": {"name": "get_weather", "arguments": "{}"}});
            let called = json!({"role": "assistant", "content": null, "tool_calls": [call]});
            let result = json!({"role": "tool", "tool_call_id": "call_1", "content": "windy"});
            let asked = said("user", json!("a"));
            vec![
                (json!([asked]), "user"),
                (json!([asked, called, result]), "agent"),
                (
                    json!([asked, called, result, said("system", json!("be kind"))]),
                    "agent",
                ),
                (
                    json!([
                        asked,
                        called,
                        result,
                        said("assistant", json!("b")),
                        said("user", json!("c"))
                    ]),
                    "user",
                ),
            ]
        }
        Client::Responses => {
            let call = json!({"type": "function_call", "call_id": "call_1", "name": "get_weather", "arguments": "{}"});
            let result = json!({"type": "function_call_output", "call_id": "call_1", "output": "windy"});
            let asked = said("user", json!("a"));
            vec![
                (json!("a"), "user"),
                (json!([asked]), "user"),
                (json!([asked, call, result]), "agent"),
                (json!([asked, call, result, said("user", json!("and now?"))]), "user"),
                (
                    json!([asked, call, result, said("developer", json!("be kind"))]),
                    "agent",
                ),
            ]
        }
    }
}

#[actix_rt::test]
async fn k153_k154_k155_upstream_is_told_who_caused_a_request() {
    let world = World::with(MESSAGES_ONLY).await;
    for client in CLIENTS {
        let name = if client == Client::Responses {
            "input"
        } else {
            "messages"
        };
        for (model, path) in UPSTREAMS {
            for (said, wanted) in conversations(client) {
                let body = with(client.body_with_tool(model, "", false), json!({name: said}));
                for claimed in ["user", "agent"] {
                    let ask = world.ask("POST", client.path()).header("x-initiator", claimed);
                    ask.json(&body).send().await.expect(200);
                    let asked = world.one(path);
                    assert_eq!(
                        header(&asked, "x-initiator"),
                        Some(wanted),
                        "{client:?} {model}: {said}"
                    );
                    assert_eq!(header(&asked, "x-interaction-type"), None, "{client:?} {model}: {said}");
                }
            }
        }
    }
}

#[actix_rt::test]
async fn what_no_person_asked_for_is_told_as_such() {
    let world = World::with(MESSAGES_ONLY).await;
    let summary = json!({"system": "You are a helpful AI assistant tasked with summarizing conversations."});
    let suggestion = json!({"messages": [{"role": "user", "content": "[SUGGESTION MODE: what would they say next?]"}]});
    for (model, path) in UPSTREAMS {
        let cases = [
            (&summary, "conversation-compaction"),
            (&suggestion, "conversation-background"),
        ];
        for (more, wanted) in cases {
            let body = with(Client::Messages.body(model, "hi", false), more.clone());
            let asked = asked(&world, Client::Messages, &body, path).await;
            assert_eq!(header(&asked, "x-interaction-type"), Some(wanted), "{model} {more}");
            assert_eq!(header(&asked, "x-initiator"), Some("agent"), "{model} {more}");
        }
    }
}

#[actix_rt::test]
async fn one_conversation_has_one_id_that_is_not_its_name() {
    let world = World::with(MESSAGES_ONLY).await;
    for client in CLIENTS {
        for (model, path) in UPSTREAMS {
            let mut ids = Vec::new();
            for session in ["mine-42", "mine-42", "other-43"] {
                let ask = world.ask("POST", client.path()).header("session_id", session);
                ask.json(&client.body(model, "hi", false)).send().await.expect(200);
                let asked = world.one(path);
                assert_eq!(header(&asked, "session_id"), None);
                let id = header(&asked, "x-interaction-id").unwrap_or_default().to_owned();
                assert!(!id.is_empty() && !id.contains(session), "{asked:#}");
                ids.push(id);
            }
            assert!(ids[0] == ids[1] && ids[1] != ids[2], "{client:?} {model}: {ids:?}");
        }
    }
}

/// What has a use for clients, and what is between Copilot and us.
const TOLD: [&str; 7] = [
    "retry-after",
    "retry-after-ms",
    "x-should-retry",
    "x-github-request-id",
    "x-copilot-service-request-id",
    "x-ratelimit-user-remaining",
    "anthropic-ratelimit-requests-limit",
];
const KEPT_BACK: [&str; 5] = [
    "set-cookie",
    "server",
    "strict-transport-security",
    "x-github-backend",
    "openai-organization",
];

#[actix_rt::test]
async fn what_upstream_tells_beside_its_answer_reaches_the_client() {
    let world = World::with(MESSAGES_ONLY).await;
    for client in CLIENTS {
        for (model, _) in UPSTREAMS {
            for stream in [false, true] {
                let place = format!("{client:?} {model} stream={stream}");
                let answer = world.post(client.path(), &client.body(model, "hi", stream)).await;
                assert_eq!(answer.status, 200, "{place}: {}", answer.text);
                let told = [
                    "x-github-request-id",
                    "x-copilot-service-request-id",
                    "x-quota-snapshot-chat",
                    "x-upstream-request-id",
                ];
                let missing = told.iter().find(|name| answer.header(name).is_none());
                assert_eq!(missing, None, "{place}: {:?}", answer.headers);
                assert_ne!(answer.header("x-upstream-request-id"), answer.header("x-request-id"));
                let leaked = KEPT_BACK.iter().find(|name| answer.header(name).is_some());
                assert_eq!(leaked, None, "{place}: {:?}", answer.headers);

                let headers: serde_json::Map<String, Value> = TOLD
                    .into_iter()
                    .chain(KEPT_BACK)
                    .map(|name| (name.to_owned(), json!("7")))
                    .collect();
                let body = json!({"error": {"message": "slow down", "code": "rate_limited"}});
                world
                    .plan(json!({"endpoint": "*", "status": 429, "headers": headers, "body": body}))
                    .await;
                let answer = world.post(client.path(), &client.body(model, "hi", stream)).await;
                client.refusal(&answer, 429);
                let missing = TOLD.iter().find(|name| answer.header(name) != Some("7"));
                assert_eq!(missing, None, "{place}: {:?}", answer.headers);
                let leaked = KEPT_BACK.iter().find(|name| answer.header(name).is_some());
                assert_eq!(leaked, None, "{place}: {:?}", answer.headers);
            }
        }
    }
}
