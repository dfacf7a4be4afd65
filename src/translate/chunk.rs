//! A chunk of a chat stream, read in place: no tree is built, strings and what we do not know stay slices of the
//! bytes read. Knows how upstream spells things; not what they mean.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::rules;
use super::turn::Usage;
use crate::protocol::{Protocol, json};

/// Where readable reasoning may stand in a delta; the first that is there counts.
pub const REASONING: [&str; 5] = [
    "reasoning_text",
    "reasoning_content",
    "reasoning",
    "cot_summary",
    "thinking",
];

/// A field we do not know, to be passed on as it is.
pub type Unknown<'a> = (Text<'a>, &'a RawValue);

#[derive(Debug, Default)]
pub struct Chunk<'a> {
    pub id: Text<'a>,
    pub created: Number,
    pub choices: Vec<Choice<'a>>,
    pub usage: Option<&'a RawValue>,
    /// Copilot's own account of the call.
    pub copilot_usage: Option<&'a RawValue>,
    pub error: Option<&'a RawValue>,
    /// Only an error that forgot its envelope has one.
    pub message: Option<&'a RawValue>,
    pub rest: Vec<Unknown<'a>>,
}

#[derive(Debug, Default)]
pub struct Choice<'a> {
    pub index: Number,
    pub delta: Delta<'a>,
    pub finish_reason: Text<'a>,
    pub rest: Vec<Unknown<'a>>,
}

#[derive(Debug, Default)]
pub struct Delta<'a> {
    pub content: Option<&'a RawValue>,
    pub refusal: Option<&'a RawValue>,
    /// In the order of [`REASONING`].
    pub reasoning: [Option<&'a RawValue>; REASONING.len()],
    pub reasoning_opaque: Text<'a>,
    pub tool_calls: Vec<Fragment<'a>>,
    /// How calls were spelled before there were several.
    pub function_call: Option<&'a RawValue>,
    pub rest: Vec<Unknown<'a>>,
}

/// A piece of a tool call.
#[derive(Debug, Default)]
pub struct Fragment<'a> {
    pub index: Number,
    pub id: Text<'a>,
    pub function: Option<Function<'a>>,
    /// A freeform tool stands here instead.
    pub custom: Option<Function<'a>>,
    pub rest: Vec<Unknown<'a>>,
}

#[derive(Debug, Default)]
pub struct Function<'a> {
    pub name: Text<'a>,
    /// `arguments`, or the `input` of a freeform call.
    pub input: Option<&'a RawValue>,
    pub rest: Vec<Unknown<'a>>,
}

impl<'a> Chunk<'a> {
    /// Reads a frame's data. `None` where it is no JSON object.
    pub fn read(data: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(data).ok()
    }

    /// Whether upstream says here that it failed.
    pub fn is_error(&self) -> bool {
        self.error.is_some() || self.choices.is_empty() && self.usage.is_none() && self.message.is_some()
    }

    /// Copilot's price of the call, in billionths of an AI credit; some answers keep it inside `usage`.
    pub fn nano_aiu(&self) -> Option<u64> {
        if self.usage.is_none() && self.copilot_usage.is_none() {
            return None;
        }
        let places = [("usage", self.usage), ("copilot_usage", self.copilot_usage)];
        let told = places.into_iter().filter_map(|(name, raw)| Some((name, tree(raw?))));
        rules::usage::nano_aiu(&told.collect())
    }
}

impl<'a> Delta<'a> {
    /// Readable reasoning, whatever it is called.
    pub fn reasoning(&self) -> Cow<'a, str> {
        let mut spelled = self.reasoning.iter().flatten().map(|raw| text(raw));
        spelled.find(|text| !text.is_empty()).unwrap_or_default()
    }
}

/// The text of a `content`: a string, or the text parts of a list. Empty for anything else.
pub fn text(raw: &RawValue) -> Cow<'_, str> {
    let written = raw.get();
    match written.as_bytes().first() {
        Some(b'"') => match serde_json::from_str::<Text>(written) {
            Ok(text) => text.0,
            // Half of a surrogate pair: a letter was cut in two.
            Err(_) => serde_json::from_slice(&json::whole_pairs(written.as_bytes())).unwrap_or_default(),
        },
        Some(b'[') => {
            let parts: Vec<Value> = serde_json::from_str(written).unwrap_or_default();
            Cow::Owned(parts.iter().filter_map(|part| part["text"].as_str()).collect())
        }
        _ => Cow::Borrowed(""),
    }
}

/// The tokens that a `usage` counts.
pub fn usage(raw: &RawValue) -> Usage {
    rules::usage::read(Protocol::Chat, &tree(raw))
}

