//! A Chat request for a Responses upstream. Knows both shapes; what several pairs need is in `rules`.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::settle_responses;
use crate::protocol::Protocol::{Chat, Responses};
use crate::protocol::failure::Failure;
use crate::translate::history::NOTHING_SAID;
use crate::translate::rules::images::{self, Part};
use crate::translate::rules::reasoning::Wish;
use crate::translate::rules::structured::Form;
use crate::translate::rules::tools::{Call, CallIds, Input, Toolbox};
use crate::translate::rules::{field, list, sampling, thoughts};
use crate::translate::{Context, Object, Outgoing, Reply, items};

/// The request as a Responses upstream takes it.
pub fn request(mut body: Object, context: &Context) -> Result<Outgoing, Failure> {
    images::admit(Chat, &mut body, context.model)?;
    let vision = images::has_image(Chat, &body);
    let toolbox = Toolbox::read(Chat, Responses, &body, context)?;
    let wish = Wish::read(Chat, &body, context.hints, context.tuning);

    let mut out = Object::new();
    out.insert("model".into(), json!(context.model.id));
    let (instructions, mut input) = history(list(field(&body, "messages")), &toolbox, context);
    // Upstream refuses an empty input.
    let say = |role: &str, text: &str| items::message(role, &json!([{"type": "input_text", "text": text}]));
    match (input.is_empty(), instructions.is_empty()) {
        (true, true) => input.push(say("user", NOTHING_SAID)),
        (true, false) => input.push(say("developer", &instructions)),
        (false, true) => {}
        (false, false) => drop(out.insert("instructions".into(), json!(instructions))),
    }
    settle_responses(Chat, &body, input, &mut out, context);
    let stops = sampling::write(Chat, Responses, &body, &mut out, context);
    wish.write(Responses, &mut out, context);
    if let Some(form) = Form::read(Chat, &body) {
        form.write(Responses, &mut out);
    }
    write_verbosity(&body, &mut out, context);
    toolbox.write(&mut out);
    Ok(Outgoing {
        body: out,
        vision,
        reply: Reply {
            model: context.requested.to_owned(),
            ran: context.model.id.clone(),
            include_usage: super::tells_usage(&body),
            show_reasoning: wish.shows,
            reasoning_alias: context.tuning.reasoning_alias,
            tools: toolbox.client_tools(),
            stops,
            ..Reply::default()
        },
        ..Outgoing::default()
    })
}

fn write_verbosity(body: &Object, out: &mut Object, context: &Context) {
    let verbosity = field(body, "verbosity");
    if !verbosity.is_string() || !context.model.is_reasoning_gpt() {
        return;
    }
    match out.get_mut("text").and_then(Value::as_object_mut) {
        Some(text) => drop(text.insert("verbosity".into(), verbosity.clone())),
        None => drop(out.insert("text".into(), json!({"verbosity": verbosity}))),
    }
}

/// The instructions and the items that a conversation becomes.
fn history(messages: &[Value], toolbox: &Toolbox, context: &Context) -> (String, Vec<Value>) {
    let is_system = |message: &&Value| matches!(message["role"].as_str(), Some("system" | "developer"));
    let leading = messages.iter().take_while(is_system);
    let system: Vec<Part> = leading
        .clone()
        .flat_map(|message| images::parts(&message["content"]))
        .collect();
    let mut pair = Pair {
        toolbox,
        context,
        ids: CallIds::new(Responses),
        freeform: HashSet::new(),
        legacy: 0,
        items: Vec::new(),
    };
    for message in messages.iter().skip(leading.count()) {
        match message["role"].as_str() {
            Some("system" | "developer") => pair.say("developer", message),
            Some("assistant") => pair.answer(message),
            Some("tool") => pair.result(message["tool_call_id"].as_str().unwrap_or_default(), message),
            Some("function") => pair.result(&format!("fnc_{}", pair.legacy), message),
            _ => pair.say("user", message),
        }
    }
    (images::texts(&system), pair.items)
}

/// A history on its way from messages to items.
struct Pair<'a> {
    toolbox: &'a Toolbox<'a>,
    context: &'a Context<'a>,
    ids: CallIds,
    /// The calls whose input is freeform; so is their output.
    freeform: HashSet<String>,
    /// Calls of the form that was there before tools: they have no ids, and are answered in order.
    legacy: usize,
    items: Vec<Value>,
}

