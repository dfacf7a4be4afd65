//! Settings in, running proxy out: starts the actors, binds, reports its port, drains. Knows every floor's constructor;
//! no argv.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actix::{Actor, Addr};
use actix_web::HttpServer;
use actix_web::dev::ServerHandle;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::actors::approval::{ApprovalActor, Asker, Attach};
use crate::actors::archive::ArchiveActor;
use crate::actors::catalog::{CatalogActor, FetchError, GetCatalog};
use crate::actors::memory::MemoryActor;
use crate::actors::quota::{GetUsage, QuotaActor};
use crate::actors::rate_limiter::RateLimiterActor;
use crate::actors::recorder::RecorderActor;
use crate::actors::token::{ExchangeError, Exchanged, GetCredential, Invalidate, TokenActor};
use crate::actors::{Actors, Published};
use crate::config::{self, Settings};
use crate::http::{self, Doors};
use crate::protocol::catalog::Catalog;
use crate::relay::Relay;
use crate::secret::Secret;
use crate::translate::upstream_failure;
use crate::upstream::copilot::{Access, Call, Endpoint};
use crate::upstream::github::RefusalKind;
use crate::upstream::{self, Copilot, GitHub, Setup, github};

mod signals;

pub use signals::Signals;

/// What a proxy is started with.
pub struct Options {
    pub settings: Settings,
    pub github_token: Secret,
    /// Makes the one who asks for verdicts on the terminal, if there is one.
    pub asker: Option<MakeAsker>,
}

pub type MakeAsker = Box<dyn FnOnce(Addr<ApprovalActor>) -> Box<dyn Asker + Send>>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot listen on {address}")]
    Bind { address: String, source: std::io::Error },
    #[error(transparent)]
    Upstream(#[from] upstream::Error),
}

impl Error {
    fn bind((host, port): (&str, u16), source: std::io::Error) -> Self {
        let address = format!("{host}:{port}");
        Self::Bind { address, source }
    }

    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Bind { source, .. } => match source.kind() {
                std::io::ErrorKind::AddrInUse => {
                    Some("another program, or another proxy, uses that port; choose one with --port".into())
                }
                std::io::ErrorKind::PermissionDenied => {
                    Some("ports below 1024 are reserved; choose another with --port".into())
                }
                std::io::ErrorKind::AddrNotAvailable => {
                    Some("this machine has no such address; choose one of its own with --host".into())
                }
                _ => None,
            },
            Self::Upstream(_) => None,
        }
    }
}

/// A proxy that listens.
pub struct Running {
    pub address: SocketAddr,
    pub actors: Actors,
    server: JoinHandle<std::io::Result<()>>,
    handle: ServerHandle,
    draining: watch::Sender<bool>,
    closing: watch::Sender<bool>,
    grace: Duration,
}

/// How a proxy that has just started stands.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub login: Option<String>,
    pub plan: Option<String>,
    /// GitHub's word on plan and quotas.
    pub usage: Option<Value>,
    /// The models that people may choose.
    pub models: Vec<String>,
    /// Why it cannot serve yet.
    pub problem: Option<String>,
    /// The problem is the GitHub token: waiting will not help.
    pub refused: bool,
}

/// Before the last moment by this much, streams are told that they end.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Connections that wait to be accepted.
const BACKLOG: u32 = 2048;
/// Coding clients come back within a minute; reconnecting costs them a round trip.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// A client that does not finish the head of its request.
const SLOW_HEAD: Duration = Duration::from_secs(10);

/// How often a worker that may have nothing to do stirs its allocator.
const STIR: Duration = Duration::from_secs(2);

/// Whether a server could listen there now, so that nobody signs in for a proxy that cannot start.
pub fn check_address(settings: &config::Server) -> Result<(), Error> {
    let address = (settings.host.as_str(), settings.port);
    let bound = std::net::TcpListener::bind(address);
    bound.map(drop).map_err(|source| Error::bind(address, source))
}

/// Starts everything and listens.
pub async fn start(options: Options) -> Result<Running, Error> {
    let Options {
        settings,
        github_token,
        asker,
    } = options;
    let setup = Setup::new(settings.upstream.clone())?;
    raise_file_limit();
    let actors = start_actors(&settings, &setup, github_token);
    if let Some(make) = asker {
        actors.approval.do_send(Attach(make(actors.approval.clone())));
    }
    let (draining, drained) = watch::channel(false);
    let (closing, closed) = watch::channel(false);
    let doors = Arc::new(settings.http.clone());
    let (relay, of_workers) = (settings.relay.clone(), actors.clone());
    let grace = settings.server.shutdown_grace;
    let mut builder = HttpServer::new(move || {
        actix_rt::spawn(give_memory_back());
        let relay = Relay::new(Copilot::new(&setup), of_workers.clone(), relay.clone(), closed.clone());
        http::app(Doors {
            relay,
            settings: doors.clone(),
            draining: drained.clone(),
        })
    });
    if let Some(workers) = settings.server.workers {
        builder = builder.workers(workers);
    }
    let address = (settings.server.host.as_str(), settings.server.port);
    let bound = builder
        .backlog(BACKLOG)
        .tcp_nodelay(true)
        .keep_alive(KEEP_ALIVE)
        .client_request_timeout(SLOW_HEAD)
        // A client that is gone is noticed at once, also while upstream is silent; one that half-closes is not served.
        .h1_allow_half_closed(false)
        .shutdown_timeout(grace.as_secs().max(1))
        .disable_signals()
        .bind(address);
    let bind = |source| Error::bind(address, source);
    let builder = bound.map_err(bind)?;
    let address = builder
        .addrs()
        .first()
        .copied()
        .ok_or_else(|| bind(std::io::ErrorKind::AddrNotAvailable.into()))?;
    let server = builder.run();
    let handle = server.handle();
    Ok(Running {
        address,
        actors,
        // It serves from its first poll on, which must not wait for whoever waits for its end.
        server: actix_rt::spawn(server),
        handle,
        draining,
        closing,
        grace,
    })
}

