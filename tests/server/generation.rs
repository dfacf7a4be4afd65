//! Every protocol on every kind of model, whole and streamed.

use serde_json::json;

use crate::support::{CLIENTS, Client, World};

/// A model of each kind, and where each client's requests for it go.
const ROUTES: [(Client, &str, &str); 10] = [
    (Client::Messages, "claude-sonnet-4.5", "/v1/messages"),
    (Client::Messages, "gpt-5.4", "/responses"),
    (Client::Messages, "gpt-4.1", "/chat/completions"),
    (Client::Chat, "gpt-4.1", "/chat/completions"),
    (Client::Chat, "gpt-5.4", "/responses"),
    (Client::Chat, "claude-haiku-4.5", "/v1/messages"),
    (Client::Chat, "gemini-3.5-flash", "/chat/completions"),
    (Client::Responses, "gpt-5.4", "/responses"),
    (Client::Responses, "claude-sonnet-4.5", "/v1/messages"),
    (Client::Responses, "kimi-k2.7-code", "/chat/completions"),
];

/// A Claude that is reached by Messages only.
const MESSAGES_ONLY: &str = "models.overrides = {\"claude-haiku-4.5\" = [\"/v1/messages\"]}\n";

#[actix_rt::test]
async fn every_client_is_answered_by_every_kind_of_model() {
    let world = World::with(MESSAGES_ONLY).await;
    for (client, model, path) in ROUTES {
        let whole = world
            .post(client.path(), &client.body(model, "hello there", false))
            .await;
        let body = whole.expect(200);
        let text = client.text(&body);
        assert!(text.contains("hello there"), "{client:?} {model}: {body:#}");
        assert_eq!(body["model"], model, "{client:?}");
        let asked = world.one(path);
        assert_eq!(asked["initiator"], "user", "{client:?} {model}");

        let streamed = world
            .post(client.path(), &client.body(model, "hello there", true))
            .await;
        let events = streamed.events();
        assert_eq!(
            client.streamed_text(&events),
            text,
            "{client:?} {model}: {}",
            streamed.text
        );
        assert_eq!(streamed.is_done(), client == Client::Chat, "{}", streamed.text);
        assert_eq!(world.one(path)["body"]["stream"], true);
    }
}

#[actix_rt::test]
async fn every_client_gets_its_tool_called_and_its_result_heard() {
    let world = World::with(MESSAGES_ONLY).await;
    let wanted = ("get_weather".to_owned(), json!({"city": "Oslo"}));
    for (client, model, path) in ROUTES {
        let prompt = "please call get_weather {\"city\": \"Oslo\"}";
        let body = client.body_with_tool(model, prompt, false);
        let whole = world.post(client.path(), &body).await.expect(200);
        assert_eq!(
            client.calls(&whole),
            std::slice::from_ref(&wanted),
            "{client:?} {model}: {whole:#}"
        );
        world.one(path);

        let mut next = body.clone();
        match client {
            Client::Messages => {
                assert_eq!(whole["stop_reason"], "tool_use", "{whole:#}");
                let messages = next["messages"].as_array_mut().unwrap();
                messages.push(json!({"role": "assistant", "content": whole["content"]}));
                let call = whole["content"].as_array().unwrap().last().unwrap();
                messages.push(json!({"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": call["id"], "content": "windy"}]}));
            }
            Client::Chat => {
                assert_eq!(whole["choices"][0]["finish_reason"], "tool_calls", "{whole:#}");
                let messages = next["messages"].as_array_mut().unwrap();
                let message = &whole["choices"][0]["message"];
                messages.push(message.clone());
                messages.push(json!({"role": "tool", "tool_call_id": message["tool_calls"][0]["id"],
                    "content": "windy"}));
            }
            Client::Responses => {
                let mut input = vec![json!({"role": "user", "content": prompt})];
                input.extend(whole["output"].as_array().unwrap().iter().cloned());
                let call = whole["output"].as_array().unwrap().last().unwrap();
                input.push(json!({"type": "function_call_output", "call_id": call["call_id"], "output": "windy"}));
                next["input"] = json!(input);
            }
        }
        let whole = world.post(client.path(), &next).await.expect(200);
        let text = client.text(&whole);
        assert!(text.contains("windy"), "{client:?} {model}: {whole:#}");
        assert_eq!(world.one(path)["initiator"], "agent", "{client:?} {model}");
    }
}

#[actix_rt::test]
async fn k057_frames_are_named_as_their_protocol_wants_it() {
    let world = World::with(MESSAGES_ONLY).await;
    for (client, model, _) in ROUTES {
        let streamed = world.post(client.path(), &client.body(model, "hi", true)).await;
        for frame in streamed.frames() {
            let named = frame
                .name
                .as_deref()
                .map(|name| String::from_utf8_lossy(name).into_owned());
            if client == Client::Chat {
                assert_eq!(named, None);
            } else {
                let data: serde_json::Value = serde_json::from_slice(&frame.data).unwrap();
                assert_eq!(named.as_deref(), data["type"].as_str(), "{client:?} {model}");
            }
        }
        assert_eq!(streamed.header("cache-control"), Some("no-cache"));
        assert_eq!(streamed.header("x-accel-buffering"), Some("no"));
    }
    assert_eq!(CLIENTS.len(), 3);
}
