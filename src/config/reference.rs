//! What settings there are, of which kind, and their defaults: `config/default.toml`, read. Not what they mean.

use std::collections::BTreeMap;

use config::{File, FileFormat, Source, ValueKind};
use serde_json::Value;

use super::Error;
use super::layers::{Key, plain};

/// The file itself, which explains every setting.
pub const TEXT: &str = include_str!("../../config/default.toml");

/// What a setting takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Switch,
    Number,
    Text,
    /// Of texts.
    List,
}

impl Kind {
    pub fn expected(self) -> &'static str {
        match self {
            Self::Switch => "true or false",
            Self::Number => "a number",
            Self::Text => "a text",
            Self::List => "a list of texts",
        }
    }
}

/// One value, or a table of values under names of the user's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    One(Kind),
    Table(Kind),
}

/// Every setting there is.
#[derive(Debug)]
pub struct Reference {
    shapes: BTreeMap<String, Shape>,
    defaults: Vec<(Key, Value)>,
}

impl Reference {
    pub fn read() -> Result<Self, Error> {
        let tree = File::from_str(TEXT, FileFormat::Toml)
            .collect()
            .map_err(|error| Error::Syntax {
                path: "config/default.toml".into(),
                what: error.to_string(),
            })?;
        let mut reference = Self {
            shapes: BTreeMap::new(),
            defaults: Vec::new(),
        };
        for (name, value) in tree {
            match value.kind {
                ValueKind::Table(section) => {
                    for (key, value) in section {
                        reference.add(format!("{name}.{key}"), &value.kind);
                    }
                }
                kind => reference.add(name, &kind),
            }
        }
        Ok(reference)
    }

    fn add(&mut self, setting: String, value: &ValueKind) {
        let shape = match value {
            ValueKind::Table(entries) => {
                for (name, value) in entries {
                    self.defaults.push((Key::entry(&setting, name), plain(&value.kind)));
                }
                Shape::Table(entry_kind(&setting))
            }
            ValueKind::Boolean(_) => Shape::One(Kind::Switch),
            ValueKind::String(_) => Shape::One(Kind::Text),
            ValueKind::Array(_) => Shape::One(Kind::List),
            _ => Shape::One(Kind::Number),
        };
        if let Shape::One(_) = shape {
            self.defaults.push((Key::one(&setting), plain(value)));
        }
        self.shapes.insert(setting, shape);
    }

    pub fn defaults(&self) -> &[(Key, Value)] {
        &self.defaults
    }

    /// Whether the name only groups settings.
    pub fn is_section(&self, name: &str) -> bool {
        let within = |setting: &String| setting.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
        self.shapes.keys().any(within)
    }

    pub fn shape(&self, setting: &str) -> Option<Shape> {
        self.shapes.get(setting).copied()
    }

    pub fn settings(&self) -> impl Iterator<Item = &str> {
        self.shapes.keys().map(String::as_str)
    }

    /// The table setting, and the entry in it, that a dotted name means.
    pub fn table_entry<'a>(&self, dotted: &'a str) -> Option<(&'a str, &'a str, Kind)> {
        dotted.match_indices('.').find_map(|(at, _)| {
            let (setting, name) = (dotted.get(..at)?, dotted.get(at + 1..)?);
            match self.shape(setting)? {
                Shape::Table(kind) if !name.is_empty() => Some((setting, name, kind)),
                _ => None,
            }
        })
    }

    /// The setting whose name looks most like this one.
    pub fn nearest(&self, name: &str) -> Option<String> {
        let likeness = |setting: &str| {
            let whole = strsim::normalized_damerau_levenshtein(name, setting);
            // The right key in the wrong section is a frequent slip.
            whole + strsim::normalized_damerau_levenshtein(last(name), last(setting))
        };
        let (setting, likeness) = self
            .settings()
            .map(|setting| (setting, likeness(setting)))
            .max_by(|(_, a), (_, b)| a.total_cmp(b))?;
        (likeness > 0.8).then(|| setting.to_owned())
    }
}

fn last(setting: &str) -> &str {
    setting.rsplit('.').next().unwrap_or(setting)
}

/// An empty table does not show what its entries are.
fn entry_kind(setting: &str) -> Kind {
    match setting {
        "models.overrides" => Kind::List,
        "count.multipliers" => Kind::Number,
        _ => Kind::Text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_knows_kinds_and_tables() {
        let reference = Reference::read().unwrap();
        assert_eq!(reference.shape("server.port"), Some(Shape::One(Kind::Number)));
        assert_eq!(reference.shape("strip_attribution"), Some(Shape::One(Kind::Switch)));
        assert_eq!(reference.shape("models.aliases"), Some(Shape::Table(Kind::Text)));
        assert_eq!(reference.shape("server"), None);
        assert_eq!(
            reference.table_entry("models.aliases.gpt-4.1"),
            Some(("models.aliases", "gpt-4.1", Kind::Text))
        );
        assert_eq!(reference.table_entry("server.port.x"), None);
    }

    #[test]
    fn a_misspelt_name_has_a_neighbour() {
        let reference = Reference::read().unwrap();
        for (wrong, right) in [
            ("server.prot", "server.port"),
            ("sever.port", "server.port"),
            ("port", "server.port"),
            ("stream.first_byte_secs", "upstream.first_byte_secs"),
            ("models.alias", "models.aliases"),
            ("rate_limit.secs", "rate_limit.seconds"),
        ] {
            assert_eq!(reference.nearest(wrong).as_deref(), Some(right), "{wrong}");
        }
        assert_eq!(reference.nearest("zzzzzzzzzzzzzzzz"), None);
    }

    /// The file is the manual: each setting and each section has its sentence right above it.
    #[test]
    fn every_setting_is_explained() {
        let mut explained = false;
        for line in TEXT.lines() {
            let is_entry_of_a_table = ["claude =", "grok =", "gemini ="]
                .iter()
                .any(|start| line.starts_with(start));
            if line.contains(" = ") && !line.starts_with('#') && !is_entry_of_a_table {
                assert!(explained, "{line}");
            }
            explained = line.starts_with('#');
        }
    }
}
