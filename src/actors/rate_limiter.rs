//! Who may call now. A seat's calls keep a distance in time and a bound in number; what comes too early waits in line or
//! is told when to come back. Knows no model and no prompt.
//!
//! ```text
//! Acquire ─ free and due ──────────────→ Permit
//!         ─ too early, waiting allowed ─→ in line ─ its turn ─→ Permit
//!         ─ too early, or the line is full ─→ Refused { retry_after }
//! ```
//!
//! Where nothing is limited a call takes its permit without asking: see [`Free`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use actix::{Actor, Addr, AsyncContext, Context, Handler, Message, MessageResult, SpawnHandle};
use tokio::sync::oneshot;

/// How calls are spaced and bounded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// The least time between two grants; zero is off.
    pub gap: Duration,
    /// Calls under way at once; zero is no bound.
    pub max_concurrent: usize,
    /// Early calls wait in line.
    pub wait: bool,
    /// How many may wait.
    pub max_queue: usize,
}

impl Settings {
    pub fn is_limiting(&self) -> bool {
        !self.gap.is_zero() || self.max_concurrent > 0
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            gap: Duration::ZERO,
            max_concurrent: 0,
            wait: false,
            max_queue: 64,
        }
    }
}

/// Asks for the right to make one call. The answer comes by a channel of the caller's own, so that a caller who has
/// left is known to have left.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Acquire(pub oneshot::Sender<Result<Permit, Refused>>);

/// Asks how things stand.
#[derive(Debug, Message)]
#[rtype(result = "Snapshot")]
pub struct GetSnapshot;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub running: usize,
    pub waiting: usize,
    pub granted: u64,
    pub refused: u64,
}

/// A permit came back.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Release;

/// The right to make one call now. Dropping it gives it back, whatever happened in between.
#[derive(Debug)]
pub struct Permit(Owner);

#[derive(Debug)]
enum Owner {
    Limiter(Addr<RateLimiterActor>),
    Nobody(Free),
}

impl Drop for Permit {
    fn drop(&mut self) {
        match &self.0 {
            Owner::Limiter(limiter) => limiter.do_send(Release),
            Owner::Nobody(free) => free.leave(),
        }
    }
}

/// The calls that nothing limits. They are counted where they are made, since a message each would wake a thread each.
#[derive(Clone, Debug, Default)]
pub struct Free(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    running: AtomicUsize,
    granted: AtomicU64,
}

impl Free {
    pub fn enter(&self) -> Permit {
        self.0.running.fetch_add(1, Ordering::Relaxed);
        self.0.granted.fetch_add(1, Ordering::Relaxed);
        Permit(Owner::Nobody(self.clone()))
    }

    fn leave(&self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Not now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    pub retry_after: Duration,
    /// The line was full, or there is none.
    pub queue_full: bool,
}

impl Refused {
    /// For the header: whole seconds, at least one.
    pub fn retry_after_secs(&self) -> u64 {
        let whole = self.retry_after.as_secs() + u64::from(self.retry_after.subsec_nanos() > 0);
        whole.max(1)
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let why = if self.queue_full {
            "and the line of waiting requests is full"
        } else {
            "by its own setting"
        };
        write!(
            out,
            "rate limit of this proxy reached, {why}; try again in {} s",
            self.retry_after_secs()
        )
    }
}

/// What to do with a call that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grant {
    Now,
    /// Stand in line.
    Wait,
    Refuse(Refused),
}

/// When the next call may go. Plain data; time is an argument.
#[derive(Debug)]
struct Lane {
    settings: Settings,
    last_grant: Option<Instant>,
    running: usize,
}

impl Lane {
    fn new(settings: Settings) -> Self {
        Self {
            settings,
            last_grant: None,
            running: 0,
        }
    }

    /// How long until the gap since the last grant has passed.
    fn due_in(&self, now: Instant) -> Duration {
        let due = self.last_grant.map(|last| last + self.settings.gap);
        due.map_or(Duration::ZERO, |due| due.saturating_duration_since(now))
    }

    fn has_room(&self) -> bool {
        self.settings.max_concurrent == 0 || self.running < self.settings.max_concurrent
    }

    fn is_free(&self, now: Instant) -> bool {
        self.has_room() && self.due_in(now).is_zero()
    }

