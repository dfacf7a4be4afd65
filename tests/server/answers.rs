//! What every answer has, whatever upstream left out: counts, the model's name as it was asked for, an ending in the
//! form that was asked for.

use copilot_proxy::protocol::Protocol;
use copilot_proxy::translate::invariants::{self, Ending};
use serde_json::{Value, json};

use crate::support::{Answer, CLIENTS, Client, World};

/// A model of each kind, its endpoint's name in the simulator, and upstream's path.
const UPSTREAMS: [(&str, &str, &str); 3] = [
    ("claude-sonnet-4.5", "messages", "/v1/messages"),
    ("gpt-5.4", "responses", "/responses"),
    ("gpt-4.1", "chat", "/chat/completions"),
];

/// Where a client's request for this model goes: every Claude of the simulator is reached by Chat too.
fn way(client: Client, (_, endpoint, path): (&str, &'static str, &'static str)) -> (&'static str, &'static str) {
    match (client, endpoint) {
        (Client::Chat, "messages") => ("chat", "/chat/completions"),
        _ => (endpoint, path),
    }
}

fn protocol(client: Client) -> Protocol {
    match client {
        Client::Messages => Protocol::Messages,
        Client::Chat => Protocol::Chat,
        Client::Responses => Protocol::Responses,
    }
}

/// A stream that keeps its protocol's grammar to its proper end.
#[track_caller]
fn complete(client: Client, answer: &Answer) -> Vec<Value> {
    let ending = invariants::check(protocol(client), &answer.frames());
    assert_eq!(ending, Ok(Ending::Complete), "{client:?}: {}", answer.text);
    answer.events()
}

/// A whole answer of this endpoint that says `hello there`, with these counts or none.
fn whole(endpoint: &str, counts: Option<(u64, u64)>) -> Value {
    let (mut answer, usage) = match endpoint {
        "messages" => (
            json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
                "stop_sequence": null, "content": [{"type": "text", "text": "hello there"}]}),
            counts.map(|(input, output)| json!({"input_tokens": input, "output_tokens": output})),
        ),
        "responses" => (
            json!({"id": "resp_1", "object": "response", "status": "completed", "model": "m", "output": [
                {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
                 "content": [{"type": "output_text", "text": "hello there", "annotations": []}]}]}),
            counts.map(|(input, output)| {
                json!({"input_tokens": input, "output_tokens": output,
                "total_tokens": input + output})
            }),
        ),
        _ => (
            json!({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [
                {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hello there"}}]}),
            counts.map(|(input, output)| {
                json!({"prompt_tokens": input, "completion_tokens": output,
                "total_tokens": input + output})
            }),
        ),
    };
    if let Some(usage) = usage {
        answer["usage"] = usage;
    }
    answer
}

/// The same as a stream.
fn streamed(endpoint: &str, counts: Option<(u64, u64)>) -> String {
    let mut whole = whole(endpoint, counts);
    let event = |event: Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap());
    match endpoint {
        "messages" => {
            let usage = whole.as_object_mut().unwrap().remove("usage");
            whole["content"] = json!([]);
            whole["stop_reason"] = Value::Null;
            let mut told =
                json!({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null}});
            if let Some(usage) = usage {
                whole["usage"] = json!({"input_tokens": usage["input_tokens"], "output_tokens": 1});
                told["usage"] = usage;
            }
            let delta = json!({"type": "text_delta", "text": "hello there"});
            [
                json!({"type": "message_start", "message": whole}),
                json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
                json!({"type": "content_block_delta", "index": 0, "delta": delta}),
                json!({"type": "content_block_stop", "index": 0}),
                told,
                json!({"type": "message_stop"}),
            ]
            .map(event)
            .concat()
        }
        "responses" => {
            let item = whole["output"][0].clone();
            [
                json!({"type": "response.created", "response": {"id": "resp_1", "status": "in_progress", "output": []}}),
                json!({"type": "response.output_item.done", "output_index": 0, "item": item}),
                json!({"type": "response.completed", "response": whole}),
            ]
            .map(event)
            .concat()
        }
        _ => {
            let chunk = |delta: Value, finish: Value| {
                let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
                json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]})
            };
            let mut chunks = vec![
                chunk(json!({"role": "assistant", "content": "hello there"}), Value::Null),
                chunk(json!({}), json!("stop")),
            ];
            if let Some(usage) = whole.get("usage") {
                let counted = json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
                    "choices": [], "usage": usage});
                chunks.push(counted);
            }
            let chunks: String = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
            chunks + "data: [DONE]\n\n"
        }
    }
}

/// The counts that a client reads: of the prompt, of the answer.
fn counts(client: Client, usage: &Value) -> (Option<u64>, Option<u64>) {
    match client {
        Client::Chat => (usage["prompt_tokens"].as_u64(), usage["completion_tokens"].as_u64()),
        _ => (usage["input_tokens"].as_u64(), usage["output_tokens"].as_u64()),
    }
}

#[actix_rt::test]
async fn k076_a_messages_client_always_has_integers_to_count_with() {
    let world = World::new().await;
    let client = Client::Messages;
    for (model, endpoint, _) in UPSTREAMS {
        world.plan_stream(endpoint, &streamed(endpoint, None)).await;
        let answer = world.post(client.path(), &client.body(model, "hi", true)).await;
        let events = complete(client, &answer);
        let start = &events[0]["message"]["usage"];
        for key in [
            "input_tokens",
            "output_tokens",
            "cache_read_input_tokens",
            "cache_creation_input_tokens",
        ] {
            assert!(start[key].is_u64(), "{model} {key}: {}", answer.text);
        }
        let told = events.iter().find(|event| event["type"] == "message_delta").unwrap();
        assert!(told["usage"]["output_tokens"].is_u64(), "{model}: {}", answer.text);

        let plan = json!({"endpoint": endpoint, "status": 200, "body": whole(endpoint, None)});
        world.plan(plan).await;
        let answer = world
            .post(client.path(), &client.body(model, "hi", false))
            .await
            .expect(200);
        let (input, output) = counts(client, &answer["usage"]);
        assert!(input.is_some() && output.is_some(), "{model}: {answer:#}");
    }
}

