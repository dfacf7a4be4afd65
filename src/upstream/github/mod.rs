//! GitHub: who somebody is, what a seat may use, and the short-lived token for Copilot. Knows GitHub's shapes and what
//! its refusals mean; not when to ask again.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use awc::http::Method;
use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    Answer, Client, Phase,
    client::{Request, Setup},
    headers::{self, Header},
};
use crate::secret::Secret;

mod device;

pub use device::{DeviceFlow, DeviceStart, Polled, Step};

/// GitHub answers shortly or not at all.
const WHOLE_CALL: Duration = Duration::from_secs(30);
const MAX_BODY: usize = 1 << 20;
const SCOPE: &str = "read:user";
/// Nothing that GitHub gives or asks for lasts longer, in seconds. A larger number is a mistake, and could be too large for
/// a clock.
const LONGEST: u64 = 86_400;

/// Somebody at GitHub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub login: String,
    pub id: u64,
}

/// The credential Copilot takes, for half an hour.
#[derive(Debug, Clone)]
pub struct CopilotToken {
    pub token: Secret,
    /// Seconds since 1970, by GitHub's clock.
    pub expires_at: u64,
    /// Seconds from now until a new one should be fetched.
    pub refresh_in: u64,
    /// The address of Copilot that takes this token.
    pub api: Option<String>,
    pub sku: Option<String>,
    /// Where GitHub says `false`, Copilot refuses every chat.
    pub chat_enabled: bool,
    pub individual: Option<bool>,
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// GitHub could not be reached, or broke off.
    #[error("{0}")]
    Wire(#[from] super::Error),
    /// GitHub answered, and said no.
    #[error("{}", .0.message)]
    Refused(Refusal),
}

impl Error {
    /// Whether asking again with the same token is pointless.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Wire(super::Error::Setting(_) | super::Error::Address { .. } | super::Error::Header { .. }) => true,
            Self::Wire(_) => false,
            Self::Refused(refusal) => !matches!(
                refusal.kind,
                RefusalKind::RateLimited | RefusalKind::Trouble | RefusalKind::Garbage
            ),
        }
    }

    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Wire(_) => None,
            Self::Refused(refusal) => Some(refusal),
        }
    }
}

/// Why the exchange of a token failed: the same two ways as every call to GitHub.
pub type ExchangeError = Error;

/// GitHub's no, read into one plain sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub kind: RefusalKind,
    pub status: u16,
    /// One sentence, GitHub's own title and words included.
    pub message: String,
    /// Where GitHub sends people who want to change it.
    pub url: Option<String>,
    /// How long to wait, where GitHub says so.
    pub retry_after: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefusalKind {
    /// The GitHub token is revoked or was never valid: sign in again.
    SignedOut,
    /// The token is of a kind that gives no access to Copilot: a personal token, or another application's.
    WrongToken,
    /// The account has no usable Copilot, for the reason GitHub names.
    NoCopilot { notification_id: String },
    /// Too many calls to GitHub.
    RateLimited,
    /// GitHub is ill.
    Trouble,
    /// The answer made no sense.
    Garbage,
    /// Refused for a reason of which we know no more than the message.
    Other,
}

/// Says why a token can be seen from its form alone to be of no use.
pub fn unusable_token(token: &str) -> Option<&'static str> {
    let token = token.trim();
    if token.starts_with("ghp_") {
        Some("this is a classic personal access token (ghp_…), which Copilot does not accept")
    } else if token.starts_with("github_pat_") {
        Some("this is a fine-grained personal access token (github_pat_…), which Copilot does not accept")
    } else {
        None
    }
}

/// GitHub, as one thread sees it.
#[derive(Clone)]
pub struct GitHub {
    client: Client,
}

impl GitHub {
    pub fn new(setup: &Setup) -> Self {
        Self {
            client: Client::new(setup),
        }
    }

    /// Asks for a code that a person confirms in a browser.
    pub async fn start_device_flow(&self) -> Result<DeviceStart, Error> {
        let settings = &self.client.setup.settings;
        let (answer, body) = self
            .sign_in(
                "/login/device/code",
                json!({"client_id": settings.client_id, "scope": SCOPE}),
            )
            .await?;
        if !answer.is_success() {
            return Err(Error::Refused(refusal(&answer, &body)));
        }
        DeviceStart::parse(&body).ok_or_else(|| garbage(answer.status, "GitHub's answer holds no device code"))
    }

    /// Asks once whether the person has confirmed. What the answer means is for `DeviceFlow` to say.
    pub async fn poll_device_flow(&self, start: &DeviceStart) -> Polled {
        let question = json!({
            "client_id": self.client.setup.settings.client_id,
            "device_code": start.device_code.expose(),
            "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
        });
        match self.sign_in("/login/oauth/access_token", question).await {
            Ok((answer, body)) => Polled::Answer {
                status: answer.status,
                body,
            },
            Err(_) => Polled::Nothing,
        }
    }

