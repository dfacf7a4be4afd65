//! Names of tools and ids of calls that every upstream takes. The same name gives the same alias, so nothing need be
//! remembered for a history; the answer's names come back by the request's own table.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::protocol::Protocol;
use crate::translate::ids::hex;
use crate::translate::rules::{peek, peek_mut};
use crate::translate::{ClientTool, Object, ToolShape};

/// The longest name, and the longest id, that upstream takes.
const LONGEST: usize = 64;
const KEPT_OF_A_NAME: usize = 55;

/// The name upstream knows a tool by: its own, if it is one that upstream takes.
pub fn alias(name: &str) -> Cow<'_, str> {
    if is_plain(name) {
        return Cow::Borrowed(name);
    }
    let kept: String = name
        .chars()
        .map(|letter| if is_plain_letter(letter) { letter } else { '_' })
        .take(KEPT_OF_A_NAME)
        .collect();
    Cow::Owned(hex(&format!("{kept}_"), &digest(name)[..4]))
}

/// The same for a tool of a namespace.
pub fn upstream(name: &str, namespace: Option<&str>) -> String {
    match namespace {
        Some(namespace) => alias(&format!("{namespace}__{name}")).into_owned(),
        None => alias(name).into_owned(),
    }
}

fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.len() <= LONGEST && text.chars().all(is_plain_letter)
}

fn is_plain_letter(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_' || letter == '-'
}

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// Replaces the names that upstream does not take, in a Chat or Messages body that keeps its protocol. Returns the
/// aliased tools as the client knows them.
pub fn alias_names(protocol: Protocol, body: &mut Object) -> BTreeMap<String, ClientTool> {
    let mut aliased = BTreeMap::new();
    let mut rename = |name: Option<&mut Value>| {
        let Some(name) = name else { return };
        let Some(own) = name.as_str() else { return };
        if let Cow::Owned(alias) = alias(own) {
            let tool = ClientTool {
                name: own.to_owned(),
                namespace: None,
                shape: ToolShape::Function,
            };
            aliased.insert(alias.clone(), tool);
            *name = alias.into();
        }
    };
    for tool in array_mut(body.get_mut("tools")) {
        rename(name_in(protocol, tool));
    }
    if let Some(choice) = body.get_mut("tool_choice") {
        rename(name_in(protocol, choice));
    }
    for message in array_mut(body.get_mut("messages")) {
        let key = if protocol == Protocol::Messages {
            "content"
        } else {
            "tool_calls"
        };
        for call in array_mut(peek_mut(message, key)) {
            if protocol == Protocol::Chat || peek(call, "type") == "tool_use" {
                rename(name_in(protocol, call));
            }
        }
    }
    aliased
}

fn name_in(protocol: Protocol, holder: &mut Value) -> Option<&mut Value> {
    match protocol {
        Protocol::Chat => peek_mut(peek_mut(holder, "function")?, "name"),
        Protocol::Messages | Protocol::Responses => peek_mut(holder, "name"),
    }
}

fn array_mut(value: Option<&mut Value>) -> &mut [Value] {
    value
        .and_then(Value::as_array_mut)
        .map(Vec::as_mut_slice)
        .unwrap_or_default()
}

/// A call's id as this protocol takes it; the same id gives the same one each time.
pub fn fit_id(protocol: Protocol, id: &str) -> Cow<'_, str> {
    let fits = match protocol {
        Protocol::Chat => true,
        Protocol::Responses => !id.is_empty() && id.len() <= LONGEST,
        Protocol::Messages => is_plain(id),
    };
    if fits {
        Cow::Borrowed(id)
    } else {
        Cow::Owned(hex("tid_", &digest(id)[..20]))
    }
}

/// The ids of one history on their way upstream. Some models use one id for several calls: each call after the first
/// gets a number, and so does its result.
#[derive(Clone, Debug)]
pub struct CallIds {
    protocol: Protocol,
    calls: HashMap<String, usize>,
    results: HashMap<String, usize>,
}

impl CallIds {
    /// For an upstream of this protocol.
    pub fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            calls: HashMap::new(),
            results: HashMap::new(),
        }
    }

    /// The id of the next call in the history.
    pub fn call(&mut self, id: &str) -> String {
        let count = self.calls.entry(id.to_owned()).or_default();
        *count += 1;
        numbered(self.protocol, id, *count)
    }

    /// The id of the next result. A result too many belongs to the last call of that id.
    pub fn result(&mut self, id: &str) -> String {
        let calls = self.calls.get(id).copied().unwrap_or_default();
        let count = self.results.entry(id.to_owned()).or_default();
        *count += 1;
        numbered(self.protocol, id, (*count).min(calls))
    }
}

fn numbered(protocol: Protocol, id: &str, count: usize) -> String {
    match count {
        0 | 1 => fit_id(protocol, id).into_owned(),
        _ => fit_id(protocol, &format!("{id}_{count}")).into_owned(),
    }
}
