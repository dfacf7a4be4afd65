//! Upstream's refusals, read once into a kind and one plain sentence, and said in the words each client acts on. Knows
//! nothing of sockets or retries.

use std::borrow::Cow;

use serde_json::Value;

use crate::protocol::failure::{Failure, Kind};
use crate::protocol::{Dialect, Protocol};

/// The longest sentence that is passed on, in bytes.
const LONGEST: usize = 4096;

/// Reads an answer that was no success.
pub fn read(status: u16, headers: &[(String, String)], body: &[u8]) -> Failure {
    let text = String::from_utf8_lossy(body);
    let text = text.trim();
    let said = match serde_json::from_str(text) {
        Ok(Value::String(text)) => Said::of_text(&text),
        Ok(value) => Said::of(&value),
        Err(_) if text.starts_with('<') => Said::default(),
        Err(_) => Said::of_text(text),
    };
    let kind = kind_of_status(status, &said);
    let message = if said.message.is_empty() {
        reason(status)
    } else {
        said.message.clone()
    };
    let mut failure = said.failure(kind, &message);
    failure.retry_after = may_retry(kind)
        .then(|| header_wait(headers).or(failure.retry_after))
        .flatten();
    if status == 466 {
        failure.code = Some("upgrade_required".into());
    }
    if let Some(why) = explanation(status, kind, &failure.message) {
        failure.message = capped(&format!("{why}: {}", failure.message)).into_owned();
    }
    failure
}

/// Reads an error that came inside a stream: a chat `error` frame, a Messages `error` event, a Responses `error` event
/// or the `error` of a failed response, a lone `message`.
pub fn in_stream(error: &Value) -> Failure {
    let failed = &error["response"]["error"];
    let said = Said::of(if failed.is_object() { failed } else { error });
    let kind = match error["status"].as_u64().or_else(|| error["status_code"].as_u64()) {
        Some(status) => kind_of_status(u16::try_from(status).unwrap_or(500), &said),
        None => kind_in_stream(&said),
    };
    let message = if said.message.is_empty() {
        "upstream failed without saying why"
    } else {
        &said.message
    };
    let failure = said.failure(kind, message);
    Failure {
        retry_after: failure.retry_after.filter(|_| may_retry(kind)),
        ..failure
    }
}

/// The failure in the words this protocol's clients act on: how each is told that its prompt is too long.
pub fn for_client(mut failure: Failure, client: impl Into<Dialect>) -> Failure {
    let client = client.into();
    match failure.kind {
        Kind::ContextOverflow => {
            failure.message = overflow(&failure.message, client);
            failure.code = None;
        }
        Kind::RateLimited | Kind::Overloaded | Kind::UpstreamUnavailable
            if client == Dialect::Of(Protocol::Responses) =>
        {
            let seconds = failure
                .retry_after
                .as_deref()
                .and_then(|after| after.parse::<u64>().ok());
            if let Some(seconds) = seconds.filter(|_| waiting_time(&failure.message).is_none()) {
                let said = failure.message.trim_end();
                let stop = if said.ends_with(['.', '!', '?']) { "" } else { "." };
                failure.message = format!("{said}{stop} Please try again in {seconds}s.");
            }
        }
        Kind::Forbidden if failure.message.trim().eq_ignore_ascii_case("forbidden") => {
            failure.message =
                "Copilot refuses this account's token: check that its subscription is active, or sign in again".into();
        }
        _ => {}
    }
    failure
}

