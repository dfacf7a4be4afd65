//! Responses over a socket, on both sides of the proxy.

use std::time::Duration;

use awc::error::WsProtocolError;
use awc::ws::{Frame, Message};
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use serde_json::{Value, json};

use crate::support::{Client, World};

trait Socket: Stream<Item = Result<Frame, WsProtocolError>> + Sink<Message, Error = WsProtocolError> + Unpin {
    /// Sends one frame and hears its turn to the end: all events.
    async fn turn(&mut self, mut fields: Value) -> Vec<Value> {
        fields["type"] = json!("response.create");
        self.send(Message::Text(fields.to_string().into())).await.unwrap();
        let mut events = Vec::new();
        loop {
            let next = tokio::time::timeout(Duration::from_secs(15), self.next()).await;
            let Frame::Text(text) = next.unwrap_or_else(|_| panic!("no end: {events:#?}")).unwrap().unwrap() else {
                continue;
            };
            let event: Value = serde_json::from_slice(&text).unwrap();
            assert_eq!(event["sequence_number"], events.len(), "{event}");
            let kind = event["type"].as_str().unwrap().to_owned();
            events.push(event);
            let ends = ["response.completed", "response.incomplete", "response.failed", "error"];
            if ends.contains(&kind.as_str()) {
                return events;
            }
        }
    }

    /// Hears a turn that must go well; its response.
    async fn answered(&mut self, fields: Value) -> Value {
        let last = self.turn(fields).await.pop().unwrap();
        assert_eq!(last["type"], "response.completed", "{last:#}");
        last["response"].clone()
    }
}

impl<T: Stream<Item = Result<Frame, WsProtocolError>> + Sink<Message, Error = WsProtocolError> + Unpin> Socket for T {}

async fn connect(world: &World) -> impl Socket + use<> {
    let url = format!("http://{}/v1/responses", world.proxy.address);
    awc::Client::default().ws(url).connect().await.unwrap().1
}

/// What upstream was asked on its sockets since the last time.
fn frames(world: &World) -> Vec<Value> {
    let asked = world.upstream("/responses").into_iter();
    asked
        .filter(|asked| asked["method"] == "FRAME")
        .map(|asked| asked["body"].clone())
        .collect()
}

fn items(frame: &Value) -> Vec<&str> {
    let items = frame["input"].as_array().unwrap().iter();
    items.map(|item| item["type"].as_str().unwrap_or("message")).collect()
}

#[actix_rt::test]
async fn k135_a_socket_upstream_is_told_only_what_is_new() {
    let world = World::new().await;
    let mut socket = connect(&world).await;
    let mut asked = Client::Responses.body_with_tool("gpt-5.4", "please call get_weather {\"city\": \"Oslo\"}", true);
    asked["reasoning"] = json!({"effort": "high", "summary": "auto"});
    let called = socket.answered(asked.clone()).await;
    let call = called["output"]
        .as_array()
        .unwrap()
        .iter()
        .find(|item| item["type"] == "function_call")
        .unwrap();
    asked["input"] = json!([{"type": "function_call_output", "call_id": call["call_id"], "output": "4 degrees"}]);
    asked["previous_response_id"] = called["id"].clone();
    let heard = socket.answered(asked.clone()).await;
    assert!(Client::Responses.text(&heard).contains("4 degrees"), "{heard:#}");
    assert_eq!(heard["previous_response_id"], called["id"]);
    asked["input"] = json!("and now?");
    asked["previous_response_id"] = heard["id"].clone();
    let third = socket.answered(asked.clone()).await;

    let sent = frames(&world);
    let continued: Vec<bool> = sent
        .iter()
        .map(|frame| frame["previous_response_id"].is_string())
        .collect();
    assert_eq!(continued, [false, true, true], "{sent:#?}");
    assert_eq!(items(&sent[1]), ["function_call_output"]);
    assert_eq!(
        (items(&sent[2]), &sent[2]["initiator"]),
        (vec!["message"], &json!("user"))
    );
    assert_eq!(sent[1]["initiator"], "agent");

    // A client that tells everything anew is understood to go on, too: nothing else has changed.
    let mut whole = vec![json!({"role": "user", "content": "please call get_weather {\"city\": \"Oslo\"}"})];
    whole[0]["content"] = json!([{"type": "input_text", "text": whole[0]["content"]}]);
    whole.extend(called["output"].as_array().unwrap().iter().cloned());
    whole.push(json!({"type": "function_call_output", "call_id": call["call_id"], "output": "4 degrees"}));
    whole.extend(heard["output"].as_array().unwrap().iter().cloned());
    whole.push(json!({"role": "user", "content": [{"type": "input_text", "text": "and now?"}]}));
    whole.extend(third["output"].as_array().unwrap().iter().cloned());
    whole.push(json!({"role": "user", "content": [{"type": "input_text", "text": "bye"}]}));
    asked["input"] = json!(whole);
    asked["previous_response_id"] = Value::Null;
    let last = socket.answered(asked).await;
    assert_eq!(last["previous_response_id"], Value::Null, "it has named none");
    let sent = frames(&world).remove(0);
    assert_eq!(items(&sent), ["message"], "{sent:#}");
}

