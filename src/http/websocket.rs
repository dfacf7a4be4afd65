//! Responses for clients that open a socket: same relay. Knows frames, limits and times; the rules of the conversation
//! are the `session`'s.
//!
//! A socket lives in one task. It listens to its client at all times, also while a model answers, so that a client that
//! leaves takes its call with it at once.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actix_web::http::header::{self, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::{FromRequest, Handler, HttpRequest, HttpResponse, Resource, Responder, web};
use actix_ws::{AggregatedMessage, AggregatedMessageStream, CloseCode, CloseReason, Closed, ProtocolError};
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use tokio::sync::watch;
use tokio::time::Instant;

use super::generate::{client_of, contained};
use super::{Doors, error, identity, refusing};
use crate::protocol::Protocol;
use crate::protocol::failure::{Failure, Kind};
use crate::relay::stream::Piece;
use crate::relay::{self, Answer, Call, Client, Relay};
use crate::translate::ids::Ids;

mod session;
#[cfg(test)]
mod tests;

use session::{Asked, Begun, Session};

/// Sockets of this process.
static SEATS: Seats = Seats(AtomicUsize::new(0));
const MAX_SOCKETS: usize = 64;
/// The longest message, in one frame or several.
const MAX_MESSAGE: usize = 16 << 20;
/// A client that does not take what is sent to it.
const SLOW_READER: Duration = Duration::from_secs(60);

/// How long a socket may live.
#[derive(Clone, Copy, Debug)]
struct Lifetime {
    idle: Duration,
    whole: Duration,
}

const LIFETIME: Lifetime = Lifetime {
    idle: Duration::from_secs(600),
    whole: Duration::from_secs(3600),
};

/// The resource of `/responses`: POST by this handler, GET by a socket.
pub fn or<F, Args>(path: &str, post: F) -> Resource
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    web::resource(path)
        .route(web::method(Method::POST).to(post))
        .route(web::get().to(open))
        .default_service(refusing("GET, POST"))
}

/// `GET /responses`: opens a socket.
async fn open(request: HttpRequest, payload: web::Payload, doors: web::Data<Doors>) -> HttpResponse {
    open_for(LIFETIME, request, payload, doors).await
}

async fn open_for(
    lifetime: Lifetime,
    request: HttpRequest,
    payload: web::Payload,
    doors: web::Data<Doors>,
) -> HttpResponse {
    if !doors.settings.websocket {
        let sentence = "sockets are switched off here (server.websocket); use POST";
        return refuse(
            &request,
            &Failure::new(Kind::NotFound, sentence).with_code("websocket_disabled"),
        );
    }
    if !asks_for_socket(&request) {
        return upgrade_required(&request);
    }
    let Some(seat) = SEATS.take() else {
        let failure = Failure {
            retry_after: Some("5".into()),
            ..Failure::new(Kind::RateLimited, format!("{MAX_SOCKETS} sockets are open; close one"))
        };
        return refuse(&request, &failure);
    };
    let (response, sender, messages) = match actix_ws::handle(&request, payload) {
        Ok(opened) => opened,
        Err(why) => return refuse(&request, &Failure::new(Kind::BadRequest, why.to_string())),
    };
    let messages = messages
        .max_frame_size(MAX_MESSAGE)
        .aggregate_continuations()
        .max_continuation_size(MAX_MESSAGE);
    let socket = Socket {
        client: client_of(&request, Protocol::Responses),
        session: Session::new(doors.settings.max_body_bytes, doors.relay.actors().archive.is_some()),
        relay: doors.relay.for_socket(),
        draining: doors.draining.clone(),
        sender,
        turn: None,
    };
    actix_rt::spawn(async move {
        socket.live(messages, lifetime).await;
        drop(seat);
    });
    response
}

fn refuse(request: &HttpRequest, failure: &Failure) -> HttpResponse {
    error::response(request, Protocol::Responses, failure)
}

