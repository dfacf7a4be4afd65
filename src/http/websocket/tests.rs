//! A real server on a free port, and a real client of its sockets.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use actix::Actor;
use actix_web::web::Bytes;
use actix_web::{App, HttpRequest, HttpServer};
use awc::error::WsProtocolError;
use awc::ws::{CloseCode, Frame, Message};
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, mpsc};

use super::*;
use crate::actors::Actors;
use crate::actors::rate_limiter::{self, GetSnapshot, RateLimiterActor};
use crate::http;
use crate::http::tests::Proxy;
use crate::relay::stream::tests::with_a_bug;

/// Serves an app on a free port; its address. The app's type has no name to write here.
macro_rules! listen {
    ($app:expr) => {{
        let server = HttpServer::new($app)
            .workers(1)
            .h1_allow_half_closed(false)
            .disable_signals()
            .bind("127.0.0.1:0")
            .unwrap();
        let address = server.addrs()[0];
        actix_rt::spawn(server.run());
        format!("http://{address}")
    }};
}

/// What the client of a socket does.
trait Client: Stream<Item = Result<Frame, WsProtocolError>> + Sink<Message, Error = WsProtocolError> + Unpin {
    async fn ask(&mut self, frame: Value) {
        self.send(Message::Text(frame.to_string().into())).await.unwrap();
    }

