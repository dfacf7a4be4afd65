//! The models of one seat, as a snapshot that all may hold. Knows when to ask again; not what a model is.
//!
//! ```text
//! empty ── first list ──→ current ── every few minutes ──→ current, or the old one where the list is down
//! ```

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{
    Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, MessageResult, ResponseFuture, WrapFuture,
};
use futures_util::future::LocalBoxFuture;
use tokio::sync::{oneshot, watch};

use crate::protocol::catalog::Catalog;

/// Fetches the list, or says in one sentence why it cannot be had.
pub type Fetch = Rc<dyn Fn() -> LocalBoxFuture<'static, Result<Catalog, FetchError>>>;

/// Why there is no list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchError {
    pub message: String,
    /// Nobody was there to say no: asking again costs nobody anything.
    pub unreached: bool,
}

impl FetchError {
    /// Upstream could not be asked, or broke off.
    pub fn unreached(why: impl ToString) -> Self {
        Self {
            message: why.to_string(),
            unreached: true,
        }
    }

    /// Upstream answered, and not with a list.
    pub fn refused(why: impl ToString) -> Self {
        Self {
            message: why.to_string(),
            unreached: false,
        }
    }
}

/// The current list. Waits for the first one, and then never again.
#[derive(Debug, Message)]
#[rtype(result = "Result<Arc<Catalog>, String>")]
pub struct GetCatalog;

/// Asks upstream now.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Refresh;

#[derive(Debug, Message)]
#[rtype(result = "Snapshot")]
pub struct GetSnapshot;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub models: usize,
    pub last_error: Option<String>,
}

/// The current list, once there is one.
pub type Published = watch::Receiver<Option<Arc<Catalog>>>;

type Waiter = oneshot::Sender<Result<Arc<Catalog>, String>>;

/// Keeps the list of models.
pub struct CatalogActor {
    fetch: Fetch,
    every: Duration,
    current: watch::Sender<Option<Arc<Catalog>>>,
    last_error: Option<String>,
    failures: u32,
    fetching: bool,
    waiters: Vec<Waiter>,
}

const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(120);
/// While upstream cannot be reached and nobody can be served.
const LONGEST_OUTAGE_PAUSE: Duration = Duration::from_secs(30);

impl CatalogActor {
    pub fn new(fetch: Fetch, every: Duration) -> Self {
        Self {
            fetch,
            every,
            current: watch::Sender::new(None),
            last_error: None,
            failures: 0,
            fetching: false,
            waiters: Vec::new(),
        }
    }

    pub fn published(&self) -> Published {
        self.current.subscribe()
    }

    fn refresh(&mut self, context: &mut Context<Self>) {
        if std::mem::replace(&mut self.fetching, true) {
            return;
        }
        let list = (self.fetch)();
        context.spawn(
            list.into_actor(self)
                .map(|list, actor, context| actor.settle(list, context)),
        );
    }

    fn settle(&mut self, list: Result<Catalog, FetchError>, context: &mut Context<Self>) {
        self.fetching = false;
        let again = match list {
            Ok(list) => {
                self.failures = 0;
                self.last_error = None;
                self.current.send_replace(Some(Arc::new(list)));
                self.every
            }
            Err(why) => {
                log::warn!("failed to fetch the list of models: {}", why.message);
                self.failures = self.failures.saturating_add(1);
                let longest = match why.unreached && self.current.borrow().is_none() {
                    true => LONGEST_OUTAGE_PAUSE,
                    false => LONGEST_PAUSE,
                };
                self.last_error = Some(why.message);
                pause_after(self.failures).min(longest).min(self.every)
            }
        };
        let answer = self.answer();
        for waiter in self.waiters.drain(..) {
            let _ = waiter.send(answer.clone());
        }
        context.run_later(again, |actor, context| actor.refresh(context));
    }

    fn answer(&self) -> Result<Arc<Catalog>, String> {
        let why = || {
            self.last_error
                .clone()
                .unwrap_or_else(|| "the list of models is being fetched".into())
        };
        self.current.borrow().clone().ok_or_else(why)
    }
}

/// 2 s, doubled with each failure.
fn pause_after(failures: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(10))
}