    pub async fn user(&self, token: &Secret) -> Result<User, Error> {
        let (status, body) = self.rest("/user", token).await?;
        let login = body
            .get("login")
            .and_then(Value::as_str)
            .filter(|login| !login.is_empty());
        let id = body.get("id").and_then(Value::as_u64).filter(|id| *id > 0);
        match (login, id) {
            (Some(login), Some(id)) => Ok(User {
                login: login.to_string(),
                id,
            }),
            _ => Err(garbage(status, "GitHub's answer names no user")),
        }
    }

    /// Trades the GitHub token for a short-lived one that Copilot takes.
    pub async fn exchange(&self, token: &Secret) -> Result<CopilotToken, ExchangeError> {
        let (status, body) = self.rest("/copilot_internal/v2/token", token).await?;
        copilot_token(status, &body)
    }

    /// Plan and quotas, exactly as GitHub gave them.
    pub async fn usage(&self, token: &Secret) -> Result<Value, Error> {
        Ok(self.rest("/copilot_internal/user", token).await?.1)
    }

    async fn sign_in(&self, path: &str, question: Value) -> Result<(Head, Bytes), Error> {
        let settings = &self.client.setup.settings;
        let url = format!("{}{path}", settings.github_url.trim_end_matches('/'));
        let headers = headers::device_flow(settings);
        self.call(Method::POST, url, headers, Some(question.to_string().into()))
            .await
    }

    /// One question to the REST interface; whatever is not a JSON object with a 2xx is an error.
    async fn rest(&self, path: &str, token: &Secret) -> Result<(u16, Value), Error> {
        let settings = &self.client.setup.settings;
        let url = format!("{}{path}", settings.github_api_url.trim_end_matches('/'));
        let (answer, body) = self
            .call(Method::GET, url, headers::github(settings, token), None)
            .await?;
        let refused = || {
            let mut refusal = refusal(&answer, &body);
            refusal.message = refusal.message.replace(token.expose(), "[redacted]");
            Error::Refused(refusal)
        };
        if !answer.is_success() {
            return Err(refused());
        }
        match serde_json::from_slice::<Value>(&body) {
            Ok(value) if value.get("error_details").is_some_and(Value::is_object) => Err(refused()),
            Ok(value) if value.is_object() => Ok((answer.status, value)),
            _ => Err(garbage(
                answer.status,
                "GitHub's answer is not the JSON that was expected",
            )),
        }
    }

    async fn call(
        &self,
        method: Method,
        url: String,
        headers: Vec<Header>,
        body: Option<Bytes>,
    ) -> Result<(Head, Bytes), Error> {
        let request = Request {
            method,
            url,
            headers,
            body,
        };
        let whole = async {
            let answer = self.client.send(&request).await?;
            let head = Head::of(&answer);
            Ok((head, answer.whole(MAX_BODY).await?))
        };
        match tokio::time::timeout(WHOLE_CALL, whole).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::Wire(super::Error::Timeout {
                phase: Phase::Whole,
                after: WHOLE_CALL,
            })),
        }
    }
}

/// What is left of an answer once its body has been read.
struct Head {
    status: u16,
    /// When GitHub's own limit allows the next call.
    retry_after: Option<Duration>,
    limit_used_up: bool,
}

impl Head {
    fn of(answer: &Answer) -> Self {
        let limit_used_up = answer.header("x-ratelimit-remaining") == Some("0");
        let seconds = |name| answer.header(name).and_then(|value| value.trim().parse::<u64>().ok());
        let reset = || {
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .as_secs();
            seconds("x-ratelimit-reset")
                .filter(|_| limit_used_up)
                .map(|at| at.saturating_sub(now))
        };
        let retry_after = seconds("retry-after").or_else(reset);
        Self {
            status: answer.status,
            retry_after: retry_after.map(|seconds| Duration::from_secs(seconds.min(LONGEST))),
            limit_used_up,
        }
    }

    fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

fn garbage(status: u16, message: &str) -> Error {
    Error::Refused(Refusal {
        kind: RefusalKind::Garbage,
        status,
        message: message.to_string(),
        url: None,
        retry_after: None,
    })
}

/// Only the token and its two times must be there; whatever else GitHub adds or drops over time is tolerated.
fn copilot_token(status: u16, body: &Value) -> Result<CopilotToken, Error> {
    let text = |value: Option<&Value>| {
        value
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
            .map(str::to_string)
    };
    let token = text(body.get("token"));
    let expires_at = body.get("expires_at").and_then(whole_number);
    let refresh_in = body.get("refresh_in").and_then(whole_number);
    let (Some(token), Some(expires_at), Some(refresh_in)) = (token, expires_at, refresh_in) else {
        return Err(garbage(status, "GitHub's answer holds no Copilot token"));
    };
    Ok(CopilotToken {
        token: Secret::new(token),
        expires_at,
        refresh_in: refresh_in.min(LONGEST),
        api: text(body.pointer("/endpoints/api")),
        sku: text(body.get("sku")),
        chat_enabled: body.get("chat_enabled").and_then(Value::as_bool).unwrap_or(true),
        individual: body.get("individual").and_then(Value::as_bool),
    })
}

/// A number of seconds, also where it is written as `1500.0`.
fn whole_number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| {
        value
            .as_f64()
            .filter(|number| *number >= 0.0)
            .map(|number| number as u64)
    })
}

