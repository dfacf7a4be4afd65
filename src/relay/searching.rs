//! The journey of an answer in several legs: the model that was asked wants to know something, another one searches,
//! and the first goes on. One verdict, one permit and one line in the journal for all of it. What the legs come to is
//! [`Legs`]' to say.

use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::admission::Target;
use super::attempt::now_unix;
use super::error::of_upstream;
use super::journal::Journal;
use super::opening::Content;
use super::stream::{Flow, Piece};
use super::{Call, Client, Error, Relay};
use crate::actors::memory::Keep;
use crate::protocol::Protocol::Messages;
use crate::protocol::failure::{Failure, Kind};
use crate::protocol::sse::Frame;
use crate::protocol::{Initiator, json};
use crate::routing::initiator::Cause;
use crate::translate::ids::Ids;
use crate::translate::searching::{self, Found, Leg, Legs, UNAVAILABLE, Wanted};
use crate::translate::to_messages::failed;
use crate::translate::{Heard, Object, fold};
use crate::upstream;

/// Longer queries are no queries.
const LONGEST_QUERY: usize = 1000;

/// What must be known to let a model go on.
pub(super) struct Searching {
    pub client: Client,
    pub target: Target,
    /// The client's request, which offers the search.
    pub request: bytes::Bytes,
    /// The name of the tool that stands for the search.
    pub tool: String,
}

/// An answer on its way to the client. Dropping it drops whatever leg is under way, and the permit.
pub struct Chain {
    tour: Option<LocalBoxFuture<'static, ()>>,
    frames: mpsc::Receiver<Vec<Frame>>,
    begun: bool,
    heartbeat: Duration,
    last_sent: Instant,
}

impl Chain {
    /// The next piece, or `None` after the last.
    pub async fn next(&mut self) -> Option<Piece> {
        loop {
            let patience = self.heartbeat.saturating_sub(self.last_sent.elapsed());
            tokio::select! {
                biased;
                frames = self.frames.recv() => {
                    self.begun = true;
                    self.last_sent = Instant::now();
                    return frames.map(Piece::Frames);
                }
                () = run(&mut self.tour) => self.tour = None,
                () = tokio::time::sleep(patience) => {
                    self.last_sent = Instant::now();
                    return Some(Piece::Heartbeat { begun: self.begun });
                }
            }
        }
    }

    /// Gathers the whole answer, of at most `limit` bytes.
    pub(super) async fn gather(mut self, limit: usize) -> Result<serde_json::Value, Failure> {
        let (mut whole, mut length) = (fold::gather(Messages), 0);
        while let Some(piece) = self.next().await {
            let Piece::Frames(frames) = piece else { continue };
            for frame in frames {
                length += frame.data.len();
                whole.feed(&frame)?;
            }
            if length > limit {
                return Err(of_upstream(&upstream::Error::TooLarge { limit }));
            }
        }
        whole.finish()
    }
}

async fn run(tour: &mut Option<LocalBoxFuture<'static, ()>>) {
    match tour {
        Some(tour) => tour.await,
        None => std::future::pending().await,
    }
}

impl Relay {
    /// The answer that begins with this leg.
    pub(super) fn chain(&self, searching: Searching, first: Content, journal: Journal) -> Chain {
        let (out, frames) = mpsc::channel(1);
        let asked = json::object(&searching.request).unwrap_or_default();
        let most = self.settings.web_search.as_ref();
        let most = most.map_or(0, |settings| super::web_search::most(&asked, settings));
        let ids = Ids::new(format!("{} searches", searching.client.request_id), now_unix());
        let tour = Tour {
            legs: Legs::new(searching.tool.clone(), most, ids),
            relay: self.clone(),
            searching,
            asked,
            journal,
            heard: Heard::default(),
            out,
        };
        Chain {
            tour: Some(Box::pin(tour.travel(first))),
            frames,
            begun: false,
            heartbeat: self.settings.heartbeat,
            last_sent: Instant::now(),
        }
    }
}

/// The legs, one after the other.
struct Tour {
    relay: Relay,
    searching: Searching,
    /// The request of the leg to come.
    asked: Object,
    legs: Legs,
    journal: Journal,
    heard: Heard,
    out: mpsc::Sender<Vec<Frame>>,
}

impl Tour {
    async fn travel(mut self, first: Content) {
        if let Err(failure) = self.all(first).await {
            self.journal.failed(&failure);
            let frame = failed(&failure, &self.searching.client.request_id);
            self.send(vec![frame]).await;
        }
        self.journal.ended(&self.heard);
    }

