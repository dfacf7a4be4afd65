//! A socket to an upstream that speaks the protocol well, and to some that do not.

use std::{cell::Cell, cell::RefCell, rc::Rc, time::Duration};

use actix_rt::time::sleep;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use actix_ws::{CloseCode, CloseReason, Message, Session};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, copy_bidirectional},
    net::TcpStream,
};

use super::fake::{Authority, Io, Peer, SOON, header, serve, serve_tls, settings, text, within};
use crate::{
    protocol::Initiator,
    secret::Secret,
    upstream::{
        Copilot, Error, Opened, Phase, ProxySettings, Settings, Setup, Socket,
        copilot::{Access, Call, Endpoint},
        websocket::MAX_MESSAGE,
    },
};

const SHORT: Duration = Duration::from_millis(300);

/// A server that does what it is told in a message: it knows a few words.
async fn responses(request: HttpRequest, body: web::Payload) -> actix_web::Result<HttpResponse> {
    let heard: Vec<_> = [
        "authorization",
        "x-initiator",
        "openai-intent",
        "editor-version",
        "host",
    ]
    .iter()
    .map(|name| {
        let value = request.headers().get(*name).map(|value| value.to_str().unwrap());
        format!("{name}={}", value.unwrap_or("-"))
    })
    .collect();
    let (mut response, session, stream) = actix_ws::handle(&request, body)?;
    response
        .headers_mut()
        .insert("x-github-request-id".parse().unwrap(), "ABCD:1".parse().unwrap());
    let stream = stream.max_frame_size(MAX_MESSAGE);
    actix_rt::spawn(converse(session, stream, heard.join(" ")));
    Ok(response)
}

async fn converse(mut session: Session, mut stream: actix_ws::MessageStream, heard: String) {
    while let Some(Ok(message)) = stream.next().await {
        let Message::Text(text) = message else { continue };
        let (word, rest) = text.split_once(' ').unwrap_or((&text, ""));
        match word {
            "headers" => session.text(heard.as_str()).await.unwrap(),
            "echo" => session.text(rest).await.unwrap(),
            "binary" => session.binary(rest.to_string()).await.unwrap(),
            "length" => session.text(text.len().to_string()).await.unwrap(),
            "repeat" => session.text("x".repeat(rest.parse().unwrap())).await.unwrap(),
            "ping" => {
                session.ping(b"are you there").await.unwrap();
                let pong = loop {
                    match stream.next().await.unwrap().unwrap() {
                        Message::Pong(bytes) => break bytes,
                        _ => continue,
                    }
                };
                session.text(format!("{pong:?}")).await.unwrap();
            }
            "pieces" => {
                use actix_http::ws::Item;
                let pieces = [
                    Item::FirstText("{\"a\":".into()),
                    Item::Continue(Bytes::from_static(b"\"b")),
                    Item::Last(Bytes::from_static(b"\"}")),
                ];
                for piece in pieces {
                    session.continuation(piece).await.unwrap();
                    session.ping(b"").await.unwrap();
                }
            }
            "bye" => {
                let code: u16 = rest.parse().unwrap();
                let reason = CloseReason {
                    code: CloseCode::from(code),
                    description: Some("because\u{1b}[1m".into()),
                };
                let _ = session.close(Some(reason)).await;
                return;
            }
            "bare-bye" => {
                let _ = session.close(None).await;
                return;
            }
            _ => {}
        }
    }
}

/// The address of a running server.
fn server() -> String {
    let server = HttpServer::new(|| App::new().route("/responses", web::get().to(responses)))
        .workers(1)
        .disable_signals()
        .bind("127.0.0.1:0")
        .unwrap();
    let address = server.addrs()[0];
    actix_rt::spawn(server.run());
    format!("http://{address}")
}

fn access(base_url: impl Into<String>) -> Access {
    Access {
        token: Secret::new("tid=1"),
        base_url: base_url.into(),
    }
}

async fn open(settings: Settings, base_url: impl Into<String>) -> Result<Opened, Error> {
    let copilot = Copilot::new(&Setup::new(settings).unwrap());
    let call = Call {
        initiator: Some(Initiator::Agent),
        body: Some("not for the handshake".into()),
        ..Call::new(Endpoint::Responses)
    };
    within(copilot.open_socket(&access(base_url), &call)).await
}

async fn opened(settings: Settings, base_url: impl Into<String>) -> Socket {
    match open(settings, base_url).await.unwrap() {
        Opened::Socket(socket) => socket,
        Opened::Refused(answer) => panic!("{answer:?}"),
    }
}

