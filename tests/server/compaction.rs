//! A history made short for Codex, by both of its doors and for every kind of model.

use serde_json::{Value, json};

use crate::support::{Client, World};

/// A model of each kind, and where its requests go.
const MODELS: [(&str, &str); 3] = [
    ("gpt-5.4", "/responses"),
    ("claude-sonnet-4.5", "/v1/messages"),
    ("gpt-4.1", "/chat/completions"),
];

fn history() -> Vec<Value> {
    let call = json!({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"});
    let result = json!({"type": "function_call_output", "call_id": "c", "output": "sunny"});
    let asked =
        json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": "the first question"}]});
    vec![asked, call, result]
}

fn asking(model: &str, stream: bool, input: Vec<Value>) -> Value {
    let tools = json!([{"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}}]);
    json!({"model": model, "stream": stream, "instructions": "be brief", "input": input, "tools": tools})
}

/// The one item that stands for the history, asked for by the trigger.
async fn compacted(world: &World, model: &str, stream: bool) -> Value {
    let mut input = history();
    input.push(json!({"type": "compaction_trigger"}));
    let answer = world.post("/v1/responses", &asking(model, stream, input)).await;
    let response = if stream {
        let events = answer.events();
        let done: Vec<&Value> = events
            .iter()
            .filter(|event| event["type"] == "response.output_item.done")
            .collect();
        assert_eq!(done.len(), 1, "{}", answer.text);
        for (at, event) in events.iter().enumerate() {
            assert_eq!(event["sequence_number"], at, "{event}");
        }
        assert_eq!(done[0]["item"]["type"], "compaction");
        events.last().unwrap()["response"].clone()
    } else {
        answer.expect(200)
    };
    assert_eq!(
        (&response["status"], &response["model"]),
        (&json!("completed"), &json!(model))
    );
    assert!(response["usage"]["total_tokens"].as_u64().unwrap() > 0, "{response:#}");
    let output = response["output"].as_array().unwrap();
    assert_eq!(output.len(), 1, "{response:#}");
    output[0].clone()
}

/// What a model of each kind is asked when the item stands before a new question. What a model has compacted by itself
/// only models of its kind can read; a summary can be read by all.
async fn replayed(world: &World, item: &Value, by_itself: bool) {
    for (model, path) in MODELS {
        let asked = json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": "go on"}]});
        world.upstream(path);
        let answer = world
            .post("/v1/responses", &asking(model, false, vec![item.clone(), asked]))
            .await;
        if by_itself && path != "/responses" {
            let (_, _, message) = Client::Responses.refusal(&answer, 400);
            assert_eq!(message, "compaction item belongs to another model family");
            continue;
        }
        let answer = answer.expect(200);
        assert!(Client::Responses.text(&answer).contains("go on"), "{answer:#}");
        let sent = world.one(path)["body"].to_string();
        let earlier = if by_itself {
            "\"type\":\"compaction\""
        } else {
            "was summarised as follows"
        };
        assert!(sent.contains(earlier), "{model}: {sent}");
    }
}

#[actix_rt::test]
async fn k123_every_model_makes_one_item_of_its_history() {
    let world = World::new().await;
    for (model, path) in MODELS {
        for stream in [false, true] {
            world.upstream(path);
            let item = compacted(&world, model, stream).await;
            assert!(
                item["encrypted_content"].as_str().unwrap().starts_with("cpx1.k."),
                "{item}"
            );
            let asked = world.upstream(path);
            assert_eq!(asked.len(), 1, "{asked:#?}");
            for request in &asked {
                assert_eq!(request["initiator"], "agent");
                assert_eq!(request["headers"]["x-interaction-type"], "conversation-compaction");
            }
            // A model that compacts by itself makes of its tools what it likes; one that writes a summary has none.
            assert!(path == "/responses" || asked[0]["body"].get("tools").is_none());
            replayed(&world, &item, path == "/responses").await;
        }
    }
}

#[actix_rt::test]
async fn k125_the_compact_door_serves_every_model() {
    let world = World::new().await;
    for (model, path) in MODELS {
        let mut body = asking(model, false, history());
        body.as_object_mut().unwrap().shift_remove("stream");
        let answer = world.post("/v1/responses/compact", &body).await.expect(200);
        assert_eq!(answer["object"], "response.compaction");
        let output = answer["output"].as_array().unwrap();
        let kinds: Vec<&str> = output.iter().map(|item| item["type"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["message", "compaction"], "{answer:#}");
        assert_eq!(output[0]["content"][0]["text"], "the first question");
        assert!(answer["usage"]["total_tokens"].as_u64().unwrap() > 0);
        replayed(&world, &output[1], path == "/responses").await;
    }
}

#[actix_rt::test]
async fn k124_what_a_model_compacts_itself_is_its_own_to_read() {
    let world = World::new().await;
    let raw = |name: &str| json!({"type": "compaction", "id": format!("cmp_{name}"), "encrypted_content": name});
    let done = |at: usize| {
        let item = raw(["one", "two"][at]);
        json!({"type": "response.output_item.done", "output_index": at, "item": item})
    };
    let usage = json!({"input_tokens": 9, "output_tokens": 4, "total_tokens": 13});
    let events = [
        json!({"type": "response.created", "response": {"id": "r", "status": "in_progress", "output": []}}),
        done(0),
        done(1),
        json!({"type": "response.completed", "response": {"id": "r", "status": "completed", "output": [], "usage": usage}}),
    ];
    let frames: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    for stream in [false, true] {
        world.plan_stream("responses", &frames).await;
        world.upstream("/responses");
        let item = compacted(&world, "gpt-5.4", stream).await;
        let asked = world.one("/responses")["body"]["input"].clone();
        assert_eq!(asked[3]["type"], "compaction_trigger");

        let question = json!({"role": "user", "content": "go on"});
        world
            .post(
                "/v1/responses",
                &asking("gpt-5.2", false, vec![item.clone(), question.clone()]),
            )
            .await
            .expect(200);
        // The simulator knows these items not to be its own, which is another story.
        let sent = world.upstream("/responses")[0]["body"]["input"].clone();
        assert_eq!((&sent[0], &sent[1]), (&raw("one"), &raw("two")));
        for other in ["claude-sonnet-4.5", "gpt-4.1"] {
            let refused = world
                .post(
                    "/v1/responses",
                    &asking(other, false, vec![item.clone(), question.clone()]),
                )
                .await;
            let (_, _, message) = Client::Responses.refusal(&refused, 400);
            assert_eq!(message, "compaction item belongs to another model family");
        }
    }
}

#[actix_rt::test]
async fn a_compaction_that_upstream_refuses_for_its_own_reasons_is_refused() {
    let world = World::new().await;
    let mut input = history();
    input.insert(0, json!({"role": "user", "content": "[[sim:429]]"}));
    input.push(json!({"role": "user", "content": "[[sim:429]]"}));
    input.push(json!({"type": "compaction_trigger"}));
    let refused = world.post("/v1/responses", &asking("gpt-5.4", true, input)).await;
    let (_, code, _) = Client::Responses.refusal(&refused, 429);
    assert_eq!(code, "rate_limit_exceeded");
    assert_eq!(world.upstream("/responses").len(), 1, "no summary is asked for then");
}

#[actix_rt::test]
async fn a_model_that_takes_no_order_to_compact_is_given_it_once() {
    let world = World::new().await;
    for orders in [1, 0] {
        let item = compacted(&world, "gpt-5.2", true).await;
        let asked = world.upstream("/responses");
        let ordered = asked
            .iter()
            .filter(|asked| asked["body"].to_string().contains("compaction_trigger"));
        assert_eq!((ordered.count(), asked.len()), (orders, orders + 1), "{asked:#?}");
        assert!(item["encrypted_content"].as_str().unwrap().starts_with("cpx1.k."));
    }
}

#[actix_rt::test]
async fn what_a_compaction_stands_for_is_left_out_where_that_is_set() {
    let world = World::with("responses.trim_before_compaction = true\n").await;
    let mut input = history();
    input.push(compacted(&world, "gpt-5.4", false).await);
    input.push(json!({"role": "user", "content": "go on"}));
    for (model, path, left) in [("gpt-5.4", "/responses", false), ("gpt-4.1", "/chat/completions", true)] {
        if left {
            input[3] = compacted(&world, model, false).await;
        }
        world.upstream(path);
        world
            .post("/v1/responses", &asking(model, false, input.clone()))
            .await
            .expect(200);
        let sent = world.one(path)["body"].to_string();
        assert_eq!(sent.contains("the first question"), left, "{sent}");
        assert!(sent.contains("go on"));
    }
}