    /// The verdict for one more call, with `waiting` others in line before it.
    fn ask(&self, now: Instant, waiting: usize) -> Grant {
        if waiting == 0 && self.is_free(now) {
            return Grant::Now;
        }
        let queue_full = self.settings.wait && waiting >= self.settings.max_queue;
        if self.settings.wait && !queue_full {
            return Grant::Wait;
        }
        let line = self
            .settings
            .gap
            .saturating_mul(u32::try_from(waiting).unwrap_or(u32::MAX));
        Grant::Refuse(Refused {
            retry_after: (self.due_in(now) + line).max(Duration::from_secs(1)),
            queue_full,
        })
    }

    fn grant(&mut self, now: Instant) {
        self.last_grant = Some(now);
        self.running += 1;
    }

    fn release(&mut self) {
        self.running = self.running.saturating_sub(1);
    }
}

/// Hands out permits.
#[derive(Debug)]
pub struct RateLimiterActor {
    lane: Lane,
    line: VecDeque<oneshot::Sender<Result<Permit, Refused>>>,
    alarm: Option<SpawnHandle>,
    granted: u64,
    refused: u64,
    free: Free,
}

impl RateLimiterActor {
    pub fn new(settings: Settings) -> Self {
        Self {
            lane: Lane::new(settings),
            line: VecDeque::new(),
            alarm: None,
            granted: 0,
            refused: 0,
            free: Free::default(),
        }
    }

    /// Where calls take their permits, if nothing limits them.
    pub fn published(&self) -> Option<Free> {
        (!self.lane.settings.is_limiting()).then(|| self.free.clone())
    }

    fn permit(&mut self, context: &Context<Self>) -> Permit {
        self.lane.grant(now());
        self.granted += 1;
        Permit(Owner::Limiter(context.address()))
    }

    /// Serves the line as far as it may be served now, then sets the alarm for the next.
    fn serve(&mut self, context: &mut Context<Self>) {
        while self.lane.is_free(now()) {
            let Some(waiter) = self.line.pop_front() else { break };
            // A client that has left is passed over: its turn is the next one's.
            if !waiter.is_closed() {
                let permit = self.permit(context);
                // Should it leave this very moment, the permit drops and comes back.
                let _ = waiter.send(Ok(permit));
            }
        }
        if let Some(alarm) = self.alarm.take() {
            context.cancel_future(alarm);
        }
        let due = self.lane.due_in(now());
        if !self.line.is_empty() && !due.is_zero() {
            self.alarm = Some(context.run_later(due, |actor, context| {
                actor.alarm = None;
                actor.serve(context);
            }));
        }
    }
}

/// The runtime's clock, which tests can pause.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl Actor for RateLimiterActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(1024);
    }
}

impl Handler<Acquire> for RateLimiterActor {
    type Result = ();

    fn handle(&mut self, Acquire(caller): Acquire, context: &mut Self::Context) {
        self.line.retain(|waiter| !waiter.is_closed());
        if caller.is_closed() {
            return;
        }
        match self.lane.ask(now(), self.line.len()) {
            Grant::Now => {
                let permit = self.permit(context);
                let _ = caller.send(Ok(permit));
            }
            Grant::Refuse(refused) => {
                self.refused += 1;
                let _ = caller.send(Err(refused));
            }
            Grant::Wait => {
                self.line.push_back(caller);
                self.serve(context);
            }
        }
    }
}

impl Handler<Release> for RateLimiterActor {
    type Result = ();

    fn handle(&mut self, _: Release, context: &mut Self::Context) {
        self.lane.release();
        self.serve(context);
    }
}

impl Handler<GetSnapshot> for RateLimiterActor {
    type Result = MessageResult<GetSnapshot>;

