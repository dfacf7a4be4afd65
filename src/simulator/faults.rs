//! What can go wrong on demand. A fault is named in the prompt, as `[[sim:NAME key=value]]`, or set through the
//! control door. Knows the wire, not the models.
//!
//! | name | effect |
//! |---|---|
//! | `401` `403` `413` `421` `422` `466` `499` `500` `502` `504` `529` | that status, as Copilot words it |
//! | `402` `429` `503` | likewise, with `retry-after=7` |
//! | `tos` | 403 that speaks of the terms of service |
//! | `token-expired` | 403 with the code `token_expired` |
//! | `overflow` | 400, the prompt is too long |
//! | `signature` `encrypted` `connection` | 400 about a signature, 400 about encrypted content, 401 about an item's id |
//! | `html` `empty` `gzip` | 200 with a web page, with nothing, with a compressed body nobody asked for |
//! | `hang` | no head, ever |
//! | `slow ms=500` | the head comes late |
//! | `silence secs=5 after=1` | head and so many events, then nothing for so long |
//! | `trickle ms=200` | a pause before each event |
//! | `comments` | a comment line before each event |
//! | `cut after=3` | the connection breaks after so many events |
//! | `error-in-stream after=3` | an error event after so many events |
//! | `no-done` | the last event (`[DONE]`, `response.completed`, `message_stop`) is missing |
//! | `no-end` | the stream ends neatly before any ending |
//! | `refusal` `filter` | the model refuses, the filter stops the answer |
//! | `length` | the limit of tokens is reached in the middle, of a call if there is one |
//! | `parallel` | two calls at once, or all that were asked for |
//! | `long chunks=1000` | so many small pieces of text |
//!
//! Any name may end in `-once`: the same prompt then fails only the first time.

use std::time::Duration;

use actix_web::http::header::HttpDate;
use serde_json::{Value, json};

use super::mind::Wishes;
use super::playback::Pace;
use super::reply::{Body, Refusal};
use crate::protocol::Protocol;

/// Everything that is to befall one answer.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    pub instead: Option<Instead>,
    /// Before the head.
    pub wait: Duration,
    pub pace: Pace,
    pub wishes: Wishes,
}

/// What comes in place of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Instead {
    Refusal(Refusal),
    /// A 200 that is no answer.
    Page,
    Nothing,
    Compressed,
    Silence,
}

/// One fault: its name and its settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    pub name: String,
    settings: Vec<(String, String)>,
}

