//! A Messages request for a chat upstream. Knows both shapes; what several pairs need is in `rules`.

use serde_json::{Value, json};

use crate::protocol::Protocol::{Chat, Messages};
use crate::protocol::failure::Failure;
use crate::translate::carrier::Carrier;
use crate::translate::chat_history::{self, Style};
use crate::translate::rules::reasoning::Wish;
use crate::translate::rules::structured::Form;
use crate::translate::rules::tools::{CallIds, Toolbox};
use crate::translate::rules::{attribution, cache_marks, images, sampling, searches, session, thoughts};
use crate::translate::{Context, Object, Outgoing, Reply, calls, history};

const STYLE: Style = Style {
    no_result: "Tool result unavailable.",
    joint: Some(JOINT),
};
/// Between the texts of one system prompt, answer or result.
const JOINT: &str = "\n\n";

/// The request as a chat upstream takes it.
pub fn request(body: &Object, context: &Context) -> Result<Outgoing, Failure> {
    let mut body = body.clone();
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
    if !context.model.is_gpt() && !context.model.is_reasoning_gpt() {
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
            _ => pair.person(&blocks),
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

    fn person(&mut self, blocks: &[Value]) {
        let (results, said): (Vec<Value>, Vec<Value>) =
            blocks.iter().cloned().partition(|block| block["type"] == "tool_result");
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
        let model = self.context.model;
        let mut message = Object::new();
        message.insert("role".into(), json!("assistant"));
        message.insert("content".into(), Value::Null);
        let mut said: Vec<String> = Vec::new();
        let mut thought = Vec::new();
        let mut tool_calls: Vec<Value> = Vec::new();
        let mut fields = None;
        for block in blocks {
            match block["type"].as_str() {
                Some("text") => said.extend(block["text"].as_str().map(str::to_owned)),
                Some("thinking" | "redacted_thinking") => {
                    for one in thoughts::of_block(block) {
                        match &one.state {
                            Carrier::Call { fields: own, .. } if one.state.fits(model) => fields = Some(own.clone()),
                            _ => thought.push(one),
                        }
                    }
                }
                Some("tool_use") => {
                    if let Some(call) = self.toolbox.call(block) {
                        let mut written = call.chat(&self.ids.call(&call.id));
                        if let Some(written) = written.as_object_mut() {
                            if let Some(fields) = fields.take() {
                                calls::restore(written, &fields);
                            }
                            calls::restore_kept(written, self.context.memory, &call.id, model);
                        }
                        tool_calls.push(written);
                    }
                }
                _ => said.extend(searches::of_block(block)),
            }
        }
        let first = blocks.iter().find(|block| block["type"] == "tool_use");
        if thought.is_empty()
            && let Some(id) = first.and_then(|call| call["id"].as_str())
        {
            thought = thoughts::kept(self.context.memory, id, model);
        }
        said.retain(|text| !text.trim().is_empty());
        if !said.is_empty() {
            message.insert("content".into(), json!(said.join(JOINT)));
        } else if tool_calls.is_empty() {
            return;
        }
        thoughts::to_chat(&thought, &mut message, model);
        if !tool_calls.is_empty() {
            message.insert("tool_calls".into(), Value::Array(tool_calls));
        }
        self.push(Value::Object(message), blocks);
    }
}

/// The texts of some blocks, joined; empty ones left out.
fn texts(blocks: &[Value]) -> String {
    let texts = blocks.iter().filter_map(|block| block["text"].as_str());
    let texts: Vec<&str> = texts.filter(|text| !text.trim().is_empty()).collect();
    texts.join(JOINT)
}
