//! One seat's credential for Copilot. Knows how to keep it fresh; not who asks, nor how an exchange travels.
//!
//! ```text
//! signed out ── first ask, or start ──→ refreshing ──→ fresh ── refresh_in − 60 s, or Invalidate ──→ refreshing
//!                                          │                                                            │
//!                                          └── failed: the old one serves until its end, then callers hear why;
//!                                              the next try waits, longer after each failure
//! ```
//!
//! One exchange serves all: whoever asks while one is under way waits for its answer. The credential in force is
//! published, so that a call reads it and asks only where there is none.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{
    Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, MessageResult, ResponseFuture, SpawnHandle,
    WrapFuture,
};
use futures_util::future::LocalBoxFuture;
use tokio::sync::{oneshot, watch};

use crate::secret::Secret;

/// What opens Copilot, and where.
#[derive(Clone, Debug)]
pub struct Credential {
    pub token: Secret,
    pub base_url: String,
    /// When it is over, by the runtime's clock.
    pub expires: Instant,
    /// Counts the exchanges: a caller that was refused names the one it used.
    pub generation: u64,
}

impl Credential {
    pub fn is_over(&self) -> bool {
        now() >= self.expires
    }
}

/// What an exchange brought.
#[derive(Clone, Debug)]
pub struct Exchanged {
    pub token: Secret,
    pub base_url: String,
    pub valid_for: Duration,
    pub refresh_in: Duration,
}

/// Why there is no credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ExchangeError {
    pub message: String,
    /// Asking again will not help until somebody signs in or changes the account.
    pub permanent: bool,
    /// It is the GitHub token itself that is of no use: only another one helps.
    pub refused: bool,
    /// GitHub has not answered at all, so that asking again costs it nothing.
    pub unreached: bool,
    pub retry_after: Option<Duration>,
}

impl ExchangeError {
    pub fn is_permanent(&self) -> bool {
        self.permanent
    }
}

/// The exchange itself, as the floor above provides it.
pub type Exchange = Rc<dyn Fn() -> LocalBoxFuture<'static, Result<Exchanged, ExchangeError>>>;

/// Asks for the credential; waits if one is being fetched.
#[derive(Debug, Message)]
#[rtype(result = "Result<Arc<Credential>, ExchangeError>")]
pub struct GetCredential;

/// Upstream refused a credential: fetch another, unless that has been done since.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Invalidate {
    pub generation: u64,
    pub why: String,
}

/// Upstream took the credential that came in place of a refused one.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Confirm;

#[derive(Debug, Message)]
#[rtype(result = "Snapshot")]
pub struct GetSnapshot;

/// How the credential stands, without the credential.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    pub state: &'static str,
    pub age: Option<Duration>,
    pub expires_in: Option<Duration>,
    pub exchanges: u64,
    pub last_error: Option<String>,
}

/// Before its end by this much a credential is renewed.
const MARGIN: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// An outage is to be noticed as over soon, also while nobody asks for anything.
const LONGEST_OUTAGE_PAUSE: Duration = Duration::from_secs(40);
/// A permanent refusal is questioned this often, in case somebody has put it right.
const PERMANENT_PAUSE: Duration = Duration::from_secs(600);
/// On demand, a permanent refusal is questioned this often.
const ON_DEMAND_PAUSE: Duration = Duration::from_secs(30);
/// Credentials refused one after the other, none of them of any use, open a circuit: three within this time.
const REFUSAL_WINDOW: Duration = Duration::from_secs(10);
const REFUSALS: usize = 3;
const CIRCUIT: Duration = Duration::from_secs(60);

/// The rules of one credential. Plain data; time is an argument.
#[derive(Debug, Default)]
struct Keeper {
    current: Option<Held>,
    generation: u64,
    failures: u32,
    last_error: Option<ExchangeError>,
    last_try: Option<Instant>,
    /// When upstream refused our credential of late.
    refusals: Vec<Instant>,
    /// No refusal by Copilot is reason for an exchange before this. What GitHub itself says has pauses of its own.
    closed_until: Option<Instant>,
    circuit: Duration,
}

#[derive(Debug)]
struct Held {
    credential: Arc<Credential>,
    since: Instant,
    /// Upstream has refused it: it serves nobody any more.
    refused: bool,
}

/// What a caller gets.
#[derive(Debug)]
enum Lookup {
    Have(Arc<Credential>),
    /// An exchange must answer first.
    Fetch,
    /// No exchange now: the last one failed, and it is too early for another.
    Sorry(ExchangeError),
}

