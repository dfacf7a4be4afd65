//! State: one file per actor. No HTTP, no JSON shapes of requests.
//!
//! Each file reads in the same order: its states in words, its messages, the plain state that holds the rules, then the
//! actor, which asks the state what to do and does it. [`Actors`] is what the rest of the house holds: addresses, what
//! some of the actors publish so that a request needs no message (one costs a wake of another thread), and a closed
//! mailbox turned into [`Stopped`] once.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix::dev::ToEnvelope;
use actix::{Actor, Addr, Handler, Message};
use serde_json::Value;
use tokio::sync::oneshot;

pub mod approval;
pub mod archive;
pub mod catalog;
pub mod memory;
pub mod quota;
pub mod rate_limiter;
pub mod recorder;
pub mod token;

use approval::{ApprovalActor, Ask, Submit, Verdict};
use archive::ArchiveActor;
use catalog::{CatalogActor, GetCatalog};
use memory::MemoryActor;
use quota::QuotaActor;
use rate_limiter::{Acquire, Permit, RateLimiterActor, Refused};
use recorder::{Collect, Exchange, RecorderActor};
use token::{Credential, ExchangeError, GetCredential, TokenActor};

use crate::protocol::catalog::Catalog;

/// The addresses of all actors, and what some of them publish.
#[derive(Clone)]
pub struct Actors {
    pub token: Addr<TokenActor>,
    pub catalog: Addr<CatalogActor>,
    pub rate_limiter: Addr<RateLimiterActor>,
    pub approval: Addr<ApprovalActor>,
    pub memory: Addr<MemoryActor>,
    pub recorder: Addr<RecorderActor>,
    pub quota: Addr<QuotaActor>,
    /// Only where responses are kept.
    pub archive: Option<Addr<ArchiveActor>>,
    pub published: Published,
}

/// What changes seldom and every request needs.
#[derive(Clone, Debug)]
pub struct Published {
    pub credential: token::Published,
    pub catalog: catalog::Published,
    pub facts: memory::Published,
    /// Where calls take their permits, if nothing limits them.
    pub free: Option<rate_limiter::Free>,
    pub records: recorder::Tray,
}

/// An actor is gone. It does not come back: the process has to be started anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a part of the proxy has stopped")]
pub struct Stopped;

impl Actors {
    /// Asks an actor and waits for its answer.
    pub async fn ask<A, M>(&self, actor: &Addr<A>, message: M) -> Result<M::Result, Stopped>
    where
        A: Actor + Handler<M>,
        A::Context: ToEnvelope<A, M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        actor.send(message).await.map_err(|_| Stopped)
    }

    /// The credential in force, or the answer of the actor where none is.
    pub async fn credential(&self) -> Result<Result<Arc<Credential>, ExchangeError>, Stopped> {
        let in_force = self.published.credential.borrow().clone();
        match in_force.filter(|credential| !credential.is_over()) {
            Some(credential) => Ok(Ok(credential)),
            None => self.ask(&self.token, GetCredential).await,
        }
    }

    /// The list of models, or the answer of the actor where there is none yet.
    pub async fn catalog(&self) -> Result<Result<Arc<Catalog>, String>, Stopped> {
        let current = self.published.catalog.borrow().clone();
        match current {
            Some(list) => Ok(Ok(list)),
            None => self.ask(&self.catalog, GetCatalog).await,
        }
    }

    /// What upstream taught us about a model.
    pub fn facts(&self, model: &str) -> BTreeMap<String, Value> {
        self.published.facts.borrow().get(model).cloned().unwrap_or_default()
    }

    /// Asks for responses that were kept; `None` where none ever is.
    pub async fn archived<M>(&self, message: M) -> Result<Option<M::Result>, Stopped>
    where
        ArchiveActor: Handler<M>,
        <ArchiveActor as Actor>::Context: ToEnvelope<ArchiveActor, M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        match &self.archive {
            Some(archive) => self.ask(archive, message).await.map(Some),
            None => Ok(None),
        }
    }

    /// Waits for a person's verdict; dropping the future withdraws the question.
    pub async fn approve(&self, ask: Ask) -> Result<Verdict, Stopped> {
        let (caller, verdict) = oneshot::channel();
        self.approval.send(Submit(ask, caller)).await.map_err(|_| Stopped)?;
        verdict.await.map_err(|_| Stopped)
    }

    /// Waits for the right to make one call; dropping the future leaves the line.
    pub async fn acquire(&self) -> Result<Result<Permit, Refused>, Stopped> {
        if let Some(free) = &self.published.free {
            return Ok(Ok(free.enter()));
        }
        let (caller, permit) = oneshot::channel();
        self.rate_limiter.send(Acquire(caller)).await.map_err(|_| Stopped)?;
        permit.await.map_err(|_| Stopped)
    }

    /// Lays down for the recorder how far a request has come.
    pub fn record(&self, exchange: Exchange) {
        if self.published.records.lay(exchange) {
            self.recorder.do_send(Collect);
        }
    }

    /// Whether every actor still runs.
    pub fn connected(&self) -> bool {
        self.token.connected()
            && self.catalog.connected()
            && self.rate_limiter.connected()
            && self.approval.connected()
            && self.memory.connected()
            && self.recorder.connected()
            && self.quota.connected()
            && self.archive.as_ref().is_none_or(Addr::connected)
    }
}
