//! A person's word on each request. Knows what is asked; not who shows the question, nor what is in the prompt.
//!
//! ```text
//! Ask ─ approval is off ─→ Approved
//!     ─ on ─→ pending ─ Decide ──────────────→ Approved | Denied
//!                     ─ nobody in time ──────→ Expired
//!                     ─ the client leaves ───→ gone
//! ```
//!
//! The terminal, if there is one, shows the oldest question and no other; `/admin/approvals` shows them all.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use actix::{Actor, AsyncContext, Context, Handler, Message, MessageResult};
use tokio::sync::oneshot;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    pub on: bool,
    pub timeout: Duration,
}

/// Asks for a verdict. It comes by a channel of the caller's own, so that a caller who has left is known to have left.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Submit(pub Ask, pub oneshot::Sender<Verdict>);

/// One request, as far as a person needs to know it.
#[derive(Clone, Debug)]
pub struct Ask {
    pub model: String,
    pub client: String,
    pub bytes: usize,
    pub estimated_tokens: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Approved,
    Denied,
    /// Nobody answered within this time.
    Expired(Duration),
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Approved => out.write_str("approved"),
            Self::Denied => out.write_str("the request was denied by the person who runs this proxy"),
            Self::Expired(after) => write!(
                out,
                "nobody approved the request within {} s; answer on the proxy's terminal, on its dashboard, \
                 or with POST /admin/approvals/{{id}}",
                after.as_secs()
            ),
        }
    }
}

/// Gives a verdict.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Decision")]
pub struct Decide {
    pub id: u64,
    pub approve: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Taken,
    Unknown,
    AlreadyDecided,
}

/// What waits for a verdict.
#[derive(Debug, Message)]
#[rtype(result = "Vec<Pending>")]
pub struct GetPending;

/// One question, without a word of the prompt.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Pending {
    pub id: u64,
    pub model: String,
    pub client: String,
    #[serde(rename = "bytes")]
    pub bytes: usize,
    pub estimated_tokens: u64,
    pub age_secs: u64,
    /// Until the request is refused.
    pub expires_in_secs: u64,
}

/// Who shows questions to a person at the terminal, one at a time. Its answers come back as [`Decide`].
pub trait Asker {
    fn show(&mut self, question: &Pending);
    /// The question has been settled elsewhere.
    fn withdraw(&mut self);
}

struct Question {
    id: u64,
    ask: Ask,
    since: Instant,
    verdict: oneshot::Sender<Verdict>,
}

/// The questions under way, oldest first. Plain data; time is an argument.
struct Desk {
    timeout: Duration,
    last_id: u64,
    open: VecDeque<Question>,
    /// The latest that were settled, so that a second verdict hears so.
    settled: VecDeque<u64>,
}

/// How many settled questions are remembered.
const REMEMBERED: usize = 256;

impl Desk {
    fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            last_id: 0,
            open: VecDeque::new(),
            settled: VecDeque::new(),
        }
    }

    fn add(&mut self, ask: Ask, verdict: oneshot::Sender<Verdict>, now: Instant) -> u64 {
        self.last_id += 1;
        self.open.push_back(Question {
            id: self.last_id,
            ask,
            since: now,
            verdict,
        });
        self.last_id
    }

    fn decide(&mut self, decide: Decide) -> Decision {
        let verdict = if decide.approve {
            Verdict::Approved
        } else {
            Verdict::Denied
        };
        match self.open.iter().position(|question| question.id == decide.id) {
            Some(at) => {
                self.settle(at, verdict);
                Decision::Taken
            }
            None if self.settled.contains(&decide.id) => Decision::AlreadyDecided,
            None => Decision::Unknown,
        }
    }

    /// Refuses what nobody answered in time and forgets whose client has left.
    fn sweep(&mut self, now: Instant) {
        while let Some(at) = self.open.iter().position(|question| question.verdict.is_closed()) {
            self.settle(at, Verdict::Denied);
        }
        while self
            .open
            .front()
            .is_some_and(|oldest| now >= oldest.since + self.timeout)
        {
            self.settle(0, Verdict::Expired(self.timeout));
        }
    }

    fn settle(&mut self, at: usize, verdict: Verdict) {
        if let Some(question) = self.open.remove(at) {
            let _ = question.verdict.send(verdict);
            self.settled.push_back(question.id);
            if self.settled.len() > REMEMBERED {
                self.settled.pop_front();
            }
        }
    }

    fn pending(&self, now: Instant) -> Vec<Pending> {
        self.open.iter().map(|question| self.describe(question, now)).collect()
    }

    fn describe(&self, question: &Question, now: Instant) -> Pending {
        let age = now.saturating_duration_since(question.since);
        Pending {
            id: question.id,
            model: harmless(&question.ask.model),
            client: harmless(&question.ask.client),
            bytes: question.ask.bytes,
            estimated_tokens: question.ask.estimated_tokens,
            age_secs: age.as_secs(),
            expires_in_secs: self.timeout.saturating_sub(age).as_secs(),
        }
    }
}

