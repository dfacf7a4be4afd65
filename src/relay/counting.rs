//! How many tokens a prompt has: upstream's own count where the model has one, an estimate everywhere else. Never fails
//! for a body that is valid: clients count often, and take a failure badly.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use serde_json::Value;

use super::{Client, Error, Relay};
use crate::actors::memory::{CountedTokens, RememberCount};
use crate::protocol::{Dialect, Protocol, json};
use crate::translate::request::gemini_to_chat;
use crate::translate::{self, Object};
use crate::upstream::copilot::{Call, Endpoint};

/// Upstream is asked no longer than this.
const PATIENCE: Duration = Duration::from_secs(5);
/// Fields of a Messages request that say how to answer, not what is asked.
const NOT_COUNTED: [&str; 7] = [
    "stream",
    "max_tokens",
    "temperature",
    "top_p",
    "metadata",
    "stop_sequences",
    "output_config",
];
const MAX_ANSWER: usize = 64 << 10;

impl Relay {
    /// The prompt's tokens, for each door that counts them.
    pub async fn count_tokens(&self, client: &Client, body: &mut Object) -> Result<u64, Error> {
        if self.remembers(client.protocol) {
            self.fill_in(body, 0).await?;
        }
        let travelling;
        let body = match client.dialect {
            Dialect::Of(_) => &*body,
            Dialect::Gemini => {
                travelling = gemini_to_chat::countable(body.clone())?;
                &travelling
            }
        };
        translate::validate::countable(client.protocol, body)?;
        let target = self.resolve(client, body).await.ok();
        if let Some(target) = target.as_ref().filter(|target| target.model().endpoints.messages)
            && client.protocol == Protocol::Messages
        {
            match self.count_upstream(client, body, target).await {
                Ok(count) => return Ok(count),
                Err(why) => log::info!("estimating tokens here: {why}"),
            }
        }
        Ok(self
            .estimate(
                client.protocol,
                body,
                target.as_ref().map(super::admission::Target::model),
            )
            .await)
    }

    async fn count_upstream(
        &self,
        client: &Client,
        body: &Object,
        target: &super::admission::Target,
    ) -> Result<u64, String> {
        let mut call = super::Call::of(client.clone(), body.clone());
        let memory = self
            .recall(&call, target)
            .await
            .map_err(|error| error.failure.message)?;
        let body = std::mem::take(&mut call.body);
        let mut request = self
            .translate(&call, body, target, &memory, Protocol::Messages)
            .map_err(|failure| failure.message)?;
        for field in NOT_COUNTED {
            request.body.shift_remove(field);
        }
        let body = json::text(&request.body, call.text.len());
        let key = hash_of(&body);
        if let Ok(Some(count)) = self.actors.ask(&self.actors.memory, CountedTokens(key)).await {
            return Ok(count);
        }
        let ask = Call {
            body: Some(body.into()),
            vision: request.vision,
            betas: request.betas,
            extra: target.model().request_headers.clone(),
            request_id: uuid::Uuid::new_v4().to_string(),
            ..Call::new(Endpoint::CountTokens)
        };
        let counted = async {
            let answer = self.send(&ask).await.map_err(|error| error.failure.message)?;
            let whole = answer.whole(MAX_ANSWER).await.map_err(|error| error.to_string())?;
            let count = serde_json::from_slice::<Value>(&whole)
                .ok()
                .and_then(|answer| answer["input_tokens"].as_u64());
            count.ok_or_else(|| "upstream's count is no number".to_owned())
        };
        let count = tokio::time::timeout(PATIENCE, counted)
            .await
            .map_err(|_| "upstream does not count in time".to_owned())??;
        self.actors.memory.do_send(RememberCount { key, count });
        Ok(count)
    }
}

fn hash_of(body: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    hasher.finish()
}
