//! Who may ask for what, checked in Copilot's order: the bearer, the editor, faults and quota, the model, its endpoint,
//! the size of the prompt, images. Knows no protocol's details.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use actix_web::rt::time::sleep;
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use serde_json::Value;

use super::faults::{Effects, Fault, Instead, What, no_quota, overflow};
use super::mind::Conversation;
use super::models::multiplier;
use super::reply::{self, Refusal};
use super::seals;
use super::state::{Bearer, State};
use super::usage::Weight;
use crate::protocol::Protocol;
use crate::protocol::catalog::Model;

/// Programs that Copilot knows.
const INTEGRATIONS: [&str; 6] = [
    "vscode-chat",
    "copilot-developer-cli",
    "copilot-chat",
    "vscode-nes",
    "jetbrains-chat",
    "visualstudio-chat",
];

/// `{}`, compressed with gzip.
const EMPTY_OBJECT: &[u8] =
    b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff\x01\x02\x00\xfd\xff{}C\xbf\xa6\xa3\x02\x00\x00\x00";

/// A request that was let in, and paid for.
pub struct Pass {
    pub caller: Caller,
    pub model: Arc<Model>,
    pub effects: Effects,
    pub weight: Weight,
    /// Prompt tokens seen before.
    pub cached: u64,
}

/// Who asks, as the head of the request says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    pub seat: usize,
    /// A person caused the request; an agent's steps are not charged.
    pub pays: bool,
    /// Images are announced.
    pub vision: bool,
}

