//! A Gemini client's request as the chat request it amounts to. Knows no model and no upstream: from here on it takes
//! every way that a chat request takes.
//!
//! Google's parsers read a field by either of its spellings, `inlineData` or `inline_data`, take one object for a list
//! of one and a number in quotes; so does this. What is the user's own, such as arguments, results and schemas of JSON
//! Schema, is never respelled.

use std::borrow::Cow;

use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Value, json};

use crate::protocol::effort::Effort;
use crate::protocol::failure::Failure;
use crate::translate::Object;
use crate::translate::carrier::Carrier;
use crate::translate::chat_history::{self, Style};
use crate::translate::rules::schema;

/// What ends a model's name where Gemini CLI wants another set of tools.
const SUFFIX: &str = "-customtools";
const STYLE: Style = Style {
    no_result: "Tool result unavailable.",
    joint: None,
};

/// The chat request. `model` and `stream`, which Gemini says in its path, are in the body by now.
pub fn request(body: Object) -> Result<Object, Failure> {
    let body = Value::Object(body);
    let mut out = Object::new();
    let model = body["model"].as_str().unwrap_or_default();
    let model = model.strip_prefix("models/").unwrap_or(model);
    out.insert("model".into(), json!(model.strip_suffix(SUFFIX).unwrap_or(model)));
    out.insert("messages".into(), Value::Array(messages(&body)?));
    tools(&body, &mut out);
    generation(get(&body, "generationConfig"), &mut out)?;
    if body["stream"] == true {
        out.insert("stream".into(), json!(true));
        out.insert("stream_options".into(), json!({"include_usage": true}));
    }
    Ok(out)
}

/// The chat request whose tokens are to be counted; the question may be wrapped in another.
pub fn countable(mut body: Object) -> Result<Object, Failure> {
    let wraps = |name: &&String| plain(name).eq(plain("generateContentRequest"));
    let wrapped = body.keys().find(wraps).cloned();
    if let Some(Value::Object(mut asked)) = wrapped.and_then(|name| body.shift_remove(&name)) {
        asked.insert("model".into(), body.shift_remove("model").unwrap_or_default());
        return request(asked);
    }
    request(body)
}

/// A field by either spelling.
pub(in crate::translate) fn get<'a>(value: &'a Value, name: &str) -> &'a Value {
    let mut fields = value.as_object().into_iter().flatten();
    fields
        .find(|(key, _)| *key == name || plain(key).eq(plain(name)))
        .map_or(&Value::Null, |(_, field)| field)
}

/// What both spellings of a name have in common.
fn plain(name: &str) -> impl Iterator<Item = u8> {
    name.bytes()
        .filter(|byte| *byte != b'_')
        .map(|byte| byte.to_ascii_lowercase())
}

/// The elements of a list, or the one that stands for a list of one.
pub(in crate::translate) fn each(value: &Value) -> &[Value] {
    match value {
        Value::Array(list) => list,
        Value::Null => &[],
        one => std::slice::from_ref(one),
    }
}

/// A number, in quotes or not.
pub(in crate::translate) fn number(value: &Value) -> Option<Value> {
    match value {
        Value::Number(_) => Some(value.clone()),
        Value::String(text) => serde_json::from_str(text).ok().filter(Value::is_number),
        _ => None,
    }
}

fn refuse<T>(path: &str, why: &str) -> Result<T, Failure> {
    Err(Failure::bad(path, format!("{path}: {why}")))
}

/// A history on its way into chat's shape.
#[derive(Default)]
struct History {
    messages: Vec<Value>,
    /// The model's contribution under way: streams leave it to their clients in many pieces.
    answer: Answer,
    /// Calls that wait for their results: id and name, the oldest first.
    waiting: Vec<(String, String)>,
}

#[derive(Default)]
struct Answer {
    text: String,
    calls: Vec<Value>,
    carriers: Vec<String>,
}

