//! The simulator's own door, `/_sim/…`: settings, faults, what was asked. Only for whoever tests.

use std::time::{Duration, Instant};

use actix_web::{HttpResponse, web};
use serde_json::{Value, json};

use super::faults::Planned;
use super::plans::Plan;
use super::state::{Memory, Outcome, State};

/// The largest body that is read.
const MOST_BYTES: usize = 4 << 20;

pub fn routes(config: &mut web::ServiceConfig) {
    // Whatever it is called: `curl -d` names everything a form.
    let json = web::JsonConfig::default().limit(MOST_BYTES).content_type(|_| true);
    config
        .app_data(json.content_type_required(false))
        .route("/fault", web::post().to(fault))
        .route("/settings", web::post().to(settings))
        .route("/requests", web::get().to(requests))
        .route("/stats", web::get().to(stats))
        .route("/reset", web::post().to(reset));
}

fn refused(message: &str) -> HttpResponse {
    HttpResponse::BadRequest().json(json!({"error": message}))
}

/// Plans a fault: `{"endpoint", "status", "headers", "body", "times"}`, or `{"endpoint", "fault": "cut after=2"}`.
async fn fault(body: web::Json<Value>, state: web::Data<State>) -> HttpResponse {
    match Planned::read(&body) {
        Ok(fault) => {
            state.memory().plan_fault(fault);
            HttpResponse::Ok().json(json!({"ok": true}))
        }
        Err(message) => refused(message),
    }
}

/// Changes any of the settings named in the body; one that cannot be read refuses them all from there on.
async fn settings(body: web::Json<Value>, state: web::Data<State>) -> HttpResponse {
    let Some(wanted) = body.as_object() else {
        return refused("settings are an object");
    };
    let mut memory = state.memory();
    for (name, value) in wanted {
        if set(&mut memory, name, value).is_none() {
            return refused(&format!("{name} cannot be set to {value}"));
        }
    }
    HttpResponse::Ok().json(json!({"ok": true}))
}

/// No time is longer: about thirty years.
const LONGEST: f64 = 1e9;

/// Sets one setting. Times are in seconds and may have a fraction.
fn set(memory: &mut Memory, name: &str, value: &Value) -> Option<()> {
    let time = || Duration::try_from_secs_f64(value.as_f64().filter(|time| *time < LONGEST)?).ok();
    match name {
        "token_lifetime" => memory.settings.token_lifetime = time()?,
        "refresh_in" => memory.settings.refresh_in = time()?,
        "event_delay" => memory.settings.event_delay = time()?,
        "device_interval" => memory.settings.device_interval = time()?,
        "socket_lifetime" => memory.settings.socket_lifetime = time()?,
        "approve_after_polls" => memory.settings.approve_after_polls = u32::try_from(value.as_u64()?).ok()?,
        "strict_ids" => memory.settings.strict_ids = value.as_bool()?,
        "device" => memory.outcome = Outcome::read(value.as_str()?)?,
        "plan" => {
            let plan = Plan::named(value.as_str()?)?;
            memory.settings.plan = value.as_str()?.to_owned();
            memory.set_plan(plan);
        }
        "quota" => {
            let left = value.as_f64()?;
            memory.set_premium(|premium| premium.remaining = left);
        }
        "overage_permitted" => {
            let permitted = value.as_bool()?;
            memory.set_premium(|premium| premium.overage_permitted = permitted);
        }
        "exchange_error" => memory.exchange_error = value.as_str().map(str::to_owned),
        "revoked" => memory.revoked = value.as_bool()?,
        "expire_tokens" => {
            if value.as_bool()? {
                memory.expire_tokens(Instant::now());
            }
        }
        "host" => memory.host = value.as_str().map(str::to_owned),
        "models" => {
            value["data"].as_array()?;
            memory.models.set(value.clone());
        }
        _ => return None,
    }
    Some(())
}

/// The requests after number `since`.
async fn requests(
    query: web::Query<std::collections::HashMap<String, String>>,
    state: web::Data<State>,
) -> HttpResponse {
    let since = query.get("since").and_then(|since| since.parse().ok()).unwrap_or(0);
    HttpResponse::Ok().json(json!({"requests": state.recorder().since(since)}))
}

async fn stats(state: web::Data<State>) -> HttpResponse {
    let mut stats = state.memory().stats();
    stats["open_streams"] = json!(state.open_streams());
    stats["requests"] = json!(state.requests.load(std::sync::atomic::Ordering::Relaxed));
    HttpResponse::Ok().json(stats)
}

async fn reset(state: web::Data<State>) -> HttpResponse {
    state.reset();
    HttpResponse::Ok().json(json!({"ok": true}))
}
