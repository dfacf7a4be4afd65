//! `/responses` over a WebSocket: one answer at a time, and a memory of the socket's own responses, to be continued by
//! `previous_response_id`. Knows no more of answers than [`super::responses`] does.

use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use actix_web::{HttpRequest, HttpResponse, rt, web};
use actix_ws::{AggregatedMessage, AggregatedMessageStream, CloseCode, CloseReason, ProtocolError, Session};
use bytes::Bytes;
use futures_util::future::{Either, select};
use serde_json::{Value, json};

use super::checks::{self, list};
use super::faults::Instead;
use super::gate::{self, Caller, Door};
use super::playback::{Next, Playback};
use super::reply::{self, Refusal};
use super::responses::{self, Events, Written};
use super::seals;
use super::state::State;
use crate::protocol::Protocol;

const DOOR: Door = Door {
    name: "websocket",
    protocol: Protocol::Responses,
    generates: true,
    path: "ws:/responses",
};

/// The longest frame that is taken.
const MOST_BYTES: usize = 16 << 20;

/// Responses remembered for a socket.
const REMEMBERED: usize = 16;

/// `GET /responses` with an upgrade.
pub async fn connect(request: HttpRequest, payload: web::Payload, state: web::Data<State>) -> HttpResponse {
    gate::record(&state, &request, &Bytes::new());
    let caller = match Caller::of(&state, &request) {
        Ok(caller) => caller,
        Err(refusal) => return refusal.response(&request),
    };
    if let Err(instead) = gate::planned_only(&state, "upgrade").await {
        return gate::instead(&state, &request, instead).await;
    }
    let Ok((mut response, session, frames)) = actix_ws::handle(&request, payload) else {
        return Refusal::text(404, "404 page not found").response(&request);
    };
    let headers = reply::standard_headers(&request).into_iter();
    for (name, value) in headers.chain(gate::quota_headers(&state, caller.seat)) {
        let name = actix_web::http::header::HeaderName::from_static(name);
        if let Ok(value) = value.parse() {
            response.headers_mut().insert(name, value);
        }
    }
    let frames = frames
        .max_frame_size(MOST_BYTES)
        .aggregate_continuations()
        .max_continuation_size(MOST_BYTES);
    rt::spawn(Socket::new(state, caller, session).run(frames));
    response
}

/// One socket.
struct Socket {
    state: web::Data<State>,
    caller: Caller,
    session: Session,
    connection: u64,
    opened: Instant,
    /// What each response was and answered, by its last id.
    memory: Vec<(String, Vec<Value>)>,
    errors: u64,
}

/// What a socket waits for: its client, or the next event of the answer under way.
enum Happened {
    Received(Option<Result<AggregatedMessage, ProtocolError>>),
    Played(Option<Next>),
}

async fn next(playing: Option<&mut Playback>, frames: &mut AggregatedMessageStream) -> Happened {
    let Some(playback) = playing else {
        return Happened::Received(frames.recv().await);
    };
    match select(pin!(playback.next()), pin!(frames.recv())).await {
        Either::Left((event, _)) => Happened::Played(event),
        Either::Right((frame, _)) => Happened::Received(frame),
    }
}

/// What follows a frame.
enum Flow {
    Go,
    Play(Box<Playback>),
    /// The socket breaks off.
    Break,
}

impl Socket {
    fn new(state: web::Data<State>, caller: Caller, session: Session) -> Self {
        Self {
            state,
            caller,
            session,
            connection: seals::fresh(),
            opened: Instant::now(),
            memory: Vec::new(),
            errors: 0,
        }
    }

    async fn run(mut self, mut frames: AggregatedMessageStream) {
        let mut playing: Option<Box<Playback>> = None;
        loop {
            let received = match next(playing.as_deref_mut(), &mut frames).await {
                Happened::Received(received) => received,
                Happened::Played(Some(Next::Frame(event))) => {
                    let text = String::from_utf8_lossy(&event.data).into_owned();
                    if self.session.text(text).await.is_err() {
                        return;
                    }
                    continue;
                }
                Happened::Played(Some(Next::Comment)) => continue,
                Happened::Played(Some(Next::Broken)) => return,
                Happened::Played(None) => {
                    playing = None;
                    continue;
                }
            };
            let text = match received {
                Some(Ok(AggregatedMessage::Text(text))) => text,
                Some(Ok(AggregatedMessage::Ping(bytes))) => {
                    if self.session.pong(&bytes).await.is_err() {
                        return;
                    }
                    continue;
                }
                Some(Ok(AggregatedMessage::Pong(_))) => continue,
                Some(Ok(AggregatedMessage::Binary(_))) => return self.close(CloseCode::Unsupported).await,
                Some(Ok(AggregatedMessage::Close(_))) | None => return self.close(CloseCode::Normal).await,
                Some(Err(_)) => return self.close(CloseCode::Protocol).await,
            };
            match self.frame(text.as_bytes()).await {
                Flow::Go => {}
                // A newer request takes the place of an answer under way.
                Flow::Play(playback) => playing = Some(playback),
                Flow::Break => return,
            }
        }
    }