fn messages(body: &Value) -> Result<Vec<Value>, Failure> {
    let mut history = History::default();
    let instructions = get(body, "systemInstruction");
    let said: Vec<&str> = match instructions {
        Value::String(text) => vec![text],
        _ => each(get(instructions, "parts"))
            .iter()
            .filter_map(|part| part["text"].as_str())
            .collect(),
    };
    let said = said.join(chat_history::JOINT);
    if !said.is_empty() {
        history.messages.push(json!({"role": "system", "content": said}));
    }
    let contents = get(body, "contents");
    if each(contents).is_empty() {
        return refuse("contents", "contents is not specified");
    }
    for (turn, content) in each(contents).iter().enumerate() {
        let path = format!("contents[{turn}]");
        if !content.is_object() {
            return refuse(&path, "must be an object with a role and parts");
        }
        let parts = each(get(content, "parts"));
        match content["role"].as_str().unwrap_or_default() {
            "model" => history.model(turn, parts, &path)?,
            "" | "user" | "function" => history.person(parts, &path)?,
            _ => return refuse(&format!("{path}.role"), "please use a valid role: user, model"),
        }
    }
    history.close();
    Ok(chat_history::settle(history.messages, STYLE))
}

impl History {
    fn model(&mut self, turn: usize, parts: &[Value], path: &str) -> Result<(), Failure> {
        let mut number = 0;
        for (at, part) in parts.iter().enumerate() {
            self.answer.carriers.extend(carrier(get(part, "thoughtSignature")));
            if part["thought"] == true {
                continue;
            }
            let call = get(part, "functionCall");
            if call.is_object() {
                let name = call["name"].as_str().unwrap_or_default();
                let id = match call["id"].as_str() {
                    Some(id) if !id.is_empty() => id.to_owned(),
                    _ => format!("call_g{turn}_{number}"),
                };
                number += 1;
                let arguments = match &call["args"] {
                    Value::Null => "{}".to_owned(),
                    args => args.to_string(),
                };
                self.waiting.push((id.clone(), name.to_owned()));
                let function = json!({"name": name, "arguments": arguments});
                let call = json!({"id": id, "type": "function", "function": function});
                self.answer.calls.push(call);
            } else {
                // What Google's own model ran is part of what it said.
                let code = &get(part, "executableCode")["code"];
                let output = &get(part, "codeExecutionResult")["output"];
                let said = [&part["text"], code, output].into_iter().find_map(Value::as_str);
                match said {
                    Some(text) => self.answer.text.push_str(text),
                    None if is_empty(part) => {}
                    None => {
                        return refuse(
                            &format!("{path}.parts[{at}]"),
                            "a model's part is text or a functionCall",
                        );
                    }
                }
            }
        }
        Ok(())
    }

    fn person(&mut self, parts: &[Value], path: &str) -> Result<(), Failure> {
        self.close();
        let mut said = Vec::new();
        for (at, part) in parts.iter().enumerate() {
            let path = format!("{path}.parts[{at}]");
            let result = get(part, "functionResponse");
            if result.is_object() {
                let message = self.result(result, &path)?;
                self.messages.push(message);
            } else if part["thought"] != true && !is_empty(part) {
                said.push(self::part(part, &path)?);
            }
        }
        if !said.is_empty() {
            let content = chat_history::content(said);
            self.messages.push(json!({"role": "user", "content": content}));
        }
        Ok(())
    }

    fn result(&mut self, result: &Value, path: &str) -> Result<Value, Failure> {
        let name = result["name"].as_str().unwrap_or_default();
        let id = result["id"].as_str().unwrap_or_default();
        let by_id = self.waiting.iter().position(|(waiting, _)| waiting == id);
        let by_name = || self.waiting.iter().position(|(_, waiting)| waiting == name);
        let id = match by_id.or_else(by_name) {
            Some(at) => self.waiting.remove(at).0,
            None if id.is_empty() => name.to_owned(),
            None => id.to_owned(),
        };
        let response = &result["response"];
        let only = response.as_object().filter(|response| response.len() == 1);
        let plain = only.and_then(|response| response.get("output").or_else(|| response.get("result"))?.as_str());
        let text = match plain {
            Some(text) => text.to_owned(),
            None => response.to_string(),
        };
        let shown = each(&result["parts"]).iter().enumerate();
        let shown: Result<Vec<Value>, Failure> = shown
            .map(|(at, shown)| part(shown, &format!("{path}.functionResponse.parts[{at}]")))
            .collect();
        let parts = std::iter::once(json!({"type": "text", "text": text})).chain(shown?);
        let content = chat_history::content(parts.collect());
        Ok(json!({"role": "tool", "tool_call_id": id, "content": content}))
    }

