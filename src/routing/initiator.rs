//! Who caused a request: the person, or the agent continuing the person's turn. Copilot bills by it, so the rule is
//! the honest one: the last message decides, as the client sent it. Knows no headers.

use serde_json::{Map, Value};

use crate::protocol::{Initiator, Protocol};

/// The verdict on one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cause {
    pub initiator: Initiator,
    /// What kind of interaction it is, where it is a special one.
    pub interaction: Option<&'static str>,
}

const USER: Cause = Cause {
    initiator: Initiator::User,
    interaction: None,
};
const AGENT: Cause = Cause {
    initiator: Initiator::Agent,
    interaction: None,
};
const COMPACTION: Cause = Cause {
    initiator: Initiator::Agent,
    interaction: Some("conversation-compaction"),
};
const BACKGROUND: Cause = Cause {
    initiator: Initiator::Agent,
    interaction: Some("conversation-background"),
};

/// Decides for a request body in the client's own protocol; what cannot be read counts as the person's. Of a Responses
/// input so many first items are `earlier` turns', and have no say.
pub fn cause(client: Protocol, body: &Map<String, Value>, earlier: usize, compaction_is_agent: bool) -> Cause {
    let cause = match client {
        Protocol::Messages => of_messages(body),
        Protocol::Chat => of_chat(body),
        Protocol::Responses => of_responses(list(body, "input").get(earlier..).unwrap_or_default()),
    };
    if cause == COMPACTION {
        compaction(compaction_is_agent)
    } else {
        cause
    }
}

/// The cause of a request that only makes a history short.
pub fn compaction(is_agent: bool) -> Cause {
    let initiator = if is_agent { Initiator::Agent } else { Initiator::User };
    Cause {
        initiator,
        ..COMPACTION
    }
}

fn of_messages(body: &Map<String, Value>) -> Cause {
    let messages = list(body, "messages");
    let deciding = messages.iter().rev().find(|message| match message["role"].as_str() {
        Some("system") => false,
        Some("assistant") => has_block(message, "tool_use"),
        _ => true,
    });
    let Some(last) = deciding else { return USER };
    if last["role"] == "assistant" {
        return AGENT;
    }
    let text = last_text(last);
    if is_summary_request(body, text) {
        return COMPACTION;
    }
    if text.starts_with("[SUGGESTION MODE:") {
        return BACKGROUND;
    }
    if text.starts_with("This session is being continued from a previous conversation that ran out of context") {
        return AGENT;
    }
    let by_person = match &last["content"] {
        Value::Array(blocks) => blocks.iter().any(|block| match block["type"].as_str() {
            Some("tool_result") => false,
            Some("text") => !is_machine_text(block["text"].as_str().unwrap_or_default()),
            _ => true,
        }),
        _ => true,
    };
    if by_person { USER } else { AGENT }
}

fn of_chat(body: &Map<String, Value>) -> Cause {
    let messages = list(body, "messages");
    let calls = |message: &Value| {
        message["tool_calls"].as_array().is_some_and(|calls| !calls.is_empty()) || message["function_call"].is_object()
    };
    let deciding = messages.iter().rev().find(|message| match message["role"].as_str() {
        Some("system" | "developer") => false,
        Some("assistant") => calls(message),
        _ => true,
    });
    match deciding.and_then(|message| message["role"].as_str()) {
        Some("tool" | "function" | "assistant") => AGENT,
        _ => USER,
    }
}

fn of_responses(items: &[Value]) -> Cause {
    if items.last().is_some_and(|item| item["type"] == "compaction_trigger") {
        return COMPACTION;
    }
    let is_message = |item: &Value| match item["type"].as_str() {
        Some(kind) => kind == "message",
        None => true,
    };
    let deciding = items.iter().rev().find(|item| match item["role"].as_str() {
        Some("system" | "developer" | "assistant") if is_message(item) => false,
        _ => item["type"] != "reasoning",
    });
    match deciding {
        Some(item) if !is_message(item) => AGENT,
        _ => USER,
    }
}

/// A field that should be a list; anything else is an empty one.
fn list<'a>(body: &'a Map<String, Value>, name: &str) -> &'a [Value] {
    body.get(name)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

fn has_block(message: &Value, kind: &str) -> bool {
    message["content"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|block| block["type"] == kind)
}

/// The text of the message's last text block, trimmed.
fn last_text(message: &Value) -> &str {
    let text = match &message["content"] {
        Value::String(text) => Some(text.as_str()),
        Value::Array(blocks) => blocks.iter().rev().find_map(|block| block["text"].as_str()),
        _ => None,
    };
    text.unwrap_or_default().trim()
}

/// Whether Claude Code asks for the summary that replaces its history.
fn is_summary_request(body: &Map<String, Value>, last_text: &str) -> bool {
    let system = match body.get("system") {
        Some(Value::String(text)) => text.trim_start(),
        Some(Value::Array(blocks)) => blocks
            .iter()
            .filter_map(|block| block["text"].as_str())
            .find(|text| is_own(text))
            .unwrap_or_default(),
        _ => "",
    };
    let asks_for_text_only = || {
        let lower = last_text.to_ascii_lowercase();
        lower.contains("text only") || lower.contains("only text") || lower.contains("plain text")
    };
    system.starts_with("You are a helpful AI assistant tasked with summarizing conversations")
        || last_text.contains("Your task is to create a detailed summary") && asks_for_text_only()
}

fn is_own(text: &str) -> bool {
    !text.trim_start().starts_with("x-anthropic-billing-header:")
}