impl Fault {
    /// Reads `NAME key=value …`; `None` if the name is not known.
    pub fn read(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let name = words.next()?.to_owned();
        let settings = words
            .filter_map(|word| word.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let fault = Self { name, settings };
        fault.apply(&mut Effects::default(), Protocol::Chat).then_some(fault)
    }

    /// The faults named in a text.
    pub fn in_text(text: &str) -> Vec<Self> {
        let marked = text.split("[[sim:").skip(1);
        marked.filter_map(|rest| Self::read(rest.split_once("]]")?.0)).collect()
    }

    /// Whether it happens only once for a prompt.
    pub fn is_once(&self) -> bool {
        self.name.ends_with("-once")
    }

    fn number(&self, key: &str) -> Option<u64> {
        let (_, value) = self.settings.iter().find(|(name, _)| name == key)?;
        value.parse().ok()
    }

    fn count(&self, key: &str, otherwise: u64) -> usize {
        usize::try_from(self.number(key).unwrap_or(otherwise)).unwrap_or(usize::MAX)
    }

    /// Adds the fault to what is to happen; false if there is no such fault.
    pub fn apply(&self, effects: &mut Effects, protocol: Protocol) -> bool {
        let name = self.name.strip_suffix("-once").unwrap_or(&self.name);
        let pause = || Duration::from_millis(self.number("ms").unwrap_or(200));
        match name {
            "html" => effects.instead = Some(Instead::Page),
            "empty" => effects.instead = Some(Instead::Nothing),
            "gzip" => effects.instead = Some(Instead::Compressed),
            "hang" => effects.instead = Some(Instead::Silence),
            "slow" => effects.wait = pause(),
            "trickle" => effects.pace.delay = pause(),
            "silence" => {
                let silence = Duration::from_secs(self.number("secs").unwrap_or(3600));
                effects.pace.silence = Some((self.count("after", 1), silence));
            }
            "comments" => effects.pace.comments = true,
            "cut" => effects.pace.cut_after = Some(self.count("after", 3)),
            "error-in-stream" => effects.pace.error_after = Some(self.count("after", 3)),
            "no-done" => effects.pace.no_done = true,
            "no-end" => effects.pace.no_end = true,
            "refusal" => effects.wishes.refusal = true,
            "filter" => effects.wishes.filter = true,
            "length" => effects.wishes.length = true,
            "parallel" => effects.wishes.parallel = true,
            "long" => effects.wishes.long = Some(self.count("chunks", 100)),
            name => match refusal(
                name,
                self.number("retry-after").map(|wait| wait.min(LONGEST_WAIT)),
                protocol,
            ) {
                Some(refusal) => effects.instead = Some(Instead::Refusal(refusal)),
                None => return false,
            },
        }
        true
    }
}

/// About thirty years, in seconds: more is no date.
const LONGEST_WAIT: u64 = 1_000_000_000;

/// The refusal with this name.
fn refusal(name: &str, wait: Option<u64>, protocol: Protocol) -> Option<Refusal> {
    Some(match name {
        "401" => Refusal::text(401, "unauthorized: token expired"),
        "402" => {
            let date = HttpDate::from(std::time::SystemTime::now() + Duration::from_secs(wait.unwrap_or(3600)));
            no_quota("quota_exceeded").with_header("retry-after", date.to_string())
        }
        "403" => Refusal::text(403, "Forbidden"),
        "tos" => Refusal::text(
            403,
            "Access to this endpoint is forbidden. Please review our Terms of Service.",
        ),
        "token-expired" => Refusal::copilot(403, "token_expired", "token expired"),
        "413" => Refusal::copilot(413, "request_too_large", "the request is too large"),
        "421" => Refusal::text(421, "Misdirected Request"),
        "422" => Refusal::text(422, "The prompt was filtered by responsible AI policies."),
        "429" => too_many(wait.unwrap_or(5)),
        "466" => Refusal::text(466, "This client is no longer supported. Please upgrade."),
        "499" => Refusal::text(499, "request cancelled"),
        "500" => Refusal::copilot(500, "internal_error", "internal server error"),
        "502" => Refusal::html(
            502,
            "<html><head><title>502 Bad Gateway</title></head><body>502 Bad Gateway</body></html>\n",
        ),
        "503" => {
            let refusal = Refusal::copilot(503, "service_unavailable", "the service is unavailable");
            match wait {
                Some(wait) => refusal.with_header("retry-after", wait.to_string()),
                None => refusal,
            }
        }
        "504" => Refusal::text(504, "upstream request timeout"),
        "529" => Refusal::anthropic_as(529, "overloaded_error", "Overloaded"),
        "overflow" => overflow(protocol, 210_000, 200_000),
        "signature" => Refusal::anthropic("messages.1.content.0: Invalid `signature` in `thinking` block"),
        "encrypted" => Refusal::openai(
            "invalid_encrypted_content",
            "input",
            "The encrypted content for an item could not be verified.",
        ),
        "connection" => Refusal::text(401, "input item ID does not belong to this connection"),
        _ => return None,
    })
}

/// Quota is used up.
pub fn no_quota(code: &str) -> Refusal {
    Refusal::copilot(402, code, "You have no quota")
}

/// Too many requests, with every header Copilot has for it.
fn too_many(wait: u64) -> Refusal {
    let message = "Sorry, you've exceeded your rate limits. Please try again later.";
    let body = json!({"error": {
        "code": "user_global_rate_limited:pro", "message": message, "type": "rate_limit_error",
    }});
    Refusal::json(429, body)
        .with_header("retry-after", wait.to_string())
        .with_header("x-ratelimit-user-retry-after", wait.to_string())
        .with_header(
            "x-ratelimit-exceeded",
            "global-chat:global-usage-5-hour-key:userID:COPILOT_PLAN_INDIVIDUAL",
        )
}

/// The prompt does not fit, as each protocol's models say it.
pub fn overflow(protocol: Protocol, tokens: u64, limit: u64) -> Refusal {
    match protocol {
        Protocol::Messages => Refusal::anthropic(format!("prompt is too long: {tokens} tokens > {limit} maximum")),
        Protocol::Chat | Protocol::Responses => Refusal::copilot(
            400,
            "model_max_prompt_tokens_exceeded",
            format!("prompt token count of {tokens} exceeds the limit of {limit}"),
        ),
    }
}

/// A fault set through the control door: where, what, and how many times more.
#[derive(Clone, Debug)]
pub struct Planned {
    pub endpoint: String,
    pub what: What,
    pub times: u64,
}

#[derive(Clone, Debug)]
pub enum What {
    Named(Fault),
    Reply(Refusal),
}

impl Planned {
    /// Reads `{"endpoint", "status", "headers", "body", "times"}` or `{"endpoint", "fault", "times"}`.
    pub fn read(request: &Value) -> Result<Self, &'static str> {
        let endpoint = request["endpoint"].as_str().unwrap_or("*").to_owned();
        let times = request["times"].as_u64().unwrap_or(1);
        let what = if let Some(name) = request["fault"].as_str() {
            What::Named(Fault::read(name).ok_or("there is no such fault")?)
        } else {
            let status = request["status"].as_u64().and_then(|status| u16::try_from(status).ok());
            let status = status
                .filter(|status| (200..600).contains(status))
                .ok_or("status is missing")?;
            let body = match &request["body"] {
                Value::String(text) => Body::Text(text.clone()),
                Value::Null => Body::Text(String::new()),
                json => Body::Json(json.clone()),
            };
            let headers = request["headers"].as_object().into_iter().flatten();
            let headers = headers
                .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
                .collect();
            What::Reply(Refusal { status, body, headers })
        };
        Ok(Self { endpoint, what, times })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_from_a_prompt() {
        let faults = Fault::in_text("hello [[sim:429 retry-after=7]] and [[sim:nonsense]] [[sim:cut after=2]] [[sim:x");
        assert_eq!(faults.len(), 2);
        let mut effects = Effects::default();
        assert!(faults.iter().all(|fault| fault.apply(&mut effects, Protocol::Chat)));
        assert_eq!(effects.pace.cut_after, Some(2));
        let Some(Instead::Refusal(refusal)) = effects.instead else {
            panic!("a refusal")
        };
        assert_eq!(refusal.status, 429);
        assert!(refusal.headers.contains(&("retry-after".into(), "7".into())));
    }

