//! The line that a client puts before its system prompt to say who pays. It changes with every request, and a prompt
//! that changes at its beginning is never found in a cache.

use serde_json::Value;

use crate::translate::Object;

const MARK: &str = "x-anthropic-billing-header:";

/// Removes the line from a Messages body's `system`, and from nowhere else; a block that was nothing else goes with it.
pub fn strip(body: &mut Object) {
    let emptied = match body.get_mut("system") {
        Some(Value::String(text)) => match without_mark(text) {
            Some(rest) => {
                *text = rest.to_owned();
                text.trim().is_empty()
            }
            None => false,
        },
        Some(Value::Array(blocks)) => {
            strip_blocks(blocks);
            blocks.is_empty()
        }
        _ => false,
    };
    if emptied {
        body.shift_remove("system");
    }
}

fn strip_blocks(blocks: &mut Vec<Value>) {
    let mut kept: Vec<Value> = Vec::with_capacity(blocks.len());
    let mut mark = None;
    for mut block in blocks.drain(..) {
        let rest = block["text"].as_str().and_then(without_mark).map(str::to_owned);
        match rest {
            None => {}
            Some(rest) if rest.trim().is_empty() => {
                mark = mark.or_else(|| block.get("cache_control").cloned());
                continue;
            }
            Some(rest) => block["text"] = rest.into(),
        }
        // A marker moves to the next block, so its count stays the same.
        if let Some(moved) = mark.take()
            && let Some(block) = block.as_object_mut()
        {
            block.entry("cache_control").or_insert(moved);
        }
        kept.push(block);
    }
    *blocks = kept;
}

/// What follows the line, if the text begins with it.
fn without_mark(text: &str) -> Option<&str> {
    let text = text.trim_start();
    text.starts_with(MARK)
        .then(|| text.split_once('\n').map_or("", |(_, rest)| rest))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn stripped(mut body: Value) -> Value {
        strip(body.as_object_mut().unwrap());
        body
    }

    #[test]
    fn k016_two_requests_differ_in_nothing_else() {
        let body = |cch: &str| {
            let line = format!("x-anthropic-billing-header: cc_version=1; cch={cch};");
            json!({"system": [{"type": "text", "text": line, "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "S"}]})
        };
        let first = stripped(body("abcde"));
        assert_eq!(first.to_string(), stripped(body("fghij")).to_string());
        let expected = json!({"system": [{"type": "text", "text": "S", "cache_control": {"type": "ephemeral"}}]});
        assert_eq!(first, expected);
    }

    #[test]
    fn k017_a_string_loses_its_first_line() {
        assert_eq!(
            stripped(json!({"system": "x-anthropic-billing-header: a\nS"})),
            json!({"system": "S"})
        );
        assert_eq!(stripped(json!({"system": "x-anthropic-billing-header: a"})), json!({}));
    }

    #[test]
    fn k018_what_a_person_writes_stays() {
        let body = json!({"system": "S", "messages": [{"role": "user", "content": "x-anthropic-billing-header: a"}]});
        assert_eq!(stripped(body.clone()), body);
    }
}