/// A text from outside, safe for a terminal: no control characters, and not long.
pub fn harmless(text: &str) -> String {
    const LONGEST: usize = 80;
    let visible = |letter: char| {
        if letter.is_control() || is_invisible(letter) {
            '\u{fffd}'
        } else {
            letter
        }
    };
    let mut shown: String = text.chars().take(LONGEST).map(visible).collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}

/// Characters that change the direction or the look of what stands around them.
fn is_invisible(letter: char) -> bool {
    matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Gathers verdicts.
pub struct ApprovalActor {
    settings: Settings,
    desk: Desk,
    asker: Option<Box<dyn Asker>>,
    /// The question on the terminal.
    shown: Option<u64>,
}

/// How often questions are looked over for those that are too old or abandoned.
const SWEEP: Duration = Duration::from_millis(250);

impl ApprovalActor {
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            desk: Desk::new(settings.timeout),
            asker: None,
            shown: None,
        }
    }

    /// Has the oldest question on the terminal, and none that is settled.
    fn show_next(&mut self) {
        let Some(asker) = &mut self.asker else { return };
        let oldest = self.desk.open.front();
        if self.shown == oldest.map(|question| question.id) {
            return;
        }
        if self.shown.is_some() {
            asker.withdraw();
        }
        self.shown = oldest.map(|question| question.id);
        if let Some(question) = oldest {
            asker.show(&self.desk.describe(question, now()));
        }
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl Actor for ApprovalActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(256);
        if self.settings.on {
            context.run_interval(SWEEP, |actor, _| {
                actor.desk.sweep(now());
                actor.show_next();
            });
        }
    }
}

/// Gives the actor a terminal.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Attach(pub Box<dyn Asker + Send>);

impl Handler<Attach> for ApprovalActor {
    type Result = ();

    fn handle(&mut self, message: Attach, _: &mut Self::Context) {
        self.asker = Some(message.0);
        self.shown = None;
        self.show_next();
    }
}

impl Handler<Submit> for ApprovalActor {
    type Result = ();

    fn handle(&mut self, Submit(ask, caller): Submit, _: &mut Self::Context) {
        if self.settings.on {
            self.desk.add(ask, caller, now());
            self.show_next();
        } else {
            let _ = caller.send(Verdict::Approved);
        }
    }
}

impl Handler<Decide> for ApprovalActor {
    type Result = MessageResult<Decide>;

    fn handle(&mut self, decide: Decide, _: &mut Self::Context) -> Self::Result {
        self.desk.sweep(now());
        let decision = self.desk.decide(decide);
        self.show_next();
        MessageResult(decision)
    }
}

impl Handler<GetPending> for ApprovalActor {
    type Result = MessageResult<GetPending>;

