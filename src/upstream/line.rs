//! One client's line to Copilot's Responses: a socket, one turn at a time, reused between turns, so that a turn need not
//! repeat what the other end still holds. Of an event it knows no more than whether it is the last.
//!
//! A turn comes back as the event stream that HTTP would have brought, so nobody above has to care how it travelled.
//! Copilot has no way to cancel a turn but to close its socket: dropping the answer does so.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use awc::error::PayloadError;
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::continuation::Memory;
use super::copilot::{Access, Call, Copilot};
use super::websocket::{Opened, Socket};
use super::{Answer, Body, Error, Phase};
use crate::protocol::responses::Event;
use crate::protocol::{Initiator, sse};

/// Copilot ends a socket after an hour; one that is nearly so old begins no new turn.
const LIFE: Duration = Duration::from_secs(55 * 60);
/// An idle socket is closed by Copilot after about five minutes.
const IDLE: Duration = Duration::from_secs(4 * 60);
/// Statuses that are Copilot's word on the caller; any other refusal is one of sockets, and HTTP may do.
const FINAL: [u16; 5] = [401, 402, 403, 421, 429];

/// Where one client's socket to Copilot waits between two turns.
#[derive(Clone, Default)]
pub struct Line(Rc<RefCell<Option<Held>>>);

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Line")
    }
}

/// An open socket, and what it was opened for.
struct Held {
    socket: Socket,
    /// What the other end holds of the conversation.
    memory: Memory,
    opened_for: Purpose,
    born: Instant,
    idle_since: Instant,
}

/// What the opening headers say and cannot say again later.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Purpose {
    base_url: String,
    vision: bool,
    extra: Vec<(String, String)>,
}

impl Purpose {
    fn of(access: &Access, call: &Call) -> Self {
        Self {
            base_url: access.base_url.clone(),
            vision: call.vision,
            extra: call.extra.clone(),
        }
    }

    /// Whether a socket opened for this serves a turn that needs the other.
    fn serves(&self, other: &Self) -> bool {
        self.base_url == other.base_url && self.extra == other.extra && (self.vision || !other.vision)
    }
}

impl Line {
    /// The waiting socket, if it is fit for this turn.
    fn take(&self, purpose: &Purpose) -> Option<Held> {
        let held = self.0.borrow_mut().take()?;
        let fresh = held.born.elapsed() < LIFE && held.idle_since.elapsed() < IDLE && held.socket.is_open();
        (fresh && held.opened_for.serves(purpose)).then_some(held)
    }

    fn put_back(&self, mut held: Held) {
        held.idle_since = Instant::now();
        *self.0.borrow_mut() = Some(held);
    }
}

impl Copilot {
    /// Sends one turn over the line's socket, or over a new one, and waits for its first event. `request` is the whole
    /// turn; what the socket's other end holds of it is not sent again.
    ///
    /// An error comes before the first event, always. A first event that is an error makes an answer with its status.
    pub async fn send_over(
        &self,
        line: &Line,
        access: &Access,
        call: &Call,
        request: &Map<String, Value>,
    ) -> Result<Answer, Error> {
        let limit = self.client().setup.settings.first_byte;
        let turn = self.begin(line, access, call, request);
        tokio::time::timeout(limit, turn).await.unwrap_or(Err(Error::Timeout {
            phase: Phase::FirstByte,
            after: limit,
        }))
    }

    async fn begin(
        &self,
        line: &Line,
        access: &Access,
        call: &Call,
        request: &Map<String, Value>,
    ) -> Result<Answer, Error> {
        let purpose = Purpose::of(access, call);
        let initiator = call.initiator.unwrap_or(Initiator::User);
        if let Some(mut kept) = line.take(&purpose) {
            // Copilot may have closed it in the meantime; then nothing has been lost but this attempt.
            if let Ok(first) = kept.ask(request, initiator).await {
                return Ok(self.answer(kept, line, &first));
            }
        }
        let socket = match self.open_socket(access, call).await? {
            Opened::Socket(socket) => socket,
            Opened::Refused(answer) if FINAL.contains(&answer.status) => return Ok(answer),
            Opened::Refused(answer) => return Err(Error::Upgrade { status: answer.status }),
        };
        let now = Instant::now();
        let mut held = Held {
            socket,
            memory: Memory::default(),
            opened_for: purpose,
            born: now,
            idle_since: now,
        };
        let first = held.ask(request, initiator).await?;
        Ok(self.answer(held, line, &first))
    }

    fn answer(&self, held: Held, line: &Line, first: &Heard) -> Answer {
        let silence = self.client().setup.settings.silence;
        if let Ending::Refused(status) = first.ending {
            let body = first.event.clone();
            let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
            return Answer {
                status,
                headers,
                body: Body::new(stream::once(async move { Ok(body) }), silence),
            };
        }
        let mut headers = held.socket.headers.clone();
        headers.retain(|(name, _)| name != "content-type");
        headers.push(("content-type".into(), "text/event-stream".into()));
        let turn = Turn {
            held: Some(held),
            line: line.clone(),
            first: Some(first.clone()),
        };
        Answer {
            status: 200,
            headers,
            body: Body::new(stream::unfold(turn, Turn::next), silence),
        }
    }
}

