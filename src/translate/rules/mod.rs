//! Rules that several pairs share, one subject a file.
//!
//! A pair reads the client's body with `read` or `of_…` functions and writes the upstream's with `write` or `to_…`
//! functions; what lies between is a small type without a protocol. Nothing here fails on odd input: what cannot be
//! read is absent. Only what a person must know is a [`Failure`](crate::protocol::failure::Failure).
//!
//! A request is best made in this order, since later steps look at what earlier ones wrote:
//!
//! 1. [`images::admit`] on the client's body, and [`attribution::strip`] on a Messages one;
//! 2. [`tools::Toolbox::read`], then its `write`;
//! 3. [`sampling::write`], [`reasoning::Wish::write`], [`structured::Form::write`];
//! 4. the history, by [`images::parts`], [`tools::Toolbox::call`] and [`thoughts`]; toward Messages then
//!    [`history::mend`](super::history::mend), and `thoughts::restore_…` where clients lose reasoning;
//! 5. toward Messages [`reasoning::settle_messages`], [`cache_marks::inject`] and [`betas::of`]; toward Chat
//!    [`cache_marks::mark_chat`].

use serde_json::Value;

use super::Object;

pub mod attribution;
pub mod betas;
pub mod cache_marks;
pub mod images;
pub mod reasoning;
pub mod sampling;
pub mod schema;
pub mod searches;
pub mod session;
pub mod structured;
pub mod thoughts;
pub mod tools;

pub mod usage;

/// A field of an object, null where it is absent.
pub fn field<'a>(object: &'a Object, name: &str) -> &'a Value {
    object.get(name).unwrap_or(&Value::Null)
}

/// As `value[name]`, for the small objects that histories are made of, which are looked at again and again: to hash a
/// name costs more than to compare it with a few.
pub fn peek<'a>(value: &'a Value, name: &str) -> &'a Value {
    let mut fields = value.as_object().into_iter().flatten();
    fields
        .find(|(key, _)| *key == name)
        .map_or(&Value::Null, |(_, field)| field)
}

/// As [`peek`], to change the field; `None` where it is absent.
pub fn peek_mut<'a>(value: &'a mut Value, name: &str) -> Option<&'a mut Value> {
    let mut fields = value.as_object_mut().into_iter().flatten();
    fields.find(|(key, _)| *key == name).map(|(_, field)| field)
}

/// The elements of a list; none where it is no list.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Any JSON, with the words of the protocols among its strings and keys.
#[cfg(test)]
pub fn any_json() -> impl proptest::strategy::Strategy<Value = Value> {
    use proptest::prelude::*;
    const WORDS: &[&str] = &[
        "type",
        "role",
        "content",
        "user",
        "assistant",
        "system",
        "tool",
        "text",
        "image",
        "image_url",
        "input_image",
        "url",
        "source",
        "base64",
        "data",
        "media_type",
        "document",
        "tool_use",
        "tool_result",
        "tool_use_id",
        "id",
        "name",
        "input",
        "output",
        "tools",
        "tool_choice",
        "function",
        "custom",
        "namespace",
        "function_call",
        "custom_tool_call",
        "local_shell_call",
        "local_shell",
        "call_id",
        "arguments",
        "messages",
        "parameters",
        "error",
        "message",
        "code",
        "thinking",
        "signature",
        "reasoning",
        "encrypted_content",
        "summary",
        "model",
        "data:image/png;base64,iVBORw0KGgo=",
        "https://a.b/c.png",
        "input_schema",
        "anyOf",
        "properties",
        "file",
        "format",
        "file_data",
        "cache_control",
        "max_tokens",
        "tool_calls",
        "action",
        "operation",
        "usage",
    ];
    let word = || prop_oneof![prop::sample::select(WORDS).prop_map(str::to_owned), "\\PC{0,6}"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((word(), inner), 0..6).prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

/// A model as the catalogue would tell of it.
#[cfg(test)]
pub fn model(entry: Value) -> std::sync::Arc<crate::protocol::catalog::Model> {
    let list = serde_json::json!({"data": [entry]});
    crate::protocol::catalog::Catalog::read(&list).models()[0].clone()
}

/// All that a translation may know, for tests.
#[cfg(test)]
pub struct Fixture {
    pub model: std::sync::Arc<crate::protocol::catalog::Model>,
    pub tuning: super::Tuning,
    pub memory: super::Memory,
    pub hints: super::Hints,
}

#[cfg(test)]
impl Fixture {
    pub fn new(model: std::sync::Arc<crate::protocol::catalog::Model>) -> Self {
        Self {
            model,
            tuning: super::Tuning::default(),
            memory: super::Memory::default(),
            hints: super::Hints::default(),
        }
    }

    pub fn context(&self) -> super::Context<'_> {
        super::Context {
            model: &self.model,
            requested: &self.model.id,
            tuning: &self.tuning,
            memory: &self.memory,
            hints: &self.hints,
        }
    }
}
