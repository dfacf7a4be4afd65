//! JSON schemas as each house takes them. Knows no tool and no request.

use serde_json::{Value, json};

use crate::protocol::Protocol;
use crate::protocol::catalog::Model;
use crate::translate::Object;

/// The schema of a tool's arguments as this model takes it this way; a missing one allows nothing in particular.
pub fn of_tool(schema: &Value, way: Protocol, model: &Model) -> Value {
    let mut schema = match schema {
        Value::Object(schema) => schema.clone(),
        _ => Object::new(),
    };
    if way == Protocol::Messages {
        schema.shift_remove("$schema");
    }
    if model.is_gemini() {
        clean_for_gemini(&mut schema);
    }
    if !schema.contains_key("type") {
        schema.shift_insert(0, "type".into(), json!("object"));
    }
    if schema["type"] == "object" && !schema.contains_key("properties") {
        schema.insert("properties".into(), json!({}));
    }
    Value::Object(schema)
}

/// What Gemini's own schema language lacks, said in what it has.
fn clean_for_gemini(schema: &mut Object) {
    if let Some(Value::Array(variants)) = schema.shift_remove("anyOf") {
        merge_variants(schema, &variants);
    }
    clean(schema);
}

/// One object that allows what each variant allows.
fn merge_variants(schema: &mut Object, variants: &[Value]) {
    let mut merged = Object::new();
    for (name, property) in variants
        .iter()
        .filter_map(|variant| variant["properties"].as_object())
        .flatten()
    {
        merged.entry(name.as_str()).or_insert_with(|| property.clone());
    }
    match schema.get_mut("properties").and_then(Value::as_object_mut) {
        Some(properties) => {
            for (name, property) in merged {
                properties.entry(name).or_insert(property);
            }
        }
        None => {
            schema.insert("properties".into(), Value::Object(merged));
        }
    }
}

fn clean(schema: &mut Object) {
    const FORMATS: [&str; 6] = ["enum", "date-time", "int32", "int64", "float", "double"];
    for key in [
        "$schema",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "patternProperties",
        "propertyNames",
    ] {
        schema.shift_remove(key);
    }
    if schema.get("additionalProperties").is_some_and(Value::is_object) {
        schema.shift_remove("additionalProperties");
    }
    if schema
        .get("format")
        .and_then(Value::as_str)
        .is_some_and(|format| !FORMATS.contains(&format))
    {
        schema.shift_remove("format");
    }
    if let Some(only) = schema.shift_remove("const") {
        schema.insert("enum".into(), json!([only]));
    }
    if let Some(Value::Array(types)) = schema.get("type") {
        let mut named = types.iter().filter(|name| *name != "null");
        let first = named.next().cloned().unwrap_or_else(|| json!("string"));
        if types.iter().any(|name| name == "null") {
            schema.insert("nullable".into(), json!(true));
        }
        schema.insert("type".into(), first);
    }
    for inner in children(schema) {
        clean(inner);
    }
}

/// The schemas directly inside a schema.
fn children(schema: &mut Object) -> Vec<&mut Object> {
    let mut found = Vec::new();
    for (key, value) in schema.iter_mut() {
        match key.as_str() {
            "properties" | "$defs" | "definitions" => {
                found.extend(value.as_object_mut().into_iter().flat_map(|named| named.values_mut()));
            }
            "items" | "not" | "additionalProperties" => found.push(value),
            "anyOf" | "oneOf" | "allOf" | "prefixItems" => {
                found.extend(value.as_array_mut().into_iter().flatten());
            }
            _ => {}
        }
    }
    found.into_iter().filter_map(Value::as_object_mut).collect()
}

/// Closes every object of a schema that is to be followed strictly. False where a property may be left out: GPT's
/// strict mode has no such thing, and requiring it would change what the schema means.
pub fn tighten(schema: &mut Value) -> bool {
    let mut tight = schema.clone();
    let strict = tight.as_object_mut().is_some_and(close);
    if strict {
        *schema = tight;
    }
    strict
}

fn close(schema: &mut Object) -> bool {
    let is_object = schema.get("type").is_some_and(|kind| kind == "object") || schema.contains_key("properties");
    if is_object {
        let required: Vec<&Value> = schema
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .collect();
        let mut names = schema
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flat_map(Object::keys);
        if !names.all(|name| required.iter().any(|one| *one == name)) {
            return false;
        }
        match schema.get("additionalProperties") {
            None => drop(schema.insert("additionalProperties".into(), json!(false))),
            Some(Value::Bool(false)) => {}
            Some(_) => return false,
        }
    }
    children(schema).into_iter().all(close)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translate::rules::model;

    #[test]
    fn a_missing_schema_is_an_empty_object() {
        let gpt = model(json!({"id": "gpt-4.1"}));
        assert_eq!(
            of_tool(&Value::Null, Protocol::Responses, &gpt),
            json!({"type": "object", "properties": {}})
        );
    }

    #[test]
    fn k173_only_the_dialect_is_removed_and_order_stays() {
        let claude = model(json!({"id": "claude-sonnet-4.5"}));
        let schema = json!({"$schema": "x", "type": "object", "z": 1, "properties": {"b": {}, "a": {"const": 1}}});
        let expected = r#"{"type":"object","z":1,"properties":{"b":{},"a":{"const":1}}}"#;
        assert_eq!(of_tool(&schema, Protocol::Messages, &claude).to_string(), expected);
        assert_eq!(of_tool(&schema, Protocol::Chat, &claude), schema);
    }

    #[test]
    fn gemini_gets_what_it_knows() {
        let gemini = model(json!({"id": "gemini-2.5-pro"}));
        let schema = json!({"type": "object", "properties": {
            "a": {"type": ["string", "null"], "format": "uri"}, "b": {"const": 3}, "c": {"type": "object", "additionalProperties": {}}}});
        let expected = json!({"type": "object", "properties": {
            "a": {"type": "string", "nullable": true}, "b": {"enum": [3]}, "c": {"type": "object"}}});
        assert_eq!(of_tool(&schema, Protocol::Chat, &gemini), expected);
        let either =
            json!({"anyOf": [{"properties": {"x": {"type": "string"}}}, {"properties": {"y": {"type": "string"}}}]});
        assert_eq!(
            of_tool(&either, Protocol::Chat, &gemini)["properties"]
                .as_object()
                .unwrap()
                .len(),
            2
        );
    }

    #[test]
    fn a_strict_schema_is_closed_all_the_way_down() {
        let mut schema = json!({"type": "object", "required": ["a"], "properties":
            {"a": {"type": "array", "items": {"type": "object", "properties": {}}}}});
        assert!(tighten(&mut schema));
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(schema["properties"]["a"]["items"]["additionalProperties"], false);
        let loose = json!({"type": "object", "properties": {"a": {}}});
        let mut same = loose.clone();
        assert!(!tighten(&mut same));
        assert_eq!(same, loose);
    }
}