impl Actor for CatalogActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(1024);
        self.refresh(context);
    }
}

impl Handler<GetCatalog> for CatalogActor {
    type Result = ResponseFuture<Result<Arc<Catalog>, String>>;

    fn handle(&mut self, _: GetCatalog, _: &mut Self::Context) -> Self::Result {
        if self.current.borrow().is_none() && self.fetching {
            let (answer, waiter) = oneshot::channel();
            self.waiters.retain(|waiter| !waiter.is_closed());
            self.waiters.push(answer);
            return Box::pin(async { waiter.await.unwrap_or_else(|_| Err("the proxy is stopping".into())) });
        }
        let answer = self.answer();
        Box::pin(async { answer })
    }
}

impl Handler<Refresh> for CatalogActor {
    type Result = ();

    fn handle(&mut self, _: Refresh, context: &mut Self::Context) {
        self.refresh(context);
    }
}

impl Handler<GetSnapshot> for CatalogActor {
    type Result = MessageResult<GetSnapshot>;

    fn handle(&mut self, _: GetSnapshot, _: &mut Self::Context) -> Self::Result {
        let models = self.current.borrow().as_ref().map_or(0, |list| list.models().len());
        MessageResult(Snapshot {
            models,
            last_error: self.last_error.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use serde_json::json;

    use super::*;

    #[actix_web::test]
    async fn the_old_list_outlives_a_failure() {
        let calls = Rc::new(Cell::new(0));
        let counted = calls.clone();
        let fetch: Fetch = Rc::new(move || {
            counted.set(counted.get() + 1);
            let first = counted.get() == 1;
            Box::pin(async move {
                if first {
                    Ok(Catalog::read(&json!({"data": [{"id": "a"}]})))
                } else {
                    Err(FetchError::refused("down"))
                }
            })
        });
        let actor = CatalogActor::new(fetch, Duration::from_secs(600));
        let published = actor.published();
        let actor = actor.start();
        let asks = (0..10).map(|_| actor.send(GetCatalog));
        let lists = futures_util::future::join_all(asks).await;
        assert!(lists.into_iter().all(|list| list.unwrap().unwrap().get("a").is_some()));
        assert_eq!(calls.get(), 1);
        assert!(published.borrow().as_ref().is_some_and(|list| list.get("a").is_some()));
        actor.send(Refresh).await.unwrap();
        tokio::task::yield_now().await;
        assert!(actor.send(GetCatalog).await.unwrap().is_ok());
        assert_eq!(
            actor.send(GetSnapshot).await.unwrap(),
            Snapshot {
                models: 1,
                last_error: Some("down".into())
            }
        );
    }

    #[actix_web::test]
    async fn without_a_list_the_reason_is_told() {
        let fetch: Fetch = Rc::new(|| Box::pin(async { Err(FetchError::unreached("down")) }));
        let actor = CatalogActor::new(fetch, Duration::from_secs(600)).start();
        assert_eq!(actor.send(GetCatalog).await.unwrap().unwrap_err(), "down");
    }

    /// When the list is asked for, in seconds, while every answer is this.
    async fn asked_at(answer: FetchError) -> Vec<u64> {
        let asked = Rc::new(RefCell::new(Vec::new()));
        let (noted, start) = (asked.clone(), tokio::time::Instant::now());
        let fetch: Fetch = Rc::new(move || {
            noted.borrow_mut().push(start.elapsed().as_secs());
            let answer = answer.clone();
            Box::pin(async { Err(answer) })
        });
        let _actor = CatalogActor::new(fetch, Duration::from_secs(600)).start();
        tokio::time::sleep(Duration::from_secs(300)).await;
        asked.take()
    }

    #[actix_web::test]
    async fn failures_space_themselves_out_and_an_outage_is_noticed_to_be_over() {
        tokio::time::pause();
        assert_eq!(
            asked_at(FetchError::refused("no")).await,
            [0, 2, 6, 14, 30, 62, 126, 246]
        );
        assert_eq!(
            asked_at(FetchError::unreached("down")).await,
            [0, 2, 6, 14, 30, 60, 90, 120, 150, 180, 210, 240, 270]
        );
    }
}