    /// The model's contribution is complete.
    fn close(&mut self) {
        let Answer {
            text,
            calls,
            mut carriers,
        } = std::mem::take(&mut self.answer);
        if text.is_empty() && calls.is_empty() {
            return;
        }
        let content = if text.is_empty() { Value::Null } else { json!(text) };
        let mut message = json!({"role": "assistant", "content": content});
        let opaque = match carriers.len() {
            0 | 1 => carriers.pop(),
            _ => Some(Carrier::List(carriers).encode()),
        };
        if let Some(opaque) = opaque {
            message["reasoning_opaque"] = json!(opaque);
        }
        if !calls.is_empty() {
            message["tool_calls"] = json!(calls);
        }
        self.messages.push(message);
    }
}

/// Whether a part says nothing, but for how it is to be understood.
fn is_empty(part: &Value) -> bool {
    let fields = part.as_object().into_iter().flatten();
    fields
        .map(|(name, _)| name.replace('_', "").to_ascii_lowercase())
        .all(|name| matches!(name.as_str(), "thought" | "thoughtsignature" | "partmetadata"))
}

const ANY_BASE64: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);

/// Bytes as Google's clients send them, in either alphabet.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let alphabet = if text.contains(['-', '_']) {
        &URL_SAFE
    } else {
        &STANDARD
    };
    GeneralPurpose::new(alphabet, ANY_BASE64).decode(text).ok()
}

/// The state of reasoning that we gave away as a signature; Google's own means nothing to any model here.
fn carrier(signature: &Value) -> Option<String> {
    let signature = signature.as_str()?;
    if Carrier::is_one(signature) {
        return Some(signature.to_owned());
    }
    let text = String::from_utf8(bytes(signature)?).ok()?;
    Carrier::is_one(&text).then_some(text)
}

/// A part of what a person says or a tool shows.
fn part(part: &Value, path: &str) -> Result<Value, Failure> {
    if let Some(text) = part["text"].as_str() {
        return Ok(json!({"type": "text", "text": text}));
    }
    let inline = get(part, "inlineData");
    if inline.is_object() {
        let kind = get(inline, "mimeType").as_str().unwrap_or_default();
        let data = inline["data"].as_str().unwrap_or_default();
        let name = get(inline, "displayName").as_str();
        return media(kind, data, name, &format!("{path}.inlineData"));
    }
    let file = get(part, "fileData");
    if file.is_object() {
        let path = format!("{path}.fileData");
        let uri = get(file, "fileUri").as_str().unwrap_or_default();
        let Some((kind, data)) = uri.strip_prefix("data:").and_then(|uri| uri.split_once(";base64,")) else {
            return refuse(&path, "files by their address are not supported; send inlineData");
        };
        return media(kind, data, get(file, "displayName").as_str(), &path);
    }
    refuse(path, "a part is text, inlineData, fileData or a functionResponse")
}

fn media(kind: &str, data: &str, name: Option<&str>, path: &str) -> Result<Value, Failure> {
    let kind = kind.to_ascii_lowercase();
    let url = || format!("data:{kind};base64,{}", standard(data));
    if kind.starts_with("image/") {
        Ok(json!({"type": "image_url", "image_url": {"url": url()}}))
    } else if kind == "application/pdf" {
        let file = json!({"filename": name.unwrap_or("document.pdf"), "file_data": url()});
        Ok(json!({"type": "file", "file": file}))
    } else if kind.starts_with("text/") {
        match bytes(data).and_then(|bytes| String::from_utf8(bytes).ok()) {
            Some(text) => Ok(json!({"type": "text", "text": text})),
            None => refuse(path, "this text is not base64 of UTF-8"),
        }
    } else {
        refuse(path, &format!("'{kind}' is not supported: images, PDF and text are"))
    }
}

