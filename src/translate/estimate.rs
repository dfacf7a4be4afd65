//! How many tokens a request has, counted here: exact for the text of models whose tokenizer is public, an estimate for
//! the rest. Bounded on hostile input; the vocabularies load when first used.

use std::collections::BTreeMap;

use tiktoken_rs::{CoreBPE, cl100k_base_singleton, o200k_base_singleton};

use super::tally::{Image, Tally};
use crate::protocol::catalog::Model;

/// Factors by the beginning of a model's id, for families whose own tokenizer is not public.
pub type Multipliers = BTreeMap<String, f64>;

/// Beyond this much text in one request, texts are not tokenised but measured.
const MAX_TEXT: usize = 4 << 20;
/// Bytes a token, where a text is only measured.
const BYTES_PER_TOKEN: f64 = 3.5;
/// The tokenizer is handed no more than this at a time: its cost on one long run of spaces grows with the run.
const PIECE: usize = 16 << 10;
/// What Anthropic adds for tools of its own.
const HOSTED_TOOLS: f64 = 346.0;

/// Estimates the prompt's tokens. `model` may be unknown.
pub fn tokens(tally: &Tally, model: Option<&Model>, multipliers: &Multipliers) -> u64 {
    let counter = Counter::new(model, tally.text_bytes() > MAX_TEXT);
    let messages: f64 = tally.roles.iter().map(|role| 3.0 + counter.count(role)).sum();
    let texts: f64 = tally.texts.iter().map(|text| counter.count(text)).sum();
    let calls: f64 = tally
        .calls
        .iter()
        .map(|(name, args)| 8.0 + counter.count(name) + counter.count(args))
        .sum();
    let mut tools: f64 = tally.tools.iter().map(|tool| 8.0 + counter.count(tool)).sum();
    if !tally.tools.is_empty() {
        tools += 16.0;
    } else if tally.hosted_tools > 0 {
        tools += HOSTED_TOOLS;
    }
    let id = model.map_or("", |model| model.id.as_str());
    let text = factor(id, multipliers) * (3.0 + messages + texts + calls * 1.5 + tools * 1.1);
    let images: u64 = tally.images.iter().map(|image| image_tokens(image, model)).sum();
    let documents: u64 = tally
        .documents
        .iter()
        .map(|bytes| bytes.div_ceil(8).clamp(1500, 200_000))
        .sum();
    (text.ceil() as u64).saturating_add(images).saturating_add(documents)
}

/// The factor of the longest prefix that fits.
fn factor(id: &str, multipliers: &Multipliers) -> f64 {
    let fitting = multipliers.iter().filter(|(prefix, _)| id.starts_with(prefix.as_str()));
    fitting
        .max_by_key(|(prefix, _)| prefix.len())
        .map_or(1.0, |(_, factor)| *factor)
}

/// Counts text in one vocabulary, or by its length.
struct Counter {
    vocabulary: &'static CoreBPE,
    measures: bool,
}

impl Counter {
    fn new(model: Option<&Model>, measures: bool) -> Self {
        let vocabulary = match model.map(|model| model.tokenizer.as_str()) {
            Some("cl100k_base") => cl100k_base_singleton(),
            _ => o200k_base_singleton(),
        };
        Self { vocabulary, measures }
    }

    fn count(&self, text: &str) -> f64 {
        if self.measures {
            return (text.len() as f64 / BYTES_PER_TOKEN).ceil();
        }
        pieces(text)
            .map(|piece| self.vocabulary.encode_ordinary(piece).len() as f64)
            .sum()
    }
}

/// Cuts a text into pieces of bounded length, before a space where there is one in the last quarter.
fn pieces(mut text: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        if text.is_empty() {
            return None;
        }
        let mut end = PIECE.min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        if end < text.len()
            && let Some(space) = text[..end]
                .rfind(char::is_whitespace)
                .filter(|&space| space > PIECE / 4 * 3)
        {
            end = space;
        }
        let (piece, rest) = text.split_at(end);
        text = rest;
        Some(piece)
    })
}

