//! A chat request on its way to a chat upstream. Knows what Copilot refuses, and what it forgets to assume.

use serde_json::{Value, json};

use crate::protocol::Protocol::Chat;
use crate::protocol::catalog::Model;
use crate::protocol::failure::Failure;
use crate::translate::carrier::Carrier;
use crate::translate::chat_history::{self, Style};
use crate::translate::request::tells_usage;
use crate::translate::rules::reasoning::Wish;
use crate::translate::rules::{field, images, list, peek, sampling, schema, thoughts, tools};
use crate::translate::{Context, Memory, Object, Outgoing, Reply, calls};

/// Fields that Copilot's models do not have.
const FOREIGN: [&str; 12] = [
    "store",
    "metadata",
    "service_tier",
    "prediction",
    "modalities",
    "audio",
    "web_search_options",
    "prompt_cache_retention",
    "safety_identifier",
    "top_k",
    "n",
    "stream_options",
];
/// Stop sequences that upstream takes.
const MOST_STOPS: usize = 4;
const STYLE: Style = Style {
    no_result: "Tool result unavailable.",
    joint: None,
};

/// The request as Copilot takes it.
pub fn request(mut out: Object, context: &Context) -> Result<Outgoing, Failure> {
    let model = context.model;
    let include_usage = tells_usage(&out);
    let wish = Wish::read(Chat, &out, context.hints, context.tuning);
    out.insert("model".into(), json!(model.id));
    images::admit(Chat, &mut out, model)?;

    for name in FOREIGN {
        out.shift_remove(name);
    }
    if !model.is_reasoning_gpt() {
        out.shift_remove("verbosity");
    }
    limits(&mut out, context);
    for name in ["reasoning_effort", "reasoning", "thinking_budget"] {
        out.shift_remove(name);
    }
    wish.write(Chat, &mut out, context);
    if *field(&out, "stream") == true {
        out.insert("stream_options".into(), json!({"include_usage": true}));
    }
    let aliases = tools::alias_names(Chat, &mut out);
    offer(&mut out, model);
    if let Some(Value::Array(messages)) = out.get_mut("messages") {
        history(messages, context);
    }
    Ok(Outgoing {
        vision: images::has_image(Chat, &out),
        body: out,
        reply: Reply {
            model: context.requested.to_owned(),
            ran: model.id.clone(),
            include_usage,
            show_reasoning: wish.shows,
            reasoning_alias: context.tuning.reasoning_alias,
            tools: aliases,
            ..Reply::default()
        },
        ..Outgoing::default()
    })
}

/// How long the answer may be and how it is drawn.
fn limits(out: &mut Object, context: &Context) {
    let asked = sampling::limit(Chat, out);
    out.shift_remove("max_tokens");
    out.shift_remove("max_completion_tokens");
    sampling::write_limit(Chat, asked, out, context);
    sampling::settle_gpt(out, context.model);
    if let Some(Value::Array(stops)) = out.get_mut("stop") {
        stops.truncate(MOST_STOPS);
    }
}

/// The tools, as far as this model understands them; without tools there is nothing to choose.
fn offer(out: &mut Object, model: &Model) {
    if list(field(out, "tools")).is_empty() {
        for name in ["tools", "tool_choice", "parallel_tool_calls"] {
            out.shift_remove(name);
        }
        return;
    }
    if !model.is_gemini() {
        return;
    }
    for tool in out.get_mut("tools").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(function) = tool.get_mut("function").and_then(Value::as_object_mut) {
            let parameters = schema::of_tool(field(function, "parameters"), Chat, model);
            function.insert("parameters".into(), parameters);
        }
    }
}

fn history(messages: &mut Vec<Value>, context: &Context) {
    let model = context.model;
    for message in messages.iter_mut().filter_map(Value::as_object_mut) {
        if field(message, "role") == "developer" && !chat_history::knows_developers(model) {
            message.insert("role".into(), json!("system"));
        }
        if field(message, "role") == "assistant" {
            answer(message, context.memory, model);
        }
        take_marks(message);
    }
    thoughts::restore_chat(messages, context.memory, model);
    drop_empty(messages);
    if messages.iter().any(shows_in_result) {
        *messages = chat_history::settle(std::mem::take(messages), STYLE);
    }
    chat_history::mark(messages, model);
}