impl Running {
    /// Waits until the proxy can serve, or for so long, and tells how it stands. It serves meanwhile.
    pub async fn ready(&self, patience: Duration) -> Report {
        let standing = async {
            let credential = self.actors.token.send(GetCredential).await;
            let usage = self.actors.quota.send(GetUsage).await.ok().and_then(Result::ok);
            let mut report = Report::default();
            if let Some(usage) = usage {
                let text = |key: &str| usage[key].as_str().map(str::to_owned);
                (report.login, report.plan) = (text("login"), text("copilot_plan"));
                report.usage = Some(Value::clone(&usage));
            }
            if let Ok(Err(why)) = credential {
                (report.problem, report.refused) = (Some(why.message), why.refused);
                return report;
            }
            match self.actors.catalog.send(GetCatalog).await {
                Ok(Ok(catalog)) => report.models = offered(&catalog),
                Ok(Err(why)) => report.problem = Some(why),
                Err(_) => report.problem = Some("a part of the proxy has stopped".into()),
            }
            report
        };
        let late = || Report {
            problem: Some("upstream has not answered yet".into()),
            ..Report::default()
        };
        tokio::time::timeout(patience, standing)
            .await
            .unwrap_or_else(|_| late())
    }

    /// A handle to stop the server from elsewhere, gracefully or at once.
    pub fn handle(&self) -> ServerHandle {
        self.handle.clone()
    }

    /// Serves until a signal comes, then lets streams finish.
    pub async fn wait(mut self, mut signals: Signals) -> std::io::Result<Ending> {
        tokio::select! {
            ended = &mut self.server => return flat(ended),
            () = signals.stop() => {}
        }
        self.finish(signals).await
    }

    /// Lets streams finish; a signal ends it at once.
    pub async fn finish(mut self, mut signals: Signals) -> std::io::Result<Ending> {
        log::info!("shutting down; running answers have {} s", self.grace.as_secs());
        let _ = self.draining.send(true);
        actix_rt::spawn(self.handle.stop(true));
        let last_words = self.grace.saturating_sub(LAST_WORDS);
        tokio::select! {
            ended = &mut self.server => return flat(ended),
            () = signals.stop() => {}
            () = tokio::time::sleep(last_words) => {
                let _ = self.closing.send(true);
                tokio::select! {
                    ended = &mut self.server => return flat(ended),
                    () = signals.stop() => {}
                }
            }
        }
        log::warn!("stopping at once");
        Ok(Ending::Cut)
    }
}

/// Lets the allocator tidy up: memory that was freed goes back to the system a second later, but only on the occasion of
/// another large piece. Without this, a proxy that has nothing to do would keep what its last load took.
async fn give_memory_back() {
    const LARGE: usize = 1 << 20;
    let mut clock = tokio::time::interval(STIR);
    loop {
        clock.tick().await;
        // Never written to, so it takes no memory itself.
        drop(std::hint::black_box(Vec::<u8>::with_capacity(LARGE)));
    }
}

/// How a proxy came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Every answer under way was finished, or told that it ends.
    Drained,
    /// A second signal came first.
    Cut,
}

fn flat(ended: Result<std::io::Result<()>, tokio::task::JoinError>) -> std::io::Result<Ending> {
    let ended = ended.unwrap_or_else(|broken| Err(std::io::Error::other(broken)));
    ended.map(|()| Ending::Drained)
}

/// The ids of the models that people may choose.
fn offered(catalog: &Catalog) -> Vec<String> {
    let offered = catalog
        .models()
        .iter()
        .filter(|model| model.picker && model.policy == "enabled");
    offered.map(|model| model.id.clone()).collect()
}