impl Pair<'_> {
    fn say(&mut self, role: &str, message: &Value) {
        let parts = images::to_responses(images::parts(&message["content"]), false);
        if !parts.is_empty() {
            self.items.push(items::message(role, &Value::Array(parts)));
        }
    }

    fn answer(&mut self, message: &Value) {
        let thoughts = thoughts::of_chat(message, self.context.model);
        self.items
            .extend(thoughts.iter().filter_map(|thought| thought.item(self.context.model)));
        let mut parts = images::parts(&message["content"]);
        if let Some(refusal) = message["refusal"].as_str() {
            parts.push(Part::Refusal(refusal.to_owned()));
        }
        parts.retain(|part| !matches!(part, Part::Text(text) | Part::Refusal(text) if text.is_empty()));
        if !parts.is_empty() {
            let content = images::to_responses(parts, true);
            self.items.push(items::message("assistant", &Value::Array(content)));
        }
        for call in list(&message["tool_calls"]) {
            if let Some(call) = self.toolbox.call(call) {
                self.call(call);
            }
        }
        if message["function_call"].is_object() {
            self.legacy += 1;
            let call = json!({"id": format!("fnc_{}", self.legacy), "function": message["function_call"]});
            if let Some(call) = self.toolbox.call(&call) {
                self.call(call);
            }
        }
    }

    fn call(&mut self, call: Call) {
        let id = self.ids.call(&call.id);
        if matches!(call.input, Input::Text(_)) {
            self.freeform.insert(id.clone());
        }
        self.items.push(call.item(&id));
    }

    fn result(&mut self, id: &str, message: &Value) {
        let id = self.ids.result(id);
        let kind = if self.freeform.contains(&id) {
            "custom_tool_call_output"
        } else {
            "function_call_output"
        };
        let parts = images::parts(&message["content"]);
        let output = if parts.iter().all(|part| matches!(part, Part::Text(_))) {
            json!(images::texts(&parts))
        } else {
            Value::Array(images::to_responses(parts, false))
        };
        self.items.push(json!({"type": kind, "call_id": id, "output": output}));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translate::carrier::Carrier;
    use crate::translate::rules::{Fixture, any_json, model};

    fn gpt() -> Fixture {
        Fixture::new(model(json!({"id": "gpt-5.4", "vendor": "OpenAI", "capabilities": {
            "limits": {"max_output_tokens": 1000},
            "supports": {"vision": true, "reasoning_effort": ["low", "medium", "high"]}}})))
    }

    fn sent(body: &Value) -> Outgoing {
        request(body.as_object().unwrap().clone(), &gpt().context()).unwrap()
    }

    fn said(role: &str, text: &str) -> Value {
        let kind = if role == "assistant" {
            "output_text"
        } else {
            "input_text"
        };
        items::message(role, &json!([{"type": kind, "text": text}]))
    }

    #[test]
    fn k095_k097_a_conversation_becomes_items() {
        let sent = sent(&json!({
        "model": "x", "stream": true, "stream_options": {"include_usage": true}, "max_tokens": 50, "n": 1,
        "temperature": 1, "user": "u", "seed": 3, "reasoning_effort": "xhigh", "parallel_tool_calls": false,
        "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "messages": [
            {"role": "system", "content": "a"}, {"role": "developer", "content": "b"},
            {"role": "user", "content": [{"type": "text", "text": "go"}]},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"x\": 1}"}},
                {"id": "c2", "type": "function", "function": {"name": "f", "arguments": ""}}]},
            {"role": "tool", "tool_call_id": "c2", "content": "two"},
            {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "one"}]},
            {"role": "system", "content": "mind"},
            {"role": "user", "content": "on"},
        ]}));
        assert_eq!(
            Value::Object(sent.body),
            json!({
                "model": "gpt-5.4", "instructions": "a\n\nb",
                "input": [
                    said("user", "go"),
                    {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{\"x\": 1}"},
                    {"type": "function_call", "call_id": "c2", "name": "f", "arguments": "{}"},
                    {"type": "function_call_output", "call_id": "c2", "output": "two"},
                    {"type": "function_call_output", "call_id": "c1", "output": "one"},
                    said("developer", "mind"),
                    said("user", "on"),
                ],
                "store": false, "include": ["reasoning.encrypted_content"], "stream": true, "max_output_tokens": 50,
                "reasoning": {"effort": "high", "summary": "auto"},
                "tools": [{"type": "function", "name": "f", "description": "d",
                    "parameters": {"type": "object", "properties": {}}, "strict": false}],
                "tool_choice": {"type": "function", "name": "f"}, "parallel_tool_calls": false,
            })
        );
        assert!(sent.reply.include_usage && sent.reply.show_reasoning && sent.reply.reasoning_alias);
    }

    #[test]
    fn k098_the_answers_form_is_flat() {
        let sent = sent(
            &json!({"model": "x", "verbosity": "low", "messages": [{"role": "user", "content": "x"}],
            "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}}),
        );
        let text = &sent.body["text"];
        assert_eq!(
            (&text["format"]["name"], &text["format"]["type"]),
            (&json!("n"), &json!("json_schema"))
        );
        assert_eq!(text["verbosity"], "low");
    }

    #[test]
    fn k099_a_system_prompt_alone_is_the_input() {
        let sent = sent(&json!({"model": "x", "messages": [{"role": "system", "content": "s"}]}));
        assert_eq!(sent.body["input"], json!([said("developer", "s")]));
        assert!(!sent.body.contains_key("instructions"));
    }

    #[test]
    fn k099_upstream_is_never_asked_nothing() {
        let sent = sent(&json!({"model": "x", "messages": [{"role": "user", "content": []}]}));
        assert_eq!(sent.body["input"], json!([said("user", ".")]));
    }

    #[test]
    fn reasoning_comes_back_before_its_answer() {
        let carrier = Carrier::Item {
            model: "gpt-5.4".into(),
            id: Some("i".into()),
            content: "e".into(),
        };
        let several = Carrier::List(vec![carrier.encode()]).encode();
        for opaque in [carrier.encode(), several] {
            let sent = sent(&json!({"model": "x", "messages": [{"role": "user", "content": "x"},
                {"role": "assistant", "content": "y", "reasoning_text": "hm", "reasoning_opaque": opaque},
                {"role": "user", "content": "z"}]}));
            assert_eq!(
                sent.body["input"][1],
                json!({"type": "reasoning", "id": "i", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": "e"})
            );
        }
        let foreign = sent(&json!({"model": "x", "messages": [{"role": "user", "content": "x"},
            {"role": "assistant", "content": "y", "reasoning_text": "hm", "reasoning_opaque": "raw"}]}));
        assert_eq!(
            foreign.body["input"],
            json!([said("user", "x"), said("assistant", "y")])
        );
    }

    #[test]
    fn freeform_and_legacy_calls_keep_their_kinds() {
        let sent = sent(&json!({"model": "x", "messages": [{"role": "user", "content": "x"},
            {"role": "assistant", "tool_calls": [{"id": "c", "type": "custom", "custom": {"name": "patch", "input": "***"}}]},
            {"role": "tool", "tool_call_id": "c", "content": "ok"},
            {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
            {"role": "function", "name": "f", "content": "fine"},
            {"role": "tool", "tool_call_id": "lost", "content": "?"}],
            "tools": [{"type": "custom", "custom": {"name": "patch"}}]}));
        assert_eq!(
            sent.body["input"].as_array().unwrap()[1..],
            [
                json!({"type": "custom_tool_call", "call_id": "c", "name": "patch", "input": "***"}),
                json!({"type": "custom_tool_call_output", "call_id": "c", "output": "ok"}),
                json!({"type": "function_call", "call_id": "fnc_1", "name": "f", "arguments": "{}"}),
                json!({"type": "function_call_output", "call_id": "fnc_1", "output": "fine"}),
                items::message("user", &json!("[orphaned tool output lost] ?")),
            ]
        );
        assert_eq!(sent.body["tools"][0]["type"], "custom");
    }

    proptest::proptest! {
        #[test]
        fn no_body_makes_it_panic(body in any_json()) {
            if let Some(body) = body.as_object() {
                let _ = request(body.clone(), &gpt().context());
            }
        }
    }
}