    async fn close(self, code: CloseCode) {
        // The other side may be gone already; then there is nobody to tell.
        let _gone = self.session.close(Some(CloseReason::from(code))).await;
    }

    async fn frame(&mut self, frame: &[u8]) -> Flow {
        gate::record_frame(&self.state, "/responses", Bytes::copy_from_slice(frame));
        if self.opened.elapsed() > self.state.memory().settings.socket_lifetime {
            let message = "the connection has reached its time limit";
            self.complain(&Refusal::copilot(400, "websocket_connection_limit_reached", message))
                .await;
            return Flow::Break;
        }
        match self.answer(frame).await {
            Ok(playback) => Flow::Play(Box::new(playback)),
            Err(Instead::Refusal(refusal)) => {
                self.complain(&refusal).await;
                Flow::Go
            }
            Err(Instead::Silence) => Flow::Go,
            Err(Instead::Page | Instead::Nothing | Instead::Compressed) => Flow::Break,
        }
    }

    /// Tells of an error: in the flat shape where a field is at fault, else nested, with the quota.
    async fn complain(&mut self, refusal: &Refusal) {
        let param = match &refusal.body {
            reply::Body::Json(body) => body["error"]["param"].as_str(),
            _ => None,
        };
        let event = match param {
            Some(param) => json!({
                "code": refusal.code(), "message": refusal.message(), "param": param, "sequence_number": self.errors,
                "type": "error",
            }),
            None => json!({
                "copilot_quota_snapshots": quota(&self.state, self.caller.seat),
                "error": {"code": refusal.code(), "message": refusal.message()},
                "type": "error",
            }),
        };
        self.errors += 1;
        // A client that has left needs no error.
        let _gone = self.session.text(event.to_string()).await;
    }

    async fn answer(&mut self, frame: &[u8]) -> Result<Playback, Instead> {
        let mut body = gate::object(frame)?;
        if body["type"] != "response.create" {
            return Err(Refusal::openai("invalid_value", "type", "the type must be 'response.create'").into());
        }
        for name in ["generate", "stream"] {
            if !body[name].is_null() {
                let message = format!("Unknown parameter: '{name}'.");
                return Err(Refusal::openai("unknown_parameter", name, message).into());
            }
        }
        let before = self.before(&body)?;
        let known_calls: Vec<String> = before
            .iter()
            .filter_map(|item| item["call_id"].as_str().map(str::to_owned))
            .collect();
        let caller = Caller {
            pays: body["initiator"] != "agent",
            ..self.caller
        };
        let whole = continued(&body, before);
        let mut talk = responses::read(&whole);
        let pass = gate::admit(&self.state, &caller, DOOR, &whole, &talk)?;
        let strict_ids = self.state.memory().settings.strict_ids;
        let connection = strict_ids.then_some(self.connection);
        // Only a frame has these two, and no answer repeats them.
        if let Some(body) = body.as_object_mut() {
            body.shift_remove("type");
            body.shift_remove("initiator");
        }
        checks::responses::check(&pass.model, &body, connection, &known_calls)?;
        gate::charge(&self.state, &pass);
        gate::wait(&pass.effects).await;
        responses::suit(&mut talk, &pass.model, &body);
        pass.weight.shown_to(&mut talk);
        let written = Written::new(&pass, talk.answer(pass.effects.wishes), &body, self.connection);
        self.remember(&written, whole);
        let source = written.answer.clone();
        let quota = quota(&self.state, self.caller.seat);
        let events = Box::new(Events::new(Arc::new(written), Some(quota)));
        Ok(Playback::new(
            &source,
            events,
            pass.effects.pace.clone(),
            self.state.open_stream(),
        ))
    }

    /// The items that the request continues.
    fn before(&self, body: &Value) -> Result<Vec<Value>, Refusal> {
        let Some(id) = body["previous_response_id"].as_str() else {
            return Ok(Vec::new());
        };
        let known = self.memory.iter().find(|(known, _)| known == id);
        known.map(|(_, items)| items.clone()).ok_or_else(responses::not_found)
    }

    fn remember(&mut self, written: &Written, whole: Value) {
        let mut items = list(&whole, "input").to_vec();
        items.extend(written.output());
        self.memory.push((written.terminal_id.clone(), items));
        if self.memory.len() > REMEMBERED {
            self.memory.remove(0);
        }
    }
}

/// The request with what it continues before its own input.
fn continued(body: &Value, before: Vec<Value>) -> Value {
    let mut items = before;
    match &body["input"] {
        Value::String(text) => items.push(json!({"content": text, "role": "user", "type": "message"})),
        own => items.extend(own.as_array().into_iter().flatten().cloned()),
    }
    let mut whole = body.clone();
    whole["input"] = items.into();
    whole
}

fn quota(state: &State, seat: usize) -> Value {
    let memory = state.memory();
    let premium = memory.seats.get(seat).map(|seat| seat.premium.snapshot());
    json!({"premium_interactions": premium})
}
