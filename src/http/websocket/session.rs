//! The rules of one Responses socket: what a frame asks, whose turn it is, which earlier responses may be continued, and
//! how errors are said. Plain data; knows no socket, no relay and no clock.
//!
//! ```text
//! receive ─→ waiting line ─ begin ─→ active: hear each event ─ end ─→ kept, to be continued by its id
//!                             │
//!                             └── warm-up, or a response nobody knows: answered here, at once
//! ```

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::http::body;
use crate::protocol::failure::{Failure, Kind};
use crate::protocol::json::{self, Unfit};
use crate::protocol::responses::Event;
use crate::protocol::sse::Frame;
use crate::relay::Earlier;
use crate::translate::ids::Ids;
use crate::translate::response_object;
use crate::translate::rules::field;
use crate::translate::turn::{Finish, Usage};
use crate::translate::{Object, Reply, validate};

/// Turns that wait behind the active one.
const MAX_WAITING: usize = 8;
const MAX_WAITING_BYTES: usize = 32 << 20;
/// Responses that can be continued.
const KEPT: usize = 8;
const MAX_KEPT_BYTES: usize = 64 << 20;
/// How a turn breaks off where upstream has not ended it, besides a stream that is merely cut.
const LOSSES: [Kind; 3] = [Kind::UpstreamTimeout, Kind::UpstreamUnreachable, Kind::Unavailable];

/// One socket's conversation.
#[derive(Debug)]
pub struct Session {
    /// The largest request, with the history it continues.
    max_bytes: usize,
    /// Others than this socket know responses, too.
    elsewhere: bool,
    /// Asked for by the latest request that named one.
    model: Option<Value>,
    waiting: VecDeque<Request>,
    active: Option<Active>,
    kept: VecDeque<Kept>,
}

/// What a frame asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A turn, which now waits in line.
    Turn,
    /// The end of the active turn.
    Cancel,
}

/// What the next turn comes to.
#[derive(Debug, PartialEq)]
pub enum Begun {
    /// This request goes to a model; its events are to be [heard](Session::hear).
    Call { body: Object, earlier: Option<Earlier> },
    /// The turn has been answered here, in these frames.
    Answered(Vec<String>),
}

/// A turn that waits.
#[derive(Debug)]
struct Request {
    fields: Object,
    /// Continues the latest response where it names none: what `response.append` means.
    appends: bool,
    bytes: usize,
}

/// The turn under way.
#[derive(Debug)]
struct Active {
    history: Vec<Arc<Value>>,
    bytes: usize,
    /// What it continues is known elsewhere, and so is the whole of its history.
    elsewhere: bool,
    /// What the client sent, for the response that says it was cancelled.
    reply: Reply,
    ids: Ids,
    /// The response as its first event showed it.
    response: Option<Object>,
    /// The number of the next event.
    sequence: u64,
}

/// A response that can be continued: its whole input and output. Items are shared with the responses it continues.
#[derive(Debug)]
struct Kept {
    id: String,
    history: Vec<Arc<Value>>,
    bytes: usize,
}

impl Session {
    pub fn new(max_bytes: usize, elsewhere: bool) -> Self {
        Self {
            max_bytes,
            elsewhere,
            model: None,
            waiting: VecDeque::new(),
            active: None,
            kept: VecDeque::new(),
        }
    }

    pub fn is_active(&self) -> bool {
        self.active.is_some()
    }

