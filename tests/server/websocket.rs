//! Responses over a WebSocket: real sockets of a client, with and without one behind them.

use std::time::Duration;

use actix_web::web::Bytes;
use awc::error::WsProtocolError;
use awc::ws::{CloseCode, Frame, Message};
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use serde_json::{Value, json};

use crate::support::{Client, World};

trait Line: Stream<Item = Result<Frame, WsProtocolError>> + Sink<Message, Error = WsProtocolError> + Unpin {
    async fn say(&mut self, frame: Value) {
        self.send(Message::Text(frame.to_string().into())).await.unwrap();
    }

    async fn got(&mut self) -> Frame {
        let next = tokio::time::timeout(Duration::from_secs(10), self.next());
        next.await.expect("an answer in time").expect("an open socket").unwrap()
    }

    /// The next text, as JSON.
    async fn heard(&mut self) -> Value {
        loop {
            match self.got().await {
                Frame::Text(text) => return serde_json::from_slice(&text).unwrap(),
                Frame::Ping(_) | Frame::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Asks for a turn and hears it to its end.
    async fn turn(&mut self, frame: Value) -> Vec<Value> {
        self.say(frame).await;
        let mut events = Vec::new();
        loop {
            let event = self.heard().await;
            assert_eq!(event["sequence_number"], events.len(), "{event}");
            let kind = event["type"].as_str().unwrap().to_owned();
            events.push(event);
            if ["response.completed", "response.incomplete", "response.failed", "error"].contains(&kind.as_str()) {
                return events;
            }
        }
    }
}

impl<T: Stream<Item = Result<Frame, WsProtocolError>> + Sink<Message, Error = WsProtocolError> + Unpin> Line for T {}

async fn connect(world: &World) -> impl Line + use<> {
    let url = format!("http://{}/v1/responses", world.proxy.address);
    awc::Client::default().ws(url).connect().await.unwrap().1
}

/// The last event of a turn that ended well.
#[track_caller]
fn completed(events: &[Value]) -> &Value {
    let last = events.last().unwrap();
    assert_eq!(last["type"], "response.completed", "{events:#?}");
    assert_eq!(events[0]["type"], "response.created", "{events:#?}");
    &last["response"]
}

fn create(model: &str, input: &str) -> Value {
    json!({"type": "response.create", "model": model, "input": [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": input}]}]})
}

/// Both shapes of an error are in one frame.
#[track_caller]
fn refused(frame: &Value, code: &str) {
    assert_eq!(
        (&frame["type"], &frame["status"]),
        (&json!("error"), &json!(400)),
        "{frame}"
    );
    assert_eq!(
        (&frame["code"], &frame["error"]["code"]),
        (&json!(code), &json!(code)),
        "{frame}"
    );
    let message = frame["message"].as_str().unwrap_or_default();
    assert!(!message.is_empty() && frame["error"]["message"] == message, "{frame}");
    assert!(
        frame["error"]["type"].is_string() && frame["error_type"] == frame["error"]["type"],
        "{frame}"
    );
}

#[actix_rt::test]
async fn k134_a_frame_that_asks_for_nothing_we_do_is_an_error_and_no_end() {
    let world = World::new().await;
    let mut line = connect(&world).await;
    line.say(json!({"type": "session.update"})).await;
    refused(&line.heard().await, "unsupported_event");
    let mut unstreamed = create("gpt-5.4", "hi");
    unstreamed["stream"] = json!(false);
    line.say(unstreamed).await;
    let error = line.heard().await;
    assert_eq!(
        (&error["type"], &error["param"], &error["status"]),
        (&json!("error"), &json!("stream"), &json!(400))
    );
    let mut streamed = create("gpt-4.1", "hello there");
    streamed["stream"] = json!(true);
    let events = line.turn(streamed).await;
    let text = Client::Responses.text(completed(&events));
    assert!(text.contains("hello there"), "{text}");
    line.send(Message::Binary(Bytes::from_static(b"{}"))).await.unwrap();
    match line.got().await {
        Frame::Close(Some(reason)) => assert_eq!(reason.code, CloseCode::Unsupported),
        other => panic!("{other:?}"),
    }
}

#[actix_rt::test]
async fn k135_a_chain_on_one_socket_reaches_a_model_without_sockets_whole() {
    let world = World::new().await;
    for (model, path) in [("claude-sonnet-4.5", "/v1/messages"), ("gpt-4.1", "/chat/completions")] {
        let mut line = connect(&world).await;
        let first = completed(&line.turn(create(model, "the word is heliotrope")).await).clone();
        world.one(path);
        let mut next = create(model, "and the number is 7");
        next["previous_response_id"] = first["id"].clone();
        let second = completed(&line.turn(next.clone()).await).clone();
        assert!(
            Client::Responses.text(&second).contains("the number is 7"),
            "{second:#}"
        );
        let asked = world.one(path);
        let said = asked["body"]["messages"].to_string();
        let place = |words: &str| {
            said.find(words)
                .unwrap_or_else(|| panic!("{model}: no {words:?}: {said}"))
        };
        let answer = Client::Responses.text(&first);
        assert!(place("the word is heliotrope") < place("assistant"), "{said}");
        assert!(
            place(answer.split('\n').next().unwrap()) < place("the number is 7"),
            "{said}"
        );
        assert!(asked["body"].get("previous_response_id").is_none(), "{asked:#}");
        assert_eq!(asked["initiator"], "user", "the new input decides");

        // A new socket knows nothing of it.
        let mut other = connect(&world).await;
        other.say(next).await;
        refused(&other.heard().await, "previous_response_not_found");
        assert!(world.upstream(path).is_empty());
    }
}

#[actix_rt::test]
async fn k135_a_chain_goes_on_by_upstreams_own_socket() {
    let world = World::new().await;
    let mut line = connect(&world).await;
    let mut before = Value::Null;
    for (turn, words) in ["the word is heliotrope", "the number is 7", "the day is Friday"]
        .into_iter()
        .enumerate()
    {
        let mut frame = create("gpt-5.4", words);
        if !before.is_null() {
            frame["previous_response_id"] = before;
        }
        let events = line.turn(frame).await;
        let response = completed(&events);
        assert!(Client::Responses.text(response).contains(words), "{response:#}");
        before = response["id"].clone();
        let asked = world.upstream("/responses");
        let frames: Vec<&Value> = asked.iter().filter(|asked| asked["method"] == "FRAME").collect();
        assert_eq!(frames.len(), 1, "{asked:#?}");
        assert_eq!(
            asked.len(),
            if turn == 0 { 2 } else { 1 },
            "one socket for all turns: {asked:#?}"
        );
        assert_eq!(frames[0]["initiator"], "user");
    }
}

#[actix_rt::test]
async fn k136_a_warm_up_asks_nobody_and_is_gone_on_from() {
    let world = World::new().await;
    for (model, path) in [("gpt-4.1", "/chat/completions"), ("gpt-5.4", "/responses")] {
        let mut line = connect(&world).await;
        let mut warm_up = create(model, "the word is heliotrope");
        warm_up["generate"] = json!(false);
        let events = line.turn(warm_up).await;
        let warmed = completed(&events).clone();
        assert_eq!((events.len(), &warmed["output"]), (2, &json!([])), "{events:#?}");
        assert!(world.upstream(path).is_empty());

        let mut next = create(model, "and the number is 7");
        next["previous_response_id"] = warmed["id"].clone();
        let events = line.turn(next).await;
        assert!(Client::Responses.text(completed(&events)).contains("the number is 7"));
        let asked = world.upstream(path);
        let body = &asked.last().unwrap()["body"];
        assert!(body.to_string().contains("heliotrope"), "{body:#}");
        assert!(body.get("generate").is_none(), "{body:#}");
    }
}

#[actix_rt::test]
async fn k152_a_model_of_sockets_only_is_no_model_of_responses() {
    let ways = "models.overrides = {\"gpt-5.4\" = [\"ws:/responses\"], \
                \"gpt-5-mini\" = [\"ws:/responses\", \"/chat/completions\"]}\n";
    let world = World::with(ways).await;
    let answer = world
        .post("/v1/responses", &Client::Responses.body("gpt-5.4", "hi", true))
        .await;
    assert_eq!(Client::Responses.refusal(&answer, 400).1, "unsupported_endpoint");
    assert!(world.upstream("/responses").is_empty());
    let answer = world
        .post("/v1/responses", &Client::Responses.body("gpt-5-mini", "hello", false))
        .await;
    assert!(Client::Responses.text(&answer.expect(200)).contains("hello"));
    world.one("/chat/completions");
    // By a socket it is served.
    let mut line = connect(&world).await;
    let events = line.turn(create("gpt-5.4", "hello there")).await;
    assert!(Client::Responses.text(completed(&events)).contains("hello there"));
}