impl Keeper {
    fn look_up(&self, now: Instant) -> Lookup {
        if let Some(held) = self
            .current
            .as_ref()
            .filter(|held| !held.refused && now < held.credential.expires)
        {
            return Lookup::Have(held.credential.clone());
        }
        match &self.last_error {
            Some(error) if !self.may_try(now) => Lookup::Sorry(error.clone()),
            _ => Lookup::Fetch,
        }
    }

    /// Whether a caller's need is reason enough for an exchange now.
    fn may_try(&self, now: Instant) -> bool {
        let (Some(error), Some(last)) = (&self.last_error, self.last_try) else {
            return true;
        };
        let pause = match error.retry_after {
            Some(wait) => wait,
            None if error.permanent => ON_DEMAND_PAUSE,
            None => FIRST_PAUSE,
        };
        now >= last + pause
    }

    /// Takes in a success; says when the next refresh is due.
    fn succeeded(&mut self, got: Exchanged, now: Instant, jitter: f64) -> Duration {
        self.generation += 1;
        self.failures = 0;
        self.last_error = None;
        self.last_try = Some(now);
        let credential = Credential {
            token: got.token,
            base_url: got.base_url,
            expires: now + got.valid_for,
            generation: self.generation,
        };
        self.current = Some(Held {
            credential: Arc::new(credential),
            since: now,
            refused: false,
        });
        refresh_after(got.refresh_in, got.valid_for, jitter)
    }

    /// Takes in a failure; says when to try again by ourselves.
    fn failed(&mut self, error: ExchangeError, now: Instant, jitter: f64) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.last_try = Some(now);
        let pause = match error.retry_after {
            Some(wait) => wait.max(FIRST_PAUSE),
            None if error.permanent => PERMANENT_PAUSE,
            None => {
                let longest = if error.unreached {
                    LONGEST_OUTAGE_PAUSE
                } else {
                    LONGEST_PAUSE
                };
                pause_after(self.failures).min(longest).mul_f64(0.75 + 0.5 * jitter)
            }
        };
        self.last_error = Some(error);
        pause
    }

    /// Upstream refused a credential. True if it is the current one and another should be fetched.
    fn invalidate(&mut self, generation: u64, why: &str, now: Instant) -> bool {
        let Some(held) = self
            .current
            .as_mut()
            .filter(|held| held.credential.generation == generation)
        else {
            return false;
        };
        if held.refused || self.closed_until.is_some_and(|until| now < until) {
            return false;
        }
        self.refusals.retain(|&at| now < at + REFUSAL_WINDOW);
        self.refusals.push(now);
        if self.refusals.len() >= REFUSALS {
            self.circuit = if self.circuit.is_zero() {
                CIRCUIT
            } else {
                (self.circuit * 2).min(LONGEST_PAUSE)
            };
            self.closed_until = Some(now + self.circuit);
            self.refusals.clear();
            // The credential stays: it may be as good as any other that GitHub would give.
            return false;
        }
        held.refused = true;
        self.last_error.get_or_insert_with(|| ExchangeError {
            message: format!("copilot refused the credential: {why}"),
            permanent: false,
            refused: false,
            unreached: false,
            retry_after: None,
        });
        self.last_try = None;
        true
    }

    /// A fresh credential has helped: refusals so far had a reason, and another exchange is worth its price.
    fn confirm(&mut self) {
        self.refusals.clear();
        self.circuit = Duration::ZERO;
        self.closed_until = None;
    }

    fn snapshot(&self, refreshing: bool, now: Instant) -> Snapshot {
        let held = self
            .current
            .as_ref()
            .filter(|held| now < held.credential.expires && !held.refused);
        let state = match (held, refreshing, &self.last_error) {
            (_, true, _) => "refreshing",
            (Some(_), false, None) => "fresh",
            (Some(_), false, Some(_)) => "serving the old one",
            (None, false, Some(_)) => "failing",
            (None, false, None) => "signed out",
        };
        Snapshot {
            state,
            age: held.map(|held| now.duration_since(held.since)),
            expires_in: held.map(|held| held.credential.expires.duration_since(now)),
            exchanges: self.generation,
            last_error: self.last_error.as_ref().map(|error| error.message.clone()),
        }
    }
}

/// 5 s, doubled with each failure.
fn pause_after(failures: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(10))
}