/// One answer of the history: its reasoning as this model wrote it, its calls with what upstream wants to see again.
fn answer(message: &mut Object, memory: &Memory, model: &Model) {
    let opaque = field(message, "reasoning_opaque").as_str().unwrap_or_default();
    if Carrier::is_one(opaque) {
        let own = thoughts::of_chat(&Value::Object(message.clone()), model);
        for name in ["reasoning_opaque", "reasoning_text", "reasoning_content"] {
            message.shift_remove(name);
        }
        thoughts::to_chat(&own, message, model);
    } else if let Some(text) = message.shift_remove("reasoning_content")
        && !message.contains_key("reasoning_text")
    {
        message.insert("reasoning_text".into(), text);
    }
    let calls = message.get_mut("tool_calls").and_then(Value::as_array_mut);
    let mut called = false;
    for call in calls.into_iter().flatten().filter_map(Value::as_object_mut) {
        called = true;
        let id = field(call, "id").as_str().unwrap_or_default().to_owned();
        calls::restore(call, &id, &[], memory, model);
    }
    if called && field(message, "content") == "" {
        message.insert("content".into(), Value::Null);
    }
}

/// Turns marks on a message's parts, as other providers have them, into Copilot's own on the message.
fn take_marks(message: &mut Object) {
    let mut marked = take_mark(message);
    let parts = message.get_mut("content").and_then(Value::as_array_mut);
    for part in parts.into_iter().flatten().filter_map(Value::as_object_mut) {
        marked |= take_mark(part);
    }
    if marked {
        chat_history::want_mark(message);
    }
}

fn take_mark(holder: &mut Object) -> bool {
    holder.shift_remove("cache_control").is_some_and(|mark| !mark.is_null())
}

/// Removes texts that say nothing, and the messages that are left with nothing; the first keeps its place.
fn drop_empty(messages: &mut Vec<Value>) {
    let is_blank = |text: &Value| text.as_str().is_some_and(|text| text.trim().is_empty());
    for message in messages.iter_mut() {
        if let Some(parts) = message.get_mut("content").and_then(Value::as_array_mut) {
            parts.retain(|part| !(peek(part, "type") == "text" && is_blank(peek(part, "text"))));
        }
    }
    let mut first = true;
    messages.retain_mut(|message| {
        let (content, role) = (peek(message, "content"), peek(message, "role").as_str());
        let empty = content.is_null() || is_blank(content) || content.as_array().is_some_and(Vec::is_empty);
        let was_first = first;
        first &= role == Some("system");
        match role {
            Some("user") if empty && was_first => {
                message["content"] = json!(".");
                true
            }
            Some("user" | "system" | "developer") => !empty,
            Some("assistant") => {
                let calls = !list(peek(message, "tool_calls")).is_empty() || peek(message, "function_call").is_object();
                calls || !empty || peek(message, "refusal").is_string()
            }
            _ => true,
        }
    });
}

