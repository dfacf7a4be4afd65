//! A Messages request for a Responses upstream. Knows both shapes; what several pairs need is in `rules`.

use serde_json::{Value, json};

use super::settle_responses;
use crate::protocol::Protocol::{Messages, Responses};
use crate::protocol::catalog::Model;
use crate::protocol::failure::Failure;
use crate::translate::carrier::{Carrier, Compacted};
use crate::translate::rules::images::{self, Part};
use crate::translate::rules::reasoning::{self, Wish};
use crate::translate::rules::structured::Form;
use crate::translate::rules::tools::{CallIds, Toolbox};
use crate::translate::rules::{attribution, sampling, searches, thoughts};
use crate::translate::{Context, Object, Outgoing, Reply, history, items};

/// The request as a Responses upstream takes it.
pub fn request(mut body: Object, context: &Context) -> Result<Outgoing, Failure> {
    if context.tuning.strip_attribution {
        attribution::strip(&mut body);
    }
    images::admit(Messages, &mut body, context.model)?;
    let vision = images::has_image(Messages, &body);
    let toolbox = Toolbox::read(Messages, Responses, &body, context)?;
    let wish = Wish::read(Messages, &body, context.hints, context.tuning);

    let mut out = Object::new();
    out.insert("model".into(), json!(context.model.id));
    let (instructions, input) = history(&mut body, &toolbox, context);
    if !instructions.is_empty() {
        out.insert("instructions".into(), json!(instructions));
    }
    settle_responses(Messages, &body, input, &mut out, context);
    let stops = sampling::write(Messages, Responses, &body, &mut out, context);
    wish.write(Responses, &mut out, context);
    if let Some(form) = Form::read(Messages, &body) {
        form.write(Responses, &mut out);
    }
    toolbox.write(&mut out);
    Ok(Outgoing {
        body: out,
        vision,
        reply: Reply {
            model: context.requested.to_owned(),
            ran: context.model.id.clone(),
            show_reasoning: wish.shows,
            omit_thinking: reasoning::omits_text(&body),
            tools: toolbox.client_tools(),
            stops,
            web_search: toolbox.web_search,
            ..Reply::default()
        },
        ..Outgoing::default()
    })
}

/// The instructions and the items that a conversation becomes.
fn history(body: &mut Object, toolbox: &Toolbox, context: &Context) -> (String, Vec<Value>) {
    let mut turns = match body.get_mut("messages").map(Value::take) {
        Some(Value::Array(turns)) => turns,
        _ => Vec::new(),
    };
    let mut system = images::parts(body.get("system").unwrap_or(&Value::Null));
    for block in history::take_leading_system(&mut turns) {
        system.extend(images::parts_of(&block));
    }
    history::mend(&mut turns);
    let mut pair = Pair {
        toolbox,
        context,
        ids: CallIds::new(Responses),
        items: Vec::new(),
    };
    for mut turn in turns {
        let blocks = history::blocks_of(turn["content"].take());
        match turn["role"].as_str() {
            Some("assistant") => pair.answer(&blocks),
            Some("system") => pair.say("developer", &blocks),
            _ => pair.person(&blocks),
        }
    }
    (images::texts(&system), pair.items)
}

/// A history on its way from blocks to items.
struct Pair<'a> {
    toolbox: &'a Toolbox<'a>,
    context: &'a Context<'a>,
    ids: CallIds,
    items: Vec<Value>,
}

impl Pair<'_> {
    fn say(&mut self, role: &str, blocks: &[Value]) {
        let parts = images::to_responses(blocks.iter().flat_map(images::parts_of).collect(), false);
        if !parts.is_empty() {
            self.items.push(items::message(role, &Value::Array(parts)));
        }
    }

    fn person(&mut self, blocks: &[Value]) {
        let (results, said): (Vec<Value>, Vec<Value>) =
            blocks.iter().cloned().partition(|block| block["type"] == "tool_result");
        for result in &results {
            let id = self.ids.result(result["tool_use_id"].as_str().unwrap_or_default());
            let output = output(result);
            self.items
                .push(json!({"type": "function_call_output", "call_id": id, "output": output}));
        }
        self.say("user", &said);
    }

    fn answer(&mut self, blocks: &[Value]) {
        let phase = knows_phases(self.context.model).then(|| {
            let calls = blocks.iter().any(|block| block["type"] == "tool_use");
            if calls { "commentary" } else { "final_answer" }
        });
        for block in blocks {
            match block["type"].as_str() {
                Some("text") => self.answer_text(block["text"].as_str().unwrap_or_default(), phase),
                Some("thinking" | "redacted_thinking") => self.think(block),
                Some("tool_use") => {
                    if let Some(call) = self.toolbox.call(block) {
                        let id = self.ids.call(&call.id);
                        self.items.push(call.item(&id));
                    }
                }
                _ => {
                    if let Some(text) = searches::of_block(block) {
                        self.answer_text(&text, phase);
                    }
                }
            }
        }
    }

    fn answer_text(&mut self, text: &str, phase: Option<&str>) {
        if text.trim().is_empty() {
            return;
        }
        let mut message = items::message("assistant", &json!([{"type": "output_text", "text": text}]));
        if let Some(phase) = phase {
            message["phase"] = json!(phase);
        }
        self.items.push(message);
    }

    fn think(&mut self, block: &Value) {
        for thought in thoughts::of_block(block) {
            match &thought.state {
                Carrier::Compaction {
                    held: Compacted::Items(compacted),
                    ..
                } if thought.state.fits(self.context.model) => self.items.extend(compacted.clone()),
                _ => self.items.extend(thought.item(self.context.model)),
            }
        }
    }
}