/// A minute before GitHub's own advice, less up to a tenth by chance; a short life leaves a fifth of it as the margin.
/// No time at all is no advice: it would have us ask without end.
fn refresh_after(refresh_in: Duration, valid_for: Duration, jitter: f64) -> Duration {
    let advised = if refresh_in.is_zero() {
        valid_for
    } else {
        refresh_in.min(valid_for)
    };
    let margin = MARGIN.min(advised / 5);
    (advised - margin)
        .mul_f64(1.0 - 0.1 * jitter)
        .max(Duration::from_millis(500))
}

type Waiter = oneshot::Sender<Result<Arc<Credential>, ExchangeError>>;

/// Keeps one seat's credential.
pub struct TokenActor {
    keeper: Keeper,
    exchange: Exchange,
    /// A number in 0..1, by chance.
    jitter: fn() -> f64,
    waiters: Vec<Waiter>,
    refreshing: bool,
    alarm: Option<SpawnHandle>,
    published: watch::Sender<Option<Arc<Credential>>>,
}

/// The credential in force, while there is one. It may have come to its end since.
pub type Published = watch::Receiver<Option<Arc<Credential>>>;

/// More callers than this do not wait for one exchange.
const MAX_WAITERS: usize = 10_000;

impl TokenActor {
    pub fn new(exchange: Exchange, jitter: fn() -> f64) -> Self {
        Self {
            keeper: Keeper::default(),
            exchange,
            jitter,
            waiters: Vec::new(),
            refreshing: false,
            alarm: None,
            published: watch::Sender::new(None),
        }
    }

    pub fn published(&self) -> Published {
        self.published.subscribe()
    }

    fn publish(&self) {
        let in_force = match self.keeper.look_up(now()) {
            Lookup::Have(credential) => Some(credential),
            _ => None,
        };
        self.published.send_replace(in_force);
    }

    fn refresh(&mut self, context: &mut Context<Self>) {
        if std::mem::replace(&mut self.refreshing, true) {
            return;
        }
        let exchange = (self.exchange)();
        context.spawn(
            exchange
                .into_actor(self)
                .map(|got, actor, context| actor.settle(got, context)),
        );
    }

    fn settle(&mut self, got: Result<Exchanged, ExchangeError>, context: &mut Context<Self>) {
        self.refreshing = false;
        let pause = match got {
            Ok(got) => {
                log::debug!("the credential is fresh");
                self.keeper.succeeded(got, now(), (self.jitter)())
            }
            Err(error) => {
                log::warn!("failed to refresh the credential: {error}");
                self.keeper.failed(error, now(), (self.jitter)())
            }
        };
        self.publish();
        for waiter in self.waiters.drain(..) {
            let answer = match self.keeper.look_up(now()) {
                Lookup::Have(credential) => Ok(credential),
                Lookup::Sorry(error) => Err(error),
                Lookup::Fetch => Err(self.keeper.last_error.clone().unwrap_or_else(busy)),
            };
            let _ = waiter.send(answer);
        }
        if let Some(alarm) = self.alarm.take() {
            context.cancel_future(alarm);
        }
        self.alarm = Some(context.run_later(pause, |actor, context| {
            actor.alarm = None;
            actor.refresh(context);
        }));
    }
}

fn busy() -> ExchangeError {
    ExchangeError {
        message: "no credential yet".into(),
        permanent: false,
        refused: false,
        unreached: false,
        retry_after: None,
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl Actor for TokenActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(1024);
        self.refresh(context);
    }
}

impl Handler<GetCredential> for TokenActor {
    type Result = ResponseFuture<Result<Arc<Credential>, ExchangeError>>;

    fn handle(&mut self, _: GetCredential, context: &mut Self::Context) -> Self::Result {
        let answer = match self.keeper.look_up(now()) {
            Lookup::Have(credential) => Ok(credential),
            Lookup::Sorry(error) if !self.refreshing => Err(error),
            _ => {
                self.waiters.retain(|waiter| !waiter.is_closed());
                if self.waiters.len() >= MAX_WAITERS {
                    return Box::pin(async { Err(busy()) });
                }
                let (answer, waiter) = oneshot::channel();
                self.waiters.push(answer);
                self.refresh(context);
                return Box::pin(async { waiter.await.unwrap_or_else(|_| Err(busy())) });
            }
        };
        Box::pin(async { answer })
    }
}

impl Handler<Invalidate> for TokenActor {
    type Result = ();

    fn handle(&mut self, message: Invalidate, context: &mut Self::Context) {
        if self.keeper.invalidate(message.generation, &message.why, now()) {
            self.publish();
            self.refresh(context);
        }
    }
}

impl Handler<Confirm> for TokenActor {
    type Result = ();

