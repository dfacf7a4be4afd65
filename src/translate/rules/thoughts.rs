//! Reasoning in a history: read from any client's shape, shown to a model in its own. What a model cannot read is not
//! shown to it, its visible text neither: foreign thinking must not be taken for an answer.

use serde_json::{Value, json};

use super::list;
use crate::protocol::catalog::Model;
use crate::translate::carrier::Carrier;
use crate::translate::{Kept, Memory, Object};

/// One stretch of reasoning: the state a model wants back, and the text that was shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Thought {
    pub text: String,
    pub state: Carrier,
}

/// Said in place of thinking by clients that hide it.
const PLACEHOLDER: &str = "Thinking...";
/// The maker of a signature that is no carrier: Messages' own.
const SOME_CLAUDE: &str = "claude";

/// Reads a Messages `thinking` or `redacted_thinking` block; nothing where it holds no state.
pub fn of_block(block: &Value) -> Vec<Thought> {
    let text = block["thinking"].as_str().unwrap_or_default();
    let native = |state: &str| match block["type"].as_str() {
        Some("redacted_thinking") => Carrier::Redacted {
            model: SOME_CLAUDE.into(),
            data: state.into(),
        },
        _ => Carrier::Thinking {
            model: SOME_CLAUDE.into(),
            text: text.into(),
            signature: state.into(),
        },
    };
    let slot = match block["type"].as_str() {
        Some("thinking") if text != PLACEHOLDER => &block["signature"],
        Some("redacted_thinking") => &block["data"],
        _ => return Vec::new(),
    };
    read(slot.as_str().unwrap_or_default(), text, native)
}

/// Reads the reasoning of a Chat message. A string that is no carrier came from Chat itself: for a model behind Chat it
/// is taken to be that model's own, for any other there is no way to read it.
pub fn of_chat(message: &Value, model: &Model) -> Vec<Thought> {
    let text = [&message["reasoning_text"], &message["reasoning_content"]]
        .into_iter()
        .find_map(Value::as_str);
    let native = |opaque: &str| Carrier::Opaque {
        model: model.id.clone(),
        opaque: opaque.into(),
    };
    read(
        message["reasoning_opaque"].as_str().unwrap_or_default(),
        text.unwrap_or_default(),
        native,
    )
}

/// Reads a Responses `reasoning` item.
pub fn of_item(item: &Value, model: &Model) -> Vec<Thought> {
    if item["type"] != "reasoning" {
        return Vec::new();
    }
    let texts = [&item["summary"], &item["content"]].map(list);
    let texts: Vec<&str> = texts
        .into_iter()
        .flatten()
        .filter_map(|part| part["text"].as_str())
        .collect();
    let native = |content: &str| Carrier::Item {
        model: model.id.clone(),
        id: None,
        content: content.into(),
    };
    read(
        item["encrypted_content"].as_str().unwrap_or_default(),
        &texts.join("\n\n"),
        native,
    )
}

/// The carriers in a slot, or the one that upstream's own string amounts to. The text belongs to the first.
fn read(slot: &str, text: &str, native: impl Fn(&str) -> Carrier) -> Vec<Thought> {
    let states = if slot.is_empty() {
        Vec::new()
    } else if Carrier::is_one(slot) {
        Carrier::all(slot)
    } else {
        vec![native(slot)]
    };
    let mut text = text.to_owned();
    states
        .into_iter()
        .filter(|state| *state != Carrier::Nothing)
        .map(|state| Thought {
            text: std::mem::take(&mut text),
            state,
        })
        .collect()
}

/// The reasoning that was kept for a call, if this model made it.
pub fn kept(memory: &Memory, call: &str, model: &Model) -> Vec<Thought> {
    match memory.kept.get(call) {
        Some(kept) if kept.model == model.id => of_kept(kept),
        _ => Vec::new(),
    }
}

fn of_kept(kept: &Kept) -> Vec<Thought> {
    let mut text = kept.text.clone();
    let states = kept.carriers.iter().flat_map(|carrier| Carrier::all(carrier));
    states
        .map(|state| Thought {
            text: std::mem::take(&mut text),
            state,
        })
        .collect()
}