    fn handle(&mut self, _: GetSnapshot, _: &mut Self::Context) -> Self::Result {
        let waiting = self.line.iter().filter(|waiter| !waiter.is_closed()).count();
        MessageResult(Snapshot {
            running: self.lane.running + self.free.0.running.load(Ordering::Relaxed),
            waiting,
            granted: self.granted + self.free.0.granted.load(Ordering::Relaxed),
            refused: self.refused,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks, and waits for the answer; dropped half-way it is a client that leaves.
    async fn acquire(actor: &Addr<RateLimiterActor>) -> Result<Permit, Refused> {
        let (reply, answer) = oneshot::channel();
        actor.do_send(Acquire(reply));
        answer.await.unwrap()
    }

    const SECOND: Duration = Duration::from_secs(1);

    fn waiting(gap: Duration) -> Settings {
        Settings {
            gap,
            wait: true,
            ..Settings::default()
        }
    }

    #[test]
    fn a_lane_keeps_its_distance() {
        let start = Instant::now();
        let mut lane = Lane::new(Settings {
            gap: 10 * SECOND,
            ..Settings::default()
        });
        assert_eq!(lane.ask(start, 0), Grant::Now);
        lane.grant(start);
        let Grant::Refuse(refused) = lane.ask(start + 3 * SECOND + Duration::from_millis(1), 0) else {
            panic!()
        };
        assert_eq!((refused.retry_after_secs(), refused.queue_full), (7, false));
        assert_eq!(lane.ask(start + 10 * SECOND, 0), Grant::Now);
    }

    #[test]
    fn a_lane_bounds_the_calls_under_way_and_its_line() {
        let start = Instant::now();
        let mut lane = Lane::new(Settings {
            max_concurrent: 1,
            wait: true,
            max_queue: 2,
            ..Settings::default()
        });
        lane.grant(start);
        assert_eq!(lane.ask(start, 0), Grant::Wait);
        assert_eq!(lane.ask(start, 1), Grant::Wait);
        assert!(matches!(
            lane.ask(start, 2),
            Grant::Refuse(Refused { queue_full: true, .. })
        ));
        lane.release();
        assert_eq!(lane.ask(start, 0), Grant::Now);
        assert_eq!(lane.ask(start, 1), Grant::Wait, "nobody overtakes the line");
    }

    #[actix_web::test]
    async fn a_dropped_permit_comes_back() {
        let actor = RateLimiterActor::new(Settings {
            max_concurrent: 1,
            ..Settings::default()
        })
        .start();
        let permit = acquire(&actor).await.unwrap();
        assert!(acquire(&actor).await.is_err());
        drop(permit);
        assert!(acquire(&actor).await.is_ok());
    }

    #[actix_web::test]
    async fn the_line_moves_by_the_clock() {
        tokio::time::pause();
        let actor = RateLimiterActor::new(waiting(30 * SECOND)).start();
        let start = tokio::time::Instant::now();
        for place in 0..4 {
            let _permit = acquire(&actor).await.unwrap();
            assert_eq!(start.elapsed().as_secs(), 30 * place);
        }
    }

    #[actix_web::test]
    async fn the_line_is_served_in_order_and_abandoned_places_are_skipped() {
        let actor = RateLimiterActor::new(waiting(Duration::from_millis(30))).start();
        let first = acquire(&actor).await.unwrap();
        let order = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
        let mut tasks = Vec::new();
        for name in 0..4 {
            let (actor, order) = (actor.clone(), order.clone());
            tasks.push(actix_rt::spawn(async move {
                let _permit = acquire(&actor).await.unwrap();
                order.borrow_mut().push(name);
            }));
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
        tasks.remove(1).abort();
        drop(first);
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*order.borrow(), [0, 2, 3]);
        let snapshot = actor.send(GetSnapshot).await.unwrap();
        assert_eq!((snapshot.waiting, snapshot.granted), (0, 4));
    }

    #[actix_web::test]
    async fn an_unread_answer_gives_its_permit_back() {
        let actor = RateLimiterActor::new(Settings {
            max_concurrent: 1,
            ..Settings::default()
        })
        .start();
        let (reply, answer) = oneshot::channel();
        actor.do_send(Acquire(reply));
        drop(answer);
        assert!(acquire(&actor).await.is_ok());
    }

    #[actix_web::test]
    async fn a_call_that_nothing_limits_is_counted_all_the_same() {
        assert!(RateLimiterActor::new(waiting(SECOND)).published().is_none());
        let actor = RateLimiterActor::new(Settings::default());
        let free = actor.published().unwrap();
        let actor = actor.start();
        let permit = free.enter();
        let snapshot = actor.send(GetSnapshot).await.unwrap();
        assert_eq!((snapshot.running, snapshot.granted), (1, 1));
        drop(permit);
        assert_eq!(actor.send(GetSnapshot).await.unwrap().running, 0);
    }
}
