//! A history made short for Codex: by the model itself where it can, else by asking it for a summary. Both are further
//! calls on the way of one request: one permit, one line in the journal, the agent's and not the person's turn.

use serde_json::Value;

use super::admission::Target;
use super::answer::Answer;
use super::attempt::now_unix;
use super::journal::Journal;
use super::opening::Content;
use super::stream::Flow;
use super::{Asked, Call, Error, Relay};
use crate::protocol::Protocol;
use crate::protocol::failure::{Failure, Kind};
use crate::routing::Needs;
use crate::routing::initiator;
use crate::translate::ids::Ids;
use crate::translate::{Heard, Memory, Object, Reply, compaction, fold, response_object, validate};

/// That a model takes no order to compact.
const NEVER: &str = "responses.never_compacts";

/// What a model made of a history.
struct Made {
    headers: Vec<(String, String)>,
    /// The item that stands for the history.
    item: Value,
    usage: Value,
    heard: Heard,
    ids: Ids,
}

impl Relay {
    /// An ordinary request that ends in a trigger: its answer is one item.
    pub(super) async fn compact_in_stream(&self, mut call: Call) -> Result<Answer, Error> {
        let asked = call.asked();
        let (mut made, journal) = match self.made(&mut call, &asked).await {
            Ok(made) => made,
            Err((refused, journal)) => return self.refuse(&asked, refused, journal),
        };
        let reply = Reply {
            model: asked.model,
            echo: response_object::echo(&call.body)
                .into_iter()
                .chain(call.said_for_it())
                .collect(),
            ..Reply::default()
        };
        let frames = compaction::stream(&made.item, &made.usage, &reply, &mut made.ids);
        let headers = made.headers;
        if asked.stream {
            let stream = Flow::told(frames, self.closing.clone()).kept_in(journal).into();
            return Ok(Answer::Stream { headers, stream });
        }
        let mut whole = fold::gather(Protocol::Responses);
        frames.iter().try_for_each(|frame| whole.feed(frame))?;
        let body = whole.finish()?.to_string();
        Ok(Answer::Whole { headers, body })
    }

    /// `POST /responses/compact`.
    pub async fn compact(&self, call: Call) -> Result<Answer, Error> {
        let mut call = self.recollect(call).await?;
        let asked = call.asked();
        let mut made = match self.made(&mut call, &asked).await {
            Ok((made, _)) => made,
            Err((refused, journal)) => return self.refuse(&asked, refused, journal),
        };
        let body = compaction::answer(&call.body, &made.item, &made.usage, &mut made.ids).to_string();
        let headers = made.headers;
        Ok(Answer::Whole { headers, body })
    }

    /// The item, written down as an answer that is complete.
    async fn made(&self, call: &mut Call, asked: &Asked) -> Result<(Made, Journal), (Error, Journal)> {
        let mut journal = Journal::open(self.actors.clone(), asked);
        match self.make(call, &mut journal).await {
            Ok(made) => {
                journal.ended(&made.heard);
                Ok((made, journal))
            }
            Err(refused) => Err((refused, journal)),
        }
    }

    async fn make(&self, call: &mut Call, journal: &mut Journal) -> Result<Made, Error> {
        validate::body(Protocol::Responses, &call.body)?;
        let mut target = self.resolve(&call.client, &call.body).await?;
        journal.aimed_at(target.model());
        target.ways(Protocol::Responses, &Needs::default())?;
        self.admit(call, &target, journal).await?;
        self.fetch_pictures(call).await?;
        let mut memory = self.recall(call, &target).await?;
        let never = memory.learned.get(NEVER).is_some_and(|never| never == true);
        if target.model().speaks(Protocol::Responses) && !never {
            target.only = Some(Protocol::Responses);
            let asked = compaction::native_request(&call.body);
            match self.ask(call, asked, &target, &memory, journal).await {
                Ok((headers, whole, heard)) => {
                    if let Some(held) = compaction::compacted(&whole) {
                        return Ok(Made::new(call, &target, headers, held, whole, heard));
                    }
                }
                Err(refused) if is_about_request(refused.failure.kind) => {
                    if compaction::is_about_trigger(&refused.failure.message) {
                        self.learn(&target, &mut memory, (NEVER.into(), true.into()));
                    }
                }
                Err(refused) => return Err(refused),
            }
            log::info!(
                "{} does not compact by itself; asking it for a summary",
                target.model().id
            );
            target.only = None;
        }
        let asked = compaction::summary_request(&call.body);
        let (headers, whole, heard) = self.ask(call, asked, &target, &memory, journal).await?;
        let held = compaction::summary(&whole)
            .ok_or_else(|| Failure::new(Kind::UpstreamGarbage, "the model gave no summary of the history"))?;
        Ok(Made::new(call, &target, headers, held, whole, heard))
    }

    /// Asks the model and gathers its answer.
    async fn ask(
        &self,
        call: &Call,
        body: Object,
        target: &Target,
        memory: &Memory,
        journal: &mut Journal,
    ) -> Result<(Vec<(String, String)>, Value, Heard), Error> {
        let call = Call::of(call.client.clone(), body);
        let cause = initiator::compaction(self.settings.compaction_is_agent);
        let opened = self.attempt(call, target, memory.clone(), cause, journal).await?;
        match opened.content {
            Content::Whole { body, heard } => Ok((opened.headers, body, heard)),
            Content::Stream(flow) => match flow.gather(Protocol::Responses, self.settings.max_answer_bytes).await {
                Ok((body, heard)) => Ok((opened.headers, body, heard)),
                Err(failure) => Err(Error::told(failure, opened.headers)),
            },
        }
    }
}

/// Whether upstream has refused what was asked of it, not who asked or how often.
fn is_about_request(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::BadRequest | Kind::ContentFiltered | Kind::NotFound | Kind::UnsupportedEndpoint
    )
}

impl Made {
    fn new(
        call: &Call,
        target: &Target,
        headers: Vec<(String, String)>,
        held: crate::translate::carrier::Compacted,
        mut whole: Value,
        heard: Heard,
    ) -> Self {
        let mut ids = Ids::new(call.client.request_id.clone(), now_unix());
        let item = compaction::item(held, &target.model().id, &mut ids);
        Self {
            headers,
            item,
            usage: whole["usage"].take(),
            heard,
            ids,
        }
    }
}
