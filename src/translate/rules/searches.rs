//! What an upstream's own tools did in a history, in a few words, for models that have no such tools.

use serde_json::Value;

use super::list;

/// A Messages block of a server's tool, as text; nothing for any other block.
pub fn of_block(block: &Value) -> Option<String> {
    match block["type"].as_str()? {
        "server_tool_use" | "mcp_tool_use" => Some(match block["input"]["query"].as_str() {
            Some(query) => format!("[web search: \"{query}\"]"),
            None => format!("[{}]", block["name"].as_str()?),
        }),
        kind if kind.ends_with("_tool_result") && kind != "tool_result" => {
            let lines: Vec<String> = list(&block["content"]).iter().filter_map(line).collect();
            let output = block["content"]["stdout"].as_str().map(str::to_owned);
            let text = output.unwrap_or_else(|| lines.join("\n"));
            (!text.trim().is_empty()).then_some(text)
        }
        _ => None,
    }
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
    use serde_json::json;

    use super::*;

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
        assert_eq!(of(json!({"type": "tool_result", "content": "x"})), None);
        assert_eq!(
            of_item(&json!({"type": "web_search_call", "action": {"type": "search", "query": "q"}})).as_deref(),
            Some("[web search: q]")
        );
    }
}