    fn handle(&mut self, _: Confirm, _: &mut Self::Context) {
        self.keeper.confirm();
    }
}

impl Handler<GetSnapshot> for TokenActor {
    type Result = MessageResult<GetSnapshot>;

    fn handle(&mut self, _: GetSnapshot, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.keeper.snapshot(self.refreshing, now()))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn got() -> Exchanged {
        Exchanged {
            token: Secret::new("t"),
            base_url: "http://x".into(),
            valid_for: 30 * MINUTE,
            refresh_in: 25 * MINUTE,
        }
    }

    fn error(permanent: bool) -> ExchangeError {
        ExchangeError {
            message: "no".into(),
            permanent,
            refused: false,
            unreached: false,
            retry_after: None,
        }
    }

    #[test]
    fn a_refresh_is_due_a_minute_before_githubs_advice() {
        assert_eq!(refresh_after(25 * MINUTE, 30 * MINUTE, 0.0), 24 * MINUTE);
        let early = refresh_after(25 * MINUTE, 30 * MINUTE, 1.0);
        assert!(early < 24 * MINUTE && early > 21 * MINUTE);
        assert_eq!(
            refresh_after(Duration::from_secs(5), Duration::from_secs(6), 0.0),
            Duration::from_secs(4)
        );
        assert_eq!(refresh_after(Duration::ZERO, MINUTE, 0.0), Duration::from_secs(48));
    }

    #[test]
    fn the_old_one_serves_until_its_end() {
        let (mut keeper, start) = (Keeper::default(), Instant::now());
        keeper.succeeded(got(), start, 0.0);
        keeper.failed(error(false), start + 24 * MINUTE, 0.5);
        assert!(matches!(keeper.look_up(start + 29 * MINUTE), Lookup::Have(_)));
        assert_eq!(keeper.snapshot(false, start + 29 * MINUTE).state, "serving the old one");
        keeper.failed(error(false), start + 30 * MINUTE, 0.5);
        assert!(matches!(keeper.look_up(start + 30 * MINUTE), Lookup::Sorry(_)));
    }

    #[test]
    fn failures_space_themselves_out() {
        let (mut keeper, start) = (Keeper::default(), Instant::now());
        let pauses: Vec<u64> = (0..9)
            .map(|_| keeper.failed(error(false), start, 0.5).as_secs())
            .collect();
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
        let outage = ExchangeError {
            unreached: true,
            ..error(false)
        };
        assert_eq!(keeper.failed(outage, start, 1.0), Duration::from_secs(50));
        assert_eq!(keeper.failed(error(true), start, 0.5), PERMANENT_PAUSE);
        assert!(!keeper.may_try(start + Duration::from_secs(29)));
        assert!(keeper.may_try(start + Duration::from_secs(30)));
    }

    #[test]
    fn a_stale_complaint_is_no_reason_to_refresh() {
        let (mut keeper, start) = (Keeper::default(), Instant::now());
        keeper.succeeded(got(), start, 0.0);
        keeper.succeeded(got(), start, 0.0);
        assert!(!keeper.invalidate(1, "", start));
        assert!(keeper.invalidate(2, "", start));
        assert!(!keeper.invalidate(2, "", start), "one refresh for all who complain");
        assert!(matches!(keeper.look_up(start), Lookup::Fetch));
    }

    #[test]
    fn refusals_that_a_fresh_credential_mends_open_no_circuit() {
        let (mut keeper, start) = (Keeper::default(), Instant::now());
        for generation in 1..=9 {
            keeper.succeeded(got(), start, 0.0);
            assert!(keeper.invalidate(generation, "", start), "{generation}");
            keeper.confirm();
        }
    }

    /// Three refusals in a row, each of a fresh credential.
    fn refused_thrice(keeper: &mut Keeper, at: Instant) {
        for fetched in [true, true, false] {
            keeper.succeeded(got(), at, 0.0);
            assert_eq!(keeper.invalidate(keeper.generation, "", at), fetched);
        }
    }

    #[test]
    fn three_refusals_in_a_row_open_the_circuit() {
        let (mut keeper, start) = (Keeper::default(), Instant::now());
        refused_thrice(&mut keeper, start);
        assert!(matches!(keeper.look_up(start), Lookup::Have(_)));
        assert!(!keeper.invalidate(3, "", start + Duration::from_secs(1)));
        assert!(!keeper.invalidate(3, "", start + Duration::from_secs(59)));
        assert!(keeper.invalidate(3, "", start + MINUTE));
    }

