//! What an upstream's own tools did in a history, in a few words, for models that have no such tools.

use serde_json::{Value, json};

use super::list;

/// How the ids of a server's own calls begin.
pub const SEARCH_ID: &str = "srvtoolu_";

/// A Messages block of a server's tool, as text; nothing for any other block.
pub fn of_block(block: &Value) -> Option<String> {
    match block["type"].as_str()? {
        "server_tool_use" | "mcp_tool_use" => Some(match block["input"]["query"].as_str() {
            Some(query) => format!("[web search: \"{query}\"]"),
            None => format!("[{}]", block["name"].as_str()?),
        }),
        kind if kind.ends_with("_tool_result") && kind != "tool_result" => {
            if let Some(code) = block["content"]["error_code"].as_str() {
                return Some(format!("[failed: {code}]"));
            }
            let lines: Vec<String> = list(&block["content"]).iter().filter_map(line).collect();
            let output = block["content"]["stdout"].as_str().map(str::to_owned);
            let text = output.unwrap_or_else(|| lines.join("\n"));
            (!text.trim().is_empty()).then_some(text)
        }
        _ => None,
    }
}

/// Replaces what no Messages upstream would know again: searches that another upstream ran, and what was cited of them.
pub fn tell_foreign(blocks: &mut Vec<Value>) {
    for block in std::mem::take(blocks) {
        if is_foreign(&block) {
            blocks.extend(of_block(&block).map(|text| json!({"type": "text", "text": text})));
        } else {
            blocks.push(without_foreign_citations(block));
        }
    }
}

/// Whether the search has an id of ours, which stands on those that are written for a client.
fn is_foreign(block: &Value) -> bool {
    let id = match block["type"].as_str() {
        Some("server_tool_use") => &block["id"],
        Some("web_search_tool_result") => &block["tool_use_id"],
        _ => return false,
    };
    id.as_str()
        .and_then(|id| id.strip_prefix(SEARCH_ID))
        .is_some_and(|rest| rest.len() == 32 && rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn without_foreign_citations(mut block: Value) -> Value {
    if let Some(fields) = block.as_object_mut()
        && let Some(citations) = fields.get_mut("citations").and_then(Value::as_array_mut)
    {
        citations.retain(|citation| citation["encrypted_index"] != "");
        if citations.is_empty() {
            fields.shift_remove("citations");
        }
    }
    block
}

/// A Responses item of a search, as text; nothing for any other item.
pub fn of_item(item: &Value) -> Option<String> {
    if item["type"] != "web_search_call" {
        return None;
    }
    let action = &item["action"];
    let first = list(&action["queries"]).first().and_then(Value::as_str);
    let asked = action["query"].as_str().or(first).or(action["url"].as_str());
    Some(format!("[web search: {}]", asked.unwrap_or_default()))
}

/// One result: its title and address, or its text.
fn line(result: &Value) -> Option<String> {
    let known = ["title", "url", "text"].map(|name| result[name].as_str());
    let words: Vec<&str> = known.into_iter().flatten().filter(|word| !word.is_empty()).collect();
    (!words.is_empty()).then(|| words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_of_anothers_is_words_to_a_messages_upstream() {
        let call =
            |id: &str| json!({"type": "server_tool_use", "id": id, "name": "web_search", "input": {"query": "q"}});
        let found = |id: &str| json!({"type": "web_search_tool_result", "tool_use_id": id, "content": []});
        let cited = |index: &str| json!({"type": "text", "text": "t", "citations": [{"encrypted_index": index}]});
        let ours = format!("{SEARCH_ID}0123456789abcdef0123456789abcdef");
        let mut blocks = vec![call(&ours), found(&ours), cited("")];
        tell_foreign(&mut blocks);
        let text = |text: &str| json!({"type": "text", "text": text});
        assert_eq!(blocks, [text("[web search: \"q\"]"), text("t")]);
        let native = [call("srvtoolu_01A"), found("srvtoolu_01A"), cited("e")];
        let mut blocks = native.to_vec();
        tell_foreign(&mut blocks);
        assert_eq!(blocks, native);
    }

    #[test]
    fn searches_are_told_in_words() {
        let of = |block| of_block(&block);
        assert_eq!(
            of(json!({"type": "server_tool_use", "name": "web_search", "input": {"query": "q"}})).as_deref(),
            Some("[web search: \"q\"]")
        );
        assert_eq!(
            of(json!({"type": "web_search_tool_result", "content": [
                {"type": "web_search_result", "title": "T", "url": "u", "encrypted_content": "secret"}]}))
            .as_deref(),
            Some("T u")
        );
        let error = json!({"type": "web_search_tool_result_error", "error_code": "unavailable"});
        assert_eq!(
            of(json!({"type": "web_search_tool_result", "content": error})).as_deref(),
            Some("[failed: unavailable]")
        );
        assert_eq!(of(json!({"type": "tool_result", "content": "x"})), None);
        assert_eq!(
            of_item(&json!({"type": "web_search_call", "action": {"type": "search", "query": "q"}})).as_deref(),
            Some("[web search: q]")
        );
    }
}