/// Reads GitHub's no. The envelope with a notification is known by its body, whatever the status.
fn refusal(head: &Head, body: &[u8]) -> Refusal {
    let json: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let details = json.get("error_details").filter(|details| details.is_object());
    let word = |value: Option<&Value>| value.and_then(Value::as_str).map(plain).filter(|text| !text.is_empty());
    let said = word(json.get("message"))
        .or_else(|| word(json.get("error_description")))
        .or_else(|| plain_text(body));
    let kind = kind(head, details, said.as_deref().unwrap_or_default());
    let message = match details {
        Some(details) => match (word(details.get("title")), word(details.get("message"))) {
            (Some(title), Some(message)) => format!("{title}: {message}"),
            (Some(only), None) | (None, Some(only)) => only,
            (None, None) => said.unwrap_or_else(|| format!("GitHub answered {}", head.status)),
        },
        None => sentence(&kind, head, said.as_deref()),
    };
    Refusal {
        kind,
        status: head.status,
        message,
        url: details.and_then(|details| word(details.get("url"))),
        retry_after: head.retry_after,
    }
}

fn kind(head: &Head, details: Option<&Value>, said: &str) -> RefusalKind {
    if let Some(details) = details {
        return match details
            .get("notification_id")
            .and_then(Value::as_str)
            .unwrap_or_default()
        {
            "server_error" => RefusalKind::Trouble,
            id => RefusalKind::NoCopilot {
                notification_id: plain(id),
            },
        };
    }
    let said = said.to_ascii_lowercase();
    match head.status {
        _ if said.contains("personal access token") => RefusalKind::WrongToken,
        401 => RefusalKind::SignedOut,
        404 => RefusalKind::WrongToken,
        429 => RefusalKind::RateLimited,
        403 if head.limit_used_up || head.retry_after.is_some() || said.contains("rate limit") => {
            RefusalKind::RateLimited
        }
        408 | 500.. => RefusalKind::Trouble,
        200..=299 => RefusalKind::Garbage,
        _ => RefusalKind::Other,
    }
}

fn sentence(kind: &RefusalKind, head: &Head, said: Option<&str>) -> String {
    let status = head.status;
    let quoted = said.map(|said| format!(": {said}")).unwrap_or_default();
    match kind {
        RefusalKind::SignedOut => format!("GitHub does not accept the token ({status}{quoted})"),
        RefusalKind::WrongToken => {
            format!("this GitHub token gives no access to Copilot; sign in to get one that does ({status}{quoted})")
        }
        RefusalKind::RateLimited => format!("GitHub's rate limit is reached ({status}{quoted})"),
        RefusalKind::Trouble => format!("GitHub has a problem ({status}{quoted})"),
        _ => format!("GitHub refused ({status}{quoted})"),
    }
}

/// A text body is worth quoting if it is a sentence, not a page.
fn plain_text(body: &[u8]) -> Option<String> {
    let text = plain(&String::from_utf8_lossy(body));
    (!text.is_empty() && !text.starts_with(['<', '{', '['])).then_some(text)
}

