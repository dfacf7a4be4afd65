//! What Responses does by itself, as items of an answer: searches of the web, with citations in the text that follows,
//! and compacted histories. Knows no event and no request.

use serde_json::{Value, json};

use super::mind::{Answer, Deed, found};
use super::seals;
use crate::protocol::catalog::Model;

/// In how many items a model makes a history short; in none if it refuses to be asked.
pub fn compactions(model: &Model) -> usize {
    match model.gpt_version() {
        _ if model.id == "gpt-5-mini" => 2,
        Some(version) if version >= (5, 3) => 1,
        _ => 0,
    }
}

/// The item that a deed leaves; a search's tells its sources to whoever asks for them.
pub fn item(deed: &Deed, model: &Model, with_sources: bool) -> Value {
    match deed {
        Deed::Search(query) => {
            let mut action = json!({"queries": [query], "query": query, "type": "search"});
            if with_sources {
                action["sources"] = json!([{"type": "url", "url": found(query).url}]);
            }
            json!({"action": action, "status": "completed", "type": "web_search_call"})
        }
        // Sealed for the models that can read it.
        Deed::Compaction => {
            json!({"encrypted_content": seals::seal("compaction", model.house()), "type": "compaction"})
        }
    }
}

/// The item when it begins: what was searched for is told when that is over.
pub fn begun(item: &Value) -> Value {
    match item.get("action") {
        Some(_) => json!({"status": "in_progress", "type": item["type"]}),
        None => item.clone(),
    }
}

/// Where the text says what a search found, character by character.
pub fn citations(answer: &Answer) -> Vec<Value> {
    let text = answer.whole_text();
    let cite = |deed: &Deed| {
        let Deed::Search(query) = deed else { return None };
        let page = found(query);
        let (before, _) = text.split_once(&page.title)?;
        let start = before.chars().count();
        Some(json!({
            "end_index": start + page.title.chars().count(),
            "start_index": start,
            "title": page.title,
            "type": "url_citation",
            "url": page.url,
        }))
    };
    answer.deeds.iter().filter_map(cite).collect()
}
