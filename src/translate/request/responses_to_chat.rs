//! A Responses request for a chat upstream. Knows both shapes; what several pairs need is in `rules`.

use serde_json::{Value, json};

use crate::protocol::Protocol::{Chat, Responses};
use crate::protocol::failure::Failure;
use crate::translate::carrier::{Carrier, Compacted};
use crate::translate::chat_history::{self, Style};
use crate::translate::rules::reasoning::Wish;
use crate::translate::rules::structured::Form;
use crate::translate::rules::thoughts::{self, Thought};
use crate::translate::rules::tools::{CallIds, Toolbox, output_of};
use crate::translate::rules::{field, images, list, sampling, searches};
use crate::translate::{Context, Object, Outgoing, Reply, calls, response_object};

const STYLE: Style = Style {
    no_result: "aborted",
    joint: Some("\n"),
};
/// Between the texts of one system prompt, or of one answer.
const JOINT: &str = "\n\n";
/// Opens a summary that stands for all that came before it.
const SUMMARISED: &str = "The earlier conversation has been summarised:";

/// The request as a chat upstream takes it.
pub fn request(body: &Object, context: &Context) -> Result<Outgoing, Failure> {
    let mut body = body.clone();
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
    let input = match field(body, "input") {
        Value::String(text) => vec![json!({"role": "user", "content": text})],
        items => list(items).to_vec(),
    };
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

/// What of one answer has been read: Chat has one message for all its items.
#[derive(Default)]
struct Answer {
    texts: Vec<String>,
    calls: Vec<Value>,
    /// The first call as the client wrote it.
    first: String,
    thoughts: Vec<Thought>,
    /// For the call that follows.
    fields: Option<Object>,
}

impl Pair<'_> {
    fn item(&mut self, item: &Value) -> Result<(), Failure> {
        match item["type"].as_str() {
            None | Some("message") => self.message(item),
            Some("reasoning") => self.think(item),
            Some("compaction" | "compaction_summary") => return self.compaction(item),
            Some(kind) if kind.ends_with("_output") => {
                if let Some((id, output)) = output_of(item) {
                    let id = self.ids.result(&id);
                    let parts = images::to_chat(images::parts(&output), self.context.model);
                    self.push(json!({"role": "tool", "tool_call_id": id, "content": parts}));
                }
            }
            Some("web_search_call") => self.answer.texts.extend(searches::of_item(item)),
            // Calls that a client runs; all else has no counterpart.
            Some(
                "function_call" | "custom_tool_call" | "local_shell_call" | "shell_call" | "apply_patch_call",
            ) => self.call(item),
            Some(_) => {}
        }
        Ok(())
    }

    fn message(&mut self, item: &Value) {
        let content = &item["content"];
        match item["role"].as_str() {
            Some("assistant") => self.answer.texts.push(texts(content)),
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
        if self.context.model.is_gpt() || self.context.model.is_reasoning_gpt() {
            self.push(json!({"role": "system", "content": text}));
        } else {
            self.reminders.push(chat_history::reminder(&text));
        }
    }

    fn think(&mut self, item: &Value) {
        let model = self.context.model;
        for thought in thoughts::of_item(item, model) {
            match &thought.state {
                Carrier::Call { fields, .. } if thought.state.fits(model) => self.answer.fields = Some(fields.clone()),
                _ => self.answer.thoughts.push(thought),
            }
        }
    }

    fn call(&mut self, item: &Value) {
        let Some(call) = self.toolbox.call(item) else { return };
        let mut written = call.chat(&self.ids.call(&call.id));
        if let Some(written) = written.as_object_mut() {
            if let Some(fields) = self.answer.fields.take() {
                calls::restore(written, &fields);
            }
            calls::restore_kept(written, self.context.memory, &call.id, self.context.model);
        }
        if self.answer.calls.is_empty() {
            self.answer.first = call.id;
        }
        self.answer.calls.push(written);
    }

    /// A summary in words can be read by any model; all other forms by the model alone that made them, and to leave
    /// them out would lose the whole history.
    fn compaction(&mut self, item: &Value) -> Result<(), Failure> {
        match Carrier::decode(item["encrypted_content"].as_str().unwrap_or_default()) {
            Some(Carrier::Compaction {
                held: Compacted::Text(summary),
                ..
            }) => {
                self.push(json!({"role": "user", "content": format!("{SUMMARISED}\n\n{summary}")}));
                Ok(())
            }
            _ => Err(Failure::bad("input", "compaction item belongs to another model family")),
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
        if !person_first && !model.is_gpt() && !model.is_reasoning_gpt() {
            settled.insert(first, json!({"role": "user", "content": "."}));
        }
        chat_history::mark(&mut settled, model);
        settled
    }
}

impl Answer {
    fn message(mut self, context: &Context) -> Option<Value> {
        self.texts.retain(|text| !text.trim().is_empty());
        if self.texts.is_empty() && self.calls.is_empty() {
            return None;
        }
        let content = (!self.texts.is_empty()).then(|| self.texts.join(JOINT));
        let mut message = Object::new();
        message.insert("role".into(), json!("assistant"));
        message.insert("content".into(), json!(content));
        if self.thoughts.is_empty() && !self.calls.is_empty() {
            self.thoughts = thoughts::kept(context.memory, &self.first, context.model);
        }
        thoughts::to_chat(&self.thoughts, &mut message, context.model);
        if !self.calls.is_empty() {
            message.insert("tool_calls".into(), Value::Array(self.calls));
        }
        Some(Value::Object(message))
    }
}

/// The texts of a content, joined.
fn texts(content: &Value) -> String {
    images::texts(&images::parts(content))
}
