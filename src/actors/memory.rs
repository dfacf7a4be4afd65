//! What past calls taught us: facts about models that upstream corrected us on, and reasoning that a client is likely to
//! lose. Both live as long as the process, and are bounded. Knows not what a fact means.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use actix::{Actor, Context, Handler, Message, MessageResult};
use serde_json::Value;
use tokio::sync::watch;

use crate::translate::Kept;

/// The reasoning kept for these calls.
#[derive(Clone, Debug, Message)]
#[rtype(result = "HashMap<String, Kept>")]
pub struct Recall {
    pub call_ids: Vec<String>,
}

/// Remembers a fact about a model.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Learn {
    pub model: String,
    pub key: String,
    pub value: Value,
}

/// Keeps the reasoning that came before these calls.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Keep(pub Vec<(String, Kept)>);

/// Upstream's count of a prompt's tokens, if it was asked of late.
#[derive(Debug, Message)]
#[rtype(result = "Option<u64>")]
pub struct CountedTokens(pub u64);

/// Remembers upstream's count of the prompt with this hash.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct RememberCount {
    pub key: u64,
    pub count: u64,
}

/// Every fact, by model.
pub type Facts = BTreeMap<String, BTreeMap<String, Value>>;

/// The facts so far, as every request reads them.
pub type Published = watch::Receiver<Facts>;

const MAX_KEPT: usize = 4096;
const KEPT_FOR: Duration = Duration::from_secs(2 * 3600);
const MAX_MODELS: usize = 512;

/// Reasoning by call id, the oldest first to go. Plain data; time is an argument.
#[derive(Debug, Default)]
struct Stash {
    by_call: HashMap<String, (Kept, Instant)>,
    order: VecDeque<(String, Instant)>,
}

impl Stash {
    fn put(&mut self, call: String, kept: Kept, now: Instant) {
        let bytes = kept.text.len() + kept.carriers.iter().map(String::len).sum::<usize>();
        if bytes > Kept::MOST_BYTES || call.is_empty() {
            return;
        }
        self.order.push_back((call.clone(), now));
        self.by_call.insert(call, (kept, now));
        self.forget(now);
    }

    fn forget(&mut self, now: Instant) {
        while let Some((_, since)) = self.order.front() {
            if self.order.len() <= MAX_KEPT && now.duration_since(*since) < KEPT_FOR {
                break;
            }
            // A call that was kept again since has a younger place in the order.
            if let Some((call, since)) = self.order.pop_front()
                && self.by_call.get(&call).is_some_and(|(_, kept)| *kept == since)
            {
                self.by_call.remove(&call);
            }
        }
    }

    fn get(&self, call: &str, now: Instant) -> Option<&Kept> {
        let (kept, since) = self.by_call.get(call)?;
        (now.duration_since(*since) < KEPT_FOR).then_some(kept)
    }
}

/// Counts by the prompt's hash, the oldest first to go.
#[derive(Debug, Default)]
struct Counts(VecDeque<(u64, u64, Instant)>);

const MAX_COUNTS: usize = 256;
const COUNTED_FOR: Duration = Duration::from_secs(60);

impl Counts {
    fn put(&mut self, key: u64, count: u64, now: Instant) {
        self.0.push_back((key, count, now));
        if self.0.len() > MAX_COUNTS {
            self.0.pop_front();
        }
    }

    fn get(&self, key: u64, now: Instant) -> Option<u64> {
        let young = |since: Instant| now.duration_since(since) < COUNTED_FOR;
        let found = self.0.iter().rev().find(|(known, _, _)| *known == key)?;
        young(found.2).then_some(found.1)
    }
}

/// Remembers.
#[derive(Debug, Default)]
pub struct MemoryActor {
    facts: watch::Sender<Facts>,
    stash: Stash,
    counts: Counts,
}