fn tree(raw: &RawValue) -> Value {
    serde_json::from_str(raw.get()).unwrap_or_default()
}

/// A string; empty where there is none, or something else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text<'a>(pub Cow<'a, str>);

impl std::ops::Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// A whole number; `None` where there is none, or something else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Number(pub Option<u64>);

/// An object read field by field.
trait Fields<'a>: Default {
    fn take<A: MapAccess<'a>>(&mut self, key: Text<'a>, map: &mut A) -> Result<(), A::Error>;
}

impl<'a> Fields<'a> for Chunk<'a> {
    fn take<A: MapAccess<'a>>(&mut self, key: Text<'a>, map: &mut A) -> Result<(), A::Error> {
        match &*key {
            "id" => self.id = map.next_value()?,
            "created" => self.created = map.next_value()?,
            "choices" => self.choices = list(map)?,
            "usage" => self.usage = map.next_value()?,
            "copilot_usage" => self.copilot_usage = map.next_value()?,
            "error" => self.error = map.next_value()?,
            "message" => self.message = map.next_value()?,
            "object" | "model" => skip(map)?,
            _ => keep(&mut self.rest, key, map)?,
        }
        Ok(())
    }
}

impl<'a> Fields<'a> for Choice<'a> {
    fn take<A: MapAccess<'a>>(&mut self, key: Text<'a>, map: &mut A) -> Result<(), A::Error> {
        match &*key {
            "index" => self.index = map.next_value()?,
            "delta" => self.delta = map.next_value()?,
            "finish_reason" => self.finish_reason = map.next_value()?,
            _ => keep(&mut self.rest, key, map)?,
        }
        Ok(())
    }
}

impl<'a> Fields<'a> for Delta<'a> {
    fn take<A: MapAccess<'a>>(&mut self, key: Text<'a>, map: &mut A) -> Result<(), A::Error> {
        match &*key {
            "content" => self.content = map.next_value()?,
            "refusal" => self.refusal = map.next_value()?,
            "reasoning_opaque" => self.reasoning_opaque = map.next_value()?,
            "tool_calls" => self.tool_calls = list(map)?,
            "function_call" => self.function_call = map.next_value()?,
            // The writer says the role once; padding means nothing.
            "role" | "padding" => skip(map)?,
            name => match REASONING.iter().position(|&one| one == name) {
                Some(at) => self.reasoning[at] = map.next_value()?,
                None => keep(&mut self.rest, key, map)?,
            },
        }
        Ok(())
    }
}

impl<'a> Fields<'a> for Fragment<'a> {
    fn take<A: MapAccess<'a>>(&mut self, key: Text<'a>, map: &mut A) -> Result<(), A::Error> {
        match &*key {
            "index" => self.index = map.next_value()?,
            "id" => self.id = map.next_value()?,
            "type" => skip(map)?,
            "function" => self.function = map.next_value()?,
            "custom" => self.custom = map.next_value()?,
            _ => keep(&mut self.rest, key, map)?,
        }
        Ok(())
    }
}

impl<'a> Fields<'a> for Function<'a> {
    fn take<A: MapAccess<'a>>(&mut self, key: Text<'a>, map: &mut A) -> Result<(), A::Error> {
        match &*key {
            "name" => self.name = map.next_value()?,
            "arguments" | "input" => self.input = map.next_value()?,
            _ => keep(&mut self.rest, key, map)?,
        }
        Ok(())
    }
}

fn list<'a, A: MapAccess<'a>, T: Deserialize<'a>>(map: &mut A) -> Result<Vec<T>, A::Error> {
    Ok(map.next_value::<Option<Vec<T>>>()?.unwrap_or_default())
}

fn skip<'a, A: MapAccess<'a>>(map: &mut A) -> Result<(), A::Error> {
    map.next_value::<IgnoredAny>().map(|_| ())
}

/// Whether a field is one of Copilot's own annotations, which clients do not know.
pub fn is_own(name: &str) -> bool {
    name.starts_with("copilot_") || name.starts_with("content_filter_") || name == "prompt_filter_results"
}

/// Keeps an unknown field, unless it is Copilot's own.
fn keep<'a, A: MapAccess<'a>>(rest: &mut Vec<Unknown<'a>>, key: Text<'a>, map: &mut A) -> Result<(), A::Error> {
    if is_own(&key) {
        return skip(map);
    }
    rest.push((key, map.next_value()?));
    Ok(())
}

/// Visits an object's fields; `null` is an object without any.
struct Object<T>(PhantomData<T>);

impl<'a, T: Fields<'a>> Visitor<'a> for Object<T> {
    type Value = T;

    fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<T, A::Error> {
        let mut object = T::default();
        while let Some(key) = map.next_key()? {
            object.take(key, &mut map)?;
        }
        Ok(object)
    }

    fn visit_unit<E: Error>(self) -> Result<T, E> {
        Ok(T::default())
    }
}

