//! What GitHub says the seat has left, asked at most every few seconds however many look. Knows not what it means.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseFuture, WrapFuture};
use futures_util::future::LocalBoxFuture;
use serde_json::Value;
use tokio::sync::oneshot;

/// Fetches the usage body, or says in one sentence why it cannot be had.
pub type Fetch = Rc<dyn Fn() -> LocalBoxFuture<'static, Result<Value, String>>>;

/// The usage body as GitHub gave it, a few seconds old at most.
#[derive(Debug, Message)]
#[rtype(result = "Usage")]
pub struct GetUsage;

pub type Usage = Result<Arc<Value>, String>;

/// Why the latest question came to nothing; `None` if it came to something, or there was none.
#[derive(Debug, Message)]
#[rtype(result = "Option<String>")]
pub struct LastError;

const FRESH: Duration = Duration::from_secs(15);
/// A failure is not asked about again for this long.
const FAILED: Duration = Duration::from_secs(5);

/// Keeps the latest answer.
pub struct QuotaActor {
    fetch: Fetch,
    latest: Option<(Usage, Instant)>,
    waiters: Vec<oneshot::Sender<Usage>>,
    fetching: bool,
}

impl QuotaActor {
    pub fn new(fetch: Fetch) -> Self {
        Self {
            fetch,
            latest: None,
            waiters: Vec::new(),
            fetching: false,
        }
    }

    fn settle(&mut self, usage: Usage) {
        self.fetching = false;
        self.latest = Some((usage.clone(), now()));
        for waiter in self.waiters.drain(..) {
            let _ = waiter.send(usage.clone());
        }
    }
}

/// The answer, if it is young enough to be given again.
fn still_good((usage, since): &(Usage, Instant), now: Instant) -> Option<Usage> {
    let good_for = if usage.is_ok() { FRESH } else { FAILED };
    (now.duration_since(*since) < good_for).then(|| usage.clone())
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl Actor for QuotaActor {
    type Context = Context<Self>;
}

impl Handler<GetUsage> for QuotaActor {
    type Result = ResponseFuture<Usage>;

    fn handle(&mut self, _: GetUsage, context: &mut Self::Context) -> Self::Result {
        if let Some(usage) = self.latest.as_ref().and_then(|latest| still_good(latest, now())) {
            return Box::pin(async { usage });
        }
        let (answer, waiter) = oneshot::channel();
        self.waiters.push(answer);
        if !std::mem::replace(&mut self.fetching, true) {
            let usage = (self.fetch)();
            context.spawn(
                usage
                    .into_actor(self)
                    .map(|usage, actor, _| actor.settle(usage.map(Arc::new))),
            );
        }
        Box::pin(async { waiter.await.unwrap_or_else(|_| Err("the proxy is stopping".into())) })
    }
}

impl Handler<LastError> for QuotaActor {
    type Result = Option<String>;

    fn handle(&mut self, _: LastError, _: &mut Self::Context) -> Self::Result {
        let (usage, _) = self.latest.as_ref()?;
        usage.as_ref().err().cloned()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_is_good_for_a_while_and_a_failure_for_less() {
        let start = Instant::now();
        let good = (Ok(Arc::new(json!(1))), start);
        let bad = (Err("down".to_owned()), start);
        assert!(still_good(&good, start + Duration::from_secs(14)).is_some());
        assert!(still_good(&good, start + Duration::from_secs(15)).is_none());
        assert!(still_good(&bad, start + Duration::from_secs(4)).is_some());
        assert!(still_good(&bad, start + Duration::from_secs(5)).is_none());
    }

    #[actix_web::test]
    async fn one_call_serves_all() {
        let calls = Rc::new(Cell::new(0));
        let counted = calls.clone();
        let fetch: Fetch = Rc::new(move || {
            counted.set(counted.get() + 1);
            Box::pin(async { Ok(json!({"login": "x"})) })
        });
        let actor = QuotaActor::new(fetch).start();
        let asks = (0..20).map(|_| actor.send(GetUsage));
        for usage in futures_util::future::join_all(asks).await {
            assert_eq!(usage.unwrap().unwrap()["login"], "x");
        }
        assert_eq!(calls.get(), 1);
    }
}
