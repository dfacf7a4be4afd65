//! Anthropic's web search for models that have none: a request that is all about a search goes to a model that searches,
//! and comes back as the search its client asked for. Claude Code searches by such requests. Beside other tools the
//! search is left out, as where the setting is off.

use serde_json::Value;

use super::WebSearch;
use crate::protocol::Protocol;
use crate::translate::Object;

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

fn is_search(tool: &Value) -> bool {
    tool["type"]
        .as_str()
        .is_some_and(|kind| kind.starts_with("web_search_"))
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
