//! The layers: each read into entries that remember where they came from, and laid over the ones below. Knows names and
//! kinds, not meanings.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use config::{ConfigError, File, FileFormat, Source, ValueKind};
use serde_json::Value;

use super::environment::PREFIX;
use super::reference::{Kind, Reference, Shape};
use super::{Environment, Error};

/// Names one value: a setting, or one entry of a setting that is a table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub setting: String,
    pub name: Option<String>,
}

impl Key {
    pub fn one(setting: &str) -> Self {
        Self {
            setting: setting.to_owned(),
            name: None,
        }
    }

    pub fn entry(setting: &str, name: &str) -> Self {
        Self {
            setting: setting.to_owned(),
            name: Some(name.to_owned()),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_bare = |name: &str| {
            name.chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
        };
        match &self.name {
            None => out.write_str(&self.setting),
            Some(name) if is_bare(name) => write!(out, "{}.{name}", self.setting),
            Some(name) => write!(out, "{}.{name:?}", self.setting),
        }
    }
}

/// Where a value came from. A later one wins.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    Default,
    File(PathBuf),
    Variable(String),
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => out.write_str("default"),
            Self::File(path) => path.display().fmt(out),
            Self::Variable(name) => out.write_str(name),
            Self::Flag(name) => out.write_str(name),
        }
    }
}

/// A flag that stands for a setting.
#[derive(Clone, Debug, PartialEq)]
pub struct Flag {
    /// As it is typed: `--port`.
    pub name: &'static str,
    pub setting: &'static str,
    pub value: Value,
}

/// One value and its origin.
#[derive(Clone, PartialEq)]
pub struct Entry {
    pub value: Value,
    pub origin: Origin,
}

/// What one layer says.
pub type Layer = Vec<(Key, Entry)>;

/// Every value in force, with its origin.
#[derive(Clone, Default, PartialEq)]
pub struct Origins(BTreeMap<Key, Entry>);

/// Settings whose value is nobody's business.
const SECRETS: [&str; 2] = ["server.api_key", "github.token"];

impl Origins {
    pub fn defaults(reference: &Reference) -> Self {
        let entry = |value: &Value| Entry {
            value: value.clone(),
            origin: Origin::Default,
        };
        Self(
            reference
                .defaults()
                .iter()
                .map(|(key, value)| (key.clone(), entry(value)))
                .collect(),
        )
    }

    /// Lays a layer over what is there.
    pub fn lay(&mut self, layer: impl IntoIterator<Item = (Key, Entry)>) {
        self.0.extend(layer);
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Entry)> {
        self.0.iter()
    }

    pub fn get(&self, setting: &str) -> Option<&Entry> {
        self.0.get(&Key::one(setting))
    }

    /// The entries of a setting that is a table.
    pub fn table<'a>(&'a self, setting: &'a str) -> impl Iterator<Item = (&'a str, &'a Entry)> {
        let entries = self.0.iter().filter(move |(key, _)| key.setting == setting);
        entries.filter_map(|(key, entry)| Some((key.name.as_deref()?, entry)))
    }

    /// A value as it may be shown: without passwords and keys.
    pub fn shown(&self, key: &Key) -> Value {
        let value = self.0.get(key).map_or(&Value::Null, |entry| &entry.value);
        match value.as_str() {
            Some(text) if SECRETS.contains(&key.setting.as_str()) && !text.is_empty() => "[redacted]".into(),
            Some(text) => without_password(text).into(),
            None => value.clone(),
        }
    }
}

impl fmt::Debug for Origins {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self
            .iter()
            .map(|(key, entry)| (key.to_string(), (self.shown(key), entry.origin.to_string())));
        out.debug_map().entries(shown).finish()
    }
}

/// An address without the user and password it may carry.
pub fn without_password(text: &str) -> String {
    match text.split_once("://") {
        Some((scheme, rest)) => {
            let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            match rest.get(..end).and_then(|authority| authority.rfind('@')) {
                Some(at) => format!("{scheme}://[redacted]{}", rest.get(at..).unwrap_or_default()),
                None => text.to_owned(),
            }
        }
        None => text.to_owned(),
    }
}

