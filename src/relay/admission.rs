//! Before a request may go: which model it means, a person's verdict, then a permit. The verdict comes first, since a
//! person may take minutes and no permit is held while one thinks.

use std::collections::HashMap;
use std::sync::Arc;

use super::journal::Journal;
use super::{Call, Client, Error, Relay};
use crate::actors::approval::{Ask, Verdict};
use crate::actors::memory::Recall;
use crate::actors::recorder::Phase;
use crate::protocol::Protocol;
use crate::protocol::catalog::{Catalog, Model};
use crate::protocol::failure::{Failure, Kind};
use crate::routing::names::{Names, Resolved};
use crate::routing::{self, Needs};
use crate::translate::tally::Tally;
use crate::translate::{Memory, Object, estimate, history};

/// The model a request means, under the name its client gave it.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub asked: String,
    pub resolved: Resolved,
    /// The request is served elsewhere than its client asked, and so by one way only.
    pub only: Option<Protocol>,
}

impl Target {
    /// The ways to the model that this request may take, best first; never empty.
    pub fn ways(&self, client: Protocol, needs: &Needs) -> Result<Vec<Protocol>, Failure> {
        match self.only {
            Some(way) if self.model().speaks(way) => Ok(vec![way]),
            Some(_) => Err(routing::unsupported("web_search", self.model())),
            None => routing::ways(client, self.model(), needs),
        }
    }

    pub fn model(&self) -> &Arc<Model> {
        &self.resolved.model
    }
}

impl Relay {
    pub async fn catalog(&self) -> Result<Arc<Catalog>, Error> {
        let current = self.actors.catalog().await?;
        current.map_err(|why| Failure::new(Kind::Unavailable, format!("no model list yet: {why}")).into())
    }

    /// Explains names by this list and the user's aliases.
    pub fn names<'a>(&'a self, catalog: &'a Catalog) -> Names<'a> {
        Names {
            catalog,
            aliases: &self.settings.aliases,
            fallback: self.settings.fallback,
        }
    }

    /// Explains the name in the request.
    pub(super) async fn resolve(&self, client: &Client, body: &Object) -> Result<Target, Error> {
        let catalog = self.catalog().await?;
        let asked = body
            .get("model")
            .and_then(|model| model.as_str())
            .unwrap_or_default()
            .to_owned();
        let wanted = match &self.settings.warmup_model {
            Some(small) if is_warmup(client, body) => small,
            _ => &asked,
        };
        let resolved = self.names(&catalog).resolve(wanted, client.asks_long_context())?;
        if resolved.fell_back {
            log::warn!("there is no model {asked}; using {}", resolved.model.id);
        }
        Ok(Target {
            asked,
            resolved,
            only: None,
        })
    }

    /// Waits for the verdict, then for the permit, and says in the journal which.
    pub(super) async fn admit(&self, call: &Call, target: &Target, journal: &mut Journal) -> Result<(), Error> {
        if self.settings.manual_approval {
            let ask = Ask {
                model: target.model().id.clone(),
                client: call.client.agent.clone(),
                bytes: call.text.len(),
                estimated_tokens: self
                    .estimate(call.client.protocol, &call.body, Some(target.model()))
                    .await,
            };
            journal.waits(Phase::WaitingForApproval);
            let verdict = self.actors.approve(ask).await?;
            if verdict != Verdict::Approved {
                return Err(Failure::new(Kind::Denied, verdict.to_string()).into());
            }
        }
        if self.actors.published.free.is_none() {
            journal.waits(Phase::Queued);
        }
        let acquired = self.actors.acquire().await?;
        let permit = acquired.map_err(|refused| {
            let failure = Failure::new(Kind::RateLimited, refused.to_string());
            Failure {
                retry_after: Some(refused.retry_after_secs().to_string()),
                ..failure
            }
        })?;
        journal.admitted(permit);
        Ok(())
    }

    /// What earlier calls taught about this model, and the reasoning its client may have lost.
    pub(super) async fn recall(&self, call: &Call, target: &Target) -> Result<Memory, Error> {
        let call_ids = history::call_ids(call.client.protocol, &call.body);
        let kept = if call_ids.is_empty() {
            HashMap::new()
        } else {
            self.actors.ask(&self.actors.memory, Recall { call_ids }).await?
        };
        let learned = self.actors.facts(&target.model().id);
        Ok(Memory { learned, kept })
    }

    /// The prompt's size in tokens, counted beside the worker.
    pub(super) async fn estimate(&self, client: Protocol, body: &Object, model: Option<&Arc<Model>>) -> u64 {
        let (tally, model) = (Tally::of(client, body), model.cloned());
        let multipliers = self.settings.multipliers.clone();
        let counted = actix_rt::task::spawn_blocking(move || estimate::tokens(&tally, model.as_deref(), &multipliers));
        counted.await.unwrap_or(0)
    }
}

/// Claude Code's call that only warms the connection up.
fn is_warmup(client: &Client, body: &Object) -> bool {
    let last = body.get("messages").and_then(|messages| messages.as_array()?.last());
    let says_warmup = last
        .and_then(|last| last["content"].as_array()?.last())
        .is_some_and(|block| {
            let text = block["text"].as_str().unwrap_or_default();
            text.trim().eq_ignore_ascii_case("warmup") && !block["cache_control"].is_null()
        });
    let has_tools = body
        .get("tools")
        .and_then(|tools| tools.as_array())
        .is_some_and(|tools| !tools.is_empty());
    client.protocol == Protocol::Messages && !client.betas.is_empty() && !has_tools && says_warmup
}
