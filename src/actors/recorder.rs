//! The latest requests and the sums since the start, for the dashboard: who asked what, how long it took, what it cost.
//! Never a word of a prompt or an answer. Knows no protocol.
//!
//! ```text
//! request ─ lays down how far it has come ─→ Tray ─ it is full, or somebody asks for news ─→ the record
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use actix::{Actor, Context, Handler, Message, MessageResult};
use serde::Serialize;

/// One request, as far as it has come.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Exchange {
    /// The id the client was told.
    pub id: String,
    pub started_unix_ms: u64,
    /// The client's User-Agent, harmless and short.
    pub client: String,
    pub model_asked: String,
    pub model_run: String,
    /// Client protocol → upstream protocol.
    pub route: String,
    pub phase: Phase,
    /// Absent while the request runs.
    pub status: Option<u16>,
    pub duration_ms: Option<u64>,
    pub first_byte_ms: Option<u64>,
    pub tokens_in: Option<u64>,
    pub tokens_cached: Option<u64>,
    pub tokens_out: Option<u64>,
    pub nano_aiu: Option<u64>,
    /// Why it failed.
    pub error: Option<String>,
    /// What was changed to make upstream take it.
    pub healed: Vec<String>,
}

/// Where a request is on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// A person is asked whether it may go.
    WaitingForApproval,
    /// It has no permit yet.
    #[default]
    Queued,
    /// Upstream has it and has answered nothing yet.
    Upstream,
    /// The answer goes to the client.
    Streaming,
    Ended,
}

/// Where requests lay down how far they have come. Nobody is woken for one of them.
#[derive(Clone, Debug, Default)]
pub struct Tray(Arc<Mutex<Vec<Exchange>>>);

impl Tray {
    /// How many fill it.
    const FULL: usize = 64;

    /// Whether it should be emptied now.
    #[must_use]
    pub fn lay(&self, exchange: Exchange) -> bool {
        let mut laid = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        laid.push(exchange);
        laid.len().is_multiple_of(Self::FULL)
    }

    fn empty(&self) -> Vec<Exchange> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Empties the tray.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Collect;

/// What has changed after a revision.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "News")]
pub struct GetNews {
    pub after: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct News {
    /// To be given as `after` next time.
    pub revision: u64,
    /// The proxy's clock, for telling how long a request has been running.
    pub now_unix_ms: u64,
    /// The revision asked for is not known here: forget what was shown.
    pub reset: bool,
    pub requests: Vec<Exchange>,
    pub totals: Totals,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Totals {
    pub requests: u64,
    pub errors: u64,
    pub tokens_in: u64,
    pub tokens_cached: u64,
    pub tokens_out: u64,
    pub nano_aiu: u64,
    /// Requests by model.
    pub models: BTreeMap<String, u64>,
}

const KEPT: usize = 200;
const MAX_MODELS: usize = 500;

/// A bounded ring of requests; each change has a number.
#[derive(Debug, Default)]
struct Ring {
    revision: u64,
    /// With the revision of its latest change.
    requests: VecDeque<(u64, Exchange)>,
    totals: Totals,
}

impl Ring {
    /// Writes a request down, or the newer state of one that is known.
    fn record(&mut self, exchange: Exchange) {
        self.revision += 1;
        if exchange.status.is_some() {
            self.count(&exchange);
        }
        // What changes is mostly young.
        let known = self
            .requests
            .iter_mut()
            .rev()
            .find(|(_, known)| known.id == exchange.id);
        match known {
            Some(known) => *known = (self.revision, exchange),
            None => {
                self.requests.push_back((self.revision, exchange));
                if self.requests.len() > KEPT {
                    self.requests.pop_front();
                }
            }
        }
    }

    fn count(&mut self, ended: &Exchange) {
        let totals = &mut self.totals;
        totals.requests += 1;
        totals.errors += u64::from(ended.error.is_some());
        let add = |sum: &mut u64, more: Option<u64>| *sum = sum.saturating_add(more.unwrap_or(0));
        add(&mut totals.tokens_in, ended.tokens_in);
        add(&mut totals.tokens_cached, ended.tokens_cached);
        add(&mut totals.tokens_out, ended.tokens_out);
        add(&mut totals.nano_aiu, ended.nano_aiu);
        if totals.models.len() < MAX_MODELS || totals.models.contains_key(&ended.model_run) {
            *totals.models.entry(ended.model_run.clone()).or_default() += 1;
        }
    }

    fn news(&self, after: u64, now_unix_ms: u64) -> News {
        let reset = after > self.revision || after == 0;
        let after = if reset { 0 } else { after };
        let newer = self.requests.iter().filter(|(revision, _)| *revision > after);
        News {
            revision: self.revision,
            now_unix_ms,
            reset,
            requests: newer.map(|(_, exchange)| exchange.clone()).collect(),
            totals: self.totals.clone(),
        }
    }
}

/// Keeps the record.
#[derive(Debug, Default)]
pub struct RecorderActor {
    tray: Tray,
    ring: Ring,
}

impl RecorderActor {
    pub fn published(&self) -> Tray {
        self.tray.clone()
    }

    fn collect(&mut self) {
        for exchange in self.tray.empty() {
            self.ring.record(exchange);
        }
    }
}

impl Actor for RecorderActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(1024);
    }
}

impl Handler<Collect> for RecorderActor {
    type Result = ();

    fn handle(&mut self, _: Collect, _: &mut Self::Context) {
        self.collect();
    }
}

impl Handler<GetNews> for RecorderActor {
    type Result = MessageResult<GetNews>;

    fn handle(&mut self, ask: GetNews, _: &mut Self::Context) -> Self::Result {
        self.collect();
        MessageResult(self.ring.news(ask.after, unix_ms(SystemTime::now())))
    }
}

/// A moment as the record tells it.
pub fn unix_ms(moment: SystemTime) -> u64 {
    let since_epoch = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(id: &str, status: Option<u16>) -> Exchange {
        Exchange {
            id: id.into(),
            status,
            model_run: "m".into(),
            tokens_in: Some(5),
            ..Exchange::default()
        }
    }

    #[test]
    fn a_request_is_news_twice_and_counted_once() {
        let mut ring = Ring::default();
        ring.record(exchange("a", None));
        let first = ring.news(0, 0);
        assert_eq!((first.requests.len(), first.totals.requests), (1, 0));
        ring.record(exchange("a", Some(200)));
        let second = ring.news(first.revision, 0);
        assert_eq!(
            (second.requests.len(), second.totals.requests, second.totals.tokens_in),
            (1, 1, 5)
        );
        assert!(ring.news(second.revision, 0).requests.is_empty());
    }

    #[actix_web::test]
    async fn whoever_asks_hears_what_lies_in_the_tray() {
        let actor = RecorderActor::default();
        let tray = actor.published();
        let actor = actor.start();
        let full = (1..=Tray::FULL).filter(|number| tray.lay(exchange(&number.to_string(), Some(200))));
        assert_eq!(full.collect::<Vec<_>>(), [Tray::FULL]);
        let news = actor.send(GetNews { after: 0 }).await.unwrap();
        assert_eq!(news.totals.requests, Tray::FULL as u64);
        assert!(tray.empty().is_empty());
    }

    #[test]
    fn the_ring_is_bounded_and_a_foreign_revision_starts_over() {
        let mut ring = Ring::default();
        for number in 0..KEPT + 50 {
            ring.record(exchange(&number.to_string(), Some(200)));
        }
        let news = ring.news(9999, 0);
        assert!(news.reset);
        assert_eq!((news.requests.len(), news.totals.requests), (KEPT, (KEPT + 50) as u64));
    }
}
