//! Responses that are kept, where a setting says so: continued, referred to, asked for, and forgotten.

use awc::ws::{Frame, Message};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};

use crate::support::{Client, World};

const ON: &str = "responses.store = \"memory\"\n";

/// A model of each kind, and where its requests go.
const MODELS: [(&str, &str); 3] = [
    ("gpt-5.4", "/responses"),
    ("claude-sonnet-4.5", "/v1/messages"),
    ("gpt-4.1", "/chat/completions"),
];

/// The response to a request, streamed or not.
async fn asked(world: &World, body: &Value) -> Value {
    let answer = world.post("/v1/responses", body).await;
    if body["stream"] == true {
        let last = answer.events().pop().unwrap_or_else(|| panic!("{}", answer.text));
        assert_eq!(last["type"], "response.completed", "{last:#}");
        return last["response"].clone();
    }
    answer.expect(200)
}

async fn unknown(world: &World, id: &str) {
    for (method, path) in [
        ("GET", ""),
        ("DELETE", ""),
        ("GET", "/input_items"),
        ("POST", "/cancel"),
    ] {
        let answer = world.ask(method, &format!("/v1/responses/{id}{path}")).send().await;
        let (_, code, message) = Client::Responses.refusal(&answer, 404);
        assert_eq!(
            (code.as_str(), message.as_str()),
            ("response_not_found", &*format!("Response with id '{id}' not found."))
        );
    }
    let continued = json!({"model": "gpt-4.1", "previous_response_id": id, "input": "x"});
    let answer = world.post("/v1/responses", &continued).await;
    let (_, code, _) = Client::Responses.refusal(&answer, 400);
    assert_eq!(code, "previous_response_not_found");
}

#[actix_rt::test]
async fn a_kept_response_is_continued_on_any_model() {
    let world = World::with(ON).await;
    for (model, path) in MODELS {
        for stream in [false, true] {
            let first =
                json!({"model": model, "stream": stream, "instructions": "be a pirate", "input": "my first words"});
            let first = asked(&world, &first).await;
            assert_eq!(first["store"], true);
            world.upstream(path);
            let second = json!({"stream": stream, "previous_response_id": first["id"], "input": "and then?"});
            let second = asked(&world, &second).await;
            let of = |field: &str| &second[field];
            assert_eq!((of("model"), of("previous_response_id")), (&json!(model), &first["id"]));
            let sent = world.one(path);
            let text = sent["body"].to_string();
            assert!(text.contains("my first words") && text.contains("and then?"), "{text}");
            assert!(!text.contains("pirate") && text.contains("assistant"), "{text}");
            assert_eq!(sent["initiator"], "user");

            let third = json!({"previous_response_id": second["id"], "input": "go on"});
            asked(&world, &third).await;
            let text = world.one(path)["body"].to_string();
            assert!(text.contains("my first words") && text.contains("and then?") && text.contains("go on"));
        }
    }
}