#[actix_rt::test]
async fn k077_output_is_what_was_written_and_input_what_was_read() {
    let world = World::new().await;
    for client in CLIENTS {
        for upstream in UPSTREAMS {
            let (model, (endpoint, _)) = (upstream.0, way(client, upstream));
            let place = format!("{client:?} {model}");
            let plan = json!({"endpoint": endpoint, "status": 200, "body": whole(endpoint, Some((5000, 7)))});
            world.plan(plan).await;
            let answer = world
                .post(client.path(), &client.body(model, "hi", false))
                .await
                .expect(200);
            assert_eq!(
                counts(client, &answer["usage"]),
                (Some(5000), Some(7)),
                "{place}: {answer:#}"
            );

            world.plan_stream(endpoint, &streamed(endpoint, Some((5000, 7)))).await;
            let mut body = client.body(model, "hi", true);
            if client == Client::Chat {
                body["stream_options"] = json!({"include_usage": true});
            }
            let answer = world.post(client.path(), &body).await;
            let events = complete(client, &answer);
            let usage = match client {
                Client::Messages => &events[events.len() - 2]["usage"],
                Client::Chat => &events.last().unwrap()["usage"],
                Client::Responses => &events.last().unwrap()["response"]["usage"],
            };
            let (input, output) = counts(client, usage);
            assert_eq!(output, Some(7), "{place}: {}", answer.text);
            // A Messages stream of Copilot's own may tell the prompt's size at its beginning alone.
            let input = input.or(events[0]["message"]["usage"]["input_tokens"].as_u64());
            assert_eq!(input, Some(5000), "{place}: {}", answer.text);
        }
    }
}

#[actix_rt::test]
async fn k078_the_model_is_called_as_its_client_calls_it() {
    let world = World::with("models.aliases = {\"my-own name\" = \"gpt-5.4\", \"other\" = \"gpt-4.1\"}\n").await;
    let names = [
        ("claude-sonnet-4-5-20250929", "claude-sonnet-4.5", "/v1/messages"),
        ("my-own name", "gpt-5.4", "/responses"),
        ("other", "gpt-4.1", "/chat/completions"),
    ];
    for client in CLIENTS {
        for (asked, ran, path) in names {
            let (_, path) = way(
                client,
                (ran, if path == "/v1/messages" { "messages" } else { "" }, path),
            );
            let answer = world.post(client.path(), &client.body(asked, "hello", false)).await;
            assert_eq!(answer.header("x-copilot-model"), Some(ran), "{client:?} {asked}");
            assert_eq!(answer.expect(200)["model"], asked, "{client:?}");
            assert_eq!(world.one(path)["body"]["model"], ran);

            let answer = world.post(client.path(), &client.body(asked, "hello", true)).await;
            assert_eq!(answer.header("x-copilot-model"), Some(ran), "{client:?} {asked}");
            let events = complete(client, &answer);
            let named: Vec<&Value> = events
                .iter()
                .flat_map(|event| [&event["model"], &event["message"]["model"], &event["response"]["model"]])
                .filter(|model| !model.is_null())
                .collect();
            assert!(
                !named.is_empty() && named.iter().all(|model| *model == asked),
                "{}",
                answer.text
            );
            assert_eq!(world.one(path)["body"]["model"], ran);
        }
    }
}

#[actix_rt::test]
async fn k088_an_answer_that_came_whole_is_streamed_to_whom_asked_so() {
    let world = World::new().await;
    for client in CLIENTS {
        for upstream in UPSTREAMS {
            let (model, (endpoint, path)) = (upstream.0, way(client, upstream));
            let plan = json!({"endpoint": endpoint, "status": 200, "body": whole(endpoint, Some((50, 7)))});
            world.plan(plan).await;
            let answer = world.post(client.path(), &client.body(model, "hi", true)).await;
            let events = complete(client, &answer);
            assert_eq!(
                client.streamed_text(&events),
                "hello there",
                "{client:?} {model}: {}",
                answer.text
            );
            assert_eq!(world.one(path)["body"]["stream"], true);
        }
    }
}

#[actix_rt::test]
async fn k092_usage_is_always_asked_for_and_told_to_whom_asked_for_it() {
    let world = World::new().await;
    let client = Client::Chat;
    for upstream in UPSTREAMS {
        let (model, (_, path)) = (upstream.0, way(client, upstream));
        for wanted in [None, Some(false), Some(true)] {
            let mut body = client.body(model, "hello", true);
            if let Some(wanted) = wanted {
                body["stream_options"] = json!({"include_usage": wanted});
            }
            let answer = world.post(client.path(), &body).await;
            let events = complete(client, &answer);
            let asked = world.one(path);
            if path == "/chat/completions" {
                assert_eq!(asked["body"]["stream_options"]["include_usage"], true, "{asked:#}");
            }
            let of_usage: Vec<&Value> = events.iter().filter(|event| event["choices"] == json!([])).collect();
            let place = format!("{model} {wanted:?}: {}", answer.text);
            if wanted == Some(true) {
                assert_eq!(of_usage.len(), 1, "{place}");
                assert!(of_usage[0]["usage"]["completion_tokens"].as_u64() > Some(0), "{place}");
            } else {
                assert!(of_usage.is_empty(), "{place}");
                assert!(events.iter().all(|event| event["usage"].is_null()), "{place}");
            }
        }
    }
}