impl Thought {
    /// A Messages block for this model.
    pub fn block(&self, model: &Model) -> Option<Value> {
        if !self.state.fits(model) {
            return None;
        }
        match &self.state {
            Carrier::Thinking { text, signature, .. } if !signature.is_empty() => {
                Some(json!({"type": "thinking", "thinking": text, "signature": signature}))
            }
            Carrier::Redacted { data, .. } => Some(json!({"type": "redacted_thinking", "data": data})),
            _ => None,
        }
    }

    /// A Responses item for this model.
    pub fn item(&self, model: &Model) -> Option<Value> {
        let Carrier::Item { id, content, .. } = &self.state else {
            return None;
        };
        if content.is_empty() || !self.state.fits(model) {
            return None;
        }
        let summary = if self.text.is_empty() {
            json!([])
        } else {
            json!([{"type": "summary_text", "text": self.text}])
        };
        let mut item = json!({"type": "reasoning"});
        if let Some(id) = id {
            item["id"] = json!(id);
        }
        item["summary"] = summary;
        item["encrypted_content"] = json!(content);
        Some(item)
    }

    /// What Chat calls `reasoning_opaque`, for this model. Claude behind Chat takes its own signatures there.
    fn opaque(&self, model: &Model) -> Option<(&str, &str)> {
        if !self.state.fits(model) {
            return None;
        }
        match &self.state {
            Carrier::Opaque { opaque, .. } => Some((opaque, &self.text)),
            Carrier::Thinking { signature, text, .. } if model.is_claude() => Some((signature, text)),
            Carrier::Redacted { data, .. } if model.is_claude() => Some((data, "")),
            _ => None,
        }
    }
}

/// Puts reasoning into a Chat message of an answer, which has one slot: the last state that fits.
pub fn to_chat(thoughts: &[Thought], message: &mut Object, model: &Model) {
    let Some((opaque, text)) = thoughts.iter().rev().find_map(|thought| thought.opaque(model)) else {
        return;
    };
    if !text.is_empty() {
        message.insert("reasoning_text".into(), json!(text));
    }
    message.insert("reasoning_opaque".into(), json!(opaque));
}

/// Gives back the thinking that a client has lost: to each answer of a Messages history that calls tools and does not
/// think, what was kept for its first call.
pub fn restore_messages(messages: &mut [Value], memory: &Memory, model: &Model) {
    for message in messages.iter_mut().filter(|message| message["role"] == "assistant") {
        let Some(blocks) = message["content"].as_array_mut() else {
            continue;
        };
        if blocks
            .iter()
            .any(|block| matches!(block["type"].as_str(), Some("thinking" | "redacted_thinking")))
        {
            continue;
        }
        let call = blocks.iter().find(|block| block["type"] == "tool_use");
        let id = call.and_then(|call| call["id"].as_str()).unwrap_or_default();
        let restored: Vec<Value> = kept(memory, id, model)
            .iter()
            .filter_map(|thought| thought.block(model))
            .collect();
        blocks.splice(0..0, restored);
    }
}

/// The same for a Chat history.
pub fn restore_chat(messages: &mut [Value], memory: &Memory, model: &Model) {
    for message in messages.iter_mut().filter_map(Value::as_object_mut) {
        if message.get("reasoning_opaque").is_some_and(Value::is_string) {
            continue;
        }
        let calls = message.get("tool_calls").map(list).unwrap_or_default();
        let id = calls.first().and_then(|call| call["id"].as_str()).unwrap_or_default();
        let thoughts = kept(memory, id, model);
        to_chat(&thoughts, message, model);
    }
}

