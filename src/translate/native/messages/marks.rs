//! The cache marks of a client that speaks Messages itself: only what Copilot takes of them, only where it takes them.

use serde_json::{Value, json};

use crate::translate::rules::peek_mut;
use crate::translate::rules::reasoning::claude_version;
use crate::translate::{Context, Object};

/// The first generation that takes one mark for the whole request and places it itself.
const PLACES_ITSELF: (u32, u32) = (4, 7);

/// Cleans every mark of a settled body.
pub fn clean(out: &mut Object, context: &Context) {
    let keep_ttl = context.tuning.keep_cache_ttl;
    for key in ["system", "tools", "messages"] {
        if let Some(list) = out.get_mut(key) {
            clean_list(list, keep_ttl);
        }
    }
    let by_itself = claude_version(&context.model.id).is_some_and(|version| version >= PLACES_ITSELF);
    if by_itself {
        clean_mark(out, keep_ttl);
    } else if let Some(mark) = out.shift_remove("cache_control").filter(Value::is_object) {
        let mut mark = Object::from_iter([("cache_control".to_owned(), mark)]);
        clean_mark(&mut mark, keep_ttl);
        place(out, mark);
    }
}

fn clean_list(list: &mut Value, keep_ttl: bool) {
    for entry in list.as_array_mut().into_iter().flatten() {
        let is_marked = peek_mut(entry, "cache_control").is_some();
        if let Some(holder) = entry.as_object_mut().filter(|_| is_marked) {
            clean_mark(holder, keep_ttl);
        }
        if let Some(inner) = peek_mut(entry, "content") {
            clean_list(inner, keep_ttl);
        }
    }
}

fn clean_mark(holder: &mut Object, keep_ttl: bool) {
    let takes_none = match holder.get("type").and_then(Value::as_str) {
        Some("thinking" | "redacted_thinking") => true,
        _ => holder.get("defer_loading") == Some(&json!(true)),
    };
    match holder.get_mut("cache_control") {
        Some(Value::Object(mark)) if !takes_none => {
            mark.shift_remove("scope");
            if !keep_ttl {
                mark.shift_remove("ttl");
            }
        }
        // SDKs write "no mark" as null.
        _ => drop(holder.shift_remove("cache_control")),
    }
}

/// Puts the request's one mark where the model would: on the last block of the last message.
fn place(out: &mut Object, mark: Object) {
    let messages = out.get_mut("messages").and_then(Value::as_array_mut);
    let Some(content) = messages.and_then(|messages| messages.last_mut()?.get_mut("content")) else {
        return;
    };
    if let Value::String(text) = content {
        *content = json!([{"type": "text", "text": text}]);
    }
    let blocks = content.as_array_mut().into_iter().flatten().rev();
    let takes = |block: &&mut Object| {
        let kind = block.get("type").and_then(Value::as_str);
        !matches!(kind, Some("thinking" | "redacted_thinking"))
    };
    if let Some(block) = blocks.filter_map(Value::as_object_mut).find(takes) {
        for (key, value) in mark {
            block.entry(key).or_insert(value);
        }
    }
}
