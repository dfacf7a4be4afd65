//! A Messages request for a chat upstream. Knows both shapes; what several pairs need is in `rules`.

use serde_json::{Value, json};

use crate::protocol::Protocol::{Chat, Messages};
use crate::protocol::failure::Failure;
use crate::translate::chat_history::{self, Answer, JOINT, Style};
use crate::translate::rules::reasoning::{self, Wish};
use crate::translate::rules::structured::Form;
use crate::translate::rules::tools::{CallIds, Toolbox};
use crate::translate::rules::{attribution, cache_marks, images, sampling, searches, session, thoughts};
use crate::translate::{Context, Object, Outgoing, Reply, history};

const STYLE: Style = Style {
    no_result: "Tool result unavailable.",
    joint: Some(JOINT),
};

/// The request as a chat upstream takes it.
pub fn request(mut body: Object, context: &Context) -> Result<Outgoing, Failure> {
    if context.tuning.strip_attribution {
        attribution::strip(&mut body);
    }
    images::admit(Messages, &mut body, context.model)?;
    let vision = images::has_image(Messages, &body);
    let toolbox = Toolbox::read(Messages, Chat, &body, context)?;
    let wish = Wish::read(Messages, &body, context.hints, context.tuning);

    let mut out = Object::new();
    out.insert("model".into(), json!(context.model.id));
    out.insert("messages".into(), Value::Array(messages(&mut body, &toolbox, context)));
    let stops = sampling::write(Messages, Chat, &body, &mut out, context);
    if let Some(user) = session::hashed_user(&body) {
        out.insert("user".into(), json!(user));
    }
    if let Some(form) = Form::read(Messages, &body) {
        form.write(Chat, &mut out);
    }
    wish.write(Chat, &mut out, context);
    toolbox.write(&mut out);
    super::stream_chat(&body, &mut out);
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

fn messages(body: &mut Object, toolbox: &Toolbox, context: &Context) -> Vec<Value> {
    let mut turns = match body.get_mut("messages").map(Value::take) {
        Some(Value::Array(turns)) => turns,
        _ => Vec::new(),
    };
    let mut system = history::blocks_of(body.get_mut("system").map(Value::take).unwrap_or_default());
    system.append(&mut history::take_leading_system(&mut turns));
    if !chat_history::knows_developers(context.model) {
        history::fold_system(&mut turns);
    }
    history::mend(&mut turns);
    let mut pair = Pair {
        toolbox,
        context,
        ids: CallIds::new(Chat),
        messages: Vec::new(),
    };
    pair.system(&system);
    for mut turn in turns {
        let blocks = history::blocks_of(turn["content"].take());
        match turn["role"].as_str() {
            Some("assistant") => pair.answer(&blocks),
            Some("system") => pair.system(&blocks),
            _ => pair.person(blocks),
        }
    }
    let mut settled = chat_history::settle(pair.messages, STYLE);
    chat_history::mark(&mut settled, context.model);
    settled
}

/// A history on its way from blocks to messages.
struct Pair<'a> {
    toolbox: &'a Toolbox<'a>,
    context: &'a Context<'a>,
    ids: CallIds,
    messages: Vec<Value>,
}