impl Held {
    /// Sends a turn and waits for its first event.
    async fn ask(&mut self, request: &Map<String, Value>, initiator: Initiator) -> Result<Heard, Error> {
        let frame = self.memory.ask(request, initiator);
        self.socket.send(frame.text).await?;
        let first = self.event().await?;
        let is_over = match first.ending {
            Ending::Stale => true,
            // What does not go on from here may do as a whole; and if it does not, it is the whole that is refused.
            Ending::Refused(400) => frame.continues,
            _ => false,
        };
        match is_over {
            true => Err(Error::Closed { reused: true }),
            false => Ok(first),
        }
    }

    /// The next event.
    async fn event(&mut self) -> Result<Heard, Error> {
        let event = self.socket.next().await.unwrap_or(Err(Error::Cut))?;
        let ending = match Event::read(&event) {
            Some(read) => {
                let kind = read.kind(None);
                self.memory.hear(&kind, &read);
                ending(&kind, &read)
            }
            None => Ending::No,
        };
        Ok(Heard { event, ending })
    }
}

/// A turn under way: events as a body's pieces. After the last the socket goes back to its line.
struct Turn {
    /// `None` once the turn is over.
    held: Option<Held>,
    line: Line,
    first: Option<Heard>,
}

impl Turn {
    async fn next(mut self) -> Option<(Result<Bytes, PayloadError>, Self)> {
        let mut held = self.held.take()?;
        let next = match self.first.take() {
            Some(first) => Ok(first),
            None => held.event().await,
        };
        let Heard { event, ending } = match next {
            Ok(next) => next,
            Err(error) => return Some((Err(PayloadError::Io(error.into())), self)),
        };
        match ending {
            Ending::No => self.held = Some(held),
            Ending::Proper => self.line.put_back(held),
            Ending::Refused(_) | Ending::Stale => {}
        }
        let mut bytes = BytesMut::new();
        sse::Frame::data(event).write(&mut bytes);
        Some((Ok(bytes.freeze()), self))
    }
}

/// An event, and what it means for its turn.
#[derive(Clone, Debug)]
struct Heard {
    event: Bytes,
    ending: Ending,
}

/// What an event means for its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    No,
    /// The turn is over, the socket ready for another.
    Proper,
    /// An error, with the status that HTTP would have given it.
    Refused(u16),
    /// The socket has had its day; another serves.
    Stale,
}

fn ending(kind: &str, event: &Event) -> Ending {
    match kind {
        "response.completed" | "response.incomplete" | "response.failed" | "response.cancelled" => Ending::Proper,
        "error" | "websocket_error" => of_error(event),
        _ => Ending::No,
    }
}

fn of_error(error: &Event) -> Ending {
    let nested = error.value("error");
    let code = nested["code"]
        .as_str()
        .map_or_else(|| error.text("code").unwrap_or_default().into_owned(), str::to_owned);
    if ["session_expired", "websocket_connection_limit_reached"].contains(&code.as_str()) {
        return Ending::Stale;
    }
    let told = error.number("status").and_then(|status| u16::try_from(status).ok());
    let told = told.filter(|status| (400..600).contains(status));
    Ending::Refused(told.unwrap_or_else(|| status_of(&code)))
}

/// The first of these words in an error's code tells its status.
const STATUS_BY_WORD: [(&str, u16); 10] = [
    ("rate_limit", 429),
    ("too_many_requests", 429),
    ("quota", 402),
    ("billing", 402),
    ("unauthorized", 401),
    ("token_expired", 401),
    ("overloaded", 503),
    ("unavailable", 503),
    ("server_error", 500),
    ("internal", 500),
];

fn status_of(code: &str) -> u16 {
    let found = STATUS_BY_WORD.iter().find(|(word, _)| code.contains(word));
    found.map_or(400, |(_, status)| *status)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ending_of(event: Value) -> Ending {
        let text = event.to_string();
        let event = Event::read(text.as_bytes()).unwrap();
        ending(&event.kind(None), &event)
    }

    #[test]
    fn the_last_event_is_known() {
        assert_eq!(ending_of(json!({"type": "response.created"})), Ending::No);
        assert_eq!(
            ending_of(json!({"type": "response.output_text.delta", "delta": "response.completed"})),
            Ending::No
        );
        assert_eq!(ending_of(json!({"type": "response.completed"})), Ending::Proper);
    }

    #[test]
    fn an_error_has_the_status_it_would_have_had() {
        let status = |error: Value| match ending_of(error) {
            Ending::Refused(status) => status,
            other => panic!("{other:?}"),
        };
        let nested = |code: &str| json!({"type": "error", "error": {"code": code, "message": "x"}});
        assert_eq!(status(nested("user_model_rate_limited:individual")), 429);
        assert_eq!(status(nested("quota_exceeded")), 402);
        assert_eq!(status(nested("previous_response_not_found")), 400);
        assert_eq!(
            status(json!({"type": "error", "code": "server_error", "message": "x"})),
            500
        );
        assert_eq!(ending_of(nested("session_expired")), Ending::Stale);
        assert_eq!(status(json!({"type": "error", "code": "x", "status": 413})), 413);
        assert_eq!(status(json!({"type": "error", "code": "x", "status": 99_999})), 400);
    }

    #[test]
    fn a_socket_serves_what_its_opening_allows() {
        let purpose = |base_url: &str, vision| Purpose {
            base_url: base_url.into(),
            vision,
            extra: Vec::new(),
        };
        assert!(purpose("a", true).serves(&purpose("a", false)));
        assert!(!purpose("a", false).serves(&purpose("a", true)));
        assert!(!purpose("a", false).serves(&purpose("b", false)));
    }
}
