//! JSON as others send it: an object, in UTF-8, no deeper than 128 levels and not of countless small pieces, half of a
//! surrogate pair forgiven.

use std::borrow::Cow;

use serde::de::IgnoredAny;
use serde_json::{Map, Value};

/// The most values of one text. A value of two bytes takes a hundred times that in a tree. A prompt's values cost a token
/// each at the least, so those of the longest prompts are tens of thousands; the rest of a large text is long strings.
pub const MOST_VALUES: usize = 500_000;

/// Why a text is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// Nothing more is said about why, since clients are told only that.
    NoObject,
    TooManyValues,
}

/// Reads an object.
pub fn object(text: &[u8]) -> Result<Map<String, Value>, Unfit> {
    if !fits(text, MOST_VALUES) {
        return Err(Unfit::TooManyValues);
    }
    let letters = std::str::from_utf8(text).map_err(|_| Unfit::NoObject)?;
    match serde_json::from_str(letters) {
        Ok(object) => Ok(object),
        Err(_) => match whole_pairs(text) {
            Cow::Owned(repaired) => serde_json::from_slice(&repaired).map_err(|_| Unfit::NoObject),
            Cow::Borrowed(_) => Err(Unfit::NoObject),
        },
    }
}

/// Writes an object; `bytes` is about how long it will be.
pub fn text(object: &Map<String, Value>, bytes: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes.saturating_add(bytes / 16).saturating_add(512));
    write_object(object, &mut text);
    text
}

fn write_object(object: &Map<String, Value>, out: &mut Vec<u8>) {
    out.push(b'{');
    for (at, (name, value)) in object.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_string(name, out);
        out.push(b':');
        write_value(value, out);
    }
    out.push(b'}');
}

fn write_value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Object(object) => write_object(object, out),
        Value::Array(list) => {
            out.push(b'[');
            for (at, value) in list.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write_value(value, out);
            }
            out.push(b']');
        }
        Value::String(text) => write_string(text, out),
        // Nothing here can fail: memory does not refuse.
        Value::Null | Value::Bool(_) | Value::Number(_) => drop(serde_json::to_writer(out, value)),
    }
}

/// Strings are nearly all there is of a prompt, so this looks at eight bytes at a time.
fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    loop {
        let (plain, more) = rest.split_at(plain_bytes(rest));
        out.extend_from_slice(plain);
        let [special, more @ ..] = more else { break };
        rest = more;
        let letter = match special {
            b'\n' => b'n',
            b'\t' => b't',
            b'\r' => b'r',
            0x08 => b'b',
            0x0C => b'f',
            b'"' | b'\\' => *special,
            control => {
                let digit = |half: u8| b"0123456789abcdef"[usize::from(half & 15)];
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(control >> 4), digit(*control)]);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', letter]);
    }
    out.push(b'"');
}

/// How many bytes from here on stand for themselves in a string.
fn plain_bytes(text: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    // Marks the bytes below a limit of at most 128. What is marked above the first of them may be wrong.
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word & (ONES * 128);
    let is = |word: u64, byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    let (words, rest) = text.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let special = below(word, 32) | is(word, b'"') | is(word, b'\\');
        if special != 0 {
            return at * 8 + special.trailing_zeros() as usize / 8;
        }
    }
    let special = rest.iter().position(|byte| *byte < 32 || matches!(byte, b'"' | b'\\'));
    text.len() - rest.len() + special.unwrap_or(rest.len())
}

/// Whether a text holds at most so many values, lists and objects weighing somewhat more. Builds nothing, and does not
/// look at short texts at all.
pub fn fits(text: &[u8], most: usize) -> bool {
    if text.len() < most {
        return true;
    }
    let (mut values, mut rest) = (0, text);
    while values <= most && !rest.is_empty() {
        let quote = memchr::memchr(b'"', rest).unwrap_or(rest.len());
        let (between, string) = rest.split_at(quote);
        values += between.iter().filter(|byte| matches!(byte, b',' | b'[' | b'{')).count();
        rest = after_string(string);
    }
    values <= most
}

/// What comes after the string that begins here.
fn after_string(text: &[u8]) -> &[u8] {
    let mut rest = text.get(1..).unwrap_or_default();
    while let Some(at) = memchr::memchr2(b'"', b'\\', rest) {
        let is_end = rest[at] == b'"';
        rest = rest.get(at + if is_end { 1 } else { 2 }..).unwrap_or_default();
        if is_end {
            return rest;
        }
    }
    &[]
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
        let read = |text: &str| read(text).ok();
        assert_eq!(read(r#"{"a":"x\ud83d"}"#).as_deref(), Some("x\u{fffd}"));
        assert_eq!(
            read(r#"{"a":"\ude00\ud83d\ud83d\ude00"}"#).as_deref(),
            Some("\u{fffd}\u{fffd}\u{1f600}")
        );
        assert_eq!(read(r#"{"a":"\\ud83d"}"#).as_deref(), Some("\\ud83d"));
        assert_eq!(read(r#"{"a":"\\\ud83d"}"#).as_deref(), Some("\\\u{fffd}"));
    }

    #[test]
    fn countless_small_pieces_are_refused_and_long_strings_are_not() {
        let text = |piece: &str, times: usize| format!("{{\"a\":[{}0]}}", piece.repeat(times));
        let read = |text: String| object(text.as_bytes()).map(|_| ());
        for piece in ["{},", "0,", "\"\",", "[[0]],", "{\"a\":0},", "\"\\\\\","] {
            assert_eq!(read(text(piece, MOST_VALUES + 1)), Err(Unfit::TooManyValues), "{piece}");
            assert_eq!(read(text(piece, MOST_VALUES / 10)), Ok(()), "{piece}");
        }
        assert_eq!(read(text(&"[".repeat(120), 5000)), Err(Unfit::TooManyValues));
        // What looks like structure inside a string is none, however it is escaped.
        for string in [",".repeat(MOST_VALUES * 3), "\\\",[{".repeat(MOST_VALUES)] {
            assert_eq!(read(format!("{{\"a\":\"{string}\"}}")), Ok(()));
        }
        for unfinished in ["\"", "\"\\", "\"\\\"", "\"x"] {
            assert!(fits(unfinished.as_bytes(), 0), "{unfinished}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_what_serde_writes(letters in proptest::collection::vec("[\\x00-\\x7fé😀]{0,40}", 0..4)) {
            let value = |text: &String| serde_json::json!([text, {"a": text, "b": [1, -0.5, true, null, [], {}]}]);
            let object: Map<_, _> = letters.iter().map(|text| (text.clone(), value(text))).collect();
            let written = String::from_utf8(text(&object, 0)).unwrap();
            proptest::prop_assert_eq!(written, serde_json::to_string(&object).unwrap());
        }
    }

    #[test]
    fn what_is_no_object_is_not_read() {
        for text in [
            "",
            "[]",
            "1",
            "{",
            "{\"a\":\"\\u12\"}",
            "{\"a\":\"\\ud83d",
            "{\"a\":\"\\",
        ] {
            assert_eq!(object(text.as_bytes()), Err(Unfit::NoObject), "{text}");
        }
        assert_eq!(object(b"{\"a\":\"\xff\"}"), Err(Unfit::NoObject));
        assert_eq!(
            object(format!("{{\"a\":{}1{}}}", "[".repeat(200), "]".repeat(200)).as_bytes()),
            Err(Unfit::NoObject)
        );
    }
}