async fn said(socket: &mut Socket, text: &str) -> String {
    within(socket.send(text.into())).await.unwrap();
    let bytes = within(socket.next()).await.unwrap().unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[actix_web::test]
async fn the_handshake_carries_our_headers_but_not_the_initiator() {
    let url = server();
    let mut socket = opened(settings(), url.clone()).await;
    let host = url.strip_prefix("http://").unwrap();
    assert_eq!(
        said(&mut socket, "headers").await,
        format!(
            "authorization=Bearer tid=1 x-initiator=- openai-intent=conversation-agent editor-version=vscode/1.116.0 host={host}"
        )
    );
    let id = ("x-github-request-id".to_string(), "ABCD:1".to_string());
    assert!(socket.headers.contains(&id), "{:?}", socket.headers);
    assert!(!format!("{socket:?}").contains("tid=1"));
}

#[actix_web::test]
async fn messages_go_both_ways_many_times_whatever_their_size() {
    let mut socket = opened(settings(), server()).await;
    for text in ["a", "ä€😀", ""] {
        assert_eq!(said(&mut socket, &format!("echo {text}")).await, text);
    }
    assert_eq!(said(&mut socket, "binary bytes").await, "bytes");
    assert_eq!(said(&mut socket, "pieces").await, r#"{"a":"b"}"#);
    let large = 6 << 20;
    assert_eq!(
        said(&mut socket, &format!("length {}", "x".repeat(large))).await,
        (large + 7).to_string()
    );
    assert_eq!(said(&mut socket, &format!("repeat {large}")).await.len(), large);
    assert!(socket.is_open());
}

#[actix_web::test]
async fn pings_are_answered_while_somebody_waits() {
    let mut socket = opened(settings(), server()).await;
    assert_eq!(said(&mut socket, "ping").await, r#"b"are you there""#);
}

#[actix_web::test]
async fn a_message_beyond_the_limit_is_refused() {
    let mut socket = opened(settings(), server()).await;
    socket.send(format!("repeat {}", MAX_MESSAGE + 1)).await.unwrap();
    let error = within(socket.next()).await.unwrap().unwrap_err();
    assert_eq!(error, Error::TooLarge { limit: MAX_MESSAGE });
    assert!(within(socket.next()).await.is_none());
}

#[actix_web::test]
async fn only_a_close_that_means_done_is_a_clean_end() {
    let url = server();
    let mut socket = opened(settings(), url.clone()).await;
    socket.send("bye 1000".into()).await.unwrap();
    assert!(within(socket.next()).await.is_none());
    assert!(!socket.is_open());

    for code in [1001, 1008, 1011, 1012, 1013] {
        let mut socket = opened(settings(), url.clone()).await;
        socket.send(format!("bye {code}")).await.unwrap();
        let error = within(socket.next()).await.unwrap().unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("upstream closed the socket ({code}: because[1m)")
        );
        assert!(within(socket.next()).await.is_none());
    }

    let mut socket = opened(settings(), url).await;
    socket.send("bare-bye".into()).await.unwrap();
    let error = within(socket.next()).await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "upstream closed the socket");
    let closed = socket.send("echo a".into()).await.unwrap_err();
    assert_eq!(closed.to_string(), "upstream closed the socket");
}

#[actix_web::test]
async fn silence_is_noticed_also_by_a_reader_that_looks_in_now_and_then() {
    let limited = Settings {
        silence: SHORT,
        ..settings()
    };
    let silent = Error::Timeout {
        phase: Phase::Silence,
        after: SHORT,
    };
    let url = server();
    let mut socket = opened(limited.clone(), url.clone()).await;
    socket.send("nothing".into()).await.unwrap();
    assert_eq!(within(socket.next()).await.unwrap().unwrap_err(), silent);

    let mut socket = opened(limited, url).await;
    sleep(2 * SHORT).await;
    assert_eq!(said(&mut socket, "echo still here").await, "still here");
    let error = within(async {
        loop {
            if let Ok(message) = tokio::time::timeout(SHORT / 10, socket.next()).await {
                break message.unwrap().unwrap_err();
            }
        }
    })
    .await;
    assert_eq!(error, silent);
}

#[actix_web::test]
async fn a_wait_that_is_given_up_loses_nothing() {
    let mut socket = opened(settings(), server()).await;
    socket.send("pieces".into()).await.unwrap();
    let mut message = None;
    while message.is_none() {
        // Polls once and gives up, so that frames and pings arrive between the polls.
        message = socket.next().now_or_never();
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(message.unwrap().unwrap().unwrap(), r#"{"a":"b"}"#);
}

#[actix_web::test]
async fn a_refused_upgrade_is_an_ordinary_answer() {
    let rows: [(&'static str, u16, &str); 5] = [
        (
            "HTTP/1.1 401 Unauthorized\r\nx-github-request-id: 1\r\ncontent-length: 27\r\n\r\nunauthorized: token expired",
            401,
            "unauthorized: token expired",
        ),
        (
            "HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 429 Slow\r\nx-github-request-id: 1\r\ntransfer-encoding: chunked\r\n\r\n4\r\nslow\r\n0\r\n\r\n",
            429,
            "slow",
        ),
        (
            "HTTP/1.1 426 Upgrade Required\r\nupgrade: websocket\r\nconnection: upgrade\r\nx-github-request-id: 1\r\ncontent-length: 2\r\n\r\nno",
            426,
            "no",
        ),
        (
            "HTTP/1.1 404 Not Found\r\nx-github-request-id: 1\r\ncontent-length: 0\r\n\r\n",
            404,
            "",
        ),
        (
            "HTTP/1.1 200 OK\r\nx-github-request-id: 1\r\ncontent-length: 2\r\n\r\nok",
            200,
            "ok",
        ),
    ];
    for (said, status, body) in rows {
        let fake = serve(move |mut peer| async move {
            peer.request().await;
            peer.say(said).await;
            peer.closed().await;
        })
        .await;
        let Opened::Refused(answer) = open(settings(), fake.url()).await.unwrap() else {
            panic!("it is open after {said:?}")
        };
        assert_eq!(
            (answer.status, answer.header("x-github-request-id")),
            (status, Some("1"))
        );
        assert_eq!(text(answer).await.unwrap(), body);
    }
}

#[actix_web::test]
async fn other_refusals_fail_like_those_of_any_request() {
    let rows: [(&'static str, Error); 3] = [
        (
            "HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 0\r\n\r\n",
            Error::Redirect { status: 302 },
        ),
        ("", Error::Closed { reused: false }),
        ("HTTP/1.1 101 Sw", Error::CutHead),
    ];
    for (said, expected) in rows {
        let fake = serve(move |mut peer| async move {
            peer.request().await;
            peer.say(said).await;
        })
        .await;
        assert_eq!(open(settings(), fake.url()).await.unwrap_err(), expected);
    }
    let strange: [&'static str; 3] = [
        "HTTP/1.1 101 Switching\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: x\r\n\r\n",
        "HTTP/1.1 101 Switching\r\n\r\n",
        "banana\r\n\r\n",
    ];
    for said in strange {
        let fake = serve(move |mut peer| async move {
            peer.request().await;
            peer.say(said).await;
        })
        .await;
        let error = open(settings(), fake.url()).await.unwrap_err();
        assert!(matches!(error, Error::NotHttp { .. }), "{error:?}");
    }
}

#[actix_web::test]
async fn a_body_of_a_refusal_that_breaks_off_is_cut() {
    let fake = serve(|mut peer| async move {
        peer.request().await;
        peer.say("HTTP/1.1 403 No\r\ncontent-length: 9\r\n\r\nForb").await;
    })
    .await;
    let Opened::Refused(answer) = open(settings(), fake.url()).await.unwrap() else {
        panic!("it is open")
    };
    assert_eq!(text(answer).await.unwrap_err(), Error::Cut);
}

#[actix_web::test]
async fn a_handshake_that_is_not_answered_ends_with_the_limit() {
    let fake = serve(|mut peer| async move {
        peer.request().await;
        peer.closed().await;
    })
    .await;
    let limited = Settings {
        first_byte: SHORT,
        ..settings()
    };
    let late = Error::Timeout {
        phase: Phase::FirstByte,
        after: SHORT,
    };
    assert_eq!(open(limited, fake.url()).await.unwrap_err(), late);
}

/// Completes the upgrade of a raw upstream.
async fn accept(peer: &mut Peer) {
    let head = peer.request().await.unwrap();
    let key = header(&head, "sec-websocket-key").unwrap();
    let accept = actix_http::ws::hash_key(key.as_bytes());
    let accept = std::str::from_utf8(&accept).unwrap();
    peer.say(format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: {accept}\r\n\r\n"
    ))
    .await;
}

#[actix_web::test]
async fn a_socket_that_breaks_never_ends_cleanly() {
    let frames: [&'static [u8]; 4] = [
        b"",
        b"\x81\x05ab",
        // The first half of a message in two frames.
        b"\x01\x02ab",
        // No such kind of frame.
        b"\x83\x02ab",
    ];
    for frame in frames {
        let fake = serve(move |mut peer| async move {
            accept(&mut peer).await;
            peer.say(frame).await;
        })
        .await;
        let mut socket = opened(settings(), fake.url()).await;
        let error = within(socket.next()).await.unwrap().unwrap_err();
        assert!(
            matches!(error, Error::Cut | Error::Reset { .. }),
            "{error:?} after {frame:?}"
        );
        assert!(within(socket.next()).await.is_none());
    }
}

#[actix_web::test]
async fn dropping_a_socket_closes_it_at_once_and_closing_it_says_goodbye() {
    for polite in [false, true] {
        let ended = Rc::new(Cell::new(false));
        let heard = Rc::new(RefCell::new(Vec::new()));
        let (end, hear) = (ended.clone(), heard.clone());
        let fake = serve(move |mut peer| {
            let (end, hear) = (end.clone(), hear.clone());
            async move {
                accept(&mut peer).await;
                let mut bytes = Vec::new();
                let _ = peer.into_io().read_to_end(&mut bytes).await;
                *hear.borrow_mut() = bytes;
                end.set(true);
            }
        })
        .await;
        let socket = opened(settings(), fake.url()).await;
        match polite {
            true => socket.close().await,
            false => drop(socket),
        }
        sleep(SHORT).await;
        assert!(ended.get());
        // A masked close frame of two bytes, or nothing at all.
        let begin = heard.borrow().get(..2).map(<[u8]>::to_vec);
        assert_eq!(begin, polite.then(|| vec![0x88, 0x82]));
    }
}

#[actix_web::test]
async fn an_upstream_that_does_not_listen_holds_nobody_for_ever() {
    let fake = serve(|mut peer| async move {
        accept(&mut peer).await;
        sleep(SOON).await;
    })
    .await;
    let limited = Settings {
        silence: SHORT,
        ..settings()
    };
    let mut socket = opened(limited, fake.url()).await;
    let error = within(socket.send("x".repeat(MAX_MESSAGE))).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
    assert!(!socket.is_open());
}

#[actix_web::test]
async fn a_socket_opens_behind_tls_and_behind_a_proxy() {
    let place = server().strip_prefix("http://").unwrap().to_string();
    let authority = Authority::new();
    let to = place.clone();
    let secure = serve_tls(&authority, "upstream.test", move |peer: Peer| {
        let to = to.clone();
        async move { join(peer.into_io(), &to).await }
    })
    .await;
    let secure_place = secure.address.to_string();
    let proxy = serve(move |mut peer| {
        let to = secure_place.clone();
        async move {
            let head = peer.request().await.unwrap();
            assert!(head.starts_with("CONNECT upstream.test:443 HTTP/1.1\r\n"), "{head}");
            peer.say("HTTP/1.1 200 OK\r\n\r\n").await;
            join(peer.into_io(), &to).await;
        }
    })
    .await;
    let file = authority.file();
    let settings = Settings {
        extra_ca_file: Some(file.path().into()),
        proxy: Some(ProxySettings {
            https: Some(proxy.url()),
            ..ProxySettings::default()
        }),
        ..settings()
    };
    let mut socket = opened(settings, "https://upstream.test").await;
    assert_eq!(said(&mut socket, "echo through").await, "through");
    let large = 3 << 20;
    assert_eq!(said(&mut socket, &format!("repeat {large}")).await.len(), large);
    assert_eq!(proxy.connections(), 1);
}

async fn join(mut io: Box<dyn Io>, place: &str) {
    let mut tcp = TcpStream::connect(place).await.unwrap();
    let _ = copy_bidirectional(&mut io, &mut tcp).await;
}

#[actix_web::test]
async fn a_used_connection_that_died_costs_no_socket() {
    let fake = serve(|mut peer| async move {
        if peer.number == 0 {
            peer.request().await;
            peer.answer(200, "ok").await;
            peer.request().await;
        } else {
            accept(&mut peer).await;
            peer.say(b"\x81\x02hi").await;
            peer.closed().await;
        }
    })
    .await;
    let copilot = Copilot::new(&Setup::new(settings()).unwrap());
    let (access, call) = (access(fake.url()), Call::new(Endpoint::Responses));
    let answer = within(copilot.send(&access, &call)).await.unwrap();
    assert_eq!(text(answer).await.unwrap(), "ok");
    let Opened::Socket(mut socket) = within(copilot.open_socket(&access, &call)).await.unwrap() else {
        panic!("refused")
    };
    assert_eq!(within(socket.next()).await.unwrap().unwrap(), "hi");
    assert_eq!(fake.connections(), 2);
}