/// How a client is told that its prompt is too long. Claude Code and Codex compact their history on these words.
fn overflow(message: &str, client: Dialect) -> String {
    let client = match client {
        Dialect::Of(protocol) => protocol,
        Dialect::Gemini => return too_long_for_google(message),
    };
    let Some(size) = Size::read(message) else {
        return match client {
            Protocol::Messages => "prompt is too long: the request exceeds the model's context window".into(),
            Protocol::Chat => message.into(),
            Protocol::Responses => EXCEEDS.into(),
        };
    };
    match (client, size) {
        (Protocol::Messages, Size::Sum(input, output, limit)) => format!(
            "input length and `max_tokens` exceed context limit: {input} + {output} > {limit}, \
             decrease input length or `max_tokens` and try again"
        ),
        (Protocol::Messages, Size::Prompt(tokens, limit)) => {
            format!("prompt is too long: {tokens} tokens > {limit} maximum")
        }
        (Protocol::Chat, Size::Prompt(tokens, limit)) => format!(
            "This model's maximum context length is {limit} tokens. However, your messages resulted in {tokens} tokens. \
             Please reduce the length of the messages."
        ),
        (Protocol::Chat, Size::Sum(..)) => message.into(),
        (Protocol::Responses, _) => EXCEEDS.into(),
    }
}

/// Google's own words, where the numbers for them are known.
fn too_long_for_google(message: &str) -> String {
    match Size::read(message) {
        Some(Size::Prompt(tokens, limit)) => {
            format!("The input token count ({tokens}) exceeds the maximum number of tokens allowed ({limit}).")
        }
        _ => message.into(),
    }
}

const EXCEEDS: &str = "Your input exceeds the context window of this model. Please adjust your input and try again.";

/// The numbers in an overflow's sentence.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Size {
    /// The prompt's tokens, and the most there may be.
    Prompt(u64, u64),
    /// Input, wanted output, and the most both may be.
    Sum(u64, u64, u64),
}

impl Size {
    fn read(message: &str) -> Option<Self> {
        let lower = message.to_ascii_lowercase();
        let after = |words: &str| lower.split_once(words).map(|(_, rest)| numbers(rest));
        if let Some([input, output, limit, ..]) = after("exceed context limit").as_deref() {
            return Some(Self::Sum(*input, *output, *limit));
        }
        if let Some([tokens, limit, ..]) = after("prompt is too long").as_deref() {
            return Some(Self::Prompt(*tokens, *limit));
        }
        if let Some([tokens, limit, ..]) = after("prompt token count of").as_deref() {
            return Some(Self::Prompt(*tokens, *limit));
        }
        if let Some([limit, tokens, ..]) = after("maximum context length is").as_deref() {
            return Some(Self::Prompt(*tokens, *limit));
        }
        None
    }
}

fn numbers(text: &str) -> Vec<u64> {
    let runs = text.split(|letter: char| !letter.is_ascii_digit() && letter != ',');
    runs.filter_map(|run| run.replace(',', "").parse().ok()).collect()
}

/// What upstream says, from whichever place it says it in.
#[derive(Clone, Debug, Default)]
struct Said {
    message: String,
    /// Without its `:<plan>` suffix.
    code: Option<String>,
    /// `error.type`; some of upstream's errors have their code there.
    kind: Option<String>,
    param: Option<String>,
    retry_after: Option<f64>,
}

impl Said {
    /// A sentence, or JSON where a sentence should be.
    fn of_text(text: &str) -> Self {
        match serde_json::from_str(text) {
            Ok(value @ Value::Object(_)) => Self::of_object(&value),
            _ => Self {
                message: text.to_owned(),
                ..Self::default()
            },
        }
    }

    /// An error, whose sentence may be JSON in a string.
    fn of(value: &Value) -> Self {
        let outer = Self::of_object(value);
        match serde_json::from_str(&outer.message) {
            Ok(inner @ Value::Object(_)) => {
                let inner = Self::of_object(&inner);
                Self {
                    message: inner.message,
                    code: inner.code.or(outer.code),
                    kind: inner.kind.or(outer.kind),
                    param: inner.param.or(outer.param),
                    retry_after: inner.retry_after.or(outer.retry_after),
                }
            }
            _ => outer,
        }
    }