    /// Takes a frame of the client's. What it may not ask is said in an error frame, and the socket stays.
    pub fn receive(&mut self, text: &str) -> Result<Asked, Failure> {
        let frame = json::object(text.as_bytes()).map_err(|unfit| match unfit {
            Unfit::NoObject => Failure::new(Kind::BadRequest, "the frame is no JSON object"),
            Unfit::TooManyValues => body::too_many_values(),
        })?;
        let appends = match frame.get("type").and_then(Value::as_str) {
            Some("response.create") => false,
            Some("response.append") => true,
            Some("response.cancel") if self.is_active() => return Ok(Asked::Cancel),
            Some("response.cancel") => {
                let sentence = "no response is under way";
                return Err(Failure::new(Kind::BadRequest, sentence).with_code("response_not_active"));
            }
            other => {
                let name: String = other.unwrap_or("without a type").chars().take(60).collect();
                let sentence = format!("frames of this kind are not understood: {name}");
                return Err(Failure::bad("type", sentence).with_code("unsupported_event"));
            }
        };
        let mut fields = fields_of(frame);
        check(&mut fields)?;
        if fields.get("model").is_none_or(Value::is_null) {
            let model = self.model.clone();
            let model = model.ok_or_else(|| Failure::bad("model", "the first request must name a model"))?;
            fields.insert("model".into(), model);
        }
        if self.waiting.len() >= MAX_WAITING || self.waiting_bytes().saturating_add(text.len()) > MAX_WAITING_BYTES {
            let sentence = "too many requests wait on this socket";
            return Err(Failure::new(Kind::RateLimited, sentence).with_code("too_many_requests"));
        }
        self.model = fields.get("model").cloned();
        self.waiting.push_back(Request {
            fields,
            appends,
            bytes: text.len(),
        });
        Ok(Asked::Turn)
    }

    /// Begins the next turn, unless one is under way. `ids` mints what is answered here.
    pub fn begin(&mut self, ids: Ids) -> Option<Begun> {
        if self.is_active() {
            return None;
        }
        let request = self.waiting.pop_front()?;
        Some(match self.prepare(request, ids) {
            Ok(begun) => begun,
            Err(failure) => Begun::Answered(vec![self.error_frame(&failure, &[])]),
        })
    }

    fn prepare(&mut self, request: Request, mut ids: Ids) -> Result<Begun, Failure> {
        let Request {
            fields: mut body,
            appends,
            bytes,
        } = request;
        let earlier = self.continued(&body, appends)?;
        let (mut history, earlier_bytes) = match earlier {
            Some(kept) => (kept.history.clone(), kept.bytes),
            None => (Vec::new(), 0),
        };
        let bytes = bytes.saturating_add(earlier_bytes);
        if bytes > self.max_bytes {
            let sentence = format!(
                "the request and the history it continues are larger than {} bytes",
                self.max_bytes
            );
            return Err(Failure::new(Kind::TooLarge, sentence));
        }
        let reply = Reply {
            model: text(&body, "model"),
            echo: response_object::echo(&body),
            ..Reply::default()
        };
        let elsewhere = earlier.is_none() && !field(&body, "previous_response_id").is_null();
        let continues = earlier.is_some() || appends;
        let previous = match elsewhere {
            true => Value::Null,
            false => body.shift_remove("previous_response_id").unwrap_or_default(),
        };
        let warms_up = body.shift_remove("generate").is_some_and(|generate| generate == false);
        let earlier = continues.then(|| Earlier {
            response: previous,
            items: history.len(),
        });
        match body.shift_remove("input") {
            Some(Value::Array(items)) => history.extend(items.into_iter().map(Arc::new)),
            Some(Value::String(text)) => history.push(Arc::new(said_by_user(text))),
            // An input of no known kind is refused where all requests are.
            Some(other) if !other.is_null() => {
                body.insert("input".into(), other);
            }
            _ => {}
        }
        if warms_up {
            let id = ids.mint("resp_");
            let frames = empty_response(&reply, &id, ids.created);
            self.keep(Kept { id, history, bytes });
            return Ok(Begun::Answered(frames));
        }
        // A request without any input is refused where all requests are.
        if !body.contains_key("input") && (continues || !history.is_empty()) {
            let items = history.iter().map(|item| Value::clone(item)).collect();
            body.insert("input".into(), Value::Array(items));
        }
        body.insert("stream".into(), json!(true));
        self.active = Some(Active {
            history,
            bytes,
            elsewhere,
            reply,
            ids,
            response: None,
            sequence: 0,
        });
        Ok(Begun::Call { body, earlier })
    }

