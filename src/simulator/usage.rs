//! What a request weighs: tokens estimated from its real size, what of it was seen before, and what that costs.

use std::hash::{DefaultHasher, Hasher};

use serde_json::{Value, json};

use super::mind::{Answer, tokens};
use crate::protocol::Protocol;
use crate::protocol::catalog::Model;

/// An image, whatever its size.
const IMAGE_BYTES: usize = 4000;

/// A prompt in parts, in order: instructions and tools first, then each message.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Weight {
    /// Each part's tokens, and a mark of what it says.
    pub parts: Vec<(u64, u64)>,
    pub images: u64,
    /// How many parts, from the first, the client marked to be cached.
    marked: usize,
}

/// Tokens of one exchange.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// All of the prompt.
    pub input: u64,
    pub cached: u64,
    pub cache_write: u64,
    /// All that was written, reasoning included.
    pub output: u64,
    pub reasoning: u64,
}

impl Weight {
    /// Weighs a request.
    pub fn of(protocol: Protocol, body: &Value) -> Self {
        let (first, list): (&[&str], &str) = match protocol {
            Protocol::Chat => (&["model", "tools"], "messages"),
            Protocol::Responses => (&["model", "tools", "instructions"], "input"),
            Protocol::Messages => (&["model", "tools", "system"], "messages"),
        };
        let mut weight = Self::default();
        weight.add(first.iter().filter_map(|name| body.get(name)));
        match &body[list] {
            Value::Array(items) => items.iter().for_each(|item| weight.add([item])),
            text => weight.add([text]),
        }
        weight
    }

    pub fn total(&self) -> u64 {
        self.parts.iter().map(|(size, _)| size).sum()
    }

    fn add<'a>(&mut self, values: impl IntoIterator<Item = &'a Value>) {
        let mut scale = Scale::default();
        values.into_iter().for_each(|value| scale.weigh(value, ""));
        self.images += scale.images;
        self.parts.push((tokens(scale.bytes), scale.hash.finish()));
        if scale.marked {
            self.marked = self.parts.len();
        }
    }

    /// The usage of an answer to this prompt, of which so many tokens were seen before.
    pub fn usage(&self, protocol: Protocol, cached: u64, answer: &Answer) -> Usage {
        let input = self.total();
        let reasoning = answer.reasoning_tokens();
        let cacheable = match protocol {
            Protocol::Messages => self.parts.iter().take(self.marked).map(|(size, _)| size).sum(),
            Protocol::Chat | Protocol::Responses => input,
        };
        let cached = cached.min(cacheable);
        Usage {
            input,
            cached,
            cache_write: if protocol == Protocol::Messages {
                cacheable - cached
            } else {
                0
            },
            output: answer.tokens() + reasoning,
            reasoning,
        }
    }
}

#[derive(Default)]
struct Scale {
    bytes: usize,
    hash: DefaultHasher,
    images: u64,
    marked: bool,
}

impl Scale {
    fn weigh(&mut self, value: &Value, key: &str) {
        match value {
            Value::String(text) => {
                self.hash.write(text.as_bytes());
                self.hash.write_u8(0xFF);
                let is_data = text.starts_with("data:") || key == "data" && text.len() > 64;
                self.bytes += if is_data { 0 } else { text.len() };
            }
            Value::Array(items) => items.iter().for_each(|item| self.weigh(item, key)),
            Value::Object(fields) => {
                if matches!(value["type"].as_str(), Some("image" | "image_url" | "input_image")) {
                    self.images += 1;
                    self.bytes += IMAGE_BYTES;
                }
                for (name, field) in fields {
                    if name.ends_with("cache_control") {
                        self.marked = true;
                        continue;
                    }
                    self.hash.write(name.as_bytes());
                    self.bytes += name.len();
                    self.weigh(field, name);
                }
            }
            Value::Number(_) | Value::Bool(_) => {
                self.hash.write(value.to_string().as_bytes());
                self.bytes += 4;
            }
            Value::Null => self.hash.write_u8(0),
        }
    }
}

impl Usage {
    pub fn total(&self) -> u64 {
        self.input + self.output
    }

    /// Copilot's own account, by the model's prices.
    pub fn copilot(&self, model: &Model) -> Value {
        let prices = &model.raw["billing"]["token_prices"];
        let batch = prices["batch_size"]
            .as_u64()
            .filter(|batch| *batch > 0)
            .unwrap_or(1_000_000);
        let fresh = self.input.saturating_sub(self.cached + self.cache_write);
        let rows = [
            ("input", "input_price", fresh),
            ("cache_read", "cache_read_price", self.cached),
            ("cache_write", "cache_write_price", self.cache_write),
            ("output", "output_price", self.output),
        ];
        let mut total = 0.0;
        let details: Vec<Value> = rows
            .iter()
            .map(|&(kind, price, count)| {
                // A credit is a thousand million nano-AIU.
                let cost = prices["default"][price].as_f64().unwrap_or(0.0) * 1e9;
                total += count as f64 * cost / batch as f64;
                json!({
                    "batch_size": batch, "cost_per_batch": cost as u64, "token_count": count, "token_type": kind,
                })
            })
            .collect();
        json!({"token_details": details, "total_nano_aiu": total as u64})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_weighs_a_quarter_of_its_size() {
        let body = json!({"model": "m", "messages": [{"role": "user", "content": "x".repeat(400)}]});
        let weight = Weight::of(Protocol::Chat, &body);
        assert_eq!(weight.parts.len(), 2);
        assert!((100..110).contains(&weight.total()), "{}", weight.total());
    }

    #[test]
    fn images_count_as_images() {
        let url = format!("data:image/png;base64,{}", "A".repeat(100_000));
        let image = json!({"type": "image_url", "image_url": {"url": url}});
        let body = json!({"messages": [{"role": "user", "content": [image]}]});
        let weight = Weight::of(Protocol::Chat, &body);
        assert_eq!(weight.images, 1);
        assert!(weight.total() < 1100);
    }

    #[test]
    fn messages_cache_what_is_marked() {
        let marked = json!([{"type": "text", "text": "y".repeat(40), "cache_control": {"type": "ephemeral"}}]);
        let body = json!({"system": marked, "messages": [{"role": "user", "content": "z".repeat(40)}]});
        let weight = Weight::of(Protocol::Messages, &body);
        let answer = Answer {
            reasoning: None,
            search: None,
            text: vec!["four".into()],
            calls: Vec::new(),
            ending: super::super::mind::Ending::Stop,
        };
        let first = weight.usage(Protocol::Messages, 0, &answer);
        assert_eq!(
            (first.cached, first.cache_write, first.output),
            (0, weight.parts[0].0, 1)
        );
        let again = weight.usage(Protocol::Messages, weight.total(), &answer);
        assert_eq!((again.cached, again.cache_write), (weight.parts[0].0, 0));
    }
}