    async fn all(&mut self, first: Content) -> Result<(), Failure> {
        let mut content = first;
        loop {
            let leg = self.leg(content).await?;
            for wanted in &leg.wanted {
                let found = match self.legs.may_search() {
                    true => Some(self.search(wanted).await),
                    false => None,
                };
                let mut frames = Vec::new();
                self.legs.found(wanted, found, &mut frames);
                self.send(frames).await;
            }
            if !self.legs.go_on(&leg, &mut self.asked) {
                let mut frames = Vec::new();
                self.legs.finish(&leg, &mut frames);
                self.send(frames).await;
                return Ok(());
            }
            content = self.ask().await?;
        }
    }

    /// Passes a leg on to its end.
    async fn leg(&mut self, content: Content) -> Result<Leg, Failure> {
        let (mut flow, heard) = match content {
            Content::Stream(flow) => (flow, None),
            Content::Whole { body, heard } => {
                let flow = Flow::told(fold::unfold(Messages, &body), self.relay.closing.clone());
                (Box::new(flow), Some(heard))
            }
        };
        let (mut length, limit) = (0, self.relay.settings.max_answer_bytes);
        while let Some(piece) = flow.next().await {
            let Piece::Frames(frames) = piece else { continue };
            let (mut out, mut over) = (Vec::new(), None);
            for frame in frames {
                length += frame.data.len();
                over = self.legs.feed(frame, &mut out)?.or(over);
            }
            self.send(out).await;
            if let Some(leg) = over {
                self.hear(heard.unwrap_or_else(|| flow.heard()));
                return Ok(leg);
            }
            if length > limit {
                return Err(of_upstream(&upstream::Error::TooLarge { limit }));
            }
        }
        Err(Failure::truncated())
    }

    /// Has the model go on.
    async fn ask(&mut self) -> Result<Content, Error> {
        let Self { relay, searching, .. } = self;
        let call = Call::of(searching.client.clone(), self.asked.clone());
        let memory = relay.recall(&call, &searching.target).await?;
        let cause = relay.cause(&call);
        let opened = relay
            .attempt(call, &searching.target, memory, cause, &mut self.journal)
            .await?;
        Ok(opened.content)
    }

    /// What a search comes to; where it fails, why, in the API's word.
    async fn search(&mut self, wanted: &Wanted) -> Result<Found, String> {
        if wanted.query.trim().is_empty() {
            return Err("invalid_tool_input".into());
        }
        if wanted.query.chars().count() > LONGEST_QUERY {
            return Err("query_too_long".into());
        }
        match self.answer(&wanted.query).await {
            Ok(answer) => Found::read(&answer),
            Err(error) => {
                log::warn!("a search failed: {}", error.failure.message);
                let is_limit = error.failure.kind == Kind::RateLimited;
                Err(if is_limit { "too_many_requests" } else { UNAVAILABLE }.into())
            }
        }
    }

    async fn answer(&mut self, query: &str) -> Result<serde_json::Value, Error> {
        let Self { relay, searching, .. } = self;
        let target = relay.searcher_for(&searching.target.asked).await?;
        let call = Call::of(searching.client.clone(), searching::request(&self.asked, query));
        let memory = relay.recall(&call, &target).await?;
        // The model wants it, not the person.
        let cause = Cause {
            initiator: Initiator::Agent,
            interaction: None,
        };
        let attempt = relay.attempt(call, &target, memory, cause, &mut self.journal);
        let (answer, heard) = match Box::pin(attempt).await?.content {
            Content::Whole { body, heard } => (body, heard),
            Content::Stream(flow) => flow.gather(Messages, relay.settings.max_answer_bytes).await?,
        };
        self.hear(heard);
        Ok(answer)
    }

    /// Adds up what the legs cost, and keeps what the next may need.
    fn hear(&mut self, mut heard: Heard) {
        let kept = std::mem::take(&mut heard.kept);
        if !kept.is_empty() {
            self.relay.actors.memory.do_send(Keep(kept));
        }
        self.heard.add(&heard);
    }

    /// Waits until the client has taken what came before. Who has left takes nothing, and ends all this.
    async fn send(&mut self, frames: Vec<Frame>) {
        if !frames.is_empty() {
            self.journal.sent();
            let _ = self.out.send(frames).await;
        }
    }
}