    fn of_object(value: &Value) -> Self {
        let error = &value["error"];
        let inner = &error["error"];
        let sentences = [
            &error["message"],
            &inner["message"],
            &value["message"],
            error,
            &value["detail"],
            &value["errors"][0]["message"],
        ];
        let sentence = sentences
            .into_iter()
            .filter_map(Value::as_str)
            .find(|text| !text.trim().is_empty());
        let codes = [&error["code"], &inner["code"], &value["code"]]
            .into_iter()
            .find_map(code_of);
        let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let kinds = [&inner["type"], &error["type"], &value["type"]]
            .into_iter()
            .filter_map(code_of);
        let waits = [&error["retry_after"], &value["retry_after"]]
            .into_iter()
            .find_map(|wait| wait.as_f64().or_else(|| wait.as_str()?.parse().ok()));
        Self {
            message: sentence.unwrap_or_default().trim().to_owned(),
            code: codes,
            kind: kinds.into_iter().find(|kind| kind != "error"),
            param: [&error["param"], &value["param"]].into_iter().find_map(text),
            retry_after: waits.filter(|wait| wait.is_finite() && *wait >= 0.0),
        }
    }

    /// Whether the code, or the type that stands for it, is one of these.
    fn is(&self, names: &[&str]) -> bool {
        let given = [self.code.as_deref(), self.kind.as_deref()];
        given.into_iter().flatten().any(|given| names.contains(&given))
    }

    fn failure(&self, kind: Kind, message: &str) -> Failure {
        // Where the table names a code, clients look for that one.
        let own_code = matches!(
            kind,
            Kind::BadRequest | Kind::Forbidden | Kind::Conflict | Kind::UpstreamAuth
        );
        let wait = self.retry_after.or_else(|| waiting_time(message));
        Failure {
            code: self.code.clone().filter(|_| own_code),
            param: self.param.clone(),
            retry_after: wait.map(|seconds| (seconds.ceil() as u64).to_string()),
            ..Failure::new(kind, capped(&redacted(message)))
        }
    }
}

