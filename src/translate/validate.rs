//! What a request must be before anything is done with it. All else passes: upstream knows its own protocol best.

use serde_json::Value;

use super::Object;
use super::rules::tools::MOST as MOST_TOOLS;
use super::rules::{field, list};
use crate::protocol::Protocol;
use crate::protocol::failure::Failure;

/// Refuses a body that its own protocol does not allow.
pub fn body(client: Protocol, body: &Object) -> Result<(), Failure> {
    match client {
        Protocol::Messages => messages(body),
        Protocol::Chat => chat(body),
        Protocol::Responses => responses(body),
    }
}

/// Refuses a body whose tokens cannot be counted: as [`body`], but for what only says how to answer.
pub fn countable(client: Protocol, body: &Object) -> Result<(), Failure> {
    match client {
        Protocol::Messages => {
            let mut issues = Issues::default();
            issues.messages(body);
            issues.verdict()
        }
        Protocol::Chat => chat(body),
        // OpenAI's own door asks for no model here.
        Protocol::Responses => prompt(body),
    }
}

fn messages(body: &Object) -> Result<(), Failure> {
    let mut issues = Issues::default();
    issues.messages(body);
    issues.optional(
        body,
        "max_tokens",
        "Input should be an integer greater than or equal to 1",
        |limit| limit.as_u64().is_some_and(|limit| limit >= 1),
    );
    issues.optional(body, "stream", "Input should be a valid boolean", Value::is_boolean);
    issues.verdict()?;
    let advisor = list(field(body, "tools"))
        .iter()
        .filter_map(|tool| tool["type"].as_str());
    match advisor.into_iter().find(|kind| kind.starts_with("advisor_")) {
        Some(kind) => Err(Failure::bad(
            "tools",
            format!("tools: Tool type {kind} is not supported"),
        )),
        None => Ok(()),
    }
}

/// What is wrong with a Messages body, in order.
#[derive(Default)]
struct Issues(Vec<(String, String)>);

const MOST_ISSUES: usize = 10;
const LONGEST: usize = 4096;

impl Issues {
    fn add(&mut self, path: impl Into<String>, reason: impl Into<String>) {
        if self.0.len() < MOST_ISSUES {
            self.0.push((path.into(), reason.into()));
        }
    }

    fn optional(&mut self, body: &Object, name: &str, reason: &str, is_valid: impl Fn(&Value) -> bool) {
        let value = field(body, name);
        if !value.is_null() && !is_valid(value) {
            self.add(name, reason);
        }
    }

    /// All that counting and answering have in common.
    fn messages(&mut self, body: &Object) {
        if field(body, "model").as_str().is_none_or(str::is_empty) {
            self.add("model", "Field required");
        }
        match field(body, "messages") {
            Value::Array(messages) if !messages.is_empty() => {
                for (at, message) in messages.iter().enumerate() {
                    if self.0.len() == MOST_ISSUES {
                        break;
                    }
                    self.message(at, message);
                }
            }
            Value::Array(_) | Value::Null => self.add("messages", "at least one message is required"),
            _ => self.add("messages", "Input should be a valid list"),
        }
        self.system(field(body, "system"));
        self.tools(field(body, "tools"));
        for name in ["temperature", "top_p"] {
            self.optional(body, name, "Input should be a valid number", Value::is_number);
        }
        self.thinking(field(body, "thinking"));
    }

    fn message(&mut self, at: usize, message: &Value) {
        if !message.is_object() {
            return self.add(format!("messages.{at}"), "Input should be an object");
        }
        if !matches!(message["role"].as_str(), Some("user" | "assistant" | "system")) {
            self.add(
                format!("messages.{at}.role"),
                "Input should be 'user', 'assistant' or 'system'",
            );
        }
        match &message["content"] {
            Value::String(_) => {}
            Value::Array(blocks) => {
                for (place, block) in blocks
                    .iter()
                    .enumerate()
                    .filter(|(_, block)| !block["type"].is_string())
                {
                    let reason = if block.is_object() {
                        "Field required"
                    } else {
                        "Input should be an object"
                    };
                    let path = if block.is_object() { ".type" } else { "" };
                    self.add(format!("messages.{at}.content.{place}{path}"), reason);
                }
            }
            Value::Null => self.add(format!("messages.{at}.content"), "Field required"),
            _ => self.add(
                format!("messages.{at}.content"),
                "Input should be a string or a list of blocks",
            ),
        }
    }

