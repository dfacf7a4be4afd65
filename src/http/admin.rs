//! The admin API: what the dashboard shows and decides. No prompts. Knows who may ask; not how anything is shown.
//!
//! | request | answer |
//! |---|---|
//! | `GET /admin/status` | version, whether clients need a key, readiness with its reason, the credential's state and age, calls under way and waiting, why the usage cannot be had, what upstream has taught us of its models |
//! | `GET /admin/requests?after=REVISION` | the latest requests that changed after a revision, each with its phase (`waiting_for_approval`, `queued`, `upstream`, `streaming`, `ended`); the revision, the time, sums since the start |
//! | `GET /admin/models` | the models with limits, price and the route each client would take |
//! | `GET /admin/approvals` | the requests that wait for a person, oldest first; `[]` when none do |
//! | `POST /admin/approvals/{id}` with `{"decision": "approve" \| "deny"}` | `200`, `404` unknown, `400` bad body, `409` already decided |
//! | `POST /admin/session` with `{"key": KEY}` | the dashboard's cookie; `401` for another key |
//!
//! Without a configured key only programs on this machine are answered; with one, whoever shows it, or the cookie.
//! What changes something is taken as JSON only, and from no page but our own.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use actix_web::body::{EitherBody, MessageBody};
use actix_web::cookie::{Cookie, SameSite, time};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderValue};
use actix_web::middleware::{Next, from_fn};
use actix_web::{Error, HttpRequest, HttpResponse, web};
use serde::Deserialize;
use serde_json::{Value, json};

use super::catalogue;
use super::{Doors, Settings, body, caller, door, error, guard, models, page, status};
use crate::actors::approval::{Decide, Decision, GetPending};
use crate::actors::recorder::GetNews;
use crate::actors::{Stopped, catalog, quota, rate_limiter, token};
use crate::protocol::Protocol;
use crate::protocol::catalog::Model;
use crate::protocol::failure::{Failure, Kind};
use crate::routing::{self, Needs};

/// When the first worker was set up.
static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The largest body that decides or signs in.
const MAX_BODY: usize = 64 << 10;
/// How long a browser keeps its cookie.
const COOKIE_DAYS: i64 = 30;

pub fn routes(config: &mut web::ServiceConfig) {
    LazyLock::force(&STARTED);
    config.service(
        web::scope("/admin")
            .wrap(from_fn(gate))
            .service(page("/status", status_of_all))
            .service(page("/requests", requests))
            .service(page("/models", list_models))
            .service(page("/approvals", approvals))
            .service(door("/approvals/{id}", Method::POST, decide))
            .service(door("/session", Method::POST, open_session)),
    );
}

/// Middleware: who may ask here at all. The key, where one is set, has been seen before.
async fn gate(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<EitherBody<impl MessageBody>>, Error> {
    let allowed = match request.app_data::<web::Data<Doors>>() {
        Some(doors) => may_enter(request.request(), &doors.settings),
        None => Ok(()),
    };
    let mut response = match allowed {
        Ok(()) => next.call(request).await?.map_into_left_body(),
        Err(failure) => {
            let refused = refuse(request.request(), &failure);
            request.into_response(refused).map_into_right_body()
        }
    };
    let no_store = HeaderValue::from_static("no-store");
    response.headers_mut().insert(header::CACHE_CONTROL, no_store);
    Ok(response)
}

fn may_enter(request: &HttpRequest, settings: &Settings) -> Result<(), Failure> {
    let forbidden = |code: &str, sentence: &str| Err(Failure::new(Kind::Forbidden, sentence).with_code(code));
    if settings.api_key.is_none() && !is_local(request, settings) {
        let sentence = "without a key the admin API answers this machine only; set server.api_key to open it to others";
        return forbidden("loopback_only", sentence);
    }
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(());
    }
    if !guard::is_own_origin(request.headers()) {
        return forbidden("origin_not_allowed", "only the dashboard's own page may decide here");
    }
    // A form on a foreign page can send anything but this type.
    if request.headers().contains_key(header::CONTENT_TYPE) {
        Ok(())
    } else {
        let sentence = "the request body must say that it is application/json";
        Err(Failure::new(Kind::UnsupportedMedia, sentence))
    }
}