/// Visits a value that may be anything; what is not wanted counts as absent.
struct Lax<T>(PhantomData<T>);

trait Scalar<'a>: Default {
    fn borrowed(_text: &'a str) -> Self {
        Self::default()
    }
    fn owned(_text: &str) -> Self {
        Self::default()
    }
    fn number(_number: u64) -> Self {
        Self::default()
    }
}

impl<'a> Scalar<'a> for Text<'a> {
    fn borrowed(text: &'a str) -> Self {
        Self(Cow::Borrowed(text))
    }
    fn owned(text: &str) -> Self {
        Self(Cow::Owned(text.to_owned()))
    }
}

impl Scalar<'_> for Number {
    fn number(number: u64) -> Self {
        Self(Some(number))
    }
}

impl<'a, T: Scalar<'a>> Visitor<'a> for Lax<T> {
    type Value = T;

    fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str("a value")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'a str) -> Result<T, E> {
        Ok(T::borrowed(text))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        Ok(T::owned(text))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        Ok(T::number(number))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<T, E> {
        // The cast saturates: below zero is zero.
        Ok(T::number(number as u64))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_unit<E: Error>(self) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut list: A) -> Result<T, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(T::default())
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<T, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(T::default())
    }
}

macro_rules! read_by {
    ($visitor:ident: $($kind:ident)*) => {$(
        impl<'a> Deserialize<'a> for $kind<'a> {
            fn deserialize<D: Deserializer<'a>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any($visitor::<Self>(PhantomData))
            }
        }
    )*};
}

read_by!(Object: Chunk Choice Delta Fragment Function);
read_by!(Lax: Text);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Lax::<Self>(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_read_in_place() {
        let data = br#"{"choices":[{"index":0,"content_filter_results":{"a":[1]},"delta":{"content":"Hello","padding":"abc","x":[1]}}],
            "created":7,"id":"c1","model":"m","copilot_x":1,"system_fingerprint":"fp"}"#;
        let chunk = Chunk::read(data).unwrap();
        assert!(matches!(chunk.id.0, Cow::Borrowed("c1")));
        assert_eq!(chunk.created, Number(Some(7)));
        assert_eq!(
            chunk
                .rest
                .iter()
                .map(|(key, raw)| (&**key, raw.get()))
                .collect::<Vec<_>>(),
            [("system_fingerprint", "\"fp\"")]
        );
        let choice = &chunk.choices[0];
        assert!(choice.rest.is_empty() && choice.finish_reason.is_empty());
        assert_eq!(choice.delta.content.map(text).as_deref(), Some("Hello"));
        assert_eq!(choice.delta.rest.len(), 1);
    }

    #[test]
    fn oddities_count_as_absent() {
        let chunk = Chunk::read(br#"{"id":[1],"created":1.5e3,"choices":null,"usage":null,"error":null}"#).unwrap();
        assert!(chunk.id.is_empty() && chunk.usage.is_none() && !chunk.is_error());
        assert_eq!(chunk.created, Number(Some(1500)));
        for data in ["", " ", "[]", "7", "{\"choices\":3}", "{", "\"x\""] {
            assert!(Chunk::read(data.as_bytes()).is_none(), "{data}");
        }
        assert!(Chunk::read(b"{\"id\":\"\xff\"}").is_none());
    }

    #[test]
    fn content_may_be_a_list_of_parts() {
        let chunk = Chunk::read(
            br#"{"choices":[{"delta":{"content":[{"type":"text","text":"a\n"},{"type":"x"},{"text":"b"}]}}]}"#,
        )
        .unwrap();
        assert_eq!(chunk.choices[0].delta.content.map(text).as_deref(), Some("a\nb"));
    }

    #[test]
    fn half_a_letter_costs_no_more_than_that() {
        let chunk = Chunk::read(br#"{"choices":[{"delta":{"content":"a\ud83d"}}]}"#).unwrap();
        assert_eq!(chunk.choices[0].delta.content.map(text).as_deref(), Some("a\u{fffd}"));
    }

    #[test]
    fn the_price_is_found_beside_usage_or_inside_it() {
        let beside = Chunk::read(br#"{"choices":[],"copilot_usage":{"total_nano_aiu":5}}"#).unwrap();
        let inside = Chunk::read(br#"{"choices":[],"usage":{"copilot_usage":{"total_nano_aiu":6}}}"#).unwrap();
        assert_eq!((beside.nano_aiu(), inside.nano_aiu()), (Some(5), Some(6)));
    }
}