    #[test]
    fn every_name_in_the_table_is_known() {
        let table = include_str!("faults.rs");
        let rows = table.lines().filter_map(|line| line.strip_prefix("//! | `"));
        let names: Vec<&str> = rows
            .filter_map(|row| row.split_once(" |"))
            .flat_map(|(cell, _)| cell.split('`').step_by(2))
            .filter(|name| !name.trim().is_empty())
            .collect();
        assert!(names.len() > 30, "{names:?}");
        for name in names {
            assert!(Fault::read(name).is_some(), "{name}");
            let once = name.replacen(
                name.split(' ').next().unwrap(),
                &format!("{}-once", name.split(' ').next().unwrap()),
                1,
            );
            assert!(Fault::read(&once).is_some_and(|fault| fault.is_once()), "{once}");
        }
    }

    #[test]
    fn planned_faults_are_read() {
        let planned = Planned::read(&json!({"endpoint": "chat", "status": 503, "body": {"a": 1}, "times": 2})).unwrap();
        assert_eq!((planned.endpoint.as_str(), planned.times), ("chat", 2));
        assert!(Planned::read(&json!({"endpoint": "chat"})).is_err());
        assert!(Planned::read(&json!({"endpoint": "chat", "fault": "nonsense"})).is_err());
    }
}
