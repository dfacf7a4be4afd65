//! Reasoning state on its way through a client that cannot read it. Knows no protocol's blocks.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use crate::protocol::catalog::Model;

/// Opaque reasoning state on its way through a client that speaks another protocol than the model.
///
/// As text: `cpx1.<kind>.<meta>.<tail>`, where meta is a small JSON object in unpadded base64url and the tail is
/// the upstream's own string, byte for byte.
#[derive(Clone, Debug, PartialEq)]
pub enum Carrier {
    /// A Responses reasoning item: its raw id, its encrypted content.
    Item {
        model: String,
        id: Option<String>,
        content: String,
    },
    /// Chat's `reasoning_opaque`.
    Opaque { model: String, opaque: String },
    /// A Messages thinking block: its text and its signature.
    Thinking {
        model: String,
        text: String,
        signature: String,
    },
    /// A Messages redacted block.
    Redacted { model: String, data: String },
    /// What a chat upstream wants to see again on one of its calls: the fields it added there.
    Call {
        model: String,
        id: String,
        fields: Map<String, Value>,
    },
    /// Compacted history: upstream's own items, or a summary in plain text.
    Compaction { model: String, held: Compacted },
    /// No state at all, where a client demands a value.
    Nothing,
    /// Several, where a client has one slot.
    List(Vec<String>),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Compacted {
    Items(Vec<Value>),
    Text(String),
}

const PREFIX: &str = "cpx1.";
/// Beyond this a carrier is not one of ours.
const MAX: usize = 1 << 20;

impl Carrier {
    /// Whether a string claims to be a carrier.
    pub fn is_one(text: &str) -> bool {
        text.starts_with(PREFIX)
    }

    pub fn encode(&self) -> String {
        let (kind, meta, tail) = match self {
            Self::Item { model, id, content } => {
                let mut meta = json!({"m": model});
                if let Some(id) = id {
                    meta["i"] = json!(id);
                }
                ("r", meta, content.as_str())
            }
            Self::Opaque { model, opaque } => ("o", json!({"m": model}), opaque.as_str()),
            Self::Thinking { model, text, signature } => ("s", json!({"m": model, "t": text}), signature.as_str()),
            Self::Redacted { model, data } => ("d", json!({"m": model}), data.as_str()),
            Self::Call { model, id, fields } => ("g", json!({"m": model, "i": id, "f": fields}), ""),
            Self::Compaction {
                model,
                held: Compacted::Items(items),
            } => ("k", json!({"m": model, "items": items}), ""),
            Self::Compaction {
                model,
                held: Compacted::Text(text),
            } => ("k", json!({"m": model, "text": text}), ""),
            Self::Nothing => ("n", json!({}), ""),
            Self::List(carriers) => ("l", json!({"c": carriers}), ""),
        };
        let meta = URL_SAFE_NO_PAD.encode(meta.to_string());
        format!("{PREFIX}{kind}.{meta}.{tail}")
    }

    /// Reads a carrier; anything that is not one, or is damaged, is `None`.
    pub fn decode(text: &str) -> Option<Self> {
        if text.len() > MAX {
            return None;
        }
        let mut parts = text.strip_prefix(PREFIX)?.splitn(3, '.');
        let (kind, meta, tail) = (parts.next()?, parts.next()?, parts.next()?.to_owned());
        let meta: Map<String, Value> = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(meta).ok()?).ok()?;
        let text_of = |key: &str| meta.get(key).and_then(Value::as_str).map(str::to_owned);
        let model = text_of("m");
        Some(match kind {
            "r" => Self::Item {
                model: model?,
                id: text_of("i"),
                content: tail,
            },
            "o" => Self::Opaque {
                model: model?,
                opaque: tail,
            },
            "s" => Self::Thinking {
                model: model?,
                text: text_of("t")?,
                signature: tail,
            },
            "d" => Self::Redacted {
                model: model?,
                data: tail,
            },
            "g" => Self::Call {
                model: model?,
                id: text_of("i")?,
                fields: meta.get("f")?.as_object()?.clone(),
            },
            "k" => {
                let held = match meta.get("items") {
                    Some(Value::Array(items)) => Compacted::Items(items.clone()),
                    _ => Compacted::Text(text_of("text")?),
                };
                Self::Compaction {
                    model: model.unwrap_or_default(),
                    held,
                }
            }
            "n" => Self::Nothing,
            "l" => {
                let list = meta.get("c")?.as_array()?;
                Self::List(list.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect())
            }
            _ => return None,
        })
    }