impl Pair<'_> {
    fn push(&mut self, mut message: Value, source: &[Value]) {
        if let Some(message) = message.as_object_mut()
            && source.iter().any(cache_marks::is_marked)
        {
            chat_history::want_mark(message);
        }
        self.messages.push(message);
    }

    fn system(&mut self, blocks: &[Value]) {
        let text = texts(blocks);
        if !text.is_empty() {
            self.push(json!({"role": "system", "content": text}), blocks);
        }
    }

    fn person(&mut self, blocks: Vec<Value>) {
        let (results, said): (Vec<Value>, Vec<Value>) =
            blocks.into_iter().partition(|block| block["type"] == "tool_result");
        for result in &results {
            let id = self.ids.result(result["tool_use_id"].as_str().unwrap_or_default());
            let content = self.result(result);
            let message = json!({"role": "tool", "tool_call_id": id, "content": content});
            self.push(message, std::slice::from_ref(result));
        }
        let parts = images::to_chat(said.iter().flat_map(images::parts_of).collect(), self.context.model);
        if !parts.is_empty() {
            self.push(json!({"role": "user", "content": chat_history::content(parts)}), &said);
        }
    }

    /// A result's content, its failure told in words.
    fn result(&self, result: &Value) -> Value {
        let mut parts = images::to_chat(images::parts(&result["content"]), self.context.model);
        if result["is_error"] == true {
            match parts.iter_mut().find(|part| part["text"].is_string()) {
                Some(part) => {
                    let text = part["text"].as_str().unwrap_or_default();
                    let says_so = ["Error", "<tool_use_error>", STYLE.no_result];
                    if !says_so.iter().any(|known| text.starts_with(known)) {
                        part["text"] = json!(format!("Error: {text}").trim_end());
                    }
                }
                None => parts.insert(0, json!({"type": "text", "text": "Error"})),
            }
        }
        Value::Array(parts)
    }

    fn answer(&mut self, blocks: &[Value]) {
        let mut answer = Answer::default();
        for block in blocks {
            match block["type"].as_str() {
                Some("text") => answer.say(block["text"].as_str().unwrap_or_default()),
                Some("thinking" | "redacted_thinking") => answer.think(thoughts::of_block(block)),
                Some("tool_use") => {
                    if let Some(call) = self.toolbox.call(block) {
                        let id = self.ids.call(&call.id);
                        answer.call(call, &id, self.context);
                    }
                }
                _ => searches::of_block(block).into_iter().for_each(|text| answer.say(text)),
            }
        }
        if let Some(message) = answer.message(self.context) {
            self.push(message, blocks);
        }
    }
}

