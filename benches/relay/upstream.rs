//! An upstream that costs next to nothing: it answers from bytes made in advance. How, the request's body says:
//! `pace=0` for a stream in one piece, `pace=20` for one event each 20 ms, and no `"stream":true` for a whole answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use copilot_proxy::protocol::Protocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{MissedTickBehavior, interval};

use crate::transcripts;

/// Pieces of an answer; events that open and close it come on top.
pub const PIECES: usize = 200;

struct Script {
    /// Each event in an HTTP chunk of its own.
    events: Vec<Vec<u8>>,
    /// All of them at once.
    burst: Vec<u8>,
}

impl Script {
    fn of(protocol: Protocol) -> Self {
        let events = transcripts::stream(protocol, PIECES);
        let events: Vec<_> = events
            .iter()
            .map(|event| format!("{:x}\r\n{event}\r\n", event.len()).into_bytes())
            .collect();
        let burst = events.concat();
        Self { events, burst }
    }
}

struct Scripts {
    chat: Script,
    messages: Script,
    responses: Script,
}

/// Starts it on a thread of its own.
pub fn start() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        actix_web::rt::System::new().block_on(async move {
            listener.set_nonblocking(true).expect("a socket");
            let listener = TcpListener::from_std(listener).expect("a socket");
            let scripts = Arc::new(Scripts {
                chat: Script::of(Protocol::Chat),
                messages: Script::of(Protocol::Messages),
                responses: Script::of(Protocol::Responses),
            });
            while let Ok((peer, _)) = listener.accept().await {
                actix_web::rt::spawn(serve(peer, scripts.clone()));
            }
        });
    });
    address
}

async fn serve(mut peer: TcpStream, scripts: Arc<Scripts>) {
    let _ = peer.set_nodelay(true);
    let mut read = Vec::new();
    while let Some(request) = next_request(&mut peer, &mut read).await {
        if answer(&mut peer, &request, &scripts).await.is_err() {
            break;
        }
    }
}

struct Request {
    path: String,
    body: Vec<u8>,
}

async fn next_request(peer: &mut TcpStream, read: &mut Vec<u8>) -> Option<Request> {
    loop {
        if let Some(head) = find(read, b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&read[..head]).to_ascii_lowercase();
            let length = text
                .lines()
                .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
            let end = head + 4 + length.unwrap_or(0);
            if read.len() >= end {
                let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
                let body = read[head + 4..end].to_vec();
                read.drain(..end);
                return Some(Request { path, body });
            }
        }
        if peer.read_buf(read).await.ok()? == 0 {
            return None;
        }
    }
}

async fn answer(peer: &mut TcpStream, request: &Request, scripts: &Scripts) -> std::io::Result<()> {
    let script = match request.path.trim_start_matches("/v1") {
        "/chat/completions" => &scripts.chat,
        "/messages" => &scripts.messages,
        "/responses" => &scripts.responses,
        "/models" => return whole(peer, include_str!("../../src/simulator/fixtures/models.json")).await,
        "/copilot_internal/v2/token" => {
            return whole(
                peer,
                r#"{"token":"tid=bench","expires_at":4000000000,"refresh_in":1500}"#,
            )
            .await;
        }
        _ => return whole(peer, "{}").await,
    };
    if find(&request.body, br#""stream":true"#).is_none() {
        return whole(peer, WHOLE).await;
    }
    const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let pace = find(&request.body, b"pace=").map_or(0, |at| number(&request.body[at + 5..]));
    if pace == 0 {
        return peer.write_all(&[HEAD, &script.burst, b"0\r\n\r\n"].concat()).await;
    }
    peer.write_all(HEAD).await?;
    let mut clock = interval(Duration::from_millis(pace));
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for event in &script.events {
        clock.tick().await;
        peer.write_all(event).await?;
    }
    peer.write_all(b"0\r\n\r\n").await
}

const WHOLE: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1764000000,"model":"gpt-4.1-2025-04-14","choices":[{"index":0,"message":{"role":"assistant","content":"Hello! How can I help you today?"},"finish_reason":"stop"}],"usage":{"prompt_tokens":8,"completion_tokens":10,"total_tokens":18}}"#;

async fn whole(peer: &mut TcpStream, body: &str) -> std::io::Result<()> {
    let length = body.len();
    let text = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}");
    peer.write_all(text.as_bytes()).await
}

pub fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

fn number(text: &[u8]) -> u64 {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
}