impl Caller {
    /// Authenticates the request, and reads who caused it.
    pub fn of(state: &State, request: &HttpRequest) -> Result<Self, Refusal> {
        Ok(Self {
            seat: authenticate(state, request)?,
            pays: header(request, "x-initiator") != "agent",
            vision: header(request, "copilot-vision-request").eq_ignore_ascii_case("true"),
        })
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Door {
    /// Its name for planned faults.
    pub name: &'static str,
    pub protocol: Protocol,
    /// Whether an answer is written, and paid for.
    pub generates: bool,
    pub path: &'static str,
}

impl From<Refusal> for Instead {
    fn from(refusal: Refusal) -> Self {
        Self::Refusal(refusal)
    }
}

/// Keeps the request for whoever tests.
pub fn record(state: &State, request: &HttpRequest, body: &Bytes) {
    state.requests.fetch_add(1, Ordering::Relaxed);
    state.recorder().record(request, body.clone());
}

/// Records what was asked at a door, and answers it, or tells what comes in place of an answer.
pub async fn serve(
    state: &State,
    request: &HttpRequest,
    body: &Bytes,
    answer: impl Future<Output = Result<HttpResponse, Instead>>,
) -> HttpResponse {
    record(state, request, body);
    match answer.await {
        Ok(response) => response,
        Err(other) => instead(state, request, other).await,
    }
}

/// Keeps a frame of a socket likewise.
pub fn record_frame(state: &State, path: &str, frame: Bytes) {
    state.requests.fetch_add(1, Ordering::Relaxed);
    state.recorder().record_frame(path, frame);
}

/// A header's value, empty if it is missing or not text.
pub fn header<'a>(request: &'a HttpRequest, name: &str) -> &'a str {
    let value = request.headers().get(name);
    value.and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// The credential in `Authorization`, whichever scheme it has.
pub fn credential(request: &HttpRequest) -> &str {
    let value = header(request, "authorization");
    value.split_once(' ').map_or("", |(_, credential)| credential.trim())
}

/// Marks the connection a request came by.
pub fn connection(request: &HttpRequest) -> u64 {
    let port = request.peer_addr().map_or(0, |address| address.port());
    seals::mix(u64::from(port) + 1)
}

/// Whose request it is.
pub fn authenticate(state: &State, request: &HttpRequest) -> Result<usize, Refusal> {
    let mut memory = state.memory();
    let scheme = header(request, "authorization").split(' ').next().unwrap_or_default();
    let bearer = if scheme.eq_ignore_ascii_case("bearer") {
        memory.bearer(credential(request), Instant::now())
    } else {
        Bearer::Unknown
    };
    let (seat, exchanged) = match bearer {
        Bearer::Exchanged(seat) => (seat, true),
        Bearer::Direct(seat) => (seat, false),
        Bearer::Expired => return Err(Refusal::text(401, "IDE token expired: unauthorized: token expired")),
        Bearer::Personal if credential(request).starts_with("github_pat_") => {
            let message = "unauthorized: Personal Access Token does not have Copilot Requests permission";
            return Err(Refusal::text(401, message));
        }
        Bearer::Personal => {
            return Err(Refusal::text(
                400,
                "checking third-party user token: bad request: Personal Access Tokens are not supported for this \
                 endpoint",
            ));
        }
        Bearer::Unknown => return Err(Refusal::text(401, "unauthorized: invalid token")),
    };
    if memory
        .host
        .as_deref()
        .is_some_and(|host| host != header(request, "host"))
    {
        return Err(Refusal::text(421, "Misdirected Request"));
    }
    let editor = header(request, "editor-version");
    if exchanged && editor.is_empty() {
        return Err(Refusal::text(
            400,
            "bad request: missing Editor-Version header for IDE auth",
        ));
    }
    if exchanged && !editor.contains('/') {
        return Err(Refusal::text(
            400,
            "bad request: unknown Editor-Version header for IDE auth",
        ));
    }
    let integration = header(request, "copilot-integration-id");
    if !integration.is_empty() && !INTEGRATIONS.contains(&integration) {
        return Err(Refusal::text(400, "unknown Copilot-Integration-Id"));
    }
    Ok(seat)
}

/// A fault planned for an endpoint that has no prompt.
pub async fn planned_only(state: &State, name: &str) -> Result<(), Instead> {
    let planned = state.memory().planned(name);
    let Some(what) = planned else {
        return Ok(());
    };
    let mut effects = Effects::default();
    apply(what, &mut effects, Protocol::Chat);
    wait(&effects).await;
    effects.instead.map_or(Ok(()), Err)
}

fn apply(what: What, effects: &mut Effects, protocol: Protocol) {
    match what {
        What::Named(fault) => {
            fault.apply(effects, protocol);
        }
        What::Reply(refusal) => effects.instead = Some(Instead::Refusal(refusal)),
    }
}

/// Everything after the bearer.
pub fn admit(state: &State, caller: &Caller, door: Door, body: &Value, talk: &Conversation) -> Result<Pass, Instead> {
    let weight = Weight::of(door.protocol, body);
    let mut memory = state.memory();
    let effects = effects(&mut memory, door, talk);
    let id = body["model"].as_str().unwrap_or_default();
    let model = memory.models.get(id);
    let cost = match &model {
        Some(model) if door.generates && caller.pays => multiplier(model),
        _ => 0.0,
    };
    let chats = if door.generates && caller.pays { 1.0 } else { 0.0 };
    if let Some(seat) = memory.seats.get(caller.seat) {
        if !seat.chat.allows(chats) {
            return Err(no_quota("free_quota_exceeded").into());
        }
        if !seat.premium.allows(cost) {
            return Err(no_quota("quota_exceeded").into());
        }
    }
    if let Some(instead) = effects.instead {
        return Err(instead);
    }
    let model = known(model, door)?;
    if memory.plan.is_free() && !is_free(&model) {
        return Err(not_supported().into());
    }
    fits(&weight, &model, door)?;
    has_vision(&weight, &model, caller, door)?;
    let cached = if door.generates {
        memory.seen(&weight.parts).cached
    } else {
        0
    };
    Ok(Pass {
        caller: *caller,
        model,
        effects,
        weight,
        cached,
    })
}

/// What is to go wrong: what was planned, and what the prompt asks for.
fn effects(memory: &mut super::state::Memory, door: Door, talk: &Conversation) -> Effects {
    let mut effects = Effects::default();
    effects.pace.delay = memory.settings.event_delay;
    let (_, prompt) = talk.last_human();
    for fault in Fault::in_text(&prompt) {
        if !fault.is_once() || memory.first_time(mark(door.name, &fault.name, &prompt)) {
            fault.apply(&mut effects, door.protocol);
        }
    }
    if let Some(what) = memory.planned(door.name) {
        apply(what, &mut effects, door.protocol);
    }
    effects
}

fn mark(door: &str, fault: &str, prompt: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hash = DefaultHasher::new();
    (door, fault, prompt).hash(&mut hash);
    hash.finish()
}

/// The model, if it exists, is enabled, and answers at this endpoint.
fn known(model: Option<Arc<Model>>, door: Door) -> Result<Arc<Model>, Refusal> {
    let Some(model) = model.filter(|model| model.policy == "enabled") else {
        return Err(not_supported());
    };
    let speaks = match door.name {
        "embeddings" => model.endpoints.embeddings,
        "websocket" => model.endpoints.websocket,
        _ => model.speaks(door.protocol),
    };
    if !speaks {
        let message = format!(
            "model \"{}\" is not accessible via the {} endpoint",
            model.id, door.path
        );
        return Err(Refusal::copilot(400, "unsupported_api_for_model", message));
    }
    Ok(model)
}

fn not_supported() -> Refusal {
    Refusal::openai("model_not_supported", "model", "The requested model is not supported.")
}

/// Whether free plans may use the model.
fn is_free(model: &Model) -> bool {
    let plans = model.raw["billing"]["restricted_to"].as_array();
    plans.is_none_or(|plans| plans.is_empty() || plans.iter().any(|plan| plan == "free"))
}

fn fits(weight: &Weight, model: &Model, door: Door) -> Result<(), Refusal> {
    match model.limits.prompt {
        Some(limit) if door.generates && weight.total() > limit => Err(overflow(door.protocol, weight.total(), limit)),
        _ => Ok(()),
    }
}

/// Images need the header, and a model that can see that many.
fn has_vision(weight: &Weight, model: &Model, caller: &Caller, door: Door) -> Result<(), Refusal> {
    if weight.images == 0 || !door.generates {
        return Ok(());
    }
    if !caller.vision {
        let message = "missing required Copilot-Vision-Request header for vision requests";
        return Err(Refusal::copilot(400, "", message));
    }
    if !model.supports.vision {
        let message = "vision is not supported by this model";
        return Err(Refusal::copilot(400, "invalid_request_body", message));
    }
    match model.limits.images {
        Some(most) if weight.images > most => {
            let message = format!("too many images: {} > {most}", weight.images);
            Err(Refusal::copilot(400, "invalid_request_body", message))
        }
        _ => Ok(()),
    }
}

/// Charges a seat for an answer that is about to be written.
pub fn charge(state: &State, pass: &Pass) {
    if !pass.caller.pays {
        return;
    }
    let mut memory = state.memory();
    if let Some(seat) = memory.seats.get_mut(pass.caller.seat) {
        seat.chat.charge(1.0);
        seat.premium.charge(multiplier(&pass.model));
    }
}

/// The quota headers that stand on every answer of a model.
pub fn quota_headers(state: &State, seat: usize) -> Vec<(&'static str, String)> {
    let memory = state.memory();
    let Some(seat) = memory.seats.get(seat) else {
        return Vec::new();
    };
    let window = "ent=0&ov=0.0&ovPerm=false&rem=95.9&rst=2030-01-01T00%3A00%3A00Z";
    vec![
        ("x-quota-snapshot-chat", seat.chat.header()),
        (
            "x-quota-snapshot-completions",
            super::plans::Counter::default().header(),
        ),
        ("x-quota-snapshot-premium_interactions", seat.premium.header()),
        ("x-usage-ratelimit-session", window.to_owned()),
        ("x-usage-ratelimit-weekly", window.to_owned()),
    ]
}

/// Answers with what comes in place of an answer.
pub async fn instead(state: &State, request: &HttpRequest, instead: Instead) -> HttpResponse {
    match instead {
        Instead::Refusal(mut refusal) => {
            if refusal.status == 402 {
                let seat = authenticate(state, request).unwrap_or(usize::MAX);
                for (name, value) in quota_headers(state, seat) {
                    refusal = refusal.with_header(name, value);
                }
            }
            refusal.response(request)
        }
        Instead::Page => reply::head(request, 200)
            .content_type("text/html")
            .body("<!doctype html><title>Maintenance</title><p>We will be back.</p>\n"),
        Instead::Nothing => reply::head(request, 200).finish(),
        Instead::Compressed => reply::head(request, 200)
            .content_type("application/json")
            .insert_header(("content-encoding", "gzip"))
            .body(EMPTY_OBJECT),
        Instead::Silence => {
            let _open = state.open_stream();
            std::future::pending().await
        }
    }
}

/// The pause before a late head.
pub async fn wait(effects: &Effects) {
    if !effects.wait.is_zero() {
        sleep(effects.wait).await;
    }
}

/// A body that is a JSON object.
pub fn object(body: &[u8]) -> Result<Value, Refusal> {
    let body: Option<Value> = serde_json::from_slice(body).ok();
    body.filter(Value::is_object)
        .ok_or_else(|| Refusal::copilot(400, "invalid_request_body", "the request body is not a JSON object"))
}