/// The texts of some blocks, joined; empty ones left out.
fn texts(blocks: &[Value]) -> String {
    let texts = blocks.iter().filter_map(|block| block["text"].as_str());
    let texts: Vec<&str> = texts.filter(|text| !text.trim().is_empty()).collect();
    texts.join(JOINT)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::protocol::catalog::Model;
    use crate::translate::carrier::Carrier;
    use crate::translate::rules::model;
    use crate::translate::{Hints, Kept, Memory, Tuning};

    const PNG: &str = "iVBORw0KGgoAAAANSUhEUg==";

    fn gpt() -> Arc<Model> {
        model(json!({"id": "gpt-4.1", "vendor": "Azure OpenAI", "capabilities": {
            "limits": {"max_output_tokens": 1000}, "supports": {"vision": true}}}))
    }

    fn claude() -> Arc<Model> {
        model(json!({"id": "claude-sonnet-4.5", "vendor": "Anthropic", "capabilities": {"supports": {"vision": true}}}))
    }

    fn gemini() -> Arc<Model> {
        model(json!({"id": "gemini-3-pro", "vendor": "Google"}))
    }

    fn sent_with(model: &Model, memory: &Memory, body: Value) -> Result<Outgoing, Failure> {
        let (tuning, hints) = (Tuning::default(), Hints::default());
        let context = Context {
            model,
            requested: "asked",
            tuning: &tuning,
            memory,
            hints: &hints,
        };
        request(body.as_object().unwrap().clone(), &context)
    }

    fn sent(model: &Model, body: Value) -> Object {
        sent_with(model, &Memory::default(), body).unwrap().body
    }

    /// The messages that a history becomes, for GPT.
    fn history(messages: Value) -> Value {
        sent(&gpt(), json!({"model": "x", "messages": messages}))["messages"].clone()
    }

    fn uses(ids: &[&str]) -> Value {
        let blocks: Vec<Value> = ids
            .iter()
            .map(|id| json!({"type": "tool_use", "id": id, "name": "f", "input": {}}))
            .collect();
        json!({"role": "assistant", "content": blocks})
    }

    fn results(blocks: Value) -> Value {
        json!({"role": "user", "content": blocks})
    }

    fn go() -> Value {
        json!({"role": "user", "content": "go"})
    }

    fn tool(id: &str, content: &str) -> Value {
        json!({"role": "tool", "tool_call_id": id, "content": content})
    }

    #[test]
    fn k001_k003_k006_k010_results_come_first_in_the_calls_order() {
        let told = history(json!([
            go(),
            {"role": "assistant", "content": [
                {"type": "text", "text": "A"},
                {"type": "tool_use", "id": "t1", "name": "f", "input": {"x": 1}},
                {"type": "tool_use", "id": "t2", "name": "g", "input": {}}]},
            results(json!([
                {"type": "text", "text": "and also"},
                {"type": "tool_result", "tool_use_id": "t2", "is_error": true, "content": "no"},
                {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "ok"}]}])),
        ]));
        assert_eq!(
            told.to_string(),
            json!([
                {"role": "user", "content": "go"},
                {"role": "assistant", "content": "A", "tool_calls": [
                    {"id": "t1", "type": "function", "function": {"name": "f", "arguments": "{\"x\":1}"}},
                    {"id": "t2", "type": "function", "function": {"name": "g", "arguments": "{}"}}]},
                {"role": "tool", "tool_call_id": "t1", "content": "ok"},
                {"role": "tool", "tool_call_id": "t2", "content": "Error: no"},
                {"role": "user", "content": "and also"},
            ])
            .to_string()
        );
        assert_eq!(history(json!([go(), uses(&["t"])]))[1]["content"], Value::Null);
        let wrapped = "<tool_use_error>boom</tool_use_error>";
        let told = history(json!([
            go(),
            uses(&["t"]),
            results(json!([
            {"type": "tool_result", "tool_use_id": "t", "is_error": true, "content": wrapped}]))
        ]));
        assert_eq!(told[2], tool("t", wrapped));
    }

    #[test]
    fn k004_images_of_results_follow_all_results() {
        let image = json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}});
        let body = json!({"messages": [go(), uses(&["a", "b"]), results(json!([
            {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "x"}, image]},
            {"type": "tool_result", "tool_use_id": "b", "content": "y"}]))]});
        let outgoing = sent_with(&gpt(), &Memory::default(), body).unwrap();
        assert!(outgoing.vision);
        let told = &outgoing.body["messages"];
        assert_eq!((&told[2], &told[3]), (&tool("a", "x"), &tool("b", "y")));
        assert_eq!(told[4]["content"][0]["text"], "Image from tool result a:");
        assert_eq!(
            told[4]["content"][1]["image_url"]["url"],
            format!("data:image/png;base64,{PNG}")
        );
        assert_eq!(told.as_array().unwrap().len(), 5);
    }

    #[test]
    fn k005_a_result_without_content_is_empty() {
        for content in [Value::Null, json!([]), json!("")] {
            let told = history(json!([
                go(),
                uses(&["t"]),
                results(json!([
                {"type": "tool_result", "tool_use_id": "t", "content": content}]))
            ]));
            assert_eq!(told[2], tool("t", ""));
        }
    }

    #[test]
    fn k007_k008_k009_calls_and_results_pair() {
        let told = history(json!([go(), uses(&["t1"]), {"role": "user", "content": "well?"}]));
        assert_eq!(told[2], tool("t1", "Tool result unavailable."));
        assert_eq!(told[3], json!({"role": "user", "content": "well?"}));
        let told = history(json!([
            go(),
            uses(&["t"]),
            results(json!([
            {"type": "tool_result", "tool_use_id": "t", "content": "1"},
            {"type": "tool_result", "tool_use_id": "t", "content": "2"},
            {"type": "tool_result", "tool_use_id": "x", "content": "lost"}]))
        ]));
        assert_eq!(told[2], tool("t", "1"));
        assert_eq!(
            told[3],
            json!({"role": "user", "content": "[orphaned tool result x] lost"})
        );
        assert_eq!(told.as_array().unwrap().len(), 4);
    }

    #[test]
    fn k011_k012_arguments_are_an_object_in_the_clients_order() {
        let told = history(json!([go(), {"role": "assistant", "content": [
            {"type": "tool_use", "id": "a", "name": "f", "input": null},
            {"type": "tool_use", "id": "b", "name": "f", "input": {"z": 1, "a": 2}}]}]));
        let arguments = |at: usize| told[1]["tool_calls"][at]["function"]["arguments"].as_str().unwrap();
        assert_eq!((arguments(0), arguments(1)), ("{}", "{\"z\":1,\"a\":2}"));
    }

    #[test]
    fn k016_the_system_prompt_is_one_message_without_attribution() {
        let told = sent(
            &gpt(),
            json!({"system": [
                {"type": "text", "text": "x-anthropic-billing-header: cc_version=1; cch=abcde;"},
                {"type": "text", "text": "S"}, {"type": "text", "text": "T"}],
            "messages": [{"role": "system", "content": "U"}, go()]}),
        );
        assert_eq!(told["messages"][0], json!({"role": "system", "content": "S\n\nT\n\nU"}));
    }

    #[test]
    fn k034_a_later_system_message_stays_for_gpt_and_is_a_reminder_for_others() {
        let messages = json!([go(), {"role": "system", "content": "S"}]);
        assert_eq!(history(messages.clone())[1], json!({"role": "system", "content": "S"}));
        let told = sent(&gemini(), json!({"messages": messages}));
        assert_eq!(
            told["messages"].as_array().unwrap().last().unwrap()["content"],
            "go\n\n<system-reminder>\nS\n</system-reminder>"
        );
    }

    #[test]
    fn k034_a_system_message_never_parts_a_call_from_its_result() {
        let told = history(
            json!([go(), uses(&["t"]), {"role": "system", "content": "S"}, results(json!([
            {"type": "tool_result", "tool_use_id": "t", "content": "1"}]))]),
        );
        let roles: Vec<&str> = told
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|one| one["role"].as_str())
            .collect();
        assert_eq!(roles[..4], ["user", "assistant", "tool", "system"]);
        assert_eq!(told[2], tool("t", "1"));
    }

    #[test]
    fn k036_k052_tools_that_chat_has_not_are_left_out() {
        let search = json!([{"type": "web_search_20250305", "name": "web_search"}]);
        let told = sent(
            &gpt(),
            json!({"messages": [go()], "tools": search, "tool_choice": {"type": "auto"}}),
        );
        assert!(!told.contains_key("tools") && !told.contains_key("tool_choice"));
        let forced =
            json!({"messages": [go()], "tools": search, "tool_choice": {"type": "tool", "name": "web_search"}});
        assert!(sent_with(&gpt(), &Memory::default(), forced).is_err());
    }

    #[test]
    fn k040_k042_images_and_documents() {
        let url = json!({"messages": [{"role": "user", "content": [
            {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}]}]});
        let refused = sent_with(&gpt(), &Memory::default(), url).unwrap_err();
        assert!(refused.param.is_some());
        let told = history(json!([{"role": "user", "content": [
            {"type": "document", "title": "T", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}},
            {"type": "text", "text": "read"}]}]));
        let text = told[0]["content"].as_str().unwrap();
        assert!(text.contains("application/pdf") && text.ends_with("read"), "{text}");
    }

    #[test]
    fn k043_k044_the_limit_has_the_models_name_for_it() {
        let body = |limit: Value| json!({"messages": [go()], "max_tokens": limit, "top_k": 3, "temperature": 0.5});
        let told = sent(&gpt(), body(json!(100)));
        assert_eq!((&told["max_tokens"], &told["temperature"]), (&json!(100), &json!(0.5)));
        assert!(!told.contains_key("top_k"));
        assert_eq!(sent(&gpt(), body(Value::Null))["max_tokens"], 1000);
        let five = model(json!({"id": "gpt-5.1", "vendor": "OpenAI"}));
        let told = sent(&five, body(json!(100)));
        assert_eq!(told["max_completion_tokens"], 100);
        assert!(!told.contains_key("max_tokens") && !told.contains_key("temperature"));
    }

    #[test]
    fn k050_names_that_upstream_refuses_are_aliased() {
        let body = json!({"messages": [go(), {"role": "assistant", "content": [
            {"type": "tool_use", "id": "t", "name": "mcp__srv.x/y", "input": {}}]}],
            "tools": [{"name": "mcp__srv.x/y", "input_schema": {"type": "object"}}]});
        let outgoing = sent_with(&gpt(), &Memory::default(), body).unwrap();
        let alias = outgoing.body["tools"][0]["function"]["name"].as_str().unwrap();
        assert!(alias.starts_with("mcp__srv_x_y_"));
        assert_eq!(outgoing.body["messages"][1]["tool_calls"][0]["function"]["name"], alias);
        assert_eq!(outgoing.reply.tools[alias].name, "mcp__srv.x/y");
    }

    #[test]
    fn k053_thinking_goes_back_to_the_model_that_thought_and_to_no_other() {
        let think = |block: Value| json!({"messages": [go(), {"role": "assistant", "content": [block, {"type": "text", "text": "A"}]}, go()]});
        let native = think(json!({"type": "thinking", "thinking": "hm", "signature": "Eq=="}));
        let told = sent(&claude(), native.clone());
        assert_eq!(
            (
                &told["messages"][1]["reasoning_opaque"],
                &told["messages"][1]["reasoning_text"]
            ),
            (&json!("Eq=="), &json!("hm"))
        );
        assert_eq!(told["messages"][1]["content"], "A");
        let told = sent(&gpt(), native);
        assert_eq!(told["messages"][1], json!({"role": "assistant", "content": "A"}));
        let carrier = Carrier::Opaque {
            model: "gemini-3-pro".into(),
            opaque: "S".into(),
        };
        let told = sent(
            &gemini(),
            think(json!({"type": "thinking", "thinking": "hm", "signature": carrier.encode()})),
        );
        assert_eq!(told["messages"][1]["reasoning_opaque"], "S");
    }

    #[test]
    fn k104_what_a_client_lost_comes_back_with_its_call() {
        let fields = json!({"thought_signature": "sig"}).as_object().unwrap().clone();
        let state = |carrier: Carrier| carrier.encode();
        let kept = Kept {
            model: "gemini-3-pro".into(),
            text: "hm".into(),
            carriers: vec![
                state(Carrier::Opaque {
                    model: "gemini-3-pro".into(),
                    opaque: "S".into(),
                }),
                state(Carrier::Call {
                    model: "gemini-3-pro".into(),
                    id: "t".into(),
                    fields,
                }),
            ],
        };
        let memory = Memory {
            kept: [("t".to_owned(), kept)].into(),
            ..Memory::default()
        };
        let body = json!({"messages": [go(), uses(&["t"])]});
        let told = sent_with(&gemini(), &memory, body.clone()).unwrap().body;
        let message = &told["messages"]
            .as_array()
            .unwrap()
            .iter()
            .find(|one| one["role"] == "assistant")
            .unwrap();
        assert_eq!(message["reasoning_opaque"], "S");
        assert_eq!(message["tool_calls"][0]["function"]["thought_signature"], "sig");
        let told = sent_with(&gpt(), &memory, body).unwrap().body;
        assert_eq!(told["messages"][1].get("reasoning_opaque"), None);
    }

    #[test]
    fn k054_the_user_is_a_hash() {
        let told = sent(
            &gpt(),
            json!({"messages": [go()], "metadata": {"user_id": "user_1_session_2"}}),
        );
        assert_eq!(told["user"].as_str().unwrap().len(), 64);
        assert!(!told.contains_key("metadata"));
    }

    #[test]
    fn thinking_may_be_wanted_as_state_alone() {
        let asks = |thinking: Value| {
            let body = json!({"messages": [go()], "max_tokens": 9000, "thinking": thinking});
            sent_with(&gemini(), &Memory::default(), body)
                .unwrap()
                .reply
                .omit_thinking
        };
        assert!(asks(json!({"type": "adaptive", "display": "omitted"})));
        assert!(!asks(json!({"type": "adaptive", "display": "summarized"})));
    }

    #[test]
    fn marks_of_the_client_are_marks_of_its_messages() {
        let told = sent(
            &claude(),
            json!({"system": [{"type": "text", "text": "S", "cache_control": {"type": "ephemeral"}}],
                "messages": [go(), {"role": "assistant", "content": "A"}, {"role": "user", "content": [
                    {"type": "text", "text": "more", "cache_control": {"type": "ephemeral"}}]}]}),
        );
        let marked: Vec<bool> = list(&told["messages"])
            .iter()
            .map(|message| message.get("copilot_cache_control").is_some())
            .collect();
        assert_eq!(marked, [true, false, false, true]);
        assert_eq!(history(json!([go()]))[0], go());
    }

    fn list(value: &Value) -> &[Value] {
        crate::translate::rules::list(value)
    }

    #[test]
    fn streams_ask_for_usage() {
        let told = sent(
            &gpt(),
            json!({"messages": [go()], "stream": true, "stop_sequences": ["a", "b", "c", "d", "e"]}),
        );
        assert_eq!(
            (&told["stream"], &told["stream_options"]["include_usage"]),
            (&json!(true), &json!(true))
        );
        assert_eq!(told["stop"], json!(["a", "b", "c", "d"]));
    }

    proptest::proptest! {
        /// K165, and that nothing panics.
        #[test]
        fn k165_any_history_becomes_one_that_upstream_takes(messages in proptest::collection::vec(turn(), 0..8)) {
            let told = sent(&gpt(), json!({"messages": messages}));
            let mut open: Vec<String> = Vec::new();
            let mut before = "";
            for message in list(&told["messages"]) {
                let role = message["role"].as_str().unwrap();
                match role {
                    "tool" => {
                        let id = message["tool_call_id"].as_str().unwrap();
                        let at = open.iter().position(|one| one == id).expect("a result without its call");
                        proptest::prop_assert_eq!(at, 0, "in the calls' order");
                        open.remove(at);
                    }
                    _ => proptest::prop_assert!(open.is_empty(), "a call without its result"),
                }
                proptest::prop_assert!(role != "user" || before != "user");
                let said = message["content"] != "" && message["content"] != json!([]);
                let calls = list(&message["tool_calls"]);
                proptest::prop_assert!(role == "tool" || said && (!message["content"].is_null() || !calls.is_empty()));
                open.extend(calls.iter().map(|call| call["id"].as_str().unwrap().to_owned()));
                before = role;
            }
            proptest::prop_assert!(open.is_empty());
        }

        #[test]
        fn no_body_panics(body in crate::translate::rules::any_json(), messages in crate::translate::rules::any_json()) {
            let mut object = Object::new();
            if let Value::Object(body) = body { object.extend(body); }
            object.insert("messages".into(), messages);
            let _ = sent_with(&gemini(), &Memory::default(), Value::Object(object));
        }
    }

    fn turn() -> impl proptest::strategy::Strategy<Value = Value> {
        use proptest::prelude::*;
        let block = (0..6_u8, 0..4_u8).prop_map(|(kind, id)| match kind {
            0 => json!({"type": "text", "text": " "}),
            1 => json!({"type": "text", "text": "words"}),
            2 | 3 => json!({"type": "tool_use", "id": format!("t{id}"), "name": "f", "input": {}}),
            4 => json!({"type": "tool_result", "tool_use_id": format!("t{id}"), "content": "r"}),
            _ => json!({"type": "thinking", "thinking": "x", "signature": "s"}),
        });
        let role = prop_oneof![Just("user"), Just("assistant")];
        (role, proptest::collection::vec(block, 0..5))
            .prop_map(|(role, blocks)| json!({"role": role, "content": blocks}))
    }
}
