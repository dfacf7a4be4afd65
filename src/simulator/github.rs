//! GitHub: the device flow, the exchange of tokens, accounts and their quota. Knows nothing of models.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use serde_json::{Value, json};

use super::faults::Instead;
use super::gate;
use super::plans;
use super::reply::{self, Refusal};
use super::seals;
use super::state::{Device, Outcome, State, issue_github_token, may_exchange};

/// Apps that GitHub knows.
const CLIENTS: [&str; 5] = [
    "Iv1.b507a08c87ecfe98",
    "01ab8ac9400c4e429b23",
    super::state::OPENCODE,
    "Iv23ctfURkiMfJ4xr5mv",
    "Ov23liV9UpD7Rnfnskm3",
];

/// A code is good for about a quarter of an hour.
const CODE_LIFETIME: Duration = Duration::from_secs(899);

/// Polls may come this much early: clocks and networks jitter.
const GRACE: Duration = Duration::from_millis(100);

/// `POST /login/device/code`.
pub async fn device_code(request: HttpRequest, body: Bytes, state: web::Data<State>) -> HttpResponse {
    gate::record(&state, &request, &body);
    if let Err(instead) = gate::planned_only(&state, "device").await {
        return gate::instead(&state, &request, instead).await;
    }
    let asked = fields(&request, &body);
    let client = asked["client_id"].as_str().unwrap_or_default();
    if !CLIENTS.contains(&client) {
        return Refusal::json(404, json!({"error": "Not Found"})).rest_response(&request);
    }
    let code = seals::fresh_hex(40);
    let word = seals::fresh_hex(8).to_ascii_uppercase();
    let mut memory = state.memory();
    let interval = memory.settings.device_interval;
    memory.devices.insert(
        code.clone(),
        Device {
            client: client.to_owned(),
            polls: 0,
            last_poll: None,
            interval,
            expires: Instant::now() + CODE_LIFETIME,
            used: false,
        },
    );
    drop(memory);
    let answer = json!({
        "device_code": code,
        "expires_in": CODE_LIFETIME.as_secs(),
        "interval": whole_seconds(interval),
        "user_code": format!("{}-{}", word.get(..4).unwrap_or_default(), word.get(4..).unwrap_or_default()),
        "verification_uri": format!("{}/login/device", state.url()),
    });
    flow_answer(&request, answer)
}

/// `GET /login/device`: where a person would enter the code.
pub async fn device_page() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .body("<!doctype html><title>Device</title><p>This simulator approves every code by itself.</p>\n")
}

/// `POST /login/oauth/access_token`.
pub async fn access_token(request: HttpRequest, body: Bytes, state: web::Data<State>) -> HttpResponse {
    gate::record(&state, &request, &body);
    if let Err(instead) = gate::planned_only(&state, "access_token").await {
        return gate::instead(&state, &request, instead).await;
    }
    let asked = fields(&request, &body);
    let answer = poll(&state, &asked, Instant::now());
    flow_answer(&request, answer)
}

/// One poll of a device code; everything is told with status 200.
fn poll(state: &State, asked: &Value, now: Instant) -> Value {
    let mut memory = state.memory();
    memory.polls += 1;
    if asked["grant_type"] != "urn:ietf:params:oauth:grant-type:device_code" {
        return failure("unsupported_grant_type");
    }
    let (outcome, approve_after) = (memory.outcome, memory.settings.approve_after_polls);
    let Some(device) = memory
        .devices
        .get_mut(asked["device_code"].as_str().unwrap_or_default())
    else {
        return failure("incorrect_device_code");
    };
    if asked["client_id"] != device.client.as_str() {
        return failure("incorrect_client_credentials");
    }
    if device.used {
        return failure("incorrect_device_code");
    }
    if now >= device.expires {
        return failure("expired_token");
    }
    let last = device.last_poll.replace(now);
    if last.is_some_and(|last| now.duration_since(last) + GRACE < device.interval) {
        device.interval += Duration::from_secs(5);
        let mut answer = failure("slow_down");
        answer["interval"] = json!(whole_seconds(device.interval));
        return answer;
    }
    device.polls += 1;
    if device.polls <= approve_after || outcome == Outcome::Pending {
        return failure("authorization_pending");
    }
    device.used = true;
    match outcome {
        Outcome::Deny => failure("access_denied"),
        Outcome::Expire => failure("expired_token"),
        Outcome::Approve | Outcome::Pending => {
            let scope = if device.client.starts_with("Iv") {
                ""
            } else {
                "read:user"
            };
            json!({"access_token": issue_github_token(&device.client), "scope": scope, "token_type": "bearer"})
        }
    }
}