fn code_of(code: &Value) -> Option<String> {
    match code {
        Value::String(code) => {
            let code = code.split(':').next().unwrap_or_default().trim();
            (!code.is_empty()).then(|| code.to_owned())
        }
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

const OVERFLOW_CODES: [&str; 2] = ["model_max_prompt_tokens_exceeded", "context_length_exceeded"];
const QUOTA_CODES: [&str; 8] = [
    "quota_exceeded",
    "no_quota",
    "free_quota_exceeded",
    "session_quota_exceeded",
    "overage_limit_reached",
    "billing_not_configured",
    "insufficient_quota",
    "billing_error",
];
const RATE_CODES: [&str; 11] = [
    "rate_limited",
    "rate_limit_exceeded",
    "rate_limit_error",
    "user_model_rate_limited",
    "user_global_rate_limited",
    "user_weekly_rate_limited",
    "integration_rate_limited",
    "upstream_provider_rate_limit",
    "agent_mode_limit_exceeded",
    "extension_blocked",
    "too_many_requests",
];
const OVERLOAD_CODES: [&str; 4] = [
    "overloaded_error",
    "server_is_overloaded",
    "slow_down",
    "model_overloaded",
];
const FILTER_CODES: [&str; 3] = ["content_filter", "content_policy_violation", "off_topic"];

/// What is wrong with the request itself, by code or by words. `None` where nothing tells.
fn kind_of_words(said: &Said) -> Option<Kind> {
    let lower = said.message.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|words| lower.contains(words));
    let overflows = said.is(&OVERFLOW_CODES)
        || has(&[
            "prompt is too long",
            "exceeds the context window",
            "exceed context limit",
            "request body is too large for model context window",
            "maximum context length is",
        ])
        || lower.contains("prompt token count of") && lower.contains("exceeds the limit");
    if overflows {
        Some(Kind::ContextOverflow)
    } else if said.is(&QUOTA_CODES) {
        Some(Kind::Payment)
    } else if said.is(&RATE_CODES) {
        Some(Kind::RateLimited)
    } else if said.is(&["model_not_supported", "model_not_found"]) {
        Some(Kind::ModelNotFound)
    } else if said.is(&["unsupported_api_for_model"]) || has(&["not accessible via the", "not supported via the"]) {
        Some(Kind::UnsupportedEndpoint)
    } else if said.is(&FILTER_CODES)
        || has(&[
            "responsible ai",
            "responsibleai",
            "content management policy",
            "off_topic",
        ])
    {
        Some(Kind::ContentFiltered)
    } else {
        None
    }
}

fn speaks_of_rate(said: &Said) -> bool {
    let lower = said.message.to_ascii_lowercase();
    ["rate limit", "rate-limit", "too many requests"]
        .iter()
        .any(|words| lower.contains(words))
}

fn speaks_of_load(said: &Said) -> bool {
    let lower = said.message.to_ascii_lowercase();
    said.is(&OVERLOAD_CODES) || ["overloaded", "capacity"].iter().any(|words| lower.contains(words))
}

fn kind_of_status(status: u16, said: &Said) -> Kind {
    match status {
        400 | 405 | 409 | 413 | 422 => match kind_of_words(said) {
            Some(kind) => kind,
            None if said.retry_after.is_some() => Kind::RateLimited,
            None => match status {
                409 => Kind::Conflict,
                413 => Kind::TooLarge,
                422 => Kind::ContentFiltered,
                _ => Kind::BadRequest,
            },
        },
        // An item of another connection is the request's fault, whatever the status says.
        401 if said.message.contains("does not belong to this connection") => Kind::BadRequest,
        401 => Kind::UpstreamAuth,
        402 => Kind::Payment,
        403 if said.is(&QUOTA_CODES) => Kind::Payment,
        403 if said.is(&RATE_CODES) || said.retry_after.is_some() => Kind::RateLimited,
        403 | 466 => Kind::Forbidden,
        404 => match kind_of_words(said) {
            Some(kind @ (Kind::ModelNotFound | Kind::UnsupportedEndpoint)) => kind,
            _ => Kind::NotFound,
        },
        408 | 504 => Kind::UpstreamTimeout,
        // Our connection reached the wrong host, and no fresh credential named a better one: not the request's fault.
        421 => Kind::UpstreamFailed,
        429 if said.is(&QUOTA_CODES) => Kind::Payment,
        429 => Kind::RateLimited,
        410..=499 => kind_of_words(said).unwrap_or(Kind::BadRequest),
        503 if speaks_of_rate(said) || said.is(&RATE_CODES) || said.retry_after.is_some() => Kind::RateLimited,
        503 if speaks_of_load(said) => Kind::Overloaded,
        503 => Kind::UpstreamUnavailable,
        529 => Kind::Overloaded,
        _ => Kind::UpstreamFailed,
    }
}

fn kind_in_stream(said: &Said) -> Kind {
    if let Some(kind) = kind_of_words(said) {
        return kind;
    }
    const BY_NAME: [(&str, Kind); 15] = [
        ("cyber_policy", Kind::BadRequest),
        ("invalid_prompt", Kind::BadRequest),
        ("bad_request", Kind::BadRequest),
        ("invalid_request_error", Kind::BadRequest),
        ("invalid_request_body", Kind::BadRequest),
        ("invalid_encrypted_content", Kind::BadRequest),
        ("authentication_error", Kind::UpstreamAuth),
        ("session_expired", Kind::UpstreamAuth),
        ("permission_error", Kind::Forbidden),
        ("not_found_error", Kind::NotFound),
        ("not_found", Kind::NotFound),
        ("request_too_large", Kind::TooLarge),
        ("timeout_error", Kind::UpstreamTimeout),
        ("service_unavailable", Kind::UpstreamUnavailable),
        ("internal_error", Kind::UpstreamFailed),
    ];
    let by_name = BY_NAME
        .into_iter()
        .find(|(name, _)| said.is(&[*name]))
        .map(|(_, kind)| kind);
    match by_name {
        Some(kind) => kind,
        None if speaks_of_load(said) => Kind::Overloaded,
        None if speaks_of_rate(said) || said.retry_after.is_some() => Kind::RateLimited,
        None if said.message.contains("could not be verified") || said.message.contains("could not be decrypted") => {
            Kind::BadRequest
        }
        None => Kind::Stream,
    }
}

/// Whether coming back later helps. A quota that is used up is no window.
fn may_retry(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::RateLimited | Kind::Overloaded | Kind::UpstreamUnavailable | Kind::UpstreamFailed
    )
}

