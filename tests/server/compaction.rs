//! Codex makes its history short by either door: exactly one item comes back, and what it stands for reaches the model.

use copilot_proxy::translate::carrier::{Carrier, Compacted};
use serde_json::{Value, json};

use crate::support::{Answer, Client, World};

/// Models that cannot compact by themselves, and upstream's path to them.
const ASKED_IN_WORDS: [(&str, &str); 2] = [("gpt-4.1", "/chat/completions"), ("claude-sonnet-4.5", "/v1/messages")];

fn history() -> Vec<Value> {
    vec![
        json!({"role": "user", "content": "the word is heliotrope"}),
        json!({"role": "assistant", "content": [{"type": "output_text", "text": "noted"}]}),
        json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": "and the number is 7"}]}),
    ]
}

fn trigger() -> Value {
    json!({"type": "compaction_trigger"})
}

fn ask(model: &str, input: &[Value], stream: bool) -> Value {
    json!({"model": model, "input": input, "stream": stream, "store": false})
}

/// The one item of a streamed answer; nothing else is in it.
#[track_caller]
fn streamed_item(answer: &Answer) -> Value {
    let events = answer.events();
    let done: Vec<&Value> = events
        .iter()
        .filter(|event| event["type"] == "response.output_item.done")
        .collect();
    assert_eq!(done.len(), 1, "{}", answer.text);
    let last = events.last().unwrap();
    assert_eq!(last["type"], "response.completed", "{}", answer.text);
    assert_eq!(last["response"]["output"], json!([done[0]["item"]]), "{}", answer.text);
    assert!(last["response"]["usage"]["total_tokens"].is_u64(), "{}", answer.text);
    done[0]["item"].clone()
}