/// Reads a file's text.
pub fn file(path: &Path, text: &str, reference: &Reference) -> Result<Layer, Error> {
    let tree = File::from_str(text, FileFormat::Toml)
        .collect()
        .map_err(|error| Error::Syntax {
            path: path.display().to_string(),
            what: in_one_line(&error),
        })?;
    let place = |key: &Key| match line_of(text, key) {
        Some(line) => format!("{}, line {line}", path.display()),
        None => path.display().to_string(),
    };
    let mut entries = Vec::new();
    for (key, value) in leaves(tree, reference) {
        let dotted = key.to_string();
        let kind = match (reference.shape(&key.setting), &key.name) {
            (Some(Shape::One(kind)), None) | (Some(Shape::Table(kind)), Some(_)) => kind,
            (Some(Shape::Table(_)), None) => {
                let found = found(&value);
                return Err(Error::Kind {
                    place: place(&key),
                    key: dotted,
                    expected: "a table".into(),
                    found,
                });
            }
            (None, None) if reference.is_section(&key.setting) => {
                let found = found(&value);
                return Err(Error::Kind {
                    place: place(&key),
                    key: dotted,
                    expected: "a section of settings".into(),
                    found,
                });
            }
            _ => {
                let nearest = reference.nearest(&key.setting);
                return Err(Error::Unknown {
                    place: place(&key),
                    key: dotted,
                    nearest,
                });
            }
        };
        if key.setting == "github.token" && !matches!(&value, ValueKind::String(empty) if empty.is_empty()) {
            let why = "does not belong into a file of settings; use GH_TOKEN, or sign in with `copilot-proxy auth`";
            return Err(Error::Value {
                key: dotted,
                origin: place(&key),
                why: why.into(),
            });
        }
        let value = typed(kind, &value).ok_or_else(|| Error::Kind {
            place: place(&key),
            key: dotted,
            expected: kind.expected().into(),
            found: found(&value),
        })?;
        entries.push((
            key,
            Entry {
                value,
                origin: Origin::File(path.to_owned()),
            },
        ));
    }
    Ok(entries)
}

/// The values of a file, each under the name it has in the reference, or would have.
fn leaves(tree: config::Map<String, config::Value>, reference: &Reference) -> BTreeMap<Key, ValueKind> {
    let mut leaves = BTreeMap::new();
    for (section, value) in tree {
        let ValueKind::Table(settings) = value.kind else {
            leaves.insert(Key::one(&section), value.kind);
            continue;
        };
        for (key, value) in settings {
            let setting = format!("{section}.{key}");
            match (reference.shape(&setting), value.kind) {
                (Some(Shape::Table(_)), ValueKind::Table(entries)) => {
                    leaves.extend(
                        entries
                            .into_iter()
                            .map(|(name, value)| (Key::entry(&setting, &name), value.kind)),
                    );
                }
                (_, kind) => {
                    leaves.insert(Key::one(&setting), kind);
                }
            }
        }
    }
    leaves
}

/// The line on which a file sets a key, as far as its own spelling shows it.
fn line_of(text: &str, key: &Key) -> Option<usize> {
    let unquoted = |text: &str| text.replace(['"', '\'', ' '], "");
    let wanted = match &key.name {
        Some(name) => format!("{}.{}", key.setting, unquoted(name)),
        None => key.setting.clone(),
    };
    let mut section = String::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(header) = line.strip_prefix('[') {
            section = unquoted(header.split(']').next().unwrap_or_default());
            if section == wanted {
                return Some(number + 1);
            }
        } else if let Some((name, _)) = line.split_once('=') {
            let name = unquoted(name);
            let full = if section.is_empty() {
                name
            } else {
                format!("{section}.{name}")
            };
            if full == wanted {
                return Some(number + 1);
            }
        }
    }
    None
}

/// A parser's words, which come with a drawing of the line, without the drawing.
fn in_one_line(error: &ConfigError) -> String {
    let text = error.to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default().trim_start_matches("TOML parse error ");
    match lines.next_back() {
        Some(last) => format!("{first}: {last}"),
        None => first.to_owned(),
    }
}

/// Reads the environment; whatever else begins like our variables is a warning.
pub fn environment(environment: &Environment, reference: &Reference) -> Result<(Layer, Vec<String>), Error> {
    let (mut entries, mut warnings) = (Vec::new(), Vec::new());
    for (dotted, text) in environment.settings() {
        let variable = format!("{PREFIX}{}", dotted.to_uppercase().replace('.', "__"));
        let found = match reference.shape(&dotted) {
            Some(Shape::One(kind)) => parsed(kind, &text)
                .map(|value| vec![(Key::one(&dotted), value)])
                .ok_or(kind.expected()),
            Some(Shape::Table(kind)) => {
                inline_table(&dotted, kind, &text).ok_or("an inline table such as { name = \"value\" }")
            }
            None => match reference.table_entry(&dotted) {
                Some((setting, name, kind)) => parsed(kind, &text)
                    .map(|value| vec![(Key::entry(setting, name), value)])
                    .ok_or(kind.expected()),
                None => {
                    warnings.push(unknown_variable(&variable, &dotted, reference));
                    continue;
                }
            },
        };
        let found = found.map_err(|expected| Error::Kind {
            place: variable.clone(),
            key: dotted.clone(),
            expected: expected.into(),
            found: quoted(&dotted, &text),
        })?;
        let origin = Origin::Variable(variable);
        entries.extend(found.into_iter().map(|(key, value)| {
            (
                key,
                Entry {
                    value,
                    origin: origin.clone(),
                },
            )
        }));
    }
    Ok((entries, warnings))
}