/// Whether a program on this machine asks, and by a name of this machine: a page elsewhere can make a name of its own
/// lead here. What a proxy in front passes on is not local.
pub(super) fn is_local(request: &HttpRequest, settings: &Settings) -> bool {
    let headers = request.headers();
    let forwarded = ["forwarded", "x-forwarded-for", "x-real-ip"]
        .iter()
        .any(|name| headers.contains_key(*name));
    let peer = request.peer_addr().map(|peer| peer.ip().to_canonical());
    !forwarded && peer.is_some_and(|peer| peer.is_loopback()) && guard::is_local_host(headers, settings)
}

/// The admin API speaks one envelope, whoever asks.
fn refuse(request: &HttpRequest, failure: &Failure) -> HttpResponse {
    error::response(request, Protocol::Chat, failure)
}

fn answer(request: &HttpRequest, answered: Result<Value, Failure>) -> HttpResponse {
    match answered {
        Ok(value) => HttpResponse::Ok().json(value),
        Err(failure) => refuse(request, &failure),
    }
}

fn stopped(stopped: Stopped) -> Failure {
    Failure::new(Kind::Unavailable, format!("{stopped}; restart it"))
}

async fn status_of_all(request: HttpRequest, doors: web::Data<Doors>) -> HttpResponse {
    let actors = doors.relay.actors();
    let asked = async {
        let token = actors.ask(&actors.token, token::GetSnapshot).await.map_err(stopped)?;
        let list = actors
            .ask(&actors.catalog, catalog::GetSnapshot)
            .await
            .map_err(stopped)?;
        let gate = actors
            .ask(&actors.rate_limiter, rate_limiter::GetSnapshot)
            .await
            .map_err(stopped)?;
        let usage_error = actors.ask(&actors.quota, quota::LastError).await.map_err(stopped)?;
        let reason = status::why_not_ready(actors).await;
        let secs = |time: Option<Duration>| time.map(|time| time.as_secs());
        Ok(json!({
            "version": status::VERSION,
            "uptime_secs": STARTED.elapsed().as_secs(),
            "keyed": doors.settings.api_key.is_some(),
            "ready": reason.is_none(),
            "reason": reason,
            "token": {
                "state": token.state,
                "age_secs": secs(token.age),
                "expires_in_secs": secs(token.expires_in),
                "exchanges": token.exchanges,
                "last_error": token.last_error,
            },
            "models": {"count": list.models, "last_error": list.last_error},
            "usage": {"last_error": usage_error},
            "calls": {
                "running": gate.running,
                "waiting": gate.waiting,
                "granted": gate.granted,
                "refused": gate.refused,
            },
            "learned": *actors.published.facts.borrow(),
        }))
    };
    answer(&request, asked.await)
}

#[derive(Deserialize)]
struct After {
    #[serde(default)]
    after: u64,
}

async fn requests(request: HttpRequest, doors: web::Data<Doors>) -> HttpResponse {
    let query = web::Query::<After>::from_query(request.query_string());
    let after = query.map_or(0, |query| query.after);
    let actors = doors.relay.actors();
    let news = actors.ask(&actors.recorder, GetNews { after }).await;
    match news {
        Ok(news) => HttpResponse::Ok().json(news),
        Err(error) => refuse(&request, &stopped(error)),
    }
}

async fn list_models(request: HttpRequest, doors: web::Data<Doors>) -> HttpResponse {
    let listed = doors.relay.catalog().await.map(|catalog| {
        let models = catalog.models().iter();
        let listed = models.filter(|model| catalogue::is_listed(model, models::choice(&doors)));
        listed.map(|model| describe(model)).collect()
    });
    answer(&request, listed.map_err(Failure::from))
}