/// Base64 in the alphabet of data URLs.
fn standard(data: &str) -> Cow<'_, str> {
    if data.contains(['-', '_']) {
        data.replace('-', "+").replace('_', "/").into()
    } else {
        data.into()
    }
}

fn tools(body: &Value, out: &mut Object) {
    let declared = each(&body["tools"])
        .iter()
        .flat_map(|tool| each(get(tool, "functionDeclarations")));
    let mut functions: Vec<Value> = declared.filter(|one| one.is_object()).map(function).collect();
    let choice = get(get(body, "toolConfig"), "functionCallingConfig");
    let allowed = each(get(choice, "allowedFunctionNames"));
    if !allowed.is_empty() {
        functions.retain(|function| allowed.contains(&function["function"]["name"]));
    }
    if functions.is_empty() {
        return;
    }
    let mode = choice["mode"].as_str().unwrap_or_default().to_ascii_lowercase();
    let choice = match (mode.as_str(), allowed) {
        ("any", [only]) => Some(json!({"type": "function", "function": {"name": only}})),
        ("any", _) => Some(json!("required")),
        ("none", _) => Some(json!("none")),
        ("auto" | "validated", _) => Some(json!("auto")),
        _ => None,
    };
    out.insert("tools".into(), Value::Array(functions));
    if let Some(choice) = choice {
        out.insert("tool_choice".into(), choice);
    }
}

fn function(declared: &Value) -> Value {
    let mut function = json!({"name": declared["name"]});
    if let Some(description) = declared["description"].as_str() {
        function["description"] = json!(description);
    }
    if let Some(parameters) = schema_of(get(declared, "parametersJsonSchema"), &declared["parameters"]) {
        function["parameters"] = parameters;
    }
    json!({"type": "function", "function": function})
}

/// A schema of JSON Schema as it is, or one of Google's own made one.
fn schema_of(own: &Value, googles: &Value) -> Option<Value> {
    match (own, googles) {
        (own @ Value::Object(_), _) => Some(own.clone()),
        (_, googles @ Value::Object(_)) => Some(lowered(googles)),
        _ => None,
    }
}

/// Google's schema as JSON Schema: types in small letters, numbers without quotes, and without what only Google knows.
fn lowered(googles: &Value) -> Value {
    let Value::Object(fields) = googles else {
        return googles.clone();
    };
    let mut out = Object::new();
    for (name, value) in fields {
        let plain = name.replace('_', "").to_ascii_lowercase();
        let (name, value) = match plain.as_str() {
            "type" => match value.as_str().map(str::to_ascii_lowercase) {
                Some(kind) if kind == "type_unspecified" => continue,
                Some(kind) => ("type", json!(kind)),
                None => ("type", value.clone()),
            },
            "properties" | "defs" | "$defs" => {
                let properties = value.as_object().into_iter().flatten();
                let lowered = properties.map(|(name, schema)| (name.clone(), lowered(schema)));
                (name.as_str(), Value::Object(lowered.collect()))
            }
            "items" => ("items", lowered(value)),
            "anyof" => ("anyOf", each(value).iter().map(lowered).collect()),
            "format" if *value == "enum" => continue,
            "nullable" | "propertyordering" | "example" => continue,
            "minitems" => ("minItems", number(value).unwrap_or_default()),
            "maxitems" => ("maxItems", number(value).unwrap_or_default()),
            "minlength" => ("minLength", number(value).unwrap_or_default()),
            "maxlength" => ("maxLength", number(value).unwrap_or_default()),
            "minproperties" => ("minProperties", number(value).unwrap_or_default()),
            "maxproperties" => ("maxProperties", number(value).unwrap_or_default()),
            _ => (name.as_str(), value.clone()),
        };
        out.insert(name.to_owned(), value);
    }
    if googles["nullable"] == true
        && let Some(Value::String(kind)) = out.get("type")
    {
        let kinds = json!([kind, "null"]);
        out.insert("type".into(), kinds);
    }
    Value::Object(out)
}