fn asks_for_socket(request: &HttpRequest) -> bool {
    let upgrade = request.headers().get(header::UPGRADE);
    upgrade.is_some_and(|name| name.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

fn upgrade_required(request: &HttpRequest) -> HttpResponse {
    let failure = Failure::new(
        Kind::BadRequest,
        "GET opens a socket here; ask for an upgrade, or use POST",
    );
    let mut response = refuse(request, &failure.with_code("upgrade_required"));
    *response.status_mut() = StatusCode::UPGRADE_REQUIRED;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    response
}

/// The places for sockets.
struct Seats(AtomicUsize);

/// One of the places; dropping it frees it.
struct Seat<'a>(&'a Seats);

impl Seats {
    fn take(&self) -> Option<Seat<'_>> {
        let free = |open| (open < MAX_SOCKETS).then_some(open + 1);
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, free);
        taken.ok().map(|_| Seat(self))
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One client's socket.
struct Socket {
    client: Client,
    session: Session,
    relay: Relay,
    draining: watch::Receiver<bool>,
    sender: actix_ws::Session,
    turn: Option<Turn>,
}

/// The answer to the active turn, on its way.
enum Turn {
    /// No sign of it yet.
    Asked(LocalBoxFuture<'static, Result<Answer, relay::Error>>),
    Flowing(relay::Stream),
}

/// What a turn comes to next.
enum Step {
    Opened(Result<Answer, relay::Error>),
    Sent(Piece),
    Over,
}

impl Turn {
    /// Waits for the next step. Nothing is lost when the wait is given up.
    async fn next(&mut self) -> Step {
        match self {
            Self::Asked(answer) => Step::Opened(answer.await),
            Self::Flowing(stream) => stream.next().await.map_or(Step::Over, Step::Sent),
        }
    }
}

/// Why a socket ends.
enum End {
    /// With this code, after a word of why.
    Close(CloseCode, &'static str),
    /// The client has closed it.
    Left(Option<CloseReason>),
    /// The connection is gone.
    Gone,
}

impl From<Closed> for End {
    fn from(_: Closed) -> Self {
        Self::Gone
    }
}

impl Socket {
    async fn live(mut self, mut messages: AggregatedMessageStream, lifetime: Lifetime) {
        let end = match AssertUnwindSafe(self.talk(&mut messages, lifetime))
            .catch_unwind()
            .await
        {
            Ok(Err(end)) => end,
            Ok(Ok(never)) => match never {},
            Err(_) => End::Close(CloseCode::Error, "the proxy failed; its log says where"),
        };
        let Self { sender, turn, .. } = self;
        drop(turn);
        let reason = match end {
            End::Close(code, why) => Some(CloseReason {
                code,
                description: Some(why.into()),
            }),
            End::Left(reason) => reason,
            End::Gone => return,
        };
        let _ = tokio::time::timeout(SLOW_READER, sender.close(reason)).await;
    }

    /// Talks until the socket ends.
    async fn talk(
        &mut self,
        messages: &mut AggregatedMessageStream,
        lifetime: Lifetime,
    ) -> Result<std::convert::Infallible, End> {
        let born = Instant::now();
        let mut idle_since = born;
        let mut draining = self.draining.clone();
        loop {
            let until = (born + lifetime.whole).min(idle_since + lifetime.idle);
            tokio::select! {
                biased;
                message = messages.recv() => self.take(message).await?,
                step = next(&mut self.turn) => self.advance(step).await?,
                () = drained(&mut draining), if self.turn.is_none() => {
                    return Err(End::Close(CloseCode::Away, "the proxy is shutting down"));
                }
                () = tokio::time::sleep_until(until), if self.turn.is_none() => {
                    return Err(End::Close(CloseCode::Normal, "the socket has been open or idle for long enough"));
                }
            }
            idle_since = Instant::now();
        }
    }

    async fn take(&mut self, message: Option<Result<AggregatedMessage, ProtocolError>>) -> Result<(), End> {
        match message {
            Some(Ok(AggregatedMessage::Text(text))) => match self.session.receive(&text) {
                Ok(Asked::Turn) => self.begin().await,
                Ok(Asked::Cancel) => {
                    self.turn = None;
                    if let Some(frame) = self.session.cancel() {
                        self.send(frame).await?;
                    }
                    self.begin().await
                }
                Err(failure) => self.send(self.session.error_frame(&failure, &[])).await,
            },
            Some(Ok(AggregatedMessage::Binary(_))) => Err(End::Close(CloseCode::Unsupported, "frames must be text")),
            Some(Ok(AggregatedMessage::Ping(bytes))) => {
                let pong = tokio::time::timeout(SLOW_READER, self.sender.pong(&bytes));
                Ok(pong.await.map_err(|_| End::Gone)??)
            }
            Some(Ok(AggregatedMessage::Pong(_))) => Ok(()),
            Some(Ok(AggregatedMessage::Close(reason))) => Err(End::Left(reason)),
            Some(Err(error)) => Err(refusal(&error)),
            None => Err(End::Gone),
        }
    }

    /// Begins turns until one goes to a model, or none waits. A server that goes away begins none.
    async fn begin(&mut self) -> Result<(), End> {
        while self.turn.is_none() && !*self.draining.borrow() {
            let request_id = identity::new();
            let ids = Ids::new(request_id.clone(), now_unix());
            match self.session.begin(ids) {
                None => break,
                Some(Begun::Answered(frames)) => {
                    for frame in frames {
                        self.send(frame).await?;
                    }
                }
                Some(Begun::Call { body, earlier }) => {
                    let client = Client {
                        request_id,
                        ..self.client.clone()
                    };
                    self.turn = Some(Turn::Asked(self.ask(Call {
                        earlier,
                        ..Call::of(client, body)
                    })));
                }
            }
        }
        Ok(())
    }

    fn ask(&self, call: Call) -> LocalBoxFuture<'static, Result<Answer, relay::Error>> {
        let relay = self.relay.clone();
        Box::pin(contained(async move { relay.generate(call).await }))
    }

    async fn advance(&mut self, step: Step) -> Result<(), End> {
        match step {
            Step::Opened(Ok(Answer::Stream { stream, .. })) => {
                self.turn = Some(Turn::Flowing(stream));
                return Ok(());
            }
            Step::Sent(Piece::Frames(frames)) => {
                for frame in &frames {
                    if let Some(text) = self.session.hear(frame) {
                        self.send(text).await?;
                    }
                }
                return Ok(());
            }
            Step::Sent(Piece::Heartbeat { .. }) => {
                let ping = tokio::time::timeout(SLOW_READER, self.sender.ping(b""));
                return Ok(ping.await.map_err(|_| End::Gone)??);
            }
            Step::Opened(Ok(Answer::Whole { .. })) => {
                let failure = Failure::new(Kind::Internal, "the answer came whole where a stream was asked for");
                self.send(self.session.error_frame(&failure, &[])).await?;
            }
            Step::Opened(Err(refused)) => {
                let frame = self.session.error_frame(&refused.failure, &refused.headers);
                self.send(frame).await?;
            }
            Step::Over => {}
        }
        self.turn = None;
        self.session.end();
        self.begin().await
    }

    /// Sends a frame. A client that does not read holds its turn up, but not for ever.
    async fn send(&mut self, text: String) -> Result<(), End> {
        match tokio::time::timeout(SLOW_READER, self.sender.text(text)).await {
            Ok(sent) => Ok(sent?),
            Err(_) => Err(End::Gone),
        }
    }
}

/// The next step of the turn; for ever nothing where none is active.
async fn next(turn: &mut Option<Turn>) -> Step {
    match turn {
        Some(turn) => turn.next().await,
        None => std::future::pending().await,
    }
}

/// Waits until the server takes no new turns; for ever where nobody can say so any more.
async fn drained(draining: &mut watch::Receiver<bool>) {
    if draining.wait_for(|draining| *draining).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// How a frame that cannot be read ends the socket.
fn refusal(error: &ProtocolError) -> End {
    match error {
        ProtocolError::Overflow => End::Close(CloseCode::Size, "the message is larger than 16 MiB"),
        // The reader of fragments tells its own limit in no other way.
        ProtocolError::Io(why) if why.to_string().contains("continuation size") => {
            End::Close(CloseCode::Size, "the message is larger than 16 MiB")
        }
        ProtocolError::Io(why) if why.to_string().contains("reserved bits") => {
            End::Close(CloseCode::Protocol, "no extension was agreed upon")
        }
        ProtocolError::Io(why) if why.kind() == std::io::ErrorKind::InvalidData => {
            End::Close(CloseCode::Invalid, "text must be UTF-8")
        }
        ProtocolError::Io(_) => End::Gone,
        _ => End::Close(CloseCode::Protocol, "the frame cannot be read"),
    }
}

fn now_unix() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}