/// The same for a Responses history: before the first call of each stretch of an answer that has no reasoning.
pub fn restore_responses(items: &mut Vec<Value>, memory: &Memory, model: &Model) {
    if memory.kept.is_empty() {
        return;
    }
    let mut restored: Vec<Value> = Vec::with_capacity(items.len());
    let mut reasoned = false;
    for item in items.drain(..) {
        let kind = item["type"].as_str().unwrap_or("message");
        if kind == "reasoning" {
            reasoned = true;
        } else if kind.ends_with("_output") || kind == "message" && item["role"] != "assistant" {
            reasoned = false;
        } else if kind.ends_with("_call") && !reasoned {
            let id = item["call_id"].as_str().unwrap_or_default();
            restored.extend(kept(memory, id, model).iter().filter_map(|thought| thought.item(model)));
            reasoned = true;
        }
        restored.push(item);
    }
    *items = restored;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translate::rules::model;

    fn thinking(text: &str, signature: &str) -> Value {
        json!({"type": "thinking", "thinking": text, "signature": signature})
    }

    #[test]
    fn k047_reasoning_of_a_responses_model_returns_as_its_item() {
        let gpt = model(json!({"id": "gpt-5.4"}));
        let carrier = Carrier::Item {
            model: "gpt-5".into(),
            id: Some("i".into()),
            content: "e".into(),
        };
        let items: Vec<Value> = of_block(&thinking("t", &carrier.encode()))
            .iter()
            .filter_map(|thought| thought.item(&gpt))
            .collect();
        let expected = json!({"type": "reasoning", "id": "i", "summary": [{"type": "summary_text", "text": "t"}],
            "encrypted_content": "e"});
        assert_eq!(items, [expected]);
        assert!(
            of_block(&thinking("t", "EqNative=="))
                .iter()
                .all(|thought| thought.item(&gpt).is_none())
        );
    }

    #[test]
    fn k053_claude_behind_chat_takes_its_own_signature() {
        let claude = model(json!({"id": "claude-opus-4.8"}));
        let mut message = Object::new();
        to_chat(&of_block(&thinking("hm", "Eq==")), &mut message, &claude);
        assert_eq!(
            Value::Object(message),
            json!({"reasoning_text": "hm", "reasoning_opaque": "Eq=="})
        );
        let mut foreign = Object::new();
        to_chat(
            &of_block(&thinking("hm", "Eq==")),
            &mut foreign,
            &model(json!({"id": "gpt-4.1"})),
        );
        assert!(foreign.is_empty());
    }

    #[test]
    fn k126_a_signature_comes_back_exactly() {
        let claude = model(json!({"id": "claude-opus-4.8"}));
        let carrier = Carrier::Thinking {
            model: "claude-opus-4.8".into(),
            text: "t\n".into(),
            signature: "s=".into(),
        };
        let item = json!({"type": "reasoning", "summary": [{"text": "shown"}], "encrypted_content": carrier.encode()});
        assert_eq!(of_item(&item, &claude)[0].block(&claude), Some(thinking("t\n", "s=")));
    }

    #[test]
    fn placeholders_and_unsigned_thinking_are_nothing() {
        for block in [
            thinking("t", ""),
            thinking("Thinking...", "Eq=="),
            json!({"type": "thinking", "thinking": "t"}),
        ] {
            assert!(of_block(&block).is_empty());
        }
        assert!(of_block(&thinking("t", &Carrier::Nothing.encode())).is_empty());
    }

    #[test]
    fn k103_k104_lost_reasoning_is_restored_to_the_model_that_made_it() {
        let claude = model(json!({"id": "claude-opus-4.8"}));
        let carrier = Carrier::Thinking {
            model: claude.id.clone(),
            text: "t".into(),
            signature: "s".into(),
        };
        let kept = |maker: &str, carrier: &Carrier| Kept {
            model: maker.into(),
            text: "t".into(),
            carriers: vec![carrier.encode()],
        };
        let mut memory = Memory::default();
        memory.kept.insert("c".into(), kept("claude-opus-4.8", &carrier));
        let mut messages = [json!({"role": "assistant", "content": [{"type": "tool_use", "id": "c"}]})];
        restore_messages(&mut messages, &memory, &claude);
        assert_eq!(messages[0]["content"][0], thinking("t", "s"));
        restore_messages(&mut messages, &memory, &claude);
        assert_eq!(messages[0]["content"].as_array().unwrap().len(), 2);

        let gemini = model(json!({"id": "gemini-3"}));
        let opaque = Carrier::Opaque {
            model: "gemini-3".into(),
            opaque: "o".into(),
        };
        memory.kept.insert("c".into(), kept("gemini-3", &opaque));
        let mut messages = [json!({"role": "assistant", "tool_calls": [{"id": "c"}]})];
        restore_chat(&mut messages, &memory, &gemini);
        assert_eq!(messages[0]["reasoning_opaque"], "o");
        let mut others = [json!({"role": "assistant", "tool_calls": [{"id": "c"}]})];
        restore_chat(&mut others, &memory, &model(json!({"id": "gemini-2"})));
        assert_eq!(others[0]["reasoning_opaque"], Value::Null);
    }
}
