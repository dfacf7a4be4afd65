//! Texts into vectors: the one call that is no turn of a model.

use std::borrow::Cow;

use serde_json::Value;

use super::error::{of_upstream, passed_on};
use super::journal::Journal;
use super::{Answer, Call, Error, Relay};
use crate::protocol::failure::{Failure, Kind};
use crate::protocol::{Dialect, json};
use crate::routing;
use crate::translate::{Heard, embeddings, turn};
use crate::upstream::copilot::{self, Endpoint};

/// The most numbers of one answer: those of the most texts and the longest vectors there are.
const MOST_NUMBERS: usize = 4_000_000;

impl Relay {
    pub async fn embed(&self, call: Call) -> Result<Answer, Error> {
        let asked = call.asked();
        let mut journal = Journal::open(self.actors.clone(), &asked);
        let embedded = self.embed_once(&call, &mut journal).await;
        embedded.or_else(|refused| self.refuse(&asked, refused, journal))
    }

    async fn embed_once(&self, call: &Call, journal: &mut Journal) -> Result<Answer, Error> {
        if call.body.get("model").and_then(Value::as_str).is_none_or(str::is_empty) {
            return Err(Failure::bad("model", "model: Field required").into());
        }
        let target = self.resolve(&call.client, &call.body).await?;
        let model = target.model();
        journal.aimed_at(model);
        if !model.endpoints.embeddings {
            let catalog = self.catalog().await?;
            let able = catalog.models().iter().filter(|model| model.endpoints.embeddings);
            let able: Vec<&str> = able.map(|model| model.id.as_str()).collect();
            let mut failure = routing::unsupported("/embeddings", model);
            failure
                .message
                .push_str(&format!("; embeddings come from {}", able.join(", ")));
            return Err(failure.into());
        }
        let gemini = call.client.dialect == Dialect::Gemini;
        let question = if gemini {
            Cow::Owned(embeddings::of_gemini(&call.body))
        } else {
            Cow::Borrowed(&call.body)
        };
        let asked = embeddings::request(&question, model)?;
        self.admit(call, &target, journal).await?;
        journal.sets_out("embeddings".into());
        let body = json::text(&asked.body, call.text.len());
        let answer = self
            .send(&copilot::Call {
                body: Some(body.into()),
                extra: model.request_headers.clone(),
                request_id: uuid::Uuid::new_v4().to_string(),
                ..copilot::Call::new(Endpoint::Embeddings)
            })
            .await?;
        let mut headers = passed_on(&answer.headers);
        headers.push(("x-copilot-model".into(), model.id.clone()));
        let whole = answer
            .whole(self.settings.max_answer_bytes)
            .await
            .map_err(|error| of_upstream(&error))?;
        let garbage = || Failure::new(Kind::UpstreamGarbage, "upstream's embeddings are no JSON");
        if !json::fits(&whole, MOST_NUMBERS) {
            return Err(garbage().into());
        }
        let whole = serde_json::from_slice(&whole).map_err(|_| garbage())?;
        let body = embeddings::answer(whole, &asked, &target.asked)?;
        let usage = turn::Usage {
            input: body["usage"]["prompt_tokens"].as_u64(),
            ..turn::Usage::default()
        };
        journal.ended(&Heard {
            usage,
            ..Heard::default()
        });
        let body = if gemini {
            embeddings::for_gemini(body, &call.body)
        } else {
            body
        };
        Ok(Answer::Whole {
            headers,
            body: body.to_string(),
        })
    }
}