    /// The next text, as JSON.
    async fn heard(&mut self) -> Value {
        loop {
            match self.got().await {
                Frame::Text(text) => return serde_json::from_slice(&text).unwrap(),
                Frame::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    async fn closed(&mut self) -> CloseCode {
        match self.got().await {
            Frame::Close(Some(reason)) => reason.code,
            other => panic!("{other:?}"),
        }
    }

    async fn got(&mut self) -> Frame {
        let next = tokio::time::timeout(Duration::from_secs(10), self.next());
        next.await.expect("an answer in time").expect("an open socket").unwrap()
    }
}

impl<T: Stream<Item = Result<Frame, WsProtocolError>> + Sink<Message, Error = WsProtocolError> + Unpin> Client for T {}

/// A proxy on a free port; its address.
fn serve(proxy: Proxy) -> String {
    let doors = Proxy {
        manual_approval: false,
        ..proxy
    }
    .start();
    listen!(move || http::app(doors()))
}

async fn connect(url: &str) -> impl Client + use<> {
    let socket = awc::Client::default().ws(format!("{url}/v1/responses"));
    socket.max_frame_size(32 << 20).connect().await.unwrap().1
}

#[actix_web::test]
async fn k134_a_socket_says_what_it_cannot_do() {
    let url = serve(Proxy::default());
    let mut socket = connect(&url).await;
    socket.ask(json!({"type": "session.update"})).await;
    assert_eq!(socket.heard().await["code"], "unsupported_event");
    socket.send(Message::Text("{".into())).await.unwrap();
    assert_eq!(socket.heard().await["status"], 400);
    socket
        .ask(json!({"type": "response.create", "model": "gpt-5.4", "stream": false}))
        .await;
    assert_eq!(socket.heard().await["param"], "stream");
    socket.send(Message::Ping("p".into())).await.unwrap();
    assert_eq!(socket.got().await, Frame::Pong("p".into()));
    socket.send(Message::Binary(Bytes::from_static(b"x"))).await.unwrap();
    assert_eq!(socket.closed().await, CloseCode::Unsupported);
}

#[actix_web::test]
async fn a_message_may_be_long_but_not_too_long() {
    let url = serve(Proxy::default());
    let mut socket = connect(&url).await;
    let warm_up =
        |size: usize| json!({"type": "response.create", "model": "m", "generate": false, "input": "x".repeat(size)});
    socket.ask(warm_up(8 << 20)).await;
    assert_eq!(socket.heard().await["type"], "response.created");
    assert_eq!(socket.heard().await["type"], "response.completed");
    // The server may hang up while the rest still comes.
    let _ = socket.send(Message::Text(warm_up(17 << 20).to_string().into())).await;
    assert_eq!(socket.closed().await, CloseCode::Size);
}

#[actix_web::test]
async fn a_frame_of_an_extension_that_nobody_agreed_upon_breaks_the_rules() {
    let url = serve(Proxy::default());
    let address = url.strip_prefix("http://").unwrap();
    let mut line = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = "GET /v1/responses HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
                sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n";
    // Empty text, masked, with the bit that would mark it as compressed.
    let frame = [0xC1, 0x80, 0, 0, 0, 0];
    line.write_all(head.as_bytes()).await.unwrap();
    line.write_all(&frame).await.unwrap();
    let mut answer = Vec::new();
    line.read_to_end(&mut answer).await.unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let (opcode, code) = (answer[end], &answer[end + 2..end + 4]);
    assert_eq!((opcode, code), (0x88, &1002u16.to_be_bytes()[..]));
}

#[actix_web::test]
async fn k136_a_warm_up_asks_nobody() {
    let url = serve(Proxy::default());
    let mut socket = connect(&url).await;
    socket
        .ask(json!({"type": "response.create", "model": "gpt-5.4", "generate": false, "input": "x"}))
        .await;
    let created = socket.heard().await;
    let completed = socket.heard().await;
    assert_eq!(
        (&created["type"], &completed["type"]),
        (&json!("response.created"), &json!("response.completed"))
    );
    assert_eq!(created["response"]["id"], completed["response"]["id"]);
    let mut other = connect(&url).await;
    let continued = json!({"type": "response.create", "model": "gpt-5.4", "input": "y",
        "previous_response_id": created["response"]["id"]});
    other.ask(continued).await;
    let error = other.heard().await;
    assert_eq!(
        (&error["code"], &error["status"]),
        (&json!("previous_response_not_found"), &json!(400))
    );
}

#[actix_web::test]
async fn get_without_an_upgrade_names_the_upgrade() {
    let url = serve(Proxy::default());
    let answer = awc::Client::default()
        .get(format!("{url}/responses"))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 426);
    assert_eq!(answer.headers().get("upgrade").unwrap(), "websocket");
    let answer = awc::Client::default()
        .delete(format!("{url}/responses"))
        .send()
        .await
        .unwrap();
    assert_eq!(
        (
            answer.status().as_u16(),
            answer.headers().get("allow").unwrap().as_bytes()
        ),
        (405, &b"GET, POST"[..])
    );
}

#[actix_web::test]
async fn a_proxy_without_sockets_says_so() {
    let url = serve(Proxy {
        settings: http::Settings {
            websocket: false,
            ..http::Settings::default()
        },
        ..Proxy::default()
    });
    let refused = awc::Client::default().ws(format!("{url}/responses")).connect().await;
    assert!(matches!(refused, Err(awc::error::WsClientError::InvalidResponseStatus(status)) if status == 404));
}

#[actix_web::test]
async fn a_socket_asks_for_the_key_like_all_doors() {
    let url = serve(Proxy::with_key("sesame"));
    let ask = |url: String| awc::Client::default().ws(url);
    let refused = ask(format!("{url}/responses?key=sesame")).connect().await;
    assert!(matches!(refused, Err(awc::error::WsClientError::InvalidResponseStatus(status)) if status == 401));
    assert!(
        ask(format!("{url}/responses"))
            .bearer_auth("sesame")
            .connect()
            .await
            .is_ok()
    );
}

#[actix_web::test]
async fn a_socket_lives_no_longer_than_it_may() {
    let short = Duration::from_millis(300);
    let lifetimes = [
        Lifetime {
            idle: short,
            ..LIFETIME
        },
        Lifetime {
            whole: short,
            ..LIFETIME
        },
    ];
    for lifetime in lifetimes {
        let doors = Proxy::default().start();
        let url = listen!(move || {
            let open = move |request, payload, doors| open_for(lifetime, request, payload, doors);
            App::new()
                .app_data(web::Data::new(doors()))
                .route("/v1/responses", web::get().to(open))
        });
        let mut socket = connect(&url).await;
        socket.send(Message::Ping("p".into())).await.unwrap();
        assert_eq!(socket.got().await, Frame::Pong("p".into()));
        assert_eq!(socket.closed().await, CloseCode::Normal);
    }
}

#[actix_web::test]
async fn an_idle_socket_goes_when_the_server_does() {
    let (drain, draining) = watch::channel(false);
    let url = serve(Proxy {
        draining,
        ..Proxy::default()
    });
    let mut socket = connect(&url).await;
    drain.send(true).unwrap();
    assert_eq!(socket.closed().await, CloseCode::Away);
}

/// The events of an answer of two words, or the first of one that never goes on.
fn events(asked: &Value) -> Vec<Value> {
    let message = json!({"type": "message", "id": "msg_u", "role": "assistant", "status": "completed",
        "content": [{"type": "output_text", "text": "hi there", "annotations": []}]});
    let usage = json!({"input_tokens": 3, "output_tokens": 2, "total_tokens": 5});
    let mut events = vec![
        json!({"type": "response.created", "response": {"id": "resp_u", "status": "in_progress", "output": []}}),
        json!({"type": "response.output_item.added", "output_index": 0,
            "item": {"type": "message", "id": "msg_a", "role": "assistant", "status": "in_progress", "content": []}}),
        json!({"type": "response.output_item.done", "output_index": 0, "item": message}),
        json!({"type": "response.completed",
            "response": {"id": "resp_v", "status": "completed", "output": [message], "usage": usage}}),
    ];
    if asked.to_string().contains("[[hang]]") {
        events.truncate(1);
    }
    events
}

/// What was asked of the Copilot below, and how.
#[derive(Debug)]
enum Heard {
    Posted(Value),
    /// The socket's number, and the frame.
    Framed(usize, Value),
    /// The caller of a hanging answer has left.
    Left,
}

/// Tells when it is dropped.
struct Tells(mpsc::UnboundedSender<Heard>);

impl Drop for Tells {
    fn drop(&mut self) {
        let _ = self.0.send(Heard::Left);
    }
}

#[test]
fn there_are_so_many_places_and_no_more() {
    let seats = Seats(AtomicUsize::new(0));
    let mut taken: Vec<Seat> = (0..MAX_SOCKETS).map(|_| seats.take().unwrap()).collect();
    assert!(seats.take().is_none());
    taken.pop();
    assert!(seats.take().is_some());
}

/// A Copilot that answers every request by HTTP, and by sockets if it has any, and tells what it was asked.
fn copilot(sockets: bool) -> (String, mpsc::UnboundedReceiver<Heard>) {
    let (told, asked) = mpsc::unbounded_channel();
    let url = listen!(move || {
        let post = {
            let told = told.clone();
            web::post().to(move |body: web::Bytes| {
                let asked: Value = serde_json::from_slice(&body).unwrap();
                let events = events(&asked);
                told.send(Heard::Posted(asked)).unwrap();
                let frame = |event: &Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap());
                let text: String = events.iter().map(frame).collect();
                let first = futures_util::stream::once(async { Ok::<_, std::io::Error>(Bytes::from(text)) });
                let body = if events.len() == 1 {
                    let tells = Tells(told.clone());
                    let hangs = futures_util::stream::poll_fn(move |_| {
                        let _ = &tells;
                        std::task::Poll::Pending
                    });
                    first.chain(hangs).left_stream()
                } else {
                    first.right_stream()
                };
                async { HttpResponse::Ok().content_type("text/event-stream").streaming(body) }
            })
        };
        let app = App::new().app_data(web::PayloadConfig::new(64 << 20));
        if !sockets {
            return app.route("/responses", post);
        }
        let (told, opened) = (told.clone(), Rc::new(Cell::new(0)));
        let socket = web::get().to(move |request: HttpRequest, payload: web::Payload| {
            opened.set(opened.get() + 1);
            let (response, sender, frames) = actix_ws::handle(&request, payload).unwrap();
            actix_rt::spawn(answer_frames(
                told.clone(),
                opened.get(),
                sender,
                frames.aggregate_continuations(),
            ));
            async { response }
        });
        app.service(web::resource("/responses").route(post).route(socket))
    });
    (url, asked)
}

async fn answer_frames(
    told: mpsc::UnboundedSender<Heard>,
    number: usize,
    mut sender: actix_ws::Session,
    mut frames: AggregatedMessageStream,
) {
    while let Some(Ok(frame)) = frames.recv().await {
        let AggregatedMessage::Text(text) = frame else { return };
        let asked: Value = serde_json::from_str(&text).unwrap();
        let events = events(&asked);
        let (cuts, refuses) = (text.contains("[[cut]]"), text.contains("[[refuse]]"));
        let fails = text.contains("[[fail]]");
        let forgets = text.contains("[[forget]]") && asked.get("previous_response_id").is_some();
        told.send(Heard::Framed(number, asked)).unwrap();
        if forgets {
            let error = json!({"type": "error", "error": {"code": "previous_response_not_found", "message": "gone"}});
            sender.text(error.to_string()).await.unwrap();
            continue;
        }
        if fails {
            sender.text(events[0].to_string()).await.unwrap();
        }
        if refuses || fails {
            let error = json!({"type": "error", "error": {"code": "user_model_rate_limited", "message": "slow down"}});
            sender.text(error.to_string()).await.unwrap();
            continue;
        }
        for event in events {
            sender.text(event.to_string()).await.unwrap();
            if cuts {
                return;
            }
        }
    }
}

/// Hears a turn to its end; its last event.
async fn whole_turn(socket: &mut impl Client) -> Value {
    let mut sequence = 0;
    loop {
        let event = socket.heard().await;
        assert_eq!(event["sequence_number"], sequence, "{event}");
        sequence += 1;
        if let Some("response.completed" | "response.failed" | "error") = event["type"].as_str() {
            return event;
        }
    }
}

#[actix_web::test]
async fn k135_a_turn_continues_the_one_before() {
    let (copilot, mut asked) = copilot(false);
    let url = serve(Proxy {
        copilot,
        ..Proxy::default()
    });
    let mut socket = connect(&url).await;
    socket
        .ask(json!({"type": "response.create", "model": "gpt-5.4", "input": "one"}))
        .await;
    let first = whole_turn(&mut socket).await;
    assert_eq!(first["type"], "response.completed", "{first}");
    let continued = json!({"type": "response.create", "input": "two", "previous_response_id": first["response"]["id"]});
    socket.ask(continued).await;
    assert_eq!(whole_turn(&mut socket).await["type"], "response.completed");
    let mut posted = async || match asked.recv().await.unwrap() {
        Heard::Posted(body) => body["input"].clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(posted().await.as_array().unwrap().len(), 1);
    let input = posted().await;
    let said: Vec<&Value> = input
        .as_array()
        .unwrap()
        .iter()
        .map(|item| &item["content"][0]["text"])
        .collect();
    assert_eq!(said, ["one", "hi there", "two"]);
}

#[actix_web::test]
async fn a_cancelled_turn_makes_room_for_the_next() {
    let (copilot, _asked) = copilot(false);
    let url = serve(Proxy {
        copilot,
        ..Proxy::default()
    });
    let mut socket = connect(&url).await;
    socket
        .ask(json!({"type": "response.create", "model": "gpt-5.4", "input": "[[hang]]"}))
        .await;
    assert_eq!(socket.heard().await["type"], "response.created");
    socket.ask(json!({"type": "response.create", "input": "next"})).await;
    socket.ask(json!({"type": "response.cancel"})).await;
    let failed = socket.heard().await;
    assert_eq!(
        (&failed["type"], &failed["response"]["error"]["code"]),
        (&json!("response.failed"), &json!("cancelled"))
    );
    assert_eq!(whole_turn(&mut socket).await["type"], "response.completed");
}

#[actix_web::test]
async fn a_server_that_goes_away_begins_no_turn() {
    let (copilot, mut asked) = copilot(false);
    let (drain, draining) = watch::channel(false);
    let url = serve(Proxy {
        copilot,
        draining,
        ..Proxy::default()
    });
    let mut socket = connect(&url).await;
    socket
        .ask(json!({"type": "response.create", "model": "gpt-5.4", "input": "[[hang]]"}))
        .await;
    socket.ask(json!({"type": "response.create", "input": "next"})).await;
    assert_eq!(socket.heard().await["type"], "response.created");
    drain.send(true).unwrap();
    socket.ask(json!({"type": "response.cancel"})).await;
    assert_eq!(
        socket.heard().await["type"],
        "response.failed",
        "what is under way may end"
    );
    assert_eq!(socket.closed().await, CloseCode::Away);
    assert!(matches!(asked.recv().await.unwrap(), Heard::Posted(_)));
    assert!(!matches!(asked.try_recv(), Ok(Heard::Posted(_))));
}

#[actix_web::test]
async fn a_client_that_leaves_takes_its_turn_along() {
    let (copilot, mut asked) = copilot(false);
    let url = serve(Proxy {
        copilot,
        ..Proxy::default()
    });
    let mut socket = connect(&url).await;
    socket
        .ask(json!({"type": "response.create", "model": "gpt-5.4", "input": "[[hang]]"}))
        .await;
    assert_eq!(socket.heard().await["type"], "response.created");
    assert!(matches!(asked.recv().await.unwrap(), Heard::Posted(_)));
    drop(socket);
    let left = tokio::time::timeout(Duration::from_secs(1), asked.recv()).await;
    assert!(matches!(left, Ok(Some(Heard::Left))), "{left:?}");
}

#[actix_web::test]
async fn a_model_with_a_socket_is_asked_by_one_and_the_socket_is_kept() {
    let (copilot, mut asked) = copilot(true);
    let url = serve(Proxy {
        copilot,
        ..Proxy::default()
    });
    let mut socket = connect(&url).await;
    for model in ["gpt-5.4", "socket-only"] {
        socket
            .ask(json!({"type": "response.create", "model": model, "input": "one"}))
            .await;
        assert_eq!(whole_turn(&mut socket).await["type"], "response.completed");
        match asked.recv().await.unwrap() {
            Heard::Framed(number, frame) => {
                assert_eq!((number, &frame["type"]), (1, &json!("response.create")));
                assert_eq!((&frame["initiator"], frame.get("stream")), (&json!("user"), None));
                assert_eq!(frame["model"], model);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[actix_web::test]
async fn k135_a_turn_on_the_same_socket_says_only_what_is_new() {
    let (copilot, mut asked) = copilot(true);
    let url = serve(Proxy {
        copilot,
        ..Proxy::default()
    });
    let mut socket = connect(&url).await;
    let mut previous = Value::Null;
    let mut framed = async || match asked.recv().await.unwrap() {
        Heard::Framed(number, frame) => {
            let input = frame["input"].as_array().unwrap().clone();
            let texts: Vec<String> = input
                .iter()
                .map(|item| item["content"][0]["text"].as_str().unwrap().into())
                .collect();
            (number, frame["previous_response_id"].clone(), texts)
        }
        other => panic!("{other:?}"),
    };
    for input in ["one", "two", "three [[forget]]", "four [[cut]]", "five"] {
        let create =
            json!({"type": "response.create", "model": "gpt-5.4", "input": input, "previous_response_id": previous});
        socket.ask(create).await;
        let last = whole_turn(&mut socket).await;
        if last["type"] == "response.completed" {
            previous = last["response"]["id"].clone();
        }
    }
    let hi = || "hi there".to_owned();
    assert_eq!(framed().await, (1, Value::Null, vec!["one".into()]));
    // The id of the last event, which is not the one that the client knows.
    assert_eq!(framed().await, (1, json!("resp_v"), vec!["two".into()]));
    // What Copilot no longer holds is asked for in full, on a new socket.
    assert_eq!(framed().await, (1, json!("resp_v"), vec!["three [[forget]]".into()]));
    let whole = ["one".into(), hi(), "two".into(), hi(), "three [[forget]]".into()];
    assert_eq!(framed().await, (2, Value::Null, whole.to_vec()));
    assert_eq!(framed().await, (2, json!("resp_v"), vec!["four [[cut]]".into()]));
    // A cut turn leaves nothing to go on from; the client goes on from before it.
    let (number, previous, texts) = framed().await;
    assert_eq!((number, previous, texts.len()), (3, Value::Null, 7));
}

#[actix_web::test]
async fn a_turn_that_copilot_cuts_fails_and_the_socket_stays() {
    let (copilot, mut asked) = copilot(true);
    let url = serve(Proxy {
        copilot,
        ..Proxy::default()
    });
    let mut socket = connect(&url).await;
    socket
        .ask(json!({"type": "response.create", "model": "gpt-5.4", "input": "[[cut]]"}))
        .await;
    let lost = whole_turn(&mut socket).await;
    assert_eq!(
        (&lost["type"], &lost["status"]),
        (&json!("error"), &json!(502)),
        "{lost}"
    );
    socket.ask(json!({"type": "response.create", "input": "two"})).await;
    assert_eq!(whole_turn(&mut socket).await["type"], "response.completed");
    let mut sockets = async || match asked.recv().await.unwrap() {
        Heard::Framed(number, _) => number,
        other => panic!("{other:?}"),
    };
    assert_eq!((sockets().await, sockets().await), (1, 2));
}

#[actix_web::test]
async fn what_copilot_refuses_on_its_socket_is_not_asked_again() {
    let (copilot, mut asked) = copilot(true);
    let url = serve(Proxy {
        copilot,
        ..Proxy::default()
    });
    let mut socket = connect(&url).await;
    socket
        .ask(json!({"type": "response.create", "model": "gpt-5.4", "input": "[[refuse]]"}))
        .await;
    let error = whole_turn(&mut socket).await;
    assert_eq!(
        (&error["status"], &error["error"]["message"]),
        (&json!(429), &json!("slow down"))
    );
    assert!(matches!(asked.recv().await.unwrap(), Heard::Framed(..)));
    assert!(asked.try_recv().is_err());
}

#[actix_web::test]
async fn copilots_socket_serves_no_turn_after_an_error() {
    for (input, told) in [("[[refuse]]", "error"), ("[[fail]]", "response.failed")] {
        let (copilot, mut asked) = copilot(true);
        let url = serve(Proxy {
            copilot,
            ..Proxy::default()
        });
        let mut socket = connect(&url).await;
        socket
            .ask(json!({"type": "response.create", "model": "gpt-5.4", "input": input}))
            .await;
        assert_eq!(whole_turn(&mut socket).await["type"], told, "{input}");
        socket.ask(json!({"type": "response.create", "input": "two"})).await;
        assert_eq!(whole_turn(&mut socket).await["type"], "response.completed", "{input}");
        let mut sockets = async || match asked.recv().await.unwrap() {
            Heard::Framed(number, _) => number,
            other => panic!("{other:?}"),
        };
        assert_eq!((sockets().await, sockets().await), (1, 2), "{input}");
    }
}

#[actix_web::test]
async fn where_the_socket_fails_http_serves() {
    let (copilot, mut asked) = copilot(false);
    let url = serve(Proxy {
        copilot,
        ..Proxy::default()
    });
    let mut socket = connect(&url).await;
    socket
        .ask(json!({"type": "response.create", "model": "gpt-5.4", "input": "one"}))
        .await;
    assert_eq!(whole_turn(&mut socket).await["type"], "response.completed");
    assert!(matches!(asked.recv().await.unwrap(), Heard::Posted(_)));
    socket
        .ask(json!({"type": "response.create", "model": "socket-only", "input": "one"}))
        .await;
    let error = whole_turn(&mut socket).await;
    assert_eq!(
        (&error["type"], &error["status"]),
        (&json!("error"), &json!(404)),
        "there is no other way"
    );
}

/// A socket whose turn holds a permit and meets a bug of ours: within an answer, or, at `/before`, before one has begun.
async fn buggy(
    request: HttpRequest,
    payload: web::Payload,
    doors: web::Data<Doors>,
    actors: web::Data<Actors>,
    heard: web::Data<Notify>,
) -> HttpResponse {
    let permit = actors.acquire().await.unwrap().expect("a permit");
    let time = async move { heard.notified().await };
    let turn = match request.path() {
        "/before" => Turn::Asked(Box::pin(async move {
            let _permit = permit;
            time.await;
            panic!("this is the bug")
        })),
        _ => Turn::Flowing(with_a_bug(Actors::clone(&actors), permit, time).into()),
    };
    let (response, sender, messages) = actix_ws::handle(&request, payload).unwrap();
    let socket = Socket {
        client: client_of(&request, Protocol::Responses),
        session: Session::new(doors.settings.max_body_bytes, false),
        relay: doors.relay.for_socket(),
        draining: doors.draining.clone(),
        sender,
        turn: Some(turn),
    };
    actix_rt::spawn(socket.live(messages.aggregate_continuations(), LIFETIME));
    response
}

#[actix_web::test]
async fn a_bug_in_a_turn_ends_its_socket_and_no_other() {
    let start = Proxy::default().start();
    let settings = rate_limiter::Settings {
        max_concurrent: 1,
        ..rate_limiter::Settings::default()
    };
    let actors = Actors {
        rate_limiter: RateLimiterActor::new(settings).start(),
        ..start().relay.actors().clone()
    };
    let (of_workers, heard) = (web::Data::new(actors.clone()), web::Data::new(Notify::new()));
    let hears = heard.clone();
    let url = listen!(move || {
        App::new()
            .app_data(web::Data::new(start()))
            .app_data(of_workers.clone())
            .app_data(hears.clone())
            .default_service(web::get().to(buggy))
    });
    for path in ["/before", "/within", "/before", "/within"] {
        let mut socket = awc::Client::default()
            .ws(format!("{url}{path}"))
            .connect()
            .await
            .unwrap()
            .1;
        if path == "/within" {
            assert_eq!(socket.heard().await, json!({}));
        }
        heard.notify_one();
        assert_eq!(socket.closed().await, CloseCode::Error, "{path}");
        let since = Instant::now();
        while actors.rate_limiter.send(GetSnapshot).await.unwrap().running > 0 {
            assert!(since.elapsed() < Duration::from_secs(5), "the permit is lost: {path}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}