/// Whether a text was written by the client program and not by the person: nothing but system reminders, or the mark
/// that a tool was loaded.
fn is_machine_text(text: &str) -> bool {
    const OPEN: &str = "<system-reminder>";
    const CLOSE: &str = "</system-reminder>";
    let text = text.trim();
    let mut rest = text;
    while let Some(inner) = rest.strip_prefix(OPEN) {
        let Some(end) = inner.find(CLOSE) else { return false };
        rest = inner[end + CLOSE.len()..].trim_start();
    }
    text == "Tool loaded." || rest.is_empty() && !text.is_empty()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn who(client: Protocol, body: Value) -> Initiator {
        cause(client, body.as_object().unwrap(), 0, true).initiator
    }

    fn messages(last: Value) -> Initiator {
        let call = json!({"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]});
        who(
            Protocol::Messages,
            json!({"messages": [{"role": "user", "content": "go"}, call, last]}),
        )
    }

    #[test]
    fn k153_messages_the_last_message_decides() {
        let result = json!({"type": "tool_result", "tool_use_id": "t", "content": "ok"});
        let text = |text: &str| json!({"type": "text", "text": text});
        let user = |blocks: Vec<Value>| json!({"role": "user", "content": blocks});
        assert_eq!(messages(user(vec![result.clone()])), Initiator::Agent);
        assert_eq!(messages(user(vec![result.clone(), text("and now?")])), Initiator::User);
        let reminder = text(" <system-reminder>\nx\n</system-reminder>\n<system-reminder>y</system-reminder> ");
        assert_eq!(messages(user(vec![result.clone(), reminder])), Initiator::Agent);
        let mixed = text("<system-reminder>x</system-reminder> please");
        assert_eq!(messages(user(vec![result.clone(), mixed])), Initiator::User);
        assert_eq!(messages(user(vec![result, text("Tool loaded.")])), Initiator::Agent);
    }

    #[test]
    fn k153_a_second_question_is_the_persons_and_a_prefill_is_skipped() {
        let chat = |roles: &[(&str, &str)]| {
            let list: Vec<_> = roles
                .iter()
                .map(|(role, text)| json!({"role": role, "content": text}))
                .collect();
            who(Protocol::Messages, json!({ "messages": list }))
        };
        assert_eq!(
            chat(&[("user", "a"), ("assistant", "b"), ("user", "c")]),
            Initiator::User
        );
        assert_eq!(chat(&[("user", "a"), ("assistant", "{")]), Initiator::User);
        assert_eq!(chat(&[("user", "a"), ("system", "s")]), Initiator::User);
    }

    #[test]
    fn k154_chat_a_tool_result_is_the_agents() {
        let chat = |last: Value| {
            who(
                Protocol::Chat,
                json!({"messages": [{"role": "user", "content": "a"}, last]}),
            )
        };
        assert_eq!(chat(json!({"role": "tool", "content": "x"})), Initiator::Agent);
        assert_eq!(
            chat(json!({"role": "assistant", "tool_calls": [{"id": "c"}]})),
            Initiator::Agent
        );
        assert_eq!(
            chat(json!({"role": "assistant", "content": "prefill"})),
            Initiator::User
        );
        assert_eq!(chat(json!({"role": "user", "content": "b"})), Initiator::User);
        assert_eq!(chat(json!({"role": "developer", "content": "b"})), Initiator::User);
    }

    #[test]
    fn k155_responses_outputs_are_the_agents() {
        let of = |input: Value| who(Protocol::Responses, json!({ "input": input }));
        assert_eq!(of(json!("hi")), Initiator::User);
        assert_eq!(of(json!([{"type": "function_call_output"}])), Initiator::Agent);
        assert_eq!(
            of(json!([{"type": "custom_tool_call_output"}, {"type": "reasoning"}])),
            Initiator::Agent
        );
        assert_eq!(
            of(json!([{"type": "function_call_output"}, {"role": "user", "content": "x"}])),
            Initiator::User
        );
        assert_eq!(
            of(json!([{"type": "message", "role": "user"}, {"type": "message", "role": "developer"}])),
            Initiator::User
        );
        let trigger = json!({"input": [{"role": "user", "content": "x"}, {"type": "compaction_trigger"}]});
        assert_eq!(
            cause(Protocol::Responses, trigger.as_object().unwrap(), 0, true),
            COMPACTION
        );
        assert_eq!(
            cause(Protocol::Responses, trigger.as_object().unwrap(), 0, false).initiator,
            Initiator::User
        );
    }

    #[test]
    fn the_clients_own_errands_are_the_agents() {
        let ask = |text: &str| json!({"messages": [{"role": "user", "content": text}]});
        let of = |body: Value| cause(Protocol::Messages, body.as_object().unwrap(), 0, true);
        assert_eq!(of(ask("[SUGGESTION MODE: guess]")), BACKGROUND);
        let summary = "CRITICAL: Respond with TEXT ONLY. Your task is to create a detailed summary of this";
        assert_eq!(of(ask(summary)), COMPACTION);
        assert_eq!(of(ask("Your task is to create a detailed summary of my week")), USER);
        let mut body = ask("go on");
        body["system"] = json!([
            {"type": "text", "text": "x-anthropic-billing-header: cch=1;"},
            {"type": "text", "text": "You are a helpful AI assistant tasked with summarizing conversations."},
        ]);
        assert_eq!(of(body), COMPACTION);
    }

    #[test]
    fn what_cannot_be_read_is_the_persons() {
        for client in Protocol::ALL {
            for body in [
                json!({}),
                json!({"messages": 1, "input": 2}),
                json!({"messages": [1], "input": [1]}),
            ] {
                assert_eq!(who(client, body), Initiator::User);
            }
        }
    }
}