/// Whether a tool's result holds what only a person's message may show.
fn shows_in_result(message: &Value) -> bool {
    peek(message, "role") == "tool"
        && list(peek(message, "content"))
            .iter()
            .any(|part| peek(part, "type") == "image_url")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::translate::rules::model;
    use crate::translate::{Hints, Kept, Tuning};

    fn gpt() -> Arc<Model> {
        model(json!({"id": "gpt-4.1", "vendor": "Azure OpenAI", "capabilities": {
            "limits": {"max_output_tokens": 1000}, "supports": {"vision": true}}}))
    }

    fn five() -> Arc<Model> {
        model(json!({"id": "gpt-5.1", "vendor": "OpenAI", "capabilities": {
            "supports": {"reasoning_effort": ["low", "medium"]}}}))
    }

    fn claude() -> Arc<Model> {
        model(json!({"id": "claude-sonnet-4.5", "vendor": "Anthropic", "capabilities": {"supports": {"vision": true}}}))
    }

    fn gemini() -> Arc<Model> {
        model(json!({"id": "gemini-3-pro", "vendor": "Google"}))
    }

    fn sent_with(model: &Model, memory: &Memory, body: Value) -> Outgoing {
        let (tuning, hints) = (Tuning::default(), Hints::default());
        let context = Context {
            model,
            requested: "asked",
            tuning: &tuning,
            memory,
            hints: &hints,
        };
        request(body.as_object().unwrap().clone(), &context).unwrap()
    }

    fn sent(model: &Model, body: Value) -> Object {
        sent_with(model, &Memory::default(), body).body
    }

    fn go() -> Value {
        json!({"role": "user", "content": "go"})
    }

    #[test]
    fn k038_what_upstream_has_not_is_left_out_and_the_rest_passes() {
        let told = sent(
            &gpt(),
            json!({"model": "x", "messages": [go()], "store": true, "metadata": {}, "service_tier": "auto",
                "prediction": {}, "verbosity": "low", "seed": 3, "logit_bias": {"z": 1, "a": 2}, "temperature": 0.2,
                "parallel_tool_calls": true, "tools": [], "stop": ["a", "b", "c", "d", "e"], "new": {"z": 1, "a": 2}}),
        );
        assert_eq!(
            Value::Object(told).to_string(),
            r#"{"model":"gpt-4.1","messages":[{"role":"user","content":"go"}],"seed":3,"logit_bias":{"z":1,"a":2},"temperature":0.2,"stop":["a","b","c","d"],"new":{"z":1,"a":2},"max_tokens":1000}"#
        );
    }

    #[test]
    fn k044_the_limit_has_the_models_name_for_it() {
        let told = sent(
            &five(),
            json!({"messages": [go()], "max_tokens": 7, "temperature": 1, "verbosity": "low"}),
        );
        assert_eq!(told["max_completion_tokens"], 7);
        assert_eq!(told["verbosity"], "low");
        assert!(!told.contains_key("max_tokens") && !told.contains_key("temperature"));
        let told = sent(&gpt(), json!({"messages": [go()], "max_completion_tokens": 5000}));
        assert_eq!(told["max_tokens"], 1000);
    }

    #[test]
    fn efforts_are_those_of_the_model() {
        let asked = |effort: &str| json!({"messages": [go()], "reasoning_effort": effort});
        assert_eq!(sent(&five(), asked("high"))["reasoning_effort"], "medium");
        assert!(!sent(&gpt(), asked("high")).contains_key("reasoning_effort"));
    }

    #[test]
    fn k092_a_stream_always_asks_for_usage() {
        let asks = |body: Value| {
            let outgoing = sent_with(&gpt(), &Memory::default(), body);
            (
                outgoing.body.get("stream_options").cloned(),
                outgoing.reply.include_usage,
            )
        };
        let asked = Some(json!({"include_usage": true}));
        assert_eq!(
            asks(json!({"messages": [go()], "stream": true})),
            (asked.clone(), false)
        );
        let options = json!({"messages": [go()], "stream": true, "stream_options": {"include_usage": true}});
        assert_eq!(asks(options), (asked, true));
        assert_eq!(asks(json!({"messages": [go()]})), (None, true));
    }

    #[test]
    fn k107_a_developer_is_the_system_for_other_houses() {
        let body = json!({"messages": [{"role": "developer", "content": "D"}, go()]});
        assert_eq!(sent(&claude(), body.clone())["messages"][0]["role"], "system");
        assert_eq!(sent(&gemini(), body.clone())["messages"][0]["role"], "system");
        assert_eq!(sent(&gpt(), body)["messages"][0]["role"], "developer");
    }

    #[test]
    fn k104_what_a_client_lost_comes_back_with_its_call() {
        let fields = json!({"thought_signature": "sig"}).as_object().unwrap().clone();
        let model = "gemini-3-pro".to_owned();
        let opaque = Carrier::Opaque {
            model: model.clone(),
            opaque: "S".into(),
        };
        let call = Carrier::Call {
            model: model.clone(),
            id: "t".into(),
            fields,
        };
        let kept = Kept {
            model,
            text: String::new(),
            carriers: vec![opaque.encode(), call.encode()],
        };
        let memory = Memory {
            kept: [("t".to_owned(), kept)].into(),
            ..Memory::default()
        };
        let call = json!({"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}});
        let told = sent_with(
            &gemini(),
            &memory,
            json!({"messages": [go(), {"role": "assistant", "content": "", "tool_calls": [call]}]}),
        )
        .body;
        let answer = &told["messages"][1];
        assert_eq!(
            (&answer["content"], &answer["reasoning_opaque"]),
            (&Value::Null, &json!("S"))
        );
        assert_eq!(answer["tool_calls"][0]["function"]["thought_signature"], "sig");
    }

    #[test]
    fn k164_state_of_another_house_is_dropped_with_its_words() {
        let carrier = |model: &str| {
            Carrier::Opaque {
                model: model.into(),
                opaque: "S".into(),
            }
            .encode()
        };
        let body = |opaque: String| {
            json!({"messages": [go(), {"role": "assistant", "content": "A", "reasoning_opaque": opaque,
                "reasoning_text": "hm", "reasoning_content": "hm"}, go()]})
        };
        let told = sent(&gpt(), body(carrier("gemini-3-pro")));
        assert_eq!(told["messages"][1], json!({"role": "assistant", "content": "A"}));
        let told = sent(&gpt(), body(carrier("gpt-4o")));
        assert_eq!(
            (
                &told["messages"][1]["reasoning_opaque"],
                &told["messages"][1]["reasoning_text"]
            ),
            (&json!("S"), &json!("hm"))
        );
        let raw = sent(&gpt(), body("raw".into()));
        assert_eq!(raw["messages"][1]["reasoning_opaque"], "raw");
        assert_eq!(raw["messages"][1].get("reasoning_content"), None);
    }

    #[test]
    fn images_of_results_follow_as_a_persons() {
        let png = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUg==";
        let outgoing = sent_with(
            &gpt(),
            &Memory::default(),
            json!({"messages": [go(),
                {"role": "assistant", "content": null, "tool_calls": [{"id": "a"}, {"id": "b"}]},
                {"role": "tool", "tool_call_id": "a", "content": [
                    {"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": png}}]},
                {"role": "tool", "tool_call_id": "b", "content": [{"type": "text", "text": "y"}]}]}),
        );
        assert!(outgoing.vision);
        let told = &outgoing.body["messages"];
        assert_eq!(told[2]["content"], json!([{"type": "text", "text": "x"}]));
        assert_eq!(told[3]["content"], json!([{"type": "text", "text": "y"}]));
        assert_eq!(told[4]["content"][1]["image_url"]["url"], png);
    }

    #[test]
    fn messages_that_say_nothing_are_dropped() {
        let told = sent(
            &gpt(),
            json!({"messages": [{"role": "user", "content": " "}, {"role": "assistant", "content": ""},
                {"role": "user", "content": [{"type": "text", "text": ""}, {"type": "text", "text": "x"}]},
                {"role": "assistant", "content": null, "tool_calls": [{"id": "a"}]},
                {"role": "tool", "tool_call_id": "a", "content": ""}]}),
        );
        assert_eq!(
            told["messages"],
            json!([{"role": "user", "content": "."}, {"role": "user", "content": [{"type": "text", "text": "x"}]},
                {"role": "assistant", "content": null, "tool_calls": [{"id": "a"}]},
                {"role": "tool", "tool_call_id": "a", "content": ""}])
        );
    }

    #[test]
    fn the_cache_is_marked_for_those_who_look() {
        let marked = |model: &Model, messages: Value| -> Vec<bool> {
            list(&sent(model, json!({"messages": messages}))["messages"])
                .iter()
                .map(|message| message["copilot_cache_control"]["type"] == "ephemeral")
                .collect()
        };
        let answer = json!({"role": "assistant", "content": "A"});
        let plain = json!([{"role": "system", "content": "S"}, go(), answer, go()]);
        assert_eq!(marked(&claude(), plain.clone()), [true, false, true, true]);
        assert_eq!(marked(&gpt(), plain), [false; 4]);
        let own = json!([{"role": "system", "content": "S"}, {"role": "user", "content": [
            {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}]}, answer, go()]);
        assert_eq!(marked(&claude(), own), [false, true, false, false]);
    }

    #[test]
    fn names_that_upstream_refuses_are_aliased() {
        let outgoing = sent_with(
            &gpt(),
            &Memory::default(),
            json!({"messages": [go()], "tools": [{"type": "function", "function": {"name": "a.b", "parameters": {"$schema": "x"}}}]}),
        );
        let function = &outgoing.body["tools"][0]["function"];
        let alias = function["name"].as_str().unwrap();
        assert_eq!(outgoing.reply.tools[alias].name, "a.b");
        assert_eq!(function["parameters"], json!({"$schema": "x"}));
    }

    proptest::proptest! {
        #[test]
        fn no_body_panics(body in crate::translate::rules::any_json(), messages in crate::translate::rules::any_json()) {
            let (tuning, memory, hints) = (Tuning::default(), Memory::default(), Hints::default());
            let model = gemini();
            let context = Context { model: &model, requested: "x", tuning: &tuning, memory: &memory, hints: &hints };
            let mut object = Object::new();
            if let Value::Object(body) = body { object.extend(body); }
            object.insert("messages".into(), messages);
            let _ = request(object, &context);
        }
    }
}