    fn system(&mut self, system: &Value) {
        match system {
            Value::Null | Value::String(_) => {}
            Value::Array(blocks) => {
                for (at, block) in blocks.iter().enumerate() {
                    if block["type"] != "text" || !block["text"].is_string() {
                        self.add(format!("system.{at}"), "Input should be a text block");
                    }
                }
            }
            _ => self.add("system", "Input should be a string or a list of text blocks"),
        }
    }

    fn tools(&mut self, tools: &Value) {
        match tools {
            Value::Null => {}
            Value::Array(tools) => {
                if tools.len() > MOST_TOOLS {
                    self.add(
                        "tools",
                        format!("at most {MOST_TOOLS} tools are allowed, got {}", tools.len()),
                    );
                }
                for (at, tool) in tools.iter().enumerate() {
                    self.tool(at, tool);
                }
            }
            _ => self.add("tools", "Input should be a valid list"),
        }
    }

    fn tool(&mut self, at: usize, tool: &Value) {
        // A set of tools on a server has that server's name.
        if tool["type"] == "mcp_toolset" {
            return;
        }
        if tool["name"].as_str().is_none_or(str::is_empty) {
            self.add(format!("tools.{at}.name"), "Field required");
        }
        let is_plain = matches!(tool["type"].as_str(), None | Some("custom"));
        let schema = &tool["input_schema"];
        if is_plain && !schema.is_null() && !schema.is_object() {
            self.add(format!("tools.{at}.input_schema"), "Input should be an object");
        }
    }

    fn thinking(&mut self, thinking: &Value) {
        if thinking.is_null() {
            return;
        }
        match thinking["type"].as_str() {
            Some("enabled") if thinking["budget_tokens"].as_u64().is_none() => {
                self.add("thinking.enabled.budget_tokens", "Input should be a valid integer");
            }
            Some("enabled" | "adaptive" | "disabled" | "between_tools") => {}
            _ => self.add("thinking.type", "Input should be 'enabled', 'adaptive' or 'disabled'"),
        }
    }

    fn verdict(self) -> Result<(), Failure> {
        let Some((first, _)) = self.0.first() else {
            return Ok(());
        };
        let issues: Vec<String> = self
            .0
            .iter()
            .map(|(path, reason)| format!("{path}: {reason}"))
            .collect();
        let mut message = format!("Request validation failed: {}", issues.join("; "));
        while message.len() > LONGEST {
            message.pop();
        }
        Err(Failure::bad(first, message))
    }
}

fn chat(body: &Object) -> Result<(), Failure> {
    model(body)?;
    let messages = match field(body, "messages") {
        Value::Array(messages) if !messages.is_empty() => messages,
        Value::Array(_) | Value::Null => return Err(Failure::bad("messages", "at least one message is required")),
        _ => return Err(Failure::bad("messages", "messages must be an array")),
    };
    for (at, message) in messages.iter().enumerate() {
        const ROLES: [&str; 6] = ["system", "developer", "user", "assistant", "tool", "function"];
        match message["role"].as_str() {
            Some(role) if ROLES.contains(&role) => {}
            Some(role) => {
                let path = format!("messages[{at}].role");
                return Err(Failure::bad(path, format!("unknown role '{role}'")));
            }
            None => {
                return Err(Failure::bad(
                    format!("messages[{at}].role"),
                    "each message needs a role",
                ));
            }
        }
        if !matches!(message["content"], Value::Null | Value::String(_) | Value::Array(_)) {
            let path = format!("messages[{at}].content");
            return Err(Failure::bad(path, "content must be a string, an array or null"));
        }
    }
    if !matches!(field(body, "n"), Value::Null) && field(body, "n").as_u64() != Some(1) {
        return Err(Failure::bad("n", "only one choice per request is supported").with_code("unsupported_value"));
    }
    stream(body)?;
    tools(body)?;
    if list(field(body, "tools")).len() > MOST_TOOLS {
        let message = format!(
            "at most {MOST_TOOLS} tools are allowed, got {}",
            list(field(body, "tools")).len()
        );
        return Err(Failure::bad("tools", message));
    }
    Ok(())
}