#[actix_rt::test]
async fn k123_a_conversation_goes_on_from_its_compaction() {
    let world = World::new().await;
    let mut socket = connect(&world).await;
    for model in ["gpt-5.4", "claude-sonnet-4.5", "gpt-4.1"] {
        let first = socket.answered(json!({"model": model, "input": "one"})).await;
        let trigger = json!({"input": [{"type": "compaction_trigger"}], "previous_response_id": first["id"]});
        let compacted = socket.answered(trigger).await;
        assert_eq!(compacted["output"][0]["type"], "compaction", "{compacted:#}");
        let asked = json!({"input": "two", "previous_response_id": compacted["id"]});
        let next = socket.answered(asked).await;
        assert!(Client::Responses.text(&next).contains("two"), "{next:#}");
        let anew = json!({"input": [compacted["output"][0], {"role": "user", "content": "three"}]});
        assert!(Client::Responses.text(&socket.answered(anew).await).contains("three"));
    }
}

#[actix_rt::test]
async fn a_turn_after_a_lost_socket_is_told_in_full() {
    let world = World::new().await;
    let mut socket = connect(&world).await;
    let first = socket.answered(json!({"model": "gpt-5.4", "input": "one"})).await;
    let cut = json!({"input": "two [[sim:cut after=1]]", "previous_response_id": first["id"]});
    let lost = socket.turn(cut).await.pop().unwrap();
    assert_eq!(
        (&lost["type"], &lost["status"]),
        (&json!("error"), &json!(502)),
        "{lost:#}"
    );
    let third = json!({"input": "three", "previous_response_id": first["id"]});
    socket.answered(third).await;
    let sent = frames(&world);
    assert_eq!(
        sent[1]["previous_response_id"].as_str().map(|_| items(&sent[1])),
        Some(vec!["message"])
    );
    assert!(sent[2].get("previous_response_id").is_none(), "{:#}", sent[2]);
    assert_eq!(items(&sent[2]).len(), 3);
}

#[actix_rt::test]
async fn k135_a_conversation_changes_its_model_on_one_socket() {
    let world = World::new().await;
    let mut socket = connect(&world).await;
    let mut previous = Value::Null;
    let mut texts = Vec::new();
    for model in ["gpt-5.4", "claude-sonnet-4.5", "gpt-4.1", "gpt-5.4"] {
        let asked = json!({"model": model, "input": format!("hello {model}"), "previous_response_id": previous});
        let answer = socket.answered(asked).await;
        assert_eq!(answer["model"], model);
        previous = answer["id"].clone();
        texts.push(Client::Responses.text(&answer));
    }
    assert!(texts.iter().all(|text| text.contains("hello")), "{texts:?}");
    let sent = frames(&world);
    assert_eq!(sent.len(), 2, "only one of them has a socket");
    // What the others said in the meantime is new to it.
    assert_eq!((items(&sent[0]).len(), items(&sent[1]).len()), (1, 5));
    assert!(sent[1]["previous_response_id"].is_string());
}

#[actix_rt::test]
async fn a_socket_that_is_refused_gives_way_before_the_first_event() {
    let world = World::new().await;
    let refused = || json!({"endpoint": "upgrade", "status": 503, "body": {"error": {"message": "no sockets"}}});
    world.plan(refused()).await;
    let mut socket = connect(&world).await;
    socket.answered(json!({"model": "gpt-5.4", "input": "one"})).await;
    let asked: Vec<Value> = world
        .upstream("/responses")
        .iter()
        .map(|asked| asked["method"].clone())
        .collect();
    assert_eq!(asked, ["GET", "POST"]);
    assert!(crate::support::logged().contains("gpt-5.4 by socket"));
}

/// Where the catalogue knows a socket and no HTTP for Responses, another protocol serves when the socket fails.
#[actix_rt::test]
async fn a_model_without_http_for_responses_falls_back_to_its_next_protocol() {
    let world = World::with("models.overrides = {\"gpt-5.2\" = [\"ws:/responses\", \"/chat/completions\"]}\n").await;
    let mut socket = connect(&world).await;
    socket.answered(json!({"model": "gpt-5.2", "input": "one"})).await;
    assert_eq!(frames(&world).len(), 1);
    drop(socket);
    world
        .plan(json!({"endpoint": "upgrade", "status": 503, "body": {"error": {"message": "no sockets"}}}))
        .await;
    let mut socket = connect(&world).await;
    let answer = socket.answered(json!({"model": "gpt-5.2", "input": "one"})).await;
    assert!(Client::Responses.text(&answer).contains("one"), "{answer:#}");
    assert_eq!(world.upstream("/chat/completions").len(), 1);
}
