//! Responses that can be asked for again by their ids, where a setting says so: each with the request that it answered.
//! In memory only, bounded in number, bytes and time, the oldest first to go. Knows not what either says.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, AsyncContext, Context, Handler, Message, MessageResult};
use bytes::Bytes;

/// An answered request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub id: String,
    /// The ids of what the response put out.
    pub items: Vec<String>,
    /// The request, with all that it continued.
    pub request: Bytes,
    pub response: Bytes,
}

impl Kept {
    fn bytes(&self) -> usize {
        self.request.len() + self.response.len()
    }
}

/// Keeps a response.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Keep(pub Kept);

/// The response with this id.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Option<Arc<Kept>>")]
pub struct Find(pub String);

/// The responses that put out any of these items.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Vec<Arc<Kept>>")]
pub struct Holding(pub Vec<String>);

/// Forgets a response. False where it is not known.
#[derive(Clone, Debug, Message)]
#[rtype(result = "bool")]
pub struct Forget(pub String);

const MAX_KEPT: usize = 256;
const MAX_BYTES: usize = 64 << 20;
const KEPT_FOR: Duration = Duration::from_secs(3600);
const TIDIED_EVERY: Duration = Duration::from_secs(60);

/// What is kept, in the order it came. Plain data; time is an argument.
#[derive(Debug, Default)]
struct Shelf(VecDeque<(Arc<Kept>, Instant)>);

impl Shelf {
    fn keep(&mut self, kept: Kept, now: Instant) {
        if kept.bytes() > MAX_BYTES {
            return;
        }
        self.forget(&kept.id);
        self.0.push_back((Arc::new(kept), now));
        self.tidy(now);
    }

    /// Lets go what is too old, or too much.
    fn tidy(&mut self, now: Instant) {
        let mut bytes: usize = self.0.iter().map(|(kept, _)| kept.bytes()).sum();
        while let Some((oldest, since)) = self.0.front() {
            if self.0.len() <= MAX_KEPT && bytes <= MAX_BYTES && is_young(*since, now) {
                break;
            }
            bytes -= oldest.bytes();
            self.0.pop_front();
        }
    }

    fn young(&self, now: Instant) -> impl Iterator<Item = &Arc<Kept>> {
        let young = self.0.iter().rev().filter(move |(_, since)| is_young(*since, now));
        young.map(|(kept, _)| kept)
    }

    fn find(&self, id: &str, now: Instant) -> Option<Arc<Kept>> {
        self.young(now).find(|kept| kept.id == id).cloned()
    }

    fn holding(&self, ids: &[String], now: Instant) -> Vec<Arc<Kept>> {
        let holds = |kept: &&Arc<Kept>| kept.items.iter().any(|item| ids.contains(item));
        self.young(now).filter(holds).cloned().collect()
    }

    fn forget(&mut self, id: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|(kept, _)| kept.id != id);
        self.0.len() < before
    }
}

fn is_young(since: Instant, now: Instant) -> bool {
    now.duration_since(since) < KEPT_FOR
}

/// Keeps responses.
#[derive(Debug, Default)]
pub struct ArchiveActor(Shelf);

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl Actor for ArchiveActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.run_interval(TIDIED_EVERY, |actor, _| actor.0.tidy(now()));
    }
}

impl Handler<Keep> for ArchiveActor {
    type Result = ();

    fn handle(&mut self, Keep(kept): Keep, _: &mut Self::Context) {
        self.0.keep(kept, now());
    }
}

impl Handler<Find> for ArchiveActor {
    type Result = Option<Arc<Kept>>;

    fn handle(&mut self, Find(id): Find, _: &mut Self::Context) -> Self::Result {
        self.0.find(&id, now())
    }
}

impl Handler<Holding> for ArchiveActor {
    type Result = MessageResult<Holding>;

    fn handle(&mut self, Holding(ids): Holding, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.0.holding(&ids, now()))
    }
}

impl Handler<Forget> for ArchiveActor {
    type Result = bool;

    fn handle(&mut self, Forget(id): Forget, _: &mut Self::Context) -> bool {
        self.0.find(&id, now()).is_some() && self.0.forget(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(id: &str, bytes: usize) -> Kept {
        Kept {
            id: id.into(),
            items: vec![format!("msg_{id}")],
            request: Bytes::new(),
            response: vec![b'x'; bytes].into(),
        }
    }

    #[test]
    fn what_is_kept_is_found_until_it_is_old_or_forgotten() {
        let (mut shelf, start) = (Shelf::default(), Instant::now());
        shelf.keep(kept("a", 1), start);
        shelf.keep(kept("b", 1), start + Duration::from_secs(1));
        assert_eq!(shelf.find("a", start).unwrap().id, "a");
        assert_eq!(shelf.holding(&["msg_b".into(), "msg_z".into()], start).len(), 1);
        assert!(shelf.find("a", start + KEPT_FOR).is_none() && shelf.find("b", start + KEPT_FOR).is_some());
        shelf.tidy(start + KEPT_FOR);
        assert_eq!(shelf.0.len(), 1);
        assert!(shelf.forget("b") && !shelf.forget("b"));
        assert!(shelf.find("b", start).is_none());
        shelf.keep(kept("a", 2), start);
        assert_eq!((shelf.0.len(), shelf.find("a", start).unwrap().response.len()), (1, 2));
    }

    #[test]
    fn the_oldest_make_room() {
        let (mut shelf, now) = (Shelf::default(), Instant::now());
        for number in 0..=MAX_KEPT {
            shelf.keep(kept(&number.to_string(), 1), now);
        }
        assert_eq!(shelf.0.len(), MAX_KEPT);
        assert!(shelf.find("0", now).is_none() && shelf.find("1", now).is_some());
        shelf.keep(kept("large", MAX_BYTES - 1), now);
        assert_eq!(shelf.0.len(), 2);
        shelf.keep(kept("too large", MAX_BYTES + 1), now);
        assert!(shelf.find("large", now).is_some() && shelf.find("too large", now).is_none());
    }

    #[actix_web::test]
    async fn nothing_is_forgotten_twice() {
        let actor = ArchiveActor::default().start();
        actor.send(Keep(kept("a", 1))).await.unwrap();
        assert_eq!(actor.send(Find("a".into())).await.unwrap().unwrap().id, "a");
        assert_eq!(actor.send(Holding(vec!["msg_a".into()])).await.unwrap().len(), 1);
        assert!(actor.send(Forget("a".into())).await.unwrap());
        assert!(!actor.send(Forget("a".into())).await.unwrap());
    }
}
