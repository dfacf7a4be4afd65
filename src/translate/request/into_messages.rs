//! What both requests to a Messages upstream share once their histories are read: all that is not the history.

use serde_json::{Value, json};

use crate::protocol::Protocol::{self, Messages};
use crate::protocol::failure::Failure;
use crate::translate::native::messages::request::{outgoing, settle};
use crate::translate::rules::images::{self, Part};
use crate::translate::rules::reasoning::Wish;
use crate::translate::rules::structured::Form;
use crate::translate::rules::thoughts::Thought;
use crate::translate::rules::tools::{Call, Toolbox};
use crate::translate::rules::{cache_marks, sampling, session};
use crate::translate::{Context, Object, Outgoing, Reply};

/// A history on its way into Messages' shape. Neighbours of one role are joined later.
#[derive(Default)]
pub struct History {
    system: Vec<Value>,
    messages: Vec<Value>,
}

impl History {
    /// Instructions: part of the system prompt as long as nobody has spoken.
    pub fn instruct(&mut self, parts: Vec<Part>) {
        let blocks = images::to_messages(parts);
        if self.messages.is_empty() {
            self.system.extend(blocks);
        } else {
            self.push("system", blocks);
        }
    }

    pub fn person(&mut self, parts: Vec<Part>) {
        self.push("user", images::to_messages(parts));
    }

    pub fn answer(&mut self, parts: Vec<Part>) {
        self.push("assistant", images::to_messages(parts));
    }

    /// What the model has thought before what follows, as far as it can read it.
    pub fn thoughts(&mut self, thoughts: &[Thought], context: &Context) {
        let blocks = thoughts.iter().filter_map(|thought| thought.block(context.model));
        self.push("assistant", blocks.collect());
    }

    pub fn call(&mut self, call: &Call) {
        self.push("assistant", vec![call.block(&call.id)]);
    }

    /// A tool's result: a text, or what else it holds.
    pub fn result(&mut self, call: &str, content: &Value) {
        let parts = images::parts(content);
        let content = match parts.as_slice() {
            [Part::Text(text)] => json!(text),
            _ => Value::Array(images::to_messages(parts)),
        };
        let result = json!({"type": "tool_result", "tool_use_id": call, "content": content});
        self.push("user", vec![result]);
    }

    fn push(&mut self, role: &str, blocks: Vec<Value>) {
        if !blocks.is_empty() {
            self.messages.push(json!({"role": role, "content": blocks}));
        }
    }
}

/// The whole request. `reply` holds what the client's own protocol wants remembered.
pub fn compose(
    client: Protocol,
    body: &Object,
    mut history: History,
    toolbox: &Toolbox,
    reply: Reply,
    context: &Context,
) -> Result<Outgoing, Failure> {
    let form = Form::read(client, body);
    if let Some(line) = form.as_ref().and_then(|form| form.instruction(Messages)) {
        history.system.push(json!({"type": "text", "text": line}));
    }
    let mut out = Object::new();
    out.insert("model".into(), context.model.id.clone().into());
    let stops = sampling::write(client, Messages, body, &mut out, context);
    if !history.system.is_empty() {
        out.insert("system".into(), Value::Array(history.system));
    }
    out.insert("messages".into(), Value::Array(history.messages));
    toolbox.write(&mut out);
    let wish = Wish::read(client, body, context.hints, context.tuning);
    wish.write(Messages, &mut out, context);
    if let Some(form) = form {
        form.write(Messages, &mut out);
    }
    if let Some(user) = session::plain_user(body) {
        out.insert("metadata".into(), json!({"user_id": user}));
    }
    if let Some(stream) = body.get("stream") {
        out.insert("stream".into(), stream.clone());
    }
    settle(&mut out, context);
    cache_marks::inject(&mut out);
    let reply = Reply {
        show_reasoning: wish.shows,
        tools: toolbox.client_tools(),
        web_search: toolbox.web_search,
        stops,
        ..reply
    };
    Ok(outgoing(out, reply, context))
}