/// A result: a text where it is only text, else its parts. Its failure is told in words.
fn output(result: &Value) -> Value {
    let mut parts = images::parts(&result["content"]);
    if result["is_error"] == true {
        let first = parts.iter_mut().find_map(|part| match part {
            Part::Text(text) => Some(text),
            _ => None,
        });
        match first {
            Some(text) if text.starts_with("Error") || text.starts_with("<tool_use_error>") => {}
            Some(text) => *text = format!("Error: {text}").trim_end().to_owned(),
            None => parts.insert(0, Part::Text("Error".to_owned())),
        }
    }
    if parts.iter().all(|part| matches!(part, Part::Text(_))) {
        return json!(images::texts(&parts));
    }
    Value::Array(images::to_responses(parts, false))
}

/// Newer models tell remarks between calls from the answer itself.
fn knows_phases(model: &Model) -> bool {
    model.gpt_version().is_some_and(|version| version >= (5, 4)) || model.id.starts_with("gpt-5.3-codex")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translate::Kept;
    use crate::translate::rules::{Fixture, any_json, model};

    const PNG: &str = "iVBORw0KGgoAAAANSUhEUg==";

    fn gpt(id: &str) -> Fixture {
        Fixture::new(model(json!({"id": id, "vendor": "OpenAI", "capabilities": {
            "family": id, "limits": {"max_output_tokens": 1000},
            "supports": {"vision": true, "reasoning_effort": ["low", "medium", "high"]}}})))
    }

    fn sent(fixture: &Fixture, body: &Value) -> Outgoing {
        request(body.as_object().unwrap().clone(), &fixture.context()).unwrap()
    }

    fn input(messages: Value) -> Value {
        let sent = sent(&gpt("gpt-5.2"), &json!({"model": "x", "messages": messages}));
        sent.body["input"].clone()
    }

    fn go() -> Value {
        json!({"role": "user", "content": "go"})
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
    fn k045_k046_a_conversation_becomes_items() {
        let sent = sent(
            &gpt("gpt-5.2"),
            &json!({"model": "x", "max_tokens": 5, "stream": true, "temperature": 0.5, "system": [
                {"type": "text", "text": "x-anthropic-billing-header: cc_version=1;"}, {"type": "text", "text": "Be brief."}],
                "tools": [{"name": "f", "input_schema": {"type": "object"}}], "tool_choice": {"type": "any"},
                "messages": [go(),
                    {"role": "assistant", "content": [{"type": "text", "text": "A"},
                        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"b": 1, "a": 2}}]},
                    {"role": "user", "content": [{"type": "text", "text": "and"},
                        {"type": "tool_result", "tool_use_id": "toolu_1", "is_error": true, "content": "no"}]},
                    {"role": "system", "content": "mind"}]}),
        );
        assert_eq!(
            Value::Object(sent.body),
            json!({
                "model": "gpt-5.2", "instructions": "Be brief.",
                "input": [
                    said("user", "go"),
                    said("assistant", "A"),
                    {"type": "function_call", "call_id": "toolu_1", "name": "f", "arguments": "{\"b\":1,\"a\":2}"},
                    {"type": "function_call_output", "call_id": "toolu_1", "output": "Error: no"},
                    said("user", "and"),
                    said("developer", "mind"),
                ],
                "store": false, "include": ["reasoning.encrypted_content"], "stream": true, "max_output_tokens": 16,
                "tools": [{"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}, "strict": false}],
                "tool_choice": "required",
            })
        );
    }

    #[test]
    fn k047_reasoning_stands_before_what_it_led_to() {
        let carrier = |model: &str| {
            let carrier = Carrier::Item {
                model: model.into(),
                id: Some("i".into()),
                content: "e".into(),
            };
            carrier.encode()
        };
        let turn = |signature: String| {
            json!([go(), {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": signature},
                {"type": "tool_use", "id": "c", "name": "f", "input": {}}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": [
                    {"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]}])
        };
        let call = json!({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"});
        let output = json!({"type": "function_call_output", "call_id": "c", "output": "a\n\nb"});
        let reasoning = json!({"type": "reasoning", "id": "i", "summary": [{"type": "summary_text", "text": "hm"}],
            "encrypted_content": "e"});
        assert_eq!(
            input(turn(carrier("gpt-5.4"))),
            json!([said("user", "go"), reasoning, call, output])
        );
        for foreign in [carrier("claude-x"), "EqQBCgIYAhIM".to_owned(), "cpx1.n.e30.".to_owned()] {
            assert_eq!(input(turn(foreign)), json!([said("user", "go"), call, output]));
        }
    }

    #[test]
    fn reasoning_that_the_client_lost_is_given_back() {
        let mut fixture = gpt("gpt-5.2");
        let carrier = Carrier::Item {
            model: "gpt-5.2".into(),
            id: None,
            content: "e".into(),
        };
        let kept = Kept {
            model: "gpt-5.2".into(),
            text: String::new(),
            carriers: vec![carrier.encode()],
        };
        fixture.memory.kept.insert("c".into(), kept);
        let body = json!({"model": "x", "messages": [go(),
            {"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "f", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "ok"}]}]});
        let input = &sent(&fixture, &body).body["input"];
        assert_eq!(
            input[1],
            json!({"type": "reasoning", "summary": [], "encrypted_content": "e"})
        );
        assert_eq!(input[2]["type"], "function_call");
    }

    #[test]
    fn images_stay_where_they_were() {
        let image = json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}});
        let shown =
            json!({"type": "input_image", "image_url": format!("data:image/png;base64,{PNG}"), "detail": "auto"});
        let body = json!({"model": "x", "messages": [
            {"role": "user", "content": [{"type": "text", "text": "see"}, image]},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "f", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": [image]}]}]});
        let sent = sent(&gpt("gpt-5.2"), &body);
        assert!(sent.vision);
        let input = &sent.body["input"];
        assert_eq!(
            input[0]["content"],
            json!([{"type": "input_text", "text": "see"}, shown])
        );
        assert_eq!(input[2]["output"], json!([shown]));
    }

    #[test]
    fn remarks_between_calls_have_their_phase() {
        let body = json!({"model": "x", "messages": [go(),
            {"role": "assistant", "content": [{"type": "text", "text": "A"},
                {"type": "tool_use", "id": "c", "name": "f", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "ok"}]},
            {"role": "assistant", "content": "B"}, go()]});
        let phases = |id: &str| {
            let sent = sent(&gpt(id), &body);
            [1, 4].map(|at| sent.body["input"][at]["phase"].clone())
        };
        assert_eq!(phases("gpt-5.3-codex"), ["commentary", "final_answer"]);
        assert_eq!(phases("gpt-5.4-mini"), ["commentary", "final_answer"]);
        assert_eq!(phases("gpt-5.2"), [Value::Null, Value::Null]);
    }

    #[test]
    fn k037_web_search_is_upstreams_own() {
        let body = json!({"model": "x", "messages": [go()], "tools": [
            {"type": "web_search_20250305", "name": "web_search", "allowed_domains": ["a.example"], "max_uses": 3}]});
        let sent = sent(&gpt("gpt-5.2"), &body);
        assert_eq!(
            sent.body["tools"],
            json!([{"type": "web_search", "filters": {"allowed_domains": ["a.example"]}}])
        );
        assert!(sent.reply.web_search);
    }

    #[test]
    fn k049_stop_sequences_are_watched_for_on_this_side() {
        let body = json!({"model": "x", "messages": [go()], "stop_sequences": ["END"]});
        let sent = sent(&gpt("gpt-5.2"), &body);
        assert_eq!(sent.reply.stops, ["END"]);
        assert!(!sent.body.contains_key("stop"));
    }

    #[test]
    fn k054_the_session_is_the_cache_key() {
        let body = json!({"model": "x", "messages": [go()], "metadata": {
            "user_id": "{\"device_id\":\"d\",\"account_uuid\":\"a\",\"session_id\":\"S\"}"}});
        let sent = sent(&gpt("gpt-5.2"), &body);
        assert_eq!(sent.body["prompt_cache_key"], "S:gpt-5.2");
        assert!(!sent.body.contains_key("metadata") && !sent.body.contains_key("user"));
    }

    #[test]
    fn thinking_and_form_have_their_words() {
        let body = json!({"model": "x", "messages": [go()], "thinking": {"type": "enabled", "budget_tokens": 10000},
            "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}});
        let sent = sent(&gpt("gpt-5.2"), &body);
        assert_eq!(sent.body["reasoning"], json!({"effort": "medium", "summary": "auto"}));
        assert_eq!(sent.body["text"]["format"]["type"], "json_schema");
        assert!(sent.reply.show_reasoning && !sent.reply.omit_thinking);
    }

    #[test]
    fn thinking_may_be_wanted_as_state_alone() {
        let thinking = json!({"type": "adaptive", "display": "omitted"});
        let body = json!({"model": "x", "messages": [go()], "thinking": thinking});
        assert!(sent(&gpt("gpt-5.2"), &body).reply.omit_thinking);
    }

    proptest::proptest! {
        #[test]
        fn no_body_makes_it_panic(body in any_json()) {
            if let Some(body) = body.as_object() {
                let _ = request(body.clone(), &gpt("gpt-5.4").context());
            }
        }
    }
}
