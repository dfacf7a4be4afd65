//! What Copilot refuses in a request, protocol by protocol. Pure: a body and a model in, a refusal or nothing out.

pub mod chat;
pub mod messages;
pub mod responses;

use serde_json::Value;

use super::reply::Refusal;
use crate::protocol::catalog::Model;
use crate::protocol::effort::Effort;

/// The most tools in one request.
const MOST_TOOLS: usize = 128;

/// Nothing to complain of, or the complaint.
pub type Verdict = Result<(), Refusal>;

/// The elements of a list; none if it is no list.
pub fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Whether a field is there and says something.
fn given(body: &Value, name: &str) -> bool {
    !body[name].is_null()
}

fn is_name(text: &str, longest: usize) -> bool {
    !text.is_empty()
        && text.len() <= longest
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

/// A function's name and parameters, as OpenAI's protocols want them.
fn function(tool: &Value, path: &str, schema: &str) -> Verdict {
    let name = tool["name"].as_str().unwrap_or_default();
    if !is_name(name, 64) {
        let message = format!(
            "Invalid '{path}.name': string does not match pattern. Expected a string that matches the pattern \
             '^[a-zA-Z0-9_-]+$'."
        );
        return Err(Refusal::openai("invalid_value", &format!("{path}.name"), message));
    }
    let parameters = &tool[schema];
    if !parameters.is_null() && parameters["type"] != "object" {
        let message =
            format!("Invalid schema for function '{name}': schema must be a JSON Schema of 'type: \"object\"'.");
        return Err(Refusal::openai(
            "invalid_function_parameters",
            &format!("{path}.{schema}"),
            message,
        ));
    }
    if tool["strict"] == true {
        strict(parameters, &format!("function '{name}'"))?;
    }
    Ok(())
}

/// The schema of strict mode: closed objects, every property required.
fn strict(schema: &Value, what: &str) -> Verdict {
    let complaint = |why: &str| {
        Err(Refusal::openai(
            "invalid_function_parameters",
            "",
            format!("Invalid schema for {what}: {why}"),
        ))
    };
    if let Some(properties) = schema["properties"].as_object() {
        if schema["additionalProperties"] != false {
            return complaint("'additionalProperties' is required to be supplied and to be false.");
        }
        let required = list(schema, "required");
        if let Some(name) = properties
            .keys()
            .find(|name| !required.iter().any(|known| known == name.as_str()))
        {
            return complaint(&format!(
                "'required' is required to include every key in properties. Missing '{name}'."
            ));
        }
        properties.values().try_for_each(|inner| strict(inner, what))?;
    }
    for name in ["items", "additionalProperties"] {
        if schema[name].is_object() {
            strict(&schema[name], what)?;
        }
    }
    ["anyOf", "oneOf", "allOf"]
        .iter()
        .flat_map(|name| list(schema, name))
        .try_for_each(|inner| strict(inner, what))
}

fn count_of_tools(tools: &[Value]) -> Verdict {
    if tools.len() > MOST_TOOLS {
        let message = format!(
            "Invalid 'tools': array too long. Expected an array with maximum length {MOST_TOOLS}, but got an array with \
             length {} instead.",
            tools.len()
        );
        return Err(Refusal::openai("array_above_max_length", "tools", message));
    }
    Ok(())
}

/// An effort that the model lists; models without a list take the usual three if `usual` says so.
fn effort(model: &Model, value: &Value, param: &str, usual: bool) -> Verdict {
    let Some(asked) = value.as_str() else {
        return Ok(());
    };
    const USUAL: [Effort; 3] = [Effort::Low, Effort::Medium, Effort::High];
    let known: &[Effort] = match model.supports.efforts.as_slice() {
        [] if usual => &USUAL,
        known => known,
    };
    if known.is_empty() {
        let message = format!("Unsupported parameter: '{param}' is not supported with this model.");
        return Err(Refusal::openai("unsupported_parameter", param, message));
    }
    if Effort::read(asked).is_some_and(|asked| known.contains(&asked)) {
        return Ok(());
    }
    let names: Vec<&str> = known.iter().map(|effort| effort.name()).collect();
    let message = format!(
        "reasoning effort \"{asked}\" is not supported by model {}; supported values: [{}]",
        model.id,
        names.join(" ")
    );
    Err(Refusal::openai("invalid_reasoning_effort", param, message))
}

/// Reasoning models have their own mind about sampling.
fn sampling(model: &Model, body: &Value) -> Verdict {
    if !model.is_reasoning_gpt() {
        return Ok(());
    }
    for (name, default) in [
        ("temperature", 1.0),
        ("top_p", 1.0),
        ("presence_penalty", 0.0),
        ("frequency_penalty", 0.0),
    ] {
        if body[name].as_f64().is_some_and(|value| value != default) {
            let message = format!("Unsupported parameter: '{name}' is not supported with this model.");
            return Err(Refusal::openai("unsupported_parameter", name, message));
        }
    }
    Ok(())
}

/// A limit of tokens that the model can keep.
fn output_limit(model: &Model, body: &Value, name: &str, least: u64) -> Verdict {
    let Some(asked) = body.get(name).filter(|value| !value.is_null()) else {
        return Ok(());
    };
    let Some(asked) = asked.as_u64().filter(|asked| *asked >= least) else {
        let message = format!(
            "Invalid '{name}': integer below minimum value. Expected a value >= {least}, but got {asked} instead."
        );
        return Err(Refusal::openai("integer_below_min_value", name, message));
    };
    match model.limits.output {
        Some(most) if asked > most => {
            let message = format!(
                "{name} is too large: {asked}. This model supports at most {most} completion tokens, whereas you \
                 provided {asked}."
            );
            Err(Refusal::openai("invalid_value", name, message))
        }
        _ => Ok(()),
    }
}

/// Images come as data, never by address.
fn data_url(url: &Value, param: &str) -> Verdict {
    match url.as_str() {
        Some(url) if url.starts_with("data:image/") || url.starts_with("data:application/pdf") => Ok(()),
        _ => {
            let message = "external image URLs are not supported; image data must be sent as a data: URL";
            Err(Refusal::openai("invalid_value", param, message))
        }
    }
}

#[cfg(test)]
mod tests;