    /// The response of this socket that a request continues, if it continues one.
    fn continued(&self, body: &Object, appends: bool) -> Result<Option<&Kept>, Failure> {
        let id = match body.get("previous_response_id") {
            None | Some(Value::Null) if appends => return Ok(self.kept.back()),
            None | Some(Value::Null) => return Ok(None),
            Some(id) => id.as_str().unwrap_or_default(),
        };
        let found = self.kept.iter().rev().find(|kept| kept.id == id);
        match found {
            None if !self.elsewhere || field(body, "generate") == false => Err(validate::unknown_response(id)),
            found => Ok(found),
        }
    }

    /// Takes note of an event of the active turn on its way to the client; gives it as a frame of the socket's.
    pub fn hear(&mut self, frame: &Frame) -> Option<String> {
        let text = String::from_utf8_lossy(&frame.data);
        let event = Event::read(&frame.data)?;
        let kind = event.kind(frame.name.as_deref());
        if kind == "error" {
            let failure = failure_of(&event);
            return Some(self.error_frame(&failure, &[]));
        }
        if kind == "response.failed"
            && let Some(failure) = loss(&event)
        {
            return Some(self.error_frame(&failure, &[]));
        }
        if let Some(active) = &mut self.active {
            active.sequence += 1;
            match &*kind {
                "response.created" => active.response = object(event.value("response")),
                "response.completed" | "response.incomplete" => self.finish(event.value("response")),
                _ => {}
            }
        }
        Some(text.into_owned())
    }

    /// The active turn has its answer: from now on it can be continued.
    fn finish(&mut self, mut response: Value) {
        let Some(active) = self.active.as_mut().filter(|active| !active.elsewhere) else {
            return;
        };
        let (Value::String(id), Value::Array(output)) = (response["id"].take(), response["output"].take()) else {
            return;
        };
        let mut history = std::mem::take(&mut active.history);
        let said: usize = output.iter().map(|item| item.to_string().len()).sum();
        history.extend(output.into_iter().map(Arc::new));
        let bytes = active.bytes.saturating_add(said);
        self.keep(Kept { id, history, bytes });
    }

    fn keep(&mut self, kept: Kept) {
        self.kept.push_back(kept);
        let bytes = |kept: &VecDeque<Kept>| kept.iter().map(|one| one.bytes).fold(0, usize::saturating_add);
        while self.kept.len() > KEPT || self.kept.len() > 1 && bytes(&self.kept) > MAX_KEPT_BYTES {
            self.kept.pop_front();
        }
    }

    /// The active turn is over, however it went.
    pub fn end(&mut self) {
        self.active = None;
    }

    /// Ends the active turn on its client's wish; the frame that says so.
    pub fn cancel(&mut self) -> Option<String> {
        let mut active = self.active.take()?;
        let mut response = active.response.take().unwrap_or_else(|| {
            let id = active.ids.mint("resp_");
            response_object::begun(&active.reply, &id, active.ids.created)
        });
        let failure = Failure::new(Kind::BadRequest, "the response was cancelled").with_code("cancelled");
        response_object::fail(&mut response, &failure, Vec::new());
        let frame = json!({"type": "response.failed", "sequence_number": active.sequence, "response": response});
        Some(frame.to_string())
    }

    /// A failure as a frame: in the flat form and in the nested one, since clients differ.
    pub fn error_frame(&self, failure: &Failure, headers: &[(String, String)]) -> String {
        use crate::protocol::Protocol::Responses;
        let code = failure.openai_code().unwrap_or(failure.openai_type());
        let mut frame = json!({
            "type": "error",
            "code": code,
            "message": failure.message,
            "param": failure.param,
            "status": failure.status(Responses),
            "error_type": failure.openai_type(),
            "error": {
                "type": failure.openai_type(),
                "code": code,
                "message": failure.message,
                "param": failure.param,
            },
            "sequence_number": self.active.as_ref().map_or(0, |active| active.sequence),
        });
        let mut passed: Object = headers
            .iter()
            .map(|(name, value)| (name.clone(), json!(value)))
            .collect();
        if let Some(after) = &failure.retry_after {
            passed.insert("retry-after".into(), json!(after));
        }
        if !passed.is_empty() {
            frame["headers"] = Value::Object(passed);
        }
        frame.to_string()
    }