fn generation(config: &Value, out: &mut Object) -> Result<(), Failure> {
    let at = |name: &str| format!("generationConfig.{name}");
    if number(get(config, "candidateCount")).is_some_and(|count| count.as_f64() > Some(1.0)) {
        return refuse(&at("candidateCount"), "only one candidate per request is supported");
    }
    let kinds = each(get(config, "responseModalities"));
    let is_text = |kind: &Value| kind.as_str().is_some_and(|kind| kind.eq_ignore_ascii_case("text"));
    if !kinds.is_empty() && !kinds.iter().any(is_text) {
        return refuse(&at("responseModalities"), "only text can be answered");
    }
    const BY_NAME: [(&str, &str); 5] = [
        ("maxOutputTokens", "max_tokens"),
        ("temperature", "temperature"),
        ("topP", "top_p"),
        ("presencePenalty", "presence_penalty"),
        ("frequencyPenalty", "frequency_penalty"),
    ];
    for (theirs, ours) in BY_NAME {
        if let Some(value) = number(get(config, theirs)) {
            out.insert(ours.into(), value);
        }
    }
    let stops = each(get(config, "stopSequences"));
    if !stops.is_empty() {
        out.insert("stop".into(), json!(stops));
    }
    format(config, out)?;
    thinking(get(config, "thinkingConfig"), out);
    Ok(())
}

fn format(config: &Value, out: &mut Object) -> Result<(), Failure> {
    match get(config, "responseMimeType").as_str().unwrap_or_default() {
        "" | "text/plain" => return Ok(()),
        "application/json" => {}
        _ => {
            let why = "only text/plain and application/json are supported";
            return refuse("generationConfig.responseMimeType", why);
        }
    }
    let format = match schema_of(get(config, "responseJsonSchema"), get(config, "responseSchema")) {
        Some(mut schema) => {
            let strict = schema::tighten(&mut schema);
            let named = json!({"name": "response", "schema": schema, "strict": strict});
            json!({"type": "json_schema", "json_schema": named})
        }
        None => json!({"type": "json_object"}),
    };
    out.insert("response_format".into(), format);
    Ok(())
}