fn responses(body: &Object) -> Result<(), Failure> {
    // A response that is not known may have named the model.
    if field(body, "previous_response_id").is_null() {
        model(body)?;
    }
    prompt(body)
}

/// A Responses request but for who answers it.
fn prompt(body: &Object) -> Result<(), Failure> {
    match field(body, "previous_response_id") {
        Value::Null => {}
        id => return Err(unknown_response(id.as_str().unwrap_or_default())),
    }
    let unsupported = |name: &str, what: &str| {
        Err(Failure::bad(name, format!("{what} not supported")).with_code("unsupported_parameter"))
    };
    if field(body, "background") == true {
        return unsupported("background", "background responses are");
    }
    if !field(body, "conversation").is_null() {
        return unsupported("conversation", "conversations are");
    }
    if !field(body, "prompt").is_null() {
        return unsupported("prompt", "stored prompts are");
    }
    match field(body, "input") {
        Value::String(_) => {}
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                let is_item = item["type"].is_string() || item["type"].is_null() && item["role"].is_string();
                if !is_item {
                    return Err(Failure::bad(
                        format!("input[{at}]"),
                        "each input item needs a type or a role",
                    ));
                }
            }
        }
        Value::Null => return Err(Failure::bad("input", "input is required")),
        _ => return Err(Failure::bad("input", "input must be a string or an array")),
    }
    stream(body)?;
    tools(body)
}

/// No response is kept between requests. Clients that read this code send their whole input instead.
pub fn unknown_response(id: &str) -> Failure {
    let shown: String = id.chars().take(200).collect();
    let sentence = format!("Previous response with id '{shown}' not found.");
    Failure::bad("previous_response_id", sentence).with_code("previous_response_not_found")
}

fn model(body: &Object) -> Result<(), Failure> {
    match field(body, "model").as_str() {
        Some(name) if !name.is_empty() => Ok(()),
        _ => Err(Failure::bad("model", "you must provide a model")),
    }
}

fn stream(body: &Object) -> Result<(), Failure> {
    match field(body, "stream") {
        Value::Null | Value::Bool(_) => Ok(()),
        _ => Err(Failure::bad("stream", "stream must be a boolean")),
    }
}

