//! A Copilot of our own: GitHub's sign-in, its REST interface and Copilot's own, on one port, strict as the real ones.
//! Imports only `protocol`, so that it stays an independent witness.
//!
//! # The stand-in model
//!
//! Every model of the catalogue answers, always in the same way to the same words. It quotes what a person last said;
//! where an answer of a JSON schema is wanted, it gives a small one that fits. When tools are on offer and the person
//! plainly wishes for one, it calls the client's own tool, whatever its name and arguments are:
//!
//! ```text
//! please run: echo hi
//! please write note.txt: hello
//! please read note.txt
//! please patch note.txt: one\ntwo
//! please patch note.txt: one => 1
//! please search: tallest tower
//! please call get_weather {"city": "Oslo"}
//! ```
//!
//! Several wishes, on lines of their own or joined by `then`, are fulfilled one after the other; with the last result
//! in hand, it reports `The tool answered: …`. A patch makes a new file, or puts lines in the place of others; `\n` begins
//! another line. A search is the service's own where the request offers that one, and then it is also what becomes of a
//! request that offers nothing else. Of images and documents it says how many it sees. Recent models of Responses make
//! a history short when its last item asks for it. Requests that turn reasoning on get some, sealed, and its seals are
//! checked when they come back. Usage is estimated from real sizes, a repeated beginning counts as cached.
//!
//! # What goes wrong on demand
//!
//! `[[sim:NAME key=value]]` in the prompt, or `POST /_sim/fault`; the names are listed in `faults.rs`.
//!
//! | control | does |
//! |---|---|
//! | `POST /_sim/fault` | plans a fault: an answer, or one of the names |
//! | `POST /_sim/settings` | changes settings, below |
//! | `GET /_sim/requests?since=N` | what was asked, secrets left out |
//! | `GET /_sim/stats` | exchanges, polls, open streams, requests |
//! | `POST /_sim/reset` | everything as at the start |
//!
//! ```text
//! {"endpoint": "chat", "status": 429, "headers": {"retry-after": "7"}, "body": {"error": {…}}, "times": 2}
//! {"endpoint": "messages", "fault": "cut after=2"}
//! ```
//!
//! Settings, times in seconds: `token_lifetime`, `refresh_in`, `expire_tokens` (true: now), `exchange_error` (one of
//! GitHub's notifications), `revoked`, `plan` (a name in `fixtures/user.json`), `quota`, `overage_permitted`, `device`
//! (`approve`, `deny`, `expire`, `pending`), `approve_after_polls`, `device_interval`, `host` (the only one that CAPI
//! answers to), `models` (a whole list), `event_delay`, `socket_lifetime`, `strict_ids`.
//!
//! Endpoints for faults: `chat`, `responses`, `websocket`, `upgrade`, `messages`, `count_tokens`, `embeddings`,
//! `models`, `token`, `user`, `github_user`, `device`, `access_token`, or `*`.
//!
//! # The map
//!
//! ```text
//! github ─┐
//! models ─┤                    ┌─ mind     what to say
//! chat, responses, messages ───┼─ checks   what is refused
//!        └─ deeds              │
//! websocket, embeddings ───────┤─ gate     who may ask
//! control ─┐                   └─ delivery, playback   how it comes
//!          └─ state, recorder, faults, plans, usage, seals, reply
//! ```

mod chat;
mod checks;
mod control;
mod deeds;
mod delivery;
mod embeddings;
mod faults;
mod gate;
mod github;
mod messages;
mod mind;
mod models;
mod plans;
mod playback;
mod recorder;
mod reply;
mod responses;
mod seals;
mod state;
mod usage;
mod websocket;

use std::net::SocketAddr;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};

use reply::Refusal;
use state::State;

/// A GitHub token that the simulator accepts without any sign-in. So does it every other that begins alike; each is an
/// account of its own.
pub const DEMO_GITHUB_TOKEN: &str = "ghu_simulatorDemoAccount000000000000000";

/// The largest body that is read.
const MOST_BYTES: usize = 32 << 20;