fn thinking(config: &Value, out: &mut Object) {
    match number(get(config, "thinkingBudget")).and_then(|budget| budget.as_i64()) {
        Some(0) => drop(out.insert("reasoning_effort".into(), json!(Effort::None.name()))),
        Some(budget @ 1..) => drop(out.insert("thinking_budget".into(), json!(budget))),
        _ => {}
    }
    let level = get(config, "thinkingLevel").as_str().map(str::to_ascii_lowercase);
    if let Some(effort) = level.as_deref().and_then(Effort::read) {
        out.insert("reasoning_effort".into(), json!(effort.name()));
    }
    if get(config, "includeThoughts") != true {
        out.insert("reasoning".into(), json!({"exclude": true}));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::translate::rules::any_json;

    fn asked(body: Value) -> Value {
        Value::Object(request(body.as_object().unwrap().clone()).unwrap())
    }

    fn history(contents: Value) -> Vec<Value> {
        each(&asked(json!({"contents": contents}))["messages"]).to_vec()
    }

    #[test]
    fn either_spelling_is_read_but_never_inside_what_is_the_users() {
        let schema = json!({"type": "OBJECT", "properties": {"max_items": {"type": "STRING"}}});
        let body = json!({"contents": {"parts": {"text": "a"}},
            "tools": {"function_declarations": {"name": "f", "parameters": schema}},
            "generation_config": {"max_output_tokens": "7"}});
        let out = asked(body);
        assert_eq!(out["messages"], json!([{"role": "user", "content": "a"}]));
        let parameters = json!({"type": "object", "properties": {"max_items": {"type": "string"}}});
        assert_eq!(out["tools"][0]["function"]["parameters"], parameters);
        assert_eq!(out["max_tokens"], 7);
    }

    #[test]
    fn results_without_ids_answer_the_oldest_call_of_their_name() {
        let call = |name: &str| json!({"functionCall": {"name": name, "args": {}}});
        let result = |name: &str, text: &str| json!({"functionResponse": {"id": "own", "name": name, "response": {"result": text}}});
        let messages = history(json!([
            {"parts": [{"text": "go"}]},
            {"role": "model", "parts": [call("f"), call("g"), call("f")]},
            {"role": "user", "parts": [result("g", "2"), result("f", "1"), result("f", "3")]},
        ]));
        let told: Vec<(&str, &str)> = messages[2..]
            .iter()
            .map(|message| {
                (
                    message["tool_call_id"].as_str().unwrap(),
                    message["content"].as_str().unwrap(),
                )
            })
            .collect();
        assert_eq!(told, [("call_g1_0", "1"), ("call_g1_1", "2"), ("call_g1_2", "3")]);
    }

    #[test]
    fn a_call_without_a_result_gets_one() {
        let messages = history(json!([
            {"parts": [{"text": "go"}]},
            {"role": "model", "parts": [{"functionCall": {"name": "f"}}]},
            {"parts": [{"text": "well?"}]},
        ]));
        let roles: Vec<&str> = messages.iter().filter_map(|message| message["role"].as_str()).collect();
        assert_eq!(roles, ["user", "assistant", "tool", "user"]);
        assert_eq!(messages[2]["content"], STYLE.no_result);
    }

    #[test]
    fn a_signature_of_ours_comes_back_in_any_alphabet_and_googles_own_not_at_all() {
        let ours = "cpx1.n.e30.~~~???";
        let url_safe = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(ours);
        let standard = base64::engine::general_purpose::STANDARD.encode(ours);
        for (signature, carried) in [
            (ours, Some(ours)),
            (&url_safe, Some(ours)),
            (&standard, Some(ours)),
            ("CpcBAdHtim9", None),
            ("skip_thought_signature_validator", None),
        ] {
            let part = json!({"text": "a", "thoughtSignature": signature});
            let messages = history(json!([{"role": "model", "parts": [part]}]));
            assert_eq!(messages[0]["reasoning_opaque"].as_str(), carried, "{signature}");
        }
    }

    #[test]
    fn what_thinking_is_asked_for() {
        let of = |config: Value| {
            let out = asked(
                json!({"contents": [{"parts": [{"text": "a"}]}], "generationConfig": {"thinkingConfig": config}}),
            );
            (
                out["reasoning_effort"].clone(),
                out["thinking_budget"].clone(),
                out["reasoning"]["exclude"] == true,
            )
        };
        assert_eq!(of(json!({"thinkingBudget": 0})), (json!("none"), Value::Null, true));
        assert_eq!(
            of(json!({"thinkingBudget": -1, "includeThoughts": true})),
            (Value::Null, Value::Null, false)
        );
        assert_eq!(of(json!({"thinking_budget": 2000})), (Value::Null, json!(2000), true));
        assert_eq!(of(json!({"thinkingLevel": "HIGH"})), (json!("high"), Value::Null, true));
        assert_eq!(
            of(json!({"thinkingLevel": "THINKING_LEVEL_UNSPECIFIED"})),
            (Value::Null, Value::Null, true)
        );
    }

    #[test]
    fn text_comes_inline_too() {
        let data = base64::engine::general_purpose::URL_SAFE.encode("wörter?>");
        let messages = history(json!([{"parts": [{"inlineData": {"mimeType": "text/plain", "data": data}}]}]));
        assert_eq!(messages[0]["content"], "wörter?>");
    }

    proptest! {
        #[test]
        fn no_request_panics(contents in any_json(), config in any_json(), tools in any_json(), part in any_json()) {
            for (role, key) in [("user", "inlineData"), ("user", "functionResponse"), ("model", "functionCall"), ("user", "fileData")] {
                let body = json!({"contents": [{"role": role, "parts": [part, {key: part}]}],
                    "generationConfig": config, "tools": [{"functionDeclarations": tools}], "toolConfig": config});
                let _ = request(body.as_object().unwrap().clone());
            }
            let body = json!({"contents": contents, "systemInstruction": contents, "generationConfig": {"thinkingConfig": config,
                "responseMimeType": "application/json", "responseSchema": contents}, "generateContentRequest": part});
            let _ = request(body.as_object().unwrap().clone());
            let _ = countable(body.as_object().unwrap().clone());
        }
    }
}