fn start_actors(settings: &Settings, setup: &Setup, github_token: Secret) -> Actors {
    let (github, copilot) = (GitHub::new(setup), Copilot::new(setup));
    let token = {
        let (github, secret, settings) = (github.clone(), github_token.clone(), settings.upstream.clone());
        let exchange = move || {
            let (github, secret, settings) = (github.clone(), secret.clone(), settings.clone());
            Box::pin(async move {
                let got = github.exchange(&secret).await;
                got.map(|got| exchanged(got, &settings)).map_err(exchange_error)
            }) as _
        };
        TokenActor::new(Rc::new(exchange), chance)
    };
    let credential = token.published();
    let token = token.start();
    let catalog = {
        let (token, overrides) = (token.clone(), Rc::new(settings.models.overrides.clone()));
        let fetch = move || {
            let (token, copilot, overrides) = (token.clone(), copilot.clone(), overrides.clone());
            Box::pin(async move {
                let list = fetch_models(&token, &copilot).await?;
                Ok(list.map(|model| {
                    if let Some(endpoints) = overrides.get(&model.id) {
                        model.endpoints = *endpoints;
                    }
                }))
            }) as _
        };
        CatalogActor::new(Rc::new(fetch), settings.models.refresh)
    };
    let memory = MemoryActor::default();
    let rate_limiter = RateLimiterActor::new(settings.rate_limit);
    let recorder = RecorderActor::default();
    let published = Published {
        credential,
        catalog: catalog.published(),
        facts: memory.published(),
        free: rate_limiter.published(),
        records: recorder.published(),
    };
    let usage = move || {
        let (github, secret) = (github.clone(), github_token.clone());
        Box::pin(async move { github.usage(&secret).await.map_err(|error| error.to_string()) }) as _
    };
    Actors {
        token,
        catalog: catalog.start(),
        rate_limiter: rate_limiter.start(),
        approval: ApprovalActor::new(settings.approval).start(),
        memory: memory.start(),
        recorder: recorder.start(),
        quota: QuotaActor::new(Rc::new(usage)).start(),
        archive: settings.keeps_responses.then(|| ArchiveActor::default().start()),
        published,
    }
}

fn exchanged(got: github::CopilotToken, settings: &upstream::Settings) -> Exchanged {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let refresh_in = Duration::from_secs(got.refresh_in);
    // The end is given by GitHub's clock. Where ours disagrees by minutes, the advice to refresh is what can be trusted.
    let by_clock = Duration::from_secs(got.expires_at.saturating_sub(now));
    let slack = refresh_in..refresh_in + Duration::from_secs(600);
    let valid_for = if slack.contains(&by_clock) {
        by_clock
    } else {
        refresh_in + Duration::from_secs(60)
    };
    Exchanged {
        token: got.token,
        base_url: settings.copilot_base(got.api.as_deref()),
        valid_for,
        refresh_in,
    }
}

fn exchange_error(error: github::Error) -> ExchangeError {
    let refusal = error.refusal();
    let mut message = error.to_string();
    if let Some(url) = refusal.and_then(|refusal| refusal.url.as_ref()) {
        message.push_str(&format!(" (see {url})"));
    }
    let retry_after = refusal.and_then(|refusal| refusal.retry_after);
    let refused =
        refusal.is_some_and(|refusal| matches!(refusal.kind, RefusalKind::SignedOut | RefusalKind::WrongToken));
    ExchangeError {
        message,
        permanent: error.is_permanent(),
        refused,
        unreached: refusal.is_none(),
        retry_after,
    }
}

const MAX_CATALOG: usize = 8 << 20;

async fn fetch_models(token: &Addr<TokenActor>, copilot: &Copilot) -> Result<Catalog, FetchError> {
    let asked = token.send(GetCredential).await.map_err(FetchError::unreached)?;
    let credential = asked.map_err(FetchError::unreached)?;
    let access = Access {
        token: credential.token.clone(),
        base_url: credential.base_url.clone(),
    };
    let call = Call {
        request_id: uuid::Uuid::new_v4().to_string(),
        ..Call::new(Endpoint::Models)
    };
    let answer = copilot.send(&access, &call).await.map_err(FetchError::unreached)?;
    let (status, headers, success) = (answer.status, answer.headers.clone(), answer.is_success());
    let body = answer.whole(MAX_CATALOG).await.map_err(FetchError::unreached)?;
    if !success {
        let why = upstream_failure::read(status, &headers, &body).message;
        if matches!(status, 401 | 403 | 421) {
            token.do_send(Invalidate {
                generation: credential.generation,
                why: why.clone(),
            });
        }
        return Err(FetchError::refused(format!("copilot answered {status}: {why}")));
    }
    let list = serde_json::from_slice(&body).map_err(|_| FetchError::refused("copilot's list of models is no JSON"))?;
    let catalog = Catalog::read(&list);
    if catalog.is_empty() {
        Err(FetchError::refused("copilot's list of models is empty"))
    } else {
        Ok(catalog)
    }
}

/// A number in 0..1.
fn chance() -> f64 {
    let (number, _) = uuid::Uuid::new_v4().as_u64_pair();
    (number >> 11) as f64 / (1u64 << 53) as f64
}

/// A stream holds two sockets; the usual soft limit of 1024 files is soon reached.
fn raise_file_limit() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit, setrlimit};
        let mut limit = getrlimit(Resource::Nofile);
        if limit.current < limit.maximum || limit.maximum.is_none() {
            limit.current = limit.maximum;
            // The system's own limit stays in force where it refuses.
            let _ = setrlimit(Resource::Nofile, limit);
        }
    }
}
