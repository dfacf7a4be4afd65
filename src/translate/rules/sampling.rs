//! How long an answer may be, how it is drawn, where it stops: each limit under the name its upstream knows, within the
//! range it takes. What a model does not take is left out.

use serde_json::{Value, json};

use super::{field, list};
use crate::protocol::Protocol;
use crate::protocol::catalog::Model;
use crate::translate::{Context, Memory, Object};

/// Stop sequences that Chat takes.
const MOST_STOPS: usize = 4;

/// Writes all of a client's limits and sampling into the body for another protocol's upstream. Returns the stop
/// sequences that upstream cannot watch for, for `Reply.stops`. Comes before
/// [`Wish::write`](super::reasoning::Wish::write), which keeps thinking inside the limit.
pub fn write(client: Protocol, way: Protocol, body: &Object, out: &mut Object, context: &Context) -> Vec<String> {
    // Messages has no answer without a limit: a client that leaves it out means the model's own, on every way.
    let unsaid = context.model.limits.output.filter(|_| client == Protocol::Messages);
    write_limit(way, limit(client, body).or(unsaid), out, context);
    write_drawing(client, way, body, out, context.model);
    let stops = stops(client, body);
    match way {
        _ if stops.is_empty() => {}
        Protocol::Chat => {
            let first: Vec<&String> = stops.iter().take(MOST_STOPS).collect();
            out.insert("stop".into(), json!(first));
        }
        Protocol::Messages => {
            let watched: Vec<&String> = stops.iter().filter(|stop| !stop.trim().is_empty()).collect();
            if !watched.is_empty() {
                out.insert("stop_sequences".into(), json!(watched));
            }
        }
        Protocol::Responses if context.tuning.stop_emulation => return stops,
        Protocol::Responses => {}
    }
    Vec::new()
}

/// The most tokens that the client wants answered.
pub fn limit(client: Protocol, body: &Object) -> Option<u64> {
    let names: &[&str] = match client {
        Protocol::Messages => &["max_tokens"],
        Protocol::Chat => &["max_completion_tokens", "max_tokens"],
        Protocol::Responses => &["max_output_tokens"],
    };
    names.iter().find_map(|name| field(body, name).as_u64())
}

/// Puts the limit into an upstream body, no higher than the model goes. Without one the model's own is asked for, since
/// upstream's default is small; not so that of Responses.
pub fn write_limit(way: Protocol, asked: Option<u64>, out: &mut Object, context: &Context) {
    let most = context.model.limits.output;
    let asked = asked.or(if way == Protocol::Responses { None } else { most });
    let Some(asked) = asked else { return };
    let mut limit = asked;
    if way == Protocol::Responses {
        limit = limit.max(context.tuning.min_output_tokens.max(16));
    }
    limit = limit.min(most.unwrap_or(u64::MAX));
    out.insert(limit_name(way, context.model, context.memory).into(), json!(limit));
}

/// What upstream calls the limit.
pub fn limit_name(way: Protocol, model: &Model, memory: &Memory) -> &'static str {
    match way {
        Protocol::Messages => "max_tokens",
        Protocol::Responses => "max_output_tokens",
        Protocol::Chat => match memory.learned.get("chat.max_tokens").and_then(Value::as_str) {
            Some("max_completion_tokens") => "max_completion_tokens",
            Some("max_tokens") => "max_tokens",
            _ if model.is_reasoning_gpt() => "max_completion_tokens",
            _ => "max_tokens",
        },
    }
}

/// Temperature, `top_p` and `top_k`. Penalties, seeds and the like are Chat's alone.
fn write_drawing(client: Protocol, way: Protocol, body: &Object, out: &mut Object, model: &Model) {
    if way != Protocol::Messages && model.is_reasoning_gpt() {
        return;
    }
    if let Some(temperature) = field(body, "temperature").as_f64() {
        let fits = way != Protocol::Messages || temperature <= 1.0;
        let written = if fits {
            field(body, "temperature").clone()
        } else {
            json!(1)
        };
        out.insert("temperature".into(), written);
    }
    if field(body, "top_p").is_number() {
        out.insert("top_p".into(), field(body, "top_p").clone());
    }
    if way == Protocol::Messages && client == Protocol::Messages && field(body, "top_k").is_number() {
        out.insert("top_k".into(), field(body, "top_k").clone());
    }
}

/// Removes from a Messages body what thinking does not go with, and `top_p` beside `temperature`, which newer models
/// refuse as a pair. Comes after the thinking is decided.
pub fn settle_messages(out: &mut Object, model: &Model) {
    let thinks = matches!(field(out, "thinking")["type"].as_str(), Some("enabled" | "adaptive"));
    if thinks {
        if field(out, "temperature")
            .as_f64()
            .is_some_and(|temperature| temperature != 1.0)
        {
            out.shift_remove("temperature");
        }
        out.shift_remove("top_k");
    }
    let refuses_pair = super::reasoning::claude_version(&model.id).is_some_and(|version| version >= (4, 5));
    if refuses_pair && out.contains_key("temperature") && out.contains_key("top_p") {
        out.shift_remove("top_p");
    }
}