    /// The model that made the state, where one did.
    pub fn model(&self) -> Option<&str> {
        match self {
            Self::Item { model, .. }
            | Self::Opaque { model, .. }
            | Self::Thinking { model, .. }
            | Self::Redacted { model, .. }
            | Self::Call { model, .. }
            | Self::Compaction { model, .. } => Some(model),
            Self::Nothing | Self::List(_) => None,
        }
    }

    /// Whether `model` may be shown this state: it was made in the same house.
    pub fn fits(&self, model: &Model) -> bool {
        let same_house = |maker| house_of(maker) != OTHER && house_of(maker) == model.house();
        self.model().is_some_and(|maker| maker == model.id || same_house(maker))
    }

    /// The carriers in a slot that holds one or a list.
    pub fn all(text: &str) -> Vec<Self> {
        match Self::decode(text) {
            Some(Self::List(list)) => list.iter().filter_map(|one| Self::decode(one)).collect(),
            Some(one) => vec![one],
            None => Vec::new(),
        }
    }
}

/// Houses that are not told apart by an id.
const OTHER: &str = "other";

/// The house of a model known by its id alone.
fn house_of(id: &str) -> &'static str {
    if id.starts_with("claude") {
        "claude"
    } else if id.starts_with("gemini") {
        "gemini"
    } else if id.starts_with("gpt-")
        || id
            .strip_prefix('o')
            .is_some_and(|rest| rest.starts_with(char::is_numeric))
    {
        "gpt"
    } else {
        OTHER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_carrier_survives_the_journey_byte_for_byte() {
        let model = "gpt-5.3-codex".to_owned();
        let carriers = [
            Carrier::Item {
                model: model.clone(),
                id: Some("rs_ä".into()),
                content: "gAA.=/+..".into(),
            },
            Carrier::Item {
                model: model.clone(),
                id: None,
                content: String::new(),
            },
            Carrier::Opaque {
                model: "gemini-3".into(),
                opaque: "x.y".into(),
            },
            Carrier::Thinking {
                model: "claude-a".into(),
                text: "hm\n".into(),
                signature: "Eq==".into(),
            },
            Carrier::Redacted {
                model: "claude-a".into(),
                data: "d".into(),
            },
            Carrier::Call {
                model: "gemini-3".into(),
                id: "call_1".into(),
                fields: Map::from_iter([("thought_signature".to_owned(), json!("x"))]),
            },
            Carrier::Compaction {
                model: model.clone(),
                held: Compacted::Items(vec![json!({"b": 1, "a": 2})]),
            },
            Carrier::Compaction {
                model,
                held: Compacted::Text("so far".into()),
            },
            Carrier::Nothing,
            Carrier::List(vec!["cpx1.n.e30.".into()]),
        ];
        for carrier in carriers {
            assert_eq!(Carrier::decode(&carrier.encode()), Some(carrier));
        }
    }

    #[test]
    fn what_is_not_a_carrier_is_none() {
        for text in [
            "",
            "Eq==",
            "cpx1.",
            "cpx1.r.!.x",
            "cpx1.z.e30.",
            "cpx1.r.e30.x",
            "cpx2.n.e30.",
        ] {
            assert_eq!(Carrier::decode(text), None, "{text}");
        }
    }
}
