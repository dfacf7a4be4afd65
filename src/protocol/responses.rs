//! One event of a Responses stream, read without copying. Knows names; nothing of what they mean to a turn.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::json;

/// An event's own fields. Whatever is not a plain number stays raw until someone asks for it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Event<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    pub output_index: Option<u64>,
    pub content_index: Option<u64>,
    pub summary_index: Option<u64>,
    #[serde(borrow)]
    pub delta: Option<&'a RawValue>,
    #[serde(borrow)]
    pub text: Option<&'a RawValue>,
    #[serde(borrow)]
    pub refusal: Option<&'a RawValue>,
    #[serde(borrow)]
    pub arguments: Option<&'a RawValue>,
    #[serde(borrow)]
    pub input: Option<&'a RawValue>,
    #[serde(borrow)]
    pub annotation: Option<&'a RawValue>,
    #[serde(borrow)]
    pub item: Option<&'a RawValue>,
    #[serde(borrow)]
    pub response: Option<&'a RawValue>,
    #[serde(borrow)]
    pub error: Option<&'a RawValue>,
    #[serde(borrow)]
    pub message: Option<&'a RawValue>,
    #[serde(borrow)]
    pub copilot_usage: Option<&'a RawValue>,
}

impl<'a> Event<'a> {
    /// `None` where the data is not an event at all.
    pub fn read(data: &'a [u8]) -> Option<Self> {
        let data = std::str::from_utf8(data).ok()?.trim_ascii_start();
        serde_json::from_str(Some(data).filter(|data| data.starts_with('{'))?).ok()
    }

    /// The event's `type`; some deployments name it only before the data.
    pub fn kind(&self, frame_name: Option<&'a [u8]>) -> Cow<'a, str> {
        self.kind
            .and_then(text)
            .or_else(|| Some(Cow::Borrowed(std::str::from_utf8(frame_name?).ok()?)))
            .unwrap_or_default()
    }
}

/// A string, borrowed where it has no escapes. Half of a surrogate pair is forgiven.
pub fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    match serde_json::from_str::<Text>(raw.get()) {
        Ok(Text(text)) => Some(text),
        Err(_) => serde_json::from_slice::<String>(&json::whole_pairs(raw.get().as_bytes()))
            .ok()
            .map(Cow::Owned),
    }
}

/// A value in full; null where it is damaged.
pub fn value(raw: Option<&RawValue>) -> Value {
    raw.and_then(|raw| serde_json::from_slice(&json::whole_pairs(raw.get().as_bytes())).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_without_escapes_is_borrowed() {
        let event = Event::read(br#"{"type":"t","delta":"plain","text":"a\nb\ud83d"}"#).unwrap();
        assert!(matches!(text(event.delta.unwrap()), Some(Cow::Borrowed("plain"))));
        assert_eq!(text(event.text.unwrap()).unwrap(), "a\nb\u{fffd}");
        assert_eq!(event.kind(Some(b"other")), "t");
        assert_eq!(Event::read(b"{}").unwrap().kind(Some(b"named")), "named");
    }
}