/// Removes from a Chat or Responses body that keeps its protocol what reasoning models refuse.
pub fn settle_gpt(out: &mut Object, model: &Model) {
    if model.is_reasoning_gpt() {
        for name in ["temperature", "top_p", "presence_penalty", "frequency_penalty"] {
            out.shift_remove(name);
        }
    }
}

/// The client's stop sequences; empty ones would stop everything.
pub fn stops(client: Protocol, body: &Object) -> Vec<String> {
    let name = match client {
        Protocol::Messages => "stop_sequences",
        Protocol::Chat => "stop",
        Protocol::Responses => return Vec::new(),
    };
    let asked = field(body, name);
    let one = asked.as_str().into_iter();
    let several = list(asked).iter().filter_map(Value::as_str);
    one.chain(several)
        .filter(|stop| !stop.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translate::rules::{Fixture, model};

    fn written(client: Protocol, way: Protocol, id: &str, body: Value) -> (Value, Vec<String>) {
        let fixture = Fixture::new(model(
            json!({"id": id, "vendor": "", "capabilities": {"limits": {"max_output_tokens": 16000}}}),
        ));
        let mut out = Object::new();
        let stops = write(client, way, body.as_object().unwrap(), &mut out, &fixture.context());
        (Value::Object(out), stops)
    }

    use Protocol::{Chat, Messages, Responses};

    #[test]
    fn k043_k102_without_a_limit_the_models_own_is_asked_for() {
        assert_eq!(
            written(Messages, Chat, "gpt-4.1", json!({})).0,
            json!({"max_tokens": 16000})
        );
        assert_eq!(
            written(Chat, Messages, "claude-a", json!({"stop": "x"})).0,
            json!({"max_tokens": 16000, "stop_sequences": ["x"]})
        );
        assert_eq!(
            written(Messages, Responses, "gpt-5", json!({"max_tokens": null})).0,
            json!({"max_output_tokens": 16000})
        );
        assert_eq!(written(Chat, Responses, "gpt-5", json!({})).0, json!({}));
    }

    #[test]
    fn k044_the_limit_has_the_name_its_model_knows() {
        let asked = json!({"max_tokens": 100});
        assert_eq!(
            written(Messages, Chat, "gpt-5-mini", asked.clone()).0,
            json!({"max_completion_tokens": 100})
        );
        assert_eq!(written(Messages, Chat, "gpt-4.1", asked).0, json!({"max_tokens": 100}));
    }

    #[test]
    fn k045_responses_answers_no_less_than_sixteen() {
        assert_eq!(
            written(Messages, Responses, "gpt-5", json!({"max_tokens": 5})).0,
            json!({"max_output_tokens": 16})
        );
        assert_eq!(
            written(Messages, Responses, "gpt-5", json!({"max_tokens": 90000})).0,
            json!({"max_output_tokens": 16000})
        );
    }

    #[test]
    fn k106_temperature_stays_in_range() {
        let (out, _) = written(Chat, Messages, "claude-a", json!({"temperature": 1.7, "seed": 1}));
        assert_eq!(out, json!({"max_tokens": 16000, "temperature": 1}));
        let (out, _) = written(Chat, Responses, "gpt-5", json!({"temperature": 0.2, "top_p": 0.5}));
        assert_eq!(out, json!({}));
    }

    #[test]
    fn stops_go_where_they_are_watched_for() {
        let asked = json!({"stop_sequences": ["a", "", " ", "c", "d", "e"]});
        assert_eq!(
            written(Messages, Chat, "gpt-4.1", asked.clone()).0["stop"],
            json!(["a", " ", "c", "d"])
        );
        assert_eq!(
            written(Messages, Responses, "gpt-5", asked).1,
            ["a", " ", "c", "d", "e"]
        );
        assert_eq!(
            written(Chat, Messages, "claude-a", json!({"stop": ["\n", "x"]})).0["stop_sequences"],
            json!(["x"])
        );
    }

    #[test]
    fn k029_thinking_draws_as_it_likes() {
        let claude = model(json!({"id": "claude-haiku-4.5"}));
        let mut out = json!({"thinking": {"type": "enabled"}, "temperature": 0.2, "top_p": 0.9, "top_k": 5})
            .as_object()
            .unwrap()
            .clone();
        settle_messages(&mut out, &claude);
        assert_eq!(
            Value::Object(out),
            json!({"thinking": {"type": "enabled"}, "top_p": 0.9})
        );
    }
}