/// The GitHub token of the variables that other programs use, too.
pub fn usual_token(environment: &Environment) -> Option<(Key, Entry)> {
    let (variable, token) = environment.github_token()?;
    let origin = Origin::Variable(variable.into());
    Some((
        Key::one("github.token"),
        Entry {
            value: token.expose().into(),
            origin,
        },
    ))
}

fn unknown_variable(variable: &str, dotted: &str, reference: &Reference) -> String {
    match reference.nearest(dotted) {
        Some(nearest) => {
            let nearest = nearest.to_uppercase().replace('.', "__");
            format!("{variable} is no setting and is ignored; did you mean {PREFIX}{nearest}?")
        }
        None => format!("{variable} is no setting and is ignored"),
    }
}

fn quoted(setting: &str, text: &str) -> String {
    if SECRETS.contains(&setting) {
        "that".into()
    } else {
        format!("{text:?}")
    }
}

/// The text of a variable, as its setting's kind.
fn parsed(kind: Kind, text: &str) -> Option<Value> {
    let trimmed = text.trim();
    match kind {
        Kind::Text => Some(text.into()),
        Kind::Switch => match trimmed.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Some(true.into()),
            "false" | "0" | "no" | "off" => Some(false.into()),
            _ => None,
        },
        Kind::Number => match trimmed.parse::<i64>() {
            Ok(whole) => Some(whole.into()),
            Err(_) => serde_json::Number::from_f64(trimmed.parse().ok()?).map(Value::Number),
        },
        Kind::List => Some(
            trimmed
                .split(',')
                .map(str::trim)
                .filter(|one| !one.is_empty())
                .map(Value::from)
                .collect(),
        ),
    }
}

fn inline_table(setting: &str, kind: Kind, text: &str) -> Option<Vec<(Key, Value)>> {
    let mut tree = File::from_str(&format!("table = {text}"), FileFormat::Toml)
        .collect()
        .ok()?;
    let ValueKind::Table(entries) = tree.remove("table")?.kind else {
        return None;
    };
    entries
        .into_iter()
        .map(|(name, value)| Some((Key::entry(setting, &name), typed(kind, &value.kind)?)))
        .collect()
}

/// The flags as a layer.
pub fn flags(flags: &[Flag]) -> Layer {
    let entry = |flag: &Flag| Entry {
        value: flag.value.clone(),
        origin: Origin::Flag(flag.name),
    };
    flags.iter().map(|flag| (Key::one(flag.setting), entry(flag))).collect()
}

/// A file's value, if it is of the kind.
fn typed(kind: Kind, value: &ValueKind) -> Option<Value> {
    let fits = match (kind, value) {
        (Kind::Switch, ValueKind::Boolean(_)) | (Kind::Text, ValueKind::String(_)) => true,
        (Kind::Number, ValueKind::I64(_) | ValueKind::U64(_)) => true,
        (Kind::Number, ValueKind::Float(number)) => number.is_finite(),
        (Kind::List, ValueKind::Array(items)) => items.iter().all(|item| matches!(item.kind, ValueKind::String(_))),
        _ => false,
    };
    fits.then(|| plain(value))
}

/// A value without the wrapping its parser gave it.
pub fn plain(value: &ValueKind) -> Value {
    match value {
        ValueKind::Boolean(switch) => (*switch).into(),
        ValueKind::I64(number) => (*number).into(),
        ValueKind::U64(number) => (*number).into(),
        ValueKind::Float(number) => (*number).into(),
        ValueKind::String(text) => text.as_str().into(),
        ValueKind::Array(items) => items.iter().map(|item| plain(&item.kind)).collect(),
        _ => Value::Null,
    }
}

fn found(value: &ValueKind) -> String {
    match value {
        ValueKind::Boolean(_) => "true or false",
        ValueKind::I64(_) | ValueKind::U64(_) | ValueKind::I128(_) | ValueKind::U128(_) | ValueKind::Float(_) => {
            "a number"
        }
        ValueKind::String(_) => "a text",
        ValueKind::Array(_) => "a list",
        ValueKind::Table(_) => "a table",
        ValueKind::Nil => "nothing",
    }
    .into()
}