/// What an item stands for.
#[track_caller]
fn held(item: &Value) -> Compacted {
    assert_eq!(item["type"], "compaction", "{item}");
    let content = item["encrypted_content"].as_str().unwrap();
    assert!(content.starts_with("cpx1.k."), "{content}");
    match Carrier::decode(content) {
        Some(Carrier::Compaction { held, .. }) => held,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn summary(item: &Value) -> String {
    match held(item) {
        Compacted::Text(text) if !text.trim().is_empty() => text,
        other => panic!("no summary: {other:?}"),
    }
}

/// The history was told to the model once, as nobody's turn and without a tool to call.
#[track_caller]
fn asked_for_a_summary(world: &World, path: &str) {
    let asked = world.one(path);
    assert_eq!(asked["initiator"], "agent", "{asked:#}");
    assert_eq!(asked["headers"]["x-interaction-type"], "conversation-compaction");
    let body = asked["body"].to_string();
    assert!(body.contains("heliotrope") && body.contains("summary"), "{body}");
    assert!(
        !body.contains("compaction_trigger") && asked["body"].get("tools").is_none(),
        "{body}"
    );
}

/// The next request begins with the item; what upstream is asked.
async fn next(world: &World, model: &str, path: &str, item: &Value) -> Value {
    let input = [item.clone(), json!({"role": "user", "content": "go on"})];
    let answer = world
        .post("/v1/responses", &ask(model, &input, false))
        .await
        .expect(200);
    assert!(Client::Responses.text(&answer).contains("go on"), "{answer:#}");
    world.one(path)
}

#[actix_rt::test]
async fn k123_a_trigger_becomes_one_item_that_holds_a_summary() {
    let world = World::new().await;
    for (model, path) in ASKED_IN_WORDS {
        let input = [history(), vec![trigger()]].concat();
        let mut body = ask(model, &input, true);
        body["tools"] = Client::Responses.body_with_tool(model, "", true)["tools"].clone();
        let item = streamed_item(&world.post("/v1/responses", &body).await);
        asked_for_a_summary(&world, path);
        let asked = next(&world, model, path, &item).await;
        let said = asked["body"].to_string();
        let told = serde_json::to_string(&summary(&item)).unwrap();
        assert!(said.contains(told.trim_matches('"')), "{said}");
        assert!(!said.contains("cpx1."), "{said}");

        body["stream"] = json!(false);
        let whole = world.post("/v1/responses", &body).await.expect(200);
        assert_eq!(whole["output"].as_array().unwrap().len(), 1, "{whole:#}");
        summary(&whole["output"][0]);
        asked_for_a_summary(&world, path);
    }
}

#[actix_rt::test]
async fn k123_a_model_that_refuses_the_trigger_is_asked_in_words() {
    let world = World::new().await;
    let refusal = json!({"error": {"code": "invalid_value", "message": "Invalid value: 'compaction_trigger'."}});
    world
        .plan(json!({"endpoint": "responses", "status": 400, "body": refusal}))
        .await;
    let input = [history(), vec![trigger()]].concat();
    let item = streamed_item(&world.post("/v1/responses", &ask("gpt-5.4", &input, true)).await);
    let asked = world.upstream("/responses");
    let last = |asked: &Value| asked["body"]["input"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(asked.len(), 2, "{asked:#?}");
    assert_eq!(last(&asked[0]), trigger());
    assert_eq!(last(&asked[1])["role"], "user", "{asked:#?}");
    assert!(asked.iter().all(|asked| asked["initiator"] == "agent"));
    summary(&item);
}

/// An upstream stream that compacts into these.
fn compacts(items: &[Value]) -> String {
    let event = |kind: &str, more: Value| {
        let mut event = json!({"type": kind});
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        format!("event: {kind}\ndata: {event}\n\n")
    };
    let response = |status: &str, output: Value| {
        let usage = json!({"input_tokens": 90, "output_tokens": 9, "total_tokens": 99});
        json!({"response": {"id": "resp_1", "status": status, "output": output, "usage": usage}})
    };
    let mut text = event("response.created", response("in_progress", json!([])));
    for (at, item) in items.iter().enumerate() {
        let item = json!({"output_index": at, "item": item});
        text += &event("response.output_item.added", item.clone());
        text += &event("response.output_item.done", item);
    }
    text + &event("response.completed", response("completed", json!(items)))
}

#[actix_rt::test]
async fn k124_two_items_of_the_models_own_travel_as_one() {
    let world = World::new().await;
    let item =
        |at: u32| json!({"type": "compaction", "id": format!("cmp_{at}"), "encrypted_content": format!("Zm9v{at}")});
    let own = [item(1), item(2)];
    let input = [history(), vec![trigger()]].concat();
    for stream in [true, false] {
        world.plan_stream("responses", &compacts(&own)).await;
        let answer = world.post("/v1/responses", &ask("gpt-5-mini", &input, stream)).await;
        let one = if stream {
            streamed_item(&answer)
        } else {
            let whole = answer.expect(200);
            assert_eq!(whole["output"].as_array().unwrap().len(), 1, "{whole:#}");
            whole["output"][0].clone()
        };
        let asked = world.one("/responses");
        assert_eq!(asked["body"]["input"].as_array().unwrap().last(), Some(&trigger()));
        assert_eq!(
            (&asked["body"]["store"], &asked["body"]["stream"]),
            (&json!(false), &json!(true))
        );
        assert_eq!(asked["headers"]["x-interaction-type"], "conversation-compaction");
        held(&one);
        let asked = next(&world, "gpt-5-mini", "/responses", &one).await;
        let contents: Vec<&Value> = asked["body"]["input"].as_array().unwrap()[..2]
            .iter()
            .map(|item| &item["encrypted_content"])
            .collect();
        assert_eq!(contents, ["Zm9v1", "Zm9v2"], "{asked:#}");
        assert_eq!(asked["body"]["input"].as_array().unwrap().len(), 3, "{asked:#}");
    }
}

#[actix_rt::test]
async fn k125_the_other_door_answers_for_every_model() {
    let world = World::new().await;
    for door in ["/responses/compact", "/v1/responses/compact"] {
        for (model, path) in ASKED_IN_WORDS {
            let body = json!({"model": model, "input": history(), "instructions": "be brief"});
            let answer = world.post(door, &body).await.expect(200);
            asked_for_a_summary(&world, path);
            let item = compacted(&answer);
            summary(&item);
            next(&world, model, path, &item).await;
        }
        world
            .plan_stream(
                "responses",
                &compacts(&[json!({"type": "compaction", "id": "cmp_1", "encrypted_content": "Zm9v"})]),
            )
            .await;
        let body = json!({"model": "gpt-5.4", "input": history()});
        let item = compacted(&world.post(door, &body).await.expect(200));
        assert!(matches!(held(&item), Compacted::Items(items) if items.len() == 1));
        let asked = world.one("/responses");
        assert_eq!(asked["body"]["input"].as_array().unwrap().last(), Some(&trigger()));
        let answer = world.post(door, &json!({"model": "nonesuch", "input": "a"})).await;
        Client::Responses.refusal(&answer, 404);
    }
}

/// What the person said is kept, and one item stands for all.
#[track_caller]
fn compacted(answer: &Value) -> Value {
    assert_eq!(answer["object"], "response.compaction", "{answer:#}");
    assert!(
        answer["id"].as_str().is_some_and(|id| id.starts_with("resp_")),
        "{answer:#}"
    );
    assert!(
        answer["created_at"].is_u64() && answer["usage"]["total_tokens"].is_u64(),
        "{answer:#}"
    );
    let output = answer["output"].as_array().unwrap();
    let kinds: Vec<&Value> = output.iter().map(|item| &item["type"]).collect();
    assert_eq!(kinds, ["message", "message", "compaction"], "{answer:#}");
    let kept = json!(output[..2]).to_string();
    assert!(
        kept.contains("heliotrope") && kept.contains("the number is 7"),
        "{kept}"
    );
    output[2].clone()
}