/// Words from outside, fit to be shown on a terminal: one line, no control characters, of bounded length.
fn plain(text: &str) -> String {
    let words = text
        .split(|c: char| c.is_control() || c.is_whitespace())
        .filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ").chars().take(500).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(status: u16) -> Head {
        Head {
            status,
            retry_after: None,
            limit_used_up: false,
        }
    }

    fn read(status: u16, body: Value) -> Refusal {
        refusal(&head(status), body.to_string().as_bytes())
    }

    #[test]
    fn a_revoked_token_is_permanent() {
        let refusal = read(401, json!({"message": "Bad credentials", "status": "401"}));
        assert_eq!(refusal.kind, RefusalKind::SignedOut);
        assert_eq!(
            refusal.message,
            "GitHub does not accept the token (401: Bad credentials)"
        );
        assert!(Error::Refused(refusal).is_permanent());
    }

    #[test]
    fn a_token_of_another_application_is_permanent() {
        let refusal = read(404, json!({"message": "Not Found"}));
        assert_eq!(refusal.kind, RefusalKind::WrongToken);
        assert!(Error::Refused(refusal).is_permanent());
    }

    #[test]
    fn the_notification_is_shown_in_githubs_words() {
        let body = json!({
            "can_signup_for_limited": true,
            "error_details": {
                "message": "You have not\nsigned up.", "notification_id": "not_signed_up",
                "title": "Sign up", "url": "https://example.com/signup"
            },
            "message": "Resource not accessible by integration"
        });
        for status in [200, 403, 500] {
            let refusal = read(status, body.clone());
            assert_eq!(
                refusal.kind,
                RefusalKind::NoCopilot {
                    notification_id: "not_signed_up".into()
                }
            );
            assert_eq!(refusal.message, "Sign up: You have not signed up.");
            assert_eq!(refusal.url.as_deref(), Some("https://example.com/signup"));
            assert!(Error::Refused(refusal).is_permanent());
        }
    }

    #[test]
    fn githubs_own_trouble_passes() {
        let body = json!({"error_details": {"message": "m", "notification_id": "server_error", "title": "t"}});
        for refusal in [read(403, body), read(500, json!("x")), read(503, json!({}))] {
            assert_eq!(refusal.kind, RefusalKind::Trouble);
            assert!(!Error::Refused(refusal).is_permanent());
        }
    }

    #[test]
    fn the_rest_rate_limit_passes_and_says_when() {
        let refusal = read(403, json!({"message": "API rate limit exceeded for user ID 1000001."}));
        assert_eq!(refusal.kind, RefusalKind::RateLimited);
        let limited = Head {
            retry_after: Some(Duration::from_secs(9)),
            limit_used_up: true,
            ..head(403)
        };
        let refusal = super::refusal(&limited, b"{}");
        assert_eq!(
            (refusal.kind.clone(), refusal.retry_after),
            (RefusalKind::RateLimited, Some(Duration::from_secs(9)))
        );
        assert!(!Error::Refused(refusal).is_permanent());
    }

    #[test]
    fn personal_tokens_are_recognised_by_text_and_by_form() {
        let text =
            b"checking third-party user token: bad request: Personal Access Tokens are not supported for this endpoint";
        assert_eq!(refusal(&head(400), text).kind, RefusalKind::WrongToken);
        assert!(unusable_token(" ghp_abc").is_some());
        assert!(unusable_token("github_pat_abc").is_some());
        assert!(unusable_token("ghu_abc").is_none());
        assert!(unusable_token("gho_abc").is_none());
    }

    #[test]
    fn other_refusals_are_final_but_pages_are_not_quoted() {
        let refusal = refusal(&head(418), b"<html>teapot</html>");
        assert_eq!(
            (refusal.kind.clone(), refusal.message.as_str()),
            (RefusalKind::Other, "GitHub refused (418)")
        );
        assert!(Error::Refused(refusal).is_permanent());
    }

    #[test]
    fn a_token_needs_only_its_three_fields() {
        let token = copilot_token(
            200,
            &json!({"token": "tid=1", "expires_at": 1893457800, "refresh_in": 1500.0}),
        )
        .unwrap();
        assert_eq!(
            (token.token.expose(), token.expires_at, token.refresh_in),
            ("tid=1", 1893457800, 1500)
        );
        assert_eq!((token.api, token.chat_enabled), (None, true));

        let full = json!({
            "token": "tid=1", "expires_at": 1, "refresh_in": 2, "sku": "monthly_subscriber_quota",
            "chat_enabled": false, "endpoints": {"api": "https://api.business.githubcopilot.com"}
        });
        let token = copilot_token(200, &full).unwrap();
        assert_eq!(token.api.as_deref(), Some("https://api.business.githubcopilot.com"));
        assert_eq!(token.sku.as_deref(), Some("monthly_subscriber_quota"));
        assert!(!token.chat_enabled);
        assert!(!format!("{token:?}").contains("tid=1"));
    }

    #[test]
    fn absurd_times_are_too_large_for_no_clock() {
        let body = json!({"token": "t", "expires_at": u64::MAX, "refresh_in": u64::MAX});
        assert_eq!(copilot_token(200, &body).unwrap().refresh_in, LONGEST);
        let answer = Answer {
            status: 429,
            headers: vec![("retry-after".into(), u64::MAX.to_string())],
            body: crate::upstream::Body::new(futures_util::stream::empty(), WHOLE_CALL),
        };
        assert_eq!(Head::of(&answer).retry_after, Some(Duration::from_secs(LONGEST)));
    }

    #[test]
    fn an_answer_without_a_token_may_be_asked_for_again() {
        for body in [
            json!({}),
            json!({"token": "", "expires_at": 1, "refresh_in": 1}),
            json!({"token": "t"}),
            json!([]),
        ] {
            assert!(!copilot_token(200, &body).unwrap_err().is_permanent(), "{body}");
        }
    }
}