/// What an image costs, by the published rule of the model's house.
fn image_tokens(image: &Image, model: Option<&Model>) -> u64 {
    const UNKNOWN: u64 = 1600;
    let house = model.map_or("other", Model::house);
    if house == "gpt" && image.low_detail {
        return 85;
    }
    let Some((width, height)) = image.size else {
        return UNKNOWN;
    };
    let (width, height) = (width.max(1) as f64, height.max(1) as f64);
    let tokens = match house {
        "gpt" => {
            let fit = (2048.0 / width.max(height)).min(1.0);
            let fit = fit * (768.0 / (width.min(height) * fit)).min(1.0);
            85.0 + 170.0 * (width * fit / 512.0).ceil() * (height * fit / 512.0).ceil()
        }
        "gemini" => 258.0 * (width / 768.0).ceil() * (height / 768.0).ceil(),
        _ => {
            let fit = (1568.0 / width.max(height)).min(1.0);
            (width * fit * height * fit / 750.0).ceil().min(1600.0)
        }
    };
    tokens.min(1e6) as u64
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::protocol::Protocol;
    use crate::protocol::catalog::Catalog;

    fn model(id: &str) -> Arc<Model> {
        Catalog::read(&json!({"data": [{"id": id}]})).models()[0].clone()
    }

    fn count(text: &str) -> u64 {
        let tally = Tally {
            texts: vec![text.to_owned()],
            ..Tally::default()
        };
        tokens(&tally, None, &Multipliers::new())
    }

    #[test]
    fn text_is_counted_exactly() {
        // Three for the prompt itself; "hello world" is two tokens of o200k.
        assert_eq!(count("hello world"), 5);
        assert_eq!(count(""), 3);
    }

    #[test]
    fn k159_special_tokens_are_ordinary_text() {
        assert!(count("<|endoftext|>") > 5);
    }

    #[test]
    fn hostile_text_neither_panics_nor_stalls() {
        for text in [
            " ".repeat(300_000),
            "\n".repeat(100_000),
            "ß".repeat(50_000),
            "a".repeat(20_000),
        ] {
            assert!(count(&text) > 3);
        }
        let many = Tally {
            texts: vec!["x y ".repeat(1 << 16); 17],
            ..Tally::default()
        };
        assert!(tokens(&many, None, &Multipliers::new()) >= 17 * (1 << 18) * 10 / 35);
        assert_eq!(count(&"x".repeat(5 << 20)), 3 + ((5 << 20) as f64 / 3.5).ceil() as u64);
    }

    #[test]
    fn pieces_lose_nothing() {
        for text in ["a b".repeat(20_000), "ü".repeat(30_000), " ".repeat(40_000)] {
            let cut: Vec<&str> = pieces(&text).collect();
            assert!(cut.iter().all(|piece| piece.len() <= PIECE && !piece.is_empty()));
            assert_eq!(cut.concat(), text);
        }
    }

    #[test]
    fn the_longest_prefix_gives_the_factor() {
        let multipliers = [("claude".to_owned(), 1.3), ("claude-opus".to_owned(), 2.0)].into();
        assert_eq!(factor("claude-opus-4.6", &multipliers), 2.0);
        assert_eq!(factor("claude-haiku-4.5", &multipliers), 1.3);
        assert_eq!(factor("gpt-5", &multipliers), 1.0);
    }

    #[test]
    fn k158_an_image_costs_its_rule_and_not_its_base64() {
        let image = |size| Image {
            size,
            low_detail: false,
        };
        assert_eq!(image_tokens(&image(Some((1000, 750))), Some(&model("claude-x"))), 1000);
        assert_eq!(
            image_tokens(&image(Some((10_000, 10_000))), Some(&model("claude-x"))),
            1600
        );
        assert_eq!(image_tokens(&image(Some((1024, 1024))), Some(&model("gpt-4.1"))), 765);
        assert_eq!(
            image_tokens(&image(Some((768, 769))), Some(&model("gemini-2.5-pro"))),
            516
        );
        assert_eq!(image_tokens(&image(None), None), 1600);
        let data = "A".repeat(1 << 20);
        let block = json!({"type": "image", "source": {"type": "base64", "data": data}});
        let body = json!({"messages": [{"role": "user", "content": [block]}]});
        assert!(
            tokens(
                &Tally::of(Protocol::Messages, body.as_object().unwrap()),
                None,
                &Multipliers::new()
            ) <= 2000
        );
    }
}