fn failure(error: &str) -> Value {
    json!({
        "error": error,
        "error_description": format!("The device flow says: {error}."),
        "error_uri": "https://docs.github.com/developers/apps/authorizing-oauth-apps#error-codes-for-the-device-flow",
    })
}

/// A body in JSON or form-encoded.
fn fields(request: &HttpRequest, body: &Bytes) -> Value {
    if gate::header(request, "content-type").contains("json") {
        return serde_json::from_slice(body).unwrap_or_default();
    }
    let pairs = web::Query::<Vec<(String, String)>>::from_query(std::str::from_utf8(body).unwrap_or_default());
    let pairs = pairs.map(web::Query::into_inner).unwrap_or_default();
    Value::Object(
        pairs
            .into_iter()
            .map(|(name, value)| (name, Value::String(value)))
            .collect(),
    )
}

/// JSON for who asks for it, form encoding for the rest.
fn flow_answer(request: &HttpRequest, answer: Value) -> HttpResponse {
    if gate::header(request, "accept").contains("json") {
        return rest_answer(request, answer);
    }
    let pairs: Vec<String> = answer
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            format!("{name}={}", percent_encoded(&text))
        })
        .collect();
    reply::head(request, 200)
        .content_type("application/x-www-form-urlencoded; charset=utf-8")
        .body(pairs.join("&"))
}

fn percent_encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

fn rest_answer(request: &HttpRequest, answer: Value) -> HttpResponse {
    reply::head(request, 200)
        .content_type("application/json; charset=utf-8")
        .insert_header(("x-ratelimit-limit", "5000"))
        .insert_header(("x-ratelimit-remaining", "4999"))
        .body(answer.to_string())
}

fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// Seconds since 1970.
pub fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// The seat whose GitHub token came along.
fn seat(state: &State, request: &HttpRequest) -> Result<usize, Refusal> {
    let credential = gate::credential(request);
    let error = match credential {
        token if token.starts_with("ghp_") || token.starts_with("github_pat_") => "wrong_oauth_app",
        _ => "bad_credentials",
    };
    state.memory().seat_of(credential).ok_or_else(|| rest_error(error))
}

fn rest_error(name: &str) -> Refusal {
    let (status, headers, body) = plans::exchange_error(name);
    let refusal = Refusal::json(status, body);
    headers
        .into_iter()
        .fold(refusal, |refusal, (name, value)| refusal.with_header(&name, value))
}

/// `GET /copilot_internal/v2/token`.
pub async fn exchange(request: HttpRequest, state: web::Data<State>) -> HttpResponse {
    rest(&request, &state, "token", exchanged).await
}

/// `GET /copilot_internal/user`.
pub async fn account(request: HttpRequest, state: web::Data<State>) -> HttpResponse {
    let account = |state: &State, request: &HttpRequest| {
        let seat = seat(state, request)?;
        Ok(state.account(seat))
    };
    rest(&request, &state, "user", account).await
}

/// `GET /user`.
pub async fn user(request: HttpRequest, state: web::Data<State>) -> HttpResponse {
    let user = |state: &State, request: &HttpRequest| {
        let seat = seat(state, request)?;
        Ok(state.github_user(seat))
    };
    rest(&request, &state, "github_user", user).await
}

/// An answer of the REST interface, or what was planned in its place.
async fn rest(
    request: &HttpRequest,
    state: &State,
    name: &str,
    answer: impl FnOnce(&State, &HttpRequest) -> Result<Value, Refusal>,
) -> HttpResponse {
    gate::record(state, request, &Bytes::new());
    match gate::planned_only(state, name).await {
        Ok(()) => match answer(state, request) {
            Ok(answer) => rest_answer(request, answer),
            Err(refusal) => refusal.rest_response(request),
        },
        Err(Instead::Refusal(refusal)) => refusal.rest_response(request),
        Err(other) => gate::instead(state, request, other).await,
    }
}

fn exchanged(state: &State, request: &HttpRequest) -> Result<Value, Refusal> {
    let agent = gate::header(request, "user-agent");
    if agent.is_empty() || agent.starts_with("Go-http-client") {
        return Err(rest_error("go_http_client"));
    }
    let seat = seat(state, request)?;
    if !may_exchange(gate::credential(request)) {
        return Err(rest_error("wrong_oauth_app"));
    }
    let mut memory = state.memory();
    let error = memory.exchange_error.as_deref().or(memory.plan.exchange_error());
    match error {
        Some(error) => Err(rest_error(error)),
        None => Ok(memory.exchange(seat, state.url(), unix_now(), Instant::now())),
    }
}