fn describe(model: &Model) -> Value {
    let route = |client| {
        let ways = routing::ways(client, model, &Needs::default());
        ways.ok().and_then(|ways| ways.first().map(|way| way.name()))
    };
    json!({
        "id": model.id,
        "name": model.name,
        "vendor": model.vendor,
        "preview": model.preview,
        "policy": model.policy,
        "context_window": model.limits.context,
        "max_prompt_tokens": model.limits.prompt,
        "max_output_tokens": model.limits.output,
        "multiplier": model.raw["billing"]["multiplier"],
        "token_prices": prices(&model.raw["billing"]["token_prices"]),
        "routes": {
            "messages": route(Protocol::Messages),
            "chat": route(Protocol::Chat),
            "responses": route(Protocol::Responses),
        },
    })
}

/// AI credits for a million tokens, of the tier that short prompts pay; `null` where no price is told.
fn prices(told: &Value) -> Value {
    let tier = if told["default"].is_object() {
        &told["default"]
    } else {
        told
    };
    let batch = told["batch_size"].as_f64().filter(|&batch| batch > 0.0);
    let price = |names: &[&str]| {
        let price = names.iter().find_map(|name| tier[*name].as_f64())?;
        Some(price * 1e6 / batch.unwrap_or(1e6))
    };
    let input = price(&["input_price"]);
    let output = price(&["output_price"]);
    if input.is_none() && output.is_none() {
        return Value::Null;
    }
    json!({"input": input, "cached": price(&["cache_read_price", "cache_price"]), "output": output})
}

async fn approvals(request: HttpRequest, doors: web::Data<Doors>) -> HttpResponse {
    let actors = doors.relay.actors();
    match actors.ask(&actors.approval, GetPending).await {
        Ok(pending) => HttpResponse::Ok().json(pending),
        Err(error) => refuse(&request, &stopped(error)),
    }
}

async fn decide(
    request: HttpRequest,
    id: web::Path<String>,
    payload: web::Payload,
    doors: web::Data<Doors>,
) -> HttpResponse {
    let decided = async {
        let sent = body::object(request.headers(), payload.into_inner(), MAX_BODY).await?;
        let approve = match sent.object.get("decision").and_then(Value::as_str) {
            Some("approve") => true,
            Some("deny") => false,
            _ => {
                return Err(Failure::bad("decision", r#"decision: must be "approve" or "deny""#));
            }
        };
        let unknown = || Failure::new(Kind::NotFound, format!("no request {} waits for approval", shown(&id)));
        let id = id.parse().map_err(|_| unknown())?;
        let actors = doors.relay.actors();
        let decision = actors.ask(&actors.approval, Decide { id, approve }).await;
        match decision.map_err(stopped)? {
            Decision::Taken => Ok(json!({"id": id, "decision": if approve { "approve" } else { "deny" }})),
            Decision::Unknown => Err(unknown()),
            Decision::AlreadyDecided => {
                let sentence = format!("request {id} has been decided, or its client has left");
                Err(Failure::new(Kind::Conflict, sentence).with_code("already_decided"))
            }
        }
    };
    let decided = decided.await;
    answer(&request, decided)
}

fn shown(id: &str) -> String {
    id.chars().take(40).collect()
}

/// Gives the dashboard its cookie for the key.
async fn open_session(request: HttpRequest, payload: web::Payload, doors: web::Data<Doors>) -> HttpResponse {
    let sent = match body::object(request.headers(), payload.into_inner(), MAX_BODY).await {
        Ok(sent) => sent,
        Err(failure) => return refuse(&request, &failure),
    };
    let mut opened = HttpResponse::Ok();
    if let Some(key) = &doors.settings.api_key {
        let shown = sent.object.get("key").and_then(Value::as_str).unwrap_or_default();
        if !caller::same(shown, key.expose()) {
            return refuse(
                &request,
                &Failure::new(Kind::Unauthorized, "that is not this proxy's key"),
            );
        }
        opened.cookie(session_cookie(key.expose()));
    }
    opened.json(json!({"status": "ok"}))
}

fn session_cookie(key: &str) -> Cookie<'static> {
    Cookie::build(caller::COOKIE, caller::token_of(key))
        .path("/")
        .http_only(true)
        .same_site(SameSite::Strict)
        .max_age(time::Duration::days(COOKIE_DAYS))
        .finish()
}