    #[test]
    fn a_circuit_stays_open_longer_each_time() {
        let (mut keeper, mut now) = (Keeper::default(), Instant::now());
        for minutes in [1, 2, 4, 5, 5] {
            refused_thrice(&mut keeper, now);
            now += minutes * MINUTE;
            assert!(!keeper.invalidate(keeper.generation, "", now - Duration::from_secs(1)));
        }
    }

    #[test]
    fn an_open_circuit_does_not_keep_from_signing_in_again() {
        let (mut keeper, start) = (Keeper::default(), Instant::now());
        refused_thrice(&mut keeper, start);
        // A short credential comes to its end before the circuit does.
        keeper.succeeded(
            Exchanged {
                valid_for: Duration::from_secs(12),
                ..got()
            },
            start,
            0.0,
        );
        let end = start + Duration::from_secs(12);
        keeper.failed(error(true), end, 0.5);
        assert!(matches!(keeper.look_up(end), Lookup::Sorry(_)));
        assert!(matches!(keeper.look_up(end + ON_DEMAND_PAUSE), Lookup::Fetch));
    }

    fn counting(calls: Rc<Cell<u32>>, fails: u32) -> Exchange {
        Rc::new(move || {
            let calls = calls.clone();
            Box::pin(async move {
                calls.set(calls.get() + 1);
                tokio::time::sleep(Duration::from_millis(20)).await;
                if calls.get() <= fails {
                    Err(error(false))
                } else {
                    Ok(got())
                }
            })
        })
    }

    #[actix_web::test]
    async fn one_exchange_serves_all() {
        let calls = Rc::new(Cell::new(0));
        let actor = TokenActor::new(counting(calls.clone(), 0), || 0.0);
        let published = actor.published();
        let in_force = || published.borrow().as_ref().map(|credential| credential.generation);
        let actor = actor.start();
        assert_eq!(in_force(), None);
        let asks = (0..100).map(|_| actor.send(GetCredential));
        let answers = futures_util::future::join_all(asks).await;
        assert!(
            answers
                .into_iter()
                .all(|answer| answer.unwrap().unwrap().generation == 1)
        );
        assert_eq!((calls.get(), in_force()), (1, Some(1)));
        actor
            .send(Invalidate {
                generation: 1,
                why: "expired".into(),
            })
            .await
            .unwrap();
        assert_eq!(in_force(), None, "whoever reads after this asks for another");
        actor
            .send(Invalidate {
                generation: 1,
                why: "expired".into(),
            })
            .await
            .unwrap();
        assert_eq!(actor.send(GetCredential).await.unwrap().unwrap().generation, 2);
        assert_eq!((calls.get(), in_force()), (2, Some(2)));
    }

    #[actix_web::test]
    async fn a_credential_is_renewed_by_the_clock() {
        tokio::time::pause();
        let calls = Rc::new(Cell::new(0));
        let actor = TokenActor::new(counting(calls.clone(), 0), || 0.0).start();
        actor.send(GetCredential).await.unwrap().unwrap();
        let start = tokio::time::Instant::now();
        for renewals in 1..5 {
            let due = start + 24 * MINUTE * renewals;
            tokio::time::sleep_until(due - Duration::from_secs(1)).await;
            assert_eq!(calls.get(), renewals);
            tokio::time::sleep_until(due + Duration::from_secs(1)).await;
            assert_eq!(calls.get(), renewals + 1);
        }
    }

    #[actix_web::test]
    async fn failures_are_tried_again_by_the_clock_and_recover() {
        tokio::time::pause();
        let calls = Rc::new(Cell::new(0));
        let actor = TokenActor::new(counting(calls.clone(), 3), || 0.5).start();
        let start = tokio::time::Instant::now();
        let mut tries = Vec::new();
        while actor.send(GetSnapshot).await.unwrap().state != "fresh" {
            if tries.len() < calls.get() as usize {
                tries.push(start.elapsed().as_secs());
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        assert_eq!(tries, [0, 5, 15, 35]);
        assert_eq!(calls.get(), 4);
    }

    #[actix_web::test]
    async fn a_failure_is_told_and_not_hammered() {
        let calls = Rc::new(Cell::new(0));
        let actor = TokenActor::new(counting(calls.clone(), 10), || 0.0).start();
        for _ in 0..20 {
            assert_eq!(actor.send(GetCredential).await.unwrap().unwrap_err(), error(false));
        }
        assert_eq!(calls.get(), 1);
        assert_eq!(actor.send(GetSnapshot).await.unwrap().state, "failing");
    }
}