fn tools(body: &Object) -> Result<(), Failure> {
    match field(body, "tools") {
        Value::Null => Ok(()),
        Value::Array(tools) if tools.iter().all(Value::is_object) => Ok(()),
        _ => Err(Failure::bad("tools", "tools must be an array of objects")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::translate::rules::any_json;
    use Protocol::{Chat, Messages, Responses};

    fn verdict(client: Protocol, value: Value) -> Option<(String, Option<String>)> {
        let failure = body(client, value.as_object().unwrap()).err()?;
        assert_eq!(failure.status(client), 400);
        Some((failure.message.clone(), failure.param.clone()))
    }

    /// A valid body with some fields replaced.
    fn with(base: &Value, fields: Value) -> Value {
        let mut made = base.as_object().unwrap().clone();
        made.extend(fields.as_object().unwrap().clone());
        Value::Object(made)
    }

    #[test]
    fn valid_bodies_pass() {
        let asked = json!({"model": "m", "messages": [{"role": "user", "content": "a"}], "extra": 1, "stream": null});
        assert_eq!(verdict(Messages, asked.clone()), None);
        assert_eq!(verdict(Chat, asked), None);
        let input = json!([{"role": "user", "content": "a"}, {"type": "anything"}]);
        assert_eq!(
            verdict(Responses, json!({"model": "m", "input": input, "store": true})),
            None
        );
    }

    #[test]
    fn k114_no_earlier_response_is_known() {
        let asked = json!({"model": "m", "previous_response_id": "resp_x", "input": "a"});
        let refused = body(Responses, asked.as_object().unwrap()).unwrap_err();
        assert_eq!(refused, unknown_response("resp_x"));
        let asked = json!({"model": "m", "previous_response_id": null, "input": "a"});
        assert_eq!(verdict(Responses, asked), None);
    }

    #[test]
    fn k043_a_messages_body_is_told_all_that_is_wrong() {
        let base = json!({"model": "m", "messages": [{"role": "user", "content": "a"}]});
        for (fields, issue) in [
            (json!({"model": ""}), "model: Field required"),
            (json!({"messages": []}), "messages: at least one message is required"),
            (
                json!({"messages": [{"role": "tool", "content": ""}]}),
                "messages.0.role: ",
            ),
            (
                json!({"messages": [{"role": "user", "content": [{"text": "a"}]}]}),
                "messages.0.content.0.type: ",
            ),
            (json!({"max_tokens": 0}), "max_tokens: "),
            (json!({"max_tokens": "5"}), "max_tokens: "),
            (json!({"system": [{"type": "image"}]}), "system.0: "),
            (json!({"tools": [{"input_schema": {}}]}), "tools.0.name: "),
            (
                json!({"thinking": {"type": "enabled"}}),
                "thinking.enabled.budget_tokens: ",
            ),
            (json!({"stream": "yes"}), "stream: "),
        ] {
            let (message, _) = verdict(Messages, with(&base, fields)).unwrap();
            assert!(
                message.starts_with(&format!("Request validation failed: {issue}")),
                "{message}"
            );
        }
        let (both, param) = verdict(Messages, json!({"max_tokens": 0})).unwrap();
        assert_eq!(both.matches("; ").count(), 2);
        assert_eq!(param.as_deref(), Some("model"));
    }

    #[test]
    fn the_list_of_issues_is_bounded() {
        let bad: Vec<Value> = (0..50).map(|_| json!({"role": "x".repeat(900)})).collect();
        let (message, _) = verdict(Messages, json!({"model": "m", "messages": bad})).unwrap();
        assert!(message.len() <= LONGEST && message.matches("; ").count() == MOST_ISSUES - 1);
    }

    #[test]
    fn k035_the_advisor_is_named() {
        let body = json!({"model": "m", "messages": [{"role": "user", "content": "a"}],
            "tools": [{"type": "advisor_20260301", "name": "advisor"}]});
        assert!(verdict(Messages, body).unwrap().0.contains("advisor_20260301"));
    }

    #[test]
    fn k051_too_many_tools() {
        let tools: Vec<Value> = (0..129)
            .map(|at| json!({"name": format!("t{at}"), "type": "function", "function": {}}))
            .collect();
        let body = json!({"model": "m", "messages": [{"role": "user", "content": "a"}], "tools": tools});
        for client in [Messages, Chat] {
            let (message, param) = verdict(client, body.clone()).unwrap();
            assert!(message.contains("128"), "{message}");
            assert_eq!(param.as_deref(), Some("tools"));
        }
    }

    #[test]
    fn k105_one_choice_only() {
        let base = json!({"model": "m", "messages": [{"role": "user", "content": "a"}]});
        assert_eq!(verdict(Chat, with(&base, json!({"n": 1}))), None);
        assert_eq!(
            verdict(Chat, with(&base, json!({"n": 2}))).unwrap().1.as_deref(),
            Some("n")
        );
    }

    #[test]
    fn k130_what_needs_a_store_is_refused() {
        for (field, value) in [
            ("background", json!(true)),
            ("conversation", json!("c")),
            ("prompt", json!({"id": "p"})),
        ] {
            let made = with(&json!({"model": "m", "input": "a"}), json!({field: value}));
            let failure = body(Responses, made.as_object().unwrap()).unwrap_err();
            assert_eq!(
                (failure.code.as_deref(), failure.param.as_deref()),
                (Some("unsupported_parameter"), Some(field))
            );
        }
        assert_eq!(
            verdict(Responses, json!({"model": "m"})).unwrap().1.as_deref(),
            Some("input")
        );
        assert_eq!(
            verdict(Responses, json!({"model": "m", "input": [1]}))
                .unwrap()
                .1
                .as_deref(),
            Some("input[0]")
        );
    }

    proptest! {
        #[test]
        fn nonsense_is_judged_without_harm(one in any_json(), two in any_json()) {
            let value = json!({"model": "m", "messages": one, "input": one, "tools": two, "thinking": two, "system": one});
            for client in Protocol::ALL {
                let _ = body(client, value.as_object().unwrap());
                if let Value::Object(object) = &one {
                    let _ = body(client, object);
                }
            }
        }
    }
}