/// When upstream's headers say to come back: whole seconds, or a date as it stands.
fn header_wait(headers: &[(String, String)]) -> Option<String> {
    let header = |name: &str| {
        let found = headers.iter().find(|(given, _)| given.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim()).filter(|value| !value.is_empty())
    };
    let whole = |seconds: f64| {
        (0.0..=1e9)
            .contains(&seconds)
            .then(|| (seconds.ceil() as u64).to_string())
    };
    let seconds = |name: &str| whole(header(name)?.parse().ok()?);
    let milliseconds = || whole(header("retry-after-ms")?.parse::<f64>().ok()? / 1000.0);
    seconds("retry-after")
        .or_else(|| header("retry-after").map(str::to_owned))
        .or_else(milliseconds)
        .or_else(|| seconds("x-ratelimit-user-retry-after"))
}

/// The seconds in `try again in 1.5s`, `… in 20 seconds`, `… in 300ms`, `… in 2 minutes`.
fn waiting_time(message: &str) -> Option<f64> {
    let lower = message.to_ascii_lowercase();
    let (_, rest) = lower.split_once("try again in")?;
    let rest = rest.trim_start();
    let end = rest
        .find(|letter: char| !letter.is_ascii_digit() && letter != '.')
        .unwrap_or(rest.len());
    let (number, unit) = rest.split_at(end);
    let number: f64 = number.trim_end_matches('.').parse().ok()?;
    let unit = unit.trim_start();
    let factor = match unit {
        _ if unit.starts_with("ms") || unit.starts_with("millisecond") => 0.001,
        _ if unit.starts_with('m') => 60.0,
        _ if unit.starts_with('h') => 3600.0,
        _ => 1.0,
    };
    Some(number * factor)
}

/// What a bare refusal means for the person who reads it.
fn explanation(status: u16, kind: Kind, message: &str) -> Option<&'static str> {
    match kind {
        _ if status == 466 => {
            Some("Copilot no longer serves the client version that this proxy presents; update the proxy")
        }
        Kind::Payment => Some("the Copilot quota of this account is used up, or its billing is not set up"),
        Kind::Forbidden if message.contains("Terms of Service") || message.contains("endpoint is forbidden") => {
            Some("GitHub has blocked this account from Copilot")
        }
        Kind::Forbidden if message.contains("policy") => Some("a policy of the organization forbids this"),
        _ => None,
    }
}

/// What a status is called, where upstream says nothing else.
fn reason(status: u16) -> String {
    let name = http::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason());
    name.map_or_else(|| format!("upstream answered with status {status}"), str::to_owned)
}

fn capped(text: &str) -> Cow<'_, str> {
    if text.len() <= LONGEST {
        return Cow::Borrowed(text);
    }
    let end = (0..=LONGEST).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    Cow::Owned(text[..end].to_owned())
}

/// The text without anything shaped like a credential.
fn redacted(text: &str) -> String {
    let is_edge = |letter: char| letter.is_whitespace() || "\"'`,()<>{}[]".contains(letter);
    let mut clean = String::with_capacity(text.len());
    let mut after_bearer = false;
    for piece in text.split_inclusive(is_edge) {
        let word = piece.trim_end_matches(is_edge);
        let secret = is_secret(word) || after_bearer && word.len() >= 16;
        clean.push_str(if secret { "[redacted]" } else { word });
        clean.push_str(&piece[word.len()..]);
        if !word.is_empty() {
            after_bearer = word.eq_ignore_ascii_case("bearer");
        }
    }
    clean
}

fn is_secret(word: &str) -> bool {
    const GITHUB: [&str; 6] = ["ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"];
    let long_after = |mark: &str| word.split_once(mark).is_some_and(|(_, rest)| rest.len() >= 16);
    let is_copilot = word.contains("tid=") && word.contains("exp=");
    let is_jwt = word.starts_with("eyJ") && word.matches('.').count() == 2;
    GITHUB.iter().any(|mark| long_after(mark)) || is_copilot || is_jwt
}

#[cfg(test)]
mod tests;
