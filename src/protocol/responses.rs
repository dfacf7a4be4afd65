//! One event of a Responses stream, read without a tree. Knows its form; nothing of what it means to a turn.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::json;

/// An event's own fields, in order. Each stays raw until someone asks for it.
#[derive(Debug)]
pub struct Event<'a> {
    fields: Vec<(Cow<'a, str>, &'a RawValue)>,
}

impl<'a> Event<'a> {
    /// `None` where the data is not an object at all.
    pub fn read(data: &'a [u8]) -> Option<Self> {
        serde_json::from_str(std::str::from_utf8(data).ok()?).ok()
    }

    /// The event's `type`; some deployments name it only before the data.
    pub fn kind(&self, frame_name: Option<&'a [u8]>) -> Cow<'a, str> {
        self.text("type")
            .or_else(|| Some(Cow::Borrowed(std::str::from_utf8(frame_name?).ok()?)))
            .unwrap_or_default()
    }

    pub fn fields(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.fields.iter().map(|(name, value)| (&**name, *value))
    }

    /// A field that is there and not null.
    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        let found = self.fields.iter().find(|(field, _)| field == name);
        found.map(|(_, value)| *value).filter(|value| value.get() != "null")
    }

    pub fn number(&self, name: &str) -> Option<u64> {
        serde_json::from_str(self.get(name)?.get()).ok()
    }

    /// A string, borrowed where it has no escapes.
    pub fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        text(self.get(name)?)
    }

    /// A field in full; null where it is missing or damaged.
    pub fn value(&self, name: &str) -> Value {
        let read = |raw: &RawValue| serde_json::from_slice(&json::whole_pairs(raw.get().as_bytes())).ok();
        self.get(name).and_then(read).unwrap_or_default()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Event<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Event<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("an event")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Event<'de>, A::Error> {
                let mut fields = Vec::with_capacity(8);
                while let Some((Text(name), value)) = map.next_entry()? {
                    fields.push((name, value));
                }
                Ok(Event { fields })
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// A string, borrowed where it can be. A plain `Cow` would not be, behind most containers.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Half of a surrogate pair is forgiven.
fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    match serde_json::from_str::<Text>(raw.get()) {
        Ok(Text(text)) => Some(text),
        Err(_) => serde_json::from_slice(&json::whole_pairs(raw.get().as_bytes()))
            .ok()
            .map(Cow::Owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_keep_their_order_and_plain_text_is_borrowed() {
        let event = Event::read(br#"{"z":1,"type":"t","delta":"plain","text":"a\nb\ud83d","no":null}"#).unwrap();
        let names: Vec<&str> = event.fields().map(|(name, _)| name).collect();
        assert_eq!(names, ["z", "type", "delta", "text", "no"]);
        assert!(matches!(event.text("delta"), Some(Cow::Borrowed("plain"))));
        assert_eq!(event.text("text").unwrap(), "a\nb\u{fffd}");
        assert_eq!((event.number("z"), event.number("type")), (Some(1), None));
        assert!(event.get("no").is_none());
    }

    #[test]
    fn an_event_without_a_type_has_its_frames_name() {
        let event = Event::read(b"{}").unwrap();
        assert_eq!(event.kind(Some(b"named")), "named");
        assert_eq!(event.kind(None), "");
        for data in [&b"[]"[..], b"1", b"", b"{", b"{\"a\":\"\xff\"}"] {
            assert!(Event::read(data).is_none());
        }
    }
}
