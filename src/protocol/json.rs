//! JSON as clients send it: an object, in UTF-8, no deeper than 128 levels, half of a surrogate pair forgiven.

use std::borrow::Cow;

use serde::de::IgnoredAny;
use serde_json::{Map, Value};

/// Reads an object. `None` for anything else; nothing is said about why, since clients are told only that.
pub fn object(text: &[u8]) -> Option<Map<String, Value>> {
    std::str::from_utf8(text).ok()?;
    match serde_json::from_slice(text) {
        Ok(object) => Some(object),
        Err(_) => match whole_pairs(text) {
            Cow::Owned(repaired) => serde_json::from_slice(&repaired).ok(),
            Cow::Borrowed(_) => None,
        },
    }
}

/// Writes an object; `bytes` is about how long it will be.
pub fn text(object: &Map<String, Value>, bytes: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes.saturating_add(bytes / 16).saturating_add(512));
    // Nothing here can fail: the keys are strings, and memory does not refuse.
    let _ = serde_json::to_writer(&mut text, object);
    text
}

/// Whether a text is one whole object and nothing more.
pub fn is_object(text: &str) -> bool {
    text.trim_ascii_start().starts_with('{') && serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// The text with each `\uD83D` that has lost its other half replaced by U+FFFD. Strict parsers refuse such text,
/// and clients produce it by cutting a string between two UTF-16 units.
pub fn whole_pairs(text: &[u8]) -> Cow<'_, [u8]> {
    let mut repaired = Vec::new();
    let (mut copied, mut at) = (0, 0);
    while let Some(found) = memchr::memchr(b'\\', &text[at..]) {
        let escape = at + found;
        at = match unit(text, escape) {
            None => (escape + 2).min(text.len()),
            Some(0xD800..=0xDBFF) if matches!(unit(text, escape + 6), Some(0xDC00..=0xDFFF)) => escape + 12,
            Some(0xD800..=0xDFFF) => {
                repaired.extend_from_slice(&text[copied..escape]);
                repaired.extend_from_slice(b"\\uFFFD");
                copied = escape + 6;
                copied
            }
            Some(_) => escape + 6,
        };
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    repaired.extend_from_slice(&text[copied..]);
    Cow::Owned(repaired)
}

/// The UTF-16 unit of the escape `\uXXXX` that begins here, if one does.
fn unit(text: &[u8], at: usize) -> Option<u16> {
    let digits = text.get(at..at + 6)?.strip_prefix(b"\\u")?;
    let digits = std::str::from_utf8(digits)
        .ok()
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    u16::from_str_radix(digits?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k055_half_a_surrogate_pair_is_forgiven() {
        let read = |text: &str| object(text.as_bytes()).map(|object| object["a"].as_str().unwrap().to_owned());
        assert_eq!(read(r#"{"a":"x\ud83d"}"#).as_deref(), Some("x\u{fffd}"));
        assert_eq!(
            read(r#"{"a":"\ude00\ud83d\ud83d\ude00"}"#).as_deref(),
            Some("\u{fffd}\u{fffd}\u{1f600}")
        );
        assert_eq!(read(r#"{"a":"\\ud83d"}"#).as_deref(), Some("\\ud83d"));
        assert_eq!(read(r#"{"a":"\\\ud83d"}"#).as_deref(), Some("\\\u{fffd}"));
    }

    #[test]
    fn what_is_no_object_is_none() {
        for text in [
            "",
            "[]",
            "1",
            "{",
            "{\"a\":\"\\u12\"}",
            "{\"a\":\"\\ud83d",
            "{\"a\":\"\\",
        ] {
            assert_eq!(object(text.as_bytes()), None, "{text}");
        }
        assert_eq!(object(b"{\"a\":\"\xff\"}"), None);
        assert_eq!(
            object(format!("{{\"a\":{}1{}}}", "[".repeat(200), "]".repeat(200)).as_bytes()),
            None
        );
    }
}
