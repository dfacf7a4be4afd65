//! A Responses request for a chat upstream. Knows both shapes; what several pairs need is in `rules`.

use serde_json::{Value, json};

use crate::protocol::Protocol::{Chat, Responses};
use crate::protocol::failure::Failure;
use crate::translate::chat_history::{self, Answer, JOINT, Style};
use crate::translate::rules::reasoning::Wish;
use crate::translate::rules::structured::Form;
use crate::translate::rules::tools::{CallIds, Toolbox, output_of};
use crate::translate::rules::{field, images, sampling, searches, thoughts};
use crate::translate::{Context, Object, Outgoing, Reply, compaction, items, response_object};

const STYLE: Style = Style {
    no_result: "aborted",
    joint: Some("\n"),
};

/// The request as a chat upstream takes it.
pub fn request(mut body: Object, context: &Context) -> Result<Outgoing, Failure> {
    images::admit(Responses, &mut body, context.model)?;
    let vision = images::has_image(Responses, &body);
    let toolbox = Toolbox::read(Responses, Chat, &body, context)?;
    let wish = Wish::read(Responses, &body, context.hints, context.tuning);

    let mut out = Object::new();
    out.insert("model".into(), json!(context.model.id));
    out.insert("messages".into(), Value::Array(messages(&body, &toolbox, context)?));
    let stops = sampling::write(Responses, Chat, &body, &mut out, context);
    if let Some(form) = Form::read(Responses, &body) {
        form.write(Chat, &mut out);
    }
    wish.write(Chat, &mut out, context);
    toolbox.write(&mut out);
    super::stream_chat(&body, &mut out);
    Ok(Outgoing {
        vision,
        reply: Reply {
            model: context.requested.to_owned(),
            ran: context.model.id.clone(),
            show_reasoning: wish.shows,
            tools: toolbox.client_tools(),
            stops,
            echo: response_object::echo(&body),
            ..Reply::default()
        },
        body: out,
        ..Outgoing::default()
    })
}

fn messages(body: &Object, toolbox: &Toolbox, context: &Context) -> Result<Vec<Value>, Failure> {
    let mut input = items::of(field(body, "input"));
    items::resolve_references(&mut input, context.tuning)?;
    let mut pair = Pair {
        toolbox,
        context,
        ids: CallIds::new(Chat),
        messages: Vec::new(),
        answer: Answer::default(),
        reminders: Vec::new(),
    };
    let leading = input.iter().take_while(|item| is_system(item)).count();
    let instructions = field(body, "instructions").as_str().map(str::to_owned);
    let system = input.iter().take(leading).map(|item| texts(&item["content"]));
    let system: Vec<String> = instructions
        .into_iter()
        .chain(system)
        .filter(|text| !text.trim().is_empty())
        .collect();
    if !system.is_empty() {
        pair.push(json!({"role": "system", "content": system.join(JOINT)}));
    }
    for item in input.iter().skip(leading) {
        pair.item(item)?;
    }
    Ok(pair.finish())
}

fn is_system(item: &Value) -> bool {
    matches!(item["role"].as_str(), Some("system" | "developer"))
}

/// A history on its way from items to messages.
struct Pair<'a> {
    toolbox: &'a Toolbox<'a>,
    context: &'a Context<'a>,
    ids: CallIds,
    messages: Vec<Value>,
    answer: Answer,
    /// System messages that wait for a person's message to carry them.
    reminders: Vec<String>,
}