impl MemoryActor {
    pub fn published(&self) -> Published {
        self.facts.subscribe()
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl Actor for MemoryActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(1024);
    }
}

impl Handler<Recall> for MemoryActor {
    type Result = MessageResult<Recall>;

    fn handle(&mut self, recall: Recall, _: &mut Self::Context) -> Self::Result {
        let kept = recall.call_ids.into_iter().filter_map(|call| {
            let kept = self.stash.get(&call, now())?.clone();
            Some((call, kept))
        });
        MessageResult(kept.collect())
    }
}

impl Handler<Learn> for MemoryActor {
    type Result = ();

    fn handle(&mut self, fact: Learn, _: &mut Self::Context) {
        self.facts.send_modify(|facts| {
            if facts.len() < MAX_MODELS || facts.contains_key(&fact.model) {
                facts.entry(fact.model).or_default().insert(fact.key, fact.value);
            }
        });
    }
}

impl Handler<Keep> for MemoryActor {
    type Result = ();

    fn handle(&mut self, keep: Keep, _: &mut Self::Context) {
        for (call, kept) in keep.0 {
            self.stash.put(call, kept, now());
        }
    }
}

impl Handler<CountedTokens> for MemoryActor {
    type Result = Option<u64>;

    fn handle(&mut self, asked: CountedTokens, _: &mut Self::Context) -> Option<u64> {
        self.counts.get(asked.0, now())
    }
}

impl Handler<RememberCount> for MemoryActor {
    type Result = ();

    fn handle(&mut self, counted: RememberCount, _: &mut Self::Context) {
        self.counts.put(counted.key, counted.count, now());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn kept(text: &str) -> Kept {
        Kept {
            model: "m".into(),
            text: text.into(),
            carriers: Vec::new(),
        }
    }

    #[test]
    fn the_stash_is_bounded_and_forgets() {
        let (mut stash, start) = (Stash::default(), Instant::now());
        stash.put("again".into(), kept("old"), start);
        for number in 0..MAX_KEPT - 1 {
            stash.put(format!("call_{number}"), kept("x"), start);
        }
        stash.put("again".into(), kept("new"), start + Duration::from_secs(1));
        assert_eq!(stash.get("again", start + Duration::from_secs(1)).unwrap().text, "new");
        stash.put("last".into(), kept("x"), start + Duration::from_secs(1));
        assert!(stash.by_call.len() <= MAX_KEPT && stash.get("call_0", start + Duration::from_secs(1)).is_none());
        assert!(stash.get("last", start + KEPT_FOR + Duration::from_secs(1)).is_none());
        stash.put("huge".into(), kept(&"x".repeat(Kept::MOST_BYTES + 1)), start);
        assert!(stash.get("huge", start).is_none());
    }

    #[test]
    fn a_count_is_remembered_for_a_minute() {
        let (mut counts, start) = (Counts::default(), Instant::now());
        counts.put(1, 70, start);
        assert_eq!(counts.get(1, start), Some(70));
        assert_eq!(counts.get(2, start), None);
        assert_eq!(counts.get(1, start + COUNTED_FOR), None);
    }

    #[actix_web::test]
    async fn facts_and_reasoning_come_back_for_their_model_and_call() {
        let actor = MemoryActor::default();
        let facts = actor.published();
        let actor = actor.start();
        actor
            .send(Learn {
                model: "a".into(),
                key: "k".into(),
                value: json!(1),
            })
            .await
            .unwrap();
        actor
            .send(Keep(vec![("call_1".into(), kept("because"))]))
            .await
            .unwrap();
        let recall = Recall {
            call_ids: vec!["call_1".into(), "call_2".into()],
        };
        let kept = actor.send(recall).await.unwrap();
        assert_eq!((kept.len(), kept["call_1"].text.as_str()), (1, "because"));
        assert_eq!(facts.borrow()["a"]["k"], json!(1));
        assert!(facts.borrow().get("b").is_none());
    }
}