/// How the simulator behaves.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub host: String,
    /// Zero is any free port.
    pub port: u16,
    pub workers: usize,
    /// How others reach it, where that is not host and port.
    pub public_url: Option<String>,
    pub token_lifetime: Duration,
    pub refresh_in: Duration,
    /// A device code is approved after this many polls that found it pending.
    pub approve_after_polls: u32,
    /// The least time between two polls.
    pub device_interval: Duration,
    /// Before each event of a stream.
    pub event_delay: Duration,
    /// How long a socket is served.
    pub socket_lifetime: Duration,
    /// The plan of every account, by the name of its sample.
    pub plan: String,
    /// Ids of items are good only on the connection that issued them.
    pub strict_ids: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 0,
            workers: 1,
            public_url: None,
            token_lifetime: Duration::from_secs(1800),
            refresh_in: Duration::from_secs(1500),
            approve_after_polls: 3,
            device_interval: Duration::from_secs(1),
            event_delay: Duration::ZERO,
            socket_lifetime: Duration::from_secs(3600),
            plan: "individual_paid".to_owned(),
            strict_ids: true,
        }
    }
}

/// A running simulator.
pub struct Simulator {
    /// Where it is reached: GitHub, its REST interface and Copilot alike.
    pub url: String,
    handle: ServerHandle,
    state: web::Data<State>,
}

impl Simulator {
    /// Ends it, and every stream with it.
    pub async fn stop(self) {
        self.handle.stop(false).await;
    }

    /// The requests after number `since`, as `GET /_sim/requests` shows them.
    pub fn requests(&self, since: u64) -> Vec<serde_json::Value> {
        self.state.recorder().since(since)
    }

    /// Answers under way.
    pub fn open_streams(&self) -> usize {
        self.state.open_streams()
    }
}

/// Binds, and serves from then on, on the current actix system.
pub async fn start(settings: Settings) -> std::io::Result<Simulator> {
    let state = web::Data::new(State::new(settings.clone()));
    let served = state.clone();
    let server = HttpServer::new(move || App::new().app_data(served.clone()).configure(routes))
        .workers(settings.workers.max(1))
        .backlog(2048)
        .tcp_nodelay(true)
        .h1_allow_half_closed(false)
        .keep_alive(Duration::from_secs(75))
        .disable_signals()
        .shutdown_timeout(1)
        .bind((settings.host.as_str(), settings.port))?;
    let address = server.addrs().first().copied();
    let address = address.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::AddrNotAvailable))?;
    let url = settings.public_url.unwrap_or_else(|| reachable(address));
    state.set_url(url.clone());
    let server = server.run();
    let handle = server.handle();
    actix_web::rt::spawn(server);
    Ok(Simulator { url, handle, state })
}

/// An address for a program on the same machine.
fn reachable(address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        format!("http://127.0.0.1:{}", address.port())
    } else {
        format!("http://{address}")
    }
}

/// Every path that is served.
fn routes(config: &mut web::ServiceConfig) {
    config
        .app_data(web::PayloadConfig::new(MOST_BYTES))
        .service(web::scope("/_sim").configure(control::routes))
        .route("/login/device/code", web::post().to(github::device_code))
        .route("/login/device", web::get().to(github::device_page))
        .route("/login/oauth/access_token", web::post().to(github::access_token))
        .route("/user", web::get().to(github::user))
        .route("/copilot_internal/v2/token", web::get().to(github::exchange))
        .route("/copilot_internal/user", web::get().to(github::account))
        .route("/_ping", web::get().to(ping))
        .route("/models", web::get().to(models::list))
        .route("/models/{id}/policy", web::post().to(models::set_policy))
        .route("/chat/completions", web::post().to(chat::complete))
        .route("/responses", web::post().to(responses::respond))
        .route("/responses", web::get().to(websocket::connect))
        .route("/v1/messages", web::post().to(messages::create))
        .route("/v1/messages/count_tokens", web::post().to(messages::count_tokens))
        .route("/embeddings", web::post().to(embeddings::embed))
        .default_service(web::to(not_found));
}

async fn ping() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/plain; charset=utf-8")
        .body("OK\n")
}

async fn not_found(request: HttpRequest) -> HttpResponse {
    Refusal::text(404, "404 page not found").response(&request)
}

#[cfg(test)]
mod tests;