impl Pair<'_> {
    fn item(&mut self, item: &Value) -> Result<(), Failure> {
        match item["type"].as_str() {
            None | Some("message" | "agent_message") => self.message(item),
            Some("reasoning") => self.answer.think(thoughts::of_item(item, self.context.model)),
            Some("compaction" | "compaction_summary") => {
                let read = compaction::unwrap(item.clone(), None)?;
                read.iter().for_each(|item| self.message(item));
            }
            Some(kind) if kind.ends_with("_output") => {
                if let Some((id, output)) = output_of(item) {
                    let id = self.ids.result(&id);
                    let parts = images::to_chat(images::parts(&output), self.context.model);
                    self.push(json!({"role": "tool", "tool_call_id": id, "content": parts}));
                }
            }
            Some("web_search_call") => searches::of_item(item)
                .into_iter()
                .for_each(|text| self.answer.say(text)),
            // What is no call of the client's has no counterpart.
            Some(_) if items::is_call(item) => self.call(item),
            Some(_) => {}
        }
        Ok(())
    }

    fn message(&mut self, item: &Value) {
        let content = &item["content"];
        match item["role"].as_str() {
            Some("assistant") => self.answer.say(texts(content)),
            Some("system" | "developer") => self.system(texts(content)),
            _ => {
                let reminders = std::mem::take(&mut self.reminders).into_iter();
                let mut parts: Vec<Value> = reminders.map(|text| json!({"type": "text", "text": text})).collect();
                parts.extend(images::to_chat(images::parts(content), self.context.model));
                parts.retain(|part| !part["text"].as_str().is_some_and(|text| text.trim().is_empty()));
                if !parts.is_empty() {
                    self.push(json!({"role": "user", "content": chat_history::content(parts)}));
                }
            }
        }
    }

    fn system(&mut self, text: String) {
        if text.trim().is_empty() {
            return;
        }
        if chat_history::knows_developers(self.context.model) {
            self.push(json!({"role": "system", "content": text}));
        } else {
            self.reminders.push(chat_history::reminder(&text));
        }
    }

    fn call(&mut self, item: &Value) {
        if let Some(call) = self.toolbox.call(item) {
            let id = self.ids.call(&call.id);
            self.answer.call(call, &id, self.context);
        }
    }

    /// Adds a message after the answer under way.
    fn push(&mut self, message: Value) {
        let answer = std::mem::take(&mut self.answer);
        self.messages.extend(answer.message(self.context));
        self.messages.push(message);
    }

    fn finish(mut self) -> Vec<Value> {
        let model = self.context.model;
        if !self.reminders.is_empty() {
            let text = std::mem::take(&mut self.reminders).join(JOINT);
            self.push(json!({"role": "user", "content": text}));
        }
        self.messages.extend(self.answer.message(self.context));
        let mut settled = chat_history::settle(self.messages, STYLE);
        let first = settled.iter().take_while(|message| is_system(message)).count();
        let person_first = settled.get(first).is_some_and(|message| message["role"] == "user");
        if !person_first && !chat_history::knows_developers(model) {
            settled.insert(first, json!({"role": "user", "content": "."}));
        }
        chat_history::mark(&mut settled, model);
        settled
    }
}

