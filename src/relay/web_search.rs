//! Anthropic's web search for models that have none: a request that is all about a search goes to a model that searches,
//! and comes back as the search its client asked for. Claude Code searches by such requests. Beside other tools a
//! function stands for the search, and what it is called for is `searching`'s.

use serde_json::Value;

use super::admission::Target;
use super::journal::Journal;
use super::opening::Opened;
use super::{Call, Client, Error, Relay, WebSearch, attempt};
use crate::protocol::Protocol;
use crate::protocol::failure::Failure;
use crate::routing::initiator::Cause;
use crate::translate::searching::{self, is_search};
use crate::translate::{Memory, Object};

impl Relay {
    /// The model that searches in place of one that is not able to, for a request that asks for just that.
    pub(super) async fn searcher(
        &self,
        call: &Call,
        target: &Target,
        memory: &Memory,
    ) -> Result<Option<Target>, Error> {
        if self.settings.web_search.is_none() {
            return Ok(None);
        }
        let client = call.client.protocol;
        if target.only.is_some() || !is_all(client, &call.body) {
            return Ok(None);
        }
        let way = target.ways(client, &attempt::needs(client, &call.body, memory))?[0];
        if has_search(way, memory) {
            return Ok(None);
        }
        self.searcher_for(&target.asked).await.map(Some)
    }

    /// The model that searches, in place of the one that was asked for by this name.
    pub(super) async fn searcher_for(&self, asked: &str) -> Result<Target, Error> {
        let settings = self.settings.web_search.as_ref();
        let name = settings.map(|settings| settings.model.as_str()).unwrap_or_default();
        let catalog = self.catalog().await?;
        Ok(Target {
            asked: asked.to_owned(),
            resolved: self.names(&catalog).resolve(name, false)?,
            only: Some(Protocol::Responses),
        })
    }

    /// Whether the model by this way must have another one search, and has been told of a function for it; the name of
    /// that.
    pub(super) fn offer_search(
        &self,
        client: &Client,
        target: &Target,
        memory: &Memory,
        way: Protocol,
        body: &mut Object,
    ) -> Option<String> {
        let is_ours = client.dialect == Protocol::Messages.into() && target.only.is_none();
        let wanted = self.settings.web_search.is_some() && is_ours && !has_search(way, memory);
        wanted.then(|| searching::offer(body)).flatten()
    }

    /// Has the request served by a model that searches.
    pub(super) async fn search(
        &self,
        call: Call,
        searcher: &Target,
        cause: Cause,
        journal: &mut Journal,
    ) -> Result<Opened, Error> {
        journal.aimed_at(searcher.model());
        let memory = self.recall(&call, searcher).await?;
        Box::pin(self.attempt(call, searcher, memory, cause, journal)).await
    }
}

/// Whether a model searches by itself, as far as is known, where it is asked by this protocol.
fn has_search(way: Protocol, memory: &Memory) -> bool {
    let refused = memory.learned.get(&format!("{}.tools", way.name()));
    let refused = refused.and_then(Value::as_array).into_iter().flatten();
    let mut refused = refused.filter_map(Value::as_str);
    way != Protocol::Chat && !refused.any(|kind| kind.starts_with("web_search"))
}

/// Whether the request can only be answered by searching: it offers nothing else, or forces the search.
pub(super) fn is_all(client: Protocol, body: &Object) -> bool {
    let tools = body
        .get("tools")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let forced = body
        .get("tool_choice")
        .filter(|choice| choice["type"] == "tool")
        .map(|choice| &choice["name"]);
    let mut searches = tools.iter().filter(|tool| is_search(tool));
    client == Protocol::Messages
        && match forced {
            Some(name) => searches.any(|tool| tool["name"] == *name),
            None => !tools.is_empty() && tools.iter().all(is_search),
        }
}

/// Refuses a request to a searcher that turned out to have no search: an answer from nowhere would look like a found one.
pub(super) fn check(searcher: &Target, request: &Object) -> Result<(), Failure> {
    let tools = request.get("tools").and_then(Value::as_array).into_iter().flatten();
    let mut kinds = tools.filter_map(|tool| tool["type"].as_str());
    if kinds.any(|kind| kind.starts_with("web_search")) {
        return Ok(());
    }
    let sentence = format!(
        "web_search.model names {}, which does not search the web",
        searcher.model().id
    );
    Err(Failure::bad("tools", sentence))
}

/// How many searches one request may cost: as its client says, but no more than the setting allows.
pub(super) fn most(asked: &Object, settings: &WebSearch) -> u64 {
    let tools = asked.get("tools").and_then(Value::as_array).into_iter().flatten();
    let wanted = tools.filter_map(|tool| tool["max_uses"].as_u64()).min();
    let most = u64::from(settings.max_uses);
    wanted.map_or(most, |wanted| wanted.min(most))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn all(body: Value) -> bool {
        is_all(Protocol::Messages, body.as_object().unwrap())
    }

    #[test]
    fn only_a_request_that_is_all_about_a_search_goes_elsewhere() {
        let search = json!({"type": "web_search_20250305", "name": "web_search", "max_uses": 9});
        assert!(all(json!({"tools": [search]})));
        assert!(!all(json!({"tools": [search, {"name": "f"}]})));
        assert!(all(
            json!({"tools": [search, {"name": "f"}], "tool_choice": {"type": "tool", "name": "web_search"}})
        ));
        assert!(!all(
            json!({"tools": [search], "tool_choice": {"type": "tool", "name": "f"}})
        ));
        assert!(!all(json!({"tools": []})) && !all(json!({})));
        assert!(!is_all(Protocol::Chat, json!({"tools": [search]}).as_object().unwrap()));
    }

    #[test]
    fn a_model_searches_until_it_has_refused_to() {
        let mut memory = Memory::default();
        assert!(!has_search(Protocol::Chat, &memory));
        assert!(has_search(Protocol::Messages, &memory) && has_search(Protocol::Responses, &memory));
        memory
            .learned
            .insert("messages.tools".into(), json!(["web_search_20250305"]));
        assert!(!has_search(Protocol::Messages, &memory) && has_search(Protocol::Responses, &memory));
    }

    #[test]
    fn the_smaller_bound_holds() {
        let settings = WebSearch {
            model: "m".into(),
            max_uses: 5,
        };
        let bounded = |asked: Value| most(asked.as_object().unwrap(), &settings);
        assert_eq!(bounded(json!({"tools": [{"max_uses": 9}]})), 5);
        assert_eq!(bounded(json!({"tools": [{"max_uses": 2}]})), 2);
        assert_eq!(bounded(json!({})), 5);
    }
}