    fn waiting_bytes(&self) -> usize {
        self.waiting.iter().map(|request| request.bytes).sum()
    }
}

/// The request inside a frame: nested under `response`, or the frame itself.
fn fields_of(mut frame: Object) -> Object {
    frame.shift_remove("type");
    match frame.shift_remove("response") {
        Some(Value::Object(mut fields)) => {
            if let Some(generate) = frame.shift_remove("generate") {
                fields.entry("generate").or_insert(generate);
            }
            fields
        }
        _ => frame,
    }
}

/// Refuses what a socket cannot do; takes away what it does anyway.
fn check(fields: &mut Object) -> Result<(), Failure> {
    let refuse = |name: &str, sentence: &str| Err(Failure::bad(name, sentence).with_code("unsupported_parameter"));
    if fields.shift_remove("stream").is_some_and(|stream| stream == false) {
        return refuse("stream", "a socket always streams");
    }
    if fields
        .shift_remove("background")
        .is_some_and(|background| background == true)
    {
        return refuse("background", "background responses are not supported");
    }
    Ok(())
}

fn said_by_user(text: String) -> Value {
    json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]})
}

/// A response that was begun and completed without a word: the answer to a warm-up.
fn empty_response(reply: &Reply, id: &str, created: u64) -> Vec<String> {
    let mut response = response_object::begun(reply, id, created);
    let first = json!({"type": "response.created", "sequence_number": 0, "response": response});
    let nothing = Usage {
        input: Some(0),
        output: Some(0),
        ..Usage::default()
    };
    let kind = response_object::end(&mut response, &Finish::Stop, Vec::new(), &nothing, created);
    let last = json!({"type": kind, "sequence_number": 1, "response": response});
    vec![first.to_string(), last.to_string()]
}

/// The failure of a response that upstream has not failed but left: on a socket that is an error, and no event of the
/// response.
fn loss(failed: &Event) -> Option<Failure> {
    let error = &failed.value("response")["error"];
    let (code, message) = (error["code"].as_str(), error["message"].as_str()?);
    let cut = Failure::truncated();
    if message == cut.message && code == cut.openai_code() {
        return Some(cut);
    }
    let mut losses = LOSSES.into_iter().map(|kind| Failure::new(kind, message));
    losses.find(|failure| failure.openai_code() == code)
}

/// An error event of a stream's, flat or nested.
fn failure_of(event: &Event) -> Failure {
    let nested = event.value("error");
    let told = |name: &str| {
        let flat = event.text(name).map(|text| text.into_owned());
        flat.or_else(|| nested[name].as_str().map(str::to_owned))
    };
    let message = told("message").unwrap_or_else(|| "upstream reported an error".into());
    let code = told("code");
    let kind = match code.as_deref() {
        Some(code) if code.contains("rate_limit") || code.contains("too_many_requests") => Kind::RateLimited,
        Some("context_length_exceeded") => Kind::ContextOverflow,
        Some("content_filter") => Kind::ContentFiltered,
        Some("server_is_overloaded") => Kind::Overloaded,
        Some(code) if code.contains("quota") => Kind::Payment,
        Some("invalid_request_error" | "invalid_prompt") => Kind::BadRequest,
        _ => Kind::UpstreamFailed,
    };
    Failure {
        code,
        param: told("param"),
        ..Failure::new(kind, message)
    }
}

fn text(fields: &Object, name: &str) -> String {
    fields.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn object(value: Value) -> Option<Object> {
    match value {
        Value::Object(object) => Some(object),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
