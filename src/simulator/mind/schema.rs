//! Values that fit a JSON schema. Knows nothing of who wants them.

use serde_json::{Map, Value};

/// How deep a value is built; beyond it, what a schema asks for stays empty.
const DEPTH: usize = 12;

/// A small value that fits the schema; strings that may say anything say `text`.
pub fn fit(schema: &Value, text: &str) -> Value {
    build(schema, schema, text, DEPTH)
}

fn build(schema: &Value, root: &Value, text: &str, depth: usize) -> Value {
    if depth == 0 {
        return Value::Null;
    }
    let inner = |schema: &Value| build(schema, root, text, depth - 1);
    if let Some(name) = schema["$ref"].as_str() {
        let target = name.strip_prefix('#').and_then(|pointer| root.pointer(pointer));
        return target.map_or(Value::Null, inner);
    }
    if let Some(value) = schema.get("const") {
        return value.clone();
    }
    for list in ["enum", "examples"] {
        if let Some(first) = schema[list].as_array().and_then(|values| values.first()) {
            return first.clone();
        }
    }
    for list in ["anyOf", "oneOf", "allOf"] {
        if let Some(first) = schema[list].as_array().and_then(|schemas| schemas.first()) {
            return inner(first);
        }
    }
    let kind = match &schema["type"] {
        Value::Array(kinds) => kinds.first().and_then(Value::as_str),
        kind => kind.as_str(),
    };
    match kind {
        Some("string") => Value::String(string(schema, text)),
        Some("integer") => Value::from(schema["minimum"].as_i64().unwrap_or(1)),
        Some("number") => schema["minimum"].as_f64().map_or(Value::from(1), Value::from),
        Some("boolean") => Value::Bool(true),
        Some("null") => Value::Null,
        Some("array") => {
            let count = schema["minItems"].as_u64().unwrap_or(1).min(8);
            Value::Array((0..count).map(|_| inner(&schema["items"])).collect())
        }
        _ => object(schema, inner),
    }
}

/// The required properties, or all where none is said to be required.
fn object(schema: &Value, inner: impl Fn(&Value) -> Value) -> Value {
    let Some(properties) = schema["properties"].as_object() else {
        return Value::Object(Map::new());
    };
    let required = schema["required"].as_array();
    let wanted = properties
        .iter()
        .filter(|(name, _)| required.is_none_or(|required| required.iter().any(|required| required == name.as_str())));
    Value::Object(wanted.map(|(name, schema)| (name.clone(), inner(schema))).collect())
}

fn string(schema: &Value, text: &str) -> String {
    let text = match schema["format"].as_str() {
        Some("date") => "2026-01-01",
        Some("date-time") => "2026-01-01T00:00:00Z",
        Some("email") => "someone@example.com",
        Some("uri") => "https://example.com/",
        Some("uuid") => "00000000-0000-4000-8000-000000000000",
        _ => text,
    };
    let most = schema["maxLength"].as_u64().and_then(|most| usize::try_from(most).ok());
    let mut text: String = text.chars().take(most.unwrap_or(usize::MAX)).collect();
    let least = schema["minLength"].as_u64().unwrap_or(0).min(4096) as usize;
    while text.chars().count() < least {
        text.push('.');
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_built_fits() {
        let schema = json!({
            "type": "object",
            "properties": {
                "title": {"type": "string", "maxLength": 5},
                "kind": {"enum": ["a", "b"]},
                "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}, "minItems": 2},
                "count": {"type": ["integer", "null"], "minimum": 3},
                "skip": {"type": "string"},
            },
            "required": ["title", "kind", "tags", "count"],
            "$defs": {"tag": {"type": "object", "properties": {"ok": {"type": "boolean"}}}},
        });
        let tags = json!([{"ok": true}, {"ok": true}]);
        assert_eq!(
            fit(&schema, "hello world"),
            json!({"title": "hello", "kind": "a", "tags": tags, "count": 3})
        );
    }

    #[test]
    fn a_schema_without_end_ends() {
        let schema = json!({"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]});
        assert!(fit(&schema, "x").is_object());
        assert_eq!(fit(&json!(true), "x"), json!({}));
    }
}