#[actix_rt::test]
async fn a_tool_s_result_is_enough_where_the_call_is_kept() {
    let world = World::with(ON).await;
    let tools = json!([{"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}}]);
    for (model, path) in MODELS {
        let first =
            json!({"model": model, "tools": tools, "input": "please call look {}", "reasoning": {"effort": "low"}});
        let first = asked(&world, &first).await;
        let calls = first["output"].as_array().unwrap().iter();
        let call = calls.clone().find(|item| item["type"] == "function_call").unwrap();
        world.upstream(path);
        let result = json!({"type": "function_call_output", "call_id": call["call_id"], "output": "sunny"});
        let second = json!({"model": model, "tools": tools, "previous_response_id": first["id"], "input": [result]});
        let second = asked(&world, &second).await;
        assert!(Client::Responses.text(&second).contains("sunny"), "{second:#}");
        assert_eq!(world.one(path)["initiator"], "agent", "{model}");

        // The same by references, as the AI SDK sends it.
        let reference = |item: &Value| json!({"type": "item_reference", "id": item["id"]});
        let mut input = vec![json!({"role": "user", "content": "please call look {}"})];
        input.extend(calls.map(reference));
        input.push(result.clone());
        input.extend(second["output"].as_array().unwrap().iter().map(reference));
        input.push(json!({"role": "user", "content": "thank you"}));
        let third = json!({"model": model, "tools": tools, "input": input});
        asked(&world, &third).await;
        let text = world.one(path)["body"].to_string();
        assert!(
            text.contains("sunny") && text.contains("thank you") && !text.contains("item_reference"),
            "{text}"
        );
        let count = json!({"model": model, "previous_response_id": second["id"], "input": "x"});
        let counted = world.post("/v1/responses/input_tokens", &count).await.expect(200);
        assert!(counted["input_tokens"].as_u64().unwrap() > 10, "{counted}");
    }
}

#[actix_rt::test]
async fn a_kept_response_is_told_and_forgotten() {
    let world = World::with(ON).await;
    let input = json!([{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}, {"role": "user", "content": "three"}]);
    let response = asked(&world, &json!({"model": "gpt-4.1", "input": input})).await;
    let id = response["id"].as_str().unwrap();
    let path = format!("/v1/responses/{id}");
    assert_eq!(world.get(&path).await.expect(200), response);
    let items = world
        .get(&format!("{path}/input_items?order=asc&limit=2"))
        .await
        .expect(200);
    assert_eq!((&items["object"], &items["has_more"]), (&json!("list"), &json!(true)));
    assert_eq!(
        items["data"][1]["content"][0],
        json!({"type": "output_text", "text": "two", "annotations": []})
    );
    let after = items["last_id"].as_str().unwrap();
    let rest = world
        .get(&format!("{path}/input_items?order=asc&after={after}"))
        .await
        .expect(200);
    assert_eq!(rest["data"][0]["content"][0]["text"], "three");
    for wrong in ["limit=0", "limit=x", "order=up"] {
        let answer = world.get(&format!("{path}/input_items?{wrong}")).await;
        Client::Responses.refusal(&answer, 400);
    }
    let (_, _, message) = Client::Responses.refusal(&world.ask("POST", &format!("{path}/cancel")).send().await, 400);
    assert_eq!(message, "Cannot cancel a completed response.");
    let gone = world.ask("DELETE", &path).send().await.expect(200);
    assert_eq!(gone, json!({"id": id, "object": "response", "deleted": true}));
    unknown(&world, id).await;
}

#[actix_rt::test]
async fn what_is_not_to_be_kept_or_not_complete_is_not_kept() {
    let (on, off) = (World::with(ON).await, World::new().await);
    let no = asked(&on, &json!({"model": "gpt-4.1", "input": "x", "store": false})).await;
    assert_eq!(no["store"], false);
    unknown(&on, no["id"].as_str().unwrap()).await;
    let never = asked(&off, &json!({"model": "gpt-4.1", "input": "x", "store": true})).await;
    assert_eq!(never["store"], false);
    unknown(&off, never["id"].as_str().unwrap()).await;

    let cut = json!({"model": "gpt-5.4", "input": "[[sim:cut after=4]] some words to say", "stream": true});
    let events = on.post("/v1/responses", &cut).await.events();
    let id = events[0]["response"]["id"].as_str().unwrap();
    assert_ne!(events.last().unwrap()["type"], "response.completed");
    unknown(&on, id).await;
}

#[actix_rt::test]
async fn a_socket_continues_what_it_has_never_heard_of() {
    let (on, off) = (World::with(ON).await, World::new().await);
    for (world, known) in [(&on, true), (&off, false)] {
        let first = asked(world, &json!({"model": "gpt-4.1", "input": "my first words"})).await;
        let url = format!("http://{}/v1/responses", world.proxy.address);
        let mut socket = awc::Client::default().ws(url).connect().await.unwrap().1;
        let mut previous = first["id"].clone();
        for turn in 0..3 {
            world.upstream("/chat/completions");
            let frame = json!({"type": "response.create", "model": "gpt-4.1", "previous_response_id": previous, "input": "go on"});
            socket.send(Message::Text(frame.to_string().into())).await.unwrap();
            let last = loop {
                let Some(Ok(Frame::Text(text))) = socket.next().await else {
                    continue;
                };
                let event: Value = serde_json::from_slice(&text).unwrap();
                if ["response.completed", "error"].contains(&event["type"].as_str().unwrap()) {
                    break event;
                }
            };
            if !known {
                assert_eq!(last["code"], "previous_response_not_found");
                break;
            }
            assert_eq!(last["response"]["previous_response_id"], previous, "{last:#}");
            let text = world.one("/chat/completions")["body"].to_string();
            assert!(text.contains("my first words"), "{text}");
            assert!(text.matches("go on").count() > turn, "{text}");
            previous = last["response"]["id"].clone();
        }
    }
}

#[actix_rt::test]
async fn what_a_request_continues_has_a_bound() {
    let world = World::with(ON).await;
    // More than half of what there may be, for an upstream that minds no length.
    let half = "x".repeat(17 << 20);
    let choice = json!({"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hello"}});
    let answer = json!({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]});
    world
        .plan(json!({"endpoint": "chat", "status": 200, "body": answer}))
        .await;
    let first = asked(&world, &json!({"model": "gpt-4.1", "input": half})).await;
    let second = json!({"model": "gpt-4.1", "previous_response_id": first["id"], "input": half});
    let refused = world.post("/v1/responses", &second).await;
    let (_, code, message) = Client::Responses.refusal(&refused, 413);
    assert!(
        code == "payload_too_large" && message.contains("what it continues"),
        "{message}"
    );
}