    fn handle(&mut self, _: GetPending, _: &mut Self::Context) -> Self::Result {
        self.desk.sweep(now());
        MessageResult(self.desk.pending(now()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    fn ask(client: &str) -> Ask {
        Ask {
            model: "m".into(),
            client: client.into(),
            bytes: 10,
            estimated_tokens: 3,
        }
    }

    fn started(timeout: Duration) -> actix::Addr<ApprovalActor> {
        ApprovalActor::new(Settings { on: true, timeout }).start()
    }

    /// Asks, and waits for the verdict; aborted half-way it is a client that leaves.
    async fn verdict(actor: actix::Addr<ApprovalActor>, ask: Ask) -> Verdict {
        let (caller, verdict) = oneshot::channel();
        actor.do_send(Submit(ask, caller));
        verdict.await.unwrap()
    }

    async fn settle() {
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
    }

    #[test]
    fn names_from_outside_cannot_harm_a_terminal() {
        assert_eq!(harmless("a\x1b[31mb\nc\u{202e}"), "a\u{fffd}[31mb\u{fffd}c\u{fffd}");
        assert_eq!(harmless(&"x".repeat(100)).chars().count(), 81);
    }

    #[actix_web::test]
    async fn a_question_is_decided_once() {
        let actor = started(Duration::from_secs(60));
        let asking = actix_rt::spawn(verdict(actor.clone(), ask("curl")));
        settle().await;
        let pending = actor.send(GetPending).await.unwrap();
        assert_eq!(
            (pending.len(), pending[0].id, pending[0].client.as_str()),
            (1, 1, "curl")
        );
        let decide = Decide { id: 1, approve: true };
        assert_eq!(actor.send(decide).await.unwrap(), Decision::Taken);
        assert_eq!(actor.send(decide).await.unwrap(), Decision::AlreadyDecided);
        assert_eq!(
            actor.send(Decide { id: 9, approve: true }).await.unwrap(),
            Decision::Unknown
        );
        assert_eq!(asking.await.unwrap(), Verdict::Approved);
        assert!(actor.send(GetPending).await.unwrap().is_empty());
    }

    #[actix_web::test]
    async fn silence_is_a_refusal_that_names_the_way() {
        tokio::time::pause();
        let (timeout, start) = (Duration::from_secs(120), tokio::time::Instant::now());
        let verdict = verdict(started(timeout), ask("curl")).await;
        assert_eq!(verdict, Verdict::Expired(timeout));
        assert_eq!(start.elapsed().as_secs(), 120);
        assert!(verdict.to_string().contains("/admin/approvals"));
    }

    #[actix_web::test]
    async fn a_client_that_leaves_takes_its_question_along() {
        let actor = started(Duration::from_secs(60));
        let asking = actix_rt::spawn(verdict(actor.clone(), ask("curl")));
        settle().await;
        asking.abort();
        settle().await;
        assert!(actor.send(GetPending).await.unwrap().is_empty());
    }

    #[derive(Clone, Default)]
    struct Notes(Arc<Mutex<Vec<String>>>);

    impl Asker for Notes {
        fn show(&mut self, question: &Pending) {
            self.0.lock().unwrap().push(format!("show {}", question.client));
        }

        fn withdraw(&mut self) {
            self.0.lock().unwrap().push("withdraw".into());
        }
    }

    #[actix_web::test]
    async fn the_terminal_sees_one_question_at_a_time() {
        let (actor, notes) = (started(Duration::from_secs(60)), Notes::default());
        actor.send(Attach(Box::new(notes.clone()))).await.unwrap();
        let first = actix_rt::spawn(verdict(actor.clone(), ask("one")));
        settle().await;
        let second = actix_rt::spawn(verdict(actor.clone(), ask("two")));
        settle().await;
        assert_eq!(*notes.0.lock().unwrap(), ["show one"]);
        actor.send(Decide { id: 1, approve: false }).await.unwrap();
        assert_eq!(*notes.0.lock().unwrap(), ["show one", "withdraw", "show two"]);
        actor.send(Decide { id: 2, approve: true }).await.unwrap();
        assert_eq!(first.await.unwrap(), Verdict::Denied);
        assert_eq!(second.await.unwrap(), Verdict::Approved);
    }
}
