//! Answers in a given form: JSON, or JSON of a schema.

use serde_json::{Value, json};

use super::{field, schema};
use crate::protocol::Protocol;
use crate::translate::Object;

/// The form that a client wants its answer in.
#[derive(Clone, Debug, PartialEq)]
pub enum Form {
    /// Any JSON object.
    Json,
    Schema {
        name: Option<String>,
        description: Option<String>,
        schema: Value,
        strict: Option<bool>,
    },
}

const JSON_ONLY: &str = "Answer with a single JSON object and nothing else: no prose, no code fence.";

impl Form {
    pub fn read(client: Protocol, body: &Object) -> Option<Self> {
        let format = match client {
            Protocol::Chat => field(body, "response_format"),
            Protocol::Responses => &field(body, "text")["format"],
            Protocol::Messages => match &field(body, "output_config")["format"] {
                Value::Null => field(body, "output_format"),
                format => format,
            },
        };
        match format["type"].as_str()? {
            "json_object" => Some(Self::Json),
            "json_schema" => {
                let holder = if client == Protocol::Chat {
                    &format["json_schema"]
                } else {
                    format
                };
                let text = |name: &str| holder[name].as_str().map(str::to_owned);
                Some(Self::Schema {
                    name: text("name"),
                    description: text("description"),
                    schema: holder["schema"].clone(),
                    // Messages knows no other form than the strict one.
                    strict: holder["strict"]
                        .as_bool()
                        .or((client == Protocol::Messages).then_some(true)),
                })
            }
            _ => None,
        }
    }

    /// Puts the form into an upstream body. Messages has no word for any JSON: there the caller adds [`instruction`]
    /// to the system prompt.
    ///
    /// [`instruction`]: Form::instruction
    pub fn write(&self, way: Protocol, out: &mut Object) {
        let (name, description, schema, strict) = match self {
            Self::Json => match way {
                Protocol::Chat => return drop(out.insert("response_format".into(), json!({"type": "json_object"}))),
                Protocol::Responses => return insert_in(out, "text", json!({"type": "json_object"})),
                Protocol::Messages => return,
            },
            Self::Schema {
                name,
                description,
                schema,
                strict,
            } => (name, description, schema, *strict),
        };
        if way == Protocol::Messages {
            let mut schema = schema.clone();
            if let Some(schema) = schema.as_object_mut() {
                schema.shift_remove("$schema");
            }
            return insert_in(out, "output_config", json!({"type": "json_schema", "schema": schema}));
        }
        let mut schema = schema.clone();
        let strict = strict.map(|strict| strict && schema::tighten(&mut schema));
        let mut form = json!({"name": name.as_deref().unwrap_or("response")});
        if let Some(description) = description {
            form["description"] = json!(description);
        }
        form["schema"] = schema;
        if let Some(strict) = strict {
            form["strict"] = json!(strict);
        }
        if way == Protocol::Chat {
            out.insert(
                "response_format".into(),
                json!({"type": "json_schema", "json_schema": form}),
            );
        } else {
            form["type"] = json!("json_schema");
            insert_in(out, "text", form);
        }
    }

    /// The line that asks for the form in words, where upstream has no other way.
    pub fn instruction(&self, way: Protocol) -> Option<&'static str> {
        (way == Protocol::Messages && *self == Self::Json).then_some(JSON_ONLY)
    }
}

/// Takes the form out of a Messages body and asks for it in the system prompt; false where there is none.
pub fn ask_in_words(body: &mut Object) -> bool {
    let Some(config) = body.get_mut("output_config").and_then(Value::as_object_mut) else {
        return false;
    };
    let Some(format) = config.shift_remove("format") else {
        return false;
    };
    if config.is_empty() {
        body.shift_remove("output_config");
    }
    let line = format!("{JSON_ONLY} It must fit this JSON schema: {}", format["schema"]);
    let line = json!({"type": "text", "text": line});
    match body.get_mut("system") {
        Some(Value::Array(blocks)) => blocks.push(line),
        Some(Value::String(text)) => {
            let own = json!({"type": "text", "text": text});
            body.insert("system".into(), json!([own, line]));
        }
        _ => drop(body.insert("system".into(), json!([line]))),
    }
    true
}

/// Sets `format` in an object of the body that may hold other things.
fn insert_in(out: &mut Object, key: &str, format: Value) {
    match out.get_mut(key).and_then(Value::as_object_mut) {
        Some(holder) => drop(holder.insert("format".into(), format)),
        None => drop(out.insert(key.into(), json!({"format": format}))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Protocol::{Chat, Messages, Responses};

    fn written(client: Protocol, way: Protocol, body: Value) -> Value {
        let mut out = Object::new();
        if let Some(form) = Form::read(client, body.as_object().unwrap()) {
            form.write(way, &mut out);
        }
        Value::Object(out)
    }

    #[test]
    fn k098_a_nested_schema_becomes_flat_and_back() {
        let schema = json!({"type": "object", "properties": {}, "additionalProperties": false});
        let nested = json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": true}}});
        let flat = written(Chat, Responses, nested.clone());
        assert_eq!(
            flat["text"]["format"],
            json!({"type": "json_schema", "name": "n", "schema": schema, "strict": true})
        );
        assert_eq!(written(Responses, Chat, flat.clone()), nested);
        let messages = json!({"output_config": {"format": {"type": "json_schema", "schema": schema}}});
        assert_eq!(written(Responses, Messages, flat), messages);
        assert_eq!(
            written(Messages, Chat, messages)["response_format"]["json_schema"]["name"],
            "response"
        );
    }

    #[test]
    fn a_loose_schema_is_not_made_to_mean_something_else() {
        let schema = json!({"type": "object", "properties": {"a": {}}});
        let body = json!({"output_format": {"type": "json_schema", "schema": schema}});
        let out = written(Messages, Responses, body);
        assert_eq!(
            (&out["text"]["format"]["strict"], &out["text"]["format"]["schema"]),
            (&json!(false), &schema)
        );
    }

    #[test]
    fn any_json_is_asked_for_in_words_where_there_are_no_others() {
        let body = json!({"response_format": {"type": "json_object"}});
        assert_eq!(written(Chat, Messages, body.clone()), json!({}));
        let form = Form::read(Chat, body.as_object().unwrap()).unwrap();
        assert!(form.instruction(Messages).is_some() && form.instruction(Responses).is_none());
        let mut out = json!({"text": {"verbosity": "low"}}).as_object().unwrap().clone();
        form.write(Responses, &mut out);
        assert_eq!(
            out["text"],
            json!({"verbosity": "low", "format": {"type": "json_object"}})
        );
    }
}