/// The texts of a content, joined.
fn texts(content: &Value) -> String {
    images::texts(&images::parts(content))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::protocol::catalog::Model;
    use crate::translate::carrier::{Carrier, Compacted};
    use crate::translate::rules::model;
    use crate::translate::{Hints, Memory, ToolShape, Tuning};

    const PNG: &str = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUg==";

    fn gpt() -> Arc<Model> {
        model(json!({"id": "gpt-4.1", "vendor": "Azure OpenAI", "capabilities": {"supports": {"vision": true}}}))
    }

    fn gemini() -> Arc<Model> {
        model(json!({"id": "gemini-3-pro", "vendor": "Google"}))
    }

    fn sent(model: &Model, body: Value) -> Result<Outgoing, Failure> {
        let (tuning, memory, hints) = (Tuning::default(), Memory::default(), Hints::default());
        let context = Context {
            model,
            requested: "asked",
            tuning: &tuning,
            memory: &memory,
            hints: &hints,
        };
        request(body.as_object().unwrap().clone(), &context)
    }

    fn history(model: &Model, input: Value) -> Value {
        sent(model, json!({"input": input})).unwrap().body["messages"].clone()
    }

    fn user(text: &str) -> Value {
        json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]})
    }

    fn call(id: &str) -> Value {
        json!({"type": "function_call", "call_id": id, "name": "f", "arguments": "{}"})
    }

    fn output(id: &str, output: Value) -> Value {
        json!({"type": "function_call_output", "call_id": id, "output": output})
    }

    fn tool(id: &str, content: &str) -> Value {
        json!({"role": "tool", "tool_call_id": id, "content": content})
    }

    fn called(ids: &[&str]) -> Value {
        let calls: Vec<Value> = ids
            .iter()
            .map(|id| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}}))
            .collect();
        json!({"role": "assistant", "content": null, "tool_calls": calls})
    }

    #[test]
    fn k120_adjacent_calls_are_one_round() {
        let told = history(
            &gpt(),
            json!([
                user("go"),
                call("a"),
                call("b"),
                output("b", json!("2")),
                output("a", json!("1"))
            ]),
        );
        assert_eq!(
            told,
            json!([{"role": "user", "content": "go"}, called(&["a", "b"]), tool("a", "1"), tool("b", "2")])
        );
        let rounds = history(
            &gpt(),
            json!([
                user("go"),
                call("a"),
                output("a", json!("1")),
                call("b"),
                output("b", json!("2"))
            ]),
        );
        assert_eq!(
            rounds,
            json!([{"role": "user", "content": "go"}, called(&["a"]), tool("a", "1"), called(&["b"]), tool("b", "2")])
        );
        let broken = history(
            &gpt(),
            json!([user("go"), call("a"), output("x", json!("lost")), user("on")]),
        );
        assert_eq!(
            broken,
            json!([{"role": "user", "content": "go"}, called(&["a"]), tool("a", "aborted"),
                {"role": "user", "content": "[orphaned tool result x] lost\n\non"}])
        );
    }

    #[test]
    fn k121_images_of_outputs_follow_as_a_persons() {
        let rich = json!([{"type": "input_text", "text": "x"}, {"type": "input_text", "text": "y"},
            {"type": "input_image", "image_url": PNG}]);
        let outgoing = sent(&gpt(), json!({"input": [user("go"), call("a"), output("a", rich)]})).unwrap();
        assert!(outgoing.vision);
        let told = &outgoing.body["messages"];
        assert_eq!(told[2], tool("a", "x\ny"));
        assert_eq!(told[3]["content"][1]["image_url"]["url"], PNG);
    }

    #[test]
    fn k122_what_codex_always_sends_is_no_reason_to_refuse() {
        let body = json!({"model": "x", "instructions": "I", "stream": true, "store": false,
            "include": ["reasoning.encrypted_content"], "prompt_cache_key": "k", "client_metadata": {"a": "b"},
            "reasoning": {"summary": "auto"}, "text": {"verbosity": "low"}, "service_tier": "auto",
            "parallel_tool_calls": false, "tool_choice": "auto",
            "tools": [
                {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}, "strict": false},
                {"type": "namespace", "name": "ns", "tools": [
                    {"type": "function", "name": "g", "parameters": {"type": "object", "properties": {}}}]},
                {"type": "web_search"},
            ],
            "input": [{"type": "message", "role": "developer", "id": "msg_1",
                "content": [{"type": "input_text", "text": "D"}]}, user("go")]});
        let outgoing = sent(&gpt(), body).unwrap();
        let names: Vec<&str> = outgoing.body.keys().map(String::as_str).collect();
        for name in [
            "store",
            "include",
            "prompt_cache_key",
            "client_metadata",
            "reasoning",
            "text",
            "service_tier",
            "input",
        ] {
            assert!(!names.contains(&name), "{name}");
        }
        assert_eq!(
            outgoing.body["messages"][0],
            json!({"role": "system", "content": "I\n\nD"})
        );
        assert_eq!(outgoing.body["tools"].as_array().unwrap().len(), 2);
        assert_eq!(outgoing.body["tools"][1]["function"]["name"], "ns__g");
        assert_eq!(outgoing.reply.tools["ns__g"].namespace.as_deref(), Some("ns"));
        assert_eq!(outgoing.body["parallel_tool_calls"], false);
        assert!(outgoing.reply.show_reasoning);
        assert_eq!(outgoing.reply.echo["instructions"], "I");
    }

    #[test]
    fn k115_k117_shaped_tools_are_functions_and_so_are_their_calls() {
        let grammar = json!({"type": "grammar", "syntax": "lark", "definition": "start: x"});
        let outgoing = sent(
            &gpt(),
            json!({"tools": [{"type": "custom", "name": "apply_patch", "description": "D", "format": grammar},
                {"type": "local_shell"}],
            "input": [user("go"),
                {"type": "custom_tool_call", "call_id": "c", "name": "apply_patch", "input": "*** Begin\n"},
                {"type": "custom_tool_call_output", "call_id": "c", "output": "done"},
                {"type": "local_shell_call", "call_id": "l", "action": {"type": "exec", "command": ["ls"]}},
                {"type": "local_shell_call_output", "call_id": "l", "output": "x"}]}),
        )
        .unwrap();
        let function = &outgoing.body["tools"][0]["function"];
        assert_eq!(function["parameters"]["properties"]["input"]["type"], "string");
        assert!(function["description"].as_str().unwrap().contains("start: x"));
        assert_eq!(outgoing.reply.tools["apply_patch"].shape, ToolShape::Custom);
        assert_eq!(outgoing.reply.tools["local_shell"].shape, ToolShape::LocalShell);
        let told = &outgoing.body["messages"];
        assert_eq!(
            told[1]["tool_calls"][0]["function"],
            json!({"name": "apply_patch", "arguments": "{\"input\":\"*** Begin\\n\"}"})
        );
        assert_eq!(
            told[3]["tool_calls"][0]["function"]["arguments"],
            "{\"command\":[\"ls\"]}"
        );
        assert_eq!((&told[2], &told[4]), (&tool("c", "done"), &tool("l", "x")));
    }

    #[test]
    fn k123_a_summary_is_read_and_a_foreign_compaction_refused() {
        let item = |held: Compacted| {
            let carrier = Carrier::Compaction {
                model: "m".into(),
                held,
            };
            json!({"type": "compaction", "encrypted_content": carrier.encode()})
        };
        let told = history(&gpt(), json!([item(Compacted::Text("so far".into())), user("on")]));
        let text = told[0]["content"].as_str().unwrap();
        assert_eq!(told.as_array().unwrap().len(), 1);
        assert!(text.contains("\n\nso far") && text.ends_with("on"));
        for item in [
            item(Compacted::Items(vec![])),
            json!({"type": "compaction", "encrypted_content": "raw"}),
        ] {
            let refused = sent(&gpt(), json!({"input": [item]})).unwrap_err();
            assert_eq!(refused.message, "compaction item belongs to another model family");
        }
    }

    #[test]
    fn items_of_one_answer_are_one_message() {
        let carrier = Carrier::Opaque {
            model: "gemini-3-pro".into(),
            opaque: "S".into(),
        };
        let input = json!([user("go"),
            {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "hm"}],
                "encrypted_content": carrier.encode()},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "A"}]},
            {"type": "web_search_call", "action": {"query": "q"}},
            {"role": "assistant", "content": "B"},
            call("a"), output("a", json!("1"))]);
        let told = history(&gemini(), input.clone());
        let answer = told
            .as_array()
            .unwrap()
            .iter()
            .find(|one| one["role"] == "assistant")
            .unwrap();
        assert_eq!(answer["content"], "A\n\n[web search: q]\n\nB");
        assert_eq!(
            (&answer["reasoning_opaque"], &answer["reasoning_text"]),
            (&json!("S"), &json!("hm"))
        );
        assert_eq!(answer["tool_calls"][0]["id"], "a");
        let foreign = history(&gpt(), input);
        assert_eq!(foreign[1].get("reasoning_opaque"), None);
        assert_eq!(foreign[1].get("reasoning_text"), None);
    }

    #[test]
    fn later_system_messages_stay_for_gpt_and_become_reminders_for_others() {
        let input = json!([user("go"), {"role": "developer", "content": "D"}, user("on")]);
        assert_eq!(
            history(&gpt(), input.clone())[1],
            json!({"role": "system", "content": "D"})
        );
        let told = history(&gemini(), input);
        assert_eq!(told.as_array().unwrap().len(), 1);
        assert_eq!(
            told[0]["content"],
            "go\n\n<system-reminder>\nD\n</system-reminder>\n\non"
        );
    }

    #[test]
    fn a_reference_to_what_nobody_keeps_is_refused() {
        let refused = sent(
            &gpt(),
            json!({"input": [user("go"), {"type": "item_reference", "id": "msg_1"}]}),
        );
        assert_eq!(refused.unwrap_err().openai_code(), Some("item_not_found"));
    }

    #[test]
    fn a_text_is_a_message() {
        assert_eq!(history(&gpt(), json!("hi")), json!([{"role": "user", "content": "hi"}]));
        let told = history(&gemini(), json!([{"role": "system", "content": "S"}]));
        assert_eq!(told[1]["content"], ".");
    }

    proptest::proptest! {
        #[test]
        fn no_body_panics(body in crate::translate::rules::any_json(), input in crate::translate::rules::any_json()) {
            let mut object = Object::new();
            if let Value::Object(body) = body { object.extend(body); }
            object.insert("input".into(), input);
            let _ = sent(&gemini(), Value::Object(object));
        }
    }
}
